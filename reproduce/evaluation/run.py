"""One evaluation from a checkpoint's name to its record."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Checkpoint, Config
from reproduce.data import ImageStore, load_prepared, stratified_subset
from reproduce.devices import claimed, describe
from reproduce.errors import HarnessError
from reproduce.evaluation.predictions import Noise, attack_images
from reproduce.evaluation.records import Record, read_record, write_record
from reproduce.files import exclusive, sha256_of_file
from reproduce.models import build_model, load_weights
from reproduce.progress import ProgressBar
from reproduce.provenance import provenance
from reproduce.rng import uniform_per_image
from reproduce.runs import RunInfo, problem_with, read_run
from reproduce.specs import EvaluationSpec, evaluation_spec, training_spec


def evaluate_cell(
    config: Config,
    cell: Cell,
    attack: str,
    seed: int,
    checkpoint: Checkpoint,
    say: Callable[[str], None] = print,
) -> Record:
    """Attack a checkpoint of a trained cell and write the record.

    Parameters
    ----------
    config : Config
        The configuration.
    cell : Cell
        The training run.
    attack : str
        Name of an attack of the configuration.
    seed : int
        Seed of the attack's random start.
    checkpoint : {"best-test", "last", "best-val"}
        Which weights of the run.
    say : callable
        Told the outcome.

    Raises
    ------
    HarnessError
        If the cell is not trained, its checkpoint is damaged or was trained with
        other settings or images, or the same evaluation runs elsewhere.
    """
    spec = evaluation_spec(config, cell, attack, seed, checkpoint)
    folder = paths.cell_folder(config, cell)
    path = paths.record_file(folder, checkpoint, attack, seed)
    run = _usable_run(config, spec, cell)
    lock = path.with_name(f".{path.stem}.lock")
    with exclusive(lock, f"{attack} of seed {seed} on {cell}"):
        record = _existing(path, spec, run)
        if record is None:
            write_record(path, _attack(config, spec, cell, run))
            record = read_record(path)
        else:
            say(f"already evaluated, {path}")
    say(f"{cell}  {checkpoint}  {attack} seed {seed}:  {record.metrics}")
    return record


def _usable_run(config: Config, spec: EvaluationSpec, cell: Cell) -> RunInfo:
    """Return the run to attack; refuse one that is missing, outdated or damaged."""
    folder = paths.cell_folder(config, cell)
    run = read_run(folder)
    problem = problem_with(config, training_spec(config, cell), run)
    if run is None or problem is not None:
        raise HarnessError(f"{cell} {problem}; run `reproduce train {cell}` first")
    weights = paths.model_file(folder, spec.checkpoint)
    if run.models.get(spec.checkpoint) != sha256_of_file(weights):
        raise HarnessError(
            f"checkpoint {weights} does not match its checksum in run.json; "
            f"run `reproduce train {cell}` to train it again"
        )
    return run


def _existing(path: Path, spec: EvaluationSpec, run: RunInfo) -> Record | None:
    """Return the record on disk if it is whole, of these settings and of these weights."""
    try:
        record = read_record(path)
    except HarnessError:
        return None
    wanted = (spec.digest, run.models[spec.checkpoint])
    return (
        record if (record.info.get("digest"), record.info.get("model_sha256")) == wanted else None
    )


def _attack(config: Config, spec: EvaluationSpec, cell: Cell, run: RunInfo) -> Record:
    weights = paths.model_file(paths.cell_folder(config, cell), spec.checkpoint)
    dataset = load_prepared(paths.prepared_file(config, cell.dataset))
    test = stratified_subset(dataset.test, spec.test_images, "test")
    with claimed(config.machine) as device:
        model = build_model(cell.architecture, dataset.facts)
        load_weights(model, weights)
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        store = ImageStore(test, dataset.facts, device)
        began = time.monotonic()
        with ProgressBar(f"{spec.name} on {cell}", len(test), "images") as bar:
            found = attack_images(
                model,
                store,
                spec.attack,
                spec.epsilon,
                _noise(spec, test.indices),
                config.machine.eval_batch,
                bar.advance,
            )
        seconds = time.monotonic() - began
        hardware = describe(device)
    info = {
        "cell": cell.id,
        "digest": spec.digest,
        "spec": spec.model_dump(mode="json"),
        "model_sha256": run.models[spec.checkpoint],
        "data": dataset.about(),
        "hardware": hardware,
        "seconds": round(seconds, 3),
        **provenance(),
    }
    return Record(test.indices, found.labels, found.clean, found.adversarial, info)


def _noise(spec: EvaluationSpec, indices: np.ndarray) -> Noise:
    """Give every image a start of its own, whatever batch it is in and on whatever device."""

    def noise(first: int, images: Tensor) -> Tensor:
        members = indices[first : first + len(images)].tolist()
        shape = tuple(images.shape[1:])
        return uniform_per_image(spec.seed, spec.name, members, shape).to(images.device)

    return noise
