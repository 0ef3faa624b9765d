"""`reproduce verify`: a folder stands, and whatever is changed in it is found and named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from spoilt_results import CELL, SPOILT, WIDE, folder_of, record_file_of, rewritten, wrong_metrics
from verify_cases import NOTHING_AGAIN, UNFINISHED, copied, keep_only, verified, wrong

from reproduce.config.load import override
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.records import Record, read_record, write_record
from reproduce.experiments import paths
from reproduce.experiments.schedules import learning_rate
from reproduce.experiments.spec import AttackSpec, EvaluationSpec, TrainingSpec
from reproduce.share.verification_again import Sample
from reproduce.share.verification_trace import learning_rates

AGAIN = Sample(records=3, images=8, minutes=10, seed=0)


@pytest.fixture
def config(results_of_every_kind: Config, tmp_path: Path) -> Config:
    return copied(results_of_every_kind, tmp_path)


def _tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_what_was_made_here_stands(results_of_every_kind: Config) -> None:
    made = results_of_every_kind
    before = _tree(paths.root(made))
    found = verified(made, AGAIN)
    assert [str(f) for f in found.findings if f.verdict != "stands"] == []
    assert found.exit_status == 0
    assert _tree(paths.root(made)) == before
    text = "\n".join(map(str, found.findings))
    for file in (
        f"cells/{CELL}: 3 checkpoints, 3 epochs",
        "records/pgd20-seed0.npz: robust",
        "records-last/square-seed0.npz: robust",
        "(again): all 8 images as recorded",
        "(again): all 16 images as recorded",
        f"cells/{UNFINISHED}/state-",
        "lemma.json: 16 rows fitted again",
        "examples/digits.npz: 1 images in the ball",
        "report.html: made again",
        "results.parquet: made again",
        "claims.json: made again",
        *(f"tables/table1.{suffix}: made again" for suffix in ("csv", "md", "tex")),
        "diff/table1.csv: made again",
        "figures/figure5.png: made again",
    ):
        assert file in text
    # a checkpoint each before a second record of one
    again = [f.path.split("/records")[0] for f in found.findings if "(again)" in f.path]
    assert {f"cells/{CELL}", f"cells/{WIDE}"} <= set(again)


@pytest.mark.parametrize(
    ("verdict", "spoil"), [(verdict, spoil) for verdict in SPOILT for spoil in SPOILT[verdict]]
)
def test_what_contradicts_itself(
    config: Config, verdict: str, spoil: Callable[[Config], str]
) -> None:
    name = spoil(config)
    keep_only(config, name)
    found = verified(config)
    (finding,) = (f for f in found.findings if f.path == name)
    assert finding.verdict == verdict, finding
    assert found.exit_status == 1


def test_a_record_made_up_throughout_differs_when_it_is_done_again(config: Config) -> None:
    """All checksums, metrics and tables are put right: only the network says otherwise."""

    def better(record: Record) -> None:
        record.clean[:] = record.adversarial[:] = record.label
        record.broken_by[:] = -1

    keep_only(config)
    name = rewritten(config, better)
    assert not [f for f in verified(config).findings if f.path == name and f.verdict != "stands"]
    sample = Sample(records=4, images=8, minutes=10, seed=0)
    (again,) = (f for f in verified(config, sample).findings if f.path == f"{name} (again)")
    assert again.verdict == "differs"
    assert "of 8 images come out otherwise (image " in again.reason
    assert "same processor and versions, where bits are equal" in again.reason


def test_what_is_damaged_is_in_no_table_made_again(config: Config) -> None:
    """The record's number is in the sender's table and not in ours: the table differs too."""
    wrong_metrics(config)
    keep_only(config, "tables/table1.csv")
    paths_of = {finding.path for finding in wrong(verified(config))}
    assert "tables/table1.csv" in paths_of
    assert f"cells/{WIDE}" not in paths_of


def test_older_files_without_checksums_of_their_own_stand(config: Config) -> None:
    for path in paths.root(config).rglob("*.json"):
        told = read_json(path)
        if path.name == "run.json":
            del told["epochs"]
        write_json(path, told)
    found = verified(config)
    assert wrong(found) == []
    text = "\n".join(map(str, found.findings))
    assert "no checksum of run.json and epochs.csv, made before there was one" in text
    assert "no checksum of its summary, made before there was one" in text


def test_line_ends_of_windows_are_no_damage(config: Config) -> None:
    """As git or an archive may bring them; of pictures and arrays every byte counts."""
    root = paths.root(config)
    for path in root.rglob("*"):
        if path.suffix in (".json", ".csv", ".md", ".tex", ".svg", ".html", ".png"):
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    found = verified(config)
    assert [f.path for f in found.findings if f.verdict != "stands"] == ["figures/figure5.png"]
    for name in (f"cells/{CELL}/epochs.csv", "tables/table1.md"):
        path = root / name
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n\r", 1))
    assert {f.path for f in wrong(verified(config))} >= {
        f"cells/{CELL}/epochs.csv",
        "tables/table1.md",
    }


def test_without_the_images_the_rest_is_checked(config: Config, tmp_path: Path) -> None:
    keep_only(config)
    data = config.data.model_copy(update={"folder": tmp_path / "none"})
    found = verified(config.model_copy(update={"data": data}), AGAIN)
    assert wrong(found) == []
    assert found.exit_status == 3
    reasons = [f.reason for f in found.findings if f.verdict == "not checked"]
    # three records, and each of them again
    assert len(reasons) == 6
    assert all("digits is not prepared here" in reason for reason in reasons)


def test_evaluations_that_take_too_long_are_named_and_left_out(config: Config) -> None:
    keep_only(config)
    found = verified(config, Sample(records=2, images=8, minutes=1e-9, seed=0))
    (finding,) = (f for f in found.findings if f.verdict == "not checked")
    assert "3 of 3 evaluations would take" in finding.reason
    assert "--max-minutes" in finding.reason


def test_the_sample_is_the_seeds(config: Config) -> None:
    keep_only(config)

    def drawn(seed: int) -> list[str]:
        found = verified(config, Sample(records=1, images=8, minutes=10, seed=seed))
        return [f.path for f in found.findings if "(again)" in f.path]

    assert drawn(1) == drawn(1)
    assert len({drawn(seed)[0] for seed in range(6)}) > 1


def test_a_state_left_over_hides_nothing_of_a_finished_run(config: Config) -> None:
    keep_only(config)
    (state,) = paths.cell_folder(config, UNFINISHED).glob("state-*")
    shutil.copy(state, folder_of(config))
    found = {finding.path: finding for finding in verified(config).findings}
    assert "3 checkpoints, 3 epochs" in found[f"cells/{CELL}"].reason
    assert "left over by a finished run" in found[f"cells/{CELL}/{state.name}"].reason
    (folder_of(config) / state.name).write_bytes(b"damaged")
    found = {finding.path: finding for finding in verified(config).findings}
    assert found[f"cells/{CELL}"].verdict == "stands"
    assert found[f"cells/{CELL}/{state.name}"].verdict == "damaged"


def test_what_is_being_written_is_no_result(config: Config) -> None:
    """A process that was killed leaves a part and its lock."""
    keep_only(config)
    part = folder_of(config) / ".xyz.part"
    part.mkdir()
    (part / "alive").touch()
    (part / "trace.parquet").write_bytes(b"half")
    found = verified(config)
    assert found.exit_status == 0
    assert not any(".part" in finding.path for finding in found.findings)


def test_settings_of_others(config: Config) -> None:
    """Results of other settings are whole, and not what these settings give; nor attacked again."""
    keep_only(config, "tables/table1.csv")
    found = verified(override(config, {"train.validation.epsilon": 0.15}), AGAIN)
    findings = {f.path: f for f in found.findings}
    for name in (f"cells/{CELL}", f"cells/{CELL}/records/pgd20-seed0.npz"):
        assert findings[name].verdict == "not checked"
        assert "of other settings than this configuration's" in findings[name].reason
    assert findings["tables/table1.csv"].verdict == "differs"
    assert findings["re-evaluation"].verdict == "not checked"
    assert not any("(again)" in name for name in findings)


def test_a_record_of_an_easier_attack_than_its_name_says(config: Config) -> None:
    def easier(record: Record) -> None:
        record.info["spec"]["attack"]["steps"] = 1
        record.info["digest"] = EvaluationSpec.model_validate(record.info["spec"]).digest

    keep_only(config)
    name = rewritten(config, easier)
    (finding,) = (f for f in verified(config).findings if f.path == name)
    assert finding.verdict == "not checked"
    assert finding.reason == "whole, but of other settings than this configuration's"


def test_a_published_network_is_not_here(config: Config) -> None:
    """Its record is whole and of these settings; that it is of the network nobody can say here."""
    keep_only(config)
    record, folder = read_record(record_file_of(config)), paths.root(config) / "models/digits/x"
    for key in ("training", "checkpoint"):
        del record.info["spec"][key]
    record.info["digest"] = AttackSpec.model_validate(record.info["spec"]).digest
    write_record(folder / "records" / "pgd20-seed0.npz", record)
    outcome = {"evaluated": True, "model_sha256": record.info["model_sha256"]}
    write_json(folder / "pgd20-seed0.json", outcome)
    found = verified(config)
    findings = {f.path: f for f in found.findings}
    finding = findings["models/digits/x/records/pgd20-seed0.npz"]
    assert (finding.verdict, finding.reason) == (
        "not checked",
        "whole, but its weights are not here",
    )
    assert findings["models/digits/x/pgd20-seed0.json"].verdict == "stands"
    assert found.exit_status == 3


@pytest.mark.parametrize("schedule", ["exp", "step", "cosine", "linear"])
def test_learning_rates_of_a_trace_are_the_schedules(config: Config, schedule: str) -> None:
    rates = [(0.5, 0.01), (1.5, 0.2), (2.0, 0.1), (4.0, 0.0)]
    train = config.train.model_copy(update={"epochs": 5, "schedule": schedule, "rates": rates})
    steps = [3, 4, 1, 2, 5]
    each = [
        learning_rate(train, epoch, step, of)
        for epoch, of in enumerate(steps, 1)
        for step in range(of)
    ]
    epochs = np.repeat(np.arange(1, len(steps) + 1), steps)
    within = np.concatenate([np.arange(1, of + 1) / of for of in steps])
    assert np.allclose(learning_rates(train, epochs, within), each, rtol=1e-12, atol=1e-15)


def test_specs_are_read_back_as_they_were(config: Config) -> None:
    told = read_json(paths.run_file(folder_of(config)))
    assert TrainingSpec.model_validate(told["spec"]).digest == told["digest"]
    assert NOTHING_AGAIN.records == 0
