"""Commands that compute: prepare, train, evaluate, examples, lemma, doctor; restore and export."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from reproduce.cell import EXAMPLE, parse_cell
from reproduce.cli.app import CellArgument, app, command, console
from reproduce.config.attacks import AutoAttack
from reproduce.config.load import override
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.spec import find_attack
from reproduce.registry import DATASETS, EXTRA, dataset_facts

MinutesOption = Annotated[
    float | None, typer.Option(help="Stop within this time; the same command continues.")
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(help="Checkpoint of a cell: best-test, last or best-val."),
]


@command()
def prepare(
    settings: Config,
    dataset: Annotated[str, typer.Argument(help=f"{', '.join([*DATASETS, *EXTRA])}.")],
) -> None:
    """Read a data set and write the form that all runs use.

    Example: reproduce prepare cifar10 --set data.cifar10=/data/cifar-10-batches-py
    """
    from reproduce.data.sources import prepare as prepare_dataset

    path = paths.prepared_file(settings, dataset)
    prepare_dataset(settings.data, dataset, path)
    print(f"{dataset}: prepared, {path}")


@command(device=True)
def train(settings: Config, cell: CellArgument, max_minutes: MinutesOption = None) -> None:
    """Train one cell, or continue it where it was stopped.

    Exit status 75: stopped by --max-minutes, Ctrl-C or SIGTERM before it was finished.

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
    attack: Annotated[str, typer.Option(help="Attack of the configuration.")] = "pgd20",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random start.")] = 0,
    checkpoint: CheckpointOption = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint file, in place of a cell.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Network of --weights, such as wrn-34-10.")
    ] = None,
    zoo: Annotated[
        str | None, typer.Option(help="Id in RobustBench's l_inf zoo, in place of a cell.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="PACKAGE.MODULE:ATTRIBUTE, in place of a cell.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help=f"Without a cell: {', '.join(DATASETS)}.")
    ] = None,
    # of Snakemake's jobs: a published checkpoint that is missing is no error
    optional: Annotated[bool, typer.Option("--optional", hidden=True)] = False,
    images: Annotated[
        int | None, typer.Option(help="Number of test images, classes in proportion.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Run only the two APGD attacks of AutoAttack.")
    ] = False,
    max_minutes: MinutesOption = None,
    processes: Annotated[
        int | None, typer.Option(help="Number of processes to spread the work over.")
    ] = None,
) -> None:
    """Attack a network and write what happened to every image.

    The same command continues what was stopped. Exit status 75: time was over.

    Example: reproduce evaluate digits/wrn-10-0.5/at/lam-1/seed-0 --preset demo
    """
    from reproduce.evaluation.evaluate import evaluate_cell, evaluate_model, evaluate_published
    from reproduce.models.load import ModelSource
    from reproduce.zoo.checkpoints import ZooCheckpoint

    chosen = find_attack(settings, attack)
    problems = {
        "which network? Give a cell id, or --weights FILE --architecture NAME, or --zoo ID, or "
        "--model PACKAGE.MODULE:ATTRIBUTE": [cell, weights, zoo, model].count(None) != 3,
        "--weights needs --architecture": weights is not None and architecture is None,
        "--architecture belongs to --weights": weights is None and architecture is not None,
        f"--dataset is missing; known: {', '.join(DATASETS)}": cell is None and dataset is None,
        "--dataset belongs to a network that is no cell": cell is not None and dataset is not None,
        "--checkpoint picks one of a cell's": cell is None and checkpoint is not None,
        "--optional belongs to --zoo": optional and zoo is None,
        f"--preview is for AutoAttack; {attack!r} is another attack": preview
        and not isinstance(chosen, AutoAttack),
    }
    for problem, is_so in problems.items():
        if is_so:
            raise HarnessError(problem)
    given = {
        "eval.checkpoint": checkpoint,
        "machine.max_minutes": max_minutes,
        "machine.processes": processes,
        f"eval.attacks.{attack}.images": images,
        f"eval.attacks.{attack}.version": "preview" if preview else None,
    }
    settings = override(settings, {key: v for key, v in given.items() if v is not None})
    if cell is not None:
        evaluate_cell(settings, parse_cell(cell), attack, seed, settings.eval.checkpoint)
        return
    name = dataset_facts(str(dataset)).name
    if zoo is None:
        evaluate_model(settings, ModelSource(name, architecture, weights, model), attack, seed)
    else:
        published = ZooCheckpoint(zoo, name, paths.zoo_folder(settings.data))
        evaluate_published(settings, published, attack, seed, optional=optional)


@app.command()
def restore(
    path: Annotated[Path, typer.Argument(help="Its folder under superseded.")],
) -> None:
    """Bring back a run or record that another replaced.

    The two change places.

    Example: reproduce restore results/demo/superseded/cells/digits/wrn-10-0.5/at/lam-1/seed-0/0a1b
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
    checkpoint: CheckpointOption = None,
) -> None:
    """Write a trained checkpoint as RobustBench keeps them.

    RobustBench loads it, and so does `evaluate --zoo NAME --set data.zoo=FOLDER`.

    Example: reproduce export cifar10/wrn-34-10/trades/lam-6/seed-0 --name Wu2020Do --out zoo
    """
    from reproduce.share.export import export_cell

    if checkpoint is not None:
        settings = override(settings, {"eval.checkpoint": checkpoint})
    export_cell(settings, parse_cell(cell), settings.eval.checkpoint, name, out)


@command(device=True)
def examples(settings: Config) -> None:
    """Keep a few adversarial images of a narrow and a wide network.

    Those of the first table of several widths, which must be trained and attacked.

    Example: reproduce examples --preset demo
    """
    from reproduce.examples.make import make_examples

    make_examples(settings)


@command()
def lemma(settings: Config) -> None:
    """Examine the bound of Lemma 4.2 on random networks.

    Example: reproduce lemma --preset demo
    """
    from reproduce.lemma.results import QUANTITIES, WAYS
    from reproduce.lemma.search import examine

    found = examine(settings)
    table = Table("input", "largest norm found", "exponent in m", "exponent in H", "bound")
    table.add_column("tight in m")
    table.add_column("tight in H")
    for (way, name), fit in found.fits.items():
        title, covered = QUANTITIES[name]
        title = title if covered else f"{title} (outside the condition)"
        verdicts = (fit.bound, fit.width.tightness, fit.depth.tightness)
        table.add_row(WAYS[way], title, str(fit.width), str(fit.depth), *verdicts)
    console().print(table)
    for way, shown in WAYS.items():
        fit = found.fits[way, "near"]
        growth, low, high = fit.growth
        print(
            f"{shown}, {QUANTITIES['near'].title}: {fit}. Largest norm / sqrt(m H) "
            f"{fit.largest_ratio:.3g}; it changes by a factor of {growth:.2f} ({low:.2f} to "
            f"{high:.2f}) from the narrowest to the widest network."
        )
    left_out = int((~found.rows["fitted"]).sum())
    print(
        f"{len(found.rows)} networks in {found.about['seconds']:.0f} s; intervals are 95 %. "
        f"{left_out} narrower than {settings.lemma.wide_enough:g} H (1 + log H) are not fitted."
    )
    print(f"Written: {paths.lemma_file(settings)}")


@command(device=True)
def doctor(
    settings: Config,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check whether this machine can run the configuration.

    Versions, device, precision, a training step, an attack, data and disk.  Status 1: an error.

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
