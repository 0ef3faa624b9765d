"""Shards: interruptions, processes, damaged files, and attacks of both kinds through them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from small_runs import SMALL_ATTACKS as SMALL
from small_runs import quiet, record_of

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.attack import Worker
from reproduce.evaluation.evaluate import evaluate_model
from reproduce.experiments import paths
from reproduce.models.load import ModelSource


def _bytes(config: Config) -> dict[str, bytes]:
    root = paths.root(config)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.npz")}


def _stop_after(config: Config, source: ModelSource, attack: str, shards: int) -> Path:
    """Interrupt an evaluation after so many shards, within the next; return their folder."""
    run, left = Worker.run, shards

    def interrupted(worker: Worker, number: int) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return run(worker, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Worker, "run", interrupted)
        record_of(config, source, attack)
    (folder,) = paths.root(config).rglob(f"{attack}-*.shards")
    return folder


# Square breaks no image of these networks with the queries of SMALL
MORE = "eval.attacks.square.queries=300"


# the one draws noise for each image, the others for each shard
@pytest.mark.parametrize("attack", ["pgd20", "square"])
def test_interrupted_and_continued_is_the_same_record(
    tiny: Callable[..., Config], source: ModelSource, attack: str, tmp_path: Path
) -> None:
    whole = tiny(*SMALL, MORE, f"results={tmp_path / 'whole'}")
    record = record_of(whole, source, attack)
    # there are images of both kinds, or equal records would say little
    assert 5 < record.metrics.robust_accuracy < record.metrics.natural_accuracy
    parts = tiny(*SMALL, MORE, f"results={tmp_path / 'parts'}")
    for _ in range(2):
        assert list(_stop_after(parts, source, attack, 1).glob("*.npz"))
    said: list[str] = []
    evaluate_model(parts, source, attack, 0, said.append)
    assert "continuing after 32 of 40 images" in said[0]
    assert _bytes(parts) == _bytes(whole)
    assert not list(paths.root(parts).rglob("*.shards"))


@pytest.mark.slow
def test_a_killed_command_and_several_processes(
    tmp_path: Path, tiny: Callable, source: ModelSource
) -> None:
    """SIGKILL to a command with a pool: its processes end too, and a pool makes the same record."""
    sets = (*SMALL, "eval.shard=4", "eval.attacks.square.queries=200")
    whole = tiny(*sets, f"results={tmp_path / 'whole'}")
    record_of(whole, source, "square")
    config = tiny(*sets, "machine.processes=2")
    command = [sys.executable, "-m", "reproduce", "evaluate", "--weights", str(source.weights)]
    command += ["--architecture", "wrn-10-0.25", "--dataset", "digits", "--attack", "square"]
    settings = {"REPRODUCE_CONFIG": config.model_dump_json(), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=os.environ | settings, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(paths.root(config).rglob("*.shards/[0-9]*.npz")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    pgrep = ["pgrep", "--session", str(process.pid)]
    for _ in range(600):
        if subprocess.run(pgrep, stdout=subprocess.DEVNULL, check=False).returncode:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process of the pool outlives its parent")
    done = len(list(paths.root(config).rglob("*.shards/[0-9]*.npz")))
    assert 0 < done < 10
    said: list[str] = []
    evaluate_model(config, source, "square", 0, said.append)
    assert f"continuing after {4 * done} of 40 images" in said[0]
    assert _bytes(config) == _bytes(whole)


@pytest.mark.slow
def test_a_killed_process_of_the_pool_is_named(
    tiny: Callable[..., Config], source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(*SMALL, "eval.shard=4", "machine.processes=2")

    def kill_one(*_: object) -> None:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    monkeypatch.setattr("reproduce.core.progress.ProgressBar.line", kill_one)
    with pytest.raises(HarnessError, match="a process was killed; the same command continues"):
        record_of(config, source, "square")


def test_shard_and_batch_have_no_say_in_pgd(
    tiny: Callable[..., Config], source: ModelSource, tmp_path: Path
) -> None:
    """Rounding could differ; on so few images of a small network it does not."""
    records = []
    for shard, batch in ((40, 40), (7, 40), (16, 5)):
        sizes = [f"eval.shard={shard}", f"machine.eval_batch={batch}"]
        config = tiny(*SMALL, *sizes, f"results={tmp_path / str(shard)}")
        records.append(record_of(config, source, "pgd20"))
    for record in records[1:]:
        assert np.array_equal(record.adversarial, records[0].adversarial)
        assert record.info["digest"] == records[0].info["digest"]


def test_other_seeds_are_other_starts(tiny: Callable[..., Config], source: ModelSource) -> None:
    found = [record_of(tiny(*SMALL), source, "pgd20", seed).adversarial for seed in range(3)]
    assert any(not np.array_equal(found[0], other) for other in found[1:])


def test_damaged_and_foreign_shards_are_made_again(
    tiny: Callable[..., Config], source: ModelSource, tmp_path: Path
) -> None:
    whole = tiny(*SMALL, f"results={tmp_path / 'whole'}")
    record_of(whole, source, "pgd20")
    config = tiny(*SMALL)
    path = _stop_after(config, source, "pgd20", 1) / "0000.npz"
    foreign = _stop_after(config, source, "cw20", 1) / "0000.npz"
    written = path.read_bytes()
    late = tiny(*SMALL, "machine.max_minutes=0.0000001")
    for damage in (written[: len(written) // 2], foreign.read_bytes()):
        path.write_bytes(damage)
        said: list[str] = []
        # every call gets a shard further
        with pytest.raises(Stopped, match="all finished shards are kept"):
            evaluate_model(late, source, "pgd20", 0, said.append)
        assert "is damaged, or of another network or other settings" in said[0]
    record_of(config, source, "pgd20")
    assert not list(paths.root(config).rglob("pgd20*.shards"))
    (name,) = _bytes(whole)
    assert _bytes(config)[name] == _bytes(whole)[name]


def test_a_record_of_something_else_is_made_again(
    tiny: Callable[..., Config], source: ModelSource
) -> None:
    config = tiny(*SMALL)
    record_of(config, source, "pgd20")
    (path,) = paths.root(config).rglob("pgd20-seed0.json")
    info = read_json(path)
    for change, message in (
        ({"model_sha256": "another"}, "is of other weights: attacking again"),
        ({"digest": "another"}, "was made with other settings"),
        ({"data": {**info["data"], "sha256": "another"}}, "is of other images than"),
        ({"warnings": None}, "is damaged at 'warnings'"),
    ):
        write_json(path, info | change)
        said: list[str] = []
        evaluate_model(config, source, "pgd20", 0, said.append)
        assert message in said[0]
        assert read_json(path)["model_sha256"] == info["model_sha256"]


def test_partial_records_have_other_names(tiny: Callable[..., Config], source: ModelSource) -> None:
    sets = ("eval.attacks.autoattack.version=preview", "eval.attacks.autoattack.images=20")
    config = tiny(*SMALL, *sets)
    record = evaluate_model(config, source, "autoattack", 0, quiet)
    assert record.info["parts"] == ["apgd-ce", "apgd-t"]
    assert record.metrics.perturbation_stability is None
    (name,) = (Path(name).name for name in _bytes(config))
    assert name == "autoattack-preview-n20-seed0.npz"
    # twenty images, ten classes: two of each, within one
    assert len(set(record.index)) == len(record.index) == 20
    assert np.bincount(record.label, minlength=10).max() <= 3
