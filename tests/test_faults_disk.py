"""A disk that is full from any write of a command on: nothing is lost.

Python announces the folder of every atomic write before it makes it; from one of them on the system
is told to write no file of more than a few bytes, which compiled libraries obey as well.

Every write is broken in turn with REPRODUCE_FAULTS=50; unless that is set, some, drawn at random.
"""

import os
import random
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults import FAULTS, run
from faulty_work import Work, contents, leftovers, same

from reproduce.experiments import paths


@dataclass(frozen=True)
class FullDisk:
    """Lets no file of a process grow from the atomic write of number `at` on."""

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
            place = str(given[0]) if event == "os.mkdir" else ""
            if not (place.startswith(str(results)) and place.endswith(".part")):
                return
            seen += 1
            os.write(count, b".")
            if seen == self.at + 1:
                # less than any file of results has
                resource.setrlimit(resource.RLIMIT_FSIZE, (16, unlimited[1]))

        sys.addaudithook(hook)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "evaluate", "results"])
def test_a_write_fails(work: Callable[..., Work], tmp_path: Path, name: str) -> None:
    done = work(name)
    log, counted, root = tmp_path / "log", tmp_path / "counted", paths.root(done.config)
    expected = done.undisturbed(log)
    done.lay_out()
    assert run(done.config, *done.words, log=log, broken=FullDisk(10**6, counted))[0] == 0
    every = range(counted.stat().st_size)
    places = every if FAULTS >= 50 else random.Random(7).sample(every, min(2, len(every)))
    for place in places:
        done.lay_out()
        broken = FullDisk(place, counted)
        status, output = run(done.config, *done.words, log=log, broken=broken)
        what = f"{name}: full at write {place}: {output}"
        # what can still be done without the write is done
        assert status == 1, what
        assert "Traceback" not in output, what
        last = output.strip().splitlines()[-1]
        assert last.startswith("reproduce: "), what
        assert "could not be written" in last, what
        before = contents(done.before / done.config.preset)
        for path, content in contents(root).items():
            assert content in (before.get(path), expected.get(path, content)), f"{what}: {path}"
        status, output = run(done.config, *done.words, log=log)
        assert status == 0, f"{what}; afterwards: {output}"
        same(contents(root), expected)
        assert leftovers(done.config) == []
