"""`reproduce verify` as a user meets it: its lines, its exit status, and where it cannot begin."""

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from spoilt_results import wrong_metrics
from verify_cases import copied, keep_only

from reproduce.config.schema import Config
from reproduce.experiments import paths
from reproduce.share import verification_folder as folder_module
from reproduce.share.verification_again import Sample
from reproduce.share.verification_finding import Finding
from reproduce.share.verification_verify import verify_folder


@pytest.fixture
def config(results_of_every_kind: Config, tmp_path: Path) -> Config:
    return copied(results_of_every_kind, tmp_path)


def test_the_command(config: Config, run_command: Callable[..., str]) -> None:
    words = ("verify", "--sample", "0")
    keep_only(config, "tables/table1.csv")
    last = run_command(config, *words).splitlines()[-1]
    assert last.startswith("the results stand: ")
    assert ", 0 damaged, 0 differ, 0 not checked (preset demo, --seed " in last
    told = json.loads(run_command(config, *words, "--json", "--seed", "5"))
    assert [verdict for verdict, count in told["counts"].items() if count] == ["stands"]
    assert (told["seed"], told["status"], told["preset"]) == (5, 0, "demo")
    folder = paths.root(config)
    elsewhere = config.model_copy(update={"results": folder.parent / "none"})
    assert run_command(elsewhere, *words, str(folder)).splitlines()[-1].startswith(last[:30])
    assert "none/demo is not a folder" in run_command(elsewhere, *words, status=1)


def test_the_command_says_by_its_status_that_something_is_wrong(
    config: Config, run_command: Callable[..., str]
) -> None:
    keep_only(config)
    (paths.root(config) / "note.txt").write_text("hello")
    assert run_command(config, "verify", "--sample", "0", status=3) == ""
    wrong_metrics(config)
    run_command(config, "verify", "--sample", "0", status=1)


def test_a_folder_without_results(config: Config, run_command: Callable[..., str]) -> None:
    folder = paths.root(config)
    for name in (folder.parent, folder / "cells"):
        said = run_command(config, "verify", "--sample", "0", str(name), status=1)
        assert said.endswith(
            "holds no results; give the folder of a preset, such as results/demo\n"
        )


def test_a_full_disk_here_is_no_damage_there(
    config: Config, run_command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_module, "_copy", full)
    said = run_command(config, "verify", "--sample", "0", status=1)
    assert said.startswith("reproduce: no room to check anything: ")
    assert "No space left on device; set TMPDIR to a folder on a larger disk" in said


def test_findings_are_told_as_they_are_made(config: Config) -> None:
    told: list[str] = []
    keep_only(config)

    def stop(finding: Finding) -> None:
        told.append(finding.path)
        raise KeyboardInterrupt

    before = set(Path(tempfile.gettempdir()).glob("reproduce-verify-*"))
    with pytest.raises(KeyboardInterrupt):
        verify_folder(config, paths.root(config), Sample(0, 1, 1.0, 0), told.append, stop)
    assert len(told) == 1
    assert set(Path(tempfile.gettempdir()).glob("reproduce-verify-*")) <= before
