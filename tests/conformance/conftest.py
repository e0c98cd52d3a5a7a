"""Families of tiny models for both element types, and a table of the differences at the end of a run."""

import pytest
from peers import DTYPES, family
from safetensors.torch import save_file
from small_llamas import shapes, states

from langmerge.merging.randomness import random_bits, stream_key


def pytest_terminal_summary(terminalreporter):
    """For each method and type, over all cases: the largest difference, and the share of entries that differ at all."""
    found = {}
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for method, dtype, units, unequal in (value for key, value in report.user_properties if key == "conformance"):
            found.setdefault((method, dtype), []).append((units, unequal))
    for (method, dtype), values in sorted(found.items()):
        units, unequal = max(value for value, _ in values), sum(share for _, share in values) / len(values)
        terminalreporter.write_line(
            f"{method:18} {dtype:9} {len(values):3} cases, at most {units:5.2f} float32 units, {unequal:7.3%} unequal"
        )


@pytest.fixture(scope="session")
def families(tmp_path_factory):
    """Families of the same shapes in float32 and bfloat16, with the bits of random masks for two seeds."""
    result = {}
    for name, dtype in DTYPES.items():
        root = tmp_path_factory.mktemp(name)
        made = states(dtype)
        for seed in (0, 1):
            (root / f"masks{seed}").mkdir()
            for model in made:
                bits = {t: random_bits(stream_key(seed, model, t), 0, made[model][t].numel()) for t in shapes()}
                save_file(bits, root / f"masks{seed}/{model}.safetensors")
        result[name] = family(root, made)
    return result
