"""The Snakefile, asked what it would run, and the harness behind it; nothing is run here."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from workflow_copy import Workflow, copy

from reproduce.config.load import build_config, load_config
from reproduce.config.schema import Config, Machine
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.grids import repeated_evaluations
from reproduce.workflow.harness import Harness, workflow_settings
from reproduce.workflow.jobs import Job

REST = {"checkpoints": 1, "claims": 1, "results": 1, "report": 1, "examples": 1, "all": 1}
REST |= {"figure": 11, "examine_lemma": 1}
CELL = "cifar10/wrn-34-{}/trades/lam-6/seed-0"
# Table 1 has 99 runs; 15 more are of Table 2, 9 are of WAR, and one of their narrow network, 3 have
# extra images, 2 are on ImageNet, 3 of AWP, 9 of Figure 3
PAPER = {
    "train": 99 + 15 + 10 + 3 + 2 + 3 + 9,
    "evaluate": 378 + 10 + 4 + 2 + 3,
    "evaluate_published": 20,
    "prepare": 4,
    "table": 6,
    "compare": 6,
}


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Harness]:
    """Make the rules' view of a preset, the paper's unless given; takes settings."""
    monkeypatch.setenv("REPRODUCE_CONFIG", "")
    monkeypatch.setenv("PATH", os.environ["PATH"])

    def make(*, remote: bool = False, **settings: object) -> Harness:
        return Harness({"preset": "paper", "results": str(tmp_path), **settings}, remote=remote)

    return make


# --- Snakemake itself


@pytest.mark.slow
def test_the_paper_on_a_cluster(tmp_path: Path) -> None:
    """As the Slurm profile plans it; its executor is not needed for that."""
    workflow = Workflow(copy(tmp_path), {"machine": {"gpus_per_cell": 4}})
    (workflow.folder / "profiles/slurm/config.yaml").write_text("printshellcmds: true\n")
    words = ("--workflow-profile", "profiles/slurm", "--config", "data={imagenet: x}")
    output = workflow.run("-n", *words, "--", "all")
    assert workflow.counts(output) == PAPER | REST
    # one profile counts, not the default one too
    assert re.findall(r"Using workflow specific profile (\S+)", output.stderr) == ["profiles/slurm"]
    several = re.findall(r"--nproc-per-node 4 -m reproduce train (\w+)", output.stdout)
    assert several == ["imagenet"] * 2


@pytest.mark.parametrize(
    ("preset", "counts"),
    [
        ("demo", {"train": 12, "evaluate": 18, "prepare": 1, "table": 4, "compare": 4}),
        pytest.param(
            "mini",
            {"train": 24, "evaluate": 76, "prepare": 2, "table": 4, "compare": 4},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_preset_plans(tmp_path: Path, preset: str, counts: dict[str, int]) -> None:
    assert Workflow(copy(tmp_path), {"preset": preset}).planned("--", "all") == counts | REST


@pytest.mark.slow
def test_tables_of_the_paper_share_runs(tmp_path: Path) -> None:
    workflow = Workflow(copy(tmp_path), {})

    def planned(*targets: str) -> tuple[int, int]:
        found = workflow.planned("--", *targets)
        return found["train"], found.get("evaluate", 0)

    # nine runs, and their first PGD-20, are Table 1's too
    assert planned("table1", "table2") == (99 + 24 - 9, 99 + 288 - 9)
    # two WAR networks, RST and WAR of one width, and the narrow network of their ratio
    assert planned("table4") == (5, 4)
    run = "results/paper/cells/cifar10/wrn-34-1/war/lam-0/seed-2/run.json"
    assert planned(run)[0] == 2
    workflow.set(war={"zeta": 30})
    assert planned(run)[0] == 1


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    process = Workflow(copy(tmp_path), {"train": {"epoch": 3}}).run("-n", check=False)
    assert process.returncode != 0
    assert "unknown key 'train.epoch'" in process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr


# --- settings


def _settings(
    monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, str], **given: object
) -> Config:
    """Return the configuration of config.yaml, other files and ``--config``."""
    monkeypatch.chdir(folder)
    for name, text in files.items():
        Path(name).write_text(text)
    others = [name for name in files if name != "config.yaml"]
    settings = SimpleNamespace(replace_workflow_config=False, configfiles=others, config=given)
    workflow = SimpleNamespace(remote_exec=False, config_settings=settings, configfiles=[*others])
    return build_config(workflow_settings(workflow))


def test_files_of_settings_lie_one_over_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the commands: axes are replaced whole; Windows' mark and line ends do not matter."""
    first = (
        "\ufeffpreset: demo\r\nexperiments: {table1: {methods: {trades: [1, 6]}, seeds: [0]}}\r\n"
    )
    files = {"config.yaml": first, "other.yaml": "experiments: {table1: {methods: {at: [1]}}}"}
    # Snakemake leaves what is inside a mapping as text
    config = _settings(
        monkeypatch,
        tmp_path,
        files,
        train={"epochs": "2", "attack": {"epsilon": "4/255"}, "nesterov": "true"},
        experiments={"table5": "null", "table1": {"seeds": ["0", "3"]}},
    )
    table1 = config.experiments.table1
    assert (list(table1.methods), list(table1.seeds)) == (["at"], [0, 3])
    assert (config.train.epochs, config.train.nesterov) == (2, True)
    assert config.train.attack.epsilon == 4 / 255
    with pytest.raises(HarnessError, match=r"other\.yaml is not YAML: key 'train'"):
        _settings(monkeypatch, tmp_path, {"other.yaml": "train: {}\ntrain: {}\n"})


