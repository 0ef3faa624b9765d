"""Figure 6: natural accuracy against stability, the size of a ball is robust accuracy."""

import pandas as pd
from matplotlib.figure import Figure

from reproduce.config.grids import ComparisonTable
from reproduce.config.schema import Config
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment, find_experiment
from reproduce.figures.style import COLOURS, Drawing, new_figure, say_missing
from reproduce.paper.published import published_models
from reproduce.registry import METHODS, dataset_facts, width_label
from reproduce.results.frames import Results, collect
from reproduce.tables.layouts import attack_title

_METRICS = ["natural_accuracy", "perturbation_stability", "robust_accuracy"]
# area of a ball in points² for each percent of robust accuracy above the lowest, and the least
_AREA, _LEAST = 14.0, 30.0


def make(config: Config, name: str) -> Drawing:
    """Draw each network as a ball between its natural accuracy and its stability."""
    grid: ComparisonTable = getattr(config.experiments, name)
    experiment = find_experiment(config, name)
    results = collect(config, experiment)
    rows = []
    for item, record in results.published.items():
        card = published_models().get(item.name)
        label = item.name if card is None else card.method
        values = record.metrics.as_dict()
        rows.append((item.name, label, *(values[metric] for metric in _METRICS)))
    for row in results.frame.to_dict("records"):
        label = f"{METHODS[row['method']].title} {width_label(row['architecture'])}"
        constant = METHODS[row["method"]].lambda_rule == "constant"
        label += f" λ={row['lambda']:g}" if constant else ""
        cell = f"{row['architecture']} {row['method']} {row['lambda']:g} {row['training_seed']}"
        rows.append((cell, label, *(row[metric] for metric in _METRICS)))
    numbers = pd.DataFrame(rows, columns=["network", "label", *_METRICS])
    numbers = numbers.astype(dict.fromkeys(_METRICS, "float64"))
    missing = tuple(paths.shortened(config, line) for line in _missing(experiment, results))
    figure = plot_networks(numbers)
    say_missing(figure, missing, numbers.empty)
    where = f"{dataset_facts(grid.dataset).title} under {attack_title(config, grid.attack)}"
    caption = (
        f"Networks on {where}: the larger the ball, the higher the robust accuracy, which the list "
        "gives in percent."
    )
    return Drawing(experiment.title, caption, figure, numbers, missing)


def _missing(experiment: Experiment, results: Results) -> list[str]:
    """Say which networks are not drawn, and why."""
    ours = [
        f"{item.cell} has no record of {item.attack} yet"
        for item in experiment.evaluations
        if item not in results.held and not any(str(item.cell) in line for line in results.problems)
    ]
    theirs = [
        f"{item.name}: {results.unavailable.get(item, 'not attacked yet')}"
        for item in experiment.published
        if item not in results.published
    ]
    return [*ours, *theirs, *results.problems]


def plot_networks(numbers: pd.DataFrame) -> Figure:
    """Draw numbered balls, and the list of what the numbers stand for."""
    lines = (len(numbers) + 1) // 2
    figure = new_figure(1, height=2.6 + 0.13 * lines)
    axes = figure.axes[0]
    robust = numbers["robust_accuracy"]
    sizes = _LEAST + _AREA * (robust - robust.min())
    axes.scatter(
        numbers["perturbation_stability"],
        numbers["natural_accuracy"],
        s=sizes,
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
