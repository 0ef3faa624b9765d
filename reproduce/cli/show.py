"""Commands that look: plan, status, table, diff, figure, results, tensorboard, claims, report."""

from collections import Counter
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from reproduce.cell import Cell
from reproduce.cli.app import (
    ExperimentArgument,
    ExperimentsArgument,
    command,
    console,
)
from reproduce.config.schema import Config
from reproduce.experiments import paths
from reproduce.experiments.cost import load_speeds
from reproduce.experiments.grids import experiment_names, find_experiment, find_table
from reproduce.experiments.runs import load_run
from reproduce.experiments.spec import training_spec
from reproduce.experiments.superseded import count_superseded, found_superseded
from reproduce.results.status import plan as make_plan
from reproduce.results.status import status_frame

# lines about what is missing; an empty campaign has hundreds
_MISSING_LINES = 10
_COLOURS = {"holds": "green", "fails": "red", "too little data": "yellow"}


@command(device=True)
def plan(
    settings: Config,
    experiments: ExperimentsArgument = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a training step of every network here first.")
    ] = False,
) -> None:
    """Count runs and attacks, and estimate hours and disk.

    Example: reproduce plan table1 --preset paper
    """
    names = experiments or experiment_names(settings)
    if measure:
        _measure(settings, names)
    table = Table("experiment", "cells", "trained", "evaluations", "done", "hours", "left", "disk")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for entry in make_plan(settings, names):
        counts = (entry.cells, entry.trained, entry.evaluations, entry.evaluated)
        hours = (f"{entry.hours:,.2f}", f"{entry.hours_left:,.2f}")
        table.add_row(entry.name, *map(str, counts), *hours, f"{entry.size / 1e9:,.2f} GB")
    console().print(table)
    for cell in dict.fromkeys(c for n in names for c in find_experiment(settings, n).cells):
        run = load_run(settings, cell)
        line = None if run.finished else found_superseded(settings, run.spec)
        if line is not None:
            print(line)
    stated = load_speeds(settings).stated
    hint = "" if "measured" in stated else "; `--measure` takes this machine's"
    print(f"Preset {settings.preset}; device hours by the speed of {stated}{hint}.")


def _measure(config: Config, names: Sequence[str]) -> None:
    from reproduce.compute.device import acquire_device, describe
    from reproduce.core.files import write_json
    from reproduce.training.speed import seconds_per_pass

    cells: dict[str, Cell] = {}
    for cell in (cell for name in names for cell in find_experiment(config, name).cells):
        cells.setdefault(f"{cell.dataset}/{cell.architecture}", cell)
    found = {}
    with acquire_device(config.machine) as device:
        for network, cell in cells.items():
            seconds = seconds_per_pass(config.machine, training_spec(config, cell), device)
            found[network] = seconds
            print(f"{network}: {1e6 * seconds:.1f} microseconds a pass")
        hardware = describe(device)["name"]
    write_json(paths.throughput_file(config), {"hardware": hardware, "seconds_per_pass": found})


@command()
def status(
    settings: Config,
    experiments: ExperimentsArgument = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Repeat until all is done or Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.2, max=86_400, help="Seconds between two looks of --watch.")
    ] = 5.0,
) -> None:
    """Say how far every run and attack is, once or live.

    Example: reproduce status table1 --preset demo

    Example: reproduce status --watch --every 30
    """
    names = experiments or experiment_names(settings)
    if watch:
        from reproduce.cli.watch import watch as watch_live

        watch_live(settings, names, every)
        return
    table = Table("cell", "training", "evaluations")
    for model, rows in status_frame(settings, names).groupby("model", sort=False):
        runs, attacks = (rows[rows["kind"] == kind] for kind in ("run", "evaluation"))
        text = "published" if runs.empty else runs["text"].iloc[0]
        table.add_row(str(model), text, f"{(attacks['state'] == 'done').sum()}/{len(attacks)}")
    console().print(table)
    aside = count_superseded(settings)
    if any(aside):
        where = paths.superseded_folder(paths.root(settings))
        print(
            f"{aside.runs} run(s) and {aside.records} record(s) that others replaced lie in "
            f"{where}: `reproduce restore`."
        )


@command()
def table(settings: Config, experiment: ExperimentArgument) -> None:
    """Write one table from whatever results exist.

    `checkpoints` is the table of all runs at their best-test, last and best-val checkpoints.

    Example: reproduce table table1 --preset demo
    """
    from reproduce.results.frames import collect
    from reproduce.tables.write import write_checkpoints, write_table

    if experiment == "checkpoints":
        print(write_checkpoints(settings))
    else:
        chosen = find_table(settings, experiment)
        print(write_table(settings, chosen, collect(settings, chosen)))
    print(f"Written: {paths.table_file(settings, experiment, 'csv')}, .md and .tex")


