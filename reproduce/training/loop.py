"""The loop over epochs and steps of one run, and what makes it stop early."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import torch
from rich.console import Console

from reproduce.compute.compilation import Graphs, compiling, wants_graphs
from reproduce.compute.device import describe, effective_precision, images_at_once
from reproduce.compute.distributed import ALONE, Group
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import CONTINUES, HarnessError, Stopped
from reproduce.core.progress import ProgressBar
from reproduce.core.provenance import provenance
from reproduce.core.rng import generator
from reproduce.data.imagenet import EvaluationStore, FolderBatches, decoder_lost
from reproduce.experiments import paths
from reproduce.experiments.cost import epoch_passes
from reproduce.experiments.runs import TRACE_COLUMNS, state_file
from reproduce.experiments.schedules import learning_rate, measured_epochs
from reproduce.experiments.spec import TrainingSpec
from reproduce.models.load import build_model
from reproduce.training.images import open_images
from reproduce.training.lambda_rules import find_zeta
from reproduce.training.speed import training_compiles
from reproduce.training.state import Best, RunState, load_state, not_finite, save_state
from reproduce.training.step import (
    StepResult,
    build_algorithm,
    build_optimizer,
    step_modules,
    train_step,
)
from reproduce.training.validation import measure

# why to stop now, or None to go on; asked before every step
StopReason = Callable[[], str | None]


@contextmanager
def stop_requests(max_minutes: float | None) -> Iterator[StopReason]:
    """Turn SIGTERM, SIGHUP, SIGINT and the end of `max_minutes` into reasons to stop.

    The second signal of a kind kills.
    """
    deadline = time.monotonic() + 60 * (max_minutes or math.inf)
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
        return f"stopped after {max_minutes:g} minutes" if time.monotonic() >= deadline else None

    watched = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, receive) for number in watched}
    try:
        yield reason
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class TrainingLoop:
    """Trains one network on one device, from its saved state if there is one."""

    def __init__(
        self,
        config: Config,
        spec: TrainingSpec,
        device: torch.device,
        group: Group = ALONE,
        stop: StopReason = lambda: None,
    ) -> None:
        machine, cell = config.machine, spec.parsed
        self.spec, self.cell, self.device, self.group, self.stop = spec, cell, device, group, stop
        self.images = open_images(config, spec, device, group)
        self.model = build_model(cell.architecture, self.images.facts, cell.seed)
        self.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.model, spec.train)
        self.state_path = state_file(paths.cell_folder(config, cell), spec.digest)
        self.continues, data = self.state_path.exists(), self.images.checksum
        if self.continues:
            self.state = load_state(self.state_path, self.model, self.optimizer, data)
        else:
            self.state = RunState(zeta=find_zeta(config, cell), data=data)
        self.algorithm = build_algorithm(spec, self.state.zeta)
        rows = self.state.trace.rows
        lam = rows[-1][TRACE_COLUMNS.index("lambda")] if rows else cell.lam
        self._lam = torch.tensor(lam, dtype=torch.float64, device=device)
        self.eval_batch = images_at_once(machine, device, self.images.test.image_shape[-1])
        passes = sum(epoch_passes(spec, self.images.facts)[self.state.epoch - 1 :])
        self.compiled = training_compiles(machine, spec, passes, device, group)
        # one module for all steps: what averages gradients is made once
        sizes = spec.train.batch_sizes
        objective = self.algorithm.objective
        self._modules = step_modules(self.model, objective, sizes if self.compiled else ())
        self._modules = self._modules._replace(terms=group.wrapped(self._modules.terms))
        recorded = wants_graphs(machine, device, group.count)
        self._graphs = Graphs(self.model, {*sizes, self.eval_batch}) if recorded else None
        self._save_seconds = 60 * machine.save_minutes
        self._began = self._saved_at = time.monotonic()
        # a segment too short for one validation must not stop in it again and again
        self._has_stepped = False
        self.segment: dict[str, Any] = {
            # for people: nothing is ordered or timed by it, so a clock that is set changes nothing
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            **describe(device),
            "processes": group.count,
            "precision": effective_precision(spec.train.precision, device),
            "compiled": self.compiled,
            "graphs": recorded,
            "eval_batch": self.eval_batch,
            # of the code that runs now, not of what may lie here when the segment ends
            **provenance(),
            # brought up to date at every save
            "seconds": 0.0,
        }

    def run(self) -> None:
        """Train to the last epoch; if asked to stop, save the state and raise Stopped."""
        state, epochs, batches = self.state, self.spec.train.epochs, self.images.batches
        state.segments.append(self.segment)
        steps = [batches.steps(epoch) for epoch in range(1, epochs + 1)]
        done = sum(steps[: state.epoch - 1]) + state.step
        silent = None if self.group.first else Console(quiet=True)
        bar = ProgressBar(self.cell.id, sum(steps), "steps", done, silent)
        try:
            with bar, compiling() if self.compiled else nullcontext():
                while state.epoch <= epochs:
                    self._train_epoch(bar)
                    self._end_epoch(bar)
        except Stopped:
            raise
        except (HarnessError, RuntimeError) as error:
            problem = str(error)
            if not isinstance(error, HarnessError):
                # PyTorch raises this wherever the run is when one of them dies
                if "DataLoader worker" not in problem:
                    raise
                problem = decoder_lost(error)
            left = "it happened before the first checkpoint was saved"
            if self.state_path.exists():
                left = f"the last good checkpoint is {self.state_path}"
            raise HarnessError(f"{self.cell.id}: {problem}; {left}") from error
        finally:
            if isinstance(batches, FolderBatches):
                batches.close()

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
            bar.advance(1, self._losses())
        state.trace.flush()

    def _end_epoch(self, bar: ProgressBar) -> None:
        """Measure the network if this epoch is one for it, save, and begin the next epoch."""
        state = self.state
        self.group.share_buffers(self.model)
        self._check_weights()
        shown = f"losses: {self._losses()} (not measured)"
        if state.epoch in measured_epochs(self.spec.train):
            measured = self._measure_epoch()
            shown = "  ".join(f"{name} {value:.2f}" for name, value in measured.items())
            shown = shown.replace("_accuracy", "").replace("perturbation_", "")
        bar.line(f"{self.cell.id}  epoch {state.epoch}/{self.spec.train.epochs}  {shown}")
        state.epoch, state.step = state.epoch + 1, 0
        self._save()

    def _measure_epoch(self) -> dict[str, float]:
        """Measure the network, keep it where it is the best, and return the metrics on the test."""
        splits: dict[str, EvaluationStore] = {"test": self.images.test}
        if self.images.val is not None:
            splits["val"] = self.images.val
        # the state changes only after all is measured: a stop in between measures again
        found = {split: self._measure(split, store) for split, store in splits.items()}
        row: dict[str, float] = {"epoch": self.state.epoch}
        for split, metrics in found.items():
            row |= {f"{split}_{name}": value for name, value in metrics.items()}
            choice: Checkpoint = "best-test" if split == "test" else "best-val"
            best, accuracy = self.state.best.get(choice), next(iter(metrics.values()))
            # the earlier wins a tie
            if best is None or accuracy > best.accuracy:
                weights = self.model.state_dict().items()
                self.state.best[choice] = Best(epoch=self.state.epoch, accuracy=accuracy)
                self.state.weights[choice] = {k: v.detach().cpu().clone() for k, v in weights}
        self.state.epochs.append(row)
        return found["test"]

    def _measure(self, split: str, store: EvaluationStore) -> dict[str, float]:
        """Measure the network on a split as the method chooses checkpoints."""
        # processes that measure parts of different sizes cannot agree in between
        stops = self._has_stepped and self.group.count == 1
        eval_batch = self.eval_batch
        if self.compiled and self._graphs is None:
            # batches that the network is compiled for already
            eval_batch = min(eval_batch, max(self.spec.train.batch_sizes))
        return measure(
            self._modules.network,
            store,
            self.spec.validation,
            (self.cell.seed, f"validation/{split}", self.state.epoch),
            eval_batch,
            self.group,
            self._stop_or_save if stops else lambda: None,
            self._graphs,
        )

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
        if time.monotonic() - self._saved_at > self._save_seconds:
            self._save()

    def _save(self) -> None:
        """Save the state, unless the weights are not finite."""
        self.state.trace.flush()
        if self.state.step:
            self._check_weights()
        self.segment["seconds"] = round(time.monotonic() - self._began, 3)
        if self.group.first:
            save_state(self.state_path, self.state, self.model, self.optimizer)
        self._saved_at = time.monotonic()

    def _check_weights(self) -> None:
        """Refuse to go on with weights or BatchNorm statistics that are NaN or infinite."""
        finite = [torch.isfinite(value).all() for value in self.model.state_dict().values()]
        # one question to the device
        if not torch.stack(finite).all():
            raise not_finite(len(self.state.trace.rows), self.state.epoch)

    def _losses(self) -> str:
        """Return both terms of the loss, means over the last iterations, and WAR's lambda."""
        trace = self.state.trace
        if not trace.rows:
            return ""
        natural, robust = trace.latest("natural_risk"), trace.latest("robust_regularization")
        text = f"natural {natural:.3f}, robust term {robust:.4f}"
        return text + (f", lambda {trace.latest('lambda', 1):.2f}" if self.spec.war else "")
