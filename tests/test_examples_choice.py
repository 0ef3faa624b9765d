"""Which networks and which images are shown as adversarial examples."""

import numpy as np

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.evaluation.records import Record
from reproduce.examples.files import perturbation_picture
from reproduce.examples.make import choose_images
from reproduce.experiments.grids import Evaluation, example_evaluations
from reproduce.registry import DATASETS, dataset_facts


def _pair(config: Config) -> tuple[Evaluation, Evaluation]:
    pair = example_evaluations(config)
    assert pair is not None
    return pair


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


def test_the_picture_of_a_perturbation() -> None:
    images = np.array([0, 51, 102, 255], np.uint8)
    adversarial = np.array([0.0, 0.3, 0.3, 0.9], np.float32)
    found = perturbation_picture(images, adversarial, 0.2)
    np.testing.assert_allclose(found, [0.5, 0.75, 0.25, 0.25], atol=1e-6)
    assert found.dtype == np.float32


def test_every_class_has_a_name() -> None:
    for facts in DATASETS.values():
        if facts.storage == "arrays":
            assert len(set(facts.class_names)) == facts.classes
    assert dataset_facts("cifar100").class_name(52) == "oak tree"
    assert dataset_facts("imagenet").class_name(207) == "207"