@command()
def diff(settings: Config, experiment: ExperimentArgument) -> None:
    """Put a regenerated table beside the paper's, number by number.

    Example: reproduce diff table1 --preset paper
    """
    from reproduce.results.frames import collect
    from reproduce.tables.diff import build_diff, diff_caveats, diff_notes, write_diff

    chosen = find_table(settings, experiment)
    results = collect(settings, chosen)
    frame = build_diff(settings, chosen, results)
    write_diff(settings, chosen, frame)
    heads = ("cell", "method", "λ", "attack", "metric", "paper", "ours", "seeds", "Δ", "verdict")
    shown = Table(*heads)
    for column in shown.columns:
        column.no_wrap = True
    notes = [note for note in frame["note"].unique() if note]
    for row in frame.to_dict("records"):
        note = f" ({notes.index(row['note']) + 1})" if row["note"] else ""
        shown.add_row(
            f"{row['dataset']} {row['architecture']}",
            row["method"],
            _number(row["lambda"], "g"),
            row["attack"],
            row["metric"].removesuffix("_accuracy").removeprefix("perturbation_"),
            _number(row["paper"], ".2f", row["paper_std"]),
            _number(row["ours"], ".2f", row["ours_std"]),
            str(row["seeds"]),
            _number(row["difference"], "+.2f"),
            row["verdict"] + note,
        )
    console().print(shown)
    for number, text in enumerate(notes, 1):
        print(f"({number}) {text}")
    reasons = diff_notes(settings, chosen, results)
    if reasons:
        print(f"Not a reproduction of the paper: {'; '.join(reasons)}.")
    for line in [*diff_caveats(results), *results.problems]:
        print(f"Note: {line}")
    print(f"Written: {paths.diff_file(settings, chosen.name)}")


def _number(value: float, form: str, std: float = float("nan")) -> str:
    if isnan(value):
        return "–"
    return f"{value:{form}}" if isnan(std) else f"{value:{form}} ± {std:{form}}"


@command()
def figure(
    settings: Config,
    name: Annotated[
        str, typer.Argument(metavar="FIGURE", help="Name of a figure, such as figure3.")
    ],
) -> None:
    """Draw a figure from whatever runs are finished: SVG, PNG, CSV.

    Example: reproduce figure figure3 --preset demo
    """
    from reproduce.figures import draw

    for line in draw(settings, name).missing:
        print(f"Missing or unfinished: {line}")
    print(f"Written: {paths.figure_file(settings, name, 'svg')}, .png and .csv")


@command()
def results(settings: Config) -> None:
    """Write every number as one tidy table, results.parquet.

    Example: reproduce results --preset demo
    """
    from reproduce.results.frames import write_results

    tidy = write_results(settings)
    for line in tidy.left_out:
        print(f"Left out: {line}")
    print(f"{len(tidy.frame)} rows from {tidy.records} records")
    print(f"Written: {paths.results_file(settings)}")


@command()
def tensorboard(
    settings: Config,
    experiments: ExperimentsArgument = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: tensorboard in the results.")
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="Iterations between two points; default: at most 2,000."),
    ] = None,
) -> None:
    """Write the traces of runs as TensorBoard event files.

    Example: reproduce tensorboard table1 --preset demo
    """
    from reproduce.tables.tensorboard import write_events

    folder = paths.tensorboard_folder(settings) if out is None else out
    outcome = write_events(settings, experiments or experiment_names(settings), folder, every)
    for line in outcome.problems:
        print(f"Left out: {line}")
    print(
        f"{outcome.finished} finished and {outcome.unfinished} unfinished runs; "
        f"{outcome.absent} have no trace yet"
    )
    if outcome.finished or outcome.unfinished:
        print(f"Written: {folder}; look at it with: tensorboard --logdir {folder}")


@command()
def claims(settings: Config) -> None:
    """Test the paper's claims on whatever results exist.

    Example: reproduce claims --preset demo
    """
    from reproduce.claims.statements import context, judge_claims, write_claims

    judged_on = context(settings)
    found = judge_claims(settings)
    write_claims(settings, found)
    print(f"Preset {judged_on['preset']}; data: {', '.join(judged_on['datasets'])}.")
    if judged_on["deviations"]:
        print(f"Not the paper's protocol: {'; '.join(judged_on['deviations'])}.")
    shown = Table("claim", "verdict", "what was found", show_lines=True)
    for column in shown.columns[:2]:
        column.no_wrap = True
    for claim in found:
        verdict = f"[{_COLOURS[claim.verdict]}]{claim.verdict}[/]"
        text = f"{claim.statement} [{claim.source}]\n{claim.summary}"
        shown.add_row(claim.name, verdict, escape(text))
    console().print(shown)
    missing = list(dict.fromkeys(line for claim in found for line in claim.missing))
    for line in missing[:_MISSING_LINES]:
        print(f"Missing: {line}")
    if len(missing) > _MISSING_LINES:
        print(f"Missing: {len(missing) - _MISSING_LINES} more, listed in the file.")
    print(f"Written: {paths.claims_file(settings)}")
    counts: Counter[str] = Counter(claim.verdict for claim in found)
    print(f"Claims: {', '.join(f'{verdict} {counts[verdict]}' for verdict in _COLOURS)}.")


@command()
def report(settings: Config) -> None:
    """Write report.html: every table, figure and claim on one page.

    Example: reproduce report --preset demo
    """
    from reproduce.report.build import write_report

    print(f"Written: {write_report(settings)}")
