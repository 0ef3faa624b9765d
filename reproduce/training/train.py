"""One training run: begin or continue it, train to the end, write its files."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from reproduce.cell import Cell
from reproduce.compute.compilation import Graphs, wants_compiling, wants_graphs
from reproduce.compute.device import (
    acquire_device,
    default_dtype,
    describe,
    effective_precision,
    images_at_once,
)
from reproduce.compute.distributed import Group, group_here, joined
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config, Machine
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, remove_abandoned, sha256_of_file, write_json
from reproduce.core.provenance import differences, provenance
from reproduce.core.rng import generator
from reproduce.data.imagenet import FolderBatches
from reproduce.experiments import paths
from reproduce.experiments.cost import epoch_passes, step_passes
from reproduce.experiments.runs import (
    TRACE_COLUMNS,
    RunSegment,
    as_frame,
    problem_with,
    read_run,
    state_file,
    write_epochs,
    write_trace,
)
from reproduce.experiments.spec import TrainingSpec, training_spec
from reproduce.experiments.superseded import (
    found_superseded,
    how_to_restore,
    move_run_aside,
    return_records,
)
from reproduce.models.load import build_model
from reproduce.models.weights import save_weights
from reproduce.registry import METHODS, dataset_facts
from reproduce.training.images import open_images
from reproduce.training.lambda_rules import find_zeta
from reproduce.training.loop import StopReason, TrainingLoop, stop_requests
from reproduce.training.state import RunState, load_state
from reproduce.training.step import build_algorithm, build_optimizer, train_step


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
        Called with lines on what is begun, continued or already there.
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
        if not group.first:
            say = lambda _: None  # noqa: E731
        if not _lock_and_check(config, spec, group, held, say):
            return
        device = held.enter_context(acquire_device(config.machine, group))
        if stop is None:
            stop = held.enter_context(stop_requests(config.machine.max_minutes))
        with default_dtype(spec.train.precision):
            _train(config, spec, device, group, say, stop)


def check_sharing(spec: TrainingSpec, group: Group) -> None:
    """Refuse several processes where they would have to share more than gradients."""
    if group.count == 1:
        return
    if dataset_facts(spec.parsed.dataset).storage == "arrays" or spec.war or spec.awp:
        raise HarnessError(
            f"{spec.cell} trains in one process, {group.count} were started; several share the "
            "batches of a folder of images, with a constant lambda and without weight perturbation"
        )


def _lock_and_check(
    config: Config, spec: TrainingSpec, group: Group, held: ExitStack, say: Callable[[str], None]
) -> bool:
    """Lock the cell and return whether there is something to train; the first process decides."""
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
    """Return whether the run on disk is whole and the one that is asked for."""
    try:
        run = read_run(folder)
    except HarnessError:
        say(f"{spec.cell} has a damaged {paths.run_file(folder).name}: training it again")
        return False
    state = state_file(folder, spec.digest)
    if run is not None:
        problem = problem_with(config, spec, run, checksums=True)
        if run.published is not None:
            # whoever wants it trained wants more than what was published of it
            problem = f"was imported from {run.published.name}"
        if problem is None:
            # a process that was killed between its last two lines leaves it
            state.unlink(missing_ok=True)
            say(f"{spec.cell}: already trained, {folder}")
            return True
        say(f"{spec.cell} {problem}: training it again; it stays in use until that is done")
    other = found_superseded(config, spec)
    if other is not None and not state.exists():
        say(other)
    return False


def _train(
    config: Config,
    spec: TrainingSpec,
    device: torch.device,
    group: Group,
    say: Callable[[str], None],
    stop: StopReason,
) -> None:
    folder = paths.cell_folder(config, spec.parsed)
    path = state_file(folder, spec.digest)
    images = open_images(config, spec, device, group)
    model = build_model(spec.parsed.architecture, images.facts, spec.parsed.seed)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, spec.train)
    begun = path.exists()
    if begun:
        state = load_state(path, model, optimizer, images.checksum)
    else:
        state = RunState(zeta=find_zeta(config, spec.parsed))
    passes_left = sum(epoch_passes(spec, images.facts)[state.epoch - 1 :])
    loop = TrainingLoop(
        spec,
        model,
        optimizer,
        build_algorithm(spec, state.zeta),
        images,
        state,
        path,
        images_at_once(config.machine, device, images.test.image_shape[-1]),
        config.machine.save_minutes,
        stop,
        group,
        _wants_compiling(config.machine, spec, passes_left, device, group),
        wants_graphs(config.machine, device, group.count),
    )
    segment = _describe_segment(loop)
    if begun:
        say(f"{spec.cell}: continuing in epoch {state.epoch} after step {state.step}")
        for change in changes(state.segments[-1], segment):
            say(f"{spec.cell}: {change}")
    else:
        where = segment["name"] if group.count == 1 else f"{group.count} x {segment['name']}"
        how = ", compiled: the first step takes minutes" if loop.compiled else ""
        say(f"{spec.cell}: {spec.train.epochs} epochs on {where}, {segment['precision']}{how}")
    state.segments.append(segment)
    try:
        loop.run()
    finally:
        if isinstance(images.batches, FolderBatches):
            images.batches.close()
    if group.first:
        # not before: until now what was there could be used
        aside = move_run_aside(paths.root(config), folder)
        if aside is not None:
            say(f"{spec.cell}: the run before lies in {aside}; {how_to_restore(aside)} swaps them")
        models = _write_results(spec, folder, images.about, model, state)
        if aside is not None:
            return_records(aside, folder, models)
        path.unlink(missing_ok=True)
    group.wait()


def _describe_segment(loop: TrainingLoop) -> dict[str, Any]:
    """Say how this process computes, for run.json."""
    return {
        # for people: nothing is ordered or timed by it, so a clock that is set changes nothing
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe(loop.device),
        "processes": loop.group.count,
        "precision": effective_precision(loop.spec.train.precision, loop.device),
        "compiled": loop.compiled,
        "graphs": loop.graphs,
        "eval_batch": loop.eval_batch,
        # of the code that runs now, not of what may lie here when the segment ends
        **provenance(),
        # brought up to date at every save
        "seconds": 0.0,
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say by what a run that goes on computes otherwise than in its segment before."""
    if before["device"] != now["device"]:
        yield f"begun on {before['device']}; {now['device']} draws other random numbers"
    if before["processes"] != now["processes"]:
        yield (
            f"begun by {before['processes']} process(es), now {now['processes']}: each normalises "
            "and attacks its own part of a batch, so the run is another from here on"
        )
    yield from differences(before, now)


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
    models = {choice: sha256_of_file(paths.model_file(folder, choice)) for choice in weights}
    write_trace(paths.trace_file(folder), as_frame(state.trace.rows))
    write_epochs(paths.epochs_file(folder), state.epochs)
    lam, last = TRACE_COLUMNS.index("lambda"), spec.train.epochs
    lambdas = [row[lam] for row in state.trace.rows if row[0] == last]
    segments = [RunSegment.model_validate(segment) for segment in state.segments]
    write_json(
        paths.run_file(folder),
        {
            **header,
            "method": METHODS[spec.parsed.method].title,
            "spec": spec.settings,
            "checkpoint_epochs": {c: best.epoch for c, best in state.best.items()} | {"last": last},
            "final_metrics": state.epochs[-1],
            # the mean over the last epoch, as the paper reports WAR's
            "final_lambda": math.fsum(lambdas) / len(lambdas),
            "zeta": state.zeta,
            "data": images,
            "models": models,
            "trace": sha256_of_file(paths.trace_file(folder)),
            "epochs": sha256_of_file(paths.epochs_file(folder)),
            "hardware": sorted({segment.name for segment in segments}),
            "seconds": round(sum(segment.seconds for segment in segments), 3),
            "gpu_hours": round(sum(s.hours for s in segments if s.device == "cuda"), 4),
            "pieces": state.segments,
        },
    )
    return models


