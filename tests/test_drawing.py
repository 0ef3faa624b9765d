"""How figures are drawn: lines over training, circles true to their areas, names that fit."""

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reproduce.config.schema import Config
from reproduce.figures import make, svg_of
from reproduce.figures.lines import draw_lines, smooth
from reproduce.figures.networks import plot_networks
from reproduce.figures.sets import distance_for, overlap
from reproduce.paper.published import published_models


def test_runs_of_unequal_length_are_averaged_where_they_are_there() -> None:
    steps, epochs = 50, 40
    rows = [
        ("digits", "wrn-10-1", "trades", 6.0, seed, row + 1, 1 + row // steps, value)
        for seed, (share, value) in enumerate(((1.0, 3.0), (0.5, 6.0), (0.21, 12.0)))
        for row in range(int(share * steps * epochs))
    ]
    names = ["dataset", "architecture", "method", "lambda", "seed", "iteration", "epoch", "x"]
    numbers = smooth(pd.DataFrame(rows, columns=names), ["x"], epochs)
    # all runs are drawn at the positions of the whole one
    whole = set(numbers.loc[numbers["seed"] == 0, "position"])
    assert len(whole) == 800
    assert set(numbers["position"]) == whole
    axes = Figure().subplots()
    draw_lines(axes, numbers, "x", "position", "w=1", color="black")
    lines = [line for line in axes.lines if line.get_linestyle() != "None"]
    drawn = [line.get_ydata() for line in lines]
    levels = [set(np.round(values[~np.isnan(values)], 9)) for values in drawn]
    # three seeds, then two, then one; never in between
    assert levels == [{7.0}, {4.5}, {3.0}]
    assert lines[0].get_label() == "w=1"
    assert [line.get_alpha() for line in lines] == [None, 0.4, 0.4]
    with pytest.raises(ValueError, match="duplicate"):
        draw_lines(axes, pd.concat([numbers, numbers]), "x", "position", "", color="black")


def test_the_window_is_of_the_whole_run() -> None:
    run = ("digits", "wrn-10-1", "trades", 6.0, 0)
    names = ["dataset", "architecture", "method", "lambda", "seed", "iteration", "epoch", "x"]
    rows = [(*run, row + 1, 1 + row // 100, float(row == 150)) for row in range(300)]
    numbers = smooth(pd.DataFrame(rows, columns=names), ["x"], epochs=10)
    # 3 % of 1,000 iterations, odd
    assert numbers["x_smooth"].max() == pytest.approx(1 / 31)


@pytest.mark.parametrize(
    ("a", "b", "area"), [(1.0, 0.7, 0.9), (2.0, 2.0, 0.1), (0.5, 3.0, 0.7), (1.0, 1.0, 3.0)]
)
def test_overlap_of_circles(a: float, b: float, area: float) -> None:
    distance = distance_for(a, b, area)
    assert overlap(a, b, distance) == pytest.approx(area, rel=1e-9)
    points = np.random.default_rng(0).uniform(-4, 4, (400_000, 2))
    left = np.hypot(points[:, 0], points[:, 1]) < a
    right = np.hypot(points[:, 0] - distance, points[:, 1]) < b
    assert 64 * (left & right).mean() == pytest.approx(area, abs=0.06)


def test_circles_that_touch_and_that_lie_within() -> None:
    assert distance_for(1.0, 2.0, 0.0) == 3.0
    assert overlap(1.0, 2.0, 3.0) == 0.0
    assert distance_for(1.0, 2.0, math.pi) == 1.0
    assert overlap(1.0, 2.0, 0.5) == pytest.approx(math.pi)


def test_thirteen_networks_fit_their_column(tmp_path: Path) -> None:
    numbers = pd.DataFrame(
        [
            (name, card.method, card.autoattack, card.natural, 70 - place)
            for place, (name, card) in enumerate(published_models().items())
        ],
        columns=[
            "network",
            "label",
            "natural_accuracy",
            "perturbation_stability",
            "robust_accuracy",
        ],
    )
    figure = plot_networks(numbers)
    figure.savefig(tmp_path / "six.png", dpi=200)
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_figures_look_the_same_whatever_the_user_s_settings(paper: Callable[..., Config]) -> None:
    ours = svg_of(make(paper(), "figure5"))
    theirs = {"font.family": "serif", "xtick.labelsize": 20, "savefig.bbox": "tight"}
    with mpl.rc_context(theirs):
        before = dict(mpl.rcParams)
        assert svg_of(make(paper(), "figure5")) == ours
        assert mpl.rcParams == before
