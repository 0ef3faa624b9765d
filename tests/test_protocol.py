"""Where a configuration leaves the paper's protocol: what counts for which numbers."""

from collections.abc import Iterator
from typing import Any

import pytest

from reproduce.config.load import build_config, load_config, override
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


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


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
    for key, value in _leaves(paper.read_by(method)):
        if key == "epochs" and paper.train_of(method).phases:
            continue  # they must have as many
        changed = phases if key == "phases" else _other(key, value)
        # all methods share it
        place = "train" if key == "holdout" else f"train_for.{method}"
        config = override(paper, {f"{place}.{key}": changed})
        found = [line.partition(" is ")[0] for line in deviations(config, [], [method])]
        assert f"{place}.{key}" in found


def test_float32_is_no_deviation() -> None:
    """Nor is PyTorch's default, TF32, of which the paper's card made float32."""
    paper = load_config("{}", "paper")
    for precision in ("float32", "tf32"):
        config = override(paper, {"train.precision": precision})
        assert deviations(config, [], ["trades"]) == []
    (line,) = deviations(override(paper, {"train.precision": "bf16"}), [], ["trades"])
    assert line == "train.precision is bf16, the paper's is float32"


def test_every_setting_of_the_attacks_that_is_changed_is_listed() -> None:
    paper = load_config("{}", "paper")
    for name, attack in paper.eval.attacks.items():
        # how many images were attacked is told from the records
        read = attack.model_dump(exclude={"kind", "images", *attack.idle})
        for key, value in [("epsilon", None), *_leaves(read)]:
            full = f"eval.attacks.{name}.{key}"
            found = deviations(override(paper, {full: _other(key, value)}), [name], [])
            assert [line.partition(" is ")[0] for line in found] == [full]
    assert deviations(override(paper, {"eval.epsilon": 0.031})) == [
        "eval.epsilon is 0.031, the paper's is 0.03137"
    ]


def test_to_measure_fewer_epochs_is_a_deviation() -> None:
    config = load_config("{}", "paper", ["train.validation.start=0.74"])
    assert deviations(config, methods=["trades"]) == [
        "train.validation.start is 0.74, the paper's is 0"
    ]


@pytest.mark.parametrize("preset", ["short", "mini", "demo"])
def test_other_presets_deviate(preset: str) -> None:
    assert deviations(build_config({"preset": preset}))


def test_another_preset_is_a_deviation_whatever_its_values() -> None:
    config = load_config("{}", "short", ["train.epochs=100"])
    assert deviations(config, methods=["trades"]) == ["preset is short"]


def test_settings_of_a_method_are_deviations_of_its_numbers() -> None:
    sets = ["train_for.awp-trades.epochs=100", "awp.gamma=0.01", "war.zeta=25"]
    config = load_config("{}", None, sets)
    assert deviations(config, methods=["trades", "at"]) == []
    assert deviations(config, methods=["trades", "war"]) == [
        "war.zeta is 25, the paper's is measured"
    ]
    assert deviations(config, methods=["awp-trades"]) == [
        "awp.gamma is 0.01, the paper's is 0.005",
        "train_for.awp-trades.epochs is 100, the paper's is 200",
    ]
    assert deviations(config) == deviations(config, methods=["war", "awp-trades"])
    assert len(deviations(config)) == 3


def test_a_deviation_of_a_method_is_that_of_the_settings_it_resolves_to() -> None:
    config = load_config("{}", None, ["train.weight_decay=1e-3", "train.bn_forwards=3"])
    # AWP has a weight decay of its own, adversarial training does not read bn_forwards
    assert deviations(config, methods=["awp-trades"]) == []
    assert deviations(config, methods=["at"]) == [
        "train.weight_decay is 0.001, the paper's is 0.0002"
    ]


def test_an_attack_that_tables_do_not_use_is_no_deviation() -> None:
    assert deviations(load_config("{}", None, ["eval.attacks.pgd50={kind: pgd, steps: 50}"])) == []


def test_what_the_paper_does_not_say_is_no_deviation() -> None:
    sets = ["eval.shard=128", "eval.autoattack_package=autoattack"]
    assert deviations(load_config("{}", None, sets)) == []


