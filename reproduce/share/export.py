"""A trained checkpoint in RobustBench's layout: its weights, and the card its leaderboard reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import AutoAttack, Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_atomically, write_json
from reproduce.evaluation.evaluate import require_checkpoint
from reproduce.evaluation.records import Record, read_record
from reproduce.experiments import paths
from reproduce.experiments.runs import RunInfo
from reproduce.experiments.spec import evaluation_spec
from reproduce.models.load import ModelSource
from reproduce.registry import Architecture, dataset_facts, parse_architecture
from reproduce.zoo.checkpoints import ZooCheckpoint, is_published, wide_resnet

# the paper that these runs reproduce
_PAPER = {
    "link": "https://arxiv.org/abs/2010.01279",
    "name": "Do Wider Neural Networks Really Help Adversarial Robustness?",
    "authors": "Boxi Wu, Jinghui Chen, Deng Cai, Xiaofei He, Quanquan Gu",
    "venue": "NeurIPS 2021",
}
# two formulations of one network differ by the order of their sums
_TOLERANCE = 1e-4


def export_cell(
    config: Config,
    cell: Cell,
    checkpoint: Checkpoint,
    name: str,
    folder: Path,
    say: Callable[[str], None] = print,
) -> ZooCheckpoint:
    """Write a checkpoint of a cell as RobustBench keeps its models, and check that it loads.

    The weights are a plain state dict for RobustBench's own WideResNet class, in
    ``<data set>/Linf/<name>.pt`` under `folder`, a zoo.  The card in ``model_info/...`` has the
    fields of RobustBench's, null where nothing is known, and then the cell and the
    checkpoint.  Exporting these once more replaces both files.

    Raises
    ------
    HarnessError
        If RobustBench has no class for the network or is not installed, the name is one
        of RobustBench's or of something else in the folder, or the cell is not trained
        with these settings.
    """
    shape = _exportable(cell)
    target = ZooCheckpoint(name, cell.dataset, folder)
    _check_free(target, cell, checkpoint)
    run = require_checkpoint(config, cell, checkpoint)
    weights = paths.model_file(paths.cell_folder(config, cell), checkpoint)
    model = ModelSource(cell.dataset, cell.architecture, weights).load()
    facts = dataset_facts(cell.dataset)
    theirs = wide_resnet(shape.depth, int(shape.width), facts.classes)
    theirs.load_state_dict(model.state_dict())
    _check_same(model, theirs.eval(), name)
    card = _card(config, cell, checkpoint, run, shape)
    # the card first: if the weights cannot be written it says whose they are to be
    write_json(target.card, card)
    write_atomically(target.path, lambda part: torch.save(model.state_dict(), part))
    say(f"Written: {target.path}")
    say(f"Written: {target.card}")
    unknown = [key for key, value in card.items() if value is None]
    if unknown:
        say(
            f"Not known, null in the card: {', '.join(unknown)}; accuracies come from records of "
            f"all {facts.test} test images (`reproduce evaluate {cell} --checkpoint {checkpoint} "
            "--attack autoattack`)"
        )
    return target


def _exportable(cell: Cell) -> Architecture:
    """Return the shape of a cell's network, if its weights fit a class of RobustBench's."""
    shape, facts = parse_architecture(cell.architecture), dataset_facts(cell.dataset)
    if (facts.size, facts.channels) != (32, 3):
        problem = (
            "this harness exports WideResNets of CIFAR-10 and CIFAR-100, for images of "
            f"32 x 32 x 3; {facts.title} has {facts.size} x {facts.size} x {facts.channels}"
        )
    elif shape.family != "wrn":
        problem = (
            f"RobustBench has no {shape.title} class; attack its weights with `reproduce evaluate "
            "--weights` instead"
        )
    elif shape.width != int(shape.width):
        problem = f"RobustBench's WideResNet takes whole widths, not {shape.width:g}"
    else:
        return shape
    raise HarnessError(f"{cell} cannot be exported: {problem}")


def _check_free(target: ZooCheckpoint, cell: Cell, checkpoint: Checkpoint) -> None:
    """Refuse a name under which these weights would be taken for others, or replace them."""
    if is_published(target.name):
        raise HarnessError(
            f"name {target.name!r} is a published model's in RobustBench; choose one of your own, "
            "such as Wu2020Do"
        )
    card = read_json(target.card) if target.card.is_file() else {}
    held = (card.get("cell"), card.get("checkpoint"))
    for path in (target.path, target.card):
        if path.exists() and held != (cell.id, checkpoint):
            whose = "of unknown origin" if None in held else f"of {held[0]}, checkpoint {held[1]}"
            raise HarnessError(
                f"{path} exists and is {whose}, not of {cell.id}, checkpoint {checkpoint}: "
                "choose another name, or remove it"
            )


def _check_same(ours: nn.Module, theirs: nn.Module, name: str) -> None:
    """Compare the two networks' logits on a few images."""
    images = torch.linspace(0, 1, 4 * 3 * 32 * 32).reshape(4, 3, 32, 32)
    with torch.no_grad():
        apart = float((ours.eval()(images) - theirs(images)).abs().max())
    if not apart < _TOLERANCE:
        raise HarnessError(
            f"{name}: RobustBench's network gives logits that differ by {apart:.2g}; nothing was "
            "written"
        )


