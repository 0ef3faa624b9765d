"""The pieces of a run: each process that works on it adds a record of how it computed."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from reproduce.cell import Cell
from reproduce.compute.compilation import wants_compiling, wants_graphs
from reproduce.compute.device import claimed, computed_in, default_dtype, describe, images_at_once
from reproduce.compute.distributed import Group, group_here, joined
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config, Machine, Precision
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, remove_abandoned, sha256_of_file, write_json
from reproduce.core.provenance import differences, provenance
from reproduce.data.batches import BatchSource
from reproduce.data.imagenet import FolderBatches
from reproduce.data.sources import load_prepared
from reproduce.experiments import paths
from reproduce.experiments.cost import epoch_passes
from reproduce.experiments.history import as_frame, read_trace, write_epochs, write_trace
from reproduce.experiments.runs import RunPiece, damaged_file, problem_with, read_run, state_file
from reproduce.experiments.spec import TrainingSpec, thin_cell, training_spec
from reproduce.experiments.superseded import (
    found_superseded,
    how_to_restore,
    move_run_aside,
    return_records,
)
from reproduce.models.load import build_model, save_weights
from reproduce.registry import METHODS, DatasetFacts, dataset_facts
from reproduce.training.images import Stores, build_batches, cut, open_stores
from reproduce.training.loop import Pace, StopReason, TrainingLoop, stop_requests
from reproduce.training.measure import seconds_per_pass
from reproduce.training.state import RunState, load_last_good, remove_states
from reproduce.training.step import build_optimizer, build_recipe


def describe_piece(
    device: torch.device,
    group: Group,
    precision: Precision,
    compiled: bool,
    graphs: bool,
    eval_batch: int,
) -> dict[str, Any]:
    """Say how this process computes, for run.json.

    Parameters
    ----------
    device : torch.device
        What it computes on.
    group : Group
        The processes.
    precision : str
        What it truly computes in, as `computed_in` says.
    compiled, graphs : bool
        Whether the network is compiled, and whether steps are recorded as CUDA graphs.
    eval_batch : int
        Images at once when the network is measured.
    """
    return {
        # for people: nothing is ordered or timed by it, so a clock that is set changes nothing
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe(device),
        "processes": group.count,
        "precision": precision,
        "compiled": compiled,
        "graphs": graphs,
        "eval_batch": eval_batch,
        # of the code that computes this piece, not of what may lie here when it ends
        **provenance(),
    }


def begin_piece(state: RunState, piece: dict[str, Any]) -> Callable[[], None]:
    """Add the record of this piece of a run, and return what brings its seconds up to date."""
    began = time.monotonic()
    state.pieces.append(piece)

    def update() -> None:
        piece["seconds"] = round(time.monotonic() - began, 3)

    return update


def machines(device: torch.device, group: Group) -> str:
    """Say what a run computes on, in words."""
    name = str(describe(device)["name"])
    return f"{group.count} x {name}" if group.count > 1 else name


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say by what a run that goes on computes otherwise than it did before.

    Parameters
    ----------
    before, now : mapping
        Its last piece, and the one that begins, as of `describe_piece`.
    """
    if before["device"] != now["device"]:
        yield f"begun on {before['device']}; {now['device']} draws other random numbers"
    if before["processes"] != now["processes"]:
        yield (
            f"begun by {before['processes']} process(es), now {now['processes']}: each normalises "
            "and attacks its own part of a batch, so the run is another from here on"
        )
    yield from differences(before, now)


def find_zeta(config: Config, cell: Cell) -> float | None:
    """Return the ratio that a cell's lambda is steered to; None if its lambda is constant.

    Measured, it is the mean natural risk over the mean robust regularisation in the
    last epoch of the thin network's training.

    Raises
    ------
    HarnessError
        If the thin network is not trained with these settings, its trace is damaged, or
        its robust regularisation vanished.
    """
    spec, thin = training_spec(config, cell), thin_cell(config, cell)
    if spec.war is None:
        return None
    if thin is None:
        return float(spec.war.zeta)
    folder = paths.cell_folder(config, thin)
    run = read_run(folder)
    problem = problem_with(config, training_spec(config, thin), run)
    if run is None or problem is not None:
        raise HarnessError(
            f"{cell}: zeta is measured from {thin}, which {problem}; run `reproduce train {thin}` "
            "first, or set war.zeta to a number"
        )
    path = paths.trace_file(folder)
    if sha256_of_file(path) != run.trace:
        raise HarnessError(f"{path} is damaged; `reproduce train {thin}` makes it again")
    trace = read_trace(path, thin)
    last = trace[trace["epoch"] == trace["epoch"].max()].mean()
    if not last["robust_regularization"] > 0:
        raise HarnessError(f"{cell}: the robust regularisation of {thin} vanished; set war.zeta")
    return float(last["natural_risk"] / last["robust_regularization"])


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
    spec, group = training_spec(config, cell), group_here()
    check_sharing(spec, group)
    with joined(group, config.machine.device), ExitStack() as held:
        say = say if group.first else _say_nothing
        if not _begin(config, spec, group, held, say):
            return
        device = held.enter_context(claimed(config.machine, group))
        if stop is None:
            stop = held.enter_context(stop_requests(config.machine.max_minutes))
        with default_dtype(spec.train.precision):
            _train(config, spec, device, group, say, stop)


