"""The command that measures this machine."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from reproduce.cli.app import ConfigOption, DeviceOption, PresetOption, SetOption, console
from reproduce.cli.app import configure as _configure
from reproduce.cli.bench_words import sentences, tables
from reproduce.core.errors import HarnessError
from reproduce.registry import dataset_facts, parse_architecture

if TYPE_CHECKING:
    from reproduce.benchmarks.autoattack import AutoAttackOf

_Value = TypeVar("_Value")
_DEFAULT_IMAGES = 64


def bench(
    methods: Annotated[
        str | None, typer.Option(help="Whose steps, by commas: trades, awp-trades, at, mart.")
    ] = None,
    architectures: Annotated[
        str | None, typer.Option(help="Networks, by commas, such as wrn-34-1,wrn-34-10.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 128,
    pairs: Annotated[
        int | None, typer.Option(help="How often each step is timed beside its reference.")
    ] = None,
    precisions: Annotated[
        str | None, typer.Option(help="By commas: float32, tf32 (a GPU's), bf16.")
    ] = None,
    forms: Annotated[
        str | None,
        typer.Option(help="By commas: eager, compiled, graph (a GPU's), compiled-graph."),
    ] = None,
    cells: Annotated[
        str | None, typer.Option(help="How many cells at once on the device, such as 1,2,4.")
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Also a step over widths 0.5 to 10, batch 32 to 512.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time for all of it; 5 on a CPU and 10 on a GPU if not given."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Also AutoAttack on this checkpoint, beside the plain package."),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Network of --weights, such as wrn-34-10.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set of --weights.")] = None,
    images: Annotated[
        int | None, typer.Option(help=f"Test images for --weights; {_DEFAULT_IMAGES} if not given.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, for machines.")
    ] = False,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Measure this machine: peaks, steps beside reference formulations, attacks, hours.

    What does not fit into --minutes is named as not measured; Ctrl-C ends the measuring
    and shows what there is.  Where nothing is given, a CPU measures trades, at and
    awp-trades on wrn-34-1 in float32, not compiled; a GPU more networks, precisions and
    forms.

    Example: reproduce bench --preset paper --device cpu --architectures wrn-34-1 --minutes 3
    """
    from reproduce.benchmarks.settings import resolve

    config_ = _configure(config, preset, sets, device)
    settings = resolve(
        config_.machine.device,
        {
            "methods": _split(methods),
            "architectures": _split(architectures),
            "batch": batch,
            "pairs": pairs,
            "precisions": _split(precisions),
            "forms": _split(forms),
            "cells": _split(cells, _count),
            "scaling": scaling,
            "minutes": minutes,
        },
    )
    attacked = _attacked(weights, architecture, dataset, images)
    from reproduce.benchmarks.run import measure

    # standard output is the result's alone
    with redirect_stdout(sys.stderr):
        found = measure(config_, settings, attacked, partial(print, flush=True))
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    for table in tables(found):
        console().print(table)
    for line in sentences(found):
        print(line)


def _split(text: str | None, read: Callable[[str], _Value] = str) -> tuple[_Value, ...] | None:  # type: ignore[assignment]
    """Read a list written with commas; each value once."""
    if text is None:
        return None
    return tuple(dict.fromkeys(read(part.strip()) for part in text.split(",") if part.strip()))


def _count(text: str) -> int:
    if not text.isdecimal():
        raise HarnessError(f"--cells: {text!r} is no whole number, write 1,2,4 for example")
    return int(text)


def _attacked(
    weights: Path | None, architecture: str | None, dataset: str | None, images: int | None
) -> "AutoAttackOf | None":
    """Check what the options say of the checkpoint that AutoAttack is run on."""
    others = {"--architecture": architecture, "--dataset": dataset, "--images": images}
    if weights is None:
        for name, value in others.items():
            if value is not None:
                raise HarnessError(f"{name} belongs to --weights; networks are --architectures")
        return None
    if architecture is None or dataset is None:
        raise HarnessError("--weights needs --architecture and --dataset")
    facts = dataset_facts(dataset)
    facts.check_architecture(parse_architecture(architecture))
    if not weights.is_file():
        raise HarnessError(f"checkpoint {weights} does not exist")
    count = _DEFAULT_IMAGES if images is None else images
    if not 1 <= count <= facts.test:
        raise HarnessError(f"--images is {count}, {facts.title} has 1 to {facts.test}")
    from reproduce.benchmarks.autoattack import AutoAttackOf

    return AutoAttackOf(weights, architecture, dataset, count)
