"""What `reproduce bench` found, as tables and sentences for a terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from reproduce.benchmarks.measured import Peak, Spread, StepTime
    from reproduce.benchmarks.result import Prediction, Result


def tables(found: "Result") -> Iterable[Table]:
    """Give a table for each kind of measurement."""
    peaks = [*found.peaks.products, *found.peaks.convolutions]
    yield _peak_table(peaks, found.peaks.copy_rate)
    if found.steps:
        yield _pair_table(found.steps)
        yield _speed_table(found.steps, "training steps: how fast that is")
    if found.attacks:
        yield _attack_table(found)
    if found.together:
        yield _together_table(found)
    if found.scaling:
        yield _speed_table(found.scaling, "our training step by width and batch")
    for prediction in found.predictions:
        yield _prediction_table(prediction, found.preset)


def _right(table: Table, first: int) -> Table:
    # in a narrow terminal names are broken, never cut
    for column in table.columns[:first]:
        column.overflow = "fold"
    for column in table.columns[first:]:
        column.justify, column.no_wrap = "right", True
    return table


def _peak_table(peaks: "list[Peak]", copied: "Peak | None") -> Table:
    table = Table("peak", "precision", "rate", "range", title="peaks of this machine")
    for peak in peaks:
        table.add_row(
            peak.operation, peak.precision, f"{peak.rate.median:,.1f} GFLOP/s", _range(peak.rate)
        )
    if copied is not None:
        table.add_row(copied.operation, "", f"{copied.rate.median:,.1f} GB/s", _range(copied.rate))
    return _right(table, 2)


def _range(values: "Spread") -> str:
    return f"{values.low:,.4g} to {values.high:,.4g}"


def _pair_table(rows: "list[StepTime]") -> Table:
    """Ours beside the reference formulation."""
    table = Table(
        *("step", "seconds", "reference / ours", "by counting", "first step"),
        title="training steps: ours beside the reference formulation",
    )
    for row in rows:
        table.add_row(
            str(row.case),
            f"{row.seconds.median:.3g}",
            "" if row.ratio is None else f"{row.ratio.median:.2f} ({_short(row.ratio)})",
            "" if row.counted_ratio is None else f"{row.counted_ratio:.2f}",
            f"{row.warm_up_seconds:.1f} s",
        )
    return _right(table, 1)


def _speed_table(rows: "list[StepTime]", title: str) -> Table:
    held = any(row.memory_bytes is not None for row in rows)
    table = Table("step", "images/s", "GFLOP/s", "of peak", "epoch", title=title)
    if held:
        table.add_column("memory")
    for row in rows:
        cells = [str(row.case), f"{row.images_per_second:,.4g}", f"{row.gflops:,.4g}"]
        cells.append("" if row.of_peak is None else f"{100 * row.of_peak:.0f} %")
        cells.append(f"{row.epoch_seconds:,.0f} s")
        if held:
            size = row.memory_bytes
            cells.append("" if size is None else f"{size / 2**30:.2f} GiB")
        table.add_row(*cells)
    return _right(table, 1)


def _short(values: "Spread") -> str:
    return f"{values.low:.2f} to {values.high:.2f}; {values.runs}"


def _attack_table(found: "Result") -> Table:
    table = Table("network", "attack", "at once", "images/s", "range", "passes/s", title="attacks")
    for row in found.attacks:
        speed = row.images_per_second
        table.add_row(
            row.architecture,
            row.what,
            str(row.batch),
            f"{speed.median:,.4g}",
            _range(speed),
            f"{speed.median * row.passes:,.4g}",
        )
    return _right(table, 2)


def _together_table(found: "Result") -> Table:
    title = f"cells that train at once on one device: {found.together[0].case}"
    table = Table("cells", "images/s together", "against one", title=title)
    for row in found.together:
        speed, against = row.images_per_second, row.against_one
        table.add_row(
            str(row.cells),
            "" if speed is None else f"{speed:,.4g}",
            "" if against is None else f"{against:.2f}",
        )
    return _right(table, 0)


def _prediction_table(found: "Prediction", preset: str) -> Table:
    title = f"hours of preset {preset}, trained in {found.precision}, {found.form}"
    table = Table("target", "training", "evaluation", "together", title=title)
    for row in found.hours:
        values = (row.training, row.evaluation, row.training + row.evaluation)
        table.add_row(row.target, *(_hours(value) for value in values))
    return _right(table, 1)


def _hours(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def sentences(found: "Result") -> Iterable[str]:
    """Say what no table has."""
    for prediction in found.predictions:
        alone = "; wider ones are extrapolated from one" if len(prediction.networks) == 1 else ""
        yield (
            f"Hours: {prediction.unit}, by steps on {', '.join(prediction.networks)} and "
            f"{prediction.evaluation_from}{alone}; attacks as if every image held to the end. The "
            f"largest share of all in {prediction.precision}: {prediction.largest}."
        )
    both = found.autoattack
    if both is not None:
        how = ", ours compiled" if both.compiled else ""
        yield (
            f"AutoAttack on {both.images} images{how}: {both.robust} robust, {both.plain_robust} "
            f"by the plain package, {both.differing} verdicts differ; plain / ours "
            f"{both.ratio.median:.2f} ({_short(both.ratio)}); forward and backward passes "
            f"{both.forward:,} and {both.backward:,}, of the plain package "
            f"{both.plain_forward:,} and {both.plain_backward:,}."
        )
    for row in found.together:
        if row.note:
            yield f"Not measured: {row.cells} cells at once: {row.note}."
    for missing in found.not_measured:
        yield f"Not measured: {missing.what}: {missing.why}."
    if found.load and found.cores and found.load[0] > found.cores / 2:
        yield (
            f"The machine was busy before this began (load {found.load[0]:.1f}, {found.cores} "
            "processors): speeds may be too low, ratios are the safer figures."
        )
    name, commit = found.hardware["name"], found.provenance["commit"]
    yield (
        "An epoch is 50,000 images; in brackets: lowest to highest; number of pairs. "
        "benchmarks/README.md tells what each figure means."
    )
    yield f"{name}, {found.seconds:.0f} s, {found.made}, commit {commit}."
