"""Figures: of made-up histories whose lines are known, and of unfinished and damaged ones."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from histories import EPOCHS, STEPS, write_histories, write_history
from made_up import write_made_up, write_run
from small_runs import quiet, stop_at

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.experiments import paths
from reproduce.experiments.grids import curve_cells, find_experiment
from reproduce.experiments.schedules import learning_rate
from reproduce.figures import FIGURES, available_figures, draw, make, svg_of
from reproduce.training.train import train_cell

CURVES = (
    "{{dataset: digits, architectures: [wrn-10-0.5, wrn-10-1], method: {}, lambdas: {}, "
    "seeds: [0, 1]}}"
)
FOLLOWED = [
    f"experiments.figure1={CURVES.format('trades', [6])}",
    f"experiments.figure2={CURVES.format('trades', [6])}",
    f"experiments.figure3={CURVES.format('trades-step', [6])}",
    f"experiments.figure4={CURVES.format('trades', [6])}",
    f"experiments.figure7={CURVES.format('trades', [1, 6])}",
    f"train.epochs={EPOCHS}",
]


@pytest.fixture
def config(tiny: Callable[..., Config]) -> Config:
    return tiny(*FOLLOWED)


def _forms(config: Config, name: str) -> tuple[str, bytes, pd.DataFrame]:
    svg, png, csv = (paths.figure_file(config, name, form) for form in ("svg", "png", "csv"))
    return svg.read_text(), png.read_bytes(), pd.read_csv(csv)


def test_both_terms_by_width(config: Config) -> None:
    write_histories(config, "figure1")
    drawing = draw(config, "figure1")
    assert drawing.missing == ()
    svg, png, numbers = _forms(config, "figure1")
    assert png.startswith(b"\x89PNG")
    for words in ("w=0.5", "w=1", "natural risk", "robust regularisation", "λ = 6"):
        assert words in svg
    assert "WideResNet-10 on Digits" in drawing.caption
    assert "2 seeds" in drawing.caption
    run = numbers[(numbers["architecture"] == "wrn-10-1") & (numbers["seed"] == 1)]
    assert len(run) == EPOCHS * STEPS
    assert run["position"].iloc[-1] == EPOCHS
    assert run["position"].iloc[STEPS - 1] == 1
    # the made-up trace falls by a line: smoothing a line leaves it, away from its ends
    inner = slice(3, -3)
    np.testing.assert_allclose(
        run["natural_risk"].iloc[inner], run["natural_risk_smooth"].iloc[inner], rtol=1e-4
    )


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
    assert {line.get_linestyle() for line in lines.values()} == {"-", "--"}


def test_figures_of_a_single_lambda(tiny: Callable[..., Config]) -> None:
    for name in ("figure2", "figure3", "figure4"):
        with pytest.raises(HarnessError, match=f"experiments.{name}.lambdas"):
            tiny(f"experiments.{name}={CURVES.format('trades', [1, 6])}")


def test_metrics_over_epochs_and_at_the_best(config: Config) -> None:
    write_histories(config, "figure3")
    drawing = draw(config, "figure3")
    _, _, numbers = _forms(config, "figure3")
    best = numbers[numbers["best"]]
    # robust accuracy rises to epoch 4 of 6 and falls again
    assert best["epoch"].tolist() == [4.0] * 4
    errors = drawing.figure.axes[3].containers
    robust = np.asarray(errors[0].lines[0].get_ydata(), dtype=float)
    expected = best.groupby("architecture")["robust_accuracy"].mean()
    np.testing.assert_allclose(robust, [expected["wrn-10-0.5"], expected["wrn-10-1"]])


def test_a_panel_for_every_lambda(config: Config) -> None:
    write_histories(config, "figure7")
    drawing = make(config, "figure7")
    assert [axes.get_ylabel() for axes in drawing.figure.axes] == ["λ = 1", "", "λ = 6", ""]


def test_names_of_lines_fit_their_column(config: Config) -> None:
    for name in ("figure1", "figure3", "figure4", "figure5"):
        if name != "figure5":
            write_histories(config, name)
        drawing = make(config, name)
        svg_of(drawing)
        (legend,) = drawing.figure.legends
        box = legend.get_window_extent()
        assert (box.x0 >= 0, box.x1 <= drawing.figure.bbox.x1) == (True, True), name


def test_schedules_are_the_trainers(config: Config) -> None:
    numbers = make(config, "figure5").numbers
    for schedule, epoch, rate in numbers.itertuples(index=False):
        # in steps as Figure 3's runs are trained
        train = config.train_of("trades-step").model_copy(update={"schedule": schedule})
        assert rate == learning_rate(train, epoch)
    assert set(numbers["schedule"]) == {"exp", "step", "cosine"}
    assert len(numbers) == 3 * EPOCHS


def test_sets_have_the_measured_sizes(config: Config) -> None:
    experiment = find_experiment(config, "figure2")
    index = np.arange(200)
    for item in experiment.evaluations:
        write_run(config, item)
        write_made_up(config, item, index, robust=index < 100, natural=index < 150)
    drawing = draw(config, "figure2")
    # a twentieth of all is wrong and stable
    for row in drawing.numbers.to_dict("records"):
        sizes = (row["robust"], row["correct_only"], row["stable_only"], row["neither"])
        assert sizes == (50.0, 25.0, 5.0, 20.0)
    assert "robust" in svg_of(drawing)
    assert "50.0" in svg_of(drawing)


def test_networks_as_balls(tiny: Callable[..., Config]) -> None:
    cells = [f"digits/wrn-10-{width}/trades/lam-6/seed-0" for width in ("0.5", "1")]
    trained = ", ".join(f"{cell}: best-test" for cell in cells)
    grid = f"{{dataset: digits, trained: {{{trained}}}, attack: pgd20}}"
    config = tiny(f"experiments.figure6={grid}")
    first, second = find_experiment(config, "figure6").evaluations
    index = np.arange(200)
    write_run(config, first)
    write_made_up(config, first, index, robust=index < 100, natural=index < 150)
    drawing = draw(config, "figure6")
    assert drawing.missing == (f"{second.cell} has no record of pgd20 yet",)
    row = drawing.numbers.iloc[0]
    assert (row["natural_accuracy"], row["robust_accuracy"]) == (75.0, 50.0)
    assert row["perturbation_stability"] == pytest.approx(55.0)
    assert "TRADES w=0.5 λ=6: 50.0" in svg_of(drawing)


def test_partial_histories_say_what_is_missing(config: Config) -> None:
    first, second, third, fourth = curve_cells(config.experiments.figure1)
    write_history(config, first)
    write_history(config, second)
    paths.trace_file(paths.cell_folder(config, second)).write_bytes(b"PAR1 cut short")
    write_history(config, third)
    trace = paths.trace_file(paths.cell_folder(config, third))
    pd.read_parquet(trace).iloc[:5].to_parquet(trace)
    drawing = draw(config, "figure1")
    assert set(drawing.numbers["seed"]) == {0}
    assert set(drawing.numbers["architecture"]) == {"wrn-10-0.5"}
    damaged, other, absent = drawing.missing
    assert damaged.startswith(f"{second}/trace.parquet is damaged")
    assert other.startswith(f"{third}/trace.parquet is damaged or not the one of run.json")
    assert absent == f"{fourth} is not trained"
    assert "Missing or unfinished:" in svg_of(drawing)


@pytest.mark.parametrize("text", ["epoch,test_robust_accuracy\n1,", "no table", "epoch\n1\n2\n"])
def test_damaged_epochs_are_named(config: Config, text: str) -> None:
    write_histories(config, "figure3")
    first = curve_cells(config.experiments.figure3)[0]
    paths.epochs_file(paths.cell_folder(config, first)).write_text(text)
    drawing = draw(config, "figure3")
    assert len(drawing.missing) == 1
    assert f"{first}/epochs.csv is damaged or not of {EPOCHS} epochs" in drawing.missing[0]
    assert len(drawing.numbers) == 3 * EPOCHS


def test_nothing_at_all_is_an_empty_picture(config: Config) -> None:
    for name in available_figures(config):
        drawing = draw(config, name)
        empty = name != "figure5"
        assert ("nothing to show yet" in svg_of(drawing)) == empty
        assert bool(drawing.missing) == empty


def test_an_unfinished_run_is_drawn_as_far_as_it_is(tiny: Callable[..., Config]) -> None:
    cell = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
    grid = (
        "{dataset: digits, architectures: [wrn-10-0.25], method: trades, lambdas: [2], seeds: [0]}"
    )
    config = tiny(f"experiments.figure1={grid}")
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(5))
    drawing = make(config, "figure1")
    assert drawing.missing == (f"{cell} is in epoch 2 of 3",)
    # 3 steps an epoch: the second is not over
    assert drawing.numbers["position"].max() < 2
    state = next(paths.cell_folder(config, cell).glob("state-*.safetensors"))
    state.write_bytes(state.read_bytes()[:100])
    drawing = make(config, "figure1")
    assert drawing.numbers.empty
    assert "damaged" in drawing.missing[0]


def test_every_figure_is_drawn_in_one_column_and_told_apart_in_grey(config: Config) -> None:
    for name in ("figure1", "figure3"):
        write_histories(config, name)
        figure = make(config, name).figure
        assert figure.get_size_inches()[0] == 3.4
        for axes in figure.axes:
            drawn = [line for line in axes.lines if not line.get_label().startswith("_")]
            assert len({line.get_linestyle() for line in drawn}) == len(drawn)


def test_figures_that_are_not_there(tiny: Callable[..., Config]) -> None:
    with pytest.raises(HarnessError, match="war is left out; the configuration has: figure5"):
        draw(tiny(), "war")
    with pytest.raises(HarnessError, match="unknown figure 'figure99'; the configuration has"):
        draw(tiny(), "figure99")


def test_every_figure_has_its_module(config: Config) -> None:
    assert set(FIGURES) >= {f"figure{number}" for number in range(1, 10)}
    assert available_figures(config) == (
        "figure1",
        "figure2",
        "figure3",
        "figure4",
        "figure5",
        "figure7",
        "lemma",
    )


def test_cells_of_a_figure(config: Config) -> None:
    cells = curve_cells(config.experiments.figure7)
    assert cells[0] == Cell("digits", "wrn-10-0.5", "trades", 1.0, 0)
    assert cells[-1] == Cell("digits", "wrn-10-1", "trades", 6.0, 1)
    assert len(cells) == len(set(cells)) == 8
    assert replace(cells[0], seed=1) == cells[1]
