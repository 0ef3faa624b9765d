"""Commands that look: plan, status."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from reproduce.cell import Cell
from reproduce.cli.app import (
    ExperimentArgument,
    ExperimentsArgument,
    chosen_experiments,
    command,
    console,
)
from reproduce.cli.watch import EVERY, check_every, counted
from reproduce.cli.watch import watch as watch_live
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.cost import load_speeds
from reproduce.experiments.grids import find_experiment, find_table
from reproduce.experiments.runs import load_run
from reproduce.experiments.superseded import count_superseded, found_superseded
from reproduce.results.status import Plan, status_frame
from reproduce.results.status import plan as make_plan


@command(device=True)
def plan(
    settings: Config,
    experiments: ExperimentsArgument = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="First time a training step of every network here.")
    ] = False,
) -> None:
    """Count the cells and evaluations of experiments and estimate hours and disk.

    Example: reproduce plan table1 --preset paper
    """
    names = chosen_experiments(settings, experiments)
    if measure:
        _measure(settings, names)
    table = Table("experiment", "cells", "trained", "evaluations", "done", "hours", "left", "disk")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for entry in make_plan(settings, names):
        table.add_row(*_plan_row(entry))
    console().print(table)
    for cell in dict.fromkeys(c for n in names for c in find_experiment(settings, n).cells):
        run = load_run(settings, cell)
        line = None if run.finished else found_superseded(settings, run.spec)
        if line is not None:
            print(line)
    print(f"Preset {settings.preset}; device hours by the speed of {_speed(settings)}.")


def _plan_row(entry: Plan) -> list[str]:
    counts = (entry.cells, entry.trained, entry.evaluations, entry.evaluated)
    hours = (f"{entry.hours:,.2f}", f"{entry.hours_left:,.2f}")
    return [entry.name, *map(str, counts), *hours, f"{entry.size / 1e9:,.2f} GB"]


def _speed(config: Config) -> str:
    stated = load_speeds(config).stated
    if "measured" in stated:
        return stated
    doubt = ", which says little about a processor" if config.machine.device == "cpu" else ""
    return f"{stated}{doubt}; `--measure` takes this machine's"


def _measure(config: Config, names: list[str]) -> None:
    from reproduce.compute.device import acquire_device, describe
    from reproduce.core.files import write_json
    from reproduce.experiments.spec import training_spec
    from reproduce.training.train import seconds_per_pass

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
        bool, typer.Option("--watch", help="Look again and again, until all is done or Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None, typer.Option(help="With --watch: seconds between two looks; 5 if not given.")
    ] = None,
) -> None:
    """List the cells of experiments and how far each is; or watch a running campaign.

    Example: reproduce status table1 --preset demo

    Example: reproduce status --watch --every 30
    """
    names = chosen_experiments(settings, experiments)
    if watch:
        watch_live(settings, names, check_every(EVERY if every is None else every))
        return
    if every is not None:
        raise HarnessError("--every belongs to --watch")
    frame = status_frame(settings, names)
    trained, evaluations = (frame[frame["kind"] == kind] for kind in ("run", "evaluation"))
    texts = dict(zip(trained["model"], trained["text"], strict=True))
    asked = Counter(evaluations["model"])
    done = Counter(evaluations.loc[evaluations["state"] == "done", "model"])
    table = Table("cell", "training", "evaluations")
    for model in dict.fromkeys(frame["model"]):
        table.add_row(model, texts.get(model, "published"), f"{done[model]}/{asked[model]}")
    console().print(table)
    aside = count_superseded(settings)
    if any(aside):
        where = paths.superseded_folder(paths.root(settings))
        runs, records = counted(aside.runs, "run"), counted(aside.records, "record")
        print(f"{runs} and {records} that others replaced lie in {where}: `reproduce restore`.")


@command()
def table(
    settings: Config,
    experiment: ExperimentArgument,
) -> None:
    """Write a table from whatever records exist, in CSV, Markdown and LaTeX.

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
def diff(
    settings: Config,
    experiment: ExperimentArgument,
) -> None:
    """Put a regenerated table beside the paper's, number by number.

    Example: reproduce diff table1 --preset paper
    """
    from reproduce.results.frames import collect
    from reproduce.tables.diff import build_diff, diff_caveats, diff_notes, write_diff

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


