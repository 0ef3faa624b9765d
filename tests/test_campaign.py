"""How far a campaign is: every state told from files and locks alone, and what is left."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_CELL
from made_up import write_made_up, write_run
from small_runs import EPOCHS, STEPS, quiet, stop_at

from reproduce import paths
from reproduce.campaign import RunStatus, find_campaign, read_status, run_work, survey
from reproduce.campaign.logs import failure
from reproduce.cells import Cell, parse_cell
from reproduce.config import Config
from reproduce.errors import HarnessError, Stopped
from reproduce.experiments import Evaluation, PublishedEvaluation, experiment_names, find_experiment
from reproduce.files import exclusive, is_held, read_json, write_json
from reproduce.outcomes import PublishedAttack
from reproduce.planning import plan
from reproduce.saved import read_rows, state_file
from reproduce.settings import load_config
from reproduce.specs import checkpoints, training_spec
from reproduce.training import train_cell

ERROR = f"reproduce: {TINY_CELL}: the loss is NaN\n"
STOP = f"reproduce: {TINY_CELL}: stopped by SIGINT in epoch 2 of 3; everything is saved, "


def _status(config: Config) -> RunStatus:
    return read_status(config, run_work(config, parse_cell(TINY_CELL)))


def _stop(config: Config, cell: Cell, steps: int) -> Path:
    """Train for so many steps and return the saved state."""
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(steps))
    return state_file(paths.cell_folder(config, cell), training_spec(config, cell).digest)


def _log(config: Config, text: str) -> Path:
    path = paths.log_file(config, "train", TINY_CELL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_from_waiting_to_done(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    lock = paths.training_lock(paths.cell_folder(config, cell))
    assert (_status(config).state, _status(config).text) == ("waiting", "not begun")
    with exclusive(lock, "test"):
        begun = _status(config)
        assert (begun.state, begun.epoch, begun.loss) == ("running", 0, None)
    assert _status(config).state == "waiting"
    # after one step of the second epoch
    saved = _stop(config, cell, STEPS + 3)
    found = _status(config)
    assert (found.state, found.text) == ("saved", "saved in epoch 2 of 3")
    progress, iterations, rows = read_rows(saved)
    assert iterations == STEPS + progress["step"]
    assert found.epochs_done == pytest.approx(1 + progress["step"] / STEPS)
    assert found.metrics == progress["epochs"][0]
    assert found.loss == pytest.approx((rows[:, 1].mean(), rows[:, 2].mean()))
    assert found.seconds == pytest.approx(sum(piece["seconds"] for piece in progress["pieces"]))
    assert found.saved_at == saved.stat().st_mtime
    with exclusive(lock, "test"):
        assert _status(config) == replace(found, state="running")
    train_cell(config, cell, quiet)
    ended = _status(config)
    assert (ended.state, ended.text, ended.epochs_done) == ("done", "trained", EPOCHS)
    assert ended.seconds == read_json(paths.run_file(lock.parent))["seconds"]
    assert _status(tiny("train.momentum=0.5")).state == "waiting"
    assert _status(tiny("train.momentum=0.5")).text == "was trained with other settings"


def test_a_part_of_the_first_epoch_says_nothing_of_its_length(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    _stop(tiny(), cell, 1)
    found = _status(tiny())
    assert (found.state, found.epoch, found.epochs_done) == ("saved", 1, None)


def test_only_the_last_rows_of_a_trace_are_read(tiny: Callable[..., Config], cell: Cell) -> None:
    saved = _stop(tiny(), cell, STEPS + 3)
    everything, last = read_rows(saved), read_rows(saved, 2)
    assert last.iterations == everything.iterations == len(everything.rows)
    np.testing.assert_array_equal(last.rows, everything.rows[-2:])
    before = read_rows(_stop(tiny(), parse_cell("digits/wrn-10-0.25/at/lam-1/seed-0"), 0))
    assert (before.iterations, before.rows.shape) == (0, (0, 6))


def test_a_failed_run_is_told_from_a_stopped_one(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    log = _log(config, f"epoch 1/3\n{ERROR}")
    found = _status(config)
    assert (found.state, found.error) == ("failed", f"{TINY_CELL}: the loss is NaN")
    # somebody is at it again
    with exclusive(paths.training_lock(paths.cell_folder(config, cell)), "test"):
        assert _status(config).state == "running"
    # and got further than the run that failed
    saved = _stop(config, cell, STEPS + 3)
    os.utime(log, (saved.stat().st_mtime - 1,) * 2)
    assert _status(config).state == "saved"
    os.utime(log, (saved.stat().st_mtime + 1,) * 2)
    assert _status(config).state == "failed"
    _log(config, f"epoch 1/3\n{STOP}run the same command again to continue\n")
    assert _status(config).state == "saved"
    train_cell(config, cell, quiet)
    _log(config, ERROR)
    assert _status(config).state == "done"


def test_what_stops_says_so_in_the_words_that_are_looked_for(
    tiny: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    """The log of a stopped job, as the command writes it, is none of a failure."""
    said = run_command(tiny(), "train", TINY_CELL, "--max-minutes", "0.000001", status=75)
    log = _log(tiny(), said)
    assert said.strip().splitlines()[-1].startswith("reproduce: ")
    assert failure(log) is None
    assert _status(tiny()).state == "saved"
    said = run_command(tiny("train.momentum=0.5"), "evaluate", TINY_CELL, status=1)
    assert "is not trained" in failure(_log(tiny(), said))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("epoch 1/3 robust 40\n", None),
        (
            "Traceback (most recent call last):\n  File x\nRuntimeError: CUDA error\n",
            "RuntimeError",
        ),
        ("Traceback\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ("torch.OutOfMemoryError: CUDA out of memory.\n", "torch.OutOfMemoryError"),
        ("reproduce: the disk is full\n[rank0] ends\n", "the disk is full"),
        ("x" * 20_000 + "\nreproduce: late\n", "late"),
        ("/a/b.py:3: UserWarning: old\n  warn()\n", None),
        ("\xff\xfe", None),
    ],
)
def test_the_end_of_a_log(tmp_path: Path, text: str, found: str | None) -> None:
    log = tmp_path / "a.log"
    assert failure(log) is None
    log.write_bytes(text.encode("latin-1"))
    said = failure(log)
    assert said is found is None or found in said


def test_damaged_files_are_shown_as_such(tiny: Callable[..., Config], cell: Cell) -> None:
    saved = _stop(tiny(), cell, STEPS + 3)
    whole = saved.read_bytes()
    spoilt = (
        b"",
        whole[:1000],
        whole.replace(b'\\"epochs\\": [', b'\\"epochs\\": 7, \\"e\\": [', 1),
    )
    for content in spoilt:
        assert content != whole
        saved.write_bytes(content)
        found = _status(tiny())
        assert found.state == "damaged"
        assert str(saved) in found.error
        assert found.text == "damaged; `reproduce train` says what"
    saved.unlink()
    run = paths.run_file(paths.cell_folder(tiny(), cell))
    for content in ("[]", "{}", "no json"):
        run.write_text(content)
        assert _status(tiny()).state == "damaged"
        assert str(run) in _status(tiny()).error
    seen = survey(find_campaign(tiny(), ["table1"]), time.time())
    assert seen.count_runs() == {"damaged": 1, "waiting": 3}


HOLD = """
import sys, time
from pathlib import Path
from reproduce.files import exclusive
with exclusive(Path(sys.argv[1]), "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_of_another_process_is_seen_until_it_ends(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    assert not is_held(lock)
    assert not lock.exists()
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            assert is_held(lock)
            refused = pytest.raises(HarnessError, match="a test is being worked on")
            with refused, exclusive(lock, "a test"):
                pass
        finally:
            process.kill()
    assert not is_held(lock)
    lock.chmod(0)
    assert not is_held(lock)  # who may not read it cannot tell; root can


def test_looking_never_keeps_a_run_from_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with exclusive(lock, "a run"):
        pass
    ended, wrong = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            wrong.append(is_held(lock))

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for thread in lookers:
        thread.start()
    try:
        # those who look do not take each other for a run
        time.sleep(0.2)
        assert not any(wrong)
        for _ in range(50):
            with exclusive(lock, "a run"):
                assert is_held(lock)
    finally:
        ended.set()
        for thread in lookers:
            thread.join()


@pytest.fixture
def paper(tmp_path: Path) -> Config:
    return load_config("{}", "paper", [f"results={tmp_path}", f"data.folder={tmp_path / 'data'}"])


def _files(config: Config) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in config.results.rglob("*")}


