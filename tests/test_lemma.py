"""The examination of Lemma 4.2: its settings, the fit, the command, its file and its figure."""

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from reproduce.config.load import load_config
from reproduce.config.schema import Config, Lemma
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.spec import lemma_digest, protocol_digest
from reproduce.figures import draw, make
from reproduce.lemma.results import (
    QUANTITIES,
    WAYS,
    Exponent,
    fit_exponents,
    read_examination,
)
from reproduce.lemma.search import examine, norms
from reproduce.results.protocol import deviations


def test_the_lemmas_condition() -> None:
    lemma = Lemma(constant=2.0)
    assert lemma.allowance(100, 2) == pytest.approx(2 / (2**6 * math.log(100) ** 3))
    assert lemma.narrowest(4) == pytest.approx(8 * 4 * (1 + math.log(4)))
    assert [lemma.is_wide_enough(width, 4) for width in (76, 77)] == [False, True]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("lemma.widths=[100]", "'lemma.widths': Value should have at least 2 items"),
        ("lemma.widths=[20, 50, 20]", "it lists a value twice (it is [20, 50, 20])"),
        ("lemma.widths=[1, 50]", "'lemma.widths.0': Input should be greater than or equal to 2"),
        ("lemma.dimension=21", "dimension is above the smallest of widths"),
        ("lemma.depths=[1, 64]", "fewer than two of widths reach"),
    ],
)
def test_bad_settings(setting: str, line: str) -> None:
    with pytest.raises(HarnessError) as caught:
        load_config("{}", "paper", [setting])
    assert line in str(caught.value)


def test_tables_do_not_depend_on_it() -> None:
    """No number of a table changes with it, so it is neither in digests nor a deviation."""
    paper = load_config("{}", "paper")
    other = load_config("{}", "paper", ["lemma.seeds=[5, 6]"])
    assert lemma_digest(paper) != lemma_digest(other)
    assert protocol_digest(paper, "table1") == protocol_digest(other, "table1")
    assert deviations(other) == []


# the fit


def _power_law(width: float, depth: float, noise: float) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {"m": m, "H": depths, "norm": 3 * m**width * depths**depth * math.exp(error)}
        for m in (20, 60, 200, 600, 2000)
        for depths in (1, 2, 4, 8)
        for error in noise * random.standard_normal(6)
    ]
    return pd.DataFrame(rows)


def test_the_fit_against_its_formulas() -> None:
    rows = _power_law(0.3, -0.1, noise=0.2)
    # narrow and deep networks scatter more
    rows["norm"] *= np.exp(np.random.default_rng(1).standard_normal(len(rows)) * rows["H"] / 40)
    found = fit_exponents(rows, "norm")
    design = np.column_stack([np.ones(len(rows)), np.log(rows["m"]), np.log(rows["H"])])
    values, *_ = np.linalg.lstsq(design, np.log(rows["norm"]))
    inverse = np.linalg.inv(design.T @ design)
    leverage = np.einsum("ni,ij,nj->n", design, inverse, design)
    residuals = (np.log(rows["norm"]) - design @ values) / (1 - leverage)
    errors = np.sqrt(np.diag(inverse @ (design.T * residuals.to_numpy() ** 2) @ design @ inverse))
    assert found.constant == pytest.approx(values[0])
    for exponent, value, error in zip(
        (found.width, found.depth), values[1:], errors[1:], strict=True
    ):
        assert exponent.value == pytest.approx(value)
        # Student's t with 117 degrees of freedom
        assert exponent.high - exponent.value == pytest.approx(1.980448 * error)
        assert exponent.value - exponent.low == pytest.approx(1.980448 * error)
    assert found.networks == len(rows)
    ratios = rows["norm"] / np.sqrt(rows["m"] * rows["H"])
    assert found.largest_ratio == pytest.approx(ratios.max())
    assert found.growth[0] == pytest.approx(100 ** (found.width.value - 0.5))