@command()
def figure(
    settings: Config,
    name: Annotated[
        str, typer.Argument(metavar="FIGURE", help="Name of a figure, such as figure3.")
    ],
) -> None:
    """Draw a figure from whatever runs are finished: SVG, PNG and the numbers as CSV.

    Example: reproduce figure figure3 --preset demo
    """
    from reproduce.figures import draw

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


@command("results")
def write_results(
    settings: Config,
) -> None:
    """Write every number there is as one tidy table, results.parquet.

    Example: reproduce results --preset demo
    """
    from reproduce.results.frames import write_results as write

    tidy = write(settings)
    for line in tidy.left_out:
        print(f"Left out: {line}")
    print(f"{len(tidy.frame)} rows from {tidy.records} records")
    print(f"Written: {paths.results_file(settings)}")


@command()
def tensorboard(
    settings: Config,
    experiments: ExperimentsArgument = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; tensorboard under the results if none.")
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="Iterations between two points; at most 2,000 a run if none."),
    ] = None,
) -> None:
    """Write the traces of runs as TensorBoard event files, a folder a cell.

    Example: reproduce tensorboard table1 --preset demo
    """
    from reproduce.tables.tensorboard import write_events

    folder = paths.tensorboard_folder(settings) if out is None else out
    names = chosen_experiments(settings, experiments)
    outcome = write_events(settings, names, folder, every)
    for line in outcome.problems:
        print(f"Left out: {line}")
    print(
        f"{outcome.finished} finished and {outcome.unfinished} unfinished runs; "
        f"{outcome.absent} have no trace yet"
    )
    if outcome.finished or outcome.unfinished:
        print(f"Written: {folder}; look at it with: tensorboard --logdir {folder}")


# lines about what is missing; an empty campaign has hundreds
_SHOWN_claims = 10
_COLOURS = {"holds": "green", "fails": "red", "too little data": "yellow"}


@command()
def claims(
    settings: Config,
) -> None:
    """Test the paper's claims on whatever results exist: holds, fails, or too little data.

    Example: reproduce claims --preset demo
    """
    from reproduce.claims.statements import context, judge_claims, write_claims

    judged_on = context(settings)
    found = judge_claims(settings)
    write_claims(settings, found)
    print(f"Preset {judged_on['preset']}; data: {', '.join(judged_on['datasets'])}.")
    if judged_on["deviations"]:
        print(f"Not the paper's protocol: {'; '.join(judged_on['deviations'])}.")
    table = Table("claim", "verdict", "what was found", show_lines=True)
    for column in table.columns[:2]:
        column.no_wrap = True
    for claim in found:
        colour = _COLOURS[claim.verdict]
        heard = f"{claim.statement} [{claim.source}]"
        table.add_row(
            claim.name, f"[{colour}]{claim.verdict}[/]", f"{escape(heard)}\n{escape(claim.summary)}"
        )
    console().print(table)
    missing = list(dict.fromkeys(line for claim in found for line in claim.missing))
    for line in missing[:_SHOWN_claims]:
        print(f"Missing: {line}")
    if len(missing) > _SHOWN_claims:
        print(f"Missing: {len(missing) - _SHOWN_claims} more, listed in the file.")
    print(f"Written: {paths.claims_file(settings)}")


@command()
def report(
    settings: Config,
) -> None:
    """Write report.html, one file with every table, figure and claim from whatever results exist.

    Example: reproduce report --preset demo
    """
    from reproduce.report.build import write_report

    print(f"Written: {write_report(settings)}")
