"""Three metrics by lambda and width: Tables 1, 5 and 6."""

from collections.abc import Sequence

from reproduce.analysis.layouts.layout import (
    LONG,
    SHORT,
    Column,
    Layout,
    Row,
    metric_entry,
)
from reproduce.analysis.layouts.partial import mark
from reproduce.analysis.results import Results
from reproduce.catalogue import METHODS, dataset_facts, width_label
from reproduce.config import Config, Grid


def grid_layout(config: Config, grid: Grid, metrics: Sequence[str], results: Results) -> Layout:
    """Sections by method, rows by lambda, columns by metric and width."""
    total = dataset_facts(grid.dataset).test
    marked = mark(config, [grid.attack])
    columns = [
        Column(
            f"{SHORT[metric]} {width_label(name)}{marked}",
            f"{metric} {name}",
            LONG[metric],
            f"{width_label(name)}{marked}",
        )
        for metric in metrics
        for name in grid.architectures
    ]
    rows, entries = [], []
    for method, lams in grid.methods.items():
        title = METHODS[method].title
        for lam in lams:
            rows.append(Row(title, (f"{lam:g}",), {"method": method, "lambda": lam}, title))
            chosen = results.frame[
                (results.frame["method"] == method) & (results.frame["lambda"] == lam)
            ]
            entries.append(
                [
                    metric_entry(
                        chosen[chosen["architecture"] == name], metric, len(grid.seeds), total
                    )
                    for metric in metrics
                    for name in grid.architectures
                ]
            )
    note = (
        f"Mean ± sample standard deviation over {len(grid.seeds)} training seed(s); bold: best "
        "of a column within its method."
    )
    return Layout(("λ",), rows, columns, entries, [note])
