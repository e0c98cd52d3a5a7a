"""A finished study in the formats that the stages write, with planted qualities: nothing is trained."""

from __future__ import annotations

import itertools
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from planted_tables import write_damage, write_landscape, write_patches, write_weighing

from langmerge import config, plan
from langmerge.evaluation.scoring import Scored, score_outputs, write
from langmerge.evaluation.test_sets import Direction, TestSet
from langmerge.plan.graph import Plan

ROOT = Path(__file__).resolve().parents[2]
N = 16  # sentences
LAYERS = 4
SENTENCES = {
    "en": "the old woman sees a small red house near river while children play with big dogs",
    "es": "la anciana ve una pequeña casa roja cerca río mientras niños juegan con perros grandes",
    "de": "die alte Frau sieht ein kleines rotes Haus am Fluß während Kinder mit großen Hunden",
    "ru": "старая женщина видит маленький красный дом у реки пока дети играют с большими собаками",
    "hi": "बूढ़ी औरत नदी के पास एक छोटा लाल घर देखती है जबकि बच्चे कुत्तों",
}
WORDS = {language: text.split() for language, text in SENTENCES.items()}
# Share of right words, out of and into the pivot; merging hurts more out of it.
QUALITY = {"base": (0.3, 0.3), "specialist": (0.95, 0.95), "joint": (0.9, 0.92), "other": (0.3, 0.5)}
MERGED = {"linear": (0.55, 0.8), "task_arithmetic": (0.65, 0.85), "ties": (0.6, 0.82)}
PATCHED = {"last": 0.2, "random": 0.02}  # added to the merge's
SCALED = {"raw": 0.0, "drop_sink": 0.02, "zscore": 0.04}  # added to CKA
RANK = ("raw", "effective_rank")
PAPER = ("mount_doom", False)  # the ranking, and the thresholds of each model
DRIFT = {15: 0.9, 30: 0.8, 60: 0.7, 120: 0.55}


@dataclass(frozen=True)
class Finished:
    """A plan whose report's inputs have been written."""

    plan: Plan

    @property
    def spec(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.plan.report.spec))

    @property
    def inputs(self) -> dict[str, Path]:
        return {name: Path(folder) for name, folder in self.plan.report.inputs.items()}


def study(**changes: Any) -> config.Study:
    values = config.merge_defaults(
        config.read_yaml(ROOT / "config/scales/cpu.yaml"), config.read_yaml(ROOT / "config/studies/translation.yaml")
    )
    values["specialist"]["steps"], values["merging"]["drift"]["steps"] = max(DRIFT), list(DRIFT)
    values["joint"]["steps"] = 240
    values["corpus"]["grammar"] = str(ROOT / "data/grammar")
    values["base"]["languages"] = values["languages"] = ["es", "de", "ru", "hi"]
    values["merging"]["all"] = {name: values["merging"]["all"][name] for name in MERGED}
    values["merging"]["all"]["task_arithmetic"] = {"scale": [0.2, 0.4, 0.6, 0.8, 1.0]}
    values["evaluation"] |= {"bootstrap_samples": 200, "randomization_trials": 2000}
    return config.Study.model_validate(config.merge_defaults(values, changes))


def sentences(language: str) -> list[str]:
    """The same meanings in every language: the i-th word of each list is the same thing."""
    rng = np.random.default_rng(7)
    return [" ".join(WORDS[language][i] for i in rng.choice(14, size=rng.integers(6, 10))) + "." for _ in range(N)]


def quality(system: plan.System, direction: Direction, pivot: str) -> float:
    into = int(direction.target == pivot)
    language = direction.source if into else direction.target
    own = str(direction) in system.name
    if system.role in ("base", "joint"):
        return QUALITY[system.role][into]
    if system.role == "specialist":
        return QUALITY["specialist" if own else "other"][into]
    if system.role == "merge":
        return MERGED[system.name][into]
    if system.role == "patch":
        assert system.details["language"] == language
        return MERGED[system.details["onto"]][into] + PATCHED[system.details["place"].rstrip("0123456789")]
    if system.role == "pair":
        return 0.75 + 0.1 * into
    if system.role == "drift":
        return DRIFT[system.details["step"]] + 0.1 * into * (1 - DRIFT[system.details["step"]])
    return 0.95  # snapshots


def spoil(text: str, share: float, language: str, rng: np.random.Generator) -> str:
    """``share`` of the words stay, the others become a random word of the language."""
    words = [w if rng.random() < share else str(rng.choice(WORDS[language])) for w in text.rstrip(".").split()]
    return " ".join(words) + "."


def write_system(system: plan.System, directions: list[Direction], languages: list[str], pivot: str) -> None:
    outputs = []
    for direction in directions:
        rng = np.random.default_rng(zlib.crc32(f"{system.key} {direction}".encode()))
        sources, references = sentences(direction.source), sentences(direction.target)
        share = quality(system, direction, pivot)
        hypotheses = [spoil(text, share, direction.target, rng) for text in references]
        test = TestSet("test", direction, tuple(map(str, range(N))), tuple(sources), tuple(references))
        outputs.append(score_outputs(hypotheses, test, ["bleu", "chrf", "ter"], languages))
    write(Scored(outputs), Path(system.folder))