def test_a_fit_says_the_worse_of_both_exponents() -> None:
    found = fit_exponents(_power_law(1.0, 0.0, noise=0.2), "norm")
    assert found.bound == "fails"
    assert (found.width.tightness, found.depth.tightness) == ("exceeded", "not tight")
    assert str(found).startswith("O(sqrt(m H)): fails; exceeded in m, exponent 1.0")


@pytest.mark.parametrize(
    ("low", "high", "bound", "tightness"),
    [
        (0.45, 0.55, "holds", "tight"),
        (0.44, 0.49, "holds", "not tight"),
        (0.30, 0.55, "holds", "too little data"),
        (0.45, 0.65, "too little data", "tight"),
        (0.30, 0.65, "too little data", "too little data"),
        (0.61, 0.65, "fails", "exceeded"),
    ],
)
def test_intervals_decide(low: float, high: float, bound: str, tightness: str) -> None:
    exponent = Exponent((low + high) / 2, low, high)
    assert (exponent.bound, exponent.tightness) == (bound, tightness)


def test_a_dead_network_cannot_be_fitted() -> None:
    rows = _power_law(0.5, 0, noise=0.1)
    rows.loc[7, "norm"] = 0
    with pytest.raises(HarnessError, match="width 20 and depth 2 has gradient zero"):
        fit_exponents(rows, "norm")


# the command, its file and its figure


def test_the_command_and_its_file(
    tiny: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    config = tiny()
    shown = run_command(config, "lemma")
    assert "d = m, in the ball, near initialisation: O(sqrt(m H)): " in shown
    assert "16 networks in" in shown
    path = paths.lemma_file(config)
    value = json.loads(path.read_text())
    assert value["digest"] == lemma_digest(config)
    assert value["settings"]["widths"] == [30, 60]
    assert torch.__version__.startswith(value["versions"]["torch"])
    assert len(value["fits"]) == len(WAYS) * len(QUANTITIES)
    found = read_examination(config)
    assert found is not None
    assert found.rows.to_dict("records") == value["rows"]
    for entry in value["fits"]:
        fit = found.fits[entry["way"], entry["quantity"]]
        assert entry["width"]["value"] == fit.width.value
        assert entry["summary"] == str(fit)
    row = found.rows.iloc[-1]
    again = norms(config.lemma, *(int(row[name]) for name in ("m", "H", "d", "seed")))
    assert again == row[list(QUANTITIES)].to_dict()
    before = path.stat().st_mtime_ns
    assert "Nothing to compute" in run_command(config, "lemma")
    assert path.stat().st_mtime_ns == before


def test_other_settings_and_damaged_files_are_computed_again(tiny: Callable[..., Config]) -> None:
    config, said = tiny(), []
    path = paths.lemma_file(config)
    examine(config)
    whole = json.loads(path.read_text())
    other = tiny("lemma.wide_epsilon=0.2")
    assert read_examination(other) is None
    examine(other, said.append)
    assert said == []
    assert json.loads(path.read_text())["settings"]["wide_epsilon"] == 0.2
    for damage in ("{", json.dumps({**whole, "rows": [{"m": 20}]})):
        path.write_text(damage)
        examine(config, said.append)
        assert "is damaged" in said.pop()
        assert json.loads(path.read_text())["rows"] == whole["rows"]


def test_the_figure(tiny: Callable[..., Config]) -> None:
    config = tiny()
    empty = make(config, "lemma")
    assert "`reproduce lemma` makes it" in empty.missing[0]
    assert empty.numbers.empty
    assert "nothing to show yet" in empty.svg()
    examine(config)
    drawing = draw(config, "lemma")
    assert drawing.missing == ()
    numbers = pd.read_csv(paths.figure_file(config, "lemma", "csv"))
    found = read_examination(config)
    np.testing.assert_allclose(numbers["near"], found.rows["near"], rtol=1e-5)
    assert str(found.fits["growing", "near"].width) in drawing.caption
    text = paths.figure_file(config, "lemma", "svg").read_text()
    for words in ("H=1", "H=2", "slope 1/2", "d fixed", "d = m", "width m"):
        assert words in text
    paths.lemma_file(config).write_text("{")
    assert "is damaged" in make(config, "lemma").missing[0]