def test_what_is_left_of_the_paper(paper: Config) -> None:
    """Runs took twice the planned hours, the one attack that was made a tenth of them."""
    campaign = find_campaign(paper, ["table1"])
    (planned,) = plan(paper, ["table1"])
    first = survey(campaign, 0.0)
    assert first.hours_left == pytest.approx(planned.hours_left)
    assert (first.pace.training, first.pace.attacks) == (None, None)
    assert first.count_runs() == first.count_attacks() == {"waiting": 99}
    items = find_experiment(paper, "table1").evaluations[:3]
    hours = {work.cell: work.hours for work in campaign.runs}
    attacks = {work.item: work.hours for work in campaign.attacks}
    for item in items:
        folder = paths.cell_folder(paper, item.cell)
        write_run(paper, item, seconds=2 * 3600 * hours[item.cell])
        for path in paths.run_files(folder, checkpoints(paper.train)):
            path.touch()
    index = np.arange(10)
    write_made_up(paper, items[0], index, index < 5, seconds=360 * attacks[items[0]])
    _outdated(paper, items[1])
    with exclusive(paths.evaluation_lock(_record(paper, items[2])), "test"):
        before = _files(paper)
        seen = survey(campaign, 1.0)
        assert _files(paper) == before
    assert seen.count_runs() == {"done": 3, "waiting": 96}
    assert seen.count_attacks() == {"done": 1, "running": 1, "waiting": 97}
    assert seen.pace.training == pytest.approx(2)
    assert seen.pace.attacks == pytest.approx(0.1)
    training = sum(hours.values()) - sum(hours[item.cell] for item in items)
    attacking = sum(attacks.values()) - attacks[items[0]]
    assert seen.hours_left == pytest.approx(2 * training + 0.1 * attacking)
    assert (seen.jobs, seen.time_left) == (1, seen.hours_left)
    assert not seen.finished