def _say_nothing(_: str) -> None:
    """Leave it to the first process to speak."""


def check_sharing(spec: TrainingSpec, group: Group) -> None:
    """Refuse to train a network by several processes where that would change what is computed.

    Raises
    ------
    HarnessError
        If the images are not files, or a step needs more of the others than gradients.
    """
    if group.count == 1:
        return
    if dataset_facts(spec.parsed.dataset).storage == "arrays" or spec.war or spec.awp:
        raise HarnessError(
            f"{spec.cell} trains in one process, {group.count} were started; several share the "
            "batches of a folder of images, with a constant lambda and without weight perturbation"
        )


def _begin(
    config: Config, spec: TrainingSpec, group: Group, held: ExitStack, say: Callable[[str], None]
) -> bool:
    """Lock the cell and say whether there is something to train; the first process decides."""
    verdict, error = "", None
    if group.first:
        try:
            folder = paths.cell_folder(config, spec.parsed)
            held.enter_context(exclusive(paths.training_lock(folder), f"cell {spec.cell}"))
            remove_abandoned(folder)
            verdict = "done" if _is_trained(config, spec, folder, say) else "train"
        except HarnessError as found:
            error = found
    verdict = group.from_first(verdict)
    if error is not None:
        raise error
    if not verdict:
        raise HarnessError(f"{spec.cell}: not begun; the first of its processes says why")
    return verdict == "train"


def _is_trained(
    config: Config, spec: TrainingSpec, folder: Path, say: Callable[[str], None]
) -> bool:
    """Say whether the run on disk is whole and the one that is asked for."""
    try:
        run = read_run(folder)
    except HarnessError:
        say(f"{spec.cell} has a damaged {paths.run_file(folder).name}: training it again")
        return False
    problem = problem_with(config, spec, run)
    if run is not None and run.published is not None:
        # whoever wants it trained wants more than what was published of it
        problem = f"was imported from {run.published.name}"
    if run is not None and problem is None:
        damaged = damaged_file(folder, run)
        if damaged is None:
            # a process that was killed between its last two lines leaves them
            remove_states(state_file(folder, spec.digest))
            say(f"{spec.cell}: already trained, {folder}")
            return True
        problem = f"has a damaged {damaged.name}"
    if run is not None:
        say(f"{spec.cell} {problem}: training it again; it stays in use until that is done")
    other = found_superseded(config, spec)
    if other is not None and not state_file(folder, spec.digest).exists():
        say(other)
    return False


@dataclass(frozen=True)
class _Images:
    """What a run is trained on and measured on, and what run.json says of both."""

    facts: DatasetFacts
    batches: BatchSource
    stores: Stores
    about: dict[str, Any]