def write_sweep(job: plan.Job) -> None:
    selection = {}
    for merge in job.spec["merges"]:
        candidates = merge["candidates"]
        trials = []
        for number, candidate in enumerate(candidates if len(candidates) > 1 else []):
            scale = candidate["parameters"].get("scale", 1.0)
            dev = {f"{d['source']}-{d['target']}": 60 - 40 * (scale - 0.6) ** 2 - number / 10 for d in merge["tune"]}
            mean = sum(dev.values()) / len(dev)
            trials.append({"parameters": candidate["parameters"], "dev": dev, "mean": mean})
        best = max(range(len(candidates)), key=lambda i: trials[i]["mean"] if trials else -i)
        norms = dict.fromkeys(merge["candidates"][0]["models"], 1.5)
        selection[merge["name"]] = {
            "recipe": candidates[best],
            "trials": trials,
            "statistics": {"delta_norms": norms, "cosines": [], "sign_conflict_rate": 0.2},
        }
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "selection.json").write_text(json.dumps(selection))
    (folder / "cost.json").write_text(json.dumps({"seconds": 40.0, "tokens": 90000, "device": "cpu"}))


def write_training(folder: Path, steps: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"step": s, "loss": 5 * np.exp(-3 * s / steps) + 1, "tokens": s * 2000} for s in range(1, steps + 1)]
    (folder / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cost = {"tokens": steps * 2000, "flops": steps * 2.4e10, "training_seconds": steps / 5, "seconds": steps / 5 + 6}
    (folder / "cost.json").write_text(json.dumps({**cost, "device": "cpu"}))


def write_measurements(job: plan.Job, languages: list[str]) -> None:
    rng = np.random.default_rng(3)
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    out = job.folder.endswith("from-en")
    names = job.spec["models"]
    cka, neurons, turnover, usage = [], [], [], []
    for span in ("source", "target"):
        for direction in job.spec["directions"]:
            for layer, (a, b) in itertools.product(range(LAYERS + 1), itertools.combinations(names, 2)):
                fall = 0.12 if out and span == "target" else 0.01
                for variant in ("raw", "drop_sink", "zscore"):
                    cka.append(
                        {
                            "span": span,
                            "direction": f"{direction['source']}-{direction['target']}",
                            "layer": layer,
                            "layers": LAYERS,
                            "model_a": a,
                            "model_b": b,
                            "variant": variant,
                            "n": 64,
                            "cka": 1 - fall * layer**2 / 4 + rng.normal(0, 0.002) + SCALED[variant],
                            "cka_biased": 0.99,
                            "anc": 0.8,
                            "null_mean": 0.0,
                            "null_high": 0.05,
                            "standard_error": 0.004,
                            "dropped": 0,
                        }
                    )
        for model in names:
            for layer, code in itertools.product(range(LAYERS), languages):
                units = 10 if layer in (0, LAYERS - 1) else 1
                units -= model.endswith(code) * 2 * (layer == 0)
                row = {
                    "model": model,
                    "span": span,
                    "ranking": "mutual_information",
                    "frozen": True,
                    "layer": layer,
                    "language": code,
                    "units": units,
                    "share": units / 88,
                    "low": max(0, units - 2),
                    "high": units + 2,
                    "total_units": 88,
                    "tokens": 1200,
                    "warning": "",
                }
                neurons += [row, row | {"frozen": False, "units": 50}]
            if model != "base":
                for code in languages:
                    turnover.append(
                        {"model": model, "span": span, "language": code, "base_units": 22, "units": 20, "overlap": 12}
                        | {"gained": 8, "lost": 10, "jaccard": 0.4, "ceiling": 0.7}
                    )
        for layer, (a, b) in itertools.product(range(LAYERS), itertools.combinations(names, 2)):
            row = {"layer": layer, "span": span, "model_a": a, "model_b": b, "nua": 0.99 - layer / 100}
            usage.append(row | {"low": 0.9, "high": 1})
    write_angles(folder, names, [f"{d['source']}-{d['target']}" for d in job.spec["directions"]])
    ranks = [
        {"span": span, "direction": f"{d['source']}-{d['target']}", "layer": layer, "layers": LAYERS, "pool": "mean"}
        | {"model_a": model, "model_b": "", "variant": variant, "measure": measure, "n": 64, "null": ""}
        | {"value": 10 * layer + names.index(model) if (variant, measure) == RANK else 99.0, "low": 0, "high": 99}
        for span, d, layer, model, variant, measure in itertools.product(
            ("source", "target"), job.spec["directions"], range(LAYERS + 1), names, ("raw", "zscore"),
            ("effective_rank", "stable_rank"),
        )
    ]  # fmt: skip
    tables = {"cka": cka, "neurons": neurons, "turnover": turnover, "usage": usage, "similarity": ranks}
    for name, rows in (tables | {"units": by_ranking(neurons)}).items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)


