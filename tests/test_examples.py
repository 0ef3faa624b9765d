"""Adversarial examples: which are shown, and the images of two tiny networks as data."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import never, quiet

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.data.sources import load_prepared
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.evaluation.records import Record, read_record, write_record
from reproduce.examples.files import Example, read_examples
from reproduce.examples.make import choose_images, make_examples
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, example_evaluations
from reproduce.models.load import ModelSource
from reproduce.registry import DATASETS, dataset_facts
from reproduce.training.train import train_cell

# enough training for networks that hold on some images and not on others
SETTINGS = [
    "data.train_images=700",
    "data.test_images=60",
    "train={epochs: 6, batch_size: 64, holdout: 0}",
    "experiments.table1.architectures=[wrn-10-0.25, wrn-10-0.125]",
    "experiments.table1.methods={trades: [2]}",
    "experiments.table1.seeds=[0]",
    "train.precision=float32",
    "train.attack={epsilon: 0.2, step_size: 0.2, steps: 1}",
    "train.validation={start: 0, epsilon: 0.2, attack: {steps: 1, step_size: 0.2}}",
    "eval.precision=float32",
    "eval.epsilon=0.2",
    "eval.attacks.pgd20={steps: 5, step_size: 0.05}",
]


def _pair(config: Config) -> tuple[Evaluation, Evaluation]:
    pair = example_evaluations(config)
    assert pair is not None
    return pair


def _file(config: Config, suffix: str = ".npz") -> Path:
    return paths.examples_file(config, "digits").with_suffix(suffix)


def _record_file(config: Config, item: Evaluation) -> Path:
    folder = paths.cell_folder(config, item.cell)
    return paths.record_file(folder, item.checkpoint, item.attack, item.seed)


def _records(config: Config) -> list[Record]:
    return [read_record(_record_file(config, item)) for item in _pair(config)]


def _train_and_attack(config: Config) -> None:
    for item in _pair(config):
        train_cell(config, item.cell, quiet, never)
        evaluate_cell(config, item.cell, item.attack, item.seed, item.checkpoint, quiet)


def _config(results: Path, digits: Path, *sets: str) -> Config:
    places = [f"results={results}", f"data.folder={digits}"]
    return load_config("{}", "demo", [*places, *SETTINGS, *sets])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Path:
    """The results of a narrow and a wide network, trained and attacked, with examples."""
    results = tmp_path_factory.mktemp("pair")
    config = _config(results, digits_folder)
    _train_and_attack(config)
    make_examples(config, quiet)
    return results


@pytest.fixture
def config(tmp_path: Path, made: Path, digits_folder: Path) -> Callable[..., Config]:
    """Make a configuration with a copy of those results; takes more overrides."""
    results = tmp_path / "results"
    shutil.copytree(made, results)
    return lambda *sets: _config(results, digits_folder, *sets)


def test_the_narrowest_and_the_widest_of_the_first_grid() -> None:
    narrow, wide = _pair(load_config("{}", "paper"))
    assert (narrow.cell.id, wide.cell.id) == (
        "cifar10/wrn-34-1/trades/lam-6/seed-0",
        "cifar10/wrn-34-10/trades/lam-6/seed-0",
    )
    assert (narrow.checkpoint, narrow.attack, narrow.seed) == ("best-test", "pgd20", 0)
    one_width = ["experiments.table1={architectures: [wrn-34-1]}", "experiments.table5=null"]
    assert example_evaluations(load_config("{}", "paper", one_width)) is None
    fast, _ = _pair(load_config("{}", "paper", one_width[:1]))
    assert fast.cell.id == "imagenet/wrn-50-1/fast-at/lam-1/seed-0"


def _made_up(clean: list[int], adversarial: list[int], index: list[int]) -> Record:
    arrays = (np.array(values) for values in (index, [0] * len(index), clean, adversarial))
    return Record(*arrays, np.zeros(len(index), int), {})


def test_which_images_are_chosen() -> None:
    # label 0 throughout; in order: both three times, wide, neither, a wrong one each, narrow
    index = [3, 5, 8, 9, 12, 13, 14, 20]
    narrow = _made_up([0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0], index)
    wide = _made_up([0, 0, 0, 0, 0, 0, 2, 0], [0, 0, 0, 0, 2, 0, 0, 3], index)
    expected = [(3, "both"), (5, "both"), (20, "narrow"), (9, "wide"), (12, "neither")]
    assert choose_images(narrow, wide) == expected
    assert choose_images(narrow, wide, each=9)[:3] == [(3, "both"), (5, "both"), (8, "both")]
    # the wide one was attacked on a part of the images only
    part = _made_up([0, 0], [0, 0], [5, 20])
    assert choose_images(narrow, part) == [(5, "both"), (20, "both")]
    assert choose_images(_made_up([1], [1], [3]), wide) == []


def test_every_class_has_a_name() -> None:
    for facts in DATASETS.values():
        if facts.storage == "arrays":
            assert len(set(facts.class_names)) == facts.classes
    assert dataset_facts("cifar100").class_name(52) == "oak tree"
    assert dataset_facts("imagenet").class_name(207) == "207"


def test_examples_are_the_attack_of_the_record(config: Callable[..., Config]) -> None:
    settings = config()
    examples, records = read_examples(settings), _records(settings)
    assert [(e.index, e.held_by) for e in examples] == choose_images(*records)
    assert {"narrow", "wide", "neither"} == {e.held_by for e in examples}
    test = load_prepared(paths.prepared_file(settings, "digits")).test
    for example in examples:
        np.testing.assert_array_equal(example.image, test.images[example.index])
        assert example.label == test.labels[example.index]
        assert example.name == str(example.label)
        assert example.epsilon == 0.2
        for item, record, seen in zip(_pair(settings), records, example.networks, strict=True):
            _check(example, item, record, seen, settings)


def _check(example: Example, item: Evaluation, record: Record, seen: object, c: Config) -> None:
    """Hold one network's view of one image against the record, and against the network."""
    (row,) = np.flatnonzero(record.index == example.index)
    assert (seen.cell, seen.as_recorded) == (item.cell, True)
    assert seen.on_image.label == record.clean[row] == example.label
    assert seen.on_adversarial.label == record.adversarial[row]
    holds = example.held_by in ("both", "narrow" if item == _pair(c)[0] else "wide")
    assert (seen.on_adversarial.label == example.label) == holds
    assert seen.adversarial.dtype == np.float32
    assert 0 <= seen.adversarial.min() <= seen.adversarial.max() <= 1
    moved = seen.adversarial - example.image.astype(np.float32) / 255
    assert 0.1 < np.abs(moved).max() <= 0.2 + 1e-6
    np.testing.assert_allclose(seen.perturbation, 0.5 + moved / 0.4, atol=1e-6)
    # the network itself, without attack code
    weights = paths.model_file(paths.cell_folder(c, item.cell), "best-test")
    model = ModelSource("digits", item.cell.architecture, weights).load().eval()
    for picture, answer in (
        (example.image.astype(np.float32) / 255, seen.on_image),
        (seen.perturbation, seen.on_perturbation),
        (seen.adversarial, seen.on_adversarial),
    ):
        with torch.no_grad():
            logits = model(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].double()
        assert (int(logits.argmax()), str(answer.label)) == (answer.label, answer.name)
        assert answer.confidence == pytest.approx(float(logits.softmax(0).max()), abs=1e-4)


