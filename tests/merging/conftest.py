import threading

import pytest
from merge_models import save, weights
from small_merges import open_files, small


@pytest.fixture(scope="session")
def states():
    base = weights(0)
    return {"base": base, **{name: weights(i, base, 0.01) for i, name in enumerate("abc", 1)}}


@pytest.fixture(scope="session")
def sources(states, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: save(root / name, state) for name, state in states.items()}


@pytest.fixture
def smalls(tmp_path):
    return {name: save(tmp_path / "in" / name, small(seed)) for seed, name in enumerate(("base", "a", "b"))}


@pytest.fixture
def nothing_left_running():
    """No thread and no open file may outlive a merge, whether it ended well or not."""
    handles, threads = open_files(), set(threading.enumerate())
    yield
    assert open_files() == handles
    assert set(threading.enumerate()) == threads
