"""Two processes that train one network together on a CPU, started by torchrun or as it does."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from image_folder import make_folder
from safetensors.torch import load_file
from small_runs import quiet

from reproduce.cell import parse_cell
from reproduce.compute.distributed import Group, group_here
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.rng import generator
from reproduce.data.sources import load_prepared, prepare
from reproduce.experiments import paths
from reproduce.experiments.schedules import learning_rate
from reproduce.experiments.spec import training_spec
from reproduce.models.load import build_model
from reproduce.objectives import build_objective
from reproduce.training.images import open_images
from reproduce.training.step import build_optimizer
from reproduce.training.train import check_sharing, train_cell
from reproduce.workflow.harness import Harness

CELL = parse_cell("imagenet/wrn-50-0.125/fast-at/lam-1/seed-0")


def _config(folder: Path, *sets: str) -> Config:
    settings = [
        f"data.folder={folder / 'data'}",
        f"data.imagenet={folder / 'images'}",
        f"results={folder / 'results'}",
        "data.imagenet_crop=32",
        # a decoder, a copy of its process, has the connections of that to the others
        "machine={device: cpu, loaders: 1, save_minutes: 1e-6}",
        "train_for.fast-at.epochs=2",
        "train_for.fast-at.rates=[[0, 0], [1, 0.05], [2, 0.01]]",
        # 45 images: the shares of the last batch of nine are of five and of four
        "train_for.fast-at.phases=[{epochs: 2, batch_size: 12, crop: 32}]",
        "train_for.fast-at.precision=float32",
    ]
    return load_config("{}", "paper", [*settings, *sets])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("processes")
    make_folder(folder / "images", train=8)
    for name in ("n001", "n003", "n006"):
        (folder / "images" / "train" / name / f"{name}_7.JPEG").unlink()
    config = _config(folder)
    prepare(config.data, "imagenet", paths.prepared_file(config, "imagenet"), quiet)
    return config


def _train(config: Config) -> list[str]:
    return ["-m", "reproduce", "train", CELL.id, "--config", config.model_dump_json()]


def _start(*command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run_two(*command: str) -> tuple[list[int], list[str]]:
    """Run two processes without torchrun, which takes seconds: their statuses and outputs."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    both = [_start(*command, **address, RANK=str(rank)) for rank in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    return [process.returncode for process in both], said


