"""The training loop: epochs of steps, metrics after each, the best checkpoints kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from reproduce.config import Checkpoint
from reproduce.data import BatchSource, ImageStore
from reproduce.errors import HarnessError, Stopped
from reproduce.evaluation import Metrics, attack_images, compute_metrics
from reproduce.progress import ProgressBar
from reproduce.rng import generator
from reproduce.specs import TrainingSpec
from reproduce.training.recipe import Recipe
from reproduce.training.schedules import learning_rate
from reproduce.training.state import Best, RunState, save_state
from reproduce.training.step import train_step
from reproduce.training.stopping import StopReason
from reproduce.training.trace import COLUMNS, NonFiniteLossError


@dataclass(frozen=True)
class Stores:
    """The images of a run on its device; `val` only where some were held out."""

    train: ImageStore
    test: ImageStore
    val: ImageStore | None
    checksum: str


@dataclass(frozen=True)
class Pace:
    """How a run is cut into pieces and batches, which changes no result beyond rounding."""

    eval_batch: int
    save_minutes: float
    stop: StopReason


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
        lam = state.trace.rows[-1][COLUMNS.index("lambda")] if state.trace.rows else self.cell.lam
        self._lam = torch.tensor(lam, dtype=torch.float64, device=self.device)
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
        bar = ProgressBar(self.cell.id, sum(steps), "steps", done)
        try:
            with bar:
                while state.epoch <= epochs:
                    self._train_epoch(bar)
                    self._end_epoch(bar)
        except NonFiniteLossError as error:
            raise HarnessError(f"{self.cell.id}: {error}; {self._last_good()}") from error

    def _train_epoch(self, bar: ProgressBar) -> None:
        """Run the steps of the current epoch that are not done yet."""
        state = self.state
        rate = learning_rate(self.spec.train, state.epoch)
        recipe = self._recipe_of(state.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        while state.step < self.batches.steps(state.epoch):
            self._stop_or_save()
            images, labels = self.batches.batch(state.epoch, state.step)
            stream = generator(
                self.cell.seed, "attack", state.epoch, state.step, device=self.device
            )
            result = train_step(
                self.model, self.optimizer, recipe, images, labels, self._lam, stream
            )
            self._lam = result.lam
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
        """Measure the network, keep it where it is the best, and begin the next epoch.

        Nothing of the state changes before all is measured: a stop in between measures again.
        """
        state = self.state
        self._check_weights()
        test = self._measure(self.stores.test, "validation/test")
        val = None if self.stores.val is None else self._measure(self.stores.val, "validation/val")
        row: dict[str, float] = {"epoch": state.epoch, **_columns("test", test)}
        self._keep_if_best("best-test", test)
        if val is not None:
            row |= _columns("val", val)
            self._keep_if_best("best-val", val)
        state.epochs.append(row)
        bar.line(f"{self.cell.id}  epoch {state.epoch}/{self.spec.train.epochs}  {test}")
        state.epoch, state.step = state.epoch + 1, 0
        self._save()

    def _measure(self, store: ImageStore, purpose: str) -> Metrics:
        """Attack a split once with the attack that chooses checkpoints."""
        cell, epoch, validation = self.cell, self.state.epoch, self.spec.validation

        # drawn for the whole split at once, so that the size of a batch has no say in it
        stream = generator(cell.seed, purpose, epoch, device=self.device)
        shape = (len(store), *store.image_shape)
        starts = torch.empty(shape, device=self.device).uniform_(-1, 1, generator=stream)

        def noise(first: int, images: Tensor) -> Tensor:
            return starts[first : first + len(images)]

        try:
            found = attack_images(
                self.model,
                store,
                validation.attack,
                validation.epsilon,
                noise,
                self.pace.eval_batch,
                lambda _: self._stop_or_save() if self._has_stepped else None,
            )
        except Stopped:
            raise
        except HarnessError as error:
            raise HarnessError(
                f"{cell.id}: after epoch {epoch} {error}; {self._last_good()}"
            ) from error
        return compute_metrics(found.labels, found.clean, found.adversarial)

    def _keep_if_best(self, choice: Checkpoint, metrics: Metrics) -> None:
        """Keep a copy of the network if it beats the best so far; the earlier wins a tie."""
        best = self.state.best.get(choice)
        if best is None or metrics.robust_accuracy > best.robust_accuracy:
            weights = {key: v.detach().cpu().clone() for key, v in self.model.state_dict().items()}
            self.state.best[choice] = Best(self.state.epoch, metrics.robust_accuracy, weights)

    def _stop_or_save(self) -> None:
        reason = self.pace.stop()
        if reason:
            self._save()
            raise Stopped(
                f"{self.cell.id}: {reason} in epoch {self.state.epoch} of "
                f"{self.spec.train.epochs}; everything is saved, "
                "run the same command again to continue"
            )
        if time.monotonic() - self._saved_at > 60 * self.pace.save_minutes:
            self._save()

    def _save(self) -> None:
        """Save the state, unless the weights are spoilt."""
        self.state.trace.flush()
        if self.state.step:
            self._check_weights()
        self._on_piece()
        save_state(self.path, self.state, self.model, self.optimizer, self.stores.checksum)
        self._saved_at = time.monotonic()

    def _check_weights(self) -> None:
        """Refuse to go on with weights or BatchNorm statistics that are NaN or infinite."""
        if not all(torch.isfinite(value).all() for value in self.model.state_dict().values()):
            raise NonFiniteLossError(len(self.state.trace.rows), self.state.epoch)

    def _last_good(self) -> str:
        if self.path.exists():
            return f"the last good checkpoint is {self.path}"
        return "it happened before the first checkpoint was saved"

    def _note(self) -> str:
        trace, epochs = self.state.trace, self.state.epochs
        natural, robust = trace.latest("natural_risk"), trace.latest("robust_regularization")
        note = f"nat {natural:.3f} rob {robust:.4f}"
        if self.spec.war is not None:
            note += f" lambda {trace.latest('lambda', 1):.2f}"
        if epochs:
            last = epochs[-1]
            note += (
                f" | test {last['test_robust_accuracy']:.1f}/{last['test_natural_accuracy']:.1f}"
                f"/{last['test_perturbation_stability']:.1f}"
            )
        return note


def _columns(split: str, metrics: Metrics) -> dict[str, float]:
    values = metrics.as_dict()
    return {
        f"{split}_{name}": values[name]
        for name in ("robust_accuracy", "natural_accuracy", "perturbation_stability")
    }
