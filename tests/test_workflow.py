"""The Snakefile, run as a user runs it: what it plans, what it runs again, and what not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY
from workflow_copy import Workflow, copy

from reproduce.config.load import load_config

pytestmark = pytest.mark.slow

# everywhere in this module's paths is what a shell would take for its own
ODD = "it's a & bäd $(folder)"
RESULTS = Path(f"results of {ODD}/demo")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, digits_folder: Path, preloaded: str
) -> Workflow:
    """A tiny experiment of four cells, run to its end."""
    config = load_config("{}", "demo", [f"data.folder={digits_folder}", *TINY])
    tree = {**config.model_dump(mode="json"), "results": str(RESULTS.parent)}
    workflow = Workflow(copy(tmp_path_factory.mktemp("workflow") / ODD), tree, preloaded)
    # the digits are prepared already; Snakemake must find its own record of that
    workflow.run("--touch", "--", str(digits_folder / "prepared" / "digits.npz"), check=False)
    workflow.run("--", "all")
    return workflow


@pytest.fixture
def done(finished: Workflow) -> Callable[[], Workflow]:
    """The finished experiment, put back as it was after the test."""
    saved = (finished.folder / "config.yaml").read_text()
    yield finished
    (finished.folder / "config.yaml").write_text(saved)


def test_nothing_runs_twice(done: Workflow) -> None:
    assert done.planned() == {}
    root = done.folder / RESULTS
    everything = pd.read_parquet(root / "results.parquet")
    assert (everything["model"].nunique(), len(everything)) == (4, 4 * 3)
    # of all four cells, each with held-out images
    chosen = (root / "tables/checkpoints.md").read_text()
    assert "best-test − best-val" in chosen
    assert "no result yet" not in chosen
    # whatever the terminal is, logs are UTF-8
    assert "λ" in (root / "logs/diff/table1.log").read_text(encoding="utf-8")


def _settings(done: Workflow) -> dict:
    return json.loads((done.folder / "config.yaml").read_text())


def test_a_changed_setting_reruns_the_cells_it_touches(done: Workflow) -> None:
    config = _settings(done)
    done.set(machine={**config["machine"], "eval_batch": 7, "max_minutes": 60})
    assert done.planned() == {}
    # two TRADES cells of four read it
    done.set(train={**config["train"], "bn_forwards": 3})
    planned = done.planned()
    assert (planned["train"], planned["evaluate"]) == (2, 2)
    # how results are attacked trains nothing again
    done.set(train=config["train"], eval={**config["eval"], "epsilon": 0.1})
    planned = done.planned()
    assert (planned.get("train"), planned["evaluate"]) == (None, 4)
    # another seed adds its cells
    experiments = config["experiments"]
    experiments["table1"]["seeds"] = [0, 1, 2]
    done.set(eval=config["eval"], experiments=experiments)
    planned = done.planned()
    assert (planned["train"], planned["evaluate"], planned["table"]) == (2, 2, 1)


def test_the_lemma_is_examined_by_itself(done: Workflow) -> None:
    """Without any run; its settings concern it and its figure alone."""
    config = _settings(done)
    assert done.planned("--", "lemma") == {}
    done.set(lemma={**config["lemma"], "seeds": [0, 1, 2]})
    assert done.planned() == {"all": 1, "examine_lemma": 1, "figure": 1, "report": 1}
    done.run("--", "lemma", preloaded=False)
    saved = json.loads((done.folder / RESULTS / "lemma.json").read_text())
    assert len(saved["settings"]["seeds"]) == 3
    assert done.planned("--", "lemma") == {}


def _kept(workflow: Workflow) -> dict[str, int]:
    """Return when each training run of the workflow was finished, by its run.json's content."""
    root = workflow.folder / RESULTS / "cells"
    return {str(p): json.loads(p.read_text())["pieces"][0]["began"] for p in root.rglob("run.json")}


def test_moved_images_and_another_text_of_a_rule_retrain_nothing(
    done: Workflow, tmp_path: Path
) -> None:
    """Snakemake starts the jobs again, and they keep what is there."""
    config, before = _settings(done), _kept(done)
    path = done.folder / "workflow/rules/train.smk"
    text = path.read_text()
    path.write_text(text.replace("> {log:q} 2>&1", ">{log:q} 2>&1"))
    assert done.planned()["train"] == 4
    shutil.copytree(config["data"]["folder"], tmp_path / ODD)
    done.set(data={**config["data"], "folder": str(tmp_path / ODD)})
    assert done.planned()["train"] == 4
    done.run("--", "all")
    assert done.planned() == {}
    path.write_text(text)
    done.set(data=config["data"])
    done.run("--", "all")
    assert done.planned() == {}
    assert _kept(done) == before


