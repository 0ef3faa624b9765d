"""The command that looks whether this machine can run the configuration."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from reproduce.cli.app import ConfigOption, DeviceOption, PresetOption, SetOption
from reproduce.cli.app import configure as _configure


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON, for machines.")
    ] = False,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Check versions, device, precision, a training step, an attack, data and disk.

    Every line is ok, a warning or an error with what to do.  The status is 1 if a run should not
    be started.

    Example: reproduce doctor --preset paper
    """
    settings = _configure(config, preset, sets, device)
    from reproduce.doctor import examine

    found = []
    for finding in examine(settings):
        found.append(finding)
        if not as_json:
            print(f"{finding.verdict:<8} {finding.name:<10} {finding.text}", flush=True)
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    if any(finding.verdict == "error" for finding in found):
        raise typer.Exit(1)
