import pytest
from merge_models import save, weights


@pytest.fixture(scope="session")
def states():
    base = weights(0)
    return {"base": base, **{name: weights(i, base, 0.01) for i, name in enumerate("abc", 1)}}


@pytest.fixture(scope="session")
def sources(states, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: save(root / name, state) for name, state in states.items()}
