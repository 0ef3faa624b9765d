"""A trained checkpoint in RobustBench's layout: its weights, and the card its leaderboard reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from reproduce.cell import Cell
from reproduce.config.attacks import AutoAttack
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_atomically, write_json
from reproduce.evaluation.evaluate import require_checkpoint
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation
from reproduce.experiments.runs import RunInfo
from reproduce.models.load import ModelSource
from reproduce.registry import dataset_facts, parse_architecture
from reproduce.results.reader import find_record
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
    """Write a checkpoint of a cell, and its card, as RobustBench keeps its models in a folder.

    The weights are a plain state dict for RobustBench's own WideResNet class; the card has null
    where nothing is known.  Exporting these once more replaces both files.
    """
    shape, facts = parse_architecture(cell.architecture), dataset_facts(cell.dataset)
    if shape.family != "wrn" or shape.width % 1 or (facts.size, facts.channels) != (32, 3):
        raise HarnessError(
            f"{cell} cannot be exported: RobustBench's class is for WideResNets of whole widths "
            "and images of 32 x 32 x 3, as those of CIFAR-10 and CIFAR-100 are"
        )
    target = ZooCheckpoint(name, cell.dataset, folder)
    _check_free(target, cell, checkpoint)
    run = require_checkpoint(config, cell, checkpoint)
    weights = paths.model_file(paths.cell_folder(config, cell), checkpoint)
    model = ModelSource(cell.dataset, cell.architecture, weights).load().eval()
    theirs = wide_resnet(shape.depth, int(shape.width), facts.classes)
    theirs.load_state_dict(model.state_dict())
    images = torch.linspace(0, 1, 4 * 3 * 32 * 32).reshape(4, 3, 32, 32)
    with torch.no_grad():
        difference = float((model(images) - theirs.eval()(images)).abs().max())
    if not difference < _TOLERANCE:
        raise HarnessError(f"{name}: RobustBench's network gives other logits, by {difference:.2g}")
    card = _card(config, cell, checkpoint, run)
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


def _check_free(target: ZooCheckpoint, cell: Cell, checkpoint: Checkpoint) -> None:
    """Refuse a name under which these weights would be taken for others, or replace them."""
    if is_published(target.name):
        raise HarnessError(
            f"name {target.name!r} is a published model's in RobustBench; choose one of your own, "
            "such as Wu2020Do"
        )
    card = read_json(target.card) if target.card.is_file() else {}
    whose = card.get("cell", "unknown origin"), card.get("checkpoint")
    if whose != (cell.id, checkpoint) and (target.path.exists() or target.card.exists()):
        raise HarnessError(
            f"{target.path} exists and is of {whose[0]}, checkpoint {whose[1]}, not of {cell.id}, "
            f"checkpoint {checkpoint}: choose another name, or remove it and its card"
        )


def _card(config: Config, cell: Cell, checkpoint: Checkpoint, run: RunInfo) -> dict[str, Any]:
    """Fill the fields of RobustBench's model_info, numbers as text, and say whose weights."""
    shape = parse_architecture(cell.architecture)
    found = {
        attack: find_record(config, Evaluation(cell, checkpoint, attack, 0)).record
        for attack in config.eval.attacks
    }
    every = dataset_facts(cell.dataset).test
    records = {name: one for name, one in found.items() if one and len(one.index) == every}
    clean = {f"{record.metrics.natural_accuracy:.2f}" for record in records.values()}
    epsilon, robust, unreliable = config.eval.epsilon, None, None
    attack = config.eval.attacks.get("autoattack")
    if attack is not None:
        # standard AutoAttack at any radius: the card names it
        epsilon = config.eval.epsilon_of("autoattack")
        standard = attack.model_copy(update={"epsilon": None}) == AutoAttack(kind="autoattack")
        if standard and (record := records.get("autoattack")):
            robust = f"{record.metrics.robust_accuracy:.2f}"
            unreliable = bool(record.info["warnings"])
    # as the leaderboard does, in 255ths where it is a whole number of them
    levels = round(255 * epsilon)
    return {
        **_PAPER,
        "additional_data": run.data.extra is not None,
        "number_forward_passes": 1,
        "dataset": cell.dataset,
        "architecture": f"WideResNet-{shape.depth}-{shape.width:g}",
        "eps": f"{levels}/255" if levels / 255 == epsilon else f"{epsilon:g}",
        "clean_acc": min(clean, default=None),
        "reported": robust,
        "autoattack_acc": robust,
        "unreliable": unreliable,
        "footnote": (
            f"A reproduction, not the authors' weights: {cell.id}, checkpoint {checkpoint}."
        ),
        "cell": cell.id,
        "checkpoint": checkpoint,
    }
