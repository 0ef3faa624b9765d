"""When a run must end before it is finished: its time is over, or someone asks it to."""

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
from reproduce.data.batches import BatchSource
from reproduce.data.imagenet import EvaluationStore, decoder_lost
from reproduce.experiments.runs import TRACE_COLUMNS
from reproduce.experiments.schedules import learning_rate, measured_epochs
from reproduce.experiments.spec import TrainingSpec
from reproduce.training.images import Stores
from reproduce.training.state import Best, RunState, save_state
from reproduce.training.step import Recipe, StepResult, compiled_calls, plain_calls, train_step
from reproduce.training.trace import NonFiniteLossError
from reproduce.training.validation import Measured, measure

# Why to stop now, or None to go on; asked once an iteration
StopReason = Callable[[], str | None]


@contextmanager
def stop_requests(max_minutes: float | None) -> Iterator[StopReason]:
    """Watch the clock and the signals that ask a process to end.

    SIGTERM (a scheduler), SIGHUP (a lost connection) and SIGINT (Ctrl-C) then no longer
    kill at once: the current iteration is finished and the state saved.  The second
    signal of a kind does kill.

    Parameters
    ----------
    max_minutes : float or None
        Minutes from now after which to stop.
    """
    deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    received: list[str] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        received.append(name)
        signal.signal(number, before[signal.Signals(number)])
        # what is under way can take a minute, compiling; print is not safe in a handler
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


@dataclass(frozen=True)
class Pace:
    """How a run is cut into pieces and batches, and how and by how many processes it is done.

    Attributes
    ----------
    eval_batch : int
        Images at once when the network is measured.
    save_minutes : float
        After how long the state is saved within an epoch.
    stop : callable
        Gives a reason to stop, or None.
    group : Group
        The processes.
    compiled : bool
        Whether the network is compiled.
    graphs : bool
        Whether steps and validation are recorded as CUDA graphs.
    """

    eval_batch: int
    save_minutes: float
    stop: StopReason
    group: Group = ALONE
    compiled: bool = False
    graphs: bool = False


