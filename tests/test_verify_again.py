"""Two evaluations of the same images: how much may differ, and where."""

import numpy as np
import pytest

from reproduce.verification.again import compare


def _predictions(robust: int, count: int = 200) -> dict[str, np.ndarray]:
    place = np.arange(count)
    label = np.zeros(count, int)
    adversarial = np.where(place < robust, 0, 1)
    return {"index": place, "label": label, "clean": label, "adversarial": adversarial}


HERE = {"device": "cpu", "name": "one", "threads": 1, "compiled": False, "versions": {"torch": "2"}}


@pytest.mark.parametrize(
    ("piece", "robust", "verdict"),
    [
        (HERE, 101, "differs"),
        (HERE, 100, "stands"),
        (HERE | {"name": "another"}, 102, "stands"),
        (HERE | {"name": "another"}, 110, "differs"),
        (HERE | {"device": "cuda"}, 108, "stands"),
        # all in one direction is no chance
        (HERE | {"device": "cuda"}, 112, "differs"),
        ("nothing", 112, "differs"),
    ],
)
def test_how_much_may_differ_where(piece: object, robust: int, verdict: str) -> None:
    finding = compare("a", _predictions(robust), _predictions(100), [piece], HERE)
    assert finding.verdict == verdict, finding


def test_as_many_in_both_directions_on_another_device() -> None:
    ours = _predictions(100)
    ours["adversarial"] = np.roll(ours["adversarial"], 12)
    finding = compare("a", ours, _predictions(100), [HERE | {"device": "cuda"}], HERE)
    assert finding.verdict == "stands"
    ours["adversarial"] = np.roll(ours["adversarial"], 12)
    finding = compare("a", ours, _predictions(100), [HERE | {"device": "cuda"}], HERE)
    assert finding.verdict == "differs"
