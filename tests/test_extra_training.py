"""Runs that train with extra images: what they use, that they continue, and what outdates them."""

from pathlib import Path

import pytest
import torch
from cifar_runs import IMAGES, cifar_config, prepare_extra
from small_runs import quiet, results, stop_at, stopped

from reproduce.cell import parse_cell
from reproduce.config.load import override
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.core.files import read_json
from reproduce.experiments import paths
from reproduce.experiments.runs import problem_with, read_run
from reproduce.experiments.spec import training_spec
from reproduce.training.images import open_images
from reproduce.training.train import train_cell

RST = parse_cell("cifar10/wrn-10-0.5/rst/lam-6/seed-0")
RST_WAR = parse_cell("cifar10/wrn-10-0.5/rst-war/lam-0/seed-0")
TRADES = parse_cell("cifar10/wrn-10-0.5/trades/lam-6/seed-0")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = cifar_config(tmp_path, "war.zeta=3")
    prepare_extra(config)
    return config


def test_a_stopped_run_continues_with_the_same_bits(config: Config, tmp_path: Path) -> None:
    train_cell(config, RST_WAR, quiet)
    elsewhere = override(config, {"results": str(tmp_path / "again")})
    with pytest.raises(Stopped):
        train_cell(elsewhere, RST_WAR, quiet, stop_at(2))
    train_cell(elsewhere, RST_WAR, quiet)
    assert results(elsewhere, RST_WAR) == results(config, RST_WAR)


def test_a_run_is_of_the_extra_images_that_it_was_trained_with(config: Config) -> None:
    for cell in (RST, TRADES):
        train_cell(config, cell, quiet)
    about = read_json(paths.run_file(paths.cell_folder(config, RST)))["data"]
    manifest = read_json(paths.prepared_file(config, "cifar10-extra").with_suffix(".json"))
    assert about["extra"]["sha256"] == manifest["sha256"]
    assert about["extra"]["images"] == 40
    assert len(about["extra"]["source_md5"]) == 32
    assert "extra" not in read_json(paths.run_file(paths.cell_folder(config, TRADES)))["data"]
    prepare_extra(config, seed=6)
    problems = {
        cell: problem_with(
            config, training_spec(config, cell), read_run(paths.cell_folder(config, cell))
        )
        for cell in (RST, TRADES)
    }
    assert problems[TRADES] is None
    assert "with other images than" in str(problems[RST])
    assert "cifar10-extra.npz" in str(problems[RST])


def test_a_saved_state_does_not_continue_with_other_extra_images(config: Config) -> None:
    stopped(config, RST, 2)
    manifest = paths.prepared_file(config, "cifar10-extra").with_suffix(".json")
    sums = [read_json(manifest)["sha256"][:12]]
    prepare_extra(config, seed=6)
    sums.append(read_json(manifest)["sha256"][:12])
    assert sums[0] != sums[1]
    line = r"was made with other extra images \(checksum {}, now {}\); put".format(*sums)
    with pytest.raises(HarnessError, match=line):
        train_cell(config, RST, quiet)


def test_batches_are_half_extra_images(config: Config) -> None:
    spec = training_spec(config, RST)
    cpu = torch.device("cpu")
    batches = open_images(config, spec, cpu).batches
    assert batches.steps(1) == IMAGES // 8
    assert len(batches.batch(1, 0)[1]) == 8
    few = training_spec(override(config, {"data.extra_images": 20}), RST)
    assert few.digest != spec.digest
    smaller = open_images(config, few, cpu)
    assert len(smaller.batches.extra) == 20
    assert smaller.about["extra"]["images"] == 40
    many = training_spec(override(config, {"data.extra_images": 50}), RST)
    with pytest.raises(HarnessError, match="50 extra images are asked for, there are 40"):
        open_images(config, many, cpu)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    config = cifar_config(tmp_path)
    with pytest.raises(HarnessError, match="run `reproduce prepare cifar10-extra` first"):
        train_cell(config, RST, quiet)
    with pytest.raises(HarnessError, match="unknown extra images 'cifar100-extra'"):
        training_spec(config, parse_cell("cifar100/wrn-10-1/rst/lam-6/seed-0"))
