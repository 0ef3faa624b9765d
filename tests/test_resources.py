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
from reproduce.workflow.resources import Request

CELL = "cifar10/wrn-34-{}/trades/lam-6/seed-0"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Harness]:
    """Make the rules' view of the paper's preset; takes settings."""
    for name in ("REPRODUCE_CONFIG", "PATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))

    def make(*, remote: bool = False, **settings: object) -> Harness:
        return Harness({"preset": "paper", "results": str(tmp_path), **settings}, remote=remote)

    return make


def _request(minutes: float = 150, part: float = 1, **machine: float) -> Request:
    return Request(Machine(**machine), minutes, part)


def test_a_wider_network_asks_for_more_time(harness: Callable[..., Harness]) -> None:
    paper = harness()
    requests = [paper.training_request(CELL.format(width)) for width in (1, 5, 10)]
    # the paper's 12, 20 and 32 hours, for fewer passes a step, and half as much again
    hours = [request.minutes / 60 for request in requests]
    assert hours == pytest.approx([1.5 * 9.6, 1.5 * 13.4, 1.5 * 25.6], abs=0.2)
    names = {"choice": "", "attack": "fab", "seed": "0"}
    attacks = [paper.evaluation_request(cell=CELL.format(width), **names) for width in (1, 10)]
    assert attacks[0].runtime(1) < attacks[1].runtime(1)


def test_processes_and_loaders_ask_for_memory(harness: Callable[..., Harness]) -> None:
    paper = harness(data={"imagenet": "images"}, machine={"loaders": 4, "gpus_per_cell": 2})
    assert paper.training_request(CELL.format(1)).memory == 8000
    assert paper.training_request("imagenet/wrn-50-1/fast-at/lam-1/seed-0").memory == 2 * 12000


def test_measured_speeds_are_believed(harness: Callable[..., Harness]) -> None:
    measured = {"seconds_per_pass": {"cifar10/wrn-34-1": 1e-5}, "hardware": "a card"}
    planned = harness().training_request(CELL.format(1)).minutes
    path = paths.throughput_file(harness().config)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(measured))
    assert harness().training_request(CELL.format(1)).minutes < planned / 10


@pytest.mark.parametrize(
    ("machine", "runtimes"),
    [({}, [160, 235, 310, 310]), ({"job_minutes": 120}, [120, 120, 120, 120])],
)
def test_another_try_asks_for_more_up_to_an_end(machine: dict, runtimes: list[int]) -> None:
    request = _request(**machine)
    assert [request.runtime(attempt) for attempt in (1, 2, 3, 20)] == runtimes
    assert [request.mem_mb(attempt) for attempt in (1, 2, 3, 20)] == [8000, 12000, 16000, 16000]


@pytest.mark.parametrize(
    ("request_", "minutes"),
    [
        (_request(), 115),
        # a shard or a validation that takes longer is still finished
        (_request(part=15), 105),
        # of a short time something is left to work in
        (_request(part=150), 6),
        (_request(max_minutes=50), 50),
        (_request(max_minutes=500), 115),
    ],
)
def test_jobs_end_themselves_in_time(request_: Request, minutes: float) -> None:
    assert request_.limit(120) == f"--max-minutes {minutes}"


def test_jobs_of_a_cluster_do_what_was_planned(
    harness: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = harness(train={"epochs": 50})
    planned = first.training_digest(CELL.format(1))
    job = harness(remote=True)
    assert job.training_digest(CELL.format(1)) == planned
    assert harness().training_digest(CELL.format(1)) != planned
    # and they alone have a limit
    limits = [made.limit(_request(), 120) for made in (first, job)]
    assert limits == ["", "--max-minutes 115"]
    # where the environment is not handed on
    monkeypatch.delenv("REPRODUCE_CONFIG")
    there = harness(remote=True, train={"epochs": 50})
    assert there.training_digest(CELL.format(1)) == planned


def test_several_gpus_of_one_run_are_asked_for(tmp_path: Path) -> None:
    """Planned as on a cluster; its executor is not needed for that."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    workflow = Workflow(copy(tmp_path), {})
    local = {k: v for k, v in profile.items() if k != "executor" and not k.startswith("slurm")}
    path = workflow.folder / "profile/config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(local))
    several = "machine={gpus_per_cell: 4, job_minutes: 300}"
    words = ("--config", "preset=paper", "data={imagenet: x}", several, "--", "table5")
    plan = workflow.run("-n", "--workflow-profile", "profile", *words).stdout

    def asked(rule: str, resource: str) -> set[str]:
        found = re.findall(rf"rule {rule}:.*?resources: (.*?)\n", plan, re.DOTALL)
        return {m[1] for text in found if (m := re.search(rf"\b{resource}=([^,\n]*)", text))}

    assert asked("train", "gpu") == {"4"}
    assert asked("evaluate", "gpu") == {"1"}
    assert asked("train", "runtime") == {"300"}
