"""Parts of the report that are not about records: pictures, checkpoints, the lemma."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_cases import Element, make_up, paper_config, parse

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.examples.files import AttackedImage, Example, Prediction
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.lemma.search import examine
from reproduce.report import pictures
from reproduce.report.build import build_report
from reproduce.report.page import render
from reproduce.report.view import Report


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


def _with_gallery(report: Report, config: Config) -> Report:
    return replace(report, gallery=pictures.gallery_view(config, []))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_hold_the_pixels(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = _example(channels)
    monkeypatch.setattr(pictures, "read_examples", lambda _: [example])
    gallery = pictures.gallery_view(paper_config(tmp_path), [])
    assert gallery is not None
    assert "magnified 16.7 times" in gallery.note
    assert "1 of these predictions differ" in gallery.note
    (shown,) = gallery.examples
    assert shown.title == "Test image 7, “cat”: only the wide network holds"
    narrow, wide = shown.strips
    clean, perturbation, adversarial = narrow.pictures
    image = example.image[:, :, 0] if channels == 1 else example.image
    np.testing.assert_array_equal(_decoded(clean.source), image)
    assert (_decoded(perturbation.source) == 128).all()
    # a tenth of 255, rounded
    np.testing.assert_array_equal(_decoded(adversarial.source), np.round(image + 25.5))
    assert [picture.right for picture in narrow.pictures] == [True, None, False]
    assert wide.pictures[2].right is True
    assert (clean.prediction, clean.confidence) == ("cat", "91 %")
    assert clean.alt == "Clean image of “cat”; WideResNet-34, width 1 takes it for “cat”"


def test_pictures_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = paper_config(tmp_path)
    monkeypatch.setattr(pictures, "read_examples", lambda _: [_example(3)])
    page = parse(render(_with_gallery(build_report(config), config)))
    (section,) = page.find("section", id_="examples")
    images = section.find("img")
    assert len(images) == 6
    assert all(image.attributes["alt"] for image in images)
    assert "<dog> ✗ wrong 50 %" in section.text


def test_examples_of_other_settings_are_named(
    tmp_path: Path,
) -> None:
    config = paper_config(tmp_path)
    path = paths.examples_file(config, "cifar10")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    path.with_suffix(".json").write_text("{}")
    report = build_report(config)
    assert report.gallery is None
    assert any("is damaged at 'attack'" in line for line in report.summary.damaged)


def _epochs(config: Config) -> None:
    """Give every made-up run three epochs, of which the second is best."""
    make_up(config)
    for run in paths.root(config).rglob("run.json"):
        settings = read_json(run)
        write_json(run, settings | {"checkpoint_epochs": {"best-test": 2, "last": 3}})
        seed = int(run.parent.name.removeprefix("seed-"))
        frame = pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "test_robust_accuracy": [30.0, 50.0 + seed, 48.0],
                "test_natural_accuracy": [60.0, 80.0, 81.0],
                "test_perturbation_stability": [50.0, 60.0, 59.0],
            }
        )
        frame.to_csv(run.parent / "epochs.csv", index=False)


def test_checkpoints_with_their_seeds(tmp_path: Path) -> None:
    config = paper_config(tmp_path, "train.epochs=3", "train.validation.start=0")
    _epochs(config)
    report = build_report(config)
    table = report.tables[-1]
    assert table.title == "Checkpoints. What choosing on the test set is worth"
    assert not table.compared
    first = table.sections[0].rows[0]
    assert first.labels[:2] == ("WideResNet-34", "w=1")
    best, last, difference, epoch = first.numbers
    assert (best.mean, best.std, last.mean) == ("51.00", "1.00", "48.00")
    assert best.seeds == (("seed 0", "50.00"), ("seed 1", "51.00"), ("seed 2", "52.00"))
    assert difference.seeds == (("seed 0", "2.00"), ("seed 1", "3.00"), ("seed 2", "4.00"))
    assert (epoch.mean, epoch.seeds[0]) == ("2.0", ("seed 0", "2.0"))
    natural = table.sections[1].rows[0].numbers[2]
    assert natural.mean == "−1.00"


def test_damaged_epochs_are_named(tmp_path: Path) -> None:
    config = paper_config(tmp_path, "train.epochs=3", "train.validation.start=0")
    _epochs(config)
    next(paths.root(config).rglob("epochs.csv")).write_text("epoch\n1\n")
    report = build_report(config)
    assert any("epochs.csv is damaged" in line for line in report.summary.damaged)
    assert "1 run could not be used" in " ".join(note.text for note in report.tables[-1].notes)


def test_the_lemma_s_exponents(tiny: Callable[..., Config]) -> None:
    config = tiny()
    assert build_report(config).lemma is None
    found = examine(config, lambda _: None)
    report = build_report(config)
    assert report.lemma is not None
    row = next(row for row in report.lemma.rows if row[0].text == "at x" and "= m" in row[1].text)
    fit = found.fits["growing", "at_x"]
    assert row[2].value == pytest.approx(fit.width.value, abs=1e-6)
    assert row[4].value == pytest.approx(fit.depth.value, abs=1e-6)
    assert [cell.text for cell in row[6:]] == [fit.bound, fit.width.tightness, fit.depth.tightness]
    section: Element = parse(render(report)).find("section", id_="lemma-fits")[0]
    assert "in the wider ball *" in section.text
    paths.lemma_file(config).write_text("{")
    assert any("lemma.json" in line for line in build_report(config).summary.damaged)


def test_long_notes_are_folded_and_long_lists_cut(tmp_path: Path) -> None:
    settings = ["train.epochs=20", "train.batch_size=64", "train.learning_rate=0.05"]
    settings += ["train.momentum=0.8", "train.weight_decay=0.001", "eval.epsilon=0.02"]
    settings += ["train.attack={steps: 3, step_size: 0.01, epsilon: 0.02}"]
    seeds = ", ".join(map(str, range(9)))
    config = paper_config(tmp_path, *settings, f"experiments.table1.seeds=[{seeds}]")
    for cell in find_experiment(config, "table1").cells:
        path = paths.run_file(paths.cell_folder(config, cell))
        path.parent.mkdir(parents=True)
        path.write_text("{")
    report = build_report(config)
    folded = [note for note in report.tables[0].notes if note.head]
    assert [note.head for note in folded] == ["Not the paper's protocol"]
    assert "train.epochs is 20, the paper's is 100" in folded[0].text
    assert len(report.summary.damaged) == 41
    assert report.summary.damaged[-1] == f"and {54 - 40} more"
