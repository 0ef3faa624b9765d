"""`reproduce verify`: what was made here is ok, and whatever is changed in it is found."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from small_runs import quiet
from verify_cases import UNFINISHED

from reproduce.cell import parse_cell
from reproduce.config.load import load_config, override
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, sha256_of_file, write_json
from reproduce.evaluation.records import Record, read_record, write_record
from reproduce.experiments import paths
from reproduce.share.verify import Finding, Sample, compare_predictions, exit_status, verify_folder

CELL = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
WIDE = parse_cell("digits/wrn-10-0.5/trades/lam-2/seed-0")
RUN, INFO = f"cells/{CELL}", f"cells/{CELL}/run.json"
RECORD, SUMMARY = (f"{RUN}/records/pgd20-seed0.{suffix}" for suffix in ("npz", "json"))
AGAIN, NOTHING_AGAIN = Sample(records=3, images=8), Sample(records=0)


@pytest.fixture
def config(results_of_every_kind: Config, tmp_path: Path) -> Config:
    """A copy of the folder; the images are the same."""
    made = results_of_every_kind
    shutil.copytree(made.results, tmp_path / "results")
    return made.model_copy(update={"results": tmp_path / "results"})


def verified(config: Config, sample: Sample = NOTHING_AGAIN) -> dict[str, Finding]:
    """Verify a configuration's own folder; return the findings by path."""
    found = list(verify_folder(config, paths.root(config), sample, quiet))
    assert len({finding.path for finding in found}) == len(found)
    return {finding.path: finding for finding in found}


def wrong(found: dict[str, Finding]) -> dict[str, str]:
    return {f.path: str(f) for f in found.values() if f.verdict in ("mismatch", "corrupt")}


def keep_only(config: Config, *names: str) -> None:
    """Remove derived files but for some: making them again takes its time."""
    root = paths.root(config)
    for path in (*root.glob("*/*.*"), *root.glob("*.*")):
        if path.is_file() and str(path.relative_to(root)) not in names:
            path.unlink()


def _json(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Return what changes a JSON file."""

    def do(root: Path) -> None:
        told = read_json(root / name)
        change(told)
        write_json(root / name, told)

    return do


def _text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        assert old in (root / name).read_text()
        (root / name).write_text((root / name).read_text().replace(old, new, 1))

    return do


def _rewrite(root: Path, change: Callable[[Record], object]) -> None:
    """Change a record and put its checksum and metrics right."""
    record = read_record(root / RECORD)
    change(record)
    write_record(root / RECORD, record)


def _other_labels(root: Path) -> None:
    _rewrite(root, lambda record: np.copyto(record.label, np.roll(record.label, 1)))


def _rename(root: Path) -> None:
    for file in (root / RECORD).parent.glob("pgd20-seed0.*"):
        file.rename(file.with_stem("pgd20-seed1"))


def _other_weights(root: Path) -> None:
    """Put another run's weights there, and their checksum right: no record is of them."""
    weights = paths.model_file(root / RUN, "best-test")
    shutil.copy(paths.model_file(root / "cells" / WIDE.id, "best-test"), weights)
    sha256 = sha256_of_file(weights)
    _json(INFO, lambda told: told["models"].update({"best-test": sha256}))(root)


def _row(root: Path) -> None:
    frame = pd.read_parquet(root / "results.parquet")
    frame.loc[0, "value"] += 0.5
    frame.to_parquet(root / "results.parquet", index=False)


def test_what_was_made_here_is_ok(results_of_every_kind: Config) -> None:
    root = paths.root(results_of_every_kind)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    found = verified(results_of_every_kind, AGAIN)
    assert found.pop(f"cells/{UNFINISHED}").verdict == "skipped"
    assert [str(finding) for finding in found.values() if finding.verdict != "ok"] == []
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert {
        *(RUN, f"cells/{WIDE}", RECORD, f"{RUN}/records-last/square-seed0.npz"),
        *("tables/table1.csv", "tables/table1.md", "tables/table1.tex", "tables/checkpoints.md"),
        *("diff/table1.csv", "figures/figure5.csv", "claims.json", "results.parquet"),
    } <= found.keys()
    again = [path for path in found if path.endswith("(again)")]
    assert len(again) == 3
    # another checkpoint each, while there are any
    assert f"{RUN}/records-last/square-seed0.npz (again)" in again
    assert found[RECORD + " (again)"].reason == "all 8 images as recorded"


@pytest.mark.parametrize("damage", ["byte", "half", "gone"])
@pytest.mark.parametrize(
    ("name", "result"),
    [
        *((f"{RUN}/{name}.safetensors", RUN) for name in ("model", "model-last")),
        *((f"{RUN}/{name}", RUN) for name in ("trace.parquet", "epochs.csv")),
        (RECORD, RECORD),
    ],
)
def test_a_damaged_file(config: Config, name: str, result: str, damage: str) -> None:
    path = paths.root(config) / name
    keep_only(config)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "byte" else content[: len(content) // 2])
    if damage == "gone":
        path.unlink()
    assert Path(name).name in wrong(verified(config))[result]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        (INFO, RUN),
        (SUMMARY, RECORD),
        *((name, name) for name in ("tables/table1.csv", "results.parquet", "claims.json")),
    ],
)
def test_a_truncated_file(config: Config, name: str, result: str) -> None:
    keep_only(config, name)
    path = paths.root(config) / name
    path.write_bytes(path.read_bytes()[:-20])
    assert result in wrong(verified(config))


