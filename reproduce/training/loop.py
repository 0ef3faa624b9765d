"""The loop over epochs and steps of one run, and what makes it stop early."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console
from torch import nn

from reproduce.compute.compilation import Graphs, compiling
from reproduce.compute.distributed import ALONE, Group
from reproduce.config.fields import Checkpoint
from reproduce.core.errors import CONTINUES, HarnessError, Stopped
from reproduce.core.progress import ProgressBar
from reproduce.core.rng import generator
from reproduce.data.imagenet import EvaluationStore, decoder_lost
from reproduce.experiments.runs import TRACE_COLUMNS
from reproduce.experiments.schedules import learning_rate, measured_epochs
from reproduce.experiments.spec import TrainingSpec
from reproduce.training.images import RunImages
from reproduce.training.state import Best, RunState, save_state
from reproduce.training.step import (
    Algorithm,
    StepResult,
    compiled_modules,
    plain_modules,
    train_step,
)
from reproduce.training.trace import NonFiniteLossError
from reproduce.training.validation import Measured, measure

# why to stop now, or None to go on; asked before every step
StopReason = Callable[[], str | None]


@contextmanager
def stop_requests(max_minutes: float | None) -> Iterator[StopReason]:
    """Watch the clock and the signals that ask a process to end.

    SIGTERM (a scheduler), SIGHUP (a lost connection) and SIGINT (Ctrl-C) then no longer
    kill at once: the current step is finished and the state saved.  The second signal of
    a kind does kill.  After `max_minutes` from now the run stops likewise.
    """
    deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    received: list[str] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        received.append(name)
        signal.signal(number, before[signal.Signals(number)])
        # the current step can take a minute, compiling; print is not safe in a handler
        line = f"\n{name}: ending once what is under way is done; a second {name} ends at once\n"
        with suppress(OSError):
            os.write(2, line.encode())

    def reason() -> str | None:
        if received:
            return f"stopped by {received[0]}"
        if deadline is not None and time.monotonic() >= deadline:
            return f"stopped after {max_minutes:g} minutes"
        return None

    watched = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, receive) for number in watched}
    try:
        yield reason
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class TrainingLoop:
    """Trains one network from where `state` is, which it updates; model and optimizer match it."""

    spec: TrainingSpec
    model: nn.Module
    optimizer: torch.optim.Optimizer
    algorithm: Algorithm
    images: RunImages
    state: RunState
    state_path: Path
    eval_batch: int
    """Images at once when the network is measured."""
    save_minutes: float
    """After how long the state is saved within an epoch."""
    stop: StopReason
    group: Group = ALONE
    """The processes that train the network together."""
    compiled: bool = False
    graphs: bool = False
    """Whether steps and validation are recorded as CUDA graphs."""

    def __post_init__(self) -> None:
        self.cell, rows = self.spec.parsed, self.state.trace.rows
        self.device = next(self.model.parameters()).device
        lam = rows[-1][TRACE_COLUMNS.index("lambda")] if rows else self.cell.lam
        self._lam = torch.tensor(lam, dtype=torch.float64, device=self.device)
        # one module for all steps: what averages gradients is made once
        sizes = self.spec.train.batch_sizes
        if self.compiled:
            self._modules = compiled_modules(self.model, self.algorithm.objective, sizes)
        else:
            modules = plain_modules(self.model, self.algorithm.objective)
            self._modules = modules._replace(terms=self.group.wrapped(modules.terms))
        self._graphs = Graphs(self.model, {*sizes, self.eval_batch}) if self.graphs else None
        self._began = self._saved_at = time.monotonic()
        # a segment too short for one validation must not stop in it again and again
        self._has_stepped = False

    def run(self) -> None:
        """Train to the last epoch.

        Raises
        ------
        Stopped
            If asked to stop; the state is saved and the same call continues it.
        HarnessError
            If the loss becomes NaN or infinite; the last good state stays saved.
        """
        state, epochs = self.state, self.spec.train.epochs
        steps = [self.images.batches.steps(epoch) for epoch in range(1, epochs + 1)]
        done = sum(steps[: state.epoch - 1]) + state.step
        silent = None if self.group.first else Console(quiet=True)
        bar = ProgressBar(self.cell.id, sum(steps), "steps", done, silent)
        try:
            with bar, compiling() if self.compiled else nullcontext():
                while state.epoch <= epochs:
                    self._train_epoch(bar)
                    self._end_epoch(bar)
        except NonFiniteLossError as error:
            raise HarnessError(f"{self.cell.id}: {error}; {self._last_good()}") from error
        except RuntimeError as error:
            # PyTorch raises this wherever the run is when one of them dies
            if "DataLoader worker" not in str(error):
                raise
            lost = decoder_lost(error)
            raise HarnessError(f"{self.cell.id}: {lost}; {self._last_good()}") from error

    def _train_epoch(self, bar: ProgressBar) -> None:
        """Take the steps of the current epoch that are not done yet."""
        state, group, awp = self.state, self.group, self.spec.awp
        algorithm, batches = self.algorithm, self.images.batches
        if awp is not None and state.epoch < awp.first_epoch:
            algorithm = replace(algorithm, awp_gamma=0.0)
        steps = batches.steps(state.epoch)
        while state.step < steps:
            self._stop_or_save()
            rate = learning_rate(self.spec.train, state.epoch, state.step, steps)
            for settings in self.optimizer.param_groups:
                settings["lr"] = rate
            images, labels = batches.batch(state.epoch, state.step)
            # the first process draws what a single one would
            place = (state.epoch, state.step, *([group.rank] if group.rank else []))
            stream = generator(self.cell.seed, "attack", *place, device=self.device)
            weight = group.count * len(labels) / group.total(len(labels))
            result = train_step(
                self.model,
                self.optimizer,
                algorithm,
                images,
                labels,
                self._lam,
                stream,
                self._modules,
                weight,
                self._graphs,
            )
            self._lam = result.lam
            if group.count > 1:
                result = StepResult(*group.mean(torch.stack(list(result))))
            state.trace.add(state.epoch, rate, result)
            state.step += 1
            self._has_stepped = True
            bar.advance(1, self._note())
        state.trace.flush()

    def _end_epoch(self, bar: ProgressBar) -> None:
        """Measure the network if this epoch is one for it, save, and begin the next epoch."""
        state = self.state
        self.group.share_buffers(self.model)
        self._check_weights()
        if state.epoch in measured_epochs(self.spec.train):
            shown = str(self._measure_epoch())
        else:
            shown = f"losses: {self._losses()} (not measured)"
        bar.line(f"{self.cell.id}  epoch {state.epoch}/{self.spec.train.epochs}  {shown}")
        state.epoch, state.step = state.epoch + 1, 0
        self._save()

    def _measure_epoch(self) -> Measured:
        """Measure the network, and keep it where it is the best.

        The state changes only after all is measured: a stop in between measures again.
        """
        state, store = self.state, self.images.val
        test = self._measure(self.images.test, "validation/test")
        val = None if store is None else self._measure(store, "validation/val")
        row: dict[str, float] = {"epoch": state.epoch, **test.columns("test")}
        self._keep_if_best("best-test", test)
        if val is not None:
            row |= val.columns("val")
            self._keep_if_best("best-val", val)
        state.epochs.append(row)
        return test

    def _measure(self, store: EvaluationStore, purpose: str) -> Measured:
        """Measure the network on a split as the method chooses checkpoints."""
        # processes that measure parts of different sizes cannot agree in between
        stops = self._has_stepped and self.group.count == 1
        eval_batch = self.eval_batch
        if self.compiled and self._graphs is None:
            # batches that the network is compiled for already
            eval_batch = min(eval_batch, max(self.spec.train.batch_sizes))
        try:
            return measure(
                self._modules.network,
                store,
                self.spec.validation,
                (self.cell.seed, purpose, self.state.epoch),
                eval_batch,
                self.group,
                (lambda _: self._stop_or_save()) if stops else (lambda _: None),
                self._graphs,
            )
        except Stopped:
            raise
        except HarnessError as error:
            raise HarnessError(
                f"{self.cell.id}: after epoch {self.state.epoch} {error}; {self._last_good()}"
            ) from error

    def _keep_if_best(self, choice: Checkpoint, measured: Measured) -> None:
        """Keep a copy of the network if it beats the best so far; the earlier wins a tie."""
        best = self.state.best.get(choice)
        if best is None or measured.chooses > best.accuracy:
            weights = {key: v.detach().cpu().clone() for key, v in self.model.state_dict().items()}
            self.state.best[choice] = Best(self.state.epoch, measured.chooses, weights)

    def _stop_or_save(self) -> None:
        reason = self.stop()
        if self.group.largest(reason is not None):
            self._save()
            # the others would take the end of one process for its loss
            self.group.wait()
            raise Stopped(
                f"{self.cell.id}: {reason or 'stopped with the others'} in epoch "
                f"{self.state.epoch} of {self.spec.train.epochs}; everything is saved, {CONTINUES}"
            )
        if time.monotonic() - self._saved_at > 60 * self.save_minutes:
            self._save()

    def _save(self) -> None:
        """Save the state, unless the weights are not finite."""
        self.state.trace.flush()
        if self.state.step:
            self._check_weights()
        self.state.segments[-1]["seconds"] = round(time.monotonic() - self._began, 3)
        if self.group.first:
            save_state(
                self.state_path, self.state, self.model, self.optimizer, self.images.checksum
            )
        self._saved_at = time.monotonic()

    def _check_weights(self) -> None:
        """Refuse to go on with weights or BatchNorm statistics that are NaN or infinite."""
        finite = [torch.isfinite(value).all() for value in self.model.state_dict().values()]
        # one question to the device
        if not torch.stack(finite).all():
            raise NonFiniteLossError(len(self.state.trace.rows), self.state.epoch)

    def _last_good(self) -> str:
        if self.state_path.exists():
            return f"the last good checkpoint is {self.state_path}"
        return "it happened before the first checkpoint was saved"

    def _note(self) -> str:
        note, epochs = self._losses(), self.state.epochs
        if epochs:
            last = [v for name, v in epochs[-1].items() if name.startswith("test_")]
            note += f" | test {'/'.join(f'{value:.1f}' for value in last)}"
        return note

    def _losses(self) -> str:
        """Return both terms of the loss, means over the last iterations, and WAR's lambda."""
        trace = self.state.trace
        if not trace.rows:
            return ""
        natural, robust = trace.latest("natural_risk"), trace.latest("robust_regularization")
        text = f"natural {natural:.3f}, robust term {robust:.4f}"
        return text + (f", lambda {trace.latest('lambda', 1):.2f}" if self.spec.war else "")
