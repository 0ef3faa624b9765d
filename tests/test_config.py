"""Presets, overrides, cell ids, and what is wrong with a configuration."""

import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import PRESETS, flatten
from reproduce.config.load import build_config, kept_values, load_config, override, read_settings
from reproduce.config.schema import Config, Train
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import planned_methods
from reproduce.experiments.spec import (
    EvaluationSpec,
    TrainingSpec,
    evaluation_spec,
    protocol_digest,
    training_spec,
)
from reproduce.registry import METHODS
from reproduce.results.protocol import deviations

TRADES = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
AT = parse_cell("cifar10/wrn-34-1/at/lam-1/seed-0")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset: str) -> None:
    assert build_config({"preset": preset}).preset == preset


def test_paper_preset_is_the_papers_protocol() -> None:
    config = build_config({})
    assert config.preset == "paper"
    train, attack = config.train, config.train.attack
    assert (train.epochs, train.batch_size, train.learning_rate) == (100, 128, 0.1)
    assert (train.momentum, train.weight_decay, train.schedule) == (0.9, 2e-4, "exp")
    assert (attack.epsilon, attack.step_size, attack.steps) == (0.031, 0.007, 10)
    assert (attack.start_sigma, train.bn_forwards, train.holdout) == (0.001, 2, 0)
    assert config.eval.epsilon == 8 / 255
    assert config.eval.checkpoint == "best-test"
    assert config.eval.attacks["pgd20"].steps == 20
    assert config.eval.attacks["pgd20"].step_size == 0.007
    validation = train.validation
    assert (validation.start, validation.epsilon, validation.attack.steps) == (0, 8 / 255, 20)
    assert deviations(config) == []


WRONG = [
    ("nope=1", "unknown key 'nope'"),
    ("train.nope=1", "unknown key 'train.nope'"),
    ("train.epochs=0", "train.epochs"),
    ("train.epochs=true", "train.epochs"),
    ("train.epochs=2.5", "train.epochs"),
    ("train.attack.epsilon=-0.1", "train.attack.epsilon"),
    ("train.attack.epsilon=1.5", "train.attack.epsilon"),
    ("train.attack.epsilon=abc", "not a number"),
    ("train.attack.epsilon=1/0", "not a number"),
    ("train.learning_rate=1e400", "train.learning_rate"),
    ("train.holdout=2000", "leaves none of 2000 training images"),
    ("data.train_images=50001", "has 50000 training and 10000 test"),
    ("train.attack.epsilon=.nan", "train.attack.epsilon"),
    ("train.momentum=1", "train.momentum"),
    ("train.schedule=quadratic", "train.schedule"),
    ("train.schedule=linear", "the linear schedule needs rates"),
    ("train={schedule: linear, rates: [[2, 0.1], [1, 0]]}", "rates must be in the order"),
    ("train.phases=[{epochs: 4, batch_size: 2, crop: 8}]", "phases have 4 epochs together"),
    (
        "train_for.fast-at.phases=[{epochs: 4, batch_size: 2, crop: 8}]",
        "'train_for.fast-at': phases have 4 epochs together, epochs is 5",
    ),
    ("eval.epsilon=-8/255", "eval.epsilon"),
    ("eval.checkpoint=best", "eval.checkpoint"),
    ("eval.attacks.pgd-7={kind: pgd, steps: 7}", "only small letters"),
    ("machine.device=gpu", "machine.device"),
    ("experiments.table1.methods={trades: [-6]}", "methods.trades.0"),
    ("experiments.table1.methods={trades: [0.33333]}", "four decimals"),
    ("experiments.table1.methods={trades: [6, 6]}", "twice"),
    ("experiments.table1.methods={tradez: [6]}", "unknown method"),
    ("experiments.table1.architectures=[wrn-34-0.01]", "0 channels"),
    ("experiments.table1.architectures=[wrn-33-1]", "6n + 4"),
    ("experiments.table1.architectures=[wrn-34-1.0]", "is spelt 'wrn-34-1'"),
    ("experiments.table1.architectures=[resnet-18]", "unknown architecture"),
    ("experiments.table1.architectures=[densenet-bc-40-1.5]", "whole number"),
    ("experiments.table1.architectures=[]", "architectures"),
    ("experiments.table1.dataset=mnist", "unknown data set"),
    ("experiments.table9={}", "table9"),
    ("train", "expected key=value"),
    ("eval.attacks.x={steps: 3}", "'eval.attacks.x': kind is missing"),
    ("eval.attacks.fab.steps=0", "'eval.attacks.fab.steps'"),
    ("eval.attacks.x={kind: deepfool}", "expected tags: 'pgd', 'fab', 'square', 'autoattack'"),
    ("experiments.table2.attacks=[zzz]", "table2: unknown attack 'zzz'"),
    ("experiments.table2.lambdas=[6, 6]", "'experiments.table2.lambdas': it lists a value twice"),
    ("train_for.rst.holdout=1", "train_for.rst.holdout: all methods share train.holdout"),
    ("train_for.rst.nope=1", "unknown key 'train_for.rst.nope'"),
    ("train_for.rst.attack.steps=0", "'train_for.rst.attack.steps'"),
    ("train.epochs=[", "not a YAML value"),
    ("train.epochs=2001-99-99", "not a YAML value"),
    ("train={epochs: 1, epochs: 2}", "is written twice"),
    ("train..epochs=1", "unknown key 'train.'"),
    ("results=$NOT_SET_ANYWHERE/x", "'results': not a path: $NOT_SET_ANYWHERE is not set"),
    ("data.zoo=~nobodyhasthisname/zoo", "there is no such user's home"),
]


