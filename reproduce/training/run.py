"""One training run from a cell's name to its files."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from reproduce import paths
from reproduce.catalogue import METHODS
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.data import (
    Dataset,
    ImageStore,
    hold_out,
    load_prepared,
    stratified_subset,
)
from reproduce.devices import claimed, describe
from reproduce.files import exclusive, sha256_of_file, write_json
from reproduce.models import build_model, save_weights
from reproduce.provenance import provenance
from reproduce.runs import damaged_model, problem_with, read_run
from reproduce.specs import TrainingSpec, training_spec
from reproduce.training.batches import build_batches
from reproduce.training.loop import Pace, Stores, TrainingLoop
from reproduce.training.recipe import build_optimizer, build_recipe
from reproduce.training.state import RunState, load_state, state_file
from reproduce.training.stopping import StopReason, stop_requests
from reproduce.training.trace import write_epochs
from reproduce.training.zeta import find_zeta


def train_cell(
    config: Config,
    cell: Cell,
    say: Callable[[str], None] = print,
    stop: StopReason | None = None,
) -> None:
    """Train a cell, or continue it, and write its files.

    Parameters
    ----------
    config : Config
        The configuration.
    cell : Cell
        What to train.
    say : callable
        Told what is begun, continued or already there.
    stop : callable, optional
        Gives a reason to stop; the clock and signals unless given.

    Raises
    ------
    Stopped
        If the run was asked to stop and can be continued.
    HarnessError
        If the network its zeta is measured from is not trained, the cell is locked by
        another process, its data are missing or damaged, a GPU is missing, the disk is
        full, or the loss becomes NaN.
    """
    spec = training_spec(config, cell)
    folder = paths.cell_folder(config, cell)
    with exclusive(folder / ".lock", f"cell {cell}"):
        run = read_run(folder)
        problem = problem_with(config, spec, run)
        if run is not None and problem is None:
            damaged = damaged_model(folder, run)
            if damaged is None:
                say(f"{cell}: already trained, {folder}")
                return
            problem = f"has a damaged {damaged.name}"
        if run is not None:
            say(f"{cell} {problem}: training it again")
        with claimed(config.machine) as device:
            if stop is not None:
                _train(config, spec, folder, device, say, stop)
                return
            with stop_requests(config.machine.max_minutes) as reason:
                _train(config, spec, folder, device, say, reason)


def _train(
    config: Config,
    spec: TrainingSpec,
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
    stop: StopReason,
) -> None:
    dataset = load_prepared(paths.prepared_file(config, spec.parsed.dataset))
    stores = load_stores(spec, dataset, device)
    batches, extra = build_batches(config, spec, stores.train)
    if extra is not None:
        stores = replace(stores, checksum=f"{stores.checksum} {extra['sha256']}")
    model = build_model(spec.parsed.architecture, dataset.facts, spec.parsed.seed)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, spec.train)
    path = state_file(folder, spec.digest)
    state = RunState()
    hardware = describe(device)
    if path.exists():
        state = load_state(path, model, optimizer, stores.checksum)
        say(f"{spec.cell}: continuing in epoch {state.epoch} after step {state.step}")
        before = state.pieces[-1]["device"]
        if before != device.type:
            say(f"{spec.cell}: begun on {before}; {device.type} draws other random numbers")
    else:
        state.zeta = find_zeta(config, spec.parsed)
        say(f"{spec.cell}: {spec.train.epochs} epochs on {hardware['name']}")
    began = time.monotonic()
    piece: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        **hardware,
        # of the code that computes this piece, not of what may lie here when it ends
        **provenance(),
    }
    state.pieces.append(piece)

    def update_piece() -> None:
        piece["seconds"] = round(time.monotonic() - began, 3)

    pace = Pace(config.machine.eval_batch, config.machine.save_minutes, stop)
    recipe = build_recipe(spec, state.zeta)
    loop = TrainingLoop(spec, model, optimizer, recipe, batches, stores, state, path, pace)
    loop.run(update_piece)
    update_piece()
    images = dataset.about() | ({} if extra is None else {"extra": extra})
    _write_results(spec, folder, images, model, state)
    path.unlink(missing_ok=True)


def load_stores(spec: TrainingSpec, dataset: Dataset, device: torch.device) -> Stores:
    """Cut a data set into the images of a run and put them on the device."""
    train = stratified_subset(dataset.train, spec.train_images, "train")
    test = stratified_subset(dataset.test, spec.test_images, "test")
    val = None
    if spec.train.holdout:
        train, held_out = hold_out(train, spec.train.holdout)
        val = ImageStore(held_out, dataset.facts, device)
    return Stores(
        ImageStore(train, dataset.facts, device),
        ImageStore(test, dataset.facts, device),
        val,
        dataset.sha256,
    )


def _write_results(
    spec: TrainingSpec,
    folder: Path,
    images: dict[str, Any],
    model: torch.nn.Module,
    state: RunState,
) -> None:
    """Write the files of a finished run; run.json comes last and says that all are there."""
    header = {"cell": spec.cell, "digest": spec.digest}
    weights = {choice: best.weights for choice, best in state.best.items()}
    weights["last"] = dict(model.state_dict())
    for choice, tensors in weights.items():
        save_weights(paths.model_file(folder, choice), tensors, header | {"checkpoint": choice})
    state.trace.write(paths.trace_file(folder))
    write_epochs(paths.epochs_file(folder), state.epochs)
    seconds = sum(piece["seconds"] for piece in state.pieces)
    on_gpu = sum(piece["seconds"] for piece in state.pieces if piece["device"] == "cuda")
    chosen = {choice: best.epoch for choice, best in state.best.items()}
    lambdas = state.trace.of_epoch("lambda", spec.train.epochs)
    write_json(
        paths.run_file(folder),
        {
            **header,
            "method": METHODS[spec.parsed.method].title,
            "spec": spec.model_dump(mode="json"),
            "checkpoint_epochs": chosen | {"last": spec.train.epochs},
            "final_metrics": state.epochs[-1],
            # the mean over the last epoch, as the paper reports WAR's
            "final_lambda": math.fsum(lambdas) / len(lambdas),
            "zeta": state.zeta,
            "data": images,
            "models": {
                choice: sha256_of_file(paths.model_file(folder, choice)) for choice in weights
            },
            "hardware": sorted({piece["name"] for piece in state.pieces}),
            "seconds": round(seconds, 3),
            "gpu_hours": round(on_gpu / 3600, 4),
            "pieces": state.pieces,
        },
    )