def by_ranking(neurons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The paper's ranking, refitted, has the counts of ``neurons``; all others have one number in every model."""
    return [
        {**row, "site": "mlp_gate", "ranking": ranking, "frozen": frozen, "share_low": 0.0, "share_high": 0.5}
        | ({} if (ranking, frozen) == PAPER else {"units": 5})
        for ranking, frozen in itertools.product(("mutual_information", "lape", "mount_doom"), (True, False))
        for row in neurons
        if row["frozen"]
    ]


def write_angles(folder: Path, names: list[str], directions: list[str]) -> None:
    """Angles that grow by 6 degrees a layer, and drop at the last, after the final norm; maps on a growing circle."""
    rng = np.random.default_rng(4)
    angles, mds = [], []
    for span, layer in itertools.product(("source", "target"), range(LAYERS + 1)):
        for direction, (a, b) in itertools.product(directions, itertools.combinations(names, 2)):
            degrees = (5 + 6 * layer if layer < LAYERS else 1) + rng.normal(0, 0.3)
            head = {"span": span, "direction": direction, "layer": layer, "layers": LAYERS, "model_a": a, "model_b": b}
            angles.append(
                head
                | {"k": 16, "n": 64, "median_degrees": degrees, "null_degrees": 60.0, "standard_error": 0.5}
                | {"floor_degrees": 5.0 if "ties" not in (a, b) else "", "halves": 8}
                | {"distance": np.sin(np.radians(degrees))}
            )
        for direction, (i, model) in itertools.product([*directions, "all"], enumerate(names)):
            turn, far = 2 * np.pi * i / len(names), 0.1 + 0.1 * layer + 0.05 * (direction == "all")
            point = {"x": far * np.cos(turn), "y": far * np.sin(turn)}
            mds.append({"span": span, "direction": direction, "layer": layer, "model": model, **point})
    mapped = {0, round(LAYERS / 3), round(2 * LAYERS / 3), LAYERS}
    pd.DataFrame(angles).to_csv(folder / "angles.csv", index=False)
    pd.DataFrame([row for row in mds if row["layer"] in mapped]).to_csv(folder / "mds.csv", index=False)


def write_contamination(folder: Path, languages: list[str], pivot: str) -> None:
    splits = {"train": 8000, "dev": 128, "test": 100}
    value = {
        "pivot": pivot,
        "ngram": 8,
        "across": [
            {"train": a, "held_out": b, "split": "test", "sentences": 100, "shared": 3}
            | {"sentence_share": 0.03, "ngram_share": 0.1}
            for a, b in itertools.product(languages, repeat=2)
        ],
        "within": {
            code: {"dev": {pivot: 0, code: 0, "either": 0}, "test": {pivot: 1, code: 2, "either": 2}}
            for code in languages
        },
        "sizes": [
            {"language": code, "split": split, "pairs": n, "words": 7 * n, "pivot_words": 8 * n}
            for code in languages
            for split, n in splits.items()
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contamination.json").write_text(json.dumps(value))


def finish(values: config.Study, root: Path) -> Finished:
    """Write everything that the report of a study reads."""
    from langmerge.evaluation.comparison import main as compare

    planned = plan.build(values, "translation", str(root))
    made = Finished(planned)
    pivot, languages = values.pivot, list(values.languages)
    everything = [
        Direction(*pair)
        for group in values.directions
        for code in languages
        for pair in [(pivot, code) if group == "from_pivot" else (code, pivot)]
    ]
    for system in planned.systems:
        own = [d for d in everything if d.source == pivot] if system.group.startswith("from") else everything
        own = [d for d in everything if d.target == pivot] if system.group.startswith("to") else own
        if system.role == "patch":
            own = [d for d in own if system.details["language"] in d]
        elif system.role == "pair":
            own = [d for d in own if set(system.details["languages"]) & set(d)]
        elif system.role == "snapshot":
            own = [d for d in own if str(d) in system.name]
        elif system.role != "drift":
            own = everything
        write_system(system, own, [pivot, *languages], pivot)
    for job in planned.jobs.values():
        if job.rule == "sweep_merges":
            write_sweep(job)
        elif job.rule == "train_model":
            write_training(Path(job.folder), job.spec["steps"])
        elif job.rule == "measure_models":
            write_measurements(job, languages)
        elif job.rule == "weigh_models":
            write_weighing(job)
        elif job.rule == "survey_landscape":
            write_landscape(job, languages)
        elif job.rule == "sweep_patches":
            write_patches(job, languages)
        elif job.rule == "predict_damage":
            write_damage(job)
        elif job.rule == "check_corpora":
            write_contamination(Path(job.folder), languages, pivot)
    comparing = next(job for job in planned.jobs.values() if job.rule == "compare_systems")
    # The comparison itself is the real one; it reads manifests, which the folders of one sweep share.
    for folder in comparing.inputs.values():
        (Path(folder) / "manifest.json").write_text(json.dumps({"outputs": {}}))
    compare(["--spec", json.dumps(comparing.spec), "--inputs", json.dumps(comparing.inputs), "--out", comparing.folder])
    return made
