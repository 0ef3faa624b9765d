"""Commands that aggregate: table, diff, figure."""

from typing import Annotated

import typer
from rich.table import Table

from reproduce import paths
from reproduce.cli.app import ConfigOption, ExperimentArgument, PresetOption, SetOption, console
from reproduce.cli.app import configure as _configure
from reproduce.experiments import find_table


def table(
    experiment: ExperimentArgument,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write a table from whatever records exist, in CSV, Markdown and LaTeX.

    `checkpoints` is the table of all runs at their best-test, last and best-val checkpoints.

    Example: reproduce table table1 --preset demo
    """
    from reproduce.analysis import collect, write_checkpoints, write_table

    settings = _configure(config, preset, sets)
    if experiment == "checkpoints":
        print(write_checkpoints(settings))
    else:
        chosen = find_table(settings, experiment)
        print(write_table(settings, chosen, collect(settings, chosen)))
    print(f"Written: {paths.table_file(settings, experiment, 'csv')}, .md and .tex")


def diff(
    experiment: ExperimentArgument,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Put a regenerated table beside the paper's, number by number.

    Example: reproduce diff table1 --preset paper
    """
    from reproduce.analysis import build_diff, collect, diff_caveats, diff_notes, write_diff

    settings = _configure(config, preset, sets)
    chosen = find_table(settings, experiment)
    results = collect(settings, chosen)
    frame = build_diff(settings, chosen, results)
    write_diff(settings, chosen, frame)
    notes: dict[str, int] = {}
    heads = ("cell", "method", "λ", "attack", "metric", "paper", "ours", "seeds", "Δ", "verdict")
    shown = Table(*heads)
    for column in shown.columns:
        column.no_wrap = True
    for row in frame.to_dict("records"):
        shown.add_row(
            f"{row['dataset']} {row['architecture']}",
            row["method"],
            "–" if row["lambda"] != row["lambda"] else f"{row['lambda']:g}",
            row["attack"],
            row["metric"].removesuffix("_accuracy").removeprefix("perturbation_"),
            _number(row["paper"], row["paper_std"]),
            _number(row["ours"], row["ours_std"]),
            str(row["seeds"]),
            "" if row["difference"] != row["difference"] else f"{row['difference']:+.2f}",
            row["verdict"] + _reference(row["note"], notes),
        )
    console().print(shown)
    for text, number in notes.items():
        print(f"({number}) {text}")
    reasons = diff_notes(settings, chosen, results)
    if reasons:
        print(f"Not a reproduction of the paper: {'; '.join(reasons)}.")
    for line in [*diff_caveats(results), *results.problems]:
        print(f"Note: {line}")
    print(f"Written: {paths.diff_file(settings, chosen.name)}")


def figure(
    name: Annotated[
        str, typer.Argument(metavar="FIGURE", help="Name of a figure, such as figure3.")
    ],
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Draw a figure from whatever runs are finished: SVG, PNG and the numbers as CSV.

    Example: reproduce figure figure3 --preset demo
    """
    from reproduce.figures import draw

    settings = _configure(config, preset, sets)
    for line in draw(settings, name).missing:
        print(f"Missing or unfinished: {line}")
    print(f"Written: {paths.figure_file(settings, name, 'svg')}, .png and .csv")


def _reference(note: str, notes: dict[str, int]) -> str:
    """Return the number of a note in brackets; a new one gets the next."""
    return f" ({notes.setdefault(note, len(notes) + 1)})" if note else ""


def _number(mean: float, std: float) -> str:
    if mean != mean:
        return "–"
    return f"{mean:.2f}" if std != std else f"{mean:.2f} ± {std:.2f}"