def _train(
    config: Config,
    spec: TrainingSpec,
    device: torch.device,
    group: Group,
    say: Callable[[str], None],
    stop: StopReason,
) -> None:
    folder = paths.cell_folder(config, spec.parsed)
    images = _open_images(config, spec, device, group)
    graphs = wants_graphs(config.machine, device, group.count)
    model = build_model(spec.parsed.architecture, images.facts, spec.parsed.seed)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, spec.train)
    at_once = images_at_once(config.machine, device, images.stores.test.image_shape[-1])
    precision = computed_in(spec.train.precision, device)
    path = state_file(folder, spec.digest)
    found = path.exists()
    if found:
        state = load_last_good(path, model, optimizer, images.stores.checksum, say)
    else:
        state = RunState(zeta=find_zeta(config, spec.parsed))
    left = sum(epoch_passes(spec, images.facts)[state.epoch - 1 :])
    compiled = _wants_compiling(config.machine, spec, left, device, group)
    piece = describe_piece(device, group, precision, compiled, graphs, at_once)
    if found:
        say(f"{spec.cell}: continuing in epoch {state.epoch} after step {state.step}")
        for change in changes(state.pieces[-1], piece):
            say(f"{spec.cell}: {change}")
    else:
        how = precision + (", compiled: the first step takes minutes" if compiled else "")
        say(f"{spec.cell}: {spec.train.epochs} epochs on {machines(device, group)}, {how}")
    update_piece = begin_piece(state, piece)
    recipe = build_recipe(spec, state.zeta)
    pace = Pace(at_once, config.machine.save_minutes, stop, group, compiled, graphs)
    loop = TrainingLoop(
        spec, model, optimizer, recipe, images.batches, images.stores, state, path, pace
    )
    try:
        loop.run(update_piece)
    finally:
        if isinstance(images.batches, FolderBatches):
            images.batches.close()
    update_piece()
    if group.first:
        # not before: until now what was there could be used
        aside = move_run_aside(paths.root(config), folder)
        if aside is not None:
            say(f"{spec.cell}: the run before lies in {aside}; {how_to_restore(aside)} swaps them")
        models = _write_results(spec, folder, images.about, model, state)
        if aside is not None:
            return_records(aside, folder, models)
        remove_states(path)
    group.wait()


def _open_images(config: Config, spec: TrainingSpec, device: torch.device, group: Group) -> _Images:
    dataset = load_prepared(paths.prepared_file(config, spec.parsed.dataset))
    parts = cut(spec, dataset)
    about: dict[str, Any] = dataset.about()
    stores = open_stores(config, spec, dataset, parts, device)
    batches, extra = build_batches(config, spec, parts.train, dataset.facts, device, group)
    if extra is not None:
        stores = replace(stores, checksum=f"{stores.checksum} {extra['sha256']}")
        about = about | {"extra": extra}
    return _Images(dataset.facts, batches, stores, about)


def _wants_compiling(
    machine: Machine, spec: TrainingSpec, passes: float, device: torch.device, group: Group
) -> bool:
    """Say whether a run goes on compiled that has so many passes left.

    Raises
    ------
    HarnessError
        If it is to be, and several processes train it.
    """
    if group.count > 1:
        if machine.compile == "always":
            raise HarnessError(
                f"machine.compile is 'always', but {group.count} processes train {spec.cell} "
                "together, which is not done compiled; set auto or never"
            )
        return False
    seconds = 0.0
    if machine.compile == "auto" and device.type == "cuda":
        seconds = passes * seconds_per_pass(machine, spec, device)
        seconds = min(seconds, 60 * (machine.max_minutes or math.inf))
    return wants_compiling(machine, passes, seconds)


def _write_results(
    spec: TrainingSpec,
    folder: Path,
    images: dict[str, Any],
    model: torch.nn.Module,
    state: RunState,
) -> dict[Checkpoint, str]:
    """Write the files of a finished run, run.json last, and return the weights' checksums."""
    header = {"cell": spec.cell, "digest": spec.digest}
    weights = {choice: best.weights for choice, best in state.best.items()}
    weights["last"] = dict(model.state_dict())
    for choice, tensors in weights.items():
        save_weights(paths.model_file(folder, choice), tensors, header | {"checkpoint": choice})
    write_trace(paths.trace_file(folder), as_frame(state.trace.rows))
    write_epochs(paths.epochs_file(folder), state.epochs)
    seconds = sum(piece["seconds"] for piece in state.pieces)
    on_gpu = [RunPiece.model_validate(p).hours for p in state.pieces if p["device"] == "cuda"]
    chosen = {choice: best.epoch for choice, best in state.best.items()}
    lambdas = state.trace.of_epoch("lambda", spec.train.epochs)
    models = {choice: sha256_of_file(paths.model_file(folder, choice)) for choice in weights}
    write_json(
        paths.run_file(folder),
        {
            **header,
            "method": METHODS[spec.parsed.method].title,
            "spec": spec.settings,
            "checkpoint_epochs": chosen | {"last": spec.train.epochs},
            "final_metrics": state.epochs[-1],
            # the mean over the last epoch, as the paper reports WAR's
            "final_lambda": math.fsum(lambdas) / len(lambdas),
            "zeta": state.zeta,
            "data": images,
            "models": models,
            "trace": sha256_of_file(paths.trace_file(folder)),
            "epochs": sha256_of_file(paths.epochs_file(folder)),
            "hardware": sorted({piece["name"] for piece in state.pieces}),
            "seconds": round(seconds, 3),
            "gpu_hours": round(sum(on_gpu), 4),
            "pieces": state.pieces,
        },
    )
    return models