def _record(config: Config, item: Evaluation) -> Path:
    label = config.eval.label(item.attack)
    folder = paths.cell_folder(config, item.cell)
    return paths.record_file(folder, item.checkpoint, label, item.seed)


def _outdated(config: Config, item: Evaluation) -> None:
    index = np.arange(10)
    write_made_up(config, item, index, index < 5, digest="of other settings")


def test_the_rate_is_of_the_runs_at_work(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    other = replace(cell, seed=1)
    for one in (cell, other):
        _stop(config, one, STEPS + 3)
    campaign = find_campaign(config, ["table1"])
    assert survey(campaign, 0.0).epochs_an_hour is None
    folders = [paths.cell_folder(config, one) for one in (cell, other)]
    with exclusive(paths.training_lock(folders[0]), "test"):
        first = survey(campaign, 0.0)
        with exclusive(paths.training_lock(folders[1]), "test"):
            both = survey(campaign, 0.0)
    runs = [run for run in both.runs if run.state == "running"]
    rates = [3600 * run.epochs_done / run.seconds for run in runs]
    assert first.epochs_an_hour == pytest.approx(rates[0])
    assert both.epochs_an_hour == pytest.approx(sum(rates))
    assert (first.jobs, both.jobs) == (1, 2)
    # what is done of the two counts in part
    done = sum(run.work.hours * run.epochs_done / EPOCHS for run in runs)
    seconds = sum(run.seconds for run in runs)
    assert both.pace.training == pytest.approx(seconds / 3600 / done)
    planned = sum(run.work.hours for run in both.runs) - done
    planned += sum(attack.work.hours for attack in both.attacks)
    # no attack was measured, so they go by the pace of training
    assert both.hours_left == pytest.approx(both.pace.training * planned)
    assert both.time_left == pytest.approx(both.hours_left / 2)


def test_evaluations_fail_and_checkpoints_cannot_be_had(paper: Config) -> None:
    campaign = find_campaign(paper, ["table4"])
    theirs = [w for w in campaign.attacks if isinstance(w.item, PublishedEvaluation)]
    ours = [work for work in campaign.attacks if work not in theirs]
    for work in (theirs[0], ours[0]):
        work.log.parent.mkdir(parents=True, exist_ok=True)
        work.log.write_text("reproduce: the disk is full\n")
    item = theirs[1].item
    attack = PublishedAttack(paper, item.dataset, item.name, item.attack, item.seed)
    attack.keep_failure(1, "the host is down", missing=True)
    damaged = theirs[2].item
    outcome = PublishedAttack(paper, damaged.dataset, damaged.name, damaged.attack, 0).outcome
    outcome.parent.mkdir(parents=True)
    outcome.write_text("no json")
    seen = survey(campaign, 0.0)
    assert seen.count_attacks() == {
        "failed": 2,
        "unavailable": 1,
        "waiting": len(campaign.attacks) - 3,
    }
    reasons = {a.work.name: a.error for a in seen.attacks if a.error is not None}
    assert reasons == {
        f"{theirs[0].item.name} autoattack-seed0": "the disk is full",
        f"{item.name} autoattack-seed0": "the host is down",
        f"{ours[0].item.cell}{_choice(ours[0].item)} autoattack-seed0": "the disk is full",
    }


def _choice(item: Evaluation) -> str:
    return "" if item.checkpoint == "best-test" else f" ({item.checkpoint})"


def test_the_log_of_an_evaluation_is_where_the_workflow_writes_it(paper: Config) -> None:
    rules = (Path(__file__).parent.parent / "workflow" / "rules" / "evaluate.smk").read_text()
    assert '"evaluate{choice}" / "{cell}" / "{attack}-seed{seed}.log"' in rules
    works = {
        work.item.checkpoint: work
        for name in ("table1", "table4")
        for work in find_campaign(paper, [name]).attacks
        if not isinstance(work.item, PublishedEvaluation)
    }
    logs = paths.root(paper) / "logs"
    plain = works["best-test"]
    assert plain.log == logs / "evaluate" / plain.item.cell.id / f"{plain.record.stem}.log"
    last = works["last"]
    assert last.log == logs / "evaluate-last" / last.item.cell.id / f"{last.record.stem}.log"


def test_a_finished_campaign(paper: Config) -> None:
    campaign = find_campaign(paper, ["table6"])
    for item in find_experiment(paper, "table6").evaluations:
        write_run(paper, item)
        folder = paths.cell_folder(paper, item.cell)
        for path in paths.run_files(folder, checkpoints(paper.train)):
            path.touch()
        index = np.arange(10)
        write_made_up(paper, item, index, index < 5)
    seen = survey(campaign, 0.0)
    assert seen.finished
    assert seen.hours_left == pytest.approx(0, abs=1e-9)
    assert seen.time_left is None
    # a record that does not say how long it took is none to time others by
    assert seen.pace.attacks is None
    item = find_experiment(paper, "table6").evaluations[0]
    path = _record(paper, item).with_suffix(".json")
    write_json(path, {**read_json(path), "model_sha256": "of others"})
    assert not survey(campaign, 0.0).finished


def test_everything_is_counted_once(paper: Config) -> None:
    names = experiment_names(paper)
    campaign = find_campaign(paper, names)
    (union,) = (entry for entry in plan(paper, names) if entry.name == "all")
    assert (len(campaign.runs), len(campaign.attacks)) == (union.cells, union.evaluations)
    assert survey(campaign, 0.0).hours_left == pytest.approx(union.hours)
    with pytest.raises(HarnessError, match="unknown experiment 'table9'"):
        find_campaign(paper, ["table9"])


def test_a_survey_needs_no_torch() -> None:
    code = (
        "import sys; from reproduce.campaign import find_campaign, survey;"
        "from reproduce.settings import load_config;"
        "survey(find_campaign(load_config('{}', 'demo'), ['table1']), 0.0);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
