"""``python -m langmerge.plan``: print the plan of the configured studies."""

from __future__ import annotations

import argparse
from pathlib import Path

from langmerge import config
from langmerge.plan.build import build
from langmerge.plan.describe import describe
from langmerge.provenance import run


def main(arguments: list[str] | None = None) -> None:
    """Print the plan of every configured study (or of ``--studies``) at a scale."""
    parser = argparse.ArgumentParser(prog="python -m langmerge.plan", description=main.__doc__)
    parser.add_argument("--studies", help="comma-separated names; default: config/config.yaml's")
    parser.add_argument("--scale", help="default: config/config.yaml's")
    parser.add_argument("--data-root", help="folder of your own data")
    parser.add_argument("--jobs", action="store_true", help="also list every job's folder and inputs")
    options = parser.parse_args(arguments)
    values = config.read_yaml(Path("config/config.yaml"))
    given = {"studies": options.studies, "scale": options.scale, "data_root": options.data_root}
    workflow = config.load_workflow({**values, **{key: value for key, value in given.items() if value}})
    for name in workflow.studies:
        plan = build(config.load(workflow, name), name)
        print("\n".join(describe(plan)))
        if options.jobs:
            for job in plan.jobs.values():
                print(f"{job.rule:18} {job.folder}\n" + "\n".join(f"{'':20}{k} <- {v}" for k, v in job.inputs.items()))


if __name__ == "__main__":
    run(main)
