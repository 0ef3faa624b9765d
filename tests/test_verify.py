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
from reproduce.experiments.spec import AttackSpec, EvaluationSpec
from reproduce.share.verify import Finding, Sample, compare_predictions, exit_status, verify_folder

CELL = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
WIDE = parse_cell("digits/wrn-10-0.5/trades/lam-2/seed-0")
RUN, RECORD = f"cells/{CELL}", f"cells/{CELL}/records/pgd20-seed0.npz"
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


def wrong(found: dict[str, Finding]) -> set[str]:
    return {path for path, f in found.items() if f.verdict in ("mismatch", "corrupt")}


def keep_only(config: Config, *names: str) -> None:
    """Remove derived files but for some: making them again takes its time."""
    root = paths.root(config)
    for path in (*root.glob("*/*.*"), *root.glob("*.*")):
        if path.is_file() and str(path.relative_to(root)) not in names:
            path.unlink()


def _json(config: Config, name: str, change: Callable[[dict], object]) -> None:
    path = paths.root(config) / name
    told = read_json(path)
    change(told)
    write_json(path, told)


def _rewrite(config: Config, change: Callable[[Record], object]) -> None:
    """Change a record and put its checksum and metrics right."""
    path = paths.root(config) / RECORD
    record = read_record(path)
    change(record)
    write_record(path, record)


def test_what_was_made_here_is_ok(results_of_every_kind: Config) -> None:
    root = paths.root(results_of_every_kind)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    found = verified(results_of_every_kind, AGAIN)
    assert found.pop(f"cells/{UNFINISHED}").verdict == "skipped"
    assert {finding.verdict for finding in found.values()} == {"ok"}
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


@pytest.mark.parametrize(
    "name",
    [
        *(f"{RUN}/{file}" for file in ("model.safetensors", "model-last.safetensors")),
        *(f"{RUN}/{file}" for file in ("trace.parquet", "epochs.csv")),
        RECORD,
    ],
)
def test_one_byte(config: Config, name: str) -> None:
    path = paths.root(config) / name
    keep_only(config)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert name in wrong(verified(config))
    path.unlink()
    assert name in wrong(verified(config))


@pytest.mark.parametrize(
    ("name", "result"),
    [
        (f"{RUN}/run.json", RUN),
        (RECORD.replace(".npz", ".json"), RECORD),
        *((name, name) for name in ("tables/table1.csv", "results.parquet", "claims.json")),
    ],
)
def test_a_truncated_file(config: Config, name: str, result: str) -> None:
    keep_only(config, name)
    path = paths.root(config) / name
    path.write_bytes(path.read_bytes()[:-20])
    assert result in wrong(verified(config))


CONTRADICTIONS: dict[str, tuple[str, str, Callable[[Config], object]]] = {
    "other settings than the digest": (
        "corrupt",
        RUN,
        lambda c: _json(c, f"{RUN}/run.json", lambda t: t["spec"]["train"].update(momentum=0.2)),
    ),
    "another cell's run": (
        "corrupt",
        RUN,
        lambda c: _json(c, f"{RUN}/run.json", lambda t: t["spec"].update(cell=WIDE.id)),
    ),
    "no settings": (
        "corrupt",
        RUN,
        lambda c: _json(c, f"{RUN}/run.json", lambda t: t.pop("spec")),
    ),
    "other metrics": (
        "corrupt",
        RECORD,
        lambda c: _json(c, RECORD[:-3] + "json", lambda t: t["metrics"].update(images=3)),
    ),
    "another name": (
        "corrupt",
        RECORD.replace("seed0", "seed1"),
        lambda c: [
            file.rename(file.with_stem("pgd20-seed1"))
            for file in (paths.root(c) / RECORD).parent.glob("pgd20-seed0.*")
        ],
    ),
    "other weights": (
        "mismatch",
        RECORD,
        lambda c: _json(c, RECORD[:-3] + "json", lambda t: t.update(model_sha256="f" * 64)),
    ),
    "other labels": (
        "mismatch",
        RECORD,
        lambda c: _rewrite(c, lambda r: np.copyto(r.label, np.roll(r.label, 1))),
    ),
    "another number": (
        "mismatch",
        "tables/table1.csv",
        lambda c: _text(c, "tables/table1.csv", ",10.0,", ",11.0,"),
    ),
    "another word": (
        "mismatch",
        "tables/table1.md",
        lambda c: _text(c, "tables/table1.md", "epochs", "epoch"),
    ),
    "a line less": (
        "mismatch",
        "diff/table1.csv",
        lambda c: _text(c, "diff/table1.csv", "\n", ""),
    ),
    "another verdict": (
        "mismatch",
        "claims.json",
        lambda c: _json(c, "claims.json", lambda t: t["claims"][0].update(verdict="holds")),
    ),
    "another row": ("mismatch", "results.parquet", lambda c: _row(c)),
}


def _text(config: Config, name: str, old: str, new: str) -> None:
    path = paths.root(config) / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def _row(config: Config) -> None:
    path = paths.results_file(config)
    frame = pd.read_parquet(path)
    frame.loc[0, "value"] += 0.5
    frame.to_parquet(path, index=False)


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_contradicts_the_rest(config: Config, name: str) -> None:
    verdict, path, change = CONTRADICTIONS[name]
    change(config)
    keep_only(config, path)
    assert verified(config)[path].verdict == verdict


