"""Several cells on one device: processes that train at the same time, against one alone."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import cast

import torch

from reproduce.benchmarks.budget import Budget, out_of_memory
from reproduce.benchmarks.cases import our_step
from reproduce.benchmarks.measured import Case
from reproduce.benchmarks.result import Together
from reproduce.benchmarks.timing import seconds_of
from reproduce.compute.device import prepare_process
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError

# a processor's step of a whole batch would be longer than the window
_CPU_BATCH = 16
_WINDOW_SECONDS = 6.0
# how long processes may take to start, build and warm up
_START_SECONDS = 240.0
_END_SECONDS = 5.0
_STEPS_AHEAD = 4
# importing PyTorch and building a network takes that long before anything is measured
_ESTIMATED_START = 12.0


def measure_together(
    config: Config,
    case: Case,
    cells: Sequence[int],
    device: torch.device,
    budget: Budget,
    say: Callable[[str], object],
) -> list[Together]:
    """Time numbers of cells that train at once, each in a process of its own.

    They begin together at a barrier and each takes steps for the same length of time.

    Parameters
    ----------
    config : Config
        How the method trains.
    case : Case
        The step; on a CPU its batch is cut to 16 images.
    cells : sequence of int
        How many at once; one alone is measured with them, to compare with.
    device : torch.device
        Which all share.
    budget : Budget
        The time there is; what does not fit in is noted there.
    say : callable
        Told what comes next.
    """
    if device.type == "cpu":
        case = case.model_copy(update={"batch": min(case.batch, _CPU_BATCH)})
    found: list[Together] = []
    for count in sorted({1, *cells}):
        what = f"{count} cell{'s' * (count > 1)} at once, {case}"
        if budget.fits(what, _ESTIMATED_START + _WINDOW_SECONDS):
            say(what)
            alone = found[0].images_per_second if found and found[0].cells == 1 else None
            found.append(_at_once(config, case, count, device, alone))
    return found


def _at_once(
    config: Config,
    case: Case,
    count: int,
    device: torch.device,
    alone: float | None,
    window: float = _WINDOW_SECONDS,
) -> Together:
    """Start processes, wait for what each says, and add their rates up."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    ends = []
    processes = []
    for _ in range(count):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_train,
            args=(config, case, str(device), window, barrier, theirs),
            daemon=True,
        )
        process.start()
        theirs.close()
        ends.append(ours)
        processes.append(process)
    said: list[float | str] = []
    try:
        said = _answers(ends, barrier)
    finally:
        for process in processes:
            # it ends after its answer, and with it what compiled for it
            process.join(_END_SECONDS if len(said) == count else 0)
            process.terminate()
            process.join()
    notes = [answer for answer in said if isinstance(answer, str)]
    if notes or len(said) < count:
        # what made the others give up, rather than that they did
        note = next((text for text in notes if text), "a process gave no answer")
        return Together(case=case, cells=count, images_per_second=None, against_one=None, note=note)
    total = sum(answer for answer in said if isinstance(answer, float))
    against = total / alone if alone else (1.0 if count == 1 else None)
    return Together(case=case, cells=count, images_per_second=total, against_one=against)


def _answers(ends: Sequence[Connection], barrier: Barrier) -> list[float | str]:
    """Wait until every process has said something or ended, or for long enough."""
    waiting, said = list(ends), list[float | str]()
    deadline = time.monotonic() + _START_SECONDS
    while waiting and time.monotonic() < deadline:
        ready = wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        for end in cast("list[Connection]", ready):
            waiting.remove(end)
            try:
                said.append(end.recv())
            except EOFError:
                # the others must not wait for it
                barrier.abort()
                said.append("a process was killed")
    return said


def _train(
    config: Config, case: Case, name: str, window: float, barrier: Barrier, end: Connection
) -> None:
    """Take steps in a process of its own; say images a second, or why there are none."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare_process(config.machine)
    device = torch.device(name)
    try:
        step = our_step(config, case, device)
        for _ in range(2):
            seconds_of(lambda: step(case.batch), device)
        barrier.wait(_START_SECONDS)
        end.send(_images_per_second(lambda: step(case.batch), case.batch, device, window))
    except BrokenBarrierError:
        end.send("")
    except (RuntimeError, HarnessError) as error:
        barrier.abort()
        end.send(_reason(error))


def _reason(error: RuntimeError | HarnessError) -> str:
    if out_of_memory(error):
        return "out of memory"
    return f"{type(error).__name__}: {error}"


def _images_per_second(
    call: Callable[[], object], batch: int, device: torch.device, window: float
) -> float:
    """Take steps for a while as training does: the device is waited for every few of them."""
    began = now = time.perf_counter()
    images = 0
    while now - began < window:
        images += _STEPS_AHEAD * batch
        seconds_of(lambda: [call() for _ in range(_STEPS_AHEAD)], device)
        now = time.perf_counter()
    return images / (now - began)
