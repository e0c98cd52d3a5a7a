"""How models are scored, and how sure the scores are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from langmerge.config.base import Count, Name, Section


class Scoring(Section):
    """What every kind of study says of its scores."""

    dev: Count | None = Field(
        None,
        description="Items per test (or direction) for tuning; all when empty. Items of tasks are drawn evenly over "
        "groups and right answers.",
    )
    test: Count | None = Field(None, description="The same for reporting.")
    batch_size: Count = Field(64, description="Sequences at once.")
    bootstrap_samples: Count = Field(1000, description="Bootstrap resamples of the items.")
    seed: int = Field(12345, description="Seed of the resamples and of the significance tests.")
    harness: list[Name] = Field(
        default_factory=list,
        description="Tasks of lm-evaluation-harness by name, scored in an environment of its own (`make harness`).",
    )
    harness_limit: Count | None = Field(None, description="Items of each of these tasks; all when empty.")
    harness_include: str | None = Field(
        None,
        description="Folder with task files of your own, in the harness's format; `{data_root}` is filled in. Whatever "
        "changes in it, data too, runs the tasks again.",
    )


class Evaluation(Scoring):
    """How translations are scored."""

    splits: list[Name] = Field(["test"], description="Test sets that are scored; the first is the main one.")
    max_new_tokens: Count = Field(64, description="Longest translation in tokens.")
    cut: Literal["newline"] | None = Field(None, description="`newline`: keep the first line of the output only.")
    randomization_trials: Count = Field(10000, description="Approximate randomization trials.")


class TaskEvaluation(Scoring):
    """How text and tasks are scored."""

    max_new_tokens: Count = Field(48, description="Longest generated answer in tokens.")
