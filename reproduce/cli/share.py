"""Commands for results that go from one to another: publish, import."""

import json
import secrets
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from reproduce.cell import parse_cell
from reproduce.cli.app import ConfigOption, DeviceOption, PresetOption, SetOption, app
from reproduce.cli.app import configure as _configure
from reproduce.config.fields import PRESETS
from reproduce.core.errors import one_line
from reproduce.experiments import paths


@app.command()
def publish(
    folder: Annotated[
        Path, typer.Argument(help="Where to, such as results/reference/h200; the preset is added.")
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="CELL", help="Also this run's best-test checkpoint; repeatable."),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            min=1, max=1000, help="Keep one of so many rows of a trace, and its last epoch."
        ),
    ] = 10,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write finished runs where others can import them: records, traces, tables, no weights.

    Example: reproduce publish results/reference/h200 --preset paper
    """
    from reproduce.share.publish import publish as write

    settings = _configure(config, preset, sets)
    chosen = {parse_cell(name) for name in weights or ()}
    about = write(settings, folder, chosen, every, print)
    for line in about.missing.values():
        print(f"Left out: {line}")
    for cell, names in about.lacking.items():
        print(f"{cell}: others have neither record nor weights for {', '.join(names)}")
    print(f"Written: {folder / settings.preset}")


@app.command("import")
def import_published(
    folder: Annotated[
        Path, typer.Argument(help="Published results, such as results/reference/cpu/mini.")
    ],
    cells: Annotated[
        list[str] | None, typer.Argument(metavar="CELL", help="Runs; all of the folder if none.")
    ] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Copy runs that somebody published, and their records, into one's own results.

    A run must have the settings of the configuration.  A finished run of other settings in its
    place is moved aside, one with the same settings stays.  Ends with status 1 if a run that was
    named is refused, or all are.

    Example: reproduce import results/reference/cpu/mini
    """
    from reproduce.share.imports import import_runs

    if preset is None and folder.absolute().name in PRESETS:
        preset = folder.absolute().name
    settings = _configure(config, preset, sets)
    outcomes = []
    for run in import_runs(settings, folder, [parse_cell(name) for name in cells or ()]):
        outcomes.append(run.outcome)
        print(one_line(f"{run.cell}: {run.outcome}, {run.reason}"))
    counts = ", ".join(f"{outcomes.count(o)} {o}" for o in ("imported", "kept", "refused"))
    print(f"{counts}, in {paths.root(settings)}")
    sys.exit("refused" in outcomes if cells else outcomes.count("refused") == len(outcomes))


@app.command()
def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Results folder of a preset; the configuration's own if none."),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="How many evaluations are done again; 0 for none.")
    ] = 3,
    images: Annotated[
        int, typer.Option(min=1, help="Images of each; of FAB, Square and APGD a whole shard.")
    ] = 64,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the sample; a random number if none.")
    ] = None,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Do nothing again that would take longer, all together.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Say of every result in a folder, also one from somebody else, whether it stands.

    Nothing in the folder is executed or changed.  Ends with status 0 if all stands, 1 if
    something does not, 3 if something could not be checked and all else stands.

    Example: reproduce verify results/demo --sample 5
    """
    from reproduce.share.verification_again import Sample
    from reproduce.share.verification_verify import verify_folder

    if folder is not None and preset is None and folder.absolute().name in PRESETS:
        preset = folder.absolute().name
    settings = _configure(config, preset, sets, device)
    place = paths.root(settings) if folder is None else folder
    # whoever made the folder cannot know what will be looked at
    seed = secrets.randbelow(10**9) if seed is None else seed
    # asked to end, as by a scheduler, it takes its copy of the folder away
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    tell = _keep_quiet if as_json else partial(print, flush=True)
    found = verify_folder(settings, place, Sample(sample, images, max_minutes, seed), _say, tell)
    if as_json:
        told = {
            "verdict": found.summary,
            "status": found.exit_status,
            "preset": settings.preset,
            "seed": seed,
            "counts": found.counts,
            "findings": [asdict(finding) for finding in found.findings],
        }
        print(json.dumps(told, indent=2))
    else:
        print(f"{found.summary} (preset {settings.preset}, --seed {seed})")
    sys.exit(found.exit_status)


def _keep_quiet(_: object) -> None:
    """Tell nothing: JSON comes whole."""


def _say(line: str) -> None:
    print(line, file=sys.stderr)
