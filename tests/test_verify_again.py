"""Two evaluations of the same images: how much may differ, and where."""

import numpy as np
import pytest

from reproduce.share.verification_comparison import Comparison, compare, directions

# as many as the command attacks again if it is told nothing
DEFAULT = 64


def _predictions(robust: range, count: int) -> dict[str, np.ndarray]:
    place = np.arange(count)
    label = np.zeros(count, int)
    adversarial = np.where(np.isin(place, robust), 0, 1)
    return {"index": place, "label": label, "clean": label, "adversarial": adversarial}


HERE = {"device": "cpu", "name": "one", "threads": 1, "compiled": False, "versions": {"torch": "2"}}
ELSEWHERE = HERE | {"device": "cuda"}


def _compared(pieces: object, ours: range, count: int = DEFAULT) -> Comparison:
    """Compare with a record of which the first 30 images are robust."""
    return compare("a", _predictions(ours, count), _predictions(range(30), count), pieces, HERE)


@pytest.mark.parametrize(
    ("piece", "robust", "verdict"),
    [
        (HERE, 31, "differs"),
        (HERE, 30, "stands"),
        (HERE | {"name": "another"}, 31, "stands"),
        (HERE | {"name": "another"}, 32, "differs"),
        (ELSEWHERE, 40, "stands"),
        (ELSEWHERE, 20, "stands"),
        (ELSEWHERE, 41, "differs"),
    ],
)
def test_how_much_may_differ_where(piece: object, robust: int, verdict: str) -> None:
    finding = _compared([piece], range(robust)).finding
    assert finding.verdict == verdict, finding


@pytest.mark.parametrize(
    "pieces", [[], None, ["nothing"], [HERE, "nothing"], [HERE | {"device": ""}], [{}]]
)
def test_where_a_record_does_not_say_what_computed_it(pieces: object) -> None:
    """Nothing said is no excuse for what differs, and none is needed for what does not."""
    finding = _compared(pieces, range(31)).finding
    assert finding.verdict == "not checked"
    assert finding.reason.endswith("does not say what it was computed on")
    assert directions([_compared(pieces, range(31))]) == []
    assert _compared(pieces, range(30)).finding.verdict == "stands"


@pytest.mark.parametrize("robust", [20, 40])
def test_all_in_one_direction_is_no_chance(robust: int) -> None:
    """All that another device may change, of one record of the default size."""
    (finding,) = directions([_compared([ELSEWHERE], range(robust))])
    assert finding.verdict == "differs"
    assert "in a hundred" in finding.reason


def test_a_few_in_one_direction_in_every_record_are_no_chance() -> None:
    one = _compared([ELSEWHERE], range(27))
    assert (one.gained, one.lost) == (0, 3)
    assert directions([one])[0].verdict == "stands"
    assert directions([one] * 3)[0].verdict == "differs"


def test_as_many_in_both_directions_on_another_device() -> None:
    compared = _compared([ELSEWHERE], range(5, 35))
    assert (compared.gained, compared.lost) == (5, 5)
    assert compared.finding.verdict == "stands"
    assert directions([compared] * 3)[0].verdict == "stands"
    assert _compared([ELSEWHERE], range(6, 36)).finding.verdict == "differs"
