"""Work that is broken off: what is done, on what, and what must be left of it.

Whatever was injected into it, its results are compared with those of undisturbed work.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import run
from small_runs import SMALL_ATTACKS

from reproduce.config.schema import Config
from reproduce.experiments import paths

# of run.json and a record's summary what says when, how fast and in how many segments, not what
_HOW = ("pieces", "seconds", "gpu_hours")


def contents(folder: Path) -> dict[str, Any]:
    """Return every file below a folder but locks: bytes, or a summary without how and when."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name.endswith(".lock"):
            continue
        content: Any = path.read_bytes()
        if path.suffix == ".json" and isinstance(tree := json.loads(content), dict):
            content = {key: value for key, value in tree.items() if key not in _HOW}
        found[str(path.relative_to(folder))] = content
    return found


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare two results of `contents`, naming what differs."""
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def leftovers(config: Config) -> list[str]:
    """Return what a finished job must not leave: parts of files, states, shards."""
    root = paths.root(config)
    return [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.suffix in (".part", ".shards") or path.name.startswith(("state-", ".tmp"))
    ]


CELLS = [
    f"digits/wrn-10-0.25/{method}/seed-{seed}"
    for method in ("trades/lam-2", "at/lam-1")
    for seed in (0, 1)
]
# what follows ``reproduce``; all but the first on four cells that are trained
WORK = {
    "train": f"train {CELLS[0]}",
    # several shards, and an attack that draws random numbers for a whole one
    "evaluate": f"evaluate {CELLS[0]} --attack autoattack --seed 3",
    "table": "table table1",
    "results": "results",
}
SETS = [*SMALL_ATTACKS, "eval.shard=8"]
# how many iterations there are to one in published traces
EVERY = 2


@dataclass(frozen=True)
class Work:
    """One command (`words`), and the folder of results as it finds them (`before`)."""

    config: Config
    words: tuple[str, ...]
    before: Path

    def lay_out(self) -> None:
        """Put the results back as they were before it."""
        shutil.rmtree(self.config.results, ignore_errors=True)
        shutil.copytree(self.before, self.config.results)

    def undisturbed(self, log: Path) -> dict[str, Any]:
        """Do it, and return what it leaves."""
        self.lay_out()
        status, said = run(self.config, *self.words, log=log)
        assert status == 0, said
        assert leftovers(self.config) == []
        return contents(paths.root(self.config))
