"""Figures of made-up histories whose lines are known, of unfinished ones, and of nothing."""

import math
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from histories import EPOCHS, STEPS, made_up_trace, write_histories, write_history
from made_up import write_made_up, write_run
from matplotlib.figure import Figure
from small_runs import stopped

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import curve_cells, find_experiment, traced_cells
from reproduce.experiments.schedules import learning_rate
from reproduce.figures import FIGURES, available_figures, draw, make
from reproduce.figures.curves import draw_lines, smooth
from reproduce.figures.others import distance_for, overlap, plot_networks
from reproduce.paper.published import published_models

CURVES = (
    "{{dataset: digits, architectures: [wrn-10-0.5, wrn-10-1], method: {}, lambdas: {}, "
    "seeds: [0, 1]}}"
)
FOLLOWED = [
    f"experiments.figure2={CURVES.format('trades', [6])}",
    f"experiments.figure3={CURVES.format('trades-step', [6])}",
    f"experiments.figure4={CURVES.format('trades', [6])}",
    f"experiments.figure7={CURVES.format('trades', [1, 6])}",
    f"train.epochs={EPOCHS}",
]
TABLE3 = (
    "experiments.table3={dataset: digits, architectures: [wrn-10-0.5], untuned: 2, lambdas: [2], "
    "seeds: [0, 1]}"
)
TRACE = ["dataset", "architecture", "method", "lambda", "seed", "iteration", "epoch", "x"]
RUN = ("digits", "wrn-10-1", "trades", 6.0)


@pytest.fixture
def config(tiny: Callable[..., Config]) -> Config:
    return tiny(*FOLLOWED)


def _assert_fits(figure: Figure) -> None:
    """Assert that the names of the lines lie within a column of a page."""
    assert figure.get_size_inches()[0] == 3.4
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_both_terms_by_lambda_and_width(config: Config) -> None:
    write_histories(config, "figure7")
    drawing = draw(config, "figure7")
    assert drawing.missing == ()
    assert [axes.get_ylabel() for axes in drawing.figure.axes] == ["λ = 1", "", "λ = 6", ""]
    files = [paths.figure_file(config, "figure7", form) for form in ("svg", "png", "csv")]
    svg, numbers = files[0].read_text(), pd.read_csv(files[2])
    assert files[1].read_bytes().startswith(b"\x89PNG")
    for words in ("w=0.5", "w=1", "natural risk", "robust regularisation", "λ = 6"):
        assert words in svg
    assert "WideResNet-10 on Digits" in drawing.caption
    run = numbers.query("architecture == 'wrn-10-1' and seed == 1 and `lambda` == 6")
    assert len(run) == EPOCHS * STEPS
    assert run["position"].iloc[[STEPS - 1, -1]].tolist() == [1, EPOCHS]
    # the made-up trace falls by a line: smoothing a line leaves it, away from its ends
    inner = slice(3, -3)
    np.testing.assert_allclose(
        run["natural_risk"].iloc[inner], run["natural_risk_smooth"].iloc[inner], rtol=1e-4
    )
    _assert_fits(drawing.figure)
    # equal numbers give equal files
    assert make(config, "figure7").svg() == svg


def test_lines_are_the_mean_over_seeds_with_their_spread(config: Config) -> None:
    write_histories(config, "figure4")
    figure = make(config, "figure4").figure
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["w=0.5", "w=1"]
    # seeds 0 and 1 lie at width and width + 1, constant over the run
    np.testing.assert_allclose(lines["w=1"].get_ydata(), 1.5, rtol=1e-6)
    np.testing.assert_allclose(lines["w=0.5"].get_ydata(), 1.0, rtol=1e-6)
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], 1.5 + np.array([-1, 1]) * math.sqrt(0.5))
    # told apart in grey
    assert {line.get_linestyle() for line in lines.values()} == {"-", "--"}


