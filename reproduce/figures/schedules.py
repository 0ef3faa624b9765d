"""Figure 5: the paper's three schedules of the learning rate."""

from itertools import chain

import pandas as pd

from reproduce.config.schema import Config, Train
from reproduce.experiments.schedules import learning_rate
from reproduce.figures.style import Drawing, legend_above, look, new_figure

_SCHEDULES = ("step", "cosine", "exp")


def make(config: Config, _: str) -> Drawing:
    """Draw the rate of every epoch under each schedule, as the trainer would set it."""
    train = _stepwise(config)
    epochs = range(1, train.epochs + 1)
    rows = chain.from_iterable(
        (
            (schedule, epoch, learning_rate(scheduled, epoch))
            for scheduled in [train.model_copy(update={"schedule": schedule})]
            for epoch in epochs
        )
        for schedule in _SCHEDULES
    )
    numbers = pd.DataFrame(list(rows), columns=["schedule", "epoch", "learning_rate"])
    figure = new_figure(1, height=2.1)
    axes = figure.axes[0]
    for place, schedule in enumerate(_SCHEDULES):
        rates = numbers[numbers["schedule"] == schedule]
        axes.step(
            rates["epoch"], rates["learning_rate"], where="mid", label=schedule, **look(place)
        )
    axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    legend_above(figure, columns=3)
    drops = " and ".join(f"{share:.0%}" for share in train.milestones)
    caption = (
        f"{train.epochs} epochs from {train.learning_rate:g}. step, TRADES' own: divided by 10 at "
        f"{drops} of the run; cosine, for extra images: half a cosine; exp, the paper's: halved "
        "every epoch once three quarters are over."
    )
    return Drawing("Schedules of the learning rate", caption, figure, numbers)


def _stepwise(config: Config) -> Train:
    """Return the settings that Figure 3 trains with, if in steps: its milestones are the ones."""
    followed = config.experiments.figure3
    train = config.train if followed is None else config.train_of(followed.method)
    return train if train.schedule == "step" else config.train
