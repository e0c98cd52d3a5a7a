"""Our methods and FusionBench 0.2.33 on the same files: what is the same mathematics, and the differences by name.

FusionBench lives in a Python of its own, which the environment variable LANGMERGE_FUSION_BENCH names. Its functions
are called in float32, as it does, and those that lose much of it (singular vectors, angles, inverses) in float64
too, which tells rounding from another formula.
"""

import json
import os
import subprocess
from dataclasses import replace

import pytest
import torch
from cases import ABC
from fusion_bench_pairs import ALL, DIFFERENT, DOWN, EMBEDDINGS, IN_FLOAT32, SAME, TWO, UP, VALUES, Pair
from peers import HERE, family
from safetensors.torch import load_file, save_file
from small_llamas import HIDDEN, states
from ulps import excess

from langmerge.merging import Recipe, state_dicts

PYTHON = os.environ.get("LANGMERGE_FUSION_BENCH")
pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(not PYTHON, reason="LANGMERGE_FUSION_BENCH does not name a Python that has fusion-bench 0.2.33"),
]


def planted_states():
    """Exceptional task matrices: of rank 1 on orthogonal subspaces, with fewer rows than models, zero in c."""
    made = states(torch.float32)
    generator = torch.Generator().manual_seed(3)
    for state in made.values():
        state[UP] = torch.zeros_like(state[UP])
        state[VALUES] = state[VALUES][:2].clone()
    for model, column, row in (("a", 3, 5), ("b", 4, 6), ("c", 7, 7)):
        made[model][UP][column, row] = 0.01
    made["c"][DOWN] = made["base"][DOWN].clone()
    rotate = [torch.linalg.qr(torch.randn(size, size, generator=generator))[0] for size in made["base"][UP].shape]
    for state in made.values():
        state[UP] = rotate[0] @ state[UP] @ rotate[1]
    return made


@pytest.fixture(scope="session")
def all_families(families, tmp_path_factory):
    """Models whose task vectors have a part in common; unrelated ones; nearly equal ones; exceptional ones."""
    root = tmp_path_factory.mktemp("fusion_bench_families")
    return {
        "usual": families["float32"],
        "wide": family(root / "wide", states(torch.float32, spread=1.0)),
        "near": family(root / "near", states(torch.float32, spread=1e-4)),
        "planted": family(root / "planted", planted_states()),
    }


@pytest.fixture(scope="session")
def measured(families, tmp_path_factory):
    """Made-up Fisher information over six orders of magnitude, and Gram matrices of made-up inputs; by kind, model."""
    made, generator = {}, torch.Generator().manual_seed(9)
    for number, model in enumerate(ABC):
        state = families["float32"].states[model]
        fisher = {n: 10 ** (6 * torch.rand(t.shape, generator=generator) - 3 + number) for n, t in state.items()}
        gram = {}
        for name, tensor in state.items():
            if tensor.dim() == 2 and name not in EMBEDDINGS:
                x = torch.randn(4 * HIDDEN, tensor.shape[1], generator=generator)
                gram[name] = x.T @ x / len(x)
        small = {n: t * 1e-15 for n, t in fisher.items()}
        for kind, tensors in (("fisher", fisher), ("gram", gram), ("small_fisher", small)):
            folder = made.setdefault(kind, {})[model] = tmp_path_factory.mktemp(f"{kind}-{model}")
            save_file(tensors, folder / "model.safetensors")
    return made


@pytest.fixture(scope="session")
def theirs(all_families, measured, tmp_path_factory):
    """(name, dtype) -> what FusionBench makes of it, or the text of its error; all in one process."""
    root, calls, keys = tmp_path_factory.mktemp("fusion_bench"), [], []
    for name, pair in (SAME | DIFFERENT).items():
        of, options = all_families[pair.family], dict(pair.theirs)
        if "masks" in options:
            options["masks"] = str(of.masks / options["masks"])
        if pair.measured:
            options["data"] = [str(measured[pair.measured][model] / "model.safetensors") for model in pair.models]
        for dtype in pair.units:
            keys.append((name, dtype))
            calls.append(
                {
                    "function": pair.function,
                    "options": options,
                    "base": pair.base and str(of.folders[pair.base] / "model.safetensors"),
                    "models": {model: str(of.folders[model] / "model.safetensors") for model in pair.models},
                    "dtype": dtype,
                    "out": str(root / f"{len(calls)}.safetensors"),
                }
            )
    task = root / "task.json"
    task.write_text(json.dumps(calls))
    done = subprocess.run(
        [PYTHON, str(HERE / "run_fusion_bench.py"), str(task)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    errors = json.loads(done.stdout.splitlines()[-1])
    return {key: error or load_file(call["out"]) for key, call, error in zip(keys, calls, errors, strict=True)}


@pytest.fixture
def ours(all_families, measured):
    def merge(pair):
        folders = dict(all_families[pair.family].folders)
        data = {f"{model}.data": measured[pair.measured][model] for model in pair.models} if pair.measured else None
        named = {model: f"{model}.data" for model in pair.models} if pair.measured else {}
        recipe = Recipe("merged", pair.method, pair.models, pair.base, pair.ours, named)
        (merged,) = state_dicts([recipe], folders, data=data, dtype=torch.float32, block=1000)
        return merged.state_dict

    return merge


def apart(merged, expected, pair, of):
    """Largest difference in units of the larger of base, models and result; share of unequal entries."""
    inputs = dict.fromkeys([*pair.models, *([pair.base] if pair.base else [])])
    far = {n: excess(merged[n], expected[n], [expected[n], *(of.states[m][n] for m in inputs)]) for n in merged}
    return {n: units for n, (units, _) in far.items()}, sum(share for _, share in far.values()) / len(far)


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name, pair in SAME.items() for dtype in pair.units])
def test_we_and_fusion_bench_give_the_same(name, dtype, all_families, theirs, ours, record_property):
    pair, expected = SAME[name], theirs[name, dtype]
    assert isinstance(expected, dict), expected
    merged = ours(pair)
    assert set(merged) == set(expected)
    units, unequal = apart(merged, expected, pair, all_families[pair.family])
    record_property("conformance", [f"{pair.method} (fb)", dtype, max(units.values()), unequal])
    assert max(units.values()) <= pair.units[dtype], {n: u for n, u in units.items() if u > pair.units[dtype]}


