"""Cell ids: one spelling each, and clear words for anything else."""

import pytest

from reproduce.cell import Cell, parse_cell
from reproduce.config.load import build_config
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import find_experiment


@pytest.mark.parametrize(
    "cell_id",
    [
        "cifar10/wrn-34-5/trades/lam-12/seed-0",
        "cifar100/wrn-34-0.5/at/lam-1.25/seed-17",
        "digits/densenet-bc-40-12/trades/lam-0/seed-2",
    ],
)
def test_round_trip(cell_id: str) -> None:
    assert parse_cell(cell_id).id == cell_id


@pytest.mark.parametrize(
    ("cell_id", "message"),
    [
        ("", "expected DATASET/"),
        ("cifar10/wrn-34-5/trades/lam-12", "expected DATASET/"),
        ("cifar10/wrn-34-5/trades/lam--1/seed-0", "expected DATASET/"),
        ("cifar10/wrn-34-5/trades/lam-x/seed-0", "expected DATASET/"),
        ("../../etc/trades/lam-1/seed-0", "unknown cell id"),
        ("../wrn-34-5/trades/lam-1/seed-0", "unknown data set"),
        ("cifar11/wrn-34-5/trades/lam-12/seed-0", "unknown data set"),
        ("cifar10/wrn-35-5/trades/lam-12/seed-0", "6n + 4"),
        ("cifar10/wrn-34-5/fgsm/lam-12/seed-0", "unknown method"),
        ("cifar10/wrn-34-5/trades/lam-12.0/seed-0", "is spelt"),
        ("cifar10/wrn-34-5/trades/lam-12/seed-00", "is spelt"),
    ],
)
def test_unknown_ids(cell_id: str, message: str) -> None:
    with pytest.raises(HarnessError) as caught:
        parse_cell(cell_id)
    assert message in str(caught.value)


def test_table1_of_the_paper() -> None:
    experiment = find_experiment(build_config({}), "table1")
    methods = [cell.method for cell in experiment.cells]
    assert (methods.count("trades"), methods.count("at")) == (54, 45)
    assert len(experiment.evaluations) == 99
    assert len(set(experiment.cells)) == 99
    assert Cell("cifar10", "wrn-34-10", "trades", 18.0, 2) in experiment.cells


def test_unknown_experiment() -> None:
    with pytest.raises(HarnessError, match="unknown experiment 'table7'"):
        find_experiment(build_config({}), "table7")
