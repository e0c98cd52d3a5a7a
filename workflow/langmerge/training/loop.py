"""The training loop.

A plain loop over accelerate rather than transformers' Trainer, for three reasons. Exact resume: Trainer replays and
skips batches of a stateful iterator and keeps its state in pickles; here the data of a step are a pure function of the
seed and the step, and a killed run ends with the bytes of an undisturbed one. Token accounting: the loss is a sum over
the asked-for tokens divided by their number in the whole step, over all micro-batches and devices, and the head is
evaluated at those tokens only. Start-up: many tiny models are trained, and Trainer adds half a second of imports to
each.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from langmerge.energy import Meter, Used
from langmerge.models import copy_tokenizer, save_model
from langmerge.provenance import InputError
from langmerge.training import state
from langmerge.training.batches import Batch, Order, assemble
from langmerge.training.data import Sequences
from langmerge.training.lora import merged, save_adapter
from langmerge.training.objective import Objective
from langmerge.training.optimization import learning_rate, make_optimizer
from langmerge.training.precision import resolve
from langmerge.training.progress import Curves, Progress
from langmerge.training.settings import Settings

if TYPE_CHECKING:
    from peft import PeftModel

LOG_ROWS = 1000  # about so many steps are logged
SPACING = 20.0  # large states take long to write: so many times as long passes before the next


@dataclass
class Ledger:
    """What the run has used so far; goes through the resume state, so that a killed run's work is counted."""

    step: int = 0
    tokens: int = 0  # real
    padded_tokens: int = 0  # real and padding: what was computed on
    target_tokens: int = 0
    squared_tokens: int = 0  # sum of squared lengths: what attention costs
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of all processes, as of the last row of the log; joules too
    gpu_joules: float = 0.0  # NaN where there is no counter
    cpu_joules: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)

    def used(self) -> Used:
        """CPU seconds and joules."""
        return Used(self.cpu_seconds, self.gpu_joules, self.cpu_joules)


@dataclass(frozen=True)
class Cluster:
    """This process among those that train together, and how it computes."""

    device: torch.device
    rank: int = 0
    size: int = 1
    wrap: Callable[[torch.nn.Module], torch.nn.Module] = lambda module: module