def test_metrics_over_epochs_and_at_the_best(config: Config) -> None:
    write_histories(config, "figure3")
    drawing = make(config, "figure3")
    best = drawing.numbers[drawing.numbers["best"]]
    # robust accuracy rises to epoch 4 of 6 and falls again
    assert best["epoch"].tolist() == [4.0] * 4
    errors = drawing.figure.axes[3].containers
    robust = np.asarray(errors[0].lines[0].get_ydata(), dtype=float)
    expected = best.groupby("architecture")["robust_accuracy"].mean()
    np.testing.assert_allclose(robust, [expected["wrn-10-0.5"], expected["wrn-10-1"]])
    _assert_fits(drawing.figure)
    # a damaged file is named
    first = curve_cells(config.experiments.figure3)[0]
    paths.epochs_file(paths.cell_folder(config, first)).write_text("epoch,test_robust_accuracy\n1,")
    drawing = make(config, "figure3")
    assert len(drawing.missing) == 1
    assert f"{first}/epochs.csv is damaged" in drawing.missing[0]
    assert len(drawing.numbers) == 3 * EPOCHS


def test_thirteen_networks_fit_their_column() -> None:
    columns = ["network", "label", "natural_accuracy", "perturbation_stability", "robust_accuracy"]
    cards = enumerate(published_models().items())
    rows = [(name, c.method, c.autoattack, c.natural, 70 - n) for n, (name, c) in cards]
    _assert_fits(plot_networks(pd.DataFrame(rows, columns=columns)))


def test_schedules_are_the_trainers(config: Config) -> None:
    numbers = make(config, "figure5").numbers
    for schedule, epoch, rate in numbers.itertuples(index=False):
        # in steps as Figure 3's runs are trained
        train = config.train_of("trades-step").model_copy(update={"schedule": schedule})
        assert rate == learning_rate(train, epoch)
    assert numbers["schedule"].value_counts().to_dict() == dict.fromkeys(
        ("exp", "step", "cosine"), EPOCHS
    )


def test_sets_have_the_measured_sizes(config: Config) -> None:
    index = np.arange(200)
    *items, absent = find_experiment(config, "figure2").evaluations
    for item in items:
        write_run(config, item)
        write_made_up(config, item, index, robust=index < 100, natural=index < 150)
    drawing = make(config, "figure2")
    # a twentieth of all is wrong and stable
    sizes = drawing.numbers[["robust", "correct_only", "stable_only", "neither"]]
    np.testing.assert_allclose(sizes, [[50.0, 25.0, 5.0, 20.0]] * 3, atol=1e-9)
    # none left over is none, not an error of rounding
    index = np.arange(300)
    write_made_up(config, items[0], index, index < 50, index < 290, 10)
    assert make(config, "figure2").numbers["neither"].iloc[0] == 0.0
    assert "50.0" in drawing.svg()
    assert drawing.missing == (f"{absent.cell} has no record of pgd20 yet",)


@pytest.mark.parametrize(("a", "b", "area"), [(1.0, 0.7, 0.9), (2.0, 2.0, 0.1), (0.5, 3.0, 0.7)])
def test_overlap_of_circles(a: float, b: float, area: float) -> None:
    distance = distance_for(a, b, area)
    assert overlap(a, b, distance) == pytest.approx(area, rel=1e-9)
    points = np.random.default_rng(0).uniform(-4, 4, (400_000, 2))
    left = np.hypot(points[:, 0], points[:, 1]) < a
    right = np.hypot(points[:, 0] - distance, points[:, 1]) < b
    assert 64 * (left & right).mean() == pytest.approx(area, abs=0.06)
    # circles that touch, and one within the other
    assert (distance_for(a, b, 0.0), overlap(a, b, a + b)) == (a + b, pytest.approx(0.0))
    smaller = math.pi * min(a, b) ** 2
    assert distance_for(a, b, 1.01 * smaller) == pytest.approx(abs(a - b), abs=1e-6)
    assert overlap(a, b, abs(a - b) + 1e-9) == pytest.approx(smaller, rel=1e-4)