class TrainingLoop:
    """Trains one network from wherever its state stands.

    Parameters
    ----------
    spec : TrainingSpec
        What to compute.
    model, optimizer
        Already in the condition that `state` describes.
    recipe : Recipe
        How a step is taken.
    batches : BatchSource
        What the network is trained on, on its device.
    stores : Stores
        The images it is measured on, on its device.
    state : RunState
        Where to begin; updated in place.
    path : Path
        File of the saved state.
    pace : Pace
        When to save and stop.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        batches: BatchSource,
        stores: Stores,
        state: RunState,
        path: Path,
        pace: Pace,
    ) -> None:
        self.spec = spec
        self.model = model
        self.optimizer = optimizer
        self.recipe = recipe
        self.batches = batches
        self.stores = stores
        self.state = state
        self.path = path
        self.pace = pace
        self.cell = spec.parsed
        self.device = next(model.parameters()).device
        lam = (
            state.trace.rows[-1][TRACE_COLUMNS.index("lambda")]
            if state.trace.rows
            else self.cell.lam
        )
        self._lam = torch.tensor(lam, dtype=torch.float64, device=self.device)
        # one module for all steps: what averages gradients is made once
        sizes = spec.train.batch_sizes
        if pace.compiled:
            self._calls = compiled_calls(model, recipe.objective, sizes)
        else:
            calls = plain_calls(model, recipe.objective)
            self._calls = calls._replace(terms=pace.group.wrapped(calls.terms))
        self._graphs = Graphs(model, {*sizes, pace.eval_batch}) if pace.graphs else None
        self._saved_at = time.monotonic()
        # a piece too short for one validation must not stop in it again and again
        self._has_stepped = False

    def run(self, on_piece: Callable[[], None]) -> None:
        """Train to the last epoch.

        Parameters
        ----------
        on_piece : callable
            Called before every save, to bring the record of this piece up to date.

        Raises
        ------
        Stopped
            If asked to stop; the state is saved and the same call continues it.
        HarnessError
            If the loss becomes NaN or infinite; the last good state stays saved.
        """
        self._on_piece = on_piece
        state, epochs = self.state, self.spec.train.epochs
        steps = [self.batches.steps(epoch) for epoch in range(1, epochs + 1)]
        done = sum(steps[: state.epoch - 1]) + state.step
        silent = None if self.pace.group.first else Console(quiet=True)
        bar = ProgressBar(self.cell.id, sum(steps), "steps", done, silent)
        try:
            with bar, compiling() if self.pace.compiled else nullcontext():
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
        """Run the steps of the current epoch that are not done yet."""
        state = self.state
        recipe, group = self._recipe_of(state.epoch), self.pace.group
        steps = self.batches.steps(state.epoch)
        while state.step < steps:
            self._stop_or_save()
            rate = learning_rate(self.spec.train, state.epoch, state.step, steps)
            for settings in self.optimizer.param_groups:
                settings["lr"] = rate
            images, labels = self.batches.batch(state.epoch, state.step)
            # the first process draws what a single one would
            place = (state.epoch, state.step, *([group.rank] if group.rank else []))
            stream = generator(self.cell.seed, "attack", *place, device=self.device)
            weight = group.count * len(labels) / group.total(len(labels))
            result = train_step(
                self.model,
                self.optimizer,
                recipe,
                images,
                labels,
                self._lam,
                stream,
                self._calls,
                weight,
                self._graphs,
            )
            self._lam = result.lam
            if group.count > 1:
                result = StepResult(*group.mean(torch.stack([v.double() for v in result])))
            state.trace.add(state.epoch, rate, result)
            state.step += 1
            self._has_stepped = True
            bar.advance(1, self._note())
        state.trace.flush()

    def _recipe_of(self, epoch: int) -> Recipe:
        """Return how steps are taken in an epoch: the weights are perturbed from some epoch on."""
        awp = self.spec.awp
        waits = awp is not None and epoch < awp.first_epoch
        return replace(self.recipe, gamma=0.0) if waits else self.recipe

    def _end_epoch(self, bar: ProgressBar) -> None:
        """Measure the network if this epoch is one for it, save, and begin the next epoch."""
        state = self.state
        self.pace.group.share_buffers(self.model)
        self._check_weights()
        measured = state.epoch in measured_epochs(self.spec.train)
        shown = (
            f"{self._measure_epoch()}" if measured else f"losses: {self._losses()} (not measured)"
        )
        bar.line(f"{self.cell.id}  epoch {state.epoch}/{self.spec.train.epochs}  {shown}")
        state.epoch, state.step = state.epoch + 1, 0
        self._save()

    def _measure_epoch(self) -> Measured:
        """Measure the network, and keep it where it is the best.

        Nothing of the state changes before all is measured: a stop in between measures again.
        """
        state = self.state
        test = self._measure(self.stores.test, "validation/test")
        val = None if self.stores.val is None else self._measure(self.stores.val, "validation/val")
        row: dict[str, float] = {"epoch": state.epoch, **test.columns("test")}
        self._keep_if_best("best-test", test)
        if val is not None:
            row |= val.columns("val")
            self._keep_if_best("best-val", val)
        state.epochs.append(row)
        return test

    def _measure(self, store: EvaluationStore, purpose: str) -> Measured:
        """Measure the network on a split as the method chooses checkpoints."""
        cell, epoch, group = self.cell, self.state.epoch, self.pace.group
        # processes that measure parts of different sizes cannot agree in between
        stops = self._has_stepped and group.count == 1
        eval_batch = self.pace.eval_batch
        if self.pace.compiled and self._graphs is None:
            # batches that the network is compiled for already
            eval_batch = min(eval_batch, max(self.spec.train.batch_sizes))
        try:
            return measure(
                self._calls.network,
                store,
                self.spec.validation,
                (cell.seed, purpose, epoch),
                eval_batch,
                group,
                (lambda _: self._stop_or_save()) if stops else (lambda _: None),
                self._graphs,
            )
        except Stopped:
            raise
        except HarnessError as error:
            raise HarnessError(
                f"{cell.id}: after epoch {epoch} {error}; {self._last_good()}"
            ) from error

    def _keep_if_best(self, choice: Checkpoint, measured: Measured) -> None:
        """Keep a copy of the network if it beats the best so far; the earlier wins a tie."""
        best = self.state.best.get(choice)
        if best is None or measured.chooses > best.accuracy:
            weights = {key: v.detach().cpu().clone() for key, v in self.model.state_dict().items()}
            self.state.best[choice] = Best(self.state.epoch, measured.chooses, weights)

    def _stop_or_save(self) -> None:
        reason, group = self.pace.stop(), self.pace.group
        if group.largest(reason is not None):
            self._save()
            # the end of one process is taken for the loss of it by the others
            group.wait()
            raise Stopped(
                f"{self.cell.id}: {reason or 'stopped with the others'} in epoch "
                f"{self.state.epoch} of {self.spec.train.epochs}; everything is saved, {CONTINUES}"
            )
        if time.monotonic() - self._saved_at > 60 * self.pace.save_minutes:
            self._save()

    def _save(self) -> None:
        """Save the state, unless the weights are spoilt."""
        self.state.trace.flush()
        if self.state.step:
            self._check_weights()
        self._on_piece()
        if self.pace.group.first:
            save_state(self.path, self.state, self.model, self.optimizer, self.stores.checksum)
        self._saved_at = time.monotonic()

    def _check_weights(self) -> None:
        """Refuse to go on with weights or BatchNorm statistics that are NaN or infinite."""
        finite = [torch.isfinite(value).all() for value in self.model.state_dict().values()]
        # one question to the device
        if not torch.stack(finite).all():
            raise NonFiniteLossError(len(self.state.trace.rows), self.state.epoch)

    def _last_good(self) -> str:
        if self.path.exists():
            return f"the last good checkpoint is {self.path}"
        return "it happened before the first checkpoint was saved"

    def _note(self) -> str:
        note, epochs = self._losses(), self.state.epochs
        if epochs:
            last = [v for name, v in epochs[-1].items() if name.startswith("test_")]
            note += f" | test {'/'.join(f'{value:.1f}' for value in last)}"
        return note

    def _losses(self) -> str:
        """Say both terms of the loss, means over the last iterations, and where WAR's lambda is."""
        trace = self.state.trace
        if not trace.rows:
            return ""
        natural, robust = trace.latest("natural_risk"), trace.latest("robust_regularization")
        words = f"natural {natural:.3f}, robust term {robust:.4f}"
        if self.spec.war is not None:
            words += f", lambda {trace.latest('lambda', 1):.2f}"
        return words
