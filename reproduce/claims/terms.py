"""Claims on traces: both terms of the loss, and the local Lipschitz constant, by width."""

from collections.abc import Mapping

import pandas as pd

from reproduce.catalogue import width_label
from reproduce.cells import Cell
from reproduce.claims.claim import Finding
from reproduce.claims.compare import judge
from reproduce.claims.comparison import Comparison
from reproduce.claims.evidence import Evidence, Group, finished_runs, grouped
from reproduce.claims.grids import ends, kind, neighbours
from reproduce.claims.words import finding
from reproduce.config import Curves

# what belongs to the beginning of training: a network that has learnt nothing is no width
BEGINNING = 0.25


def wider_regularization(evidence: Evidence) -> Finding:
    """Test that robust regularisation is larger on wider networks during training (Figure 1)."""
    return _by_width(evidence, "figure1", "robust_regularization", "robust regularisation")


def wider_risk(evidence: Evidence) -> Finding:
    """Test that natural risk is smaller on wider networks during training (Figure 1)."""
    return _by_width(evidence, "figure1", "natural_risk", "natural risk", sign=-1)


def wider_lipschitz(evidence: Evidence) -> Finding:
    """Test that the local Lipschitz constant grows with width (Figure 4)."""
    return _by_width(
        evidence, "figure4", "lipschitz", "the local Lipschitz estimate", per=" per unit of epsilon"
    )


def _by_width(
    evidence: Evidence, figure: str, column: str, name: str, sign: int = 1, per: str = ""
) -> Finding:
    """Compare the mean of a column over the last three quarters of training, by width.

    The widest network against the thinnest decides, any two neighbours can contradict.
    """
    grid: Curves = evidence.grid(figure)
    begun = BEGINNING * evidence.config.train_of(grid.method).epochs
    runs = finished_runs(evidence, grid)
    late = {cell: trace[trace["epoch"] > begun] for cell, trace in runs.traces.items()}
    # a NaN in a trace, of a run that diverged say, is no number to leave out
    means = {cell: float(trace[column].mean(skipna=False)) for cell, trace in late.items()}
    groups = grouped(means, f"finite mean of {name}")
    epochs = _epoch_means(late, column)

    def compare(lam: float, thin: str, wide: str) -> Comparison:
        more, less = (wide, thin) if sign > 0 else (thin, wide)
        names = (width_label(more), width_label(less))
        first, second = (
            groups.get((side, lam), Group(f"{side} {lam:g}", {})) for side in (more, less)
        )
        detail = _share_of_epochs(epochs, (more, lam), (less, lam))
        return Comparison(
            f"{name}, λ={lam:g}{kind(wide, grid.architectures)}",
            names,
            first,
            second,
            unit=f"nats{per}",
            detail=detail,
        )

    def each(pairs: list[tuple[str, str]]) -> list[Comparison]:
        return [compare(lam, *pair) for lam in grid.lambdas for pair in pairs]

    judgement = judge(
        each(neighbours(grid.architectures)),
        f"{name}, {'widest − thinnest' if sign > 0 else 'thinnest − widest'}",
        each(ends(grid.architectures)),
        runs.missing,
    )
    up, down = ("higher", "lower") if sign > 0 else ("lower", "higher")
    place = "on the widest network than on the thinnest"
    return finding(judgement, f"{name} is", above=f"{up} {place}", below=f"{down} {place}")


def _epoch_means(
    traces: Mapping[Cell, pd.DataFrame], column: str
) -> dict[tuple[str, float], "pd.Series[float]"]:
    """Return the mean over seeds by epoch, for every network and lambda."""
    rows = [
        trace.groupby("epoch")[column].mean().rename(cell.seed) for cell, trace in traces.items()
    ]
    keys = [(cell.architecture, cell.lam) for cell in traces]
    return {
        key: pd.concat([r for r, k in zip(rows, keys, strict=True) if k == key], axis=1).mean(
            axis=1
        )
        for key in dict.fromkeys(keys)
    }


def _share_of_epochs(
    epochs: Mapping[tuple[str, float], "pd.Series[float]"],
    first: tuple[str, float],
    second: tuple[str, float],
) -> str:
    if first not in epochs or second not in epochs:
        return ""
    share = 100 * float((epochs[first] > epochs[second]).mean())
    times = float(epochs[first].mean() / epochs[second].mean())
    return f"{times:.3g} times as large, larger in {share:.0f} % of the epochs"
