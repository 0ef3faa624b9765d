"""Commands that compute: prepare, train, evaluate."""

from typing import Annotated

import typer

from reproduce.cells import parse_cell
from reproduce.cli.app import CellArgument, ConfigOption, DeviceOption, PresetOption, SetOption
from reproduce.cli.app import configure as _configure
from reproduce.paths import prepared_file


def prepare(
    dataset: Annotated[str, typer.Argument(help="digits, cifar10 or cifar100.")],
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Read a data set from its source and write the prepared form that all runs use.

    Example: reproduce prepare cifar10 --set data.cifar10=/data/cifar-10-batches-py
    """
    from reproduce.data import prepare as prepare_dataset

    settings = _configure(config, preset, sets)
    path = prepared_file(settings, dataset)
    prepare_dataset(settings.data, dataset, path)
    print(f"{dataset}: prepared, {path}")


def train(
    cell: CellArgument,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Stop cleanly after this many minutes; the same command continues."),
    ] = None,
) -> None:
    """Train one cell, or continue it where it was stopped.

    Ends with status 75 if it was stopped before it was finished.

    Example: reproduce train cifar10/wrn-34-1/trades/lam-6/seed-0 --max-minutes 110
    """
    from reproduce.training import train_cell

    overrides = list(sets or [])
    if max_minutes is not None:
        overrides.append(f"machine.max_minutes={max_minutes}")
    settings = _configure(config, preset, overrides, device)
    train_cell(settings, parse_cell(cell))


def evaluate(
    cell: CellArgument,
    attack: Annotated[str, typer.Option(help="Name of an attack of the configuration.")] = "pgd20",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the attack's random start.")] = 0,
    checkpoint: Annotated[
        str | None, typer.Option(help="best-test, last or best-val; else the configuration's.")
    ] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Attack a trained cell's checkpoint and write what happened to every image.

    Example: reproduce evaluate cifar10/wrn-34-1/trades/lam-6/seed-0 --checkpoint last
    """
    from reproduce.evaluation.run import evaluate_cell

    overrides = list(sets or [])
    if checkpoint is not None:
        overrides.append(f"eval.checkpoint={checkpoint}")
    settings = _configure(config, preset, overrides, device)
    evaluate_cell(settings, parse_cell(cell), attack, seed, settings.eval.checkpoint)
