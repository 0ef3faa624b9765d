"""How far a campaign is as a whole: what is done, at which rate, and what is left."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import write_made_up, write_run
from small_runs import EPOCHS, STEPS, stopped

from reproduce.cell import Cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import (
    Evaluation,
    PublishedEvaluation,
    experiment_names,
    find_experiment,
)
from reproduce.experiments.spec import checkpoints
from reproduce.results.plan import plan
from reproduce.results.status import find_campaign, survey
from reproduce.zoo.checkpoints import PublishedAttack


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
        stopped(config, one, STEPS + 3)
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
    attack.write("the host is down")
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
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
