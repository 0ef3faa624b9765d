"""Cell ids: one spelling each, none outside the results, and one line for anything else."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from reproduce.cell import Cell, parse_cell
from reproduce.config.load import build_config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.registry import DATASETS, METHODS


@pytest.mark.parametrize(
    ("cell_id", "message"),
    [
        ("", "expected DATASET/"),
        ("cifar10/wrn-34-5/trades/lam-12", "expected DATASET/"),
        ("cifar10/wrn-34-5/trades/lam--1/seed-0", "expected DATASET/"),
        ("../wrn-34-5/trades/lam-1/seed-0", "unknown data set"),
        ("cifar10/wrn-35-5/trades/lam-12/seed-0", "6n + 4"),
        ("cifar10/wrn-34-5/fgsm/lam-12/seed-0", "unknown method"),
        ("cifar10/wrn-34-5/trades/lam-12.0/seed-0", "is spelt"),
        ("cifar10/wrn-34-5/trades/lam-12/seed-00", "is spelt"),
    ],
)
def test_unknown_cell_ids(cell_id: str, message: str) -> None:
    with pytest.raises(HarnessError) as caught:
        parse_cell(cell_id)
    assert message in str(caught.value)


ARCHITECTURES = st.builds(
    lambda n, width: f"wrn-{6 * n + 4}-{width / 100:g}", st.integers(1, 7), st.integers(1, 9999)
) | st.builds(lambda n, k: f"densenet-bc-{6 * n + 4}-{k}", st.integers(1, 7), st.integers(1, 99))
CELLS = st.builds(
    Cell,
    st.sampled_from(list(DATASETS)),
    ARCHITECTURES,
    st.sampled_from(list(METHODS)),
    st.integers(0, 9_999_999_999).map(lambda n: n / 10_000),
    st.integers(0, 999_999),
)
DEMO = build_config({"preset": "demo", "results": "/results"})
FEW = settings(max_examples=40, deadline=None, derandomize=True)


@FEW
@given(CELLS)
@example(Cell("cifar100", "wrn-34-0.5", "at", 1.25, 17))
def test_cells_come_back_from_their_ids(cell: Cell) -> None:
    try:
        assert parse_cell(cell.id) == cell
    except HarnessError:
        # parts that do not go together, or too narrow a network
        assume(False)


@FEW
@given(st.text(max_size=40) | CELLS.map(lambda cell: cell.id.replace("trades", "../..")))
@example("digits/wrn-10-1/../lam-1/seed-0")
@example("../../wrn-10-1/trades/lam-1/seed-0")
@example("digits/wrn-10-1/trades/lam-٣/seed-0")
@example("digits/wrn-10-1/trades/lam-1/seed-0\n")
def test_no_cell_lies_outside_the_results(text: str) -> None:
    try:
        cell = parse_cell(text)
    except HarnessError:
        return
    folder = paths.cell_folder(DEMO, cell)
    assert folder.resolve().is_relative_to("/results/demo/cells")
    assert cell.id == text
