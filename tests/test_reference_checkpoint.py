"""The committed WideResNet-34-1: its record, attacked again on a CPU."""

from pathlib import Path

import numpy as np
import torch
from conftest import ROOT

from reproduce.cell import parse_cell
from reproduce.config.load import load_config
from reproduce.data.sources import prepare
from reproduce.evaluation.attack import Job, Worker
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths
from reproduce.experiments.runs import read_run
from reproduce.experiments.spec import evaluation_spec
from reproduce.models.load import ModelSource

CELL = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
FOLDER = ROOT / "results" / "reference" / "cpu" / "paper"
IMAGES = 64


def test_its_record_is_what_the_attack_gives(real_cifar: Path, tmp_path: Path) -> None:
    places = [f"data.folder={tmp_path}", f"data.cifar10={real_cifar / 'cifar10.npz'}"]
    config = load_config(FOLDER / "config.yaml", None, [*places, "machine.device=cpu"])
    folder = FOLDER / "cells" / CELL.id
    run = read_run(folder)
    assert run is not None
    prepared = paths.prepared_file(config, "cifar10")
    prepare(config.data, "cifar10", prepared)
    weights = paths.model_file(folder, "best-test")
    record = read_record(paths.record_file(folder, "best-test", "pgd20", 0))
    spec = evaluation_spec(config, CELL, "pgd20", 0, "best-test")
    assert record.info["digest"] == spec.digest
    source = ModelSource(CELL.dataset, CELL.architecture, weights)
    job = Job(spec, source, run.models["best-test"], prepared, IMAGES, config.machine)
    ours = vars(Worker(job, torch.device("cpu")).run(0))
    theirs = {key: getattr(record, key)[:IMAGES] for key in ("index", "clean", "adversarial")}
    assert np.array_equal(ours["index"], theirs["index"])
    # another processor rounds otherwise
    assert (ours["clean"] != theirs["clean"]).sum() <= 1
    assert (ours["adversarial"] != theirs["adversarial"]).sum() <= 1
