"""Sections of the report that are not tables of records: cost, provenance, pictures, the lemma."""
# ruff: noqa: PD011 (the values of an entry are no frame's)

import base64
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_cases import make_up, paper_config, parse

from reproduce.cell import parse_cell
from reproduce.config.load import CONFIG_VARIABLE, load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.examples.files import AttackedImage, Example, Prediction
from reproduce.experiments import paths
from reproduce.experiments.cost import PAPER_SPEEDS
from reproduce.experiments.grids import find_experiment
from reproduce.lemma.search import examine
from reproduce.report.build import build_report, render
from reproduce.report.pictures import examples_note, pictures
from reproduce.report.provenance import costs_section, provenance_section, read_runs
from reproduce.report.tables import checkpoints_section
from reproduce.results.frames import collect, tidy_results
from reproduce.workflow.harness import Harness

FIRST = "cifar10/wrn-34-1/trades/lam-6/seed-0"


@pytest.fixture
def campaign(tmp_path: Path) -> Config:
    config = paper_config(tmp_path)
    make_up(config)
    return config


def _costs(config: Config) -> dict:
    experiment = find_experiment(config, "table1")
    runs = read_runs(config, experiment.cells, [])
    return costs_section(config, [experiment], runs, {}, PAPER_SPEEDS)


def _set_pieces(config: Config, *pieces: dict) -> None:
    path = paths.run_file(paths.cell_folder(config, parse_cell(FIRST)))
    write_json(path, read_json(path) | {"pieces": pieces})


def test_hours_count_every_run_and_every_device_once(campaign: Config) -> None:
    costs = _costs(campaign)
    # 13 runs of an hour
    assert costs["by_table"]["total"][2].value == pytest.approx(13)
    assert sum(row[2].value for row in costs["by_cell"]["rows"]) == pytest.approx(13)
    assert len(costs["by_cell"]["rows"]) == 18
    assert costs["by_table"]["rows"][0][0].text == "Table 1"
    four = {"device": "cuda", "seconds": 3600, "processes": 4}
    _set_pieces(campaign, four, {"device": "cuda", "seconds": 1800, "processes": 2})
    rows = {row[0].text: row for row in _costs(campaign)["by_cell"]["rows"]}
    assert rows[FIRST][2].value == pytest.approx(5)
    # everybody means the same hours
    frame = collect(campaign, find_experiment(campaign, "table1")).frame
    ours = (frame["architecture"] == "wrn-34-1") & (frame["lambda"] == 6)
    assert frame[ours & (frame["training_seed"] == 0)]["device_hours"].tolist() == [
        pytest.approx(5)
    ]
    tidy = tidy_results(campaign).frame
    assert tidy.loc[tidy["model"] == FIRST, "device_hours"].unique() == pytest.approx([5])


@pytest.mark.parametrize(
    ("devices", "name"),
    [
        (("cuda",), "GPU-hours"),
        (("cpu",), "Hours of a processor"),
        (("cpu", "cuda"), "Device-hours"),
    ],
)
def test_hours_are_named_after_what_was_held(
    campaign: Config, devices: tuple[str, ...], name: str
) -> None:
    """Whatever device the configuration names now."""
    for number, path in enumerate(sorted(paths.root(campaign).rglob("run.json"))):
        piece = {"device": devices[number % len(devices)], "seconds": 1.0, "processes": 1}
        write_json(path, read_json(path) | {"pieces": [piece]})
    costs = _costs(campaign)
    assert costs["note"].startswith(f"{name}, as each run")
    assert costs["by_table"]["caption"].startswith(name)


def test_provenance_can_be_used_again(campaign: Config, tmp_path: Path) -> None:
    piece = {
        "began": "2026-01-02T03:04:05+00:00",
        "name": "NVIDIA V100",
        "device": "cuda",
        "seconds": 1,
        "commit": f"{'ab' * 20}-dirty",
        "versions": {"torch": "2.13.0"},
    }
    _set_pieces(campaign, piece)
    cells = find_experiment(campaign, "table1").cells
    section = provenance_section(campaign, read_runs(campaign, cells, []), {})
    facts = section["facts"]
    assert facts["Commits"] == [
        "not a checkout (12 pieces of work)",
        f"{'ab' * 20} with changes that were not committed (1 piece of work)",
    ]
    assert facts["Hardware"] == ["NVIDIA V100 (cuda)", "made up (cuda)"]
    assert facts["Training runs"] == ["13"]
    assert facts["Runs began"] == ["2026-01-02T03:04:05+00:00"]
    again = tmp_path / "config.yaml"
    again.write_text(section["configuration"])
    assert load_config(str(again)) == campaign
    (images,) = section["data"]["rows"]
    assert (images[0].text, images[3].value) == ("CIFAR-10", 50_000)
    assert len(section["models"]["rows"]) == 13
    assert "git checkout" not in section["commands"]
    assert "snakemake all --cores 2 --resources gpu=1\n" in section["commands"]
    runs = {cell: run for cell, run in read_runs(campaign, cells, []).items() if cell.id == FIRST}
    assert f"git checkout {'ab' * 20}\n" in provenance_section(campaign, runs, {})["commands"]


def test_what_the_page_prints_decides_whether_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", CONFIG_VARIABLE):  # which the workflow sets, put back afterwards
        monkeypatch.setenv(name, os.environ.get(name, ""))

    def printed(*sets: str) -> tuple[str, str]:
        config = paper_config(tmp_path, *sets)
        digest = Harness(config.model_dump(mode="json")).report_digest()
        return provenance_section(config, {}, {})["configuration"], digest

    text, digest = printed()
    # of the machine, not of the results
    assert printed("machine.device=cpu", "machine.loaders=3") == (text, digest)
    other, changed = printed(f"data.folder={tmp_path / 'images'}")
    assert other != text
    assert changed != digest


