"""What a running job shows: a progress bar or a line now and then, and TensorBoard curves."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

SECONDS = 30.0  # between lines where there is no terminal


class Progress:
    """A tqdm bar on a terminal; elsewhere (log files) one line every ``SECONDS``."""

    def __init__(self, steps: int, start: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._steps, self._last = steps, time.monotonic()
        self._bar = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=steps, initial=start, unit="step", file=self._stream)

    def show(self, step: int, loss: float, rate: float) -> None:
        """Report a finished ``step`` (from 1), its loss and the learning rate."""
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", lr=f"{rate:.1e}", refresh=False)
            self._bar.update(step - self._bar.n)
        elif time.monotonic() - self._last >= SECONDS or step == self._steps:
            self._last = time.monotonic()
            print(f"step {step}/{self._steps} loss {loss:.3f} lr {rate:.1e}", file=self._stream, flush=True)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


class Curves:
    """Scalars for TensorBoard, in event files under ``folder`` (None: written nowhere)."""

    def __init__(self, folder: Path | None) -> None:
        self._writer = None
        if folder is not None:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventFileWriter(str(folder))

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, step: int, **values: float) -> None:
        """One point of each named curve."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