# ---- differences -------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(all_families, theirs, ours):
    """name -> (the models, FusionBench's merge or error, ours)."""

    def compare(name):
        pair = DIFFERENT[name]
        (dtype,) = pair.units
        return all_families[pair.family], theirs[name, dtype], ours(pair)

    return compare


def change(merged, of, tensor):
    """What a merge changed from the base, float64."""
    return merged[tensor].double() - of.states["base"][tensor].double()


def off(merged, expected):
    """|merged - expected| / |expected|."""
    return float((merged - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_in_float32_fusion_bench_loses_digits_that_we_keep(name, theirs, ours, all_families):
    """Both against its own functions in float64: directions that all but depend on one another, inverses."""
    pair, exact = IN_FLOAT32[name], theirs[name, "float64"]
    of = all_families[pair.family]
    kept, _ = apart(ours(pair), exact, pair, of)
    lost, _ = apart(theirs[f"{name}, float32", "float32"], exact, pair, of)
    assert max(lost.values()) > 50
    assert max(kept.values()) < max(lost.values()) / 10


def test_tsv_m_adds_up_tasks_of_low_rank_on_orthogonal_subspaces_and_fusion_bench_does_not(compared):
    """It fills up each task's half of the directions with arbitrary ones, to which the real ones then give way."""
    of, theirs, ours = compared("low rank")
    total = sum(of.deltas(UP)[model].double() for model in TWO)
    assert off(change(ours, of, UP), total) < 1e-5
    assert off(change(theirs, of, UP), total) > 0.1


def test_iso_c_keeps_a_low_rank_and_fusion_bench_raises_arbitrary_directions_to_the_mean(compared):
    """The two singular values of the sum are equal, so that Iso-C has nothing to do."""
    of, theirs, ours = compared("isotropic")
    values = torch.linalg.svdvals(change(ours, of, UP))
    assert values[:2].tolist() == pytest.approx([0.01, 0.01], rel=1e-5)
    assert float(values[2:].max()) < 1e-8
    raised = torch.linalg.svdvals(change(theirs, of, UP))
    assert raised.tolist() == pytest.approx([2 * 0.01 / HIDDEN] * HIDDEN, rel=1e-4)


def test_tsv_m_of_more_models_than_directions_is_zero_in_fusion_bench_only(compared):
    """Two rows, three models: a share of 2 / 3 direction each, rounded down."""
    of, theirs, ours = compared("few directions")
    assert not change(theirs, of, VALUES).any()
    assert float(change(ours, of, VALUES).norm()) > 0.5 * float(of.deltas(VALUES)["c"].norm())


def first_directions(matrix):
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :1], values[:1], right[:1]


def test_iso_cts_forgets_a_task_where_fusion_bench_rounds_the_shares_up(compared, ours):
    """Of k = 2 directions, a common share of 0 and round(2 / 3) = 1 for each of three tasks: the last has no room.

    We then round down, which leaves both directions to the common subspace: Iso-C.
    """
    of, theirs, merged = compared("small fraction")
    deltas = {model: delta.double() for model, delta in of.deltas(VALUES).items()}
    common, _, _ = first_directions(sum(deltas.values()))
    parts = [first_directions(deltas[model] - common @ (common.T @ deltas[model])) for model in TWO]
    left, right = torch.cat([part[0] for part in parts], 1), torch.cat([part[2] for part in parts])
    (u, _, v), (p, _, q) = (torch.linalg.svd(matrix, full_matrices=False) for matrix in (left, right))
    mean = sum(float(part[1]) for part in parts) / 2
    assert off(change(theirs, of, VALUES), mean * (u @ v) @ (p @ q)) < 1e-9
    common_only = ours(Pair("iso_c", ALL, "iso_c", {}, family="planted"))
    torch.testing.assert_close(merged[VALUES], common_only[VALUES])


def test_wudi_leaves_out_a_model_that_did_not_change_a_matrix_and_fusion_bench_gives_nan(compared):
    of, theirs, ours = compared("unchanged")
    assert not of.deltas(DOWN)["c"].any()
    assert theirs[DOWN].isnan().all()
    assert ours[DOWN].isfinite().all()


def test_ties_without_a_trim_fails_in_fusion_bench(compared):
    of, theirs, ours = compared("untrimmed")
    assert theirs == "RuntimeError: kthvalue(): selected number k out of range for dimension 1"
    deltas = torch.stack(list(of.deltas(UP).values())).double()
    agreeing = deltas * deltas.sum(0).sign() > 0
    expected = (deltas * agreeing).sum(0) / agreeing.sum(0)
    torch.testing.assert_close(change(ours, of, UP), expected, rtol=0, atol=1e-8)


def test_fusion_benchs_tall_mask_algorithm_does_not_run(compared):
    """It mixes parameters with tensors. Its function runs, see below and `tall_mask, of states`."""
    _, theirs, _ = compared("algorithm")
    assert theirs.startswith("TypeError: Tensor type mismatch")


def test_fusion_benchs_tall_mask_algorithm_would_take_distances_from_the_weights(compared):
    """|base - d_t| > mask_scale |d - d_t|, where the paper has |d_t| on the left."""
    of, theirs, ours = compared("origin")
    for tensor, base in of.states["base"].items():
        own, total = of.deltas(tensor)["a"], sum(of.deltas(tensor).values())
        mask = (base - own).abs() > (total - own).abs() * 0.6
        torch.testing.assert_close(theirs[tensor], base + mask * total)
    assert float((ours[UP] != theirs[UP]).double().mean()) > 0.2


def test_emrs_rescaler_is_a_ratio_of_sums_and_fusion_benchs_of_added_means(compared):
    """As in the authors' code; ours with convention released. The mask and the shared vector are the same."""
    of, theirs, ours = compared("rescaler")
    deltas = {n: list(of.deltas(n).values()) for n in of.states["base"]}
    sums, means = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for own, *others in deltas.values():
        sign = sum([own, *others]).sign()
        largest = torch.stack([d * sign for d in (own, *others)]).amax(0).clamp(min=0)
        parts = torch.stack([own.abs().double().sum(), (largest * (own * sign > 0)).double().sum()])
        sums, means = sums + parts, means + parts / own.numel()
    ratio = float(means[0] / means[1] / (sums[0] / sums[1]))
    assert abs(ratio - 1) > 1e-3
    torch.testing.assert_close(change(theirs, of, UP), ratio * change(ours, of, UP), rtol=1e-3, atol=1e-8)


def test_model_stock_has_the_mean_cosine_and_fusion_bench_the_cosine_of_the_mean_angle(compared):
    of, theirs, ours = compared("angles")
    deltas = [delta.double().flatten() for delta in of.deltas(VALUES).values()]
    cosines = torch.stack([torch.cosine_similarity(deltas[i], deltas[j], dim=0) for i, j in ((0, 1), (0, 2), (1, 2))])
    mean = (sum(deltas) / 3).view(of.states["base"][VALUES].shape)
    for merged, c in ((ours, cosines.mean()), (theirs, cosines.acos().mean().cos())):
        torch.testing.assert_close(change(merged, of, VALUES), 3 * c / (1 + 2 * c) * mean, rtol=0, atol=1e-8)
    assert off(change(theirs, of, VALUES), change(ours, of, VALUES)) > 1e-4


def test_slerp_follows_the_circle_and_fusion_bench_a_line_where_the_angle_is_small(compared):
    of, theirs, ours = compared("line")
    one, other = (of.states[model][UP].double() for model in TWO)
    torch.testing.assert_close(theirs[UP], 0.7 * one + 0.3 * other, rtol=0, atol=1e-12)
    theta = torch.cosine_similarity(one.flatten(), other.flatten(), dim=0).acos()
    circle = ((0.7 * theta).sin() * one + (0.3 * theta).sin() * other) / theta.sin()
    far = float((theirs[UP] - circle).norm())
    assert float((ours[UP].double() - circle).norm()) < far / 50


def test_small_fisher_information_counts_and_not_in_fusion_bench(compared, ours):
    """Its floor, 1e-6, is absolute; ours is relative. With information below it FusionBench takes the mean."""
    of, theirs, small = compared("floor")
    large = ours(replace(DIFFERENT["floor"], measured="fisher"))
    mean = sum(of.states[model][UP].double() for model in ABC) / 3
    torch.testing.assert_close(small[UP], large[UP])
    assert off(theirs[UP].double(), mean) < off(small[UP].double(), mean) / 10
