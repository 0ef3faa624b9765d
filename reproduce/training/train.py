"""One training run: begin or continue it, train to the end, write its files."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from reproduce.cell import Cell
from reproduce.compute.device import acquire_device, default_dtype
from reproduce.compute.distributed import Group, group_here, joined
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, remove_abandoned, sha256_of_file, write_json
from reproduce.core.provenance import differences
from reproduce.experiments import paths
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
from reproduce.models.weights import save_weights
from reproduce.registry import METHODS, dataset_facts
from reproduce.training.loop import StopReason, TrainingLoop, stop_requests

Say = Callable[[str], None]


def train_cell(
    config: Config, cell: Cell, say: Say = print, stop: StopReason | None = None
) -> None:
    """Train a cell, or continue it, and write its files; raises Stopped if asked to stop.

    `stop` gives a reason to stop; the clock and signals unless given.
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
        held.enter_context(default_dtype(spec.train.precision))
        loop = TrainingLoop(config, spec, device, group, stop)
        for line in _beginning(loop):
            say(f"{cell}: {line}")
        loop.run()
        if group.first:
            # not before: until now what was there could be used
            folder = paths.cell_folder(config, cell)
            aside = move_run_aside(paths.root(config), folder)
            if aside is not None:
                say(f"{cell}: the run before lies in {aside}; {how_to_restore(aside)} swaps them")
            models = _write_results(loop, folder)
            if aside is not None:
                return_records(aside, folder, models)
            loop.state_path.unlink(missing_ok=True)
        group.wait()


def check_sharing(spec: TrainingSpec, group: Group) -> None:
    """Refuse several processes where they would have to share more than gradients."""
    arrays = dataset_facts(spec.parsed.dataset).storage == "arrays"
    if group.count > 1 and (arrays or spec.war or spec.awp):
        raise HarnessError(
            f"{spec.cell} trains in one process, {group.count} were started; several share the "
            "batches of a folder of images, with a constant lambda and without weight perturbation"
        )


def _lock_and_check(
    config: Config, spec: TrainingSpec, group: Group, held: ExitStack, say: Say
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


def _is_trained(config: Config, spec: TrainingSpec, folder: Path, say: Say) -> bool:
    """Return whether the run on disk is whole and the one that is asked for."""
    state = state_file(folder, spec.digest)
    try:
        run = read_run(folder)
    except HarnessError as error:
        say(f"{error}: training {spec.cell} again")
        return False
    if run is not None:
        problem = problem_with(config, spec, run, checksums=True)
        if run.published is not None:
            # whoever wants it trained wants more than what was published of it
            problem = f"was imported from {run.published.name}"
        if problem is None:
            # a process that was killed between its last two lines leaves it
            state.unlink(missing_ok=True)
            say(f"{spec.cell}: already trained, {paths.run_file(folder)}")
            return True
        say(f"{spec.cell} {problem}: training it again; it stays in use until that is done")
    other = found_superseded(config, spec)
    if other is not None and not state.exists():
        say(other)
    return False


def _beginning(loop: TrainingLoop) -> Iterator[str]:
    """Say what is begun, or where a run goes on and what is different from then on."""
    now, state, count = loop.segment, loop.state, loop.group.count
    if not loop.continues:
        where = now["name"] if count == 1 else f"{count} x {now['name']}"
        how = ", compiled: the first step takes minutes" if loop.compiled else ""
        yield f"{loop.spec.train.epochs} epochs on {where}, {now['precision']}{how}"
        return
    yield f"continuing in epoch {state.epoch} after step {state.step}"
    before = state.segments[-1]
    if before["device"] != now["device"]:
        yield f"begun on {before['device']}; {now['device']} draws other random numbers"
    if before["processes"] != now["processes"]:
        yield (
            f"begun by {before['processes']} process(es), now {now['processes']}: each normalises "
            "and attacks its own part of a batch, so the run is another from here on"
        )
    yield from differences(before, now)


def _write_results(loop: TrainingLoop, folder: Path) -> dict[Checkpoint, str]:
    """Write the files of a finished run, run.json last, and return the weights' checksums."""
    spec, state = loop.spec, loop.state
    header = {"cell": spec.cell, "digest": spec.digest}
    weights = {**state.weights, "last": dict(loop.model.state_dict())}
    models = {}
    for choice, tensors in weights.items():
        path = paths.model_file(folder, choice)
        save_weights(path, tensors, header | {"checkpoint": choice})
        models[choice] = sha256_of_file(path)
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
            "data": loop.images.about,
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