def test_what_is_lost_is_made_again(done: Workflow) -> None:
    """A record of one cell, the weights of another."""
    root = done.folder / RESULTS
    record = next(root.glob("cells/*/*/trades/*/seed-0/records/pgd20-seed0.npz"))
    weights = next(root.glob("cells/*/*/at/*/seed-1/model.safetensors"))
    before = [path.read_bytes() for path in (record, weights)]
    record.unlink()
    planned = done.planned()
    assert (planned.get("train"), planned["evaluate"]) == (None, 1)
    weights.unlink()
    planned = done.planned()
    assert (planned["train"], planned["evaluate"]) == (1, 2)
    done.run("--", "all")
    assert [path.read_bytes() for path in (record, weights)] == before
    assert done.planned() == {}


def test_a_stopped_job_continues_in_the_next_run(done: Workflow) -> None:
    config = _settings(done)
    grid = config["experiments"]["table1"] | {"seeds": [7], "methods": {"trades": [2]}}
    done.set(experiments={"table1": grid}, machine={**config["machine"], "max_minutes": 0.000001})
    process = done.run("--", "table1", check=False)
    assert process.returncode != 0
    cell = done.folder / RESULTS / "cells/digits/wrn-10-0.25/trades/lam-2/seed-7"
    assert len(list(cell.glob("state-*.safetensors"))) == 1
    done.set(machine=config["machine"])
    done.run("--", "table1")
    log = done.folder / RESULTS / "logs/train/digits/wrn-10-0.25/trades/lam-2/seed-7.log"
    assert "continuing in epoch 1" in log.read_text()
    assert len(json.loads((cell / "run.json").read_text())["pieces"]) == 2


def test_other_tables_share_what_is_there(done: Workflow) -> None:
    """Table 2 on cells of Table 1; Tables 3 and 6 add a run each, a run of Table 1 is narrow."""
    config = _settings(done)
    tiny = {"dataset": "digits", "architectures": ["wrn-10-0.25"], "seeds": [0]}
    experiments = {
        **config["experiments"],
        "table2": {
            "architectures": {"digits": ["wrn-10-0.25"]},
            "method": "trades",
            "lambdas": [2],
            "attacks": ["pgd20", "fab"],
            "attack_seeds": [0, 1],
        },
        "table3": {**tiny, "untuned": 2, "lambdas": [2]},
        "table6": {**tiny, "methods": {"awp-trades": [2]}},
    }
    attacks = config["eval"]["attacks"]
    attacks["fab"] = {"kind": "fab", "steps": 3, "restarts": 1, "images": 20}
    war = {"thin_architecture": "wrn-10-0.25", "thin_lambda": 2}
    done.set(experiments=experiments, eval={**config["eval"], "attacks": attacks}, war=war)
    planned = done.planned("--", "table2")
    assert (planned.get("train"), planned["evaluate"]) == (None, 3)
    targets = ("--", "table2", "table3", "table6", "figure_war")
    assert done.planned(*targets)["train"] == 2
    done.run(*targets)
    assert done.planned(*targets) == {}
    root = done.folder / RESULTS
    records = (root / "cells/digits/wrn-10-0.25/trades/lam-2/seed-0/records").glob("*.npz")
    names = {f"{attack}-seed{seed}.npz" for attack in ("pgd20", "fab-n20") for seed in (0, 1)}
    assert {path.name for path in records} == names
    for number, text in ((2, "FAB (n=20)"), (3, "WAR"), (6, "AWP-TRADES")):
        assert text in (root / f"tables/table{number}.md").read_text()
    run = json.loads((root / "cells/digits/wrn-10-0.25/war/lam-0/seed-0/run.json").read_text())
    assert run["zeta"] > 0
    # a changed shard concerns the packaged attack alone
    done.set(eval={**config["eval"], "attacks": attacks, "shard": 10})
    assert done.planned("--", "table2")["evaluate"] == 2


def test_snakemake_s_own_report_has_tables_figures_and_the_page(done: Workflow) -> None:
    # what tests before this one left to be made
    done.run("--", "all")
    said = done.run("--report", "overview.html").stderr
    for name in ("table1.csv", "figure5.svg", "report.html"):
        assert f"Adding {name}" in said
    page = (done.folder / "overview.html").read_text(encoding="utf-8")
    assert "Comparison with the paper" in page
    # what is annotated is still kept and found as before
    assert done.planned() == {}