def test_settings_of_an_attack_are_deviations_of_its_numbers() -> None:
    config = load_config("{}", None, ["eval.attacks.fab.steps=50", "eval.attacks.square.images=9"])
    assert deviations(config, ["square"]) == []
    assert deviations(config, ["fab"]) == ["eval.attacks.fab.steps is 50, the paper's is 100"]
    assert deviations(config) == deviations(config, ["fab"])


def test_an_override_of_the_paper_preset_is_a_deviation() -> None:
    assert deviations(load_config("{}", None, ["train.epochs=99"])) == [
        "train.epochs is 99, the paper's is 100"
    ]


def test_places_and_machine_are_no_deviation() -> None:
    sets = ["machine.device=cpu", "data.folder=/x", "data.cifar10=/y.npz", "results=/z"]
    assert deviations(load_config("{}", None, sets)) == []


def test_a_setting_that_another_makes_idle_is_no_deviation() -> None:
    config = load_config("{}", None, ["train.milestones=[0.2]", "train.attack.start_sigma=0.1"])
    # the schedule has no milestones, Fast-AT no Gaussian start
    assert deviations(config, methods=["fast-at"]) == []
    assert deviations(config, methods=["at"]) == [
        "train.attack.start_sigma is 0.1, the paper's is 0.001"
    ]
    stepped = load_config("{}", None, ["train.schedule=step", "train.milestones=[0.5]"])
    assert deviations(stepped, methods=["at"]) == [
        "train.milestones is [0.5], the paper's is [0.75, 0.9]",
        "train.schedule is step, the paper's is exp",
    ]


def test_another_checkpoint_than_the_papers_is_a_deviation_of_the_rows_that_show_it() -> None:
    config = load_config("{}", None, ["experiments.table6.checkpoint=last"])
    assert table_deviations(config, "table6") == [
        "table6 shows checkpoint last, the paper best-test"
    ]
    assert table_deviations(config, "table1") == []
    last = load_config("{}", None, ["eval.checkpoint=last"])
    assert table_deviations(last, "table1") == ["table1 shows checkpoint last, the paper best-test"]
    # these rows name their checkpoint
    assert table_deviations(last, "table4") == []


def test_a_checkpoint_of_one_row_is_a_deviation_of_its_method_alone() -> None:
    trained = "{cifar10/wrn-34-10/war/lam-0/seed-0: last, cifar10/wrn-28-10/rst/lam-6/seed-0: last}"
    config = load_config("{}", None, [f"experiments.table4.trained={trained}"])
    assert table_deviations(config, "table4", "rst") == []
    assert len(table_deviations(config, "table4", "war")) == 1


def test_other_seeds_and_fewer_cells_are_no_deviation() -> None:
    sets = ["experiments.table1.seeds=[7]", "experiments.table1.methods={trades: [6]}"]
    assert table_deviations(load_config("{}", None, sets), "table1") == []


def test_another_search_is_a_deviation_of_the_strategy_it_belongs_to() -> None:
    sets = ["experiments.table3.untuned=9", "experiments.table3.lambdas=[6]"]
    config = load_config("{}", None, sets)
    assert table_deviations(config, "table3", "war") == []
    assert table_deviations(config, "table3", "untuned") == [
        "experiments.table3.untuned is 9, the paper's is 6"
    ]
    assert len(table_deviations(config, "table3", "manual")) == 1


def test_networks_trained_elsewhere_have_no_training_settings() -> None:
    config = load_config("{}", None, ["eval.attacks.pgd20.steps=10", "train.epochs=3"])
    assert deviations(config, ["autoattack"], methods=[]) == []
    assert len(deviations(config, ["autoattack"], methods=["trades"])) == 1


def test_the_crop_of_imagenet_concerns_imagenet() -> None:
    config = load_config("{}", None, ["data.imagenet_crop=100"])
    assert deviations(config, methods=["trades"], datasets=["cifar10"]) == []
    assert len(deviations(config, methods=["trades"], datasets=["imagenet"])) == 1
