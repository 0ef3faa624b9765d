"""A copy of the workflow in a folder of its own, and a way to run it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ODD_TERMINAL, ROOT

from reproduce.workflow.preload import ADDRESS

SNAKEMAKE = Path(sys.executable).parent / "snakemake"


def copy(folder: Path) -> Path:
    """Lay the workflow out in a folder of its own, so that results and state are the test's."""
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


class Workflow:
    """One copy of the workflow and a way to run it; `preloaded` makes its jobs start at once."""

    def __init__(self, folder: Path, config: dict, preloaded: str | None = None) -> None:
        self.folder = folder
        self.forks = {} if preloaded is None else {ADDRESS: preloaded}
        (folder / "config.yaml").write_text(json.dumps(config))

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **ODD_TERMINAL}

    def run(
        self, *words: str, check: bool = True, preloaded: bool = True
    ) -> subprocess.CompletedProcess:
        process = subprocess.run(
            [SNAKEMAKE, "--cores", "2", *words],
            cwd=self.folder,
            env=self.environment | (self.forks if preloaded else {}),
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        if check:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    def planned(self, *words: str) -> dict[str, int]:
        """Return the jobs of a dry run by rule."""
        return self.counts(self.run("-n", *words))

    @staticmethod
    def counts(output: subprocess.CompletedProcess) -> dict[str, int]:
        """Return the jobs that a dry run names, by rule."""
        _, _, stats = (output.stdout + output.stderr).partition("Job stats:")
        found = re.findall(r"^(\w+) +(\d+)$", stats.split("\n\n")[0], re.MULTILINE)
        return {name: int(count) for name, count in found if name not in ("job", "total")}

    def set(self, **values: object) -> None:
        path = self.folder / "config.yaml"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