TABLE = "tables/table1"
CONTRADICTIONS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "digest": (
        "corrupt",
        RUN,
        _json(INFO, lambda told: told["spec"]["train"].update(epochs=9)),
    ),
    "another cell's": ("corrupt", RUN, _json(INFO, lambda told: told["spec"].update(cell=WIDE.id))),
    "another lambda": ("corrupt", RUN, _json(INFO, lambda told: told.update(final_lambda=2.1))),
    "no settings": ("corrupt", RUN, _json(INFO, lambda told: told.pop("spec"))),
    "metrics": ("corrupt", RECORD, _json(SUMMARY, lambda told: told["metrics"].update(images=3))),
    "another name": ("corrupt", RECORD.replace("seed0", "seed1"), _rename),
    "a record's weights": (
        "mismatch",
        RECORD,
        _json(SUMMARY, lambda told: told.update(model_sha256="f" * 64)),
    ),
    "a run's weights": ("mismatch", RECORD, _other_weights),
    "labels": ("mismatch", RECORD, _other_labels),
    "a number": ("mismatch", f"{TABLE}.csv", _text(f"{TABLE}.csv", ",10.0,", ",11.0,")),
    "a word": ("mismatch", f"{TABLE}.md", _text(f"{TABLE}.md", "epochs", "epoch")),
    "a line less": ("mismatch", "diff/table1.csv", _text("diff/table1.csv", "\n", "")),
    "a verdict": (
        "mismatch",
        "claims.json",
        _json("claims.json", lambda told: told["claims"][0].update(verdict="holds")),
    ),
    "a row": ("mismatch", "results.parquet", _row),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_contradicts_the_rest(config: Config, name: str) -> None:
    verdict, path, change = CONTRADICTIONS[name]
    change(paths.root(config))
    keep_only(config, path)
    finding = verified(config)[path]
    assert finding.verdict == verdict, finding


def test_a_forged_record_is_contradicted_when_it_is_attacked_again(config: Config) -> None:
    """Checksums and metrics are put right: only the network says otherwise."""

    def forge(record: Record) -> None:
        record.clean[:] = record.adversarial[:] = record.label
        record.broken_by[:] = -1

    keep_only(config)
    _rewrite(paths.root(config), forge)
    found = verified(config, Sample(records=4, images=8))
    assert found[RECORD].verdict == "ok"
    assert wrong(found).keys() == {f"{RECORD} (again)"}
    assert "same processor and versions" in found[f"{RECORD} (again)"].reason


def test_line_ends_of_windows_are_ok(config: Config) -> None:
    for path in paths.root(config).rglob("*"):
        if path.suffix in (".json", ".csv", ".md", ".tex"):
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert wrong(verified(config)) == {}


