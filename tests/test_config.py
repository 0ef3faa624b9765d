"""Presets, overrides, digests of settings, and what is wrong with a configuration."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import PRESETS, flatten
from reproduce.config.load import build_config, kept_values, load_config, override, read_settings
from reproduce.config.schema import Config
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

TRADES = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
AT = parse_cell("cifar10/wrn-34-1/at/lam-1/seed-0")


WRONG = [
    ("train.nope=1", "unknown key 'train.nope'"),
    ("train..epochs=1", "unknown key 'train.'"),
    ("train.epochs=0", "train.epochs"),
    ("train.attack.epsilon=1.5", "train.attack.epsilon"),
    ("train.attack.epsilon=1/0", "not a number"),
    ("train.attack.epsilon=.nan", "train.attack.epsilon"),
    ("train.learning_rate=1e400", "train.learning_rate"),
    ("train.holdout=2000", "leaves none of 2000 training images"),
    ("data.train_images=50001", "has 50000 training and 10000 test"),
    ("train.schedule=linear", "the linear schedule needs rates"),
    ("train={schedule: linear, rates: [[2, 0.1], [1, 0]]}", "rates must be in the order"),
    (
        "train_for.fast-at.phases=[{epochs: 4, batch_size: 2, crop: 8}]",
        "'train_for.fast-at': phases have 4 epochs together, epochs is 5",
    ),
    ("train_for.rst.holdout=1", "train_for.rst.holdout: all methods share train.holdout"),
    ("train_for.rst.nope=1", "unknown key 'train_for.rst.nope'"),
    ("war.zeta=-1", "'war.zeta': Input should be greater than 0"),
    ("eval.attacks.pgd-7={kind: pgd, steps: 7}", "'eval.attacks.pgd-7'"),
    ("eval.attacks.x={kind: deepfool}", "expected tags: 'pgd', 'fab', 'square', 'autoattack'"),
    ("experiments.table1.methods={trades: [0.33333]}", "four decimals"),
    ("experiments.table1.methods={trades: [6, 6]}", "twice"),
    ("experiments.table1.methods={tradez: [6]}", "unknown method"),
    ("experiments.table1.architectures=[wrn-34-1.0]", "is spelt 'wrn-34-1'"),
    ("experiments.table1.dataset=mnist", "unknown data set"),
    ("experiments.table2.attacks=[zzz]", "table2: unknown attack 'zzz'"),
    ("train", "write key=value"),
    ("results=$NOT_SET_ANYWHERE/x", "'results': not a path: there is no '$NOT_SET_ANYWHERE'"),
    ("data.zoo=~nobodyhasthisname/zoo", "'data.zoo': not a path"),
]


@pytest.mark.parametrize(("override", "message"), WRONG)
def test_bad_settings_name_the_key(override: str, message: str) -> None:
    with pytest.raises(HarnessError) as caught:
        load_config("{}", "mini", [override])
    assert message in str(caught.value)


def test_best_val_needs_held_out_images() -> None:
    with pytest.raises(HarnessError, match="eval: best-val needs held-out images"):
        load_config("{}", "paper", ["eval.checkpoint=best-val"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"preset: papr", "unknown preset 'papr'"),
        (b"? [a]\n: 1", "not YAML.*unhashable"),
        (b"- a\n- b", "must be a mapping"),
        (b"1: 2", "must be a mapping of names"),
        (b"train: {epochs: 3}\ntrain: {batch_size: 9}", "key 'train' is written twice"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HarnessError, match=message):
        load_config(path)


def test_files_and_their_precedence(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing\n")
    assert load_config(path).preset == "paper"
    path.write_text(
        "preset: short\n"
        "train: {epochs: 7}\n"
        "eval: {epsilon: 4 / 255}\n"
        "experiments:\n"
        "  table1: &one {dataset: digits, architectures: [wrn-16-1], seeds: [7]}\n"
        "  table6: {<<: *one, seeds: [8]}\n"
    )
    config = load_config(path, "demo", ["train.batch_size=9"])
    assert (config.preset, config.train.epochs, config.train.batch_size) == ("demo", 7, 9)
    assert config.eval.epsilon == 4 / 255
    table = config.experiments.table6
    assert table is not None
    assert (table.architectures, table.seeds) == (["wrn-16-1"], [8])


@pytest.mark.parametrize("key", ["results", "data.cifar10", "data.zoo"])
def test_home_and_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("WHERE", "there")
    for text, expected in (("~/${WHERE}/x", "/home/me/there/x"), ("a$/~$WHERE", "a$/~there")):
        tree = load_config("{}", "paper", [f"{key}={text}"]).model_dump(mode="json")
        assert flatten(tree)[key] == expected


def test_a_grids_methods_are_replaced_whole() -> None:
    config = load_config("{}", "paper", ["experiments.table1.methods={at: [1]}"])
    assert config.experiments.table1.methods == {"at": [1.0]}


# --- digests


@pytest.mark.parametrize(
    ("sets", "changed"),
    [
        (["train.weight_decay=5e-4"], (True, True)),
        (["train.bn_forwards=3"], (True, False)),
        (["experiments.table1.seeds=[0]", "machine.device=cpu"], (False, False)),
        # how results are attacked is nothing to the training, how its checkpoint is chosen is
        (["eval.epsilon=0.031", "eval.attacks.pgd20.steps=7"], (False, False)),
        (["train.validation.epsilon=0.031"], (True, True)),
        (["train_for.at.validation.attack.steps=7"], (False, True)),
    ],
)
def test_a_setting_touches_the_cells_that_read_it(
    sets: list[str], changed: tuple[bool, bool]
) -> None:
    before, after = build_config({}), load_config("{}", None, sets)
    assert changed == tuple(
        training_spec(before, cell).digest != training_spec(after, cell).digest
        for cell in (TRADES, AT)
    )


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
            ["train.epochs=3", "train_for.fast-at.epochs=15"],
            EPOCHS.replace(" fast-at (15),", ""),
        ),
        # none of those planned has another
        ("mini", ["train.epochs=3", "train.schedule=step"], None),
    ],
)
def test_what_a_setting_for_all_methods_does_not_reach_is_said(
    preset: str, sets: list[str], said: str | None
) -> None:
    user = read_settings("{}", preset, sets)
    config = build_config(user)
    assert kept_values(user, config, planned_methods(config)) == said


def test_evaluations_and_tables_have_digests_of_their_own() -> None:
    config = build_config({})
    seeds = [evaluation_spec(config, TRADES, "pgd20", seed, "best-test").digest for seed in (0, 1)]
    assert seeds[0] != seeds[1]
    other = load_config("{}", None, ["experiments.table1.seeds=[0]"])
    assert protocol_digest(config, "table1") != protocol_digest(other, "table1")
    moved = load_config("{}", None, ["data.folder=/elsewhere", "machine.threads=2"])
    assert protocol_digest(config, "table1") == protocol_digest(moved, "table1")


@pytest.mark.parametrize(
    ("sets", "attack", "checkpoint", "message"),
    [
        ([], "cw21", "best-test", "unknown attack 'cw21'"),
        ([], "pgd20", "best-val", "held-out"),
        (["eval.attacks.fab.images=10001"], "fab", "last", "CIFAR-10 has 10000 test images"),
    ],
)
def test_evaluation_specs_are_checked(
    sets: list[str], attack: str, checkpoint: str, message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        evaluation_spec(load_config("{}", None, sets), TRADES, attack, 0, checkpoint)


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
TREES = {name: build_config({"preset": name}).model_dump(mode="json") for name in PRESETS}


@settings(max_examples=60, deadline=None, derandomize=True)
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
