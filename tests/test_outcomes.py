"""Published checkpoints that come, go and change: which tries are due, which records count."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cifar_runs import LIGHT, cifar_config, write_checkpoint
from small_runs import quiet

from reproduce.config.load import override
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.evaluate import evaluate_published
from reproduce.evaluation.records import Record
from reproduce.experiments import paths
from reproduce.experiments.grids import PublishedEvaluation, find_experiment
from reproduce.results.frames import collect, read_published
from reproduce.results.plan import is_evaluated
from reproduce.zoo.checkpoints import PublishedAttack, ZooCheckpoint, robustbench

PAGE = "<!DOCTYPE html><html>quota exceeded</html>"
ITEM = PublishedEvaluation(LIGHT, "cifar10", "pgd20", seed=0)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return cifar_config(
        tmp_path, f"data.zoo={tmp_path / 'zoo'}", "eval.attacks.pgd20={steps: 1, images: 10}"
    )


def _attack(config: Config, name: str = LIGHT) -> PublishedAttack:
    return PublishedAttack(config, "cifar10", name, "pgd20", 0)


def _path(config: Config) -> Path:
    path = ZooCheckpoint(LIGHT, "cifar10", paths.zoo_folder(config.data)).path
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _try(config: Config, name: str = LIGHT) -> Record | None:
    """Attack it as a job does, of which Snakemake keeps what was due before it began."""
    zoo = ZooCheckpoint(name, "cifar10", paths.zoo_folder(config.data))
    return evaluate_published(config, zoo, "pgd20", 0, optional=True, say=quiet)


def test_a_try_is_due_once_for_every_state_of_the_file(config: Config) -> None:
    attack, path = _attack(config), _path(config)
    contents = (None, PAGE.encode(), b"", "checkpoint")
    for number, content in enumerate(contents, start=1):
        if content == "checkpoint":
            write_checkpoint(config.data.zoo)
        elif content is not None:
            path.write_bytes(content)
        # asked before the try and after it, as often as one likes
        assert attack.attempt() == number
        record = _try(config)
        assert attack.attempt() == attack.attempt() == number
        assert (record is not None) == read_json(attack.outcome)["evaluated"]
        assert (record is not None) == (content == "checkpoint")


def test_what_was_evaluated_stays_so_without_its_checkpoint(config: Config) -> None:
    attack = _attack(config)
    write_checkpoint(config.data.zoo)
    _try(config)
    _path(config).unlink()
    assert attack.attempt() == 1
    assert read_published(config, ITEM)[0] is not None
    # but not without its record
    attack.record.unlink()
    assert attack.attempt() == 2
    write_checkpoint(config.data.zoo)
    _try(config)
    assert attack.attempt() == 2


def _host(monkeypatch: pytest.MonkeyPatch, answer: bytes | None) -> None:
    """Let the file host answer with these bytes, or with none."""

    def download(_: str, path: Path) -> None:
        if answer is None:
            raise ConnectionError("no route to host")
        Path(path).write_bytes(answer)

    monkeypatch.setattr(robustbench("robustbench.utils"), "download_gdrive_new", download)


def test_a_failed_download_is_due_as_long_as_downloads_are_asked_for(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = override(config, {"data.zoo_download": True})
    _host(monkeypatch, None)
    for number in (1, 2):
        assert _attack(online).attempt() == number
        assert _try(online) is None
        assert "no route to host" in read_json(_attack(online).outcome)["reason"]
        assert _attack(config).attempt() == number
    write_checkpoint(tmp_path / "host")
    whole = ZooCheckpoint(LIGHT, "cifar10", tmp_path / "host").path.read_bytes()
    _host(monkeypatch, whole)
    assert _attack(online).attempt() == 3
    assert _try(online) is not None
    # the file that came with the try is no news
    assert _attack(online).attempt() == 3
    # RobustBench knows no file of it: there is nothing to download
    assert _try(online, "Nobody2020") is None
    assert _attack(online, "Nobody2020").attempt() == 1


def test_a_record_counts_for_the_weights_that_lie_there(config: Config) -> None:
    attack = _attack(config)
    experiment = replace(find_experiment(config, "table1"), evaluations=(), published=(ITEM,))
    write_checkpoint(config.data.zoo)
    record = _try(config)
    assert record is not None
    assert record.info["model_sha256"] == read_json(attack.outcome)["model_sha256"]
    assert is_evaluated(config, ITEM)
    # the same bytes at another time
    os.utime(_path(config), (1, 1))
    assert is_evaluated(config, ITEM)
    assert read_published(config, ITEM)[0] is not None
    network = write_checkpoint(config.data.zoo)
    torch.save({key: value + 1 for key, value in network.state_dict().items()}, _path(config))
    assert not is_evaluated(config, ITEM)
    (problem,) = collect(config, experiment).problems
    assert problem == f"{attack.record} is of other weights than {_path(config)}"
    assert attack.attempt() == 2
    again = _try(config)
    assert again is not None
    assert again.info["model_sha256"] != record.info["model_sha256"]
    assert is_evaluated(config, ITEM)
    assert attack.attempt() == 2
    # nor does one whose outcome was lost, or tells of other weights
    summary = read_json(attack.record.with_suffix(".json"))
    write_json(attack.record.with_suffix(".json"), {**summary, "model_sha256": "another"})
    assert not is_evaluated(config, ITEM)
    attack.outcome.unlink()
    assert not is_evaluated(config, ITEM)
    with pytest.raises(HarnessError, match="is of other weights"):
        read_published(config, ITEM)


def test_a_damaged_outcome_is_named(config: Config) -> None:
    attack = _attack(config)
    _try(config)
    attack.outcome.write_text("{")
    assert attack.attempt() == 1
    with pytest.raises(HarnessError, match="is damaged"):
        read_published(config, ITEM)


def test_members_of_an_ensemble_are_files_of_a_checkpoint(config: Config) -> None:
    attack, path = _attack(config), _path(config)
    members = [Path(f"{path}_m{number}.pt") for number in range(11)]
    states = {attack.checkpoint()}
    for member in members:
        member.write_bytes(b"x")
        states.add(attack.checkpoint())
    assert len(states) == 12
    assert paths.zoo_files(config.data.zoo, "cifar10", LIGHT) == members
