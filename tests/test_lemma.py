"""The examination of Lemma 4.2: its settings, the command, its file and its figure."""

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from reproduce.config.load import load_config
from reproduce.config.schema import Config, Lemma
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.spec import lemma_digest, protocol_digest
from reproduce.figures import draw, make, svg_of
from reproduce.lemma.results import QUANTITIES, WAYS, in_words, read_examination
from reproduce.lemma.search import examine, norms
from reproduce.results.protocol import deviations


def test_the_lemmas_condition() -> None:
    lemma = Lemma(constant=2.0)
    assert lemma.allowance(100, 2) == pytest.approx(2 / (2**6 * math.log(100) ** 3))
    assert lemma.narrowest(4) == pytest.approx(8 * 4 * (1 + math.log(4)))
    assert [lemma.is_wide_enough(width, 4) for width in (76, 77)] == [False, True]


def test_norms_are_ordered() -> None:
    found = norms(Lemma(candidates=8), width=30, depth=2, dimension=6, seed=3)
    assert 0 < found.at_x <= found.ball <= found.near
    assert found.ball < found.wide_ball < found.wide_near


def test_the_command_and_its_file(
    tiny: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    config = tiny()
    shown = run_command(config, "lemma")
    assert "d = m, in the ball, near initialisation: O(sqrt(m H)): " in shown
    assert "16 networks in" in shown
    path = paths.lemma_file(config)
    value = json.loads(path.read_text())
    assert value["digest"] == lemma_digest(config)
    assert value["settings"]["widths"] == [30, 60]
    assert torch.__version__.startswith(value["versions"]["torch"])
    assert len(value["fits"]) == len(WAYS) * len(QUANTITIES)
    found = read_examination(config)
    assert found is not None
    assert found.rows.to_dict("records") == value["rows"]
    for entry in value["fits"]:
        fit = found.fits[entry["way"], entry["quantity"]]
        assert entry["width"]["value"] == fit.width.value
        assert entry["summary"] == in_words(fit)
    row = found.rows.iloc[-1]
    again = norms(config.lemma, int(row["m"]), int(row["H"]), int(row["d"]), int(row["seed"]))
    assert again._asdict() == row[list(QUANTITIES)].to_dict()
    before = path.stat().st_mtime_ns
    assert "Nothing to compute" in run_command(config, "lemma")
    assert path.stat().st_mtime_ns == before


def test_other_settings_and_damaged_files_are_made_again(tiny: Callable[..., Config]) -> None:
    config, said = tiny(), []
    path = paths.lemma_file(config)
    examine(config)
    whole = json.loads(path.read_text())
    other = tiny("lemma.wide_epsilon=0.2")
    assert read_examination(other) is None
    examine(other, said.append)
    assert said == []
    assert json.loads(path.read_text())["settings"]["wide_epsilon"] == 0.2
    for damage in ("{", json.dumps({**whole, "rows": [{"m": 20}]})):
        path.write_text(damage)
        examine(config, said.append)
        assert "is damaged" in said.pop()
        assert json.loads(path.read_text())["rows"] == whole["rows"]


def test_the_figure(tiny: Callable[..., Config]) -> None:
    config = tiny()
    empty = make(config, "lemma")
    assert empty.missing == ("lemma.json: it is not there yet, `reproduce lemma` makes it",)
    assert empty.numbers.empty
    assert "nothing to show yet" in svg_of(empty)
    assert "Missing or unfinished" in svg_of(empty)
    examine(config)
    drawing = draw(config, "lemma")
    assert drawing.missing == ()
    numbers = pd.read_csv(paths.figure_file(config, "lemma", "csv"))
    assert len(numbers) == 16
    found = read_examination(config)
    np.testing.assert_allclose(numbers["near"], found.rows["near"], rtol=1e-5)
    assert str(found.fits["growing", "near"].width) in drawing.caption
    text = paths.figure_file(config, "lemma", "svg").read_text()
    for words in ("H=1", "H=2", "slope 1/2", "d fixed", "d = m", "width m"):
        assert words in text
    assert "Missing or unfinished" not in text
    paths.lemma_file(config).write_text("{")
    assert "is damaged" in make(config, "lemma").missing[0]
    other = make(tiny("lemma.rounds=2"), "lemma")
    assert "is damaged" in other.missing[0]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("lemma.widths=[100]", "'lemma.widths': it needs at least two different values (it is"),
        ("lemma.widths=[100, 100]", "'lemma.widths': it needs at least two different values"),
        (
            "lemma.widths=[20, 50, 20]",
            "'lemma.widths': it lists a value twice (it is [20, 50, 20])",
        ),
        ("lemma.widths=[1, 50]", "'lemma.widths.0': Input should be greater than or equal to 2"),
        ("lemma.depths=[]", "'lemma.depths': it needs at least two different values (it is [])"),
        ("lemma.seeds=[3]", "'lemma.seeds': it needs at least two different values (it is [3])"),
        ("lemma.dimension=21", "lemma.dimension is 21, above 20, the smallest of lemma.widths;"),
        ("lemma.depths=[1, 64]", "lemma.depths has 64, for which fewer than two of lemma.widths"),
        ("lemma.candidates=0", "'lemma.candidates'"),
        ("lemma.wide_epsilon=-1", "'lemma.wide_epsilon'"),
    ],
)
def test_bad_settings(setting: str, line: str) -> None:
    with pytest.raises(HarnessError) as caught:
        load_config("{}", "paper", [setting])
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_do_not_depend_on_it() -> None:
    """No number of a table changes with it, so it is neither in digests nor a deviation."""
    paper = load_config("{}", "paper")
    other = load_config("{}", "paper", ["lemma.seeds=[5, 6]"])
    assert lemma_digest(paper) != lemma_digest(other)
    assert protocol_digest(paper, "table1") == protocol_digest(other, "table1")
    assert deviations(other) == []
