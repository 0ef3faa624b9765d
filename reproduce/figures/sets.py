"""Figure 2: robust images are the correct and stable ones, with the measured sizes."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from scipy.optimize import brentq

from reproduce.config.grids import Curves
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, find_experiment
from reproduce.figures.style import COLOURS, Drawing, new_figure, runs_of, say_missing
from reproduce.registry import parse_architecture, width_label
from reproduce.results.frames import read_evaluation
from reproduce.tables.layouts import attack_title

# half of a panel's sides, where a percent of the images has an area of 1: any circle fits
_WIDE, _TALL = 13.0, 5.8
_SIZES = ["robust", "correct_only", "stable_only", "neither"]
_COLUMNS = ["dataset", "architecture", "method", "lambda", "seed", "images", *_SIZES]


def make(config: Config, name: str) -> Drawing:
    """Draw the sets of correct and of stable images of each network, true to their areas."""
    grid: Curves = getattr(config.experiments, name)
    experiment = find_experiment(config, name)
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for evaluation in experiment.evaluations:
        try:
            row = _sizes(config, evaluation)
        except HarnessError as error:
            missing.append(paths.shortened(config, str(error)))
            continue
        if row is None:
            missing.append(f"{evaluation.cell} has no record of {evaluation.attack} yet")
        else:
            rows.append(row)
    numbers = pd.DataFrame(rows, columns=_COLUMNS)
    count = max(1, len(numbers))
    figure = new_figure(count, height=0.5 + 1.55 * count, sharex=False)
    for axes in figure.axes:
        axes.set_axis_off()
    for axes, row in zip(figure.axes, rows, strict=False):
        title = (
            f"{parse_architecture(row['architecture']).title}, {width_label(row['architecture'])}"
        )
        axes.set_title(f"{title}, seed {row['seed']}")
        _two_circles(axes, *(row[size] for size in _SIZES))
    say_missing(figure, tuple(missing), numbers.empty)
    attack = attack_title(config, "pgd20")
    caption = (
        f"{runs_of(grid)}, under {attack}. Percent of the test images; areas of the circles and of "
        "their overlap are in proportion. The overlap is robust accuracy, the left circle natural "
        "accuracy, the right one perturbation stability."
    )
    return Drawing(experiment.title, caption, figure, numbers, tuple(missing))


def _sizes(config: Config, evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the sizes of the sets in percent; None before there is a record."""
    found = read_evaluation(config, evaluation)
    if found is None:
        return None
    record, cell = found[0], evaluation.cell
    correct, stable = record.clean == record.label, record.clean == record.adversarial
    parts = (correct & stable, correct & ~stable, ~correct & stable, ~correct & ~stable)
    name = (cell.dataset, cell.architecture, cell.method, cell.lam, cell.seed)
    sizes = (100 * float(part.mean()) for part in parts)
    return dict(zip(_COLUMNS, (*name, len(record.label), *sizes), strict=True))


def overlap(a: float, b: float, distance: float) -> float:
    """Return the area that two circles of radii `a` and `b` share at a distance of centres."""
    if distance >= a + b:
        return 0.0
    if distance <= abs(a - b):
        return math.pi * min(a, b) ** 2
    cos_a = (distance**2 + a**2 - b**2) / (2 * distance * a)
    cos_b = (distance**2 + b**2 - a**2) / (2 * distance * b)
    kite = (-distance + a + b) * (distance + a - b) * (distance - a + b) * (distance + a + b)
    return a**2 * math.acos(cos_a) + b**2 * math.acos(cos_b) - 0.5 * math.sqrt(kite)


def distance_for(a: float, b: float, area: float) -> float:
    """Return the distance of centres at which circles of radii `a` and `b` share an area."""
    near, far = abs(a - b), a + b
    if area <= 0:
        return far
    if area >= math.pi * min(a, b) ** 2 * (1 - 1e-12):
        return near
    return float(brentq(lambda d: overlap(a, b, d) - area, near, far))


def _two_circles(axes: Axes, robust: float, correct: float, stable: float, neither: float) -> None:
    """Draw the circles; `correct` and `stable` are those in one circle only."""
    left, right = (math.sqrt((robust + one) / math.pi) for one in (correct, stable))
    apart = distance_for(left, right, robust)
    for centre, radius, colour in ((0.0, left, COLOURS[1]), (apart, right, COLOURS[5])):
        axes.add_patch(Circle((centre, 0), radius, color=colour, alpha=0.35, linewidth=0))
        axes.add_patch(Circle((centre, 0), radius, fill=False, color="black", linewidth=0.6))
    middle = (apart - right + left) / 2
    axes.text(middle, 0, f"robust\n{robust:.1f}", ha="center", va="center", fontsize=7)
    words = f"correct,\nnot stable\n{correct:.1f}"
    axes.text(-left - 0.2, 0, words, ha="right", va="center", fontsize=6.5)
    words = f"stable,\nnot correct\n{stable:.1f}"
    axes.text(apart + right + 0.2, 0, words, ha="left", va="center", fontsize=6.5)
    centre = (apart + right - left) / 2
    axes.text(
        centre + _WIDE, -_TALL, f"neither {neither:.1f}", ha="right", va="bottom", fontsize=6.5
    )
    axes.set_xlim(centre - _WIDE, centre + _WIDE)
    axes.set_ylim(-_TALL, _TALL)
    axes.set_aspect("equal")
