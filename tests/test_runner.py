"""The runner: shards, interruptions, processes, and the packaged attacks inside it."""

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
from small_runs import record_of

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.evaluate import evaluate_model
from reproduce.evaluation.shards import Worker, shard_file
from reproduce.experiments import paths
from reproduce.models.load import ModelSource

ATTACKS = ("pgd20", "cw20", "fab", "square", "autoattack")


def _bytes(config: Config) -> dict[str, bytes]:
    root = paths.root(config)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.npz")}


def test_the_network_is_worth_attacking(tiny: Callable, source: ModelSource) -> None:
    """Other tests compare verdicts: there must be images of both kinds."""
    record = record_of(tiny(*SMALL), source, "autoattack")
    assert record.metrics.natural_accuracy > 60
    assert 5 < record.metrics.robust_accuracy < record.metrics.natural_accuracy - 10
    assert record.metrics.perturbation_stability is None


@pytest.mark.parametrize("attack", ATTACKS)
def test_stopped_and_continued_is_the_same_record(
    tiny: Callable[..., Config],
    source: ModelSource,
    attack: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed after every shard, and in the middle of the next one."""
    whole = tiny(*SMALL, f"results={tmp_path / 'whole'}")
    record_of(whole, source, attack)
    parts = tiny(*SMALL, f"results={tmp_path / 'parts'}")
    run, computed = Worker.run, []

    def killed(worker: Worker, number: int, *rest: object) -> object:
        if computed and computed[-1] == number - 1:
            computed.append(-2)
            raise KeyboardInterrupt
        found = run(worker, number, *rest)
        computed.append(number)
        return found

    monkeypatch.setattr(Worker, "run", killed)
    for _ in range(3):
        try:
            record_of(parts, source, attack)
        except KeyboardInterrupt:
            assert list(paths.root(parts).rglob("*.shards/*.npz"))
    assert [number for number in computed if number >= 0] == [0, 1, 2]
    assert _bytes(parts) == _bytes(whole)
    assert not list(paths.root(parts).rglob("*.shards"))


@pytest.mark.parametrize("attack", ["pgd20", "autoattack"])
def test_four_processes_make_the_same_record(
    tiny: Callable[..., Config], source: ModelSource, attack: str, tmp_path: Path
) -> None:
    records = []
    for processes in (1, 4):
        config = tiny(
            *SMALL, f"results={tmp_path / str(processes)}", f"machine.processes={processes}"
        )
        record_of(config, source, attack)
        records.append(_bytes(config))
    assert records[0] == records[1]


def test_a_killed_command_continues(tmp_path: Path, tiny: Callable, source: ModelSource) -> None:
    """SIGKILL to a real process with a pool: its processes end too, the record is the same."""
    config = tiny(*SMALL, "eval.shard=4", "eval.attacks.square.queries=300", "machine.processes=2")
    whole = tiny(
        *SMALL, "eval.shard=4", "eval.attacks.square.queries=300", f"results={tmp_path / 'whole'}"
    )
    record_of(whole, source, "square")
    command = [sys.executable, "-m", "reproduce", "evaluate", "--weights", str(source.weights)]
    command += ["--architecture", "wrn-10-0.25", "--dataset", "digits", "--attack", "square"]
    environment = {
        **os.environ,
        "REPRODUCE_CONFIG": config.model_dump_json(),
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 600
    while not list(paths.root(config).rglob("*.shards/[0-9]*.npz")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    for _ in range(100):
        alive = subprocess.run(
            ["pgrep", "--session", str(process.pid)], capture_output=True, check=False
        ).stdout
        if not alive:
            break
        time.sleep(0.1)
    assert not alive
    done = len(list(paths.root(config).rglob("*.shards/[0-9]*.npz")))
    assert 0 < done < 10
    said: list[str] = []
    evaluate_model(config, source, "square", 0, said.append)
    assert f"continuing after {4 * done} of 40 images" in said[0]
    assert _bytes(config) == _bytes(whole)


@pytest.mark.parametrize("pause", [0, 0.5])
def test_a_killed_process_of_the_pool_is_named(
    tiny: Callable[..., Config],
    source: ModelSource,
    monkeypatch: pytest.MonkeyPatch,
    pause: float,
) -> None:
    config = tiny(*SMALL, "eval.shard=8", "machine.processes=2", "eval.attacks.square.queries=1500")

    def kill_one(*_: object) -> None:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        time.sleep(pause)

    # whether the pool notices in a result or when it is given the next shard
    monkeypatch.setattr("reproduce.core.progress.ProgressBar.line", kill_one)
    with pytest.raises(HarnessError, match="a process was killed; the same command continues"):
        record_of(config, source, "square")
    monkeypatch.undo()
    assert len(record_of(config, source, "square").index) == 40


@pytest.mark.parametrize("attack", ["pgd20", "cw20"])
def test_the_shard_has_no_say_in_pgd(
    tiny: Callable[..., Config], source: ModelSource, attack: str, tmp_path: Path
) -> None:
    """Nor has the batch; rounding could, on so few images of a small network it does not."""
    records = []
    for shard, batch in ((40, 40), (7, 40), (16, 5)):
        config = tiny(
            *SMALL,
            f"eval.shard={shard}",
            f"machine.eval_batch={batch}",
            f"results={tmp_path / str(shard)}",
        )
        records.append(record_of(config, source, attack))
    for record in records[1:]:
        assert np.array_equal(record.adversarial, records[0].adversarial)
        assert record.info["digest"] == records[0].info["digest"]


def test_other_seeds_are_other_starts(tiny: Callable[..., Config], source: ModelSource) -> None:
    config = tiny(*SMALL)
    # FAB and AutoAttack find the same classes from all starts on a network so small
    for attack in ("pgd20", "cw20", "square"):
        found = [record_of(config, source, attack, seed).adversarial for seed in range(3)]
        assert any(not np.array_equal(found[0], other) for other in found[1:]), attack


def test_damaged_and_foreign_shards_are_made_again(
    tiny: Callable[..., Config], source: ModelSource, tmp_path: Path
) -> None:
    config = tiny(*SMALL, "machine.max_minutes=0.0000001")
    whole = tiny(*SMALL, f"results={tmp_path / 'whole'}")
    record_of(whole, source, "fab")
    shards = _unfinished(config, source, "fab")
    other = _unfinished(tiny(*SMALL, "machine.max_minutes=0.0000001"), source, "square")
    path, foreign = shard_file(shards, 0), shard_file(other, 0)
    written = path.read_bytes()
    for damage, message in (
        (written[: len(written) // 2], "is damaged"),
        (b"", "is damaged"),
        (foreign.read_bytes(), "is of another network or other settings"),
    ):
        path.write_bytes(damage)
        said: list[str] = []
        with pytest.raises(Stopped):
            evaluate_model(config, source, "fab", 0, said.append)
        assert message in said[0]
        path.write_bytes(damage)
    done = tiny(*SMALL)
    evaluate_model(done, source, "fab", 0, said.append)
    # finished with another size of shards, the older ones are of no use
    other = tiny(*SMALL, "eval.shard=20")
    _unfinished(config, source, "square")
    evaluate_model(other, source, "square", 0, said.append)
    assert not list(paths.root(config).rglob("*.shards"))
    name = next(name for name in _bytes(whole) if "fab" in name)
    assert _bytes(done)[name] == _bytes(whole)[name]


def _unfinished(config: Config, source: ModelSource, attack: str) -> Path:
    """Compute one shard of an evaluation and return the folder of its shards."""
    run = Worker.run
    with pytest.MonkeyPatch.context() as patch:

        def once(worker: Worker, number: int, *rest: object) -> object:
            if number:
                raise KeyboardInterrupt
            return run(worker, number, *rest)

        patch.setattr(Worker, "run", once)
        with pytest.raises(KeyboardInterrupt):
            record_of(
                config.model_copy(
                    update={"machine": config.machine.model_copy(update={"max_minutes": None})}
                ),
                source,
                attack,
            )
    (folder,) = paths.root(config).rglob(f"{attack}-*.shards")
    return folder


def test_a_record_of_something_else_is_made_again(
    tiny: Callable[..., Config], source: ModelSource
) -> None:
    config = tiny(*SMALL)
    record_of(config, source, "pgd20")
    (path,) = paths.root(config).rglob("pgd20-seed0.json")
    info = read_json(path)
    for change, message in (
        ({"model_sha256": "another"}, "is of another network: attacking again"),
        ({"digest": "another"}, "was made with other settings: attacking again"),
        ({"data": {"sha256": "another"}}, "is of other images than"),
        ({"warnings": None}, "is damaged at 'warnings'"),
        ({"parts": ["pgd", 3]}, "is damaged at 'parts.1'"),
    ):
        write_json(path, info | change)
        said: list[str] = []
        evaluate_model(config, source, "pgd20", 0, said.append)
        assert message in said[0]
        assert read_json(path)["model_sha256"] == info["model_sha256"]


def test_partial_records_have_other_names(tiny: Callable[..., Config], source: ModelSource) -> None:
    config = tiny(
        *SMALL, "eval.attacks.autoattack.version=preview", "eval.attacks.autoattack.images=20"
    )
    record = record_of(config, source, "autoattack")
    assert len(record.index) == 20
    assert record.info["parts"] == ["apgd-ce", "apgd-t"]
    (name,) = (Path(name).name for name in _bytes(config))
    assert name == "autoattack-preview-n20-seed0.npz"
    full = record_of(tiny(*SMALL), source, "autoattack")
    assert set(record.index) < set(full.index)
    # ten classes, twenty images: two of each, within one
    assert np.bincount(record.label, minlength=10).max() <= 3


def test_time_is_up(tiny: Callable[..., Config], source: ModelSource) -> None:
    config = tiny(*SMALL, "machine.max_minutes=0.0000001")
    with pytest.raises(Stopped, match="all finished shards are kept"):
        record_of(config, source, "pgd20")