def test_a_forged_record_is_contradicted_when_it_is_attacked_again(config: Config) -> None:
    """Checksums and metrics are put right: only the network says otherwise."""

    def forge(record: Record) -> None:
        record.clean[:] = record.adversarial[:] = record.label
        record.broken_by[:] = -1

    keep_only(config)
    _rewrite(config, forge)
    found = verified(config, Sample(records=4, images=8))
    assert found[RECORD].verdict == "ok"
    assert wrong(found) == {f"{RECORD} (again)"}
    assert "same processor and versions" in found[f"{RECORD} (again)"].reason


def test_line_ends_of_windows_are_ok(config: Config) -> None:
    for path in paths.root(config).rglob("*"):
        if path.suffix in (".json", ".csv", ".md", ".tex"):
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert wrong(verified(config)) == set()


def test_without_the_images_the_rest_is_checked(config: Config, tmp_path: Path) -> None:
    keep_only(config)
    data = config.data.model_copy(update={"folder": tmp_path / "none"})
    found = verified(config.model_copy(update={"data": data}), AGAIN)
    assert found[RUN].verdict == "ok"
    assert "digits is not prepared" in found[RECORD].reason
    assert found["attacks made again"].verdict == "skipped"
    assert exit_status(list(found.values())) == 3


def test_what_would_take_too_long_is_skipped(config: Config) -> None:
    keep_only(config)
    found = verified(config, Sample(records=2, minutes=1e-9))
    assert "2 more would take longer" in found["attacks made again"].reason
    assert not any("(again)" in path for path in found)


def test_the_sample_is_the_seeds(config: Config) -> None:
    keep_only(config)

    def drawn(seed: int) -> set[str]:
        found = verified(config, Sample(records=1, images=8, seed=seed))
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
    assert wrong(found) == {"tables/table1.csv"}
    assert not any("(again)" in path for path in found)


def test_an_easier_attack_than_the_configurations(config: Config) -> None:
    def easier(record: Record) -> None:
        record.info["spec"]["attack"]["steps"] = 1
        record.info["digest"] = EvaluationSpec.model_validate(record.info["spec"]).digest

    keep_only(config)
    _rewrite(config, easier)
    assert verified(config)[RECORD].verdict == "skipped"


def test_a_record_of_a_published_network(config: Config) -> None:
    """Its weights are not in the folder."""
    keep_only(config)
    record = read_record(paths.root(config) / RECORD)
    for key in ("training", "checkpoint"):
        del record.info["spec"][key]
    record.info["digest"] = AttackSpec.model_validate(record.info["spec"]).digest
    name = "models/digits/x/records/pgd20-seed0.npz"
    write_record(paths.root(config) / name, record)
    finding = verified(config)[name]
    assert (finding.verdict, "is not in this folder" in finding.reason) == ("skipped", True)


def test_a_checksum_that_was_put_right(config: Config) -> None:
    """Another run's weights: no record is of them."""
    keep_only(config)
    other = paths.model_file(paths.cell_folder(config, WIDE), "best-test")
    path = paths.model_file(paths.cell_folder(config, CELL), "best-test")
    shutil.copy(other, path)
    sha256 = sha256_of_file(path)
    _json(config, f"{RUN}/run.json", lambda told: told["models"].update({"best-test": sha256}))
    assert "of other weights" in verified(config)[RECORD].reason


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
    told = json.loads(run_command(config, "verify", "--sample", "0", "--json", "--seed", "5"))
    assert [verdict for verdict, count in told["counts"].items() if count] == ["ok"]
    assert (told["seed"], told["status"], told["preset"]) == (5, 0, "demo")
    assert told["findings"][0] == {
        "verdict": "ok",
        "path": RUN,
        "reason": "3 of 3 checkpoints are here",
    }
    # a folder that is not the configuration's
    folder = paths.root(config)
    elsewhere = config.model_copy(update={"results": folder.parent / "none"})
    assert run_command(elsewhere, "verify", "--sample", "0", str(folder)).splitlines()[-1] == last
    (folder / RUN / "epochs.csv").unlink()
    run_command(config, "verify", "--sample", "0", status=1)


@pytest.mark.parametrize("name", [".", "demo/cells", "nothing"])
def test_a_folder_without_results(config: Config, name: str) -> None:
    with pytest.raises(HarnessError, match="holds no results"):
        list(verify_folder(config, config.results / name, Sample(0), quiet))


@pytest.mark.parametrize(
    ("preset", "count"), [pytest.param("mini", 31, marks=pytest.mark.slow), ("paper", 11)]
)
def test_the_reference_results_of_this_repository(preset: str, count: int, tmp_path: Path) -> None:
    """Every file that is committed, without images."""
    folder = ROOT / "results" / "reference" / "cpu" / preset
    config = load_config(folder / "config.yaml", None, [f"data.folder={tmp_path}"])
    found = [finding.verdict for finding in verify_folder(config, folder, Sample(0), quiet)]
    assert (found.count("ok"), {*found}) == (count, {"ok", "skipped"})