def test_other_weights_make_them_again(config: Callable[..., Config]) -> None:
    settings = config()
    before, said = read_json(_file(settings, ".json")), []
    make_examples(settings, said.append)
    assert "already there" in said[0]
    # the last epoch's weights in the place of the best ones
    item = _pair(settings)[1]
    folder = paths.cell_folder(settings, item.cell)
    run = read_json(paths.run_file(folder))
    assert run["models"]["last"] != run["models"]["best-test"]
    shutil.copy(paths.model_file(folder, "last"), paths.model_file(folder, "best-test"))
    run["models"]["best-test"] = run["models"]["last"]
    write_json(paths.run_file(folder), run)
    with pytest.raises(HarnessError, match="of other settings or weights than those of"):
        read_examples(settings)
    with pytest.raises(HarnessError, match="run `reproduce evaluate"):
        make_examples(settings, quiet)
    evaluate_cell(settings, item.cell, item.attack, item.seed, item.checkpoint, quiet)
    make_examples(settings, quiet)
    after = read_json(_file(settings, ".json"))
    assert after["networks"][0]["model_sha256"] == before["networks"][0]["model_sha256"]
    assert after["networks"][1]["model_sha256"] == run["models"]["last"]
    assert read_examples(settings)


def test_a_prediction_unlike_the_record_s_is_said(config: Callable[..., Config]) -> None:
    settings = config()
    narrow, wide = _records(settings)
    chosen = choose_images(narrow, wide)
    # as rounding on a GPU may turn it: the record has another wrong class
    index, held_by = next((i, h) for i, h in chosen if h in ("wide", "neither"))
    (row,) = np.flatnonzero(narrow.index == index)
    wrong = next(k for k in range(10) if k not in (narrow.label[row], narrow.adversarial[row]))
    narrow.adversarial[row] = wrong
    write_record(_record_file(settings, _pair(settings)[0]), narrow)
    said: list[str] = []
    make_examples(settings, said.append)
    assert f"image {index} is predicted otherwise than in the record" in said[0]
    turned = [e for e in read_examples(settings) if not e.networks[0].as_recorded]
    assert [(e.index, e.held_by) for e in turned] == [(index, held_by)]
    assert turned[0].networks[0].on_adversarial.label != wrong
    assert turned[0].networks[1].as_recorded


def test_damaged_files_are_named_and_made_again(config: Callable[..., Config]) -> None:
    settings = config()
    arrays, about = _file(settings), _file(settings, ".json")
    whole, info = arrays.read_bytes(), read_json(about)
    text = about.read_text()
    for path, content, message in (
        (arrays, whole[:-7], "digits.npz are missing or damaged"),
        (arrays, None, "digits.npz are missing or damaged"),
        (about, None, "digits.json cannot be read"),
        (about, text[:-7].encode(), "digits.json is damaged"),
        (about, info | {"epsilon": None}, "digits.json is damaged at 'epsilon'"),
    ):
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            write_json(path, content)
        with pytest.raises(HarnessError, match=message):
            read_examples(settings)
        arrays.write_bytes(whole)
        about.write_text(text)
    about.unlink()
    make_examples(settings, quiet)
    assert read_examples(settings)
    assert len(_file(settings).read_bytes()) == len(whole)


def test_what_there_are_no_examples_of(
    config: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    settings = config()
    with pytest.raises(HarnessError, match="of other settings or weights than those of"):
        read_examples(config("eval.attacks.pgd20.steps=6"))
    one_width = config("experiments.table1.architectures=[wrn-10-0.25]")
    assert read_examples(one_width) == []
    assert "two widths" in run_command(one_width, "examples", status=1)
    assert "digits: " in run_command(settings, "examples")
    item = _pair(settings)[0]
    _record_file(settings, item).unlink()
    said = run_command(settings, "examples", status=1)
    assert f"{item.cell} is not attacked by pgd20 yet" in said
    paths.run_file(paths.cell_folder(settings, item.cell)).unlink()
    assert "is not trained" in run_command(settings, "examples", status=1)