def _attacked(width: str, adversarial: np.ndarray, taken: int) -> AttackedImage:
    return AttackedImage(
        parse_cell(f"cifar10/wrn-34-{width}/trades/lam-6/seed-0"),
        "best-test",
        "",
        adversarial,
        np.full_like(adversarial, 0.5),
        Prediction(3, "cat", 0.914),
        Prediction(0, "airplane", 0.2),
        Prediction(taken, "cat" if taken == 3 else "<dog>", 0.5),
        as_recorded=taken == 3,
    )


def _example(channels: int) -> Example:
    image = np.arange(2 * 2 * channels, dtype=np.uint8).reshape(2, 2, channels)
    moved = image.astype(np.float32) / 255 + np.float32(0.1)
    networks = _attacked("1", moved, 5), _attacked("10", moved, 3)
    return Example("cifar10", "pgd20", 0.03, 7, 3, "cat", image, "wide", networks)


def _decoded(source: str) -> np.ndarray:
    kind, _, content = source.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_hold_the_pixels(channels: int) -> None:
    example = _example(channels)
    note = examples_note([example])
    assert "magnified 16.7 times" in note
    assert "1 of these predictions differ" in note
    narrow, wide = (list(pictures(example, attacked)) for attacked in example.networks)
    clean, perturbation, adversarial = narrow
    image = example.image[:, :, 0] if channels == 1 else example.image
    np.testing.assert_array_equal(_decoded(clean["source"]), image)
    assert (_decoded(perturbation["source"]) == 128).all()
    # a tenth of 255, rounded
    np.testing.assert_array_equal(_decoded(adversarial["source"]), np.round(image + 25.5))
    assert [picture["right"] for picture in narrow] == [True, None, False]
    assert wide[2]["right"] is True
    assert clean["alt"] == "Clean image of “cat”; WideResNet-34, width 1 takes it for “cat”"


def test_examples_on_the_page(tmp_path: Path) -> None:
    """Those of other settings are named, others are shown."""
    config = paper_config(tmp_path)
    path = paths.examples_file(config, "cifar10")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    path.with_suffix(".json").write_text("{}")
    report = build_report(config)
    assert report["examples"] == []
    assert any("is damaged at 'attack'" in line for line in report["summary"]["damaged"])
    (section,) = parse(render(report | {"examples": [_example(3)]})).find("section", id_="examples")
    images = section.find("img")
    assert len(images) == 6
    assert all(image.attributes["alt"] for image in images)
    assert "Test image 7, “cat”: only the wide network holds" in section.text
    assert "<dog> ✗ wrong 50 %" in section.text


def test_checkpoints_with_their_seeds(tmp_path: Path) -> None:
    """Every made-up run has three epochs, of which the second is best."""
    config = paper_config(tmp_path, "train.epochs=3", "train.validation.start=0")
    make_up(config)
    for run in paths.root(config).rglob("run.json"):
        write_json(run, read_json(run) | {"checkpoint_epochs": {"best-test": 2, "last": 3}})
        seed = int(run.parent.name.removeprefix("seed-"))
        metrics = {
            "epoch": [1, 2, 3],
            "test_robust_accuracy": [30.0, 50.0 + seed, 48.0],
            "test_natural_accuracy": [60.0, 80.0, 81.0],
            "test_perturbation_stability": [50.0, 60.0, 59.0],
        }
        pd.DataFrame(metrics).to_csv(run.parent / "epochs.csv", index=False)
    section = checkpoints_section(config, [])
    assert section["title"] == "Checkpoints. What choosing on the test set is worth"
    layout = section["layout"]
    assert layout.rows[0].labels[:2] == ("WideResNet-34", "w=1")
    best, last, difference, epoch = layout.entries[0]
    assert (best.sample.mean, best.sample.std, last.sample.mean) == (51, 1, 48)
    assert best.values == {"seed 0": 50, "seed 1": 51, "seed 2": 52}
    assert difference.values == {"seed 0": 2, "seed 1": 3, "seed 2": 4}
    assert (epoch.sample.mean, epoch.values["seed 0"], epoch.digits) == (2, 2, 1)
    natural = layout.entries[section["sections"][1][1][0]]
    assert natural[2].sample.mean == -1
    next(paths.root(config).rglob("epochs.csv")).write_text("epoch\n1\n")
    damaged: list[str] = []
    notes = checkpoints_section(config, damaged)["notes"]
    assert "epochs.csv is damaged" in damaged[0]
    assert any("1 run could not be used" in text for _, text in notes)


def test_the_lemma_s_exponents(tiny: Callable[..., Config]) -> None:
    config = tiny()
    found = examine(config, lambda _: None)
    report = build_report(config)
    rows = report["lemma"]["rows"]
    row = next(row for row in rows if row[0].text == "at x" and "= m" in row[1].text)
    fit = found.fits["growing", "at_x"]
    assert row[2].value == pytest.approx(fit.width.value, abs=1e-6)
    assert row[4].value == pytest.approx(fit.depth.value, abs=1e-6)
    assert [cell.text for cell in row[6:]] == [fit.bound, fit.width.tightness, fit.depth.tightness]
    section = parse(render(report)).find("section", id_="lemma-fits")[0]
    assert "in the wider ball *" in section.text
