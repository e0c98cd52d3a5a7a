"""Overlap of reading, arithmetic and writing: one thread reads ahead, one writes behind.

Reading looks for values that are not finite and converts to float32, unless the loops of `langmerge.merging.fused` do
the arithmetic, so that this too runs beside it.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING

from langmerge.merging.elements import Elements
from langmerge.merging.fused import loops
from langmerge.merging.fused.library import KINDS
from langmerge.merging.lazy import device_type, torch
from langmerge.merging.sources import Source

if TYPE_CHECKING:
    from torch import Tensor

SPAN = {"cpu": 8, "cuda": 1}
"""Blocks read at once by device: small blocks, but few reads, since every read costs a switch of threads."""


@dataclass(frozen=True)
class Walk:
    """How a tensor is read: `numel` elements in spans of `span`, one or more whole blocks each.

    `following` is the tensor that is merged next.
    """

    tensor: str
    numel: int
    span: int
    following: Walk | None = None

    @property
    def spans(self) -> int:
        """Number of spans."""
        return -(-self.numel // self.span)


class ReadAhead:
    """Reads blocks of sources on `device`, a span of blocks at a time and the next span beside the work.

    Values are float32, or as they are stored where the loops can read them.
    Of each source at most two spans are held.
    """

    def __init__(self, sources: Mapping[str, Source], device: torch.device | str) -> None:
        self._sources = sources
        self._device = device
        self._pool = ThreadPoolExecutor(1, "read-ahead")
        self._now: dict[str, tuple[str, int, Elements]] = {}
        self._ahead: dict[str, tuple[str, int, Future[Elements]]] = {}

    def read(self, name: str, walk: Walk, start: int, count: int, last: bool) -> Elements:
        """Elements start .. start + count - 1 of a tensor, (count,), all in one span.

        `last` tells that this sweep over the tensor is the last one. Raises ValueError if a value is not finite or
        the file is damaged.
        """
        index = start // walk.span
        now = self._now.get(name)
        if now is None or now[:2] != (walk.tensor, index):
            now = None  # let go of it before another is read
            self._now.pop(name, None)
            now = self._now[name] = (walk.tensor, index, self._take(name, walk, index))
            self._prepare(name, walk, index, last)
        offset = start - index * walk.span
        return now[2][offset : offset + count]

    def close(self) -> None:
        """Stop reading; what was read ahead in vain is forgotten."""
        self._pool.shutdown(cancel_futures=True)
        self._now.clear()
        self._ahead.clear()

    def _take(self, name: str, walk: Walk, index: int) -> Elements:
        tensor, number, future = self._ahead.pop(name, (None, None, None))
        if future is not None and (tensor, number) == (walk.tensor, index):
            return future.result()
        if future is not None:
            future.cancel()
            del future
        return self._values(name, walk, index)

    def _prepare(self, name: str, walk: Walk, index: int, last: bool) -> None:
        """Have the span read that will probably be asked for after span `index`."""
        upcoming: Walk | None = walk
        index += 1
        if index == walk.spans:
            # A tensor of one span stays at hand: only the next tensor can be asked for.
            upcoming, index = (walk.following if last or walk.spans == 1 else walk), 0
        if upcoming is not None:
            self._ahead[name] = (upcoming.tensor, index, self._pool.submit(self._values, name, upcoming, index))

    def _values(self, name: str, walk: Walk, index: int) -> Elements:
        start = index * walk.span
        try:
            values = self._sources[name].elements(walk.tensor, start, min(walk.span, walk.numel - start))
        except (OSError, ValueError) as error:
            raise ValueError(f"model {name!r}: tensor {walk.tensor!r} cannot be read: {error}") from error
        if values.dtype in KINDS and loops.usable(self._device):
            if not loops.all_finite(values):
                raise ValueError(f"model {name!r}: tensor {walk.tensor!r} contains NaN or infinite values")
            return values
        tensor = values.tensor
        if device_type(self._device) == "cuda":
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        tensor = tensor.to(torch.float32)
        if not is_finite(tensor):
            raise ValueError(f"model {name!r}: tensor {walk.tensor!r} contains NaN or infinite values")
        return Elements.of(tensor)


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite.

    The sum is finite only if all are, and costs a twentieth of looking at each; it may overflow although they
    are, hence the second look.
    """
    if values.dtype.itemsize == 1:  # float8 has neither sums nor comparisons
        values = values.to(torch.float32)
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


class WriteBehind:
    """Runs actions in order in a thread, at most `depth` waiting; the first error is raised at the next call."""

    def __init__(self, depth: int = 2) -> None:
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def put(self, action: Callable[[], object]) -> None:
        """Hand over an action; raises the error of an earlier one."""
        self._raise()
        self._queue.put(action)

    def finish(self) -> None:
        """Wait until all is done; raises the error of an action."""
        self._queue.put(None)
        self._thread.join()
        self._raise()

    def abandon(self) -> None:
        """Stop without running what still waits; errors no longer matter."""
        self._error = self._error or RuntimeError("abandoned")
        self._queue.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error:
            raise self._error

    def _run(self) -> None:
        while (action := self._queue.get()) is not None:
            if self._error:
                continue  # keep emptying the queue, so that nobody waits for room in it
            try:
                action()
            except BaseException as error:
                self._error = error