def test_networks_as_balls(tiny: Callable[..., Config]) -> None:
    cells = [f"digits/wrn-10-{width}/trades/lam-6/seed-0" for width in ("0.5", "1")]
    trained = ", ".join(f"{cell}: best-test" for cell in cells)
    config = tiny(f"experiments.figure6={{dataset: digits, trained: {{{trained}}}, attack: pgd20}}")
    first, second = find_experiment(config, "figure6").evaluations
    index = np.arange(200)
    write_run(config, first)
    write_made_up(config, first, index, robust=index < 100, natural=index < 150)
    drawing = make(config, "figure6")
    assert drawing.missing == (f"{second.cell} has no record of pgd20 yet",)
    row = drawing.numbers.iloc[0]
    assert (row["natural_accuracy"], row["robust_accuracy"]) == (75.0, 50.0)
    assert row["perturbation_stability"] == pytest.approx(55.0)
    assert "TRADES w=0.5 λ=6: 50.0" in drawing.svg()


def test_war_follows_the_ratio(tiny: Callable[..., Config]) -> None:
    """Lambda rises by a tenth a step; the second constant run is missing, zeta is 2000."""
    config = tiny(TABLE3, "war.zeta=2000", f"train.epochs={EPOCHS}")
    *cells, absent = traced_cells(config.experiments.table3)
    for cell in cells:
        trace = made_up_trace(cell)
        if cell.method == "war":
            trace["lambda"] = 0.1 * trace["iteration"]
        write_history(config, cell, trace)
        run = paths.run_file(paths.cell_folder(config, cell))
        write_json(run, read_json(run) | ({"zeta": 2000.0} if cell.method == "war" else {}))
    drawing = make(config, "war")
    assert drawing.missing == (f"{absent} is not trained",)
    svg, numbers = drawing.svg(), drawing.numbers
    counts = numbers.groupby(["method", "seed"]).size().to_dict()
    assert counts == dict.fromkeys((("war", 0), ("war", 1), ("trades", 0)), EPOCHS * STEPS)
    ratio = numbers["natural_risk"] / numbers["robust_regularization"]
    np.testing.assert_allclose(numbers["ratio"], ratio, rtol=1e-4)
    adapted = numbers[numbers["method"] == "war"]
    np.testing.assert_allclose(adapted["lambda_t"], 0.1 * adapted["iteration"])
    assert (numbers["zeta"] == 2000).all()
    for words in ("WAR, w=0.5", "λ = 2, w=0.5", "ζ = 2000.0", "epoch"):
        assert words in svg
    # a run of other settings has no say, nor has a damaged one
    run = paths.run_file(paths.cell_folder(config, cells[0]))
    write_json(run, read_json(run) | {"digest": "another", "zeta": 999.0})
    assert (make(config, "war").numbers["zeta"] == 2000).all()
    run.write_text("{")
    drawing = make(config, "war")
    assert any("run.json" in line for line in drawing.missing)
    assert (drawing.numbers["zeta"] == 2000).all()


def test_partial_histories_say_what_is_missing(config: Config) -> None:
    first, second, third, fourth = curve_cells(config.experiments.figure4)
    for cell in (first, second, third):
        write_history(config, cell)
    paths.trace_file(paths.cell_folder(config, second)).write_bytes(b"PAR1 cut short")
    trace = paths.trace_file(paths.cell_folder(config, third))
    pd.read_parquet(trace).iloc[:5].to_parquet(trace)
    drawing = make(config, "figure4")
    assert set(drawing.numbers["seed"]) == {0}
    assert set(drawing.numbers["architecture"]) == {"wrn-10-0.5"}
    damaged, other, absent = drawing.missing
    assert damaged.startswith(f"{second}/trace.parquet is damaged")
    assert other.startswith(f"{third}/trace.parquet is damaged or not the one of run.json")
    assert absent == f"{fourth} is not trained"
    assert "Missing or unfinished:" in drawing.svg()


