"""Reading ahead and writing behind: the right values, no reads in vain, errors that are not lost."""

import random
import threading
import time
import weakref

import pytest
import torch

from langmerge.merging import Merge, Recipe
from langmerge.merging.elements import element_type
from langmerge.merging.pipeline import ReadAhead, Walk, WriteBehind, is_finite
from langmerge.merging.reader import ModelFolder
from langmerge.merging.sources import Source, TensorEntry

CPU = torch.device("cpu")
SIZES = {"first": 10, "second": 3, "third": 7}


class Numbers(Source):
    """Tensors whose every element is known, and a log of what was read of them."""

    def __init__(self, name, dtype=torch.float32, offset=0):
        self.name, self.dtype, self.offset = name, dtype, offset
        self.tensors = {tensor: TensorEntry(tensor, element_type(dtype), (size,)) for tensor, size in SIZES.items()}
        self.log, self.threads, self.held = [], [], weakref.WeakSet()
        self.most = 0
        self.broken = {}

    def values(self, tensor):
        begin = self.offset + 100 * list(SIZES).index(tensor)
        return torch.arange(begin, begin + SIZES[tensor], dtype=torch.float64)

    def read(self, tensor, start, count):
        if (tensor, start) in self.broken:
            raise self.broken[tensor, start]
        self.log.append((tensor, start, count))
        self.threads.append(threading.current_thread().name)
        span = self.values(tensor)[start : start + count].to(self.dtype)
        storage = span.untyped_storage()
        self.held.add(storage)
        self.most = max(self.most, len(self.held))
        return span


def walks(span):
    """A walk over all tensors, in spans of so many elements."""
    result, following = {}, None
    for name in reversed(SIZES):
        following = result[name] = Walk(name, SIZES[name], span, following)
    return {name: result[name] for name in SIZES}


def once(span):
    """(tensor, start, count) of all spans, in order."""
    return [(name, at, min(span, size - at)) for name, size in SIZES.items() for at in range(0, size, span)]


@pytest.fixture
def ahead():
    made = []

    def make(*sources):
        made.append(ReadAhead({source.name: source for source in sources}, CPU))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


def settled(reader):
    """Wait until nothing is being read."""
    for *_, future in reader._ahead.values():
        future.exception()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("span", "block"), [(4, 2), (4, 4), (2, 1), (100, 3), (6, 3)])
def test_every_element_is_read_just_once_in_order(ahead, dtype, span, block):
    one, two = Numbers("one", dtype), Numbers("two", dtype, offset=1000 if dtype != torch.bfloat16 else 1)
    reader = ahead(one, two)
    for walk in walks(span).values():
        for start in range(0, walk.numel, block):
            for source in (one, two):
                count = min(block, walk.numel - start)
                got = reader.read(source.name, walk, start, count, last=True).tensor
                assert got.dtype in (torch.float32, dtype)
                stored = source.values(walk.tensor)[start : start + count].to(dtype)
                assert torch.equal(got, stored.to(torch.float32))
    for source in (one, two):
        assert source.log == once(span)
        # All but the first span was read beside the work.
        assert source.threads[0] == "MainThread"
        assert all(name.startswith("read-ahead") for name in source.threads[1:])


def test_sweeps_reread_long_tensors_but_nothing_in_vain(ahead):
    source = Numbers("one")
    reader = ahead(source)
    for walk in walks(4).values():
        for sweep in range(3):
            for start in range(0, walk.numel, 2):
                got = reader.read("one", walk, start, min(2, walk.numel - start), last=sweep == 2).tensor
                assert torch.equal(got.double(), source.values(walk.tensor)[start : start + 2])
    sweeps = {name: 3 if size > 4 else 1 for name, size in SIZES.items()}
    assert source.log == [row for name in SIZES for _ in range(sweeps[name]) for row in once(4) if row[0] == name]


