"""Figure 5: the paper's three schedules of the learning rate."""

from itertools import chain

import pandas as pd

from reproduce.config import Config
from reproduce.figures.drawing import Drawing
from reproduce.figures.style import look, new_figure
from reproduce.schedules import learning_rate

_SCHEDULES = {
    "step": "step: TRADES",
    "cosine": "cosine: with extra images",
    "exp": "exponential: the paper's",
}


def make(config: Config, _: str) -> Drawing:
    """Draw the rate of every epoch under each schedule, as the trainer would set it."""
    epochs = range(1, config.train.epochs + 1)
    rows = chain.from_iterable(
        (
            (schedule, epoch, learning_rate(train, epoch))
            for train in [config.train.model_copy(update={"schedule": schedule})]
            for epoch in epochs
        )
        for schedule in _SCHEDULES
    )
    numbers = pd.DataFrame(list(rows), columns=["schedule", "epoch", "learning_rate"])
    figure = new_figure(1, height=2.1)
    axes = figure.axes[0]
    for place, (schedule, label) in enumerate(_SCHEDULES.items()):
        rates = numbers[numbers["schedule"] == schedule]
        axes.step(rates["epoch"], rates["learning_rate"], where="mid", label=label, **look(place))
    axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axes.legend()
    caption = (
        f"{config.train.epochs} epochs from {config.train.learning_rate:g}: divided by 10 at "
        f"{' and '.join(f'{share:.0%}' for share in config.train.milestones)} of the run, half a "
        "cosine, and halved every epoch once three quarters are over."
    )
    return Drawing("Schedules of the learning rate", caption, figure, numbers)
