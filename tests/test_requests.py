"""What jobs ask a cluster for, and what a cluster's jobs are told; no cluster is needed."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from workflow_copy import Workflow, copy

from reproduce.config.schema import Machine
from reproduce.experiments import paths
from reproduce.workflow.harness import Harness
from reproduce.workflow.harness import resources as requests
from reproduce.workflow.resources import Work

CELL = "cifar10/wrn-34-{}/trades/lam-6/seed-0"
GIB = 2**30


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Harness]:
    """Make the rules' view of the paper's preset, or of another one; takes settings."""
    for name in ("REPRODUCE_CONFIG", "REPRODUCE_IN_JOB", "PATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("REPRODUCE_IN_JOB")

    def make(*, remote: bool = False, **settings: object) -> Harness:
        return Harness({"preset": "paper", "results": str(tmp_path), **settings}, remote=remote)

    return make


def _work(minutes: float = 100, unbroken: float = 1, **machine: float) -> Work:
    return Work(Machine(**machine), minutes, unbroken, 1.5, 4e9)


def test_a_wider_network_asks_for_more(harness: Callable[..., Harness]) -> None:
    paper = harness()
    works = [paper.training_work(CELL.format(width)) for width in (1, 5, 10)]
    hours = [work.minutes / 60 for work in works]
    # the paper's 12, 20 and 32, for fewer passes a step
    assert hours == pytest.approx([9.6, 13.4, 25.6], abs=0.1)
    for ask in (Work.runtime, Work.megabytes):
        asked = [ask(work, 1) for work in works]
        assert asked == sorted(set(asked))
    attacks = [
        paper.evaluation_work(cell=CELL.format(width), choice="", attack="fab", seed="0")
        for width in (1, 10)
    ]
    assert attacks[0].runtime(1) < attacks[1].runtime(1)
    assert attacks[0].megabytes(1) < attacks[1].megabytes(1)
    assert 6 * GIB < 1e6 * works[0].megabytes(1) < 1e6 * works[2].megabytes(1) < 12 * GIB


def test_what_else_is_in_memory(harness: Callable[..., Harness]) -> None:
    """Extra images; on a processor what a GPU would keep; processes that decode files."""
    paper = harness(data={"imagenet": "images"}, machine={"loaders": 4, "gpus_per_cell": 2})
    plain, extra = (
        paper.training_work(f"cifar10/wrn-34-10/{method}/lam-0/seed-0").memory
        for method in ("war", "rst-war")
    )
    assert extra - plain == 3 * 500_000 * 3 * 32 * 32
    files = paper.training_work("imagenet/wrn-50-1/fast-at/lam-1/seed-0")
    assert files.memory > 2 * (6 + 4 * 0.75) * GIB
    processor = harness(machine={"device": "cpu"}).training_work(CELL.format(10))
    assert processor.memory > 500 * 22 * 2**20


def test_measured_speeds_are_believed(harness: Callable[..., Harness]) -> None:
    measured = {"seconds_per_pass": {"cifar10/wrn-34-1": 1e-5}, "hardware": "a card"}
    planned = harness().training_work(CELL.format(1)).minutes
    path = paths.throughput_file(harness().config)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(measured))
    assert harness().training_work(CELL.format(1)).minutes < planned / 10


def test_a_second_try_asks_for_more_up_to_an_end() -> None:
    work = _work()
    assert [work.runtime(attempt) for attempt in (1, 2, 3, 4, 20)] == [160, 235, 310, 310, 310]
    memory = [work.megabytes(attempt) for attempt in (1, 2, 3, 4, 20)]
    assert memory == [4000, 6000, 8000, 8000, 8000]


def test_no_job_asks_for_more_than_the_partition_gives() -> None:
    work = _work(job_minutes=120)
    assert [work.runtime(attempt) for attempt in (1, 2, 3)] == [120, 120, 120]


def test_jobs_end_themselves_in_time() -> None:
    assert _work().stops_after(120) == 115
    # a shard or a validation that takes longer is still finished
    assert _work(unbroken=10).stops_after(120) == 105
    # of a short time something is left to work in
    assert _work(unbroken=100).stops_after(120) == pytest.approx(6)
    assert _work(max_minutes=50).stops_after(120) == 50
    assert _work(max_minutes=500).stops_after(120) == 115


def test_only_jobs_of_a_cluster_have_a_limit(harness: Callable[..., Harness]) -> None:
    assert harness().time_limit(_work(), 120) == ""
    assert harness(remote=True).time_limit(_work(), 120) == "--max-minutes 115"
    # and what they start
    assert harness().time_limit(_work(), 120) == "--max-minutes 115"


def test_jobs_of_a_cluster_do_what_was_planned(
    harness: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = harness(train={"epochs": 50}).training_digest(CELL.format(1))
    assert harness(remote=True).training_digest(CELL.format(1)) == planned
    assert harness().training_digest(CELL.format(1)) != planned
    # where the environment is not handed on
    monkeypatch.delenv("REPRODUCE_CONFIG")
    there = harness(remote=True, train={"epochs": 50})
    assert there.training_digest(CELL.format(1)) == planned


def test_short_attacks_on_one_run_go_together(harness: Callable[..., Harness]) -> None:
    def group(paper: Harness, attack: str, width: int = 1, seed: str = "0") -> str | None:
        names = {"choice": "", "attack": attack, "seed": seed}
        return paper.attacks_together(CELL.format(width), **names)

    paper = harness()
    first = group(paper, "pgd20")
    assert first == "attacks-cifar10-wrn-34-1-trades-lam-6-seed-0"
    assert {group(paper, "cw20"), group(paper, "pgd20", seed="1")} == {first}
    assert group(paper, "pgd20", width=10) != first
    assert group(paper, "fab") is None
    # six of thirteen minutes each, and a second try takes longer
    assert group(harness(machine={"job_minutes": 60}), "pgd20") is None
    assert group(harness(machine={"job_minutes": 120}), "pgd20") == first


@pytest.fixture
def cluster(tmp_path: Path) -> Callable[..., str]:
    """Plan as on a cluster, and say what would run; its executor is not needed for that."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    workflow = Workflow(copy(tmp_path), {})
    path = workflow.folder / "profile/config.yaml"
    path.parent.mkdir()
    local = {k: v for k, v in profile.items() if k != "executor" and not k.startswith("slurm")}
    path.write_text(yaml.safe_dump(local))
    return lambda *words: workflow.run("-n", "--workflow-profile", "profile", *words).stdout


