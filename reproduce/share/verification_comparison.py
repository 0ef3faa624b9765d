"""Two evaluations of the same images by one network: what may differ, and whether it does."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reproduce.share.verification_finding import Finding

# what other hardware or another random start may change: shares of the images, and how
# unlikely it may be that one side of what changed in the whole sample is the larger by chance;
# of 64 images at most 10 may change, which all in one direction have a chance of 0.002
_ROUNDING, _RANDOM, _CHANCE = 0.02, 0.15, 0.01
_DEVICES = ("cpu", "cuda")
# images that a line names
_NAMED = 8


class Comparison(NamedTuple):
    """What comparing two evaluations gave.

    Attributes
    ----------
    finding : Finding
        Whether the one stands by the other.
    gained, lost : int
        Images that are robust in ours only, and in theirs only, of what was let pass.
    """

    finding: Finding
    gained: int = 0
    lost: int = 0


def compare(
    path: str,
    ours: dict[str, NDArray[Any]],
    theirs: dict[str, NDArray[Any]],
    pieces: Any,
    here: dict[str, Any],
) -> Comparison:
    """Compare two evaluations of the same images by one network.

    On the same kind of processor with the same versions an evaluation has the same bits, so
    every prediction must be equal.  Other hardware rounds otherwise, and CPU and CUDA draw
    other random starts: then a few images may come out otherwise, in both directions, which is
    for `directions` to judge.

    Parameters
    ----------
    path : str
        What is compared.
    ours, theirs : dict
        index, label, clean and adversarial; shape (N,).
    pieces : list of dict
        The hardware and versions that made theirs, as the record has them.
    here : dict
        The same of ours.
    """
    if any(not np.array_equal(ours[key], theirs[key]) for key in ("index", "label")):
        reason = "its images or labels are not those of the test set"
        return Comparison(Finding("differs", path, reason))
    count = len(ours["index"])
    clean, moved = (ours[key] != theirs[key] for key in ("clean", "adversarial"))
    held = [(a["clean"] == a["label"]) & (a["adversarial"] == a["label"]) for a in (ours, theirs)]
    gained, lost = (int((held[k] & ~held[1 - k]).sum()) for k in (0, 1))
    if not clean.any() and not moved.any():
        return Comparison(Finding("stands", path, f"all {count} images as recorded"))
    changed = np.flatnonzero(clean | moved)
    named = ", ".join(str(i) for i in ours["index"][changed[:_NAMED]])
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    told = (
        f"{len(changed)} of {count} images come out otherwise (image {named}{more}), robust "
        f"{int(held[0].sum())} here, {int(held[1].sum())} recorded"
    )
    kind, why = _likeness(pieces, here)
    if kind == "unknown":
        return Comparison(Finding("not checked", path, f"{told}; {why}"))
    if kind == "same":
        return Comparison(Finding("differs", path, f"{told}; {why}"))
    share = _ROUNDING if kind == "rounding" else _RANDOM
    few = max(1, round(_ROUNDING * count))
    if clean.sum() > few or gained + lost > max(1, round(share * count)):
        reason = f"{told}; {why}, which does not explain as much"
        return Comparison(Finding("differs", path, reason))
    return Comparison(Finding("stands", path, f"{told}; {why}, which may be"), gained, lost)


def directions(done: Sequence[Comparison]) -> list[Finding]:
    """Test once whether what was let pass went both ways, over the whole sample.

    Other random starts make some images robust and break others.  Of one record there are
    too few to tell; what somebody made up goes the same way in all of them.
    """
    gained, lost = (sum(getattr(one, side) for one in done) for side in ("gained", "lost"))
    if not gained + lost:
        return []
    chance = stats.binomtest(gained, gained + lost).pvalue
    told = f"{gained} images robust here only, {lost} as recorded only, of what was let pass"
    if chance < _CHANCE:
        reason = f"{told}; chance does so {100 * chance:.2g} times in a hundred"
        return [Finding("differs", "re-evaluation", reason)]
    return [Finding("stands", "re-evaluation", told)]


def _likeness(pieces: Any, here: dict[str, Any]) -> tuple[str, str]:
    """Say whether theirs was computed as ours is: same, rounding, random or unknown."""
    known = [piece for piece in pieces if isinstance(piece, dict)] if pieces else []
    devices = {piece.get("device") for piece in known}
    if not known or len(known) != len(pieces) or not devices <= set(_DEVICES):
        return "unknown", "its record does not say what it was computed on"
    if devices != {here["device"]}:
        return "random", "it was recorded on another kind of device, with other random starts"
    same = all(_computes(piece) == _computes(here) for piece in known)
    if same and here["device"] == "cpu":
        return "same", "it was recorded on the same processor and versions, where bits are equal"
    return "rounding", "it was recorded on other hardware, versions or settings, or on a GPU"


def _computes(piece: dict[str, Any]) -> tuple[Any, ...]:
    """Return what decides how numbers are rounded."""
    versions = piece.get("versions")
    torch = versions.get("torch") if isinstance(versions, dict) else None
    return piece.get("name"), piece.get("threads"), piece.get("compiled"), torch
