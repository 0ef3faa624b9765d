"""The figure of WAR, drawn from real small runs: how lambda follows the ratio of the two terms."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from small_runs import never, quiet

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.figures import draw, make
from reproduce.training.train import train_cell

TABLE3 = (
    "experiments.table3={dataset: digits, architectures: [wrn-10-0.25], untuned: 2, lambdas: [2], "
    "seeds: [0, 1]}"
)
WAR = "digits/wrn-10-0.25/war/lam-0/seed-{}"


@pytest.fixture
def trained(tiny: Callable[..., Config]) -> Config:
    config = tiny(TABLE3, "war.zeta=2000")
    for seed in (0, 1):
        train_cell(config, parse_cell(WAR.format(seed)), quiet, never)
    train_cell(config, parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0"), quiet, never)
    return config


def test_the_figure_of_war(trained: Config) -> None:
    drawing = draw(trained, "war")
    svg, png, csv = (paths.figure_file(trained, "war", form) for form in ("svg", "png", "csv"))
    numbers = pd.read_csv(csv)
    assert numbers.groupby(["method", "seed"]).size().to_dict() == {
        ("war", 0): 9,
        ("war", 1): 9,
        ("trades", 0): 9,
    }
    assert drawing.missing == ("digits/wrn-10-0.25/trades/lam-2/seed-1 is not trained",)
    trace = pd.read_parquet(paths.trace_file(paths.cell_folder(trained, parse_cell(WAR.format(1)))))
    rows = numbers[(numbers["method"] == "war") & (numbers["seed"] == 1)]
    expected = trace["natural_risk"] / trace["robust_regularization"]
    np.testing.assert_allclose(rows["ratio"], expected, rtol=1e-5)
    np.testing.assert_allclose(rows["lambda_t"], trace["lambda"], rtol=1e-5, atol=1e-6)
    assert (numbers["zeta"] == 2000).all()
    for words in ("WAR, w=0.25", "λ = 2, w=0.25", "ζ = 2000.0", "epoch"):
        assert words in svg.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")


def test_zeta_is_that_of_a_run_that_counts(trained: Config) -> None:
    first = paths.cell_folder(trained, parse_cell(WAR.format(0)))
    run = paths.run_file(first)
    write_json(run, read_json(run) | {"digest": "another", "zeta": 999.0})
    drawing = make(trained, "war")
    assert (drawing.numbers["zeta"] == 2000).all()
    run.write_text("{")
    drawing = make(trained, "war")
    assert any("run.json" in line for line in drawing.missing)
    assert (drawing.numbers["zeta"] == 2000).all()


def test_equal_numbers_give_equal_files(trained: Config) -> None:
    draw(trained, "war")
    file = paths.figure_file(trained, "war", "svg")
    first = file.read_bytes()
    draw(trained, "war")
    assert file.read_bytes() == first
