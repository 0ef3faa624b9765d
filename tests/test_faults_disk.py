"""A disk that is full, read-only or cut short at any write, and a kill there: nothing is lost.

Every write of every kind of work is broken in turn with REPRODUCE_FAULTS=50; unless that is
set, some of them, drawn at random.
"""

import random
from collections.abc import Callable
from pathlib import Path

import faults
import pytest
from broken_disk import FAULTS, BrokenDisk, Fault
from faults import run
from faulty_work import WORK, Work, contents, leftovers, same

from reproduce.experiments import paths

# what the last line says
SAYS = {"full": "the disk is full|No space left on device", "read-only": "Read-only file system"}
SAYS["short"] = "the disk is full"


def _places(work: Work, name: str, fault: Fault, tmp_path: Path) -> list[int]:
    """Return which writes to break: their numbers, from 0."""
    counted = tmp_path / "counted"
    nowhere = BrokenDisk(fault, 10**6, counted)
    work.lay_out()
    status, said = run(work.config, *work.words, log=tmp_path / "log", broken=nowhere)
    assert status == 0, said
    every = range(counted.stat().st_size)
    few = faults.FAULTS // 3 // WORK[name].kinds + 1
    if faults.FAULTS >= 50 or len(every) <= few:
        return list(every)
    return sorted(random.Random(WORK[name].seed).sample(every, few))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WORK)
def test_a_write_fails(work: Callable[..., Work], tmp_path: Path, name: str, fault: Fault) -> None:
    done = work(name)
    log, root = tmp_path / "log", paths.root(done.config)
    expected = done.undisturbed(log)
    places = _places(done, name, fault, tmp_path)
    for place in places:
        done.lay_out()
        broken = BrokenDisk(fault, place, tmp_path / "counted")
        status, said = run(done.config, *done.words, log=log, broken=broken)
        told = f"{name}: {fault} at write {place}: {said}"
        if status == 0:
            # what failed came after the last file was in its place
            found = contents(root)
            same({path: found[path] for path in found if ".part/" not in path}, expected)
        elif fault == "killed":
            assert status == -9, told
        else:
            # what can still be done without the write is done
            assert status == 1, told
            assert "Traceback" not in said, told
            last = said.strip().splitlines()[-1]
            assert last.startswith("reproduce: "), told
            assert any(words in last for words in SAYS[fault].split("|")), told
        before = contents(done.before / done.config.preset)
        for path, content in contents(root).items():
            whole = (before.get(path), expected.get(path, content))
            assert content in whole, f"{told}: {path} is spoilt"
        status, said = run(done.config, *done.words, log=log)
        assert status == 0, f"{told}; afterwards: {said}"
        same(contents(root), expected)
        assert leftovers(done.config) == []
    print(f"{name}: {fault} at {len(places)} writes")
