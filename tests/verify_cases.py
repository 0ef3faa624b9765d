"""A small results folder with a file of every kind."""

from pathlib import Path

import pytest
from conftest import TINY
from small_runs import SMALL_ATTACKS, never, quiet, stop_at

from reproduce.cell import parse_cell
from reproduce.claims.statements import judge_claims, write_claims
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.data.sources import prepare
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.examples.make import make_examples
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.figures import draw
from reproduce.lemma.search import examine
from reproduce.results.frames import collect, write_results
from reproduce.tables.diff import build_diff, write_diff
from reproduce.tables.write import write_checkpoints, write_table
from reproduce.training.train import train_cell

UNFINISHED = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-7")


def settings(results: Path, *sets: str) -> Config:
    """Return the configuration of the folder, with its images beside it."""
    places = [f"results={results}", f"data.folder={results.parent / 'data'}"]
    grid = [
        "experiments.table1.architectures=[wrn-10-0.25, wrn-10-0.5]",
        "experiments.table1.methods={trades: [2]}",
        "experiments.table1.seeds=[0]",
    ]
    return load_config("{}", "demo", [*places, *TINY, *SMALL_ATTACKS, *grid, *sets])


def make(results: Path) -> Config:
    """Make results of every kind."""
    config = settings(results)
    prepare(config.data, "digits", paths.prepared_file(config, "digits"))
    table = find_experiment(config, "table1")
    for cell in table.cells:
        train_cell(config, cell, quiet, never)
    for item in table.evaluations:
        evaluate_cell(config, item.cell, item.attack, item.seed, item.checkpoint, quiet)
    evaluate_cell(config, table.cells[0], "square", 0, "last", quiet)
    with pytest.raises(Stopped):
        train_cell(config, UNFINISHED, quiet, stop_at(5))
    examine(config, quiet)
    make_examples(config, quiet)
    found = collect(config, table)
    write_table(config, table, found)
    write_checkpoints(config)
    write_diff(config, table, build_diff(config, table, found))
    write_claims(config, judge_claims(config))
    write_results(config)
    draw(config, "figure5")
    paths.report_file(config).write_text("")
    return config