def test_what_cannot_be_checked_is_skipped(config: Config, tmp_path: Path) -> None:
    """A network from elsewhere; attacks that would take long; all records, without the images."""
    keep_only(config)
    foreign = "models/digits/x/records/pgd20-seed0.npz"
    write_record(paths.root(config) / foreign, read_record(paths.root(config) / RECORD))
    found = verified(config, Sample(records=2, minutes=1e-9))
    assert found[foreign].verdict == "skipped"
    assert "would take longer" in found["attacks made again"].reason
    assert not any("(again)" in path for path in found)
    data = config.data.model_copy(update={"folder": tmp_path / "none"})
    found = verified(config.model_copy(update={"data": data}), AGAIN)
    assert found[RUN].verdict == "ok"
    assert "digits is not prepared" in found[RECORD].reason
    assert found["attacks made again"].verdict == "skipped"
    assert exit_status(list(found.values())) == 3


def test_the_sample_is_the_seeds(config: Config) -> None:
    keep_only(config)

    def drawn(seed: int) -> set[str]:
        found = verified(config, Sample(records=1, images=1, seed=seed))
        return {path for path in found if "(again)" in path}

    assert drawn(1) == drawn(1)
    assert len(set.union(*map(drawn, range(5)))) > 1


def test_results_of_other_settings(config: Config) -> None:
    """They are whole, no table follows from them, and they are not attacked again."""
    keep_only(config, "tables/table1.csv")
    found = verified(override(config, {"train.validation.epsilon": 0.15}), AGAIN)
    for name in (RUN, RECORD):
        assert found[name].verdict == "skipped"
        assert "settings are not those" in found[name].reason
    assert wrong(found).keys() == {"tables/table1.csv"}
    assert not any("(again)" in path for path in found)


HERE = {"device": "cpu", "name": "one", "threads": 1, "compiled": False, "versions": {"torch": "2"}}


@pytest.mark.parametrize(
    ("theirs", "robust", "verdict"),
    [
        (HERE, 31, "mismatch"),
        (HERE, 30, "ok"),
        (HERE | {"name": "another"}, 31, "ok"),
        (HERE | {"name": "another"}, 32, "mismatch"),
        (HERE | {"device": "cuda"}, 40, "ok"),
        (HERE | {"device": "cuda"}, 20, "ok"),
        (HERE | {"device": "cuda"}, 41, "mismatch"),
    ],
)
def test_how_much_other_hardware_explains(theirs: dict, robust: int, verdict: str) -> None:
    """Of 64 images 30 are recorded as robust."""

    def predictions(held: int) -> dict[str, np.ndarray]:
        label, index = np.zeros(64, int), np.arange(64)
        adversarial = (index >= held).astype(int)
        return {"index": index, "label": label, "clean": label, "adversarial": adversarial}

    found = compare_predictions(predictions(robust), predictions(30), HERE, [theirs])
    assert found[0] == verdict, found


def test_the_command(config: Config, run_command: Callable[..., str]) -> None:
    keep_only(config, "tables/table1.csv")
    shutil.rmtree(paths.cell_folder(config, UNFINISHED))
    last = run_command(config, "verify", "--sample", "0").splitlines()[-1]
    assert last.startswith("all results are ok: ")
    assert last.endswith(" ok, 0 mismatch, 0 corrupt, 0 skipped (preset demo, --seed 0)")
    # of a folder that is not the configuration's
    folder = paths.root(config)
    elsewhere = config.model_copy(update={"results": folder.parent / "none"})
    words = ["verify", "--sample", "0", "--json", "--seed", "5", str(folder)]
    told = json.loads(run_command(elsewhere, *words))
    assert (told["seed"], told["status"], told["preset"]) == (5, 0, "demo")
    assert [verdict for verdict, count in told["counts"].items() if count] == ["ok"]
    assert told["findings"][0]["path"] == RUN
    (folder / RUN / "epochs.csv").unlink()
    run_command(config, "verify", "--sample", "0", status=1)
    with pytest.raises(HarnessError, match="holds no results"):
        list(verify_folder(config, folder / "cells", Sample(0), quiet))


@pytest.mark.parametrize(
    ("preset", "count"), [pytest.param("mini", 31, marks=pytest.mark.slow), ("paper", 11)]
)
def test_the_reference_results_of_this_repository(preset: str, count: int, tmp_path: Path) -> None:
    """Every file that is committed, without images."""
    folder = ROOT / "results" / "reference" / "cpu" / preset
    config = load_config(folder / "config.yaml", None, [f"data.folder={tmp_path}"])
    found = list(verify_folder(config, folder, Sample(0), quiet))
    assert [str(one) for one in found if one.verdict not in ("ok", "skipped")] == []
    assert sum(one.verdict == "ok" for one in found) == count
