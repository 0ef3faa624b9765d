"""One bit flipped, or the end cut off, in a file of every kind: named, or nothing changes."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reproduce.share.verification_derived import Rebuilt
from reproduce.share.verification_folder import DERIVED, Copied
from reproduce.share.verification_kinds import place_of
from verify_cases import UNFINISHED, copied, verified, wrong

from reproduce.cell import Cell, parse_cell
from reproduce.claims.statements import judge_claims, write_claims
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.data.sources import load_prepared
from reproduce.evaluation.records import read_record
from reproduce.evaluation.shards import Shard, read_shard, write_shard
from reproduce.examples.files import read_files
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.experiments.runs import check_state, damaged_file, find_run, read_run, state_file
from reproduce.experiments.spec import training_spec
from reproduce.figures import draw
from reproduce.lemma.results import read_examination
from reproduce.results.frames import UsableRun, collect, usable_run, write_results
from reproduce.tables.write import write_table

CELL = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
FLIPS, CUTS = 60, 15
VERIFY_FLIPS, VERIFY_CUTS = 9, 3
_SUMMARY = {"digest", "model_sha256", "spec", "parts", "warnings", "pieces", "seconds", "metrics"}


@pytest.fixture(scope="module")
def made(results_of_every_kind: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("flipped")
    config = copied(results_of_every_kind, folder)
    # the images are damaged as well
    images = shutil.copytree(config.data.folder, folder / "data")
    data = config.data.model_copy(update={"folder": images})
    return config.model_copy(update={"data": data})


def _run(config: Config, cell: Cell = CELL) -> UsableRun:
    return usable_run(config, cell)


def _whole_run(config: Config, name: str) -> bytes:
    """Read a checkpoint as an evaluation does: by its checksum."""
    folder = paths.cell_folder(config, CELL)
    run = read_run(folder)
    assert run is not None
    damaged = damaged_file(folder, run)
    if damaged is not None:
        raise HarnessError(f"{damaged} does not match its checksum")
    return (folder / name).read_bytes()


def _record(path: Path) -> tuple[Any, ...]:
    record = read_record(path)
    arrays = (record.index, record.label, record.clean, record.adversarial, record.broken_by)
    told = {k: v for k, v in record.info.items() if k in _SUMMARY}
    return (*(array.tolist() for array in arrays), told)


def _dataset(path: Path) -> tuple[Any, ...]:
    found = load_prepared(path)
    arrays = (found.train.images, found.train.labels, found.test.images, found.test.labels)
    return (*(array.tobytes() for array in arrays), found.source, found.official)


def _examples(path: Path) -> tuple[Any, ...]:
    info, arrays = read_files(path)
    return info, {key: array.tobytes() for key, array in arrays.items()}


def _lemma(config: Config) -> Any:
    found = read_examination(config)
    # of other settings it does not count
    return None if found is None else (found.rows.to_dict("list"), found.about)


def _cases(config: Config) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """Return a file of every kind, and what reads it; what is read can be compared."""
    folder, root = paths.cell_folder(config, CELL), paths.root(config)
    record = paths.record_file(folder, "best-test", "pgd20", 0)
    state = state_file(
        paths.cell_folder(config, UNFINISHED), training_spec(config, UNFINISHED).digest
    )
    images = paths.prepared_file(config, "digits")
    examples = paths.examples_file(config, "digits")
    shard = root / "0000.npz"
    arrays = np.arange(16)
    about = {"seconds": 1.5, "warnings": ["one"], "piece": {"name": "a processor"}}
    keys = ("index", "label", "clean", "adversarial", "broken_by")
    write_shard(shard, Shard(dict.fromkeys(keys, arrays), about), "this")

    def read_block() -> tuple[Any, ...]:
        said: list[str] = []
        found = read_shard(shard, "this", 16, said.append)
        if found is None:
            raise HarnessError(said[0])
        return {key: array.tolist() for key, array in found.arrays.items()}, found.about

    def unfinished() -> Any:
        # a state is loaded only if it passes this
        progress = check_state(state)
        found = find_run(config, training_spec(config, UNFINISHED))
        if found.damage is not None:
            raise HarnessError(found.damage)
        assert found.saved is not None
        return progress, found.saved.rows.tolist()

    keys_of: dict[Path, set[str]] = {}

    def known(file: Path) -> dict[str, Any]:
        """Read what stands there; a flip in the name of its checksum adds a key of no meaning."""
        value = read_json(file)
        wanted = keys_of.setdefault(file, set(value))
        return {key: value.get(key) for key in wanted}

    cases: dict[str, tuple[Path, Callable[[], Any]]] = {
        "model": (folder / "model.safetensors", lambda: _whole_run(config, "model.safetensors")),
        "trace": (folder / "trace.parquet", lambda: _run(config).trace().to_dict("list")),
        "epochs": (folder / "epochs.csv", lambda: _run(config).epochs().to_dict("list")),
        "run": (folder / "run.json", lambda: known(folder / "run.json")),
        "record": (record, lambda: _record(record)),
        "summary": (record.with_suffix(".json"), lambda: _record(record)),
        "shard": (shard, read_block),
        "state": (state, unfinished),
        "examples": (examples, lambda: _examples(examples)),
        "examples-info": (examples.with_suffix(".json"), lambda: _examples(examples)),
        "images": (images, lambda: _dataset(images)),
        "manifest": (images.with_suffix(".json"), lambda: _dataset(images)),
        "lemma": (paths.lemma_file(config), lambda: _lemma(config)),
        "claims": (paths.claims_file(config), lambda: known(paths.claims_file(config))),
    }
    return cases


KINDS = (
    "model",
    "trace",
    "epochs",
    "run",
    "record",
    "summary",
    "shard",
    "state",
    "examples",
    "examples-info",
    "images",
    "manifest",
    "lemma",
    "claims",
)


def damages(whole: bytes, seed: str, flips: int = FLIPS, cuts: int = CUTS) -> Iterator[bytes]:
    """Yield copies with one bit flipped, in every region alike, and copies cut short."""
    stream = random.Random(seed)
    for number in range(flips):
        # the begin and the end hold what says how the rest is read
        region = (
            range(min(256, len(whole))),
            range(max(0, len(whole) - 256), len(whole)),
            range(len(whole)),
        )[number % 3]
        place = region[stream.randrange(len(region))]
        flipped = bytearray(whole)
        flipped[place] ^= 1 << stream.randrange(8)
        yield bytes(flipped)
    for number in range(cuts):
        yield whole[: len(whole) * number // cuts]


def outcome(read: Callable[[], Any], whole: Any, path: Path) -> str:
    """Say what comes of reading: named in a line, or the same as before; else it is silent."""
    try:
        found = read()
    except HarnessError as error:
        # of two files that belong together the one or the other may be named
        clear = path.stem in str(error) and "\n" not in str(error)
        return "named" if clear else f"not clear: {error}"
    return "same" if found == whole else "silent"


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_or_changes_nothing(made: Config, kind: str) -> None:
    path, read = _cases(made)[kind]
    whole, before = path.read_bytes(), read()
    counts: dict[str, int] = {}
    try:
        for damaged in damages(whole, kind):
            path.write_bytes(damaged)
            came = outcome(read, before, path)
            counts[came] = counts.get(came, 0) + 1
    finally:
        path.write_bytes(whole)
    assert counts.keys() <= {"named", "same"}, counts
    # what was cut short is never taken for whole
    assert counts["named"] >= CUTS
    assert read() == before


# of the files that a verification reads for themselves
VERIFIED = ("model", "trace", "epochs", "run", "record", "summary", "state", "examples", "lemma")


@pytest.mark.parametrize("kind", VERIFIED)
def test_a_verification_names_what_a_reader_names(made: Config, kind: str) -> None:
    path, read = _cases(made)[kind]
    root, whole, before = paths.root(made), path.read_bytes(), read()
    (root / "0000.npz").unlink()
    for other in [*root.glob("*/*.*"), *root.glob("*.*")]:
        # making these again is another test's; it takes its time
        if other.is_file() and place_of(str(other.relative_to(root))).kind in DERIVED:
            other.unlink()
    assert verified(made).exit_status == 0
    try:
        for damaged in damages(whole, kind, VERIFY_FLIPS, VERIFY_CUTS):
            path.write_bytes(damaged)
            came, found = outcome(read, before, path), verified(made)
            if came == "named":
                named = {finding.path for finding in wrong(found)}
                assert any(path.stem in name for name in named), damaged
            else:
                assert wrong(found) == []
    finally:
        path.write_bytes(whole)


def test_a_flipped_bit_in_what_is_made_from_results(made: Config) -> None:
    """Tables, figures, verdicts: made again, other bytes never stand but where nothing changed."""
    root = paths.root(made)
    write_claims(made, judge_claims(made))
    write_results(made)
    table = find_experiment(made, "table1")
    write_table(made, table, collect(made, table))
    draw(made, "figure5")
    names = ["tables/table1.csv", "tables/table1.md", "tables/table1.tex", "claims.json"]
    names += ["results.parquet", "figures/figure5.csv", "figures/figure5.svg"]
    given = made.results.parent / "given"
    rebuilt = Rebuilt(made, given)
    counts: dict[str, int] = {}
    for name in names:
        whole, target = (root / name).read_bytes(), given / name
        target.parent.mkdir(parents=True, exist_ok=True)
        for damaged in damages(whole, name):
            target.write_bytes(damaged)
            finding = rebuilt.check(Copied(name, place_of(name), root / name))
            counts[finding.verdict] = counts.get(finding.verdict, 0) + 1
            if finding.verdict == "stands":
                # of a Parquet file, bytes that are not numbers; of JSON, the name of its checksum
                assert name in ("claims.json", "results.parquet"), finding
    tried = len(names) * (FLIPS + CUTS)
    assert sum(counts.values()) == tried
    assert counts["stands"] < tried / 10


def test_frames_are_compared_by_value(made: Config) -> None:
    """The comparison above would see a changed number."""
    frame = _run(made).epochs()
    assert frame.to_dict("list") == _run(made).epochs().to_dict("list")
    frame.iloc[-1, -1] += 1e-9
    assert frame.to_dict("list") != _run(made).epochs().to_dict("list")
