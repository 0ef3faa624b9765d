"""Figures 2, 5 and 6, and the figure of Lemma 4.2."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.optimize import brentq

from reproduce.config.grids import ComparisonTable, Curves
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment, find_experiment
from reproduce.experiments.schedules import learning_rate
from reproduce.figures.style import COLOURS, MARKERS, Drawing, line_style, new_figure, runs_of
from reproduce.lemma.results import COLUMNS, WAYS, read_examination
from reproduce.paper.published import published_models
from reproduce.registry import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.results.frames import Results, collect
from reproduce.tables.layout import attack_title

# half the sides of Figure 2's panels: any circle fits, as 1 % of the images has an area of 1
_HALF_WIDTH, _HALF_HEIGHT = 13.0, 5.8
_SIZES = ["robust", "correct_only", "stable_only", "neither"]
_BALL = ["natural_accuracy", "perturbation_stability", "robust_accuracy"]
# the norms that the two rows of the lemma's panels show
_NORMS = {"near": "largest norm,\nlemma's condition", "wide_near": "largest norm,\nbeyond it"}


def sets(config: Config, name: str) -> Drawing:
    """Draw the sets of correct and of stable images of each network, true to their areas."""
    grid: Curves = getattr(config.experiments, name)
    experiment = find_experiment(config, name)
    results = collect(config, experiment)
    robust, natural, stable = (
        results.frame[metric]
        for metric in ("robust_accuracy", "natural_accuracy", "perturbation_stability")
    )
    numbers = results.frame.rename(columns={"training_seed": "seed"}).assign(
        robust=robust,
        correct_only=natural - robust,
        stable_only=stable - robust,
        # without the error of rounding, which may lie below zero
        neither=(100 - natural - stable + robust).round(9).abs(),
    )
    named = ["dataset", "architecture", "method", "lambda", "seed", "images"]
    numbers = numbers[[*named, *_SIZES]]
    panels = max(1, len(numbers))
    figure = new_figure(panels, height=0.5 + 1.55 * panels, sharex=False)
    for axes in figure.axes:
        axes.set_axis_off()
    for axes, row in zip(figure.axes, numbers.to_dict("records"), strict=False):
        network = row["architecture"]
        title = f"{parse_architecture(network).title}, {width_label(network)}, seed {row['seed']}"
        axes.set_title(title)
        _two_circles(axes, *(row[size] for size in _SIZES))
    caption = (
        f"{runs_of(grid)}, under {attack_title(config, 'pgd20')}. Percent of the test images; "
        "areas of the circles and of their overlap are in proportion. The overlap is robust "
        "accuracy, the left circle natural accuracy, the right one perturbation stability."
    )
    missing = _not_drawn(config, experiment, results)
    return Drawing(experiment.title, caption, figure, numbers, missing)


def _not_drawn(config: Config, experiment: Experiment, results: Results) -> tuple[str, ...]:
    """Say which networks are not drawn, and why."""
    lines = [
        f"{item.cell} has no record of {item.attack} yet"
        for item in experiment.evaluations
        if item not in results.held and not any(str(item.cell) in line for line in results.problems)
    ]
    lines += [
        f"{item.name}: {results.unavailable.get(item, 'not attacked yet')}"
        for item in experiment.published
        if item not in results.published
    ]
    return tuple(paths.shortened(config, line) for line in [*lines, *results.problems])


def overlap(a: float, b: float, distance: float) -> float:
    """Return the area that two circles of radii `a` and `b` share at a distance of centres."""
    area = 0.0
    for radius, other in ((a, b), (b, a)):
        cosine = (distance**2 + radius**2 - other**2) / (2 * distance * radius)
        angle = math.acos(min(max(cosine, -1.0), 1.0))
        area += radius**2 * (angle - math.sin(angle) * math.cos(angle))
    return area


def distance_for(a: float, b: float, area: float) -> float:
    """Return the distance of centres at which circles of radii `a` and `b` share an area."""
    near, far = max(abs(a - b), 1e-9), a + b
    if area <= 0:
        return far
    area = min(area, overlap(a, b, near))
    return float(brentq(lambda d: overlap(a, b, d) - area, near, far))


def _two_circles(axes: Axes, robust: float, correct: float, stable: float, neither: float) -> None:
    """Draw the circles; `correct` and `stable` are those in one circle only."""
    left, right = (math.sqrt((robust + one) / math.pi) for one in (correct, stable))
    apart = distance_for(left, right, robust)
    for x, radius, colour in ((0.0, left, COLOURS[1]), (apart, right, COLOURS[5])):
        axes.add_patch(Circle((x, 0), radius, color=colour, alpha=0.35, linewidth=0))
        axes.add_patch(Circle((x, 0), radius, fill=False, color="black", linewidth=0.6))
    centre = (apart + right - left) / 2
    for x, y, text, side in (
        ((apart - right + left) / 2, 0.0, f"robust\n{robust:.1f}", "center"),
        (-left - 0.2, 0.0, f"correct,\nnot stable\n{correct:.1f}", "right"),
        (apart + right + 0.2, 0.0, f"stable,\nnot correct\n{stable:.1f}", "left"),
        (centre + _HALF_WIDTH, 0.5 - _HALF_HEIGHT, f"neither {neither:.1f}", "right"),
    ):
        axes.text(x, y, text, ha=side, va="center", fontsize=6.5)
    axes.set(
        xlim=(centre - _HALF_WIDTH, centre + _HALF_WIDTH),
        ylim=(-_HALF_HEIGHT, _HALF_HEIGHT),
        aspect="equal",
    )


def schedules(config: Config, _: str) -> Drawing:
    """Draw the learning rate of every epoch under each schedule, as training would set it."""
    # Figure 3 trains in steps: its milestones are the ones
    followed = config.experiments.figure3
    train = config.train if followed is None else config.train_of(followed.method)
    train = train if train.schedule == "step" else config.train
    rows = [
        (name, epoch, learning_rate(train.model_copy(update={"schedule": name}), epoch))
        for name in ("step", "cosine", "exp")
        for epoch in range(1, train.epochs + 1)
    ]
    numbers = pd.DataFrame(rows, columns=["schedule", "epoch", "learning_rate"])
    figure = new_figure(1, height=2.1)
    axes = figure.axes[0]
    for place, (name, rates) in enumerate(numbers.groupby("schedule", sort=False)):
        rate = rates["learning_rate"]
        axes.step(rates["epoch"], rate, where="mid", label=str(name), **line_style(place))
    axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    drops = " and ".join(f"{share:.0%}" for share in train.milestones)
    caption = (
        f"{train.epochs} epochs from {train.learning_rate:g}. step, TRADES' own: divided by 10 at "
        f"{drops} of the run; cosine, for extra images: half a cosine; exp, the paper's: halved "
        "every epoch once three quarters are over."
    )
    return Drawing("Schedules of the learning rate", caption, figure, numbers)


def networks(config: Config, name: str) -> Drawing:
    """Draw each network as a ball between its natural accuracy and its stability."""
    grid: ComparisonTable = getattr(config.experiments, name)
    experiment = find_experiment(config, name)
    results = collect(config, experiment)
    rows: list[dict[Any, Any]] = []
    for item, record in results.published.items():
        card = published_models().get(item.name)
        label = item.name if card is None else card.method
        rows.append({"network": item.name, "label": label, **record.metrics.as_dict()})
    for row in results.frame.to_dict("records"):
        method = METHODS[row["method"]]
        label = f"{method.title} {width_label(row['architecture'])}"
        label += f" λ={row['lambda']:g}" if method.lambda_rule == "constant" else ""
        cell = f"{row['architecture']} {row['method']} {row['lambda']:g} {row['training_seed']}"
        rows.append({"network": cell, "label": label, **row})
    numbers = pd.DataFrame(rows, columns=["network", "label", *_BALL])
    numbers = numbers.astype(dict.fromkeys(_BALL, "float64"))
    caption = (
        f"Networks on {dataset_facts(grid.dataset).title} under "
        f"{attack_title(config, grid.attack)}: the larger the ball, the higher the robust "
        "accuracy, which the list gives in percent."
    )
    missing = _not_drawn(config, experiment, results)
    return Drawing(experiment.title, caption, plot_networks(numbers), numbers, missing)


def plot_networks(numbers: pd.DataFrame) -> Figure:
    """Draw numbered balls, and the list of what the numbers stand for."""
    figure = new_figure(1, height=2.6 + 0.13 * ((len(numbers) + 1) // 2))
    axes = figure.axes[0]
    robust = numbers["robust_accuracy"]
    axes.scatter(
        numbers["perturbation_stability"],
        numbers["natural_accuracy"],
        # in points²: the lowest has 30, each percent above it adds 14
        s=30.0 + 14.0 * (robust - robust.min()),
        color=COLOURS[6],
        edgecolor="black",
        linewidth=0.6,
        alpha=0.6,
    )
    for number, row in enumerate(numbers.itertuples(), start=1):
        where = (row.perturbation_stability, row.natural_accuracy)
        axes.annotate(str(number), where, ha="center", va="center", fontsize=6)
        label = f"{number}  {row.label}: {row.robust_accuracy:.1f}"
        axes.plot([], [], linestyle="none", label=label)
    axes.margins(0.15)
    axes.set(xlabel="perturbation stability (%)", ylabel="natural accuracy (%)")
    if len(numbers):
        options = {"handlelength": 0, "handletextpad": 0, "columnspacing": 0.8}
        figure.legend(loc="outside upper center", ncols=2, fontsize=5.5, **options)
    return figure


def lemma(config: Config, _: str) -> Drawing:
    """Draw the largest norms found, a line a depth, with a line of the bound's slope."""
    missing: tuple[str, ...] = ()
    try:
        found = read_examination(config)
        if found is None:
            missing = ("no lemma.json of these settings is there; `reproduce lemma` makes it",)
    except HarnessError as error:
        found, missing = None, (str(error),)
    numbers = pd.DataFrame(columns=list(COLUMNS)) if found is None else found.rows
    figure = new_figure(2, height=3.6, columns=2, sharey="row")
    panels = iter(figure.axes)
    for norm, label in _NORMS.items():
        for way, title in WAYS.items():
            axes = next(panels)
            axes.set_title(title if norm == "near" else "")
            axes.set_xlabel("" if norm == "near" else "width m")
            axes.set_ylabel(label if way == "fixed" else "")
            if len(numbers):
                _norms(axes, numbers[numbers["way"] == way], norm)
    caption = (
        "Random networks of input dimension fixed (left) and equal to the width m (right). "
        "Top: largest norm found within the lemma's condition on input and weights; bottom: within "
        f"{config.lemma.wide_epsilon:g} of the input, each layer moved by "
        f"{config.lemma.wide_radius:g}. Lines: geometric mean over seeds; dots: networks, hollow "
        "ones too narrow for their depth to be fitted; grey: slope 1/2, the bound's."
    )
    if found is not None:
        exponents = "; ".join(
            f"{row} {column} {found.fits[way, norm].width}, {found.fits[way, norm].depth} in H"
            for norm, row in zip(_NORMS, ("top", "bottom"), strict=True)
            for way, column in zip(WAYS, ("left", "right"), strict=True)
        )
        caption += f" Exponents in m, with 95 % intervals: {exponents}."
    title = "Largest input gradient of random networks (Lemma 4.2)"
    return Drawing(title, caption, figure, numbers, missing)


def _norms(axes: Axes, rows: pd.DataFrame, norm: str) -> None:
    """Draw a line a depth over the networks' own dots, and the slope of the bound."""
    for place, (depth, deep) in enumerate(rows.groupby("H")):
        line = line_style(place)
        dots: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "markersize": 2.5}
        dots |= {"markeredgewidth": 0.4, "linestyle": "none", "alpha": 0.5, "color": line["color"]}
        for fitted, some in deep.groupby("fitted"):
            face = line["color"] if fitted else "none"
            axes.plot(some["m"], some[norm], markerfacecolor=face, **dots)
        means = np.exp(np.log(deep[norm]).groupby(deep["m"]).mean())
        axes.plot(means.index, means, label=f"H={depth}", **line)
    widths = np.array([rows["m"].min(), rows["m"].max()], dtype=float)
    start = rows.loc[rows["m"] == widths[0], norm].median()
    slope = start * np.sqrt(widths / widths[0])
    axes.plot(widths, slope, color="0.6", linewidth=2.5, zorder=0, label="slope 1/2")
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
