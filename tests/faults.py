"""Commands in processes of their own that a test breaks: killed, out of disk, stopped.

The processes are copies of a server that has imported everything, so one begins within
milliseconds.  The server computes nothing itself and has one thread; each copy runs the
command line as ``python -m reproduce`` does, with standard output and error in a file.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from conftest import ROOT

from reproduce.config.load import CONFIG_VARIABLE
from reproduce.config.schema import Config

# how often each fault is injected; REPRODUCE_FAULTS=50 is the full count
FAULTS = int(os.environ.get("REPRODUCE_FAULTS", "6"))
_IMPORTED = [
    "reproduce.cli",
    "reproduce.training.train",
    "reproduce.evaluation.evaluate",
    "reproduce.results.frames",
    "reproduce.tables.write",
    "pyarrow.parquet",
    # an optimizer imports it when it is made
    "torch._dynamo",
    "faults",
]

Break = Callable[[Path], object]


@dataclass
class Command:
    """One command that runs in a process of its own."""

    process: BaseProcess
    log: Path

    def end(self) -> int:
        """Wait for its end and return its status, minus the signal if one ended it."""
        self.process.join(timeout=600)
        assert self.process.exitcode is not None, f"still running: {self.said}"
        return self.process.exitcode

    @property
    def said(self) -> str:
        """What it wrote to standard output and error."""
        return self.log.read_text(errors="replace")


def start(config: Config, *words: str, log: Path, broken: Break | None = None) -> Command:
    """Start ``reproduce`` with these words, after `broken` was called with the results folder."""
    process = _server().Process(target=_command, args=(config, words, log, broken))
    process.start()
    return Command(process, log)


@cache
def _server() -> multiprocessing.context.ForkServerContext:
    """Start the server, and wait until it has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        # the server keeps the environment that it begins with
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        patch.setenv("OMP_NUM_THREADS", "1")
        first = context.Process(target=int)
        first.start()
        first.join()
    return context


def _command(config: Config, words: tuple[str, ...], log: Path, broken: Break | None) -> None:
    from reproduce.cli.app import main

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.environ[CONFIG_VARIABLE] = config.model_dump_json()
    sys.argv = ["reproduce", *words]
    if broken is not None:
        broken(config.results)
    main()


def run(config: Config, *words: str, log: Path, broken: Break | None = None) -> tuple[int, str]:
    """Run a command to its end; its status and what it said."""
    command = start(config, *words, log=log, broken=broken)
    return command.end(), command.said


def kill_at_random(
    job: Callable[[], Callable[[], Command]],
    check: Callable[[], None],
    count: int,
    seed: int,
) -> None:
    """Send SIGKILL or SIGTERM to the processes of a job at random moments, so many times.

    `job` makes a fresh place for the job, and returns what starts its next process; `check`
    compares what a finished job left with an undisturbed one's.
    """
    drawn = random.Random(seed)
    begin, began = job(), time.monotonic()
    assert begin().end() == 0
    life = time.monotonic() - began
    check()
    sent, begin = 0, job()
    while sent < count:
        number = drawn.choice((signal.SIGKILL, signal.SIGTERM))
        moment = drawn.uniform(0, 1.02 * life)
        command = begin()
        command.process.join(timeout=moment)
        # it may end between the two lines, and its fork server takes it away
        with suppress(ProcessLookupError):
            if command.process.is_alive():
                os.kill(command.process.pid, number)
                sent += 1
        status = command.end()
        what = f"{number.name} {sent}, after {moment:.3f} of {life:.3f} s: {command.said}"
        # ended by itself, by the signal, or stopped with everything saved
        assert status in (0, -number, 75), what
        assert "Traceback" not in command.said, what
        if status == 0 or sent == count:
            if status:
                assert begin().end() == 0, what
            check()
            begin = job()
