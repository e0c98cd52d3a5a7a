"""Studies with planted results (:mod:`finished_results`) and the report of one."""

from __future__ import annotations

import pytest
from finished_results import Finished, finish, study

from langmerge import config
from langmerge.reporting.document import Document, compose
from langmerge.reporting.load import Results, load
from langmerge.reporting.samples import Scores


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The whole study: two direction groups, joint models, drift, patches, pairs, measurements; one seed."""
    return finish(study(), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def results(finished: Finished) -> Results:
    """The results of the whole study."""
    return load(finished.spec, finished.inputs)


@pytest.fixture(scope="session")
def scores(results: Results) -> Scores:
    """The scores of the whole study."""
    return Scores(results)


@pytest.fixture(scope="session")
def document(results: Results) -> Document:
    """The report of the whole study."""
    return compose(results)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """As little as a study can have: one direction group, one merge; no joint model, drift, patch, pairs, analysis."""
    values = study().model_dump(mode="json", by_alias=True)
    values |= {
        "languages": ["es", "de"],
        "directions": ["from_pivot"],
        "joint": None,
        "analysis": None,
        "seeds": [1, 2],
    }
    values["merging"] = {"all": {"linear": {}}}
    return finish(config.Study.model_validate(values), tmp_path_factory.mktemp("small"))
