"""Settings, cell ids and JSON made up by hypothesis: an object or one clear line."""

import copy
import json
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzz.reader import holds
from fuzz.readers import READERS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import PRESETS
from reproduce.config.load import build_config, load_config
from reproduce.config.schema import Config
from reproduce.core.errors import LONGEST, HarnessError
from reproduce.experiments import paths
from reproduce.registry import DATASETS, METHODS

FEW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**30), 2**63, 1e308, "~nobody/x", "../../x", "a\0b", "x" * 9999]),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=4),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | SCALARS, inner, max_size=3)
    ),
    max_leaves=8,
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def _check_clear(error: HarnessError) -> None:
    assert str(error).isprintable()
    assert 0 < len(str(error)) <= LONGEST


def _accepted(build: Any) -> Config | None:
    try:
        return build()
    except HarnessError as error:
        _check_clear(error)
        return None


def _places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Name every place in a tree by the keys and numbers that lead there."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in inner:
        found.append((*at, key))
        if isinstance(value, dict | list):
            found += _places(value, (*at, key))
    return found


def _replaced(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(tree)
    part = changed
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return changed


TREES = {name: build_config({"preset": name}).model_dump(mode="json") for name in PRESETS}


@FEW
@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(list(TREES["demo"])), VALUES))
def test_any_mapping(tree: dict[str, Any]) -> None:
    _accepted(lambda: build_config(tree))


@settings(FEW, max_examples=300)
@given(st.data())
def test_presets_with_one_value_replaced(data: st.DataObject) -> None:
    tree = TREES[data.draw(st.sampled_from(PRESETS))]
    place = data.draw(st.sampled_from(_places(tree)))
    config = _accepted(lambda: build_config(_replaced(tree, place, data.draw(VALUES))))
    if config is not None:
        # what was accepted can be handed to jobs, and is read back the same
        again = config.model_dump_json()
        assert load_config(again) == config


@FEW
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_for_a_file(text: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(text.encode(errors="surrogatepass") if isinstance(text, str) else text)
        _accepted(lambda: load_config(path))
        assert list(Path(folder).iterdir()) == [path]


@FEW
@given(st.text(max_size=30), VALUES)
@example("a." * 3000, 1)
def test_any_override(key: str, value: Any) -> None:
    _accepted(lambda: load_config("{}", "demo", [key]))
    text = yaml.safe_dump(value) if not isinstance(value, bytes) else str(value)
    _accepted(lambda: load_config("{}", "demo", [f"{key}={text}"]))
    for known in ("train.epochs", "eval.attacks.pgd20", "results", "data.zoo", "experiments"):
        _accepted(lambda known=known: load_config("{}", "demo", [f"{known}={text}"]))


WIDTHS = st.integers(1, 9999).map(lambda n: f"{n / 100:g}")
ARCHITECTURES = st.builds(
    lambda n, width: f"wrn-{6 * n + 4}-{width}", st.integers(1, 7), WIDTHS
) | st.builds(lambda n, k: f"densenet-bc-{6 * n + 4}-{k}", st.integers(1, 7), st.integers(1, 99))
CELLS = st.builds(
    Cell,
    st.sampled_from(list(DATASETS)),
    ARCHITECTURES,
    st.sampled_from(list(METHODS)),
    st.integers(0, 9_999_999_999).map(lambda n: n / 10_000),
    st.integers(0, 999_999),
)
PIECES = st.lists(
    st.sampled_from(
        [
            *DATASETS,
            *METHODS,
            *"/.-~\0\n\\",
            "..",
            "wrn-34-10",
            "lam-",
            "seed-",
            "1",
            "0",
            "٣",
            "1e3",
        ]
    )
    | st.text(string.printable, max_size=3),
    max_size=12,
).map("".join)


@settings(FEW, max_examples=300)
@given(CELLS)
def test_cells_come_back_from_their_ids(cell: Cell) -> None:
    try:
        assert parse_cell(cell.id) == cell
    except HarnessError as error:
        # parts that do not go together, or too narrow a network
        _check_clear(error)


@settings(FEW, max_examples=500)
@given(st.text(max_size=40) | PIECES | CELLS.map(lambda cell: cell.id.replace("trades", "../..")))
@example("digits/wrn-10-1/../lam-1/seed-0")
@example("../../wrn-10-1/trades/lam-1/seed-0")
@example("digits/wrn-10-1/trades/lam-٣/seed-0")
@example("digits/wrn-10-1/trades/lam-1/seed-0\n")
def test_no_cell_lies_outside_the_results(text: str) -> None:
    config = build_config({"preset": "demo", "results": "/somewhere/results"})
    try:
        cell = parse_cell(text)
    except HarnessError as error:
        _check_clear(error)
        return
    folder = paths.cell_folder(config, cell)
    assert folder.resolve().is_relative_to("/somewhere/results/demo/cells")
    assert cell.id == text


JSONS = ("run", "summary", "examples", "lemma", "outcome", "speeds", "card")


@pytest.mark.parametrize("name", JSONS)
@settings(FEW, max_examples=80)
@given(data=st.data())
def test_json_with_one_value_replaced(name: str, data: st.DataObject) -> None:
    reader = READERS[name]
    tree = json.loads(reader.seeds()[0])
    place = data.draw(st.sampled_from(_places(tree)))
    text = json.dumps(_replaced(tree, place, data.draw(PLAIN)))
    with tempfile.TemporaryDirectory() as folder:
        holds(reader, text.encode(), Path(folder))
