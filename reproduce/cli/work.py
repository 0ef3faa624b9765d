"""Commands that compute: prepare, train, evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reproduce.catalogue import DATASETS, dataset_facts, parse_architecture
from reproduce.cells import EXAMPLE, parse_cell
from reproduce.cli.app import CellArgument, ConfigOption, DeviceOption, PresetOption, SetOption
from reproduce.cli.app import configure as _configure
from reproduce.config import AutoAttack
from reproduce.errors import HarnessError
from reproduce.paths import prepared_file
from reproduce.settings import override
from reproduce.specs import attack_spec

if TYPE_CHECKING:  # PyTorch takes seconds to import, help texts must not
    from reproduce.models import ModelSource

MinutesOption = Annotated[
    float | None,
    typer.Option(help="Stop cleanly after this many minutes; the same command continues."),
]


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
    max_minutes: MinutesOption = None,
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
    cell: Annotated[
        str | None, typer.Argument(metavar="[CELL]", help=f"Cell id, such as {EXAMPLE}.")
    ] = None,
    attack: Annotated[str, typer.Option(help="Name of an attack of the configuration.")] = "pgd20",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the attack's random start.")] = 0,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Of a cell: best-test, last or best-val; else the configuration's."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Instead of a cell: a checkpoint file; needs --architecture, --dataset."),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Network of --weights, such as wrn-34-10.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Instead of a cell: package.module:attribute, a torch.nn.Module or what makes "
            "one; it must take pixels in [0, 1]. Needs --dataset."
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="digits, cifar10 or cifar100.")] = None,
    images: Annotated[
        int | None, typer.Option(help="Attack only this many test images, classes in proportion.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Of AutoAttack the two APGD attacks only.")
    ] = False,
    max_minutes: MinutesOption = None,
    processes: Annotated[
        int | None, typer.Option(help="Spread the shards over this many processes.")
    ] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Attack a network and write what happened to every image.

    The network is a trained cell's, a checkpoint file's or one that Python code
    makes.  Stopped at any time, the same command continues.  Ends with status 75 if
    --max-minutes were over first.

    Example: reproduce evaluate cifar10/wrn-34-1/trades/lam-6/seed-0 --attack autoattack
    """
    from reproduce.evaluation.run import evaluate_cell, evaluate_model

    settings = _configure(config, preset, sets, device)
    chosen = attack_spec(settings, attack, seed).attack
    if preview and not isinstance(chosen, AutoAttack):
        raise HarnessError(f"--preview is for AutoAttack; {attack!r} is another attack")
    given = {
        "eval.checkpoint": checkpoint,
        "machine.max_minutes": max_minutes,
        "machine.processes": processes,
        f"eval.attacks.{attack}.images": images,
        f"eval.attacks.{attack}.version": "preview" if preview else None,
    }
    settings = override(settings, {key: v for key, v in given.items() if v is not None})
    if cell is not None:
        if weights or architecture or model or dataset:
            raise HarnessError("give a cell, or --weights, or --model, not several")
        evaluate_cell(settings, parse_cell(cell), attack, seed, settings.eval.checkpoint)
        return
    if checkpoint is not None:
        raise HarnessError("--checkpoint picks one of a cell's; a file is given by --weights")
    evaluate_model(settings, _source(weights, architecture, model, dataset), attack, seed)


def _source(
    weights: Path | None, architecture: str | None, model: str | None, dataset: str | None
) -> "ModelSource":
    """Check which network the options of `evaluate` name."""
    from reproduce.models import ModelSource

    if (weights is None) == (model is None):
        raise HarnessError(
            "which network? Give a cell id, or --weights FILE --architecture NAME --dataset NAME, "
            "or --model package.module:attribute --dataset NAME"
        )
    if dataset is None:
        raise HarnessError(f"--dataset is missing; known: {', '.join(DATASETS)}")
    if weights is not None and architecture is None:
        raise HarnessError("--weights needs --architecture, such as wrn-34-10")
    if model is not None and architecture is not None:
        raise HarnessError("--architecture belongs to --weights; --model says itself what it is")
    if architecture is not None:
        parse_architecture(architecture)
    return ModelSource(dataset_facts(dataset).name, architecture, weights, model)