def _process_of(launcher: int, rank: int) -> int:
    """Return the process of a rank that torchrun started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for child in children:
        if f"\0RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text():
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


def _together(config: Config, count: int) -> dict[str, torch.Tensor]:
    """Train as `count` processes would, one after the other: gradients averaged by hand."""
    spec = training_spec(config, CELL)
    dataset = load_prepared(paths.prepared_file(config, "imagenet"))
    groups = [Group(rank, count) for rank in range(count)]
    cpu = torch.device("cpu")
    sources = [open_images(config, spec, cpu, group).batches for group in groups]
    models = [build_model(CELL.architecture, dataset.facts, 0) for _ in groups]
    for model in models:
        model.to(memory_format=torch.channels_last)
    objective = build_objective("fast", spec.train)
    optimizer = build_optimizer(models[0], spec.train)
    for epoch in range(1, spec.train.epochs + 1):
        steps = sources[0].steps(epoch)
        for step in range(steps):
            batches = [source.batch(epoch, step) for source in sources]
            whole = sum(len(labels) for _, labels in batches)
            for rank, (images, labels) in enumerate(batches):
                place = (epoch, step, rank) if rank else (epoch, step)
                attack = spec.train.attack
                start = objective.start(images, attack, generator(0, "attack", *place))
                found = objective.perturb(models[rank], images, labels, attack, start)
                for one, first in zip(models[rank].buffers(), models[0].buffers(), strict=True):
                    one.copy_(first)
                models[rank].zero_grad()
                loss = objective.terms(models[rank], images, found.images, labels).robust
                (count * len(labels) / whole * loss).backward()
            for same in zip(*(model.parameters() for model in models), strict=True):
                same[0].grad = torch.stack([parameter.grad for parameter in same]).mean(0)
            for settings in optimizer.param_groups:
                settings["lr"] = learning_rate(spec.train, epoch, step, steps)
            optimizer.step()
            for model in models[1:]:
                for mine, first in zip(model.parameters(), models[0].parameters(), strict=True):
                    mine.data.copy_(first.data)
    return models[0].state_dict()


@pytest.fixture(scope="module")
def of_two(config: Config) -> dict[str, torch.Tensor]:
    return _together(config, 2)


@pytest.mark.slow
def test_two_processes_stopped_killed_and_continued(
    config: Config, of_two: dict[str, torch.Tensor]
) -> None:
    folder = paths.cell_folder(config, CELL)
    status, (said, silent) = _run_two(*_train(config), "--max-minutes", "0.0001")
    assert status == [75, 75]
    assert "stopped after 0.0001 minutes in epoch 1 of 2; everything is saved" in said
    assert "2 x " in said
    assert "epochs on" not in silent

    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    killed = _start(*torchrun, *_train(config))
    assert killed.stdout is not None
    assert any("epoch 1/2" in line for line in killed.stdout)
    os.kill(_process_of(killed.pid, 1), signal.SIGKILL)
    said, _ = killed.communicate(timeout=600)
    assert killed.returncode != 0
    # torchrun names the process that was lost, and ends the other
    assert "Signal 9 (SIGKILL) received" in said
    assert not paths.run_file(folder).exists()

    status, (said, silent) = _run_two(*_train(config))
    assert status == [0, 0], said
    assert "continuing in epoch 2" in said
    # one of the two speaks
    assert "epoch" not in silent
    run = json.loads(paths.run_file(folder).read_text())
    assert [piece["processes"] for piece in run["pieces"]] == [2, 2, 2]
    ours = load_file(paths.model_file(folder, "last"))
    # a step that was interrupted and taken again is the same step, to the bit
    assert all(torch.equal(ours[name], value) for name, value in of_two.items())


def test_one_process_alone_is_the_same_formula(
    config: Config, of_two: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """What the comparison above rests on; and shares do change what BatchNorm sees."""
    alone = config.model_copy(update={"results": tmp_path})
    train_cell(alone, CELL, quiet, lambda: None)
    ours = load_file(paths.model_file(paths.cell_folder(alone, CELL), "last"))
    expected = _together(config, 1)
    assert all(torch.equal(ours[name], value) for name, value in expected.items())
    assert not torch.allclose(expected["conv1.weight"], of_two["conv1.weight"], rtol=1e-3)


def test_only_batches_of_files_are_shared(config: Config) -> None:
    spec = training_spec(config, parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0"))
    check_sharing(spec, Group())
    with pytest.raises(HarnessError, match="trains in one process, 2 were started"):
        check_sharing(spec, Group(0, 2))
    check_sharing(training_spec(config, CELL), Group(1, 2))
    perturbed = training_spec(config, replace(CELL, method="awp-trades"))
    with pytest.raises(HarnessError, match="without weight perturbation"):
        check_sharing(perturbed, Group(0, 2))


def test_the_environment_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert group_here() == Group(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert group_here() == Group(3, 4)
    assert [Group(rank, 3).part(10) for rank in range(3)] == [(0, 3), (3, 6), (6, 10)]


def test_snakemake_starts_a_process_a_gpu_and_counts_what_decodes(config: Config) -> None:
    tree = json.loads(config.model_dump_json())
    tree["machine"] |= {"device": "cuda", "gpus_per_cell": 4, "loaders": 8, "threads": 2}
    harness = Harness(tree)
    several, one = (
        harness.job({"cell": cell}) for cell in (CELL.id, "cifar10/wrn-34-1/trades/lam-6/seed-0")
    )
    assert (several.gpus, one.gpus) == (4, 1)
    assert several.launcher == (
        "python -m torch.distributed.run --standalone --nproc-per-node 4 -m reproduce"
    )
    assert one.launcher == "python -m reproduce"
    assert (several.threads, one.threads) == (4 * (2 + 8), 2)
    attack = {"cell": CELL.id, "choice": "", "attack": "pgd20", "seed": "0"}
    assert harness.job(attack).threads == 8
    tree["machine"] |= {"device": "cpu", "processes": 3}
    on_cpu = Harness(tree)
    assert on_cpu.job({"cell": CELL.id}).launcher == "python -m reproduce"
    assert on_cpu.job({"cell": CELL.id}).threads == 2 + 8
    assert on_cpu.job(attack).threads == 3 * 8
