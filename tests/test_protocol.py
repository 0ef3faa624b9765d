"""Where a configuration leaves the paper's protocol: what counts for which numbers."""

from typing import Any

import pytest

from reproduce.config.fields import flatten
from reproduce.config.load import load_config, override
from reproduce.experiments.grids import table_names
from reproduce.registry import METHODS
from reproduce.results.protocol import deviations, table_deviations

# another value of what is no number
OTHERS = {
    "schedule": ("exp", "cosine"),
    "rates": ([[0, 0.1], [15, 0]],),
    "milestones": ([0.3],),
    "bn_forwards": (2, 3),
    "bn_first": ("clean", "adversarial"),
    "precision": ("float64", "bf16"),
    "loss": ("cross_entropy", "margin"),
    "cw_mask": ("proper", "zero"),
    "version": ("standard", "preview"),
    "epsilon": (0.01,),
    "targets": (3,),
}


def _other(key: str, value: Any) -> Any:
    choices = OTHERS.get(key.rsplit(".", 1)[-1], ())
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 or 0.5


def test_the_paper_preset_is_the_papers_protocol() -> None:
    config = load_config("{}", "paper")
    assert deviations(config) == []
    assert [line for name in table_names(config) for line in table_deviations(config, name)] == []


@pytest.mark.parametrize("method", METHODS)
def test_every_training_setting_that_is_changed_is_listed(method: str) -> None:
    paper = load_config("{}", "paper")
    epochs = paper.train_of(method).epochs
    phases = [{"epochs": epochs, "batch_size": 2, "crop": 8}]
    for key, value in flatten(paper.read_by(method)).items():
        if key == "epochs" and paper.train_of(method).phases:
            continue  # they must have as many
        changed = phases if key == "phases" else _other(key, value)
        # all methods share it
        place = "train" if key == "holdout" else f"train_for.{method}"
        config = override(paper, {f"{place}.{key}": changed})
        found = [line.partition(" is ")[0] for line in deviations(config, [], [method])]
        assert f"{place}.{key}" in found


def test_every_setting_of_the_attacks_that_is_changed_is_listed() -> None:
    paper = load_config("{}", "paper")
    for name, attack in paper.eval.attacks.items():
        # how many images were attacked is told from the records
        read = attack.model_dump(exclude={"kind", "images", *attack.idle})
        for key, value in [("epsilon", None), *flatten(read).items()]:
            full = f"eval.attacks.{name}.{key}"
            found = deviations(override(paper, {full: _other(key, value)}), [name], [])
            assert [line.partition(" is ")[0] for line in found] == [full]


@pytest.mark.parametrize(
    ("preset", "sets", "expected"),
    [
        ("short", ["train.epochs=100"], ["preset is short"]),
        ("paper", ["train.epochs=99"], ["train.epochs is 99, the paper's is 100"]),
        ("paper", ["eval.epsilon=0.031"], ["eval.epsilon is 0.031, the paper's is 0.03137"]),
        # of PyTorch's default, TF32, the paper's card made float32
        ("paper", ["train.precision=tf32"], []),
        # the paper does not say; a place
        ("paper", ["eval.shard=128", "data.folder=/x"], []),
    ],
)
def test_of_trades(preset: str, sets: list[str], expected: list[str]) -> None:
    assert deviations(load_config("{}", preset, sets), methods=["trades"]) == expected


METHOD_SETTINGS = ["train_for.awp-trades.epochs=100", "awp.gamma=0.01", "war.zeta=25"]


@pytest.mark.parametrize(
    ("sets", "attacks", "methods", "expected"),
    [
        (METHOD_SETTINGS, None, ["trades", "war"], ["war.zeta"]),
        (METHOD_SETTINGS, None, ["awp-trades"], ["awp.gamma", "train_for.awp-trades.epochs"]),
        # AWP has a weight decay of its own
        (["train.weight_decay=1e-3"], None, ["awp-trades"], []),
        # adversarial training does not read it
        (["train.bn_forwards=3"], None, ["at"], []),
        # the schedule has no milestones
        (["train.milestones=[0.2]"], None, ["at"], []),
        (["eval.attacks.fab.steps=50"], ["fab"], None, ["eval.attacks.fab.steps"]),
        (["eval.attacks.fab.steps=50"], ["square"], None, []),
        # networks that were trained elsewhere have no training settings
        (["train.epochs=3"], ["autoattack"], [], []),
    ],
)
def test_of_some_attacks_and_methods(
    sets: list[str], attacks: list[str] | None, methods: list[str] | None, expected: list[str]
) -> None:
    found = deviations(load_config("{}", None, sets), attacks, methods)
    assert [line.partition(" is ")[0] for line in found] == expected


def test_the_crop_of_imagenet_concerns_imagenet() -> None:
    config = load_config("{}", None, ["data.imagenet_crop=100"])
    assert deviations(config, methods=["trades"], datasets=["cifar10"]) == []
    assert len(deviations(config, methods=["trades"], datasets=["imagenet"])) == 1


TRAINED = "{cifar10/wrn-34-10/war/lam-0/seed-0: last, cifar10/wrn-28-10/rst/lam-6/seed-0: last}"
OTHER_SEARCH = ["experiments.table3.untuned=9", "experiments.table3.lambdas=[6]"]


@pytest.mark.parametrize(
    ("sets", "table", "row", "expected"),
    [
        (["experiments.table6.checkpoint=last"], "table6", None, ["checkpoint last"]),
        # these rows name their checkpoint
        (["eval.checkpoint=last"], "table4", None, []),
        ([f"experiments.table4.trained={TRAINED}"], "table4", "rst", []),
        ([f"experiments.table4.trained={TRAINED}"], "table4", "war", ["checkpoint last"]),
        (OTHER_SEARCH, "table3", "war", []),
        (OTHER_SEARCH, "table3", "untuned", ["untuned is 9, the paper's is 6"]),
        (OTHER_SEARCH, "table3", "manual", ["lambdas is [6.0]"]),
    ],
)
def test_what_a_table_shows(
    sets: list[str], table: str, row: str | None, expected: list[str]
) -> None:
    found = table_deviations(load_config("{}", None, sets), table, row)
    assert len(found) == len(expected)
    assert all(text in line for text, line in zip(expected, found, strict=True))
