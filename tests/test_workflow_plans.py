"""The Snakefile, asked as a user asks it what it would run; nothing is run here."""

import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import ROOT
from workflow_copy import Workflow, copy

from reproduce.config.load import build_config, load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import repeated_evaluations
from reproduce.workflow.harness import Harness
from reproduce.workflow.settings import workflow_settings

FIGURES = 11
REST = {"checkpoints": 1, "claims": 1, "results": 1, "report": 1, "examples": 1, "all": 1}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A harness sets what jobs inherit."""
    monkeypatch.setenv("REPRODUCE_CONFIG", "")
    monkeypatch.setenv("PATH", os.environ["PATH"])


@pytest.mark.parametrize(
    ("preset", "counts"),
    [
        ("demo", {"train": 19, "evaluate": 29, "prepare": 1, "table": 4}),
        pytest.param(
            "mini",
            {"train": 24, "evaluate": 76, "prepare": 2, "table": 4},
            marks=pytest.mark.slow,
        ),
        (
            "paper",
            # Table 1 has 99 runs; 15 more are of Table 2, 9 are of WAR, and one of their thin
            # network, 3 have extra images, 2 are on ImageNet, 3 of AWP, 9 of Figure 3
            {
                "train": 99 + 15 + 10 + 3 + 2 + 3 + 9,
                "evaluate": 378 + 10 + 4 + 2 + 3,
                "evaluate_published": 20,
                "prepare": 4,
                "table": 6,
            },
        ),
    ],
)
def test_what_a_preset_plans(tmp_path: Path, preset: str, counts: dict[str, int]) -> None:
    planned = Workflow(copy(tmp_path), {"preset": preset}).planned("--", "all")
    others = {"figure": FIGURES, "examine_lemma": 1, "compare": counts["table"], **REST}
    assert planned == counts | others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "train", "evaluate"),
    [
        (("table1",), 99, 99),
        (("table2",), 24, 288),
        # nine runs, and their first PGD-20, are Table 1's too
        (("table1", "table2"), 99 + 24 - 9, 99 + 288 - 9),
        (("table3",), 54 + 9 + 1, 54 + 9 + 1),
        # two WAR networks, RST and WAR of one width, and the thin network of their ratio
        (("table4",), 5, 4),
        (("table6",), 3, 3),
    ],
)
def test_what_tables_of_the_paper_plan(
    tmp_path: Path, targets: tuple[str, ...], train: int, evaluate: int
) -> None:
    planned = Workflow(copy(tmp_path), {}).planned("--", *targets)
    assert (planned["train"], planned["evaluate"]) == (train, evaluate)


@pytest.mark.slow
def test_a_run_of_war_plans_its_thin_network(tmp_path: Path) -> None:
    workflow = Workflow(copy(tmp_path), {})
    run = "results/paper/cells/cifar10/wrn-34-1/war/lam-0/seed-2/run.json"
    assert workflow.planned("--", run)["train"] == 2
    workflow.set(war={"zeta": 30})
    assert workflow.planned("--", run)["train"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(("cores", "threads"), [(8, ("5", "3")), (4, ("4", "3"))])
def test_threads_that_decode_files_are_counted(
    tmp_path: Path, cores: int, threads: tuple[str, str]
) -> None:
    config = {"data": {"imagenet": "images"}, "machine": {"threads": 2, "loaders": 3}}
    workflow = Workflow(copy(tmp_path), config)
    plan = workflow.run("--cores", str(cores), "-n", "--", "table5").stdout
    found = dict(re.findall(r"rule (train|evaluate):.*?threads: (\d+)", plan, re.DOTALL))
    assert (found["train"], found["evaluate"]) == threads


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--workflow-profile", "profiles/slurm")])
def test_one_profile_counts(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Of one GPU by itself; of a cluster in its place."""
    workflow = Workflow(copy(tmp_path), {"preset": "demo"})
    path = workflow.folder / "profiles/slurm/config.yaml"
    # its executor need not be installed here
    path.write_text("printshellcmds: true\n")
    said = workflow.run(*words, "-n", "--", "lemma").stderr
    asked = words[1] if words else "profiles/default"
    assert f"Using workflow specific profile {asked} for" in said
    assert said.count("profiles/") == 1


