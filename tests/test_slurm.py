"""The workflow on a real Slurm: what jobs ask for, and that nothing that ends one loses work.

One run of Table 1 and a part of Table 2 is disturbed in every way there is, and each test looks at
one of them.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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

pytestmark = pytest.mark.skipif(slurm_node.missing() is not None, reason=str(slurm_node.missing()))

LONG = "digits/wrn-10-0.25/at/lam-1/seed-0"
LONG_JOB = "rule_train_wildcards_digits_wrn-10-0.25_at_lam-1"
ATTACKS = "attacks-digits-wrn-10-0.25-trades-lam-2"
SHORT = [f"digits/wrn-10-0.25/trades/lam-{number}/seed-0" for number in (2, 3)]
SETTINGS = [
    *TINY,
    "experiments.table1.methods={trades: [2, 3], at: [1]}",
    "experiments.table1.seeds=[0]",
    # long enough to be cancelled, and to be cut once more
    "train_for={at: {epochs: 100}}",
]
# two attacks on one run, of which Table 1 has the first
TABLE2 = {
    "architectures": {"digits": ["wrn-10-0.25"]},
    "method": "trades",
    "lambdas": [2],
    "attacks": ["pgd20", "cw20"],
    "attack_seeds": [0],
}
WORDS = [
    *("--workflow-profile", "profiles/slurm", "--slurm-no-account"),
    # jobs compute on the processor, and ask for the pretend GPU
    *("--set-resources", "train:gpu=1", "evaluate:gpu=1"),
    # the long run has a minute, the shortest time there is, until it was cancelled and cut
    "train:runtime=1 if '/at/' in wildcards.cell and attempt < 3 else 30",
    *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
    *("--latency-wait", "10"),
]


class Disturbed:
    """The run, and what Slurm and the events left behind."""

    def __init__(self, workflow: Workflow, node: Node) -> None:
        self.workflow, self.node = workflow, node
        self.root = workflow.folder / "results/demo"
        self.cancelled: dict[str, str] = {}
        self.waited: list[str] = []
        self.kept: dict[Path, bytes] = {}

    def jobs(self, comment: str = "") -> list[dict[str, str]]:
        """Return the jobs, of whose rule and wildcards Slurm keeps a note, oldest first."""
        return [job for job in self.node.jobs() if comment in job["Comment"]]

    def in_state(self, state: str, comment: str = "") -> list[dict[str, str]]:
        return [job for job in self.jobs(comment) if job["JobState"] == state]

    def cancel(self, comment: str) -> None:
        """Cancel the running job of a rule, from outside, and wait until it is over."""
        (job,) = self.in_state("RUNNING", comment)
        self.node.cancel(job["JobId"])
        awaited(lambda: self.in_state("CANCELLED", comment), "the end of a cancelled job")
        self.cancelled[comment] = job["JobId"]


@contextmanager
def begun(workflow: Workflow, *words: str) -> Iterator[subprocess.Popen]:
    """Start Snakemake; it is at an end after the block, whatever happens in it."""
    with (workflow.folder / "output").open("w") as output:
        process = subprocess.Popen(
            [SNAKEMAKE, *words],
            cwd=workflow.folder,
            env=workflow.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


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
    tree["experiments"]["table2"] = TABLE2
    workflow = Workflow(copy(tmp_path_factory.mktemp("workflow")), tree)
    # the digits are prepared already; Snakemake must find its own record of that
    workflow.run("--touch", "--", str(digits_folder / "prepared" / "digits.npz"), check=False)
    run = Disturbed(workflow, node)
    with begun(workflow, *WORDS, "--", "table1", "table2") as process:
        _drain(run)
        _cancel(run)
        assert process.wait(400) == 0, (workflow.folder / "output").read_text()
    workflow.set(**tree)
    return run


def _drain(run: Disturbed) -> None:
    """Drain the node at its first job, wait until that is over and others wait, and resume it."""
    awaited(lambda: run.in_state("RUNNING"), "the first job")
    run.node.drain()
    # jobs that begin after this do what was planned before
    tree = json.loads((run.workflow.folder / "config.yaml").read_text())
    run.workflow.set(train_for={**tree["train_for"], "at": {"epochs": 1}})
    awaited(lambda: run.node.state() == "drained", "a node that is drained")
    awaited(lambda: run.in_state("PENDING"), "a job that waits for it")
    assert run.in_state("RUNNING") == []
    run.waited = [job["JobId"] for job in run.in_state("PENDING")]
    run.node.resume()


def _cancel(run: Disturbed) -> None:
    """Cancel training when it has saved something, and two attacks when one of them is done."""
    due = {LONG_JOB: _has_trained, ATTACKS: _has_attacked}
    while due:
        comment = awaited(
            lambda: next((name for name, ready in due.items() if ready(run)), None),
            f"a moment to cancel {' and '.join(due)}",
            150,
        )
        run.cancel(comment)
        del due[comment]


def _has_trained(run: Disturbed) -> bool:
    """Say whether the job that runs now has saved a state of its own."""
    states = list((run.root / "cells" / LONG).glob("state-*.safetensors"))
    return any(
        state.stat().st_mtime > datetime.fromisoformat(job["StartTime"]).timestamp() + 1
        for job in run.in_state("RUNNING", LONG_JOB)
        for state in states
    )


def _has_attacked(run: Disturbed) -> bool:
    records = list((run.root / "cells" / SHORT[0] / "records").glob("*.json"))
    assert len(records) < 2, "both attacks were over before they were looked at"
    run.kept = {path: path.read_bytes() for path in records}
    return bool(records and run.in_state("RUNNING", ATTACKS))


def test_both_tables_are_there(disturbed: Disturbed) -> None:
    for name in ("table1", "table2"):
        table = (disturbed.root / "tables" / f"{name}.md").read_text()
        assert "no result yet" not in table
    assert disturbed.workflow.planned("--", "table1", "table2") == {}


def test_jobs_that_ask_for_the_gpu_run_one_after_another(disturbed: Disturbed) -> None:
    jobs = [job for job in disturbed.jobs() if job["JobState"] == "COMPLETED"]
    assert len(jobs) == 3 + 3
    asked = [job for job in disturbed.jobs() if job["TresPerJob"] == "gres:gpu:1"]
    assert asked == disturbed.jobs()
    times = sorted((job["StartTime"], job["EndTime"]) for job in asked)
    for (_, end), (begin, _) in pairwise(times):
        assert end <= begin


def test_what_jobs_ask_for(disturbed: Disturbed) -> None:
    """Training what the command line says, attacks what is planned: together for both of them."""
    (alone,) = disturbed.jobs("attacks-digits-wrn-10-0.25-at-lam-1")
    together, again = disturbed.jobs(ATTACKS)
    limits = [_minutes(job) for job in (alone, together, again)]
    # a little more than the ten minutes that every job has to start; more again in the second try
    assert limits[0] == 11
    assert limits[1] == 2 * limits[0]
    assert limits[2] >= limits[1]
    times = [_minutes(job) for job in disturbed.jobs(LONG_JOB)]
    assert times[:2] == [1, 1]
    assert set(times[2:]) == {30}
    memory = [_megabytes(job) for job in (alone, together, again)]
    assert 2000 < memory[0] == memory[1] < memory[2] < 4000


def _minutes(job: dict[str, str]) -> int:
    hours, minutes, _ = job["TimeLimit"].split(":")
    return 60 * int(hours) + int(minutes)


def _megabytes(job: dict[str, str]) -> int:
    return int(re.search(r"mem=(\d+)M", job["TRES"])[1])


def test_a_cancelled_job_is_sent_again_and_continues(disturbed: Disturbed) -> None:
    jobs = disturbed.jobs(LONG_JOB)
    (cancelled,) = [job["JobId"] for job in jobs if job["JobState"] == "CANCELLED"]
    assert cancelled == disturbed.cancelled[LONG_JOB]
    assert jobs[-1]["JobState"] == "COMPLETED"
    # what each job began with is what the one before left
    run = json.loads((disturbed.root / "cells" / LONG / "run.json").read_text())
    assert len(run["pieces"]) == len(jobs)


def test_a_job_ends_itself_before_its_time_is_over(disturbed: Disturbed) -> None:
    """A minute is not enough for the whole run, and the last of several jobs finishes it."""
    states = [job["JobState"] for job in disturbed.jobs(LONG_JOB)]
    assert set(states) == {"CANCELLED", "FAILED", "COMPLETED"}
    assert disturbed.in_state("TIMEOUT") == []
    shown = (disturbed.workflow.folder / "output").read_text()
    assert "stopped after 0.05 minutes" in shown
    assert "run the same command again to continue" in shown


def test_a_drained_node_loses_nothing(disturbed: Disturbed) -> None:
    """The job that ran ended by itself, those that waited began later, and did what was planned."""
    jobs = {job["JobId"]: job for job in disturbed.jobs()}
    first, *_ = disturbed.jobs()
    assert first["JobId"] not in disturbed.cancelled.values()
    assert first["JobState"] in ("COMPLETED", "FAILED")
    assert disturbed.waited
    for waited in disturbed.waited:
        assert jobs[waited]["StartTime"] >= first["EndTime"]
        assert jobs[waited]["Restarts"] == "0"
    run = json.loads((disturbed.root / "cells" / LONG / "run.json").read_text())
    assert run["spec"]["train"]["epochs"] == 100


def test_a_group_that_is_cancelled_keeps_what_it_has(disturbed: Disturbed) -> None:
    first, second = disturbed.jobs(ATTACKS)
    assert (first["JobId"], first["JobState"]) == (disturbed.cancelled[ATTACKS], "CANCELLED")
    assert second["JobState"] == "COMPLETED"
    for path, content in disturbed.kept.items():
        assert path.read_bytes() == content
        log = disturbed.root / "logs/evaluate" / SHORT[0] / f"{path.stem}.log"
        assert log.read_text().startswith("already evaluated")


@pytest.mark.parametrize("name", [LONG, *SHORT])
def test_weights_are_those_of_an_undisturbed_run(
    disturbed: Disturbed, config: Config, tmp_path: Path, name: str
) -> None:
    from reproduce.training.train import train_cell

    train_cell(build_config({**config.model_dump(), "results": tmp_path}), parse_cell(name))
    for file in ("model", "model-last", "model-best-val"):
        (expected,) = tmp_path.rglob(f"{file}.safetensors")
        found = disturbed.root / "cells" / name / f"{file}.safetensors"
        assert found.read_bytes() == expected.read_bytes()
