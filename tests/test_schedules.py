"""Learning rates against the published rules, and which epochs are measured."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from reproduce.config.schema import Train
from reproduce.experiments.schedules import learning_rate, measured_epochs, piecewise_rate

ATTACK = {"epsilon": 0.031, "step_size": 0.007, "steps": 10}


def _rates(schedule: str, epochs: int, **settings: object) -> list[float]:
    train = Train(epochs=epochs, schedule=schedule, attack=ATTACK, **settings)
    return [learning_rate(train, epoch) for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize("epochs", [100, 110, 200])
def test_exp_is_the_authors_rule_from_a_hundred_epochs_on(epochs: int) -> None:
    for epoch, rate in enumerate(_rates("exp", epochs), 1):
        # in exact integers: 0.74 as a float is a little less than 74 / 100
        exponent = (100 * epoch - 74 * epochs) // (100 * int(epochs / 100))
        assert rate == 0.1 * (0.5**exponent if epoch >= int(0.75 * epochs) else 1)


def test_exp_below_a_hundred_halves_once_an_epoch() -> None:
    for epochs in range(2, 100):
        rates = _rates("exp", epochs)
        assert {b / a for a, b in pairwise(rates)} <= {1.0, 0.5}
        assert rates.count(0.1) == max(1, int(0.75 * epochs) - 1)
    assert _rates("exp", 1) == [0.1]


def test_step() -> None:
    assert _rates("step", 100) == [0.1] * 74 + [0.1 / 10] * 15 + [0.1 / 100] * 11
    assert _rates("step", 1) == [0.1]
    # AWP's milestones
    rates = _rates("step", 200, milestones=[0.5, 0.75])
    assert rates == [0.1] * 99 + [0.1 / 10] * 50 + [0.1 / 100] * 51
    # 0.29 * 100 is a little below 29 as a float
    assert _rates("step", 100, milestones=[0.29]).count(0.1) == 28


def test_cosine() -> None:
    expected = [0.05 * (1 + math.cos(math.pi * (epoch - 1) / 100)) for epoch in range(1, 101)]
    assert _rates("cosine", 100) == pytest.approx(expected)


# one after the other in the official code, each phase with its own (Wong et al. 2020)
FAST_AT = [([0, 1, 6], [0, 0.4, 0.04]), ([6, 12], [0.04, 0.004]), ([12, 15], [0.004, 0.0004])]


@pytest.mark.parametrize("steps", [1, 2503])
def test_piecewise_is_the_rule_of_fast_at(steps: int) -> None:
    """One list of points gives what the three phases interpolate with numpy."""
    points = [(0, 0.0), (1, 0.4), (6, 0.04), (12, 0.004), (15, 0.0004)]
    for epoch in range(15):
        epochs, values = next(phase for phase in FAST_AT if epoch < phase[0][-1])
        for step in {0, steps // 2, steps - 1}:
            expected = np.interp(epoch + (step + 1) / steps, epochs, values)
            assert piecewise_rate(points, epoch + 1, step, steps) == pytest.approx(expected)


def test_piecewise_at_its_ends() -> None:
    points = [(1.0, 0.2), (2.0, 0.1)]
    assert piecewise_rate(points, 1, 0, 2) == 0.2
    assert piecewise_rate(points, 3, 0, 2) == 0.1


@pytest.mark.parametrize("share", ["0", "0.29", "0.9999999999"])
@pytest.mark.parametrize("epochs", [1, 100])
def test_which_epochs_are_measured(share: str, epochs: int) -> None:
    train = Train(epochs=epochs, attack=ATTACK, validation={"start": float(share)})
    # in exact fractions: 0.29 * 100 as floats is a little less than 29
    later = [epoch for epoch in range(1, epochs + 1) if epoch > Fraction(share) * epochs]
    assert list(measured_epochs(train)) == later
