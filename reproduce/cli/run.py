"""Commands that compute: prepare, train, evaluate; restore and export."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from reproduce.cell import EXAMPLE, parse_cell
from reproduce.cli.app import (
    CellArgument,
    app,
    command,
    console,
)
from reproduce.config.load import override
from reproduce.config.schema import AutoAttack, Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.paths import prepared_file, zoo_folder
from reproduce.experiments.spec import find_attack
from reproduce.registry import DATASETS, dataset_facts, parse_architecture

if TYPE_CHECKING:
    from reproduce.config.schema import Lemma
    from reproduce.lemma.results import Examination
    from reproduce.models.load import ModelSource

MinutesOption = Annotated[
    float | None,
    typer.Option(help="Stop cleanly after this many minutes; the same command continues."),
]
# of evaluate: what is attacked in place of a cell
WeightsOption = Annotated[
    Path | None,
    typer.Option(help="Instead of a cell: a checkpoint file; needs --architecture, --dataset."),
]
ArchitectureOption = Annotated[
    str | None, typer.Option(help="Network of --weights, such as wrn-34-10.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Instead of a cell: package.module:attribute, a torch.nn.Module or what makes "
        "one; it must take pixels in [0, 1]. Needs --dataset."
    ),
]
ZooOption = Annotated[
    str | None,
    typer.Option(
        help="Instead of a cell: a checkpoint of RobustBench's l_inf zoo by its id, such as "
        "Carmon2019Unlabeled, from the folder data.zoo. Needs --dataset."
    ),
]
OptionalOption = Annotated[
    bool,
    typer.Option(
        "--optional",
        help="With --zoo: end well where the checkpoint cannot be had; tables say why.",
    ),
]


@command()
def prepare(
    settings: Config,
    dataset: Annotated[
        str, typer.Argument(help="digits, cifar10, cifar100, cifar10-extra or imagenet.")
    ],
) -> None:
    """Read a data set from its source and write the prepared form that all runs use.

    Example: reproduce prepare cifar10 --set data.cifar10=/data/cifar-10-batches-py
    """
    from reproduce.data.sources import prepare as prepare_dataset

    path = prepared_file(settings, dataset)
    prepare_dataset(settings.data, dataset, path)
    print(f"{dataset}: prepared, {path}")


@command(device=True)
def train(
    settings: Config,
    cell: CellArgument,
    max_minutes: MinutesOption = None,
) -> None:
    """Train one cell, or continue it where it was stopped.

    Ends with status 75 if it was stopped before it was finished.

    Example: reproduce train cifar10/wrn-34-1/trades/lam-6/seed-0 --max-minutes 110
    """
    from reproduce.training.train import train_cell

    if max_minutes is not None:
        settings = override(settings, {"machine.max_minutes": max_minutes})
    train_cell(settings, parse_cell(cell))


@command(device=True)
def evaluate(
    settings: Config,
    cell: Annotated[
        str | None, typer.Argument(metavar="CELL", help=f"Cell id, such as {EXAMPLE}.")
    ] = None,
    attack: Annotated[str, typer.Option(help="Name of an attack of the configuration.")] = "pgd20",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the attack's random start.")] = 0,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Of a cell: best-test, last or best-val; else the configuration's."),
    ] = None,
    weights: WeightsOption = None,
    architecture: ArchitectureOption = None,
    model: ModelOption = None,
    zoo: ZooOption = None,
    dataset: Annotated[
        str | None, typer.Option(help="digits, cifar10, cifar100 or imagenet.")
    ] = None,
    optional: OptionalOption = False,
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
) -> None:
    """Attack a network and write what happened to every image.

    The network is a trained cell's, a checkpoint file's, a published one of
    RobustBench's zoo or one that Python code makes.  Stopped at any time, the same
    command continues.  Ends with status 75 if --max-minutes were over first.

    Example: reproduce evaluate cifar10/wrn-34-1/trades/lam-6/seed-0 --attack autoattack
    """
    from reproduce.evaluation.evaluate import evaluate_cell, evaluate_model, evaluate_published

    _check_attack(settings, attack, preview)
    given = {
        "eval.checkpoint": checkpoint,
        "machine.max_minutes": max_minutes,
        "machine.processes": processes,
        f"eval.attacks.{attack}.images": images,
        f"eval.attacks.{attack}.version": "preview" if preview else None,
    }
    settings = override(settings, {key: v for key, v in given.items() if v is not None})
    if cell is not None:
        if weights or architecture or model or zoo or dataset:
            raise HarnessError("give a cell, or --weights, or --zoo, or --model, not several")
        evaluate_cell(settings, parse_cell(cell), attack, seed, settings.eval.checkpoint)
        return
    if checkpoint is not None:
        raise HarnessError("--checkpoint picks one of a cell's; a file is given by --weights")
    source = _source(settings, weights, architecture, model, zoo, dataset)
    if optional and source.zoo is None:
        raise HarnessError("--optional belongs to --zoo")
    if source.zoo is not None:
        evaluate_published(settings, source.zoo, attack, seed, optional=optional)
        return
    evaluate_model(settings, source, attack, seed)


@app.command()
def restore(
    path: Annotated[Path, typer.Argument(help="Its folder under superseded.")],
) -> None:
    """Bring back a finished run or record that another replaced; the two change places.

    Example: reproduce restore results/demo/superseded/cells/digits/wrn-10-1/at/lam-1/seed-0/0a1b2c
    """
    from reproduce.experiments.superseded import how_to_restore
    from reproduce.experiments.superseded import restore as bring_back

    place, aside = bring_back(path)
    print(f"Restored: {place}")
    if aside is not None:
        print(f"What was there lies in {aside}; {how_to_restore(aside)} swaps them")


@command()
def export(
    settings: Config,
    cell: CellArgument,
    name: Annotated[str, typer.Option(help="Id of the model, such as Wu2020Do.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; it becomes a zoo.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="best-test, last or best-val; else the configuration's.")
    ] = None,
) -> None:
    """Write a trained checkpoint and its model card as RobustBench keeps them.

    RobustBench's own network class loads the weights, and so does `reproduce evaluate
    --zoo NAME` with data.zoo set to the folder.

    Example: reproduce export cifar10/wrn-34-10/trades/lam-6/seed-0 --name Wu2020Do --out zoo
    """
    from reproduce.share.export import export_cell

    if checkpoint is not None:
        settings = override(settings, {"eval.checkpoint": checkpoint})
    export_cell(settings, parse_cell(cell), settings.eval.checkpoint, name, out)


def _check_attack(config: Config, attack: str, preview: bool) -> None:
    """Check that there is the attack, and that it has a preview where one is asked for."""
    if not isinstance(find_attack(config, attack), AutoAttack) and preview:
        raise HarnessError(f"--preview is for AutoAttack; {attack!r} is another attack")


def _source(
    config: Config,
    weights: Path | None,
    architecture: str | None,
    model: str | None,
    zoo: str | None,
    dataset: str | None,
) -> "ModelSource":
    """Check which network the options of `evaluate` name."""
    from reproduce.models.load import ModelSource
    from reproduce.zoo.checkpoints import ZooCheckpoint

    if [weights, model, zoo].count(None) != 2:
        raise HarnessError(
            "which network? Give a cell id, or --weights FILE --architecture NAME --dataset NAME, "
            "or --zoo ID --dataset NAME, or --model package.module:attribute --dataset NAME"
        )
    if dataset is None:
        raise HarnessError(f"--dataset is missing; known: {', '.join(DATASETS)}")
    if weights is not None and architecture is None:
        raise HarnessError("--weights needs --architecture, such as wrn-34-10")
    if weights is None and architecture is not None:
        raise HarnessError(
            "--architecture belongs to --weights; others say themselves what they are"
        )
    if architecture is not None:
        parse_architecture(architecture)
    name = dataset_facts(dataset).name
    published = None if zoo is None else ZooCheckpoint(zoo, name, zoo_folder(config.data))
    return ModelSource(name, architecture, weights, model, published)


@command(device=True)
def examples(
    settings: Config,
) -> None:
    """Keep the adversarial images of a few test images, of a narrow and of a wide network.

    They are the narrowest and the widest network of the first table of several widths, trained
    and attacked already; what is there is not made again.

    Example: reproduce examples --preset demo
    """
    from reproduce.examples.make import make_examples

    make_examples(settings)


@command()
def lemma(
    settings: Config,
) -> None:
    """Examine the bound of Lemma 4.2 on random networks; a minute on a CPU.

    Example: reproduce lemma --preset demo
    """
    from reproduce.lemma.search import examine

    found = examine(settings)
    console().print(_table(found))
    for line in _conclusions(settings.lemma, found):
        print(line)
    print(f"Written: {paths.lemma_file(settings)}")


def _table(found: "Examination") -> Table:
    from reproduce.lemma.results import QUANTITIES, WAYS

    table = Table("input", "largest norm found", "exponent in m", "exponent in H", "bound")
    table.add_column("tight in m")
    table.add_column("tight in H")
    for (way, name), fit in found.fits.items():
        quantity = QUANTITIES[name]
        title = quantity.title + ("" if quantity.covered else " (outside the condition)")
        words = (fit.bound, fit.width.tightness, fit.depth.tightness)
        table.add_row(WAYS[way], title, str(fit.width), str(fit.depth), *words)
    return table


def _conclusions(lemma: "Lemma", found: "Examination") -> list[str]:
    from reproduce.lemma.results import QUANTITIES, WAYS, in_words

    lines = []
    for (way, name), fit in found.fits.items():
        if name == "near":
            growth, low, high = fit.growth
            lines.append(
                f"{WAYS[way]}, {QUANTITIES[name].title}: {in_words(fit)}. Largest norm / sqrt(m H) "
                f"{fit.largest_ratio:.3g}; from m = {min(lemma.widths)} to {max(lemma.widths)} "
                f"it changes by a factor of {growth:.2f} ({low:.2f} to {high:.2f})."
            )
    left_out = int((~found.rows["fitted"]).sum())
    lines.append(
        f"{len(found.rows)} networks in {found.about['seconds']:.0f} s; intervals are 95 %. "
        f"{left_out} narrower than {lemma.wide_enough:g} H (1 + log H) are not fitted."
    )
    return lines


@command(device=True)
def doctor(
    settings: Config,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON, for machines.")
    ] = False,
) -> None:
    """Check versions, device, precision, a training step, an attack, data and disk.

    Every line is ok, a warning or an error with what to do.  The status is 1 if a run should not
    be started.

    Example: reproduce doctor --preset paper
    """
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
