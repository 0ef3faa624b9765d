"""A results folder made to do harm: everything in it is named, nothing of it happens."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from hostile_contents import CELL, RECORD, root_of
from hostile_folders import (
    HOSTILE,
    a_checkpoint_with_a_hole,
    a_state_with_a_hole,
    parquet_of_long_texts,
    ten_gigabytes,
    zip_bomb,
)
from small_runs import never, quiet
from verify_cases import NOTHING_AGAIN, settings, verified, wrong

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.data.sources import prepare
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.evaluation.records import read_record, write_record
from reproduce.experiments import paths
from reproduce.experiments.spec import EvaluationSpec
from reproduce.share import verification_folder as folder
from reproduce.share.verification_again import Sample
from reproduce.share.verification_finding import Finding
from reproduce.share.verification_verify import verify_folder
from reproduce.training.train import train_cell


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = settings(tmp_path_factory.mktemp("made") / "results")
    prepare(config.data, "digits", paths.prepared_file(config, "digits"))
    train_cell(config, CELL, quiet, never)
    evaluate_cell(config, CELL, "pgd20", 0, "best-test", quiet)
    return config


@pytest.fixture
def config(made: Config, tmp_path: Path) -> Config:
    shutil.copytree(made.results, tmp_path / "results")
    return made.model_copy(update={"results": tmp_path / "results"})


@pytest.mark.parametrize("spoil", HOSTILE)
def test_what_is_hostile_is_named(config: Config, spoil: Callable[[Config], str]) -> None:
    name = spoil(config)
    found = verified(config, Sample(records=1, images=8, minutes=1, seed=0))
    (finding,) = (f for f in found.findings if f.path == name)
    assert finding.verdict == "damaged", finding
    assert found.exit_status == 1
    for line in map(str, found.findings):
        assert line.isprintable()
        assert len(line) < 500
    assert not (config.results / "HARM").exists()


def test_memory_stays_bounded(config: Config) -> None:
    """The bombs together, in a process that may have two GiB."""
    for spoil in (
        zip_bomb,
        parquet_of_long_texts,
        ten_gigabytes,
        a_checkpoint_with_a_hole,
        a_state_with_a_hole,
    ):
        spoil(config)
    command = [sys.executable, "-m", "reproduce", "verify", "--sample", "0", "--config"]
    done = subprocess.run(
        [*command, config.model_dump_json()],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30, 2 * 2**30)),
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("elements, no tensor of ours has so many") == 2
    assert done.stdout.count("\ndamaged: ") + done.stdout.startswith("damaged: ") == 5


def test_an_attack_of_a_billion_steps_is_not_tried(config: Config) -> None:
    """The configuration that came with the folder has it as well."""
    path = root_of(config) / RECORD
    record = read_record(path)
    spec = record.info["spec"]
    spec["name"], spec["attack"]["steps"] = "pgd-long", 10**9
    record.info["digest"] = EvaluationSpec.model_validate(spec).digest
    write_record(path.with_name("pgd-long-seed0.npz"), record)
    for old in (path, path.with_suffix(".json")):
        old.unlink()
    long = config.eval.attacks["pgd20"].model_copy(update={"steps": 10**9})
    attacks = config.eval.attacks | {"pgd-long": long}
    eval_ = config.eval.model_copy(update={"attacks": attacks})
    config = config.model_copy(update={"eval": eval_})
    found = verified(config, Sample(records=1, images=8, minutes=10, seed=0))
    assert wrong(found) == []
    (finding,) = (f for f in found.findings if f.verdict == "not checked")
    assert "1 of 1 evaluations would take" in finding.reason
    assert found.exit_status == 3


def test_more_files_than_a_folder_can_have(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_MOST_FILES", 10)
    with pytest.raises(HarnessError, match="holds more than 10 files"):
        verified(config)
    monkeypatch.undo()
    monkeypatch.setattr(folder, "_MOST_BYTES", 10)
    with pytest.raises(HarnessError, match="nothing was checked"):
        verified(config)


def test_folders_in_folders(config: Config) -> None:
    deep = root_of(config).joinpath(*["down"] * 40)
    deep.mkdir(parents=True)
    found = [f for f in verified(config).findings if f.verdict == "damaged"]
    assert [f.reason for f in found] == ["it is a folder 12 deep; it was not opened"]


def test_a_link_in_place_of_the_folder_is_the_users_own(config: Config, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root_of(config))
    found = verify_folder(config, tmp_path / "link", NOTHING_AGAIN, quiet)
    assert found.exit_status == 0
    assert f"cells/{CELL}" in {finding.path for finding in found.findings}
    (tmp_path / "nowhere").symlink_to("nowhere")
    with pytest.raises(HarnessError, match="is not a folder"):
        verify_folder(config, tmp_path / "nowhere", NOTHING_AGAIN, quiet)


def test_lines_do_nothing_to_a_terminal() -> None:
    hostile = "".join(map(chr, range(256))) + "\u202e\u2066\udcff" + "x" * 1000
    line = str(Finding("damaged", hostile, "text é λ"))
    assert line.isprintable()
    assert len(line) <= 400
    # both ends are left: the verdict and the reason
    assert line.startswith("damaged: ")
    assert line.endswith(": text é λ")
