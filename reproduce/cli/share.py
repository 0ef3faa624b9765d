"""Commands for results that go from one to another: publish, import, verify."""

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from reproduce.cell import parse_cell
from reproduce.cli.app import command
from reproduce.config.fields import PRESETS
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.share import hub


def _preset_of(folder: Path | str | None) -> dict[str, str]:
    """Return the preset that a folder, here or on the hub, is named after, if it is."""
    if isinstance(folder, str) and folder.startswith(hub.SCHEME):
        name = hub.parse_address(folder).path.name
    else:
        name = "" if folder is None else Path(folder).absolute().name
    return {"preset": name} if name in PRESETS else {}


def _settings_of(folder: Path | None) -> dict[str, str]:
    """Return the settings of a folder of results; published ones bring theirs."""
    own = None if folder is None else folder / "config.yaml"
    return _preset_of(folder) | ({"config": str(own)} if own and own.is_file() else {})


@command()
def publish(
    settings: Config,
    folder: Annotated[
        Path, typer.Argument(help="Such as results/reference/h200; the preset is added.")
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="CELL", help="This run's best-test weights too. Repeatable."),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, max=1000, help="Keep one of this many rows of a trace.")
    ] = 10,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="hf://OWNER/NAME[/PATH]", help="Upload to a data set of huggingface.co as well."
        ),
    ] = None,
) -> None:
    """Write finished runs where others can import them.

    Records, traces, tables and figures; weights only of the runs named.

    Example: reproduce publish results/reference/h200 --preset paper
    """
    from reproduce.share.publish import publish as write

    if folder.parts[:1] == ("hf:",):
        raise HarnessError(f"give a folder here, and after --to where on {hub.SCHEME} it goes")
    address = None if to is None else hub.parse_address(to)
    about = write(settings, folder, {parse_cell(name) for name in weights or ()}, every, print)
    for line in about.missing.values():
        print(f"Left out: {line}")
    for cell, names in about.lacking.items():
        print(f"{cell}: others have neither record nor weights for {', '.join(names)}")
    print(f"Written: {folder / settings.preset}", flush=True)
    if address is not None:
        print(f"Uploaded: {hub.upload(folder / settings.preset, address)}")


@command("import", defaults=_preset_of)
def import_published(
    settings: Config,
    folder: Annotated[
        str,
        typer.Argument(
            help="Published results, such as results/reference/cpu/mini, or "
            "hf://OWNER/NAME[/PATH][@REVISION], a data set of huggingface.co."
        ),
    ],
    cells: Annotated[
        list[str] | None,
        typer.Argument(metavar="CELL", help="Runs to import. None: all of the folder."),
    ] = None,
) -> None:
    """Copy runs that somebody published into your own results.

    A run must have the settings of the configuration.  A finished run of other settings is moved
    aside, one with the same settings stays.  Status 1: a run that was named is refused, or all.

    Example: reproduce import results/reference/cpu/mini
    """
    from reproduce.share.imports import import_runs

    chosen, source = [parse_cell(name) for name in cells or ()], Path(folder)
    if folder.startswith(hub.SCHEME):
        source, address = hub.download(hub.parse_address(folder), settings.preset, chosen)
        print(f"Downloaded: {address}", flush=True)
    outcomes: Counter[str] = Counter()
    for run in import_runs(settings, source, chosen):
        outcomes[run.outcome] += 1
        print(f"{run.cell}: {run.outcome}, {run.reason}")
    counts = ", ".join(f"{outcomes[o]} {o}" for o in ("imported", "kept", "refused"))
    print(f"{counts}, in {paths.root(settings)}")
    refused = outcomes["refused"]
    sys.exit(refused > 0 if cells else refused == outcomes.total())


@command(device=True, defaults=_settings_of)
def verify(
    settings: Config,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Results of a preset. None: the configuration's."),
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Evaluations to repeat.")] = 3,
    images: Annotated[
        int, typer.Option(min=1, help="Images of each; a shard of FAB, Square, APGD.")
    ] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice.")] = 0,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Time for all repeats together.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Check every result in a folder; repeat some attacks.

    Status 0: all is ok; 1: something is not; 3: something could not be checked.

    Example: reproduce verify results/demo --sample 5
    """
    from reproduce.share.verify import VERDICTS, Sample, exit_status, summary, verify_folder

    place = paths.root(settings) if folder is None else folder
    chosen = Sample(sample, images, max_minutes, seed)
    found = []
    for finding in verify_folder(settings, place, chosen, partial(print, file=sys.stderr)):
        found.append(finding)
        if not as_json:
            print(finding, flush=True)
    status = exit_status(found)
    if as_json:
        verdicts = Counter(finding.verdict for finding in found)
        answer = {
            "verdict": summary(found),
            "status": status,
            "preset": settings.preset,
            "seed": seed,
            "counts": {verdict: verdicts[verdict] for verdict in VERDICTS},
            "findings": [finding._asdict() for finding in found],
        }
        print(json.dumps(answer, indent=2))
    else:
        print(f"{summary(found)} (preset {settings.preset}, --seed {seed})")
    sys.exit(status)