def test_best_val_needs_held_out_images() -> None:
    with pytest.raises(HarnessError, match="best-val needs held-out images"):
        load_config("{}", "paper", ["eval.checkpoint=best-val"])


@pytest.mark.parametrize(("override", "message"), WRONG)
def test_bad_settings_name_the_key(override: str, message: str) -> None:
    with pytest.raises(HarnessError) as caught:
        load_config("{}", "mini", [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: papr", "unknown preset 'papr'"),
        ("preset: [paper]", "unknown preset"),
        ("? [a]\n: 1", "not YAML.*unhashable"),
        ("\x00", "not YAML"),
        ("train: 3", "train"),
        ("- a\n- b", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("1: 2", "must be a mapping of names"),
        (
            "train: {epochs: 3}\ntrain: {batch_size: 9}",
            "key 'train' is written twice, again in line 2",
        ),
        ("train.epochs: 3", "unknown key 'train.epochs'.*write mappings: train: {epochs: 3}"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(HarnessError, match=message):
        load_config(path)


def test_a_mapping_may_take_the_keys_of_another(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "preset: demo\n"
        "experiments:\n"
        "  table1: &one {dataset: digits, architectures: [wrn-16-1], seeds: [7]}\n"
        "  table6: {<<: *one, seeds: [8]}\n"
    )
    table = load_config(path).experiments.table6
    assert table is not None
    assert (table.architectures, table.seeds) == (["wrn-16-1"], [8])


def test_files_without_settings(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(HarnessError, match=f"^configuration {path} cannot be read"):
        load_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HarnessError, match=f"^configuration {path} is not YAML"):
        load_config(path)
    path.write_text("# nothing\n")
    assert load_config(path).preset == "paper"
    with pytest.raises(HarnessError, match=r"^configuration given as a mapping is not YAML"):
        load_config('{"preset": "demo", x')


def test_fractions_and_precedence(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("preset: short\ntrain: {epochs: 7}\neval: {epsilon: 4 / 255}\n")
    config = load_config(path, "mini", ["train.batch_size=9"])
    assert config.preset == "mini"
    assert (config.train.epochs, config.train.batch_size) == (7, 9)
    assert config.eval.epsilon == 4 / 255


PLACES = [
    "results",
    *(f"data.{key}" for key in ("folder", "cifar10", "cifar100", "cifar10_extra", "zoo")),
    "data.imagenet",
]


@pytest.mark.parametrize("key", PLACES)
def test_home_and_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("WHERE", "there")
    for text, expected in (("~/${WHERE}/x", "/home/me/there/x"), ("a$/~$WHERE", "a$/~there")):
        tree = load_config("{}", "paper", [f"{key}={text}"]).model_dump(mode="json")
        assert flatten(tree)[key] == expected


def test_a_grids_methods_are_replaced_whole() -> None:
    config = load_config("{}", "paper", ["experiments.table1.methods={at: [1]}"])
    assert config.experiments.table1.methods == {"at": [1.0]}


def test_a_setting_touches_the_cells_that_read_it() -> None:
    before = build_config({})

    def digests(*sets: str) -> tuple[bool, bool]:
        after = load_config("{}", None, sets)
        return tuple(
            training_spec(before, cell).digest != training_spec(after, cell).digest
            for cell in (TRADES, AT)
        )

    assert digests("train.weight_decay=5e-4") == (True, True)
    assert digests("train.bn_forwards=3") == (True, False)
    assert digests("experiments.table1.seeds=[0]", "machine.device=cpu") == (False, False)
    assert digests("eval.attacks.pgd50={kind: pgd, steps: 50}") == (False, False)
    # how results are attacked is nothing to the training, how its checkpoint is chosen is
    assert digests("eval.epsilon=0.031", "eval.attacks.pgd20.steps=7") == (False, False)
    assert digests("train.validation.epsilon=0.031") == (True, True)
    assert digests("train_for.at.validation.attack.steps=7") == (False, True)


@pytest.mark.parametrize("method", METHODS)
def test_a_spec_that_is_written_and_read_has_the_same_digest(method: str) -> None:
    fast = method == "fast-at"
    cell = Cell("imagenet" if fast else "cifar10", "wrn-50-1" if fast else "wrn-34-1", method, 1, 0)
    config = build_config({})
    training = training_spec(config, cell)
    again = TrainingSpec.model_validate(json.loads(json.dumps(training.settings)))
    assert again.digest == training.digest
    for attack in config.eval.attacks:
        spec = evaluation_spec(config, cell, attack, 0, "last")
        read = EvaluationSpec.model_validate(json.loads(json.dumps(spec.settings)))
        assert read.digest == spec.digest


def test_a_digest_is_the_same_everywhere() -> None:
    """Where this one changes results of before count no more: docs/design.md, schema."""
    assert training_spec(build_config({}), TRADES).digest == "42e850bbac1c"


@pytest.fixture
def another_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Give training another default momentum, for the length of a test."""
    models = (Train, Config, TrainingSpec)

    def change() -> None:
        monkeypatch.setattr(Train.model_fields["momentum"], "default", 0.8)
        for model in models:
            model.model_rebuild(force=True)

    yield change
    monkeypatch.undo()
    for model in models:
        model.model_rebuild(force=True)


def test_a_changed_default_is_another_digest(another_default: Callable[[], None]) -> None:
    def digest() -> str:
        config = load_config("{}", "demo")  # it leaves momentum to the default
        return training_spec(config, parse_cell("digits/wrn-10-1/trades/lam-6/seed-0")).digest

    before = digest()
    another_default()
    assert digest() != before


EPOCHS = (
    "train.epochs=3 is not for rst (200), rst-war (200), fast-at (15), awp-trades (200), "
    "which have their own: train_for.METHOD.epochs"
)


@pytest.mark.parametrize(
    ("preset", "sets", "said"),
    [
        ("paper", ["train.epochs=3"], EPOCHS),
        (
            "paper",
            ["train.epochs=3", "train_for.awp-trades.epochs=200", "train_for.fast-at.epochs=15"],
            EPOCHS.replace(", fast-at (15), awp-trades (200)", ""),
        ),
        ("paper", ["train.epochs=3", "train.attack.steps=7"], "train.attack.steps=7 is not for"),
        # no method has its own, all have this value, or none of those planned has another
        ("paper", ["train.momentum=0.8"], None),
        ("mini", ["train.epochs=3", "train.schedule=step"], None),
        ("mini", ["train_for.awp-trades.epochs=9"], None),
    ],
)
def test_what_a_setting_for_all_methods_does_not_reach_is_said(
    preset: str, sets: list[str], said: str | None
) -> None:
    user = read_settings("{}", preset, sets)
    config = build_config(user)
    kept = kept_values(user, config, planned_methods(config))
    assert kept is None if said is None else kept is not None and said in kept


def test_evaluations_and_tables_have_digests_of_their_own() -> None:
    config = build_config({})
    seeds = [evaluation_spec(config, TRADES, "pgd20", seed, "best-test").digest for seed in (0, 1)]
    assert seeds[0] != seeds[1]
    other = load_config("{}", None, ["experiments.table1.seeds=[0]"])
    assert protocol_digest(config, "table1") != protocol_digest(other, "table1")
    moved = load_config("{}", None, ["data.folder=/elsewhere", "machine.threads=2"])
    assert protocol_digest(config, "table1") == protocol_digest(moved, "table1")


def test_evaluation_specs_are_checked() -> None:
    config = build_config({})
    with pytest.raises(HarnessError, match="unknown attack 'cw21'"):
        evaluation_spec(config, TRADES, "cw21", 0, "best-test")
    for sets, message in (
        (["eval.attacks.fab.images=10001"], "CIFAR-10 has 10000 test images"),
        (["eval.attacks.fab.images=30", "data.test_images=20"], "data.test_images is 20"),
    ):
        with pytest.raises(HarnessError, match=message):
            evaluation_spec(load_config("{}", None, sets), TRADES, "fab", 0, "best-test")
    with pytest.raises(HarnessError, match="held-out"):
        evaluation_spec(config, TRADES, "pgd20", 0, "best-val")


# --- any settings: a configuration or one line


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(string.printable, max_size=9)
    | st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.sampled_from(["kind", "epochs", "a"]), st.integers(), max_size=2)
)
FEW = settings(max_examples=100, deadline=None, derandomize=True)
TREES = {name: build_config({"preset": name}).model_dump(mode="json") for name in PRESETS}


@FEW
@given(st.data())
def test_presets_with_one_value_replaced(data: st.DataObject) -> None:
    tree = TREES[data.draw(st.sampled_from(PRESETS))]
    key = data.draw(st.sampled_from(list(flatten(tree))))
    try:
        config = override(Config.model_validate(tree), {key: data.draw(VALUES)})
    except HarnessError:
        return
    # what is accepted can be handed to jobs, and is read back the same
    assert load_config(config.model_dump_json()) == config
