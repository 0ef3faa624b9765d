"""A disk that is full, or cut short, at any write of a command: nothing is lost.

Python announces whatever it does to files before it does it, and what an audit hook raises is
raised in its place.  Writes of compiled libraries (safetensors, Parquet) are not announced; the
system makes them fail, which is told to write no file of more than a few bytes.

Every write is broken in turn with REPRODUCE_FAULTS=50; unless that is set, some, drawn at random.
"""

import errno
import os
import random
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from faults import FAULTS, run
from faulty_work import Work, contents, leftovers, same

from reproduce.experiments import paths

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class BrokenDisk:
    """Breaks a process's writes into its results, from the one of number `at` on.

    full: no file or folder can be made.  short: the file of that number cannot grow.
    """

    fault: Literal["full", "short"]
    at: int
    count: Path  # gets a byte for each write

    def __call__(self, results: Path) -> None:
        """Install the hook; `results` is what is watched."""
        seen = 0
        # opened before: what the hook does itself must not come to it
        count = os.open(self.count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

        def hook(event: str, given: tuple[Any, ...]) -> None:
            nonlocal seen
            if event == "shutil.rmtree":
                # the file is given up, and its folder goes
                resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            if not self._counts(event, given, str(results)):
                return
            seen += 1
            os.write(count, b".")
            if self.fault == "short" and seen == self.at + 1:
                # less than any file of results has
                resource.setrlimit(resource.RLIMIT_FSIZE, (16, unlimited[1]))
            if self.fault == "full" and seen > self.at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given[0]))

        sys.addaudithook(hook)

    def _counts(self, event: str, given: tuple[Any, ...], results: str) -> bool:
        if event not in {"open", "os.mkdir"} or not isinstance(given[0], str | os.PathLike):
            return False
        if not os.fspath(given[0]).startswith(results):
            return False
        if self.fault == "short":
            return event == "os.mkdir" and str(given[0]).endswith(".part")
        return event == "os.mkdir" or bool(given[2] & _WRITES)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["full", "short"])
@pytest.mark.parametrize("name", ["train", "evaluate", "results"])
def test_a_write_fails(work: Callable[..., Work], tmp_path: Path, name: str, fault: Any) -> None:
    done = work(name)
    log, counted, root = tmp_path / "log", tmp_path / "counted", paths.root(done.config)
    expected = done.undisturbed(log)
    done.lay_out()
    nowhere = BrokenDisk(fault, 10**6, counted)
    assert run(done.config, *done.words, log=log, broken=nowhere)[0] == 0
    every = range(counted.stat().st_size)
    places = every if FAULTS >= 50 else random.Random(7).sample(every, min(2, len(every)))
    for place in places:
        done.lay_out()
        broken = BrokenDisk(fault, place, counted)
        status, output = run(done.config, *done.words, log=log, broken=broken)
        what = f"{name}: {fault} at write {place}: {output}"
        # what can still be done without the write is done
        assert status == 1, what
        assert "Traceback" not in output, what
        last = output.strip().splitlines()[-1]
        assert last.startswith("reproduce: "), what
        assert "No space left on device" in last or "File too large" in last, what
        before = contents(done.before / done.config.preset)
        for path, content in contents(root).items():
            assert content in (before.get(path), expected.get(path, content)), f"{what}: {path}"
        status, output = run(done.config, *done.words, log=log)
        assert status == 0, f"{what}; afterwards: {output}"
        same(contents(root), expected)
        assert leftovers(done.config) == []