def test_an_unfinished_run_is_drawn_as_far_as_it_is(tiny: Callable[..., Config]) -> None:
    cell = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
    grid = (
        "{dataset: digits, architectures: [wrn-10-0.25], method: trades, lambdas: [2], seeds: [0]}"
    )
    config = tiny(f"experiments.figure1={grid}")
    state = stopped(config, cell, 5)
    drawing = make(config, "figure1")
    assert drawing.missing == (f"{cell} is in epoch 2 of 3",)
    # 3 steps an epoch: the second is not over
    assert drawing.numbers["position"].max() < 2
    state.write_bytes(state.read_bytes()[:100])
    drawing = make(config, "figure1")
    assert drawing.numbers.empty
    assert "damaged" in drawing.missing[0]


def test_figures_of_nothing(config: Config, tiny: Callable[..., Config]) -> None:
    names = available_figures(config)
    assert names == (*(f"figure{number}" for number in (2, 3, 4, 5, 7)), "lemma")
    assert set(names) < set(FIGURES)
    for name in names:
        drawing = make(config, name)
        empty = name != "figure5"
        texts = [text.get_text() for axes in drawing.figure.axes for text in axes.texts]
        assert ("nothing to show yet" in texts) == empty
        assert bool(drawing.missing) == empty
    for name in ("war", "figure99"):
        with pytest.raises(HarnessError, match=f"unknown figure '{name}'; .* has figure2"):
            make(config, name)
    for name in ("figure2", "figure3", "figure4"):
        with pytest.raises(HarnessError, match=f"experiments.{name}.lambdas"):
            tiny(f"experiments.{name}={CURVES.format('trades', [1, 6])}")


def test_runs_of_unequal_length_are_averaged_where_they_are_there() -> None:
    steps, epochs = 50, 40
    rows = [
        (*RUN, seed, row + 1, 1 + row // steps, value)
        for seed, (share, value) in enumerate(((1.0, 3.0), (0.5, 6.0), (0.21, 12.0)))
        for row in range(int(share * steps * epochs))
    ]
    numbers = smooth(pd.DataFrame(rows, columns=TRACE), ["x"], epochs)
    # all runs are drawn at the positions of the whole one
    whole = set(numbers.loc[numbers["seed"] == 0, "position"])
    assert len(whole) == 800
    assert set(numbers["position"]) == whole
    axes = Figure().subplots()
    draw_lines(axes, numbers, "x", "position", "w=1", color="black")
    lines = [line for line in axes.lines if line.get_linestyle() != "None"]
    drawn = [line.get_ydata() for line in lines]
    levels = [set(np.round(values[~np.isnan(values)], 9)) for values in drawn]
    # three seeds, then two, then one; never in between
    assert levels == [{7.0}, {4.5}, {3.0}]
    assert lines[0].get_label() == "w=1"
    assert [line.get_alpha() for line in lines] == [None, 0.4, 0.4]
    with pytest.raises(ValueError, match="duplicate"):
        draw_lines(axes, pd.concat([numbers, numbers]), "x", "position", "", color="black")
    # the window is 3 % of the whole run, 1,000 iterations, and odd
    rows = [(*RUN, 0, row + 1, 1 + row // 100, float(row == 150)) for row in range(300)]
    numbers = smooth(pd.DataFrame(rows, columns=TRACE), ["x"], epochs=10)
    assert numbers["x_smooth"].max() == pytest.approx(1 / 31)


def test_figures_look_the_same_whatever_the_user_s_settings(paper: Callable[..., Config]) -> None:
    ours = make(paper(), "figure5").svg()
    theirs = {"font.family": "serif", "xtick.labelsize": 20, "savefig.bbox": "tight"}
    with mpl.rc_context(theirs):
        before = dict(mpl.rcParams)
        assert make(paper(), "figure5").svg() == ours
        assert mpl.rcParams == before
