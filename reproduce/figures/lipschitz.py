"""Figure 4: the local Lipschitz constant during training, by width."""

from reproduce.config.grids import Curves
from reproduce.config.schema import Config
from reproduce.experiments.grids import curve_cells, find_experiment
from reproduce.figures.lines import draw_lines, smooth
from reproduce.figures.style import Drawing, legend_above, look, new_figure, runs_of, say_missing
from reproduce.registry import width_label
from reproduce.results.frames import read_histories


def make(config: Config, name: str) -> Drawing:
    """Draw the largest input gradient of each attack over the epochs, a line a width."""
    grid: Curves = getattr(config.experiments, name)
    histories = read_histories(config, curve_cells(grid))
    numbers = smooth(histories.traces, ["lipschitz"], config.train_of(grid.method).epochs)
    figure = new_figure(1, height=2.3)
    axes = figure.axes[0]
    for place, architecture in enumerate(grid.architectures):
        runs = numbers[numbers["architecture"] == architecture]
        draw_lines(axes, runs, "lipschitz", "position", width_label(architecture), **look(place))
    axes.set(xlabel="epoch", ylabel="local Lipschitz constant", ylim=(0, None))
    legend_above(figure)
    say_missing(figure, histories.missing, numbers.empty)
    caption = (
        f"{runs_of(grid)}. For each image the largest l1 norm of the input gradient among the "
        "steps of the training attack, mean over the batch. Lines: mean over seeds, smoothed over "
        "3 % of the run, with one standard deviation; dots: single iterations."
    )
    title = find_experiment(config, name).title
    return Drawing(title, caption, figure, numbers, histories.missing)