def test_any_order_of_blocks_sources_and_tensors_gives_the_right_values(ahead):
    sources = [Numbers("one"), Numbers("two", offset=1000)]
    reader, chance = ahead(*sources), random.Random(0)
    spans = list(walks(4).values())
    for _ in range(400):
        walk, source = chance.choice(spans), chance.choice(sources)
        start = chance.randrange(walk.numel)
        count = chance.randint(1, min(4 - start % 4, walk.numel - start))
        got = reader.read(source.name, walk, start, count, last=chance.random() < 0.5).tensor
        assert torch.equal(got.double(), source.values(walk.tensor)[start : start + count])


def test_only_some_tensors_of_a_source_may_be_asked_for(ahead):
    source = Numbers("one")
    reader = ahead(source)
    first, _, third = walks(4).values()
    for walk in (first, third):
        for start in range(0, walk.numel, 4):
            reader.read("one", walk, start, min(4, walk.numel - start), last=True)
    settled(reader)
    assert [row for row in source.log if row[0] != "second"] == [row for row in once(4) if row[0] != "second"]
    assert len([row for row in source.log if row[0] == "second"]) <= 1  # a guess that was wrong


@pytest.mark.parametrize("jumps", [False, True])
def test_at_most_two_spans_of_a_source_are_held(ahead, jumps):
    source = Numbers("one")
    reader, chance = ahead(source), random.Random(1)
    spans = list(walks(2).values())
    for step in range(200):
        if jumps:
            walk = chance.choice(spans)
            start = chance.randrange(walk.numel) // 2 * 2
        else:
            walk, start = spans[0], step * 2 % 10
        reader.read("one", walk, start, min(2, walk.numel - start), last=False)
        settled(reader)
        assert len(source.held) <= 2
    assert source.most <= 2
    reader.close()
    assert not source.held


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("ended while reading")])
@pytest.mark.parametrize("place", once(4))
def test_an_error_of_the_reading_thread_names_model_and_tensor(ahead, error, place):
    good, bad = Numbers("good"), Numbers("bad")
    bad.broken[place[:2]] = error
    reader, asked = ahead(good, bad), []
    with pytest.raises(ValueError, match=rf"model 'bad': tensor '{place[0]}' cannot be read: .*{error.args[-1]}"):
        for walk in walks(4).values():
            for start in range(0, walk.numel, 4):
                for name in ("good", "bad"):
                    asked.append((walk.tensor, start))
                    reader.read(name, walk, start, min(4, walk.numel - start), last=True)
    assert asked[-1] == place[:2]  # not before these values are asked for


def test_values_that_are_not_finite_name_model_and_tensor(ahead):
    for value in (torch.nan, torch.inf, -torch.inf):
        source = Numbers("bad")
        source.values = lambda tensor, value=value: torch.tensor([0.0] * 9 + [value])[: SIZES[tensor]]
        reader, walk = ahead(source), walks(4)["first"]
        for start in (0, 4):
            reader.read("bad", walk, start, 4, last=True)
        with pytest.raises(ValueError, match="model 'bad': tensor 'first' contains NaN or infinite"):
            reader.read("bad", walk, 8, 1, last=True)  # the other value of this span


def test_closing_ends_the_thread_even_if_a_read_is_under_way(ahead):
    source = Numbers("one")
    fast = source.read

    def slow(*arguments):
        time.sleep(0.02)
        return fast(*arguments)

    source.read = slow
    reader = ahead(source)
    reader.read("one", walks(4)["first"], 0, 4, last=True)
    reader.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
    assert len(source.log) <= 2


# ---- whole merges ---------------------------------------------------------------------------------------------------


def test_a_merge_reads_each_span_of_each_source_once(sources):
    folders = {name: ModelFolder(name, folder) for name, folder in sources.items()}
    logs = {name: [] for name in sources}
    for name, folder in folders.items():
        read = folder.elements

        def noted(tensor, start, count, read=read, log=logs[name]):
            log.append((tensor, start, count))
            return read(tensor, start, count)

        folder.elements = noted
    recipes = [
        Recipe("mean", "linear", ("a", "b"), "base"),
        Recipe("sum", "task_arithmetic", ("a", "b", "c"), "base"),
        Recipe("outer", "linear", ("mean", "c"), "base"),
    ]
    for _ in Merge(recipes, folders, block=64):
        pass
    for name, log in logs.items():
        assert len(log) == len(set(log))
        size = dict.fromkeys(folders[name].tensors, 0)
        for tensor, start, count in log:
            assert start == size[tensor]
            size[tensor] += count
        assert size == {tensor: entry.numel for tensor, entry in folders[name].tensors.items()}