def find_cluster(device: torch.device) -> Cluster:
    """One process, or what `accelerate launch` / torchrun started."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Cluster(device)
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device.type == "cpu")
    return Cluster(accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator.prepare_model)


@contextlib.contextmanager
def _stop_signal() -> Iterator[list[int]]:
    """A list that SIGTERM and SIGINT append to, so that a step is finished and saved before the process ends."""
    received: list[int] = []
    old = {
        number: signal.signal(number, lambda which, _: received.append(which))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _tensors(batch: Batch, device: torch.device) -> tuple[torch.Tensor | None, ...]:
    arrays = (batch.ids, batch.positions, batch.where, batch.labels)
    return tuple(None if array is None else torch.from_numpy(array).to(device, non_blocking=True) for array in arrays)


class Run:
    """One training run: ``train()`` goes from the resume state, or the start, to the last step."""

    def __init__(
        self,
        settings: Settings,
        model: PreTrainedModel,
        sequences: Sequences,
        order: Order,
        pad: int,
        parent: Path,
        work: Path,
        identity: str,
        cluster: Cluster,
        adapted: PeftModel | None = None,
        meter: Meter | None = None,
    ) -> None:
        """``adapted``: ``model`` in peft's wrapper, where adapters are trained and not its weights.

        ``meter``: started when the job was, so that its preparations count; now when empty.
        """
        self.settings, self.model, self.sequences, self.order, self.pad = settings, model, sequences, order, pad
        self.parent, self.work, self.cluster, self.adapted = parent, work, cluster, adapted
        self.precision = resolve(settings.precision, cluster.device)
        self.identity = f"{identity} {self.precision}"  # a run does not go on in other arithmetic on another machine
        self.ledger = Ledger()
        self.resumed = False
        self.earlier = Ledger()  # what was used up to the state that this process went on from
        self.meter = meter or Meter()
        self.own = Used()  # of this process alone, at the last row of the log
        model.to(cluster.device).train()  # type: ignore[arg-type]
        if cluster.device.type == "cpu" and self.precision == "bf16":
            model.set_attn_implementation("eager")  # 1.5 times the speed: torch's fused one is slow backward
        if settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.optimizer = make_optimizer(model, settings)
        self.objective = cluster.wrap(Objective(model, settings.compile, dynamic=not settings.packing))
        # Compiled code wants one shape: rows for the tokens of a micro-batch and for what packing leaves empty.
        share = settings.batch_tokens / (settings.accumulation * cluster.size)
        self._rows = math.ceil(1.05 * share / settings.context_length) if settings.compile and settings.packing else 0
        self._every = max(1, math.ceil(settings.steps / LOG_ROWS))

    # ---- one step

    def _batches(self, step: int) -> tuple[list[Batch], int]:
        """This process's micro-batches of a step, and the asked-for tokens in those of all processes."""
        parts = self.order.micro_batches(step, self.settings.accumulation * self.cluster.size)
        context = self.settings.context_length if self.settings.packing else None
        batches = [assemble(self.sequences, part, self.pad, context, self._rows) for part in parts]
        for batch, part in zip(batches, parts, strict=True):
            self.ledger.tokens += batch.tokens
            self.ledger.padded_tokens += batch.ids.size
            self.ledger.target_tokens += len(batch.labels)
            self.ledger.squared_tokens += int((self.sequences.lengths[part] ** 2).sum())
        return batches[self.cluster.rank :: self.cluster.size], sum(len(batch.labels) for batch in batches)

    def _step(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimizer step; mean loss of this process's share and norm of the gradient, on the device."""
        settings, device = self.settings, self.cluster.device
        torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout, where a model has it, resumes exactly too
        batches, asked = self._batches(step)
        rate = learning_rate(settings, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=device)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            quiet = contextlib.nullcontext() if last or self.cluster.size == 1 else self.objective.no_sync()  # type: ignore[operator]
            with quiet:
                with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                    loss = self.objective(*_tensors(batch, device)) / asked
                # Data-parallel processes average their gradients; the loss is a sum over all of them.
                (loss * self.cluster.size).backward()
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        if device.type == "cpu" or step % 10 == 9:  # a GPU would wait for the answer, so it is asked now and then
            self._check_finite(total, norm, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, norm

    def _check_finite(self, loss: torch.Tensor, norm: torch.Tensor, step: int) -> None:
        """Stop before anything that is not finite is kept; a weight that is not makes all later gradients so."""
        if not torch.isfinite(norm):
            rate = learning_rate(self.settings, step)
            raise InputError(
                f"step {step + 1}: the gradient is not finite (loss {float(loss):.3g}, norm {float(norm):.3g}, "
                f"learning rate {rate:.2g}, precision {self.precision}); lower learning_rate, raise "
                "warmup, or set precision to fp32"
            )

    # ---- what is kept

    def save(self, folder: Path) -> None:
        """Write the model as it stands, a whole model folder, into ``folder``."""
        temporary = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        model = self.model if self.adapted is None else merged(self.parent, self.adapted)
        cache = json.loads((self.parent / "config.json").read_text()).get("use_cache", True)
        model.config.use_cache = cache  # off for training only
        save_model(model, temporary)
        model.config.use_cache = False
        if self.adapted is not None:
            save_adapter(self.adapted, temporary / "adapter")
        copy_tokenizer(self.parent, temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)

    def _keep_state(self) -> None:
        if self.cluster.rank == 0:
            state.save(self.work, self.model, self.optimizer, {"identity": self.identity, **vars(self.ledger)})

    def _resume(self) -> None:
        meta = state.read(self.work, self.identity)
        lost = [step for step in self.settings.snapshots if meta and step <= meta["step"] and not self._has(step)]
        if lost:
            print(f"{self.snapshot(lost[0])}: this snapshot is gone; training starts anew", file=sys.stderr)
        elif meta is not None:
            state.restore(self.work, self.model, self.optimizer, meta["step"])
            meta.pop("identity")
            self.ledger, self.earlier, self.resumed = Ledger(**meta), Ledger(**meta), True
        if not self.resumed and self.cluster.rank == 0:
            shutil.rmtree(self.work / "models", ignore_errors=True)

    def _has(self, step: int) -> bool:
        return self.snapshot(step).is_dir()

    def snapshot(self, step: int) -> Path:
        """Where the model after ``step`` steps is kept until the run is complete."""
        return self.work / "models" / f"step{step}"

    # ---- the run

    def train(self) -> None:
        """Train to the last step; snapshots lie in :meth:`snapshot`, the model is ``self.model``.

        Raises:
            InputError: loss or gradient is not finite.
            SystemExit: SIGTERM or SIGINT came; the state is saved.
        """
        self._resume()
        ledger, settings, first = self.ledger, self.settings, self.cluster.rank == 0
        if ledger.step == 0 and 0 in settings.snapshots and first:
            self.save(self.snapshot(0))
        saved = started = time.monotonic()
        interval = settings.checkpoint_seconds
        before = ledger.seconds
        progress = Progress(settings.steps, ledger.step) if first else None
        with _stop_signal() as stop, Curves(self.work / "logs" if first else None) as curves:
            while ledger.step < settings.steps:
                loss, norm = self._step(ledger.step)
                ledger.step += 1
                ledger.seconds = before + time.monotonic() - started
                if ledger.step % self._every == 0 or ledger.step == settings.steps:
                    self._report(loss, norm, progress, curves)
                kept = ledger.step in settings.snapshots
                due = ledger.step < settings.steps and (bool(stop) or time.monotonic() - saved >= interval)
                if kept or due or ledger.step == settings.steps:
                    self._check_finite(loss, norm, ledger.step - 1)
                if kept and first:
                    self.save(self.snapshot(ledger.step))
                if due:
                    begun = time.monotonic()
                    self._keep_state()
                    saved = time.monotonic()
                    interval = max(interval, SPACING * (saved - begun))
                if due and stop:
                    raise SystemExit(f"stopped by signal {stop[0]} after step {ledger.step}; run again to go on")
        if progress is not None:
            progress.close()

    def _report(self, loss: torch.Tensor, norm: torch.Tensor, progress: Progress | None, curves: Curves) -> None:
        self._count()
        if self.cluster.size > 1:
            torch.distributed.all_reduce(loss)
        rate = learning_rate(self.settings, self.ledger.step - 1)
        row = {
            "step": self.ledger.step,
            "loss": float(loss),
            "learning_rate": rate,
            "gradient_norm": float(norm),
            "tokens": self.ledger.tokens,
        }
        self.ledger.log.append(row)
        if progress is not None:
            progress.show(self.ledger.step, row["loss"], rate)
            curves.add(
                self.ledger.step,
                loss=row["loss"],
                learning_rate=rate,
                gradient_norm=row["gradient_norm"],
                tokens_per_second=self.ledger.tokens / max(self.ledger.seconds, 1e-9),
            )

    def _count(self) -> None:
        """What all processes have used so far, and those before that this run goes on from, into the ledger."""
        self.own = self.meter.used()
        values = torch.tensor(self.own.values(), dtype=torch.float64, device=self.cluster.device)
        if self.cluster.size > 1:
            torch.distributed.all_reduce(values)
        total = self.earlier.used() + Used(*values.tolist())
        self.ledger.cpu_seconds, self.ledger.gpu_joules, self.ledger.cpu_joules = total.values()

    def elsewhere(self) -> dict[str, float]:
        """Seconds that this process has not spent: by the clock before it, and of CPU time before and beside it."""
        return {
            "seconds": self.earlier.seconds,
            "cpu_seconds": self.ledger.cpu_seconds - self.own.cpu_seconds,
        }

    def cost(self, device_name: str) -> dict[str, Any]:
        """What the run used, for ``cost.json``."""
        ledger = self.ledger
        return {
            "tokens": ledger.tokens,
            "padded_tokens": ledger.padded_tokens,
            "target_tokens": ledger.target_tokens,
            "training_seconds": round(ledger.seconds, 3),
            "tokens_per_second": round(ledger.tokens / max(ledger.seconds, 1e-9), 1),
            "device": device_name,
            "precision": self.precision,
            "devices": self.cluster.size,
            "resumed": self.resumed,
            **ledger.used().known(),
        }
