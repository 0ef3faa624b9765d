"""The workflow on a real Slurm: what jobs ask for, and that nothing that ends one loses work.

Table 1 is disturbed in every way there is, and each test looks at one of them.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import slurm_node
from conftest import TINY
from slurm_node import Node, awaited
from workflow_copy import SNAKEMAKE, Workflow, copy

from reproduce.cell import parse_cell
from reproduce.config.load import build_config, load_config
from reproduce.config.schema import Config
from reproduce.training.train import train_cell

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(slurm_node.missing() is not None, reason=str(slurm_node.missing())),
]

LONG = "digits/wrn-10-0.25/at/lam-1/seed-0"
LONG_JOB = "rule_train_wildcards_digits_wrn-10-0.25_at_lam-1"
SHORT = "digits/wrn-10-0.25/trades/lam-2/seed-0"
SETTINGS = [
    *TINY,
    "experiments.table1.methods={trades: [2], at: [1]}",
    "experiments.table1.seeds=[0]",
    # long enough to be cancelled, and to end before it is done
    "train_for={at: {epochs: 100}}",
]
WORDS = [
    *("--workflow-profile", "profiles/slurm", "--slurm-no-account"),
    # jobs compute on the processor, and ask for the pretend GPU
    *("--set-resources", "train:gpu=1", "evaluate:gpu=1"),
    # the long run has a minute, the shortest time there is, until it was cancelled and ended itself
    "train:runtime=1 if '/at/' in wildcards.cell and attempt < 3 else 30",
    *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
    *("--latency-wait", "10"),
]


@dataclass
class Disturbed:
    """The run, and what Slurm and the events left behind."""

    workflow: Workflow
    node: Node
    cancelled: str = ""
    waited: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.workflow.folder / "results/demo"

    def jobs(self, comment: str = "", state: str = "") -> list[dict[str, str]]:
        """Return the jobs by rule and wildcards, and by state; the oldest first."""
        jobs = [job for job in self.node.jobs() if comment in job["Comment"]]
        return [job for job in jobs if state in job["JobState"]]


@pytest.fixture(scope="module")
def config(digits_folder: Path) -> Config:
    return load_config("{}", "demo", [f"data.folder={digits_folder}", *SETTINGS])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with slurm_node.running(tmp_path_factory.mktemp("slurm")) as node:
        yield node


@pytest.fixture(scope="module")
def disturbed(
    tmp_path_factory: pytest.TempPathFactory, config: Config, node: Node, digits_folder: Path
) -> Disturbed:
    tree = config.model_dump(mode="json", exclude={"results"})
    workflow = Workflow(copy(tmp_path_factory.mktemp("workflow")), tree)
    # the digits are prepared already; Snakemake must find its own record of that
    workflow.run("--touch", "--", str(digits_folder / "prepared" / "digits.npz"), check=False)
    run = Disturbed(workflow, node)
    with (workflow.folder / "output").open("w") as output:
        process = subprocess.Popen(
            [SNAKEMAKE, *WORDS, "--", "table1"],
            cwd=workflow.folder,
            env=workflow.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _drain(run)
        awaited(lambda: _has_trained(run), "a saved state", 150)
        (job,) = run.jobs(LONG_JOB, "RUNNING")
        run.cancelled = job["JobId"]
        node.cancel(run.cancelled)
        assert process.wait(400) == 0, (workflow.folder / "output").read_text()
    finally:
        process.kill()
        process.wait()
    workflow.set(**tree)
    return run


def _drain(run: Disturbed) -> None:
    """Drain the node at its first job, wait until that is over and others wait, and resume it."""
    awaited(lambda: run.jobs(state="RUNNING"), "the first job")
    run.node.set_state("DRAIN")
    # jobs that begin after this do what was planned before
    tree = json.loads((run.workflow.folder / "config.yaml").read_text())
    run.workflow.set(train_for={**tree["train_for"], "at": {"epochs": 1}})
    awaited(lambda: run.node.state() == "drained", "a node that is drained")
    awaited(lambda: run.jobs(state="PENDING"), "a job that waits for it")
    assert run.jobs(state="RUNNING") == []
    run.waited = [job["JobId"] for job in run.jobs(state="PENDING")]
    run.node.set_state("RESUME")


def _has_trained(run: Disturbed) -> bool:
    """Say whether the job that runs now has saved a state of its own."""
    states = list((run.root / "cells" / LONG).glob("state-*"))
    return any(
        state.stat().st_mtime > datetime.fromisoformat(job["StartTime"]).timestamp() + 1
        for job in run.jobs(LONG_JOB, "RUNNING")
        for state in states
    )


def test_the_table_is_there(disturbed: Disturbed) -> None:
    assert "no result yet" not in (disturbed.root / "tables/table1.md").read_text()
    assert disturbed.workflow.planned("--", "table1") == {}


def test_what_jobs_ask_for(disturbed: Disturbed) -> None:
    """The one GPU, so they run one after another; the time of the command line, or a little."""
    assert len(disturbed.jobs(state="COMPLETED")) == 2 + 2
    assert {job["TresPerJob"] for job in disturbed.jobs()} == {"gres:gpu:1"}
    times = sorted((job["StartTime"], job["EndTime"]) for job in disturbed.jobs())
    assert all(end <= begin for (_, end), (begin, _) in pairwise(times))
    assert {job["TimeLimit"] for job in disturbed.jobs("rule_evaluate")} == {"00:11:00"}
    limits = [job["TimeLimit"] for job in disturbed.jobs(LONG_JOB)]
    assert (limits[:2], set(limits[2:])) == (["00:01:00"] * 2, {"00:30:00"})
    memory = [int(re.search(r"mem=(\d+)M", j["TRES"])[1]) for j in disturbed.jobs(LONG_JOB)]
    assert memory[:3] == [8000, 12000, 16000]


def test_a_job_that_is_cancelled_or_out_of_time_continues(disturbed: Disturbed) -> None:
    jobs = disturbed.jobs(LONG_JOB)
    cancelled = [job["JobId"] for job in jobs if job["JobState"] == "CANCELLED"]
    assert cancelled == [disturbed.cancelled]
    # one ended itself before its minute was over, and the last one finished
    assert {job["JobState"] for job in jobs} == {"CANCELLED", "FAILED", "COMPLETED"}
    assert jobs[-1]["JobState"] == "COMPLETED"
    shown = (disturbed.workflow.folder / "output").read_text()
    assert "stopped after 0.05 minutes" in shown
    # what each job began with is what the one before left
    run = json.loads((disturbed.root / "cells" / LONG / "run.json").read_text())
    assert len(run["pieces"]) == len(jobs)


def test_a_drained_node_loses_nothing(disturbed: Disturbed) -> None:
    """The job that ran ended by itself, those that waited began later, and did what was planned."""
    jobs = {job["JobId"]: job for job in disturbed.jobs()}
    first, *_ = disturbed.jobs()
    assert first["JobState"] in ("COMPLETED", "FAILED")
    assert disturbed.waited
    for waited in disturbed.waited:
        assert jobs[waited]["StartTime"] >= first["EndTime"]
        assert jobs[waited]["Restarts"] == "0"
    run = json.loads((disturbed.root / "cells" / LONG / "run.json").read_text())
    assert run["spec"]["train"]["epochs"] == 100


@pytest.mark.parametrize("name", [LONG, SHORT])
def test_weights_are_those_of_an_undisturbed_run(
    disturbed: Disturbed, config: Config, tmp_path: Path, name: str
) -> None:
    train_cell(build_config({**config.model_dump(), "results": tmp_path}), parse_cell(name))
    for file in ("model", "model-last", "model-best-val"):
        (expected,) = tmp_path.rglob(f"{file}.safetensors")
        found = disturbed.root / "cells" / name / f"{file}.safetensors"
        assert found.read_bytes() == expected.read_bytes()