# ---- writing behind -------------------------------------------------------------------------------------------------


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "write-behind"]


def test_all_actions_run_in_order_in_another_thread():
    behind, done = WriteBehind(), []
    for number in range(100):
        behind.put(lambda number=number: done.append((number, threading.current_thread().name)))
    behind.finish()
    assert done == [(number, "write-behind") for number in range(100)]
    assert not threads()


def test_putting_waits_while_the_queue_is_full():
    behind, gate, put = WriteBehind(depth=3), threading.Event(), []

    def fill():
        for number in range(10):
            behind.put(gate.wait)
            put.append(number)

    filler = threading.Thread(target=fill)
    filler.start()
    deadline = time.monotonic() + 5
    while len(put) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(put) == 4  # one is running, three wait
    gate.set()
    filler.join()
    behind.finish()
    assert len(put) == 10


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError("none"), KeyboardInterrupt()])
def test_an_error_is_raised_by_the_next_put_and_nothing_runs_after_it(error):
    behind, done, failed = WriteBehind(), [], threading.Event()

    def fail():
        failed.set()
        raise error

    behind.put(lambda: done.append(1))
    behind.put(fail)
    failed.wait(5)
    with pytest.raises(type(error)) as caught:
        for _ in range(1000):
            behind.put(lambda: done.append(2))
            time.sleep(0.001)
    assert caught.value is error
    behind.abandon()
    assert done == [1]
    assert not threads()


def test_an_error_of_the_last_action_is_raised_by_finish():
    behind = WriteBehind()
    behind.put(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        behind.finish()
    behind.abandon()  # may follow
    assert not threads()


def test_the_first_error_is_the_one_that_is_told():
    behind = WriteBehind()
    gate = threading.Event()
    behind.put(gate.wait)
    behind.put(lambda: 1 / 0)
    behind.put(lambda: [][0])
    gate.set()
    with pytest.raises(ZeroDivisionError):
        behind.finish()


def test_an_error_with_a_full_queue_blocks_nobody():
    behind, gate = WriteBehind(depth=2), threading.Event()

    def fail():
        gate.wait(5)
        raise OSError("full")

    behind.put(fail)
    for _ in range(2):
        behind.put(lambda: None)
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(OSError, match="full"):
        for _ in range(10):
            behind.put(lambda: None)
        behind.finish()
    behind.abandon()
    assert not threads()


def test_abandoning_runs_nothing_more():
    behind, gate, done = WriteBehind(), threading.Event(), []
    started = threading.Event()

    def first():
        started.set()
        gate.wait(5)
        done.append("first")

    behind.put(first)
    behind.put(lambda: done.append("second"))
    started.wait(5)
    threading.Timer(0.05, gate.set).start()
    behind.abandon()
    assert done == ["first"]  # what had begun has ended
    assert not threads()


# ---- finite ---------------------------------------------------------------------------------------------------------

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOATS)
def test_is_finite_looks_at_every_element(dtype):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(67, generator=generator).to(dtype)
    assert is_finite(values)
    assert is_finite(values[:0])
    bad = [torch.nan] if dtype == torch.float8_e4m3fn else [torch.nan, torch.inf, -torch.inf]
    for index in range(67):
        for value in bad:
            spoilt = values.to(torch.float32)
            spoilt[index] = value
            assert not is_finite(spoilt.to(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_is_finite_accepts_values_whose_sum_overflows(dtype):
    most = torch.finfo(dtype).max
    assert is_finite(torch.full((1000,), most, dtype=torch.float64).to(dtype))
    assert is_finite(torch.tensor([most, most, -most, -most] * 50, dtype=torch.float64).to(dtype))
    if dtype != torch.float8_e4m3fn:  # which has no infinity
        assert not is_finite(torch.tensor([torch.inf, -torch.inf, 1.0]).to(dtype))
