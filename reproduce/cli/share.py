"""Commands for results that go from one to another: publish, import."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from reproduce.cell import parse_cell
from reproduce.cli.app import ConfigOption, DeviceOption, PresetOption, SetOption, app
from reproduce.cli.app import configure as _configure
from reproduce.config.fields import PRESETS
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

    settings = _configure(config, preset or _preset_of(folder), sets)
    outcomes = []
    for run in import_runs(settings, folder, [parse_cell(name) for name in cells or ()]):
        outcomes.append(run.outcome)
        print(f"{run.cell}: {run.outcome}, {run.reason}")
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
        int, typer.Option(min=0, help="How many evaluations are repeated; 0 for none.")
    ] = 3,
    images: Annotated[
        int, typer.Option(min=1, help="Images of each; of FAB, Square and APGD a whole shard.")
    ] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Draws the sample.")] = 0,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Repeat nothing that would take longer, all together.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Check every result in a folder: checksums, tables made again, some attacks repeated.

    Nothing in the folder is changed.  Ends with status 0 if all is ok, 1 if something is not, 3 if
    something could not be checked and all else is ok.

    Example: reproduce verify results/demo --sample 5
    """
    from reproduce.share.verify import (
        VERDICTS,
        Finding,
        Sample,
        exit_status,
        summary,
        verify_folder,
    )

    if folder is not None and (folder / "config.yaml").is_file() and not (config or preset or sets):
        config = str(folder / "config.yaml")  # published results bring their settings
        print(f"Settings: {config}", file=sys.stderr)
    settings = _configure(config, preset or _preset_of(folder), sets, device)
    place = paths.root(settings) if folder is None else folder
    found: list[Finding] = []
    for finding in verify_folder(
        settings, place, Sample(sample, images, max_minutes, seed), partial(print, file=sys.stderr)
    ):
        found.append(finding)
        if not as_json:
            print(finding, flush=True)
    status = exit_status(found)
    if as_json:
        verdicts = [finding.verdict for finding in found]
        told = {
            "verdict": summary(found),
            "status": status,
            "preset": settings.preset,
            "seed": seed,
            "counts": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
            "findings": [finding._asdict() for finding in found],
        }
        print(json.dumps(told, indent=2))
    else:
        print(f"{summary(found)} (preset {settings.preset}, --seed {seed})")
    sys.exit(status)


def _preset_of(folder: Path | None) -> str | None:
    """Return the preset that a folder is named after, if it is."""
    name = None if folder is None else folder.absolute().name
    return name if name in PRESETS else None