def _card(
    config: Config, cell: Cell, checkpoint: Checkpoint, run: RunInfo, shape: Architecture
) -> dict[str, Any]:
    """Fill the fields of RobustBench's model_info, numbers as text, and say whose weights."""
    records = _full_records(config, cell, checkpoint, run)
    attack, epsilon = config.eval.attacks.get("autoattack"), config.eval.epsilon
    standard = False
    if attack is not None:
        # at any radius: the card names it
        epsilon = config.eval.epsilon_of("autoattack")
        standard = attack.model_copy(update={"epsilon": None}) == AutoAttack(kind="autoattack")
    autoattack = records.get("autoattack") if standard else None
    robust = None if autoattack is None else f"{autoattack.metrics.robust_accuracy:.2f}"
    clean = {f"{record.metrics.natural_accuracy:.2f}" for record in records.values()}
    return {
        **_PAPER,
        "additional_data": run.data.extra is not None,
        "number_forward_passes": 1,
        "dataset": cell.dataset,
        "architecture": f"WideResNet-{shape.depth}-{shape.width:g}",
        "eps": _epsilon(epsilon),
        "clean_acc": min(clean, default=None),
        "reported": robust,
        "autoattack_acc": robust,
        "unreliable": None if autoattack is None else bool(autoattack.info["warnings"]),
        "footnote": (
            f"A reproduction, not the authors' weights: {cell.id}, checkpoint {checkpoint}."
        ),
        "cell": cell.id,
        "checkpoint": checkpoint,
    }


def _full_records(
    config: Config, cell: Cell, checkpoint: Checkpoint, run: RunInfo
) -> dict[str, Record]:
    """Return by attack the first record of these weights that covers every test image."""
    folder, found = paths.cell_folder(config, cell), {}
    for attack in config.eval.attacks:
        path = paths.record_file(folder, checkpoint, config.eval.label(attack), 0)
        if not path.is_file():
            continue
        record = read_record(path)
        digest = evaluation_spec(config, cell, attack, 0, checkpoint).digest
        asked = (digest, run.models[checkpoint], dataset_facts(cell.dataset).test)
        if asked == (record.info["digest"], record.info["model_sha256"], len(record.index)):
            found[attack] = record
    return found


def _epsilon(epsilon: float) -> str:
    """Write a radius as the leaderboard does: in 255ths where it is a whole number of them."""
    levels = round(255 * epsilon)
    return f"{levels}/255" if levels / 255 == epsilon else f"{epsilon:g}"
