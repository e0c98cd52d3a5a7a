import re
import os
import sys
from pathlib import Path

from langmerge import config as study_config
from langmerge import forkserver
from langmerge import plan as study_plan
from langmerge.devices import visible_gpus
from langmerge.provenance import (
    InputError,
    canonical,
    code_fingerprint,
    environment_fingerprint,
)
from snakemake.exceptions import WorkflowError

# Jobs call `python -m langmerge...`: with the Python that runs Snakemake, unless an environment per rule is asked for.
if not workflow.deployment_settings.deployment_method:
    shell.prefix(
        f"export PATH={Path(sys.executable).parent}:$PATH OMP_WAIT_POLICY=passive; "
    )
else:
    shell.prefix("export OMP_WAIT_POLICY=passive; ")

# An unlisted resource is unlimited in Snakemake: unless a profile says otherwise, one job per GPU of this machine.
if "gpu" not in workflow.global_resources:
    workflow.global_resources["gpu"] = len(visible_gpus())
GPUS = workflow.global_resources["gpu"].value

# Priority of data and models: what measures them fills the gaps and the end, in many small jobs.
FIRST = 1

# Libraries whose release may change a stage's results.
LIBRARIES = {
    "corpora": ("pyarrow", "datasets"),
    "training": ("torch", "transformers", "tokenizers", "safetensors", "peft"),
    "growing": ("torch", "transformers", "safetensors"),
    "diagnosis": (
        "torch",
        "transformers",
        "tokenizers",
        "safetensors",
        "numpy",
        "scipy",
    ),
    "merging": ("torch", "safetensors"),
    "sweeping": (
        "torch",
        "transformers",
        "tokenizers",
        "safetensors",
        "sacrebleu",
        "py3langid",
        "rouge-score",
        "regex",
    ),
    "evaluation": (
        "torch",
        "transformers",
        "tokenizers",
        "sacrebleu",
        "py3langid",
        "rouge-score",
        "regex",
    ),
    "observation": ("torch", "transformers", "tokenizers", "safetensors"),
    "analysis": ("torch", "numpy", "scipy", "safetensors"),
    "landscape": ("torch", "transformers", "tokenizers", "safetensors"),
    "ablation": (
        "torch",
        "transformers",
        "tokenizers",
        "safetensors",
        "numpy",
        "scipy",
    ),
    "weighing": ("torch", "safetensors", "numpy", "scipy"),
    "calibration": ("torch", "transformers", "tokenizers", "safetensors"),
    "reporting": ("pandas", "sacrebleu", "matplotlib", "seaborn", "jinja2", "typst"),
}


onstart:
    if workflow.local_exec and not workflow.touch:
        # Snakemake's limit of jobs a second (100, for clusters) makes it look at all ready jobs and their inputs once a
        # second for each job that it ever started: a third of a core in a run of 300 jobs, and more in a longer one.
        workflow.scheduler.job_rate_limiter = None
        # Jobs of this machine and this Python are forks of one process, which saves them the imports.
        if not workflow.deployment_settings.deployment_method:
            rules_to_run = {job.rule.name for job in workflow.dag.needrun_jobs()}
            forkserver.start(at_once="train_model" in rules_to_run)


def load_plans():
    """The plans of all configured studies by name; a mistake in a configuration file ends here, before any job."""
    try:
        settings = study_config.load_workflow(config)
        plans = {
            name: study_plan.build(study_config.load(settings, name), name)
            for name in settings.studies
        }
        for plan in plans.values():
            study_plan.check_files(plan.jobs.values())
        return settings, plans
    except InputError as error:
        raise WorkflowError(str(error)) from None


SETTINGS, PLANS = load_plans()
JOBS = {folder: job for plan in PLANS.values() for folder, job in plan.jobs.items()}


def folders_of(rule):
    """Wildcard pattern of the folders that a rule makes."""
    found = [folder for folder, job in JOBS.items() if job.rule == rule]
    return "|".join(map(re.escape, found)) or "(?!)"


def final_targets():
    """What a complete run makes: the report of every configured study."""
    return [
        f"{plan.report.folder}/{name}"
        for plan in PLANS.values()
        for name in ("report.html", "report.pdf")
    ]


def job_manifests(wildcards):
    """Manifests of the results that a job reads: small, checksummed, the tracked edge between jobs."""
    inputs = JOBS[wildcards.folder].inputs.values()
    owners = [study_plan.result_folder(folder, JOBS) for folder in inputs]
    return [f"{folder}/manifest.json" for folder in dict.fromkeys(owners)]


def job_weights(wildcards):
    """Weights that a job reads. They are never newer than their manifest says, so their age is not looked at."""
    outputs = {
        "train_model": "model.safetensors",
        "init_model": "model.safetensors",
        "import_model": "model.safetensors",
        "grow_model": "model.safetensors",
        "merge_models": "model.safetensors",
        "sweep_merges": "merged",
        "calibrate_model": "model.safetensors",
        "calibrate_models": "measured",
    }
    owners = dict.fromkeys(
        study_plan.result_folder(folder, JOBS)
        for name, folder in JOBS[wildcards.folder].inputs.items()
        if name.startswith(("model", "data/"))
    )
    return [f"{folder}/{outputs[JOBS[folder].rule]}" for folder in owners]


def job_files(wildcards):
    """Data files of the user or the repository that a job reads."""
    return list(JOBS[wildcards.folder].files)


def job_spec(wildcards):
    """All that decides a job's result, as one canonical string."""
    return canonical(JOBS[wildcards.folder].spec)


def job_inputs(wildcards):
    """Where a job finds its inputs, by name."""
    return canonical(JOBS[wildcards.folder].inputs)


def job_code(wildcards):
    """Fingerprint of the code that a job runs, blind to comments and docstrings."""
    return code_fingerprint(*JOBS[wildcards.folder].modules)


def job_environment(wildcards):
    """Releases of the libraries that a job computes with."""
    stage = JOBS[wildcards.folder].modules[0].split(".")[1]
    return environment_fingerprint(*LIBRARIES[stage])


def job_threads(wildcards):
    """CPU threads of a job."""
    return JOBS[wildcards.folder].threads


def job_gpus(wildcards):
    """GPUs of a job: as many as its plan asks for, none on a machine without any."""
    return min(JOBS[wildcards.folder].gpus, GPUS)


def job_launcher(wildcards, threads):
    """How a job is started: alone, with GPUs of its own where there are several, with one process for each of them.

    On a machine without GPUs a training that asks for several of them and as many threads has a process for each too.
    """
    gpus = job_gpus(wildcards)
    own = f"python -m langmerge.devices {gpus} -- " if gpus and GPUS > 1 else ""
    if gpus > 1:
        return f"{own}torchrun --standalone --nproc-per-node {gpus} -m"
    workers = min(JOBS[wildcards.folder].gpus, threads)
    if not GPUS and workers > 1:
        # As on so many GPUs: small models get nothing from more threads. All of these are forks of the server.
        start = "python -m langmerge.forkserver"
        own = f"OMP_NUM_THREADS={threads // workers}"
        run = f"{start} torch.distributed.run --standalone --no-python --nproc-per-node {workers}"
        return f"{own} {run} {start}"
    return f"{own}python -m langmerge.forkserver"


def kept(path):
    """A declared output that is removed after use, unless the configuration keeps merged weights."""
    return path if SETTINGS.keep_merges else temp(path)