def test_the_default_profile_is_of_one_gpu() -> None:
    profile = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert (profile["cores"], profile["resources"]) == (1, {"gpu": 1})


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
    # Snakemake leaves what stands inside a mapping as text
    config = _settings(
        monkeypatch,
        tmp_path,
        files,
        train={"epochs": "2", "attack": {"epsilon": "4/255"}, "nesterov": "true"},
        experiments={"table5": "null", "table1": {"seeds": ["0", "3"]}},
    )
    table1 = config.experiments.table1
    assert table1 is not None
    assert (list(table1.methods), list(table1.seeds)) == (["at"], [0, 3])
    assert (config.train.epochs, config.train.nesterov) == (2, True)
    assert config.train.attack.epsilon == 4 / 255
    with pytest.raises(HarnessError, match=r"other\.yaml is not YAML: key 'train'"):
        _settings(monkeypatch, tmp_path, {"other.yaml": "train: {}\ntrain: {}\n"})


def test_a_bad_configuration_is_one_line(tmp_path: Path) -> None:
    process = Workflow(copy(tmp_path), {"train": {"epoch": 3}}).run("-n", check=False)
    assert process.returncode != 0
    assert "unknown key 'train.epoch'" in process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param(
            "cells/cifar10/wrn-33-1/trades/lam-6/seed-0/run.json",
            "6n \\+ 4",
            marks=pytest.mark.slow,
        ),
        pytest.param("tables/table9.csv", "unknown experiment", marks=pytest.mark.slow),
        ("tables/table2.csv", r"table2 is left out \(experiments.table2 is null\)"),
    ],
)
def test_unknown_targets(tmp_path: Path, target: str, message: str) -> None:
    workflow = Workflow(copy(tmp_path), {"preset": "demo", "experiments": {"table2": None}})
    process = workflow.run("-n", "--", f"results/demo/{target}", check=False)
    assert process.returncode != 0
    assert re.search(message, process.stdout + process.stderr)


def test_planning_says_once_which_methods_keep_their_own_value(
    capsys: pytest.CaptureFixture,
) -> None:
    settings = {"preset": "paper", "train": {"epochs": 3}}
    for _ in range(2):  # and a process that gets the configuration handed on
        Harness(settings)
    said = capsys.readouterr().err
    assert said.count("train.epochs=3 is not for rst (200)") == 1
    assert len(said.splitlines()) == 1


def test_jobs_get_the_paths_that_were_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    Harness({"preset": "demo", "results": "$SCRATCH/r", "data": {"folder": "$SCRATCH/d"}})
    monkeypatch.setenv("SCRATCH", "elsewhere")
    config = load_config(os.environ["REPRODUCE_CONFIG"])
    assert (config.results, config.data.folder) == (tmp_path / "r", tmp_path / "d")


def test_runs_of_table_1_bring_no_work_to_table_2_but_another_comparison(tmp_path: Path) -> None:
    harness = Harness({"preset": "paper", "results": str(tmp_path)})
    assert harness.compared_runs("table2") == []
    assert len(repeated_evaluations(harness.config, "table2")) == 3 * 3 * 3
    record = tmp_path / "paper/cells/cifar10/wrn-34-1/trades/lam-6/seed-1/records/pgd20-seed0.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    first = harness.compared_runs("table2")
    record.write_text("[]")
    assert len(first) == len(harness.compared_runs("table2")) == 1
    assert first != harness.compared_runs("table2")
    assert harness.compared_runs("table1") == harness.compared_runs("table4") == []


def test_harness_answers_for_the_rules(tmp_path: Path) -> None:
    harness = Harness({"preset": "mini", "results": str(tmp_path), "data": {"cifar100": "/x"}})
    cell = "cifar10/wrn-10-1/at/lam-2/seed-1"
    assert json.loads(os.environ["REPRODUCE_CONFIG"])["preset"] == "mini"
    assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert harness.gpus == 0
    assert Harness({"preset": "paper"}).gpus == 1
    assert [harness.source(name) for name in ("cifar100", "digits")] == ["/x", "embedded"]
    assert [path.name for path in harness.manifests(cell)] == ["cifar10.json"]
    extra = Harness({"preset": "paper"}).manifests("cifar10/wrn-34-1/rst/lam-6/seed-0")
    assert [path.name for path in extra] == ["cifar10.json", "cifar10-extra.json"]
    assert len(harness.training_digest(cell)) == 12
    seeds = [harness.evaluation_spec(cell, "-last", "pgd20", seed).digest for seed in ("0", "1")]
    assert seeds[0] != seeds[1]
    outputs = harness.outputs("table1")
    # three forms, a diff, two files a record, six files a run with held-out images
    assert len(outputs) == len(set(outputs)) == 4 + 12 * (2 + 6)
    assert [harness.attack(name) for name in ("pgd20", "fab-n100")] == ["pgd20", "fab"]
    with pytest.raises(HarnessError, match="unknown attack 'fab'"):
        harness.attack("fab")
    with pytest.raises(HarnessError, match="unknown preset"):
        Harness({"preset": "x"})
    assert len(harness.judged_from()) == len(set(harness.judged_from()))
