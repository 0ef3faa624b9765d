"""Readers of files from outside, on damaged files: an object or one clear line, nothing else."""

import random
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from conftest import ROOT
from fuzz.mutations import mutate
from fuzz.reader import holds
from fuzz.readers import READERS

INPUTS = 150


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    seeds, rng = reader.seeds(), random.Random(7)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(INPUTS):
            data = mutate(rng.choice(seeds), seeds, rng)
            refused += not holds(reader, data, tmp_path)
    assert 0 < refused <= INPUTS


@pytest.mark.parametrize("name", [name for name in READERS if not name.startswith("npy-")])
def test_whole_files_are_read(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    assert all(holds(reader, seed, tmp_path) for seed in reader.seeds())


@pytest.mark.parametrize("names", ["pickles", "npz", "npy-record card"])
def test_led_by_coverage(names: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed (make fuzz installs it)")
    command = [sys.executable, ROOT / "tests" / "fuzz" / "run.py", *names.split(), "--seconds", "2"]
    done = subprocess.run(
        [*command, "--keep", tmp_path], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("number_of_executed_units") == len(names.split())
    assert list(tmp_path.iterdir()) == []


def test_the_command_counts_and_names_what_it_knows(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tests" / "fuzz" / "run.py", "--blind", "--seconds", "1"]
    run = {"capture_output": True, "text": True, "timeout": 120, "check": False, "cwd": tmp_path}
    done = subprocess.run([*command, "epochs", "card"], **run)
    assert done.returncode == 0, done.stderr
    assert "epochs: " in done.stdout
    assert ", 0 wrong, " in done.stdout
    wrong = subprocess.run([*command, "nothing"], **run)
    assert wrong.returncode == 2
    assert "unknown reader 'nothing'; known: pickles" in wrong.stderr