def _asked(plan: str, rule: str, resource: str) -> set[str]:
    found = re.findall(rf"rule {rule}:.*?resources: (.*?)\n", plan, re.DOTALL)
    return {m[1] for text in found if (m := re.search(rf"\b{resource}=([^,\n]*)", text))}


def test_the_profile_groups_attacks_that_take_turns(cluster: Callable[..., str]) -> None:
    plan = cluster("--config", "preset=paper", "--", "table2")
    groups = re.findall(r"Group job (\S+) .*?resources: ([^\n]*)", plan, re.DOTALL)
    # 24 runs, each with PGD-20 and C&W from three starts
    assert len(groups) == 24
    assert len({name for name, _ in groups}) == 24
    assert plan.count("rule evaluate:") == 288


def test_several_gpus_of_one_run_are_asked_for(cluster: Callable[..., str]) -> None:
    several = "machine={gpus_per_cell: 4, job_minutes: 300}"
    plan = cluster("--config", "preset=paper", "data={imagenet: x}", several, "--", "table5")
    assert _asked(plan, "train", "gpu") == {"4"}
    assert _asked(plan, "evaluate", "gpu") == {"1"}
    assert _asked(plan, "train", "runtime") == {"300"}


def test_one_machine_is_not_asked(tmp_path: Path) -> None:
    """There the plan is what it was: one job for each attack, and no limit in any command."""
    workflow = Workflow(copy(tmp_path), {"preset": "paper"})
    plan = workflow.run("-n", "--printshellcmds", "--", "table2").stdout
    assert "Group job" not in plan
    assert "--max-minutes" not in plan
    assert plan.count("reproduce evaluate") == 288


def test_the_profile_groups_as_many_attacks_as_fit_a_job() -> None:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert profile["group-components"] == [f"attacks={requests._TOGETHER}"]


def test_no_job_asks_for_more_than_the_partition_has(harness: Callable[..., Harness]) -> None:
    made = harness(machine={"device": "cuda", "job_minutes": 60})
    works = [made.small_work, made.training_work(CELL.format(10))]
    assert [work.runtime(attempt) for work in works for attempt in (1, 6)] == [60] * 4
    assert harness().small_work.runtime(1) == 120