def _wants_compiling(
    machine: Machine, spec: TrainingSpec, passes: float, device: torch.device, group: Group
) -> bool:
    """Return whether a run that has so many forward passes left goes on compiled."""
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


# on a processor the batch is reduced so that a step takes about this long
_STEP_SECONDS = 4.0


def seconds_per_pass(machine: Machine, spec: TrainingSpec, device: torch.device) -> float:
    """Time uncompiled training steps on random images, in seconds a forward pass of one image.

    The median of three steps after one that warms up, divided by their forward-pass equivalents.
    """
    cell, facts = spec.parsed, dataset_facts(spec.parsed.dataset)
    with default_dtype(spec.train.precision):
        model = build_model(cell.architecture, facts)
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=spec.train.momentum)
        # any zeta: what a step costs does not depend on it
        algorithm = build_algorithm(spec, zeta=1.0)
        lam = torch.tensor(cell.lam, dtype=torch.float64, device=device)
        size = spec.train.phases[-1].batch_size if spec.train.phases else spec.train.batch_size
        graphs = Graphs(model, {size}) if wants_graphs(machine, device) else None

        def step(batch: int) -> float:
            stream = generator(0, "measure", device=device)
            shape = (batch, facts.channels, facts.size, facts.size)
            images = torch.rand(shape, generator=stream, device=device)
            images = images.contiguous(memory_format=torch.channels_last)
            labels = torch.zeros(batch, dtype=torch.int64, device=device)
            began = time.perf_counter()
            result = train_step(
                model, optimizer, algorithm, images, labels, lam, stream, graphs=graphs
            )
            result.natural.item()  # waits for the device
            return time.perf_counter() - began

        if device.type == "cpu":
            few = min(size, 4)
            step(few)
            size = max(few, min(size, int(few * _STEP_SECONDS / step(few))))
        step(size)
        seconds = statistics.median(step(size) for _ in range(3))
    return seconds / (size * step_passes(spec, spec.train.epochs))