def test_planning_says_once_which_methods_keep_their_own_value(
    harness: Callable[..., Harness], capsys: pytest.CaptureFixture
) -> None:
    for _ in range(2):  # and a process that gets the configuration handed on
        harness(train={"epochs": 3})
    said = capsys.readouterr().err
    assert said.count("train.epochs=3 is not for rst (200)") == 1
    assert len(said.splitlines()) == 1


def test_jobs_do_what_was_planned(
    harness: Callable[..., Harness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever config.yaml says when a cluster runs them, and in the same places."""
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    harness(train={"epochs": 50}, results="$SCRATCH/r", data={"folder": "$SCRATCH/d"})
    monkeypatch.setenv("SCRATCH", "elsewhere")
    config = load_config(os.environ["REPRODUCE_CONFIG"])
    assert (config.results, config.data.folder) == (tmp_path / "r", tmp_path / "d")
    assert workflow_settings(SimpleNamespace(remote_exec=True))["train"] == {"epochs": 50}
    assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


# --- what rules ask


def test_harness_answers_for_the_rules(harness: Callable[..., Harness]) -> None:
    mini = harness(preset="mini", data={"cifar100": "/x"})
    cell = "cifar10/wrn-10-1/at/lam-2/seed-1"
    assert [mini.source(name) for name in ("cifar100", "digits")] == ["/x", "embedded"]
    assert [path.name for path in mini.manifests(cell)] == ["cifar10.json"]
    extra = harness().manifests("cifar10/wrn-34-1/rst/lam-6/seed-0")
    assert [path.name for path in extra] == ["cifar10.json", "cifar10-extra.json"]
    assert len(mini.job({"cell": cell}).digest) == 12
    attack = {"cell": cell, "choice": "-last", "attack": "pgd20"}
    assert len({mini.job({**attack, "seed": seed}).digest for seed in "01"}) == 2
    outputs = mini.outputs("table1")
    # three forms, a diff, two files a record, six files a run with held-out images
    assert len(outputs) == len(set(outputs)) == 4 + 12 * (2 + 6)
    assert [mini.attack(name) for name in ("pgd20", "fab-n100")] == ["pgd20", "fab"]
    with pytest.raises(HarnessError, match="unknown attack 'fab'; preset mini has: pgd20"):
        mini.attack("fab")
    for name in ("figure1", "table2"):
        with pytest.raises(HarnessError, match=f"{name} is left out"):
            harness(preset="mini", experiments={name: None}).outputs(name)
    assert len(mini.records()) == len(set(mini.records())) == 2 * 76


def test_runs_of_table_1_bring_no_work_to_table_2_but_another_comparison(
    harness: Callable[..., Harness], tmp_path: Path
) -> None:
    paper = harness()
    assert paper.compared_runs("table2") == []
    assert len(repeated_evaluations(paper.config, "table2")) == 3 * 3 * 3
    record = tmp_path / "paper/cells/cifar10/wrn-34-1/trades/lam-6/seed-1/records/pgd20-seed0.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    first = paper.compared_runs("table2")
    record.write_text("[]")
    assert len(first) == len(paper.compared_runs("table2")) == 1
    assert first != paper.compared_runs("table2")
    assert paper.compared_runs("table1") == paper.compared_runs("table4") == []


# --- what jobs ask a cluster for


def test_jobs_ask_for_what_they_cost(harness: Callable[..., Harness]) -> None:
    paper = harness(data={"imagenet": "images"}, machine={"loaders": 4, "gpus_per_cell": 2})
    jobs = [paper.job({"cell": CELL.format(width)}) for width in (1, 5, 10)]
    # the paper's 12, 20 and 32 hours, for fewer passes a step, and half as much again
    hours = [job.minutes / 60 for job in jobs]
    assert hours == pytest.approx([1.5 * 9.6, 1.5 * 13.4, 1.5 * 25.6], abs=0.2)
    names = {"choice": "", "attack": "fab", "seed": "0"}
    attacks = [paper.job({"cell": CELL.format(width), **names}) for width in (1, 10)]
    assert attacks[0].runtime(1) < attacks[1].runtime(1)
    assert jobs[0].memory == 8000
    assert paper.job({"cell": "imagenet/wrn-50-1/fast-at/lam-1/seed-0"}).memory == 2 * 12000
    # measured speeds are believed
    path = paths.throughput_file(paper.config)
    path.parent.mkdir(parents=True)
    measured = {"seconds_per_pass": {"cifar10/wrn-34-1": 1e-5}, "hardware": "a card"}
    path.write_text(json.dumps(measured))
    assert harness().job({"cell": CELL.format(1)}).minutes < jobs[0].minutes / 10


@pytest.mark.parametrize(
    ("machine", "runtimes"),
    [({}, [160, 235, 310, 310]), ({"job_minutes": 120}, [120, 120, 120, 120])],
)
def test_another_try_asks_for_more_up_to_an_end(machine: dict, runtimes: list[int]) -> None:
    job = Job(Machine(**machine), minutes=150)
    assert [job.runtime(attempt) for attempt in (1, 2, 3, 20)] == runtimes
    assert [job.mem_mb(attempt) for attempt in (1, 2, 3, 20)] == [8000, 12000, 16000, 16000]


@pytest.mark.parametrize(
    ("part", "machine", "minutes"),
    [
        (1, {}, 115),
        # a shard or a validation that takes longer is still finished
        (15, {}, 105),
        # of a short time something is left to work in
        (150, {}, 6),
        (1, {"max_minutes": 50}, 50),
    ],
)
def test_jobs_of_a_cluster_end_themselves_in_time(
    harness: Callable[..., Harness], part: float, machine: dict, minutes: float
) -> None:
    assert Job(Machine(**machine), part=part).limit(120) == f"--max-minutes {minutes}"
    limits = [harness(remote=remote).limit({}, 120) for remote in (False, True)]
    assert limits == ["", "--max-minutes 115"]
