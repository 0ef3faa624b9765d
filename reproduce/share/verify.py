"""Check a results folder: checksums, what was made from its records, a sample attacked again."""

import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from reproduce.cell import Cell, parse_cell
from reproduce.claims.statements import judge_claims, write_claims
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.evaluation.records import Record, read_record
from reproduce.experiments import cost, paths
from reproduce.experiments.grids import find_table
from reproduce.experiments.runs import RunInfo, damaged_files, read_run
from reproduce.experiments.spec import (
    AttackSpec,
    EvaluationSpec,
    Spec,
    TrainingSpec,
    evaluation_spec,
    training_spec,
)
from reproduce.figures import draw
from reproduce.registry import dataset_facts
from reproduce.results.frames import collect, write_results
from reproduce.tables.diff import build_diff, write_diff
from reproduce.tables.write import write_checkpoints, write_table

S = TypeVar("S", bound=Spec)

Verdict = Literal["ok", "mismatch", "corrupt", "skipped"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_SUMMARIES = {
    0: "all results are ok",
    1: "some results are not ok",
    3: "all results that could be checked are ok",
}
_OTHER_SETTINGS = "its settings are not those of this configuration"

_DERIVED = ("tables/*.csv", "tables/*.md", "tables/*.tex", "diff/*.csv", "figures/*.csv")
# what is made from runs and records, and what nothing is made from
_NOT_LINKED = shutil.ignore_patterns(
    *("tables", "diff", "figures", "claims.json", "results.parquet", "report.html"),
    *("logs", "superseded", "tensorboard", ".*"),
)
# other versions of libraries may round statistics otherwise
_ROUNDING = 1e-9
# shares of the images whose prediction other hardware may change: few by rounding alone; on another
# kind of device the attack also begins at other random points
_OTHER_ROUNDING, _OTHER_STARTS = 0.02, 0.15
# seconds of a forward pass, to leave out what would take hours
_SPEEDS = {"cpu": cost.Speed(100e-6, 2e10), "cuda": cost.Speed(200e-6, 1e13)}


class Finding(NamedTuple):
    """The verdict on one result, its path in the folder, and the reason."""

    verdict: Verdict
    path: str
    reason: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class Sample(NamedTuple):
    """The records that are attacked again: how many, on how many images, within which time."""

    records: int = 3
    images: int = 64
    minutes: float = 10.0
    seed: int = 0


def exit_status(findings: Sequence[Finding]) -> int:
    """Return 0 if all is ok, 1 if something is not, 3 if something could not be checked."""
    found = {finding.verdict for finding in findings}
    if found & {"mismatch", "corrupt"}:
        return 1
    return 0 if found == {"ok"} else 3


def summary(findings: Sequence[Finding]) -> str:
    """Return the verdict on a whole folder, with the number of each verdict."""
    counts = Counter(finding.verdict for finding in findings)
    listed = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    return f"{_SUMMARIES[exit_status(findings)]}: {listed}"


def verify_folder(
    config: Config, folder: Path, sample: Sample, say: Callable[[str], None]
) -> Iterator[Finding]:
    """Yield a verdict on every result of a preset's folder, in which nothing is changed.

    `config` is the configuration of the results; `say` is told what is attacked before it is.
    A folder without results raises HarnessError.
    """
    if not (folder / "cells").is_dir():
        raise HarnessError(
            f"{folder} holds no results; give the folder of a preset, such as results/demo"
        )
    with tempfile.TemporaryDirectory(prefix="reproduce-verify-") as work:
        # what is made again goes beside links to what it is made from
        links = config.model_copy(update={"results": Path(work, "results")})
        root = paths.root(links)
        shutil.copytree(folder.resolve(), root, copy_function=os.symlink, ignore=_NOT_LINKED)
        verifier = _Verifier(links, say)
        for findings in (
            verifier.check_runs(),
            verifier.check_records(),
            verifier.attack_again(sample),
            _check_derived(links, folder),
        ):
            for verdict, path, reason in findings:
                yield Finding(verdict, path, reason.replace(f"{root}/", ""))


class _Attacked(NamedTuple):
    """A record that is ok, of a checkpoint that is here."""

    name: str
    record: Record
    spec: EvaluationSpec
    cell: Cell


class _Verifier:
    """The runs and records of a folder that were found whole so far."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self._config, self._say = config, say
        self._root = paths.root(config)
        self._runs: dict[Path, RunInfo] = {}
        self._records: list[_Attacked] = []
        self._images: dict[str, tuple[str, NDArray[np.integer]]] = {}

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def check_runs(self) -> Iterator[Finding]:
        """Compare the files of every run with the checksums in its run.json."""
        for folder in sorted(self._root.glob("cells/*/*/*/*/*")):
            try:
                yield from self._check_run(folder)
            except HarnessError as error:
                yield Finding("corrupt", self._name(folder), str(error))

    def _check_run(self, folder: Path) -> Iterator[Finding]:
        name, run = self._name(folder), read_run(folder)
        cell = parse_cell(name.removeprefix("cells/"))
        if run is None:
            yield Finding("skipped", name, "it is not finished: it has no run.json")
            return
        spec = _spec(TrainingSpec, read_json(paths.run_file(folder)))
        if (spec.cell, spec.digest) != (cell.id, run.digest):
            raise HarnessError("the settings in run.json are of another cell or digest")
        damaged = damaged_files(folder, run)
        for path in damaged:
            problem = "its SHA-256 is not the one in run.json" if path.is_file() else "is missing"
            yield Finding("corrupt", self._name(path), problem)
        if damaged:
            return
        found = _final_lambda(pd.read_parquet(paths.trace_file(folder)))
        if not math.isclose(found, run.final_lambda, rel_tol=1e-5, abs_tol=1e-6):  # float32
            raise HarnessError("the final lambda in run.json is not that of its trace")
        self._runs[folder] = run
        if _digest(lambda: training_spec(self._config, cell)) != run.digest:
            yield Finding("skipped", name, _OTHER_SETTINGS)
        else:
            yield Finding("ok", name, f"{len(run.kept)} of {len(run.models)} checkpoints are here")

    def check_records(self) -> Iterator[Finding]:
        """Compare every record with its summary, its run and the test images."""
        for pattern in ("cells/*/*/*/*/*/records*/*.*", "models/*/*/records*/*.*"):
            files = [p for p in self._root.glob(pattern) if p.suffix in (".npz", ".json")]
            for path in sorted({file.with_suffix(".npz") for file in files}):
                yield Finding(*self._check_record(path, self._name(path)))

    def _check_record(self, path: Path, name: str) -> tuple[Verdict, str, str]:
        folder = path.parent.parent
        kind, *place = self._name(folder).split("/")
        try:
            cell = parse_cell("/".join(place)) if kind == "cells" else None
            record = read_record(path)
            spec = _spec(AttackSpec if cell is None else EvaluationSpec, record.info)
            metrics = record.metrics
        except HarnessError as error:
            return "corrupt", name, str(error)
        checkpoint = spec.checkpoint if isinstance(spec, EvaluationSpec) else "best-test"
        label = spec.attack.label(spec.name)
        expected = paths.record_file(folder, checkpoint, label, spec.seed)
        if path != expected or record.info["digest"] != spec.digest:
            return "corrupt", name, "the settings in its summary are of another name or digest"
        if record.info.get("metrics") != metrics.as_dict():
            return "corrupt", name, "the metrics in its summary are not those of its predictions"
        try:
            problem = None
            if isinstance(spec, EvaluationSpec):
                problem = _other_run(record, spec, self._runs.get(folder))
            problem = problem or self._other_images(record, spec, place[0])
        except HarnessError as error:
            return "skipped", name, str(error)
        if problem is not None:
            return "mismatch", name, problem
        if cell is None or not isinstance(spec, EvaluationSpec):
            return "skipped", name, "the network that was attacked is not in this folder"
        arguments = (cell, spec.name, spec.seed, spec.checkpoint)
        if _digest(lambda: evaluation_spec(self._config, *arguments)) != spec.digest:
            return "skipped", name, _OTHER_SETTINGS
        if checkpoint in self._runs[folder].kept:
            self._records.append(_Attacked(name, record, spec, cell))
        return "ok", name, str(metrics)

    def _other_images(self, record: Record, spec: AttackSpec, dataset: str) -> str | None:
        """Say what of a record contradicts the prepared images; None if nothing does."""
        if dataset not in self._images:
            from reproduce.data.sources import load_prepared

            path = paths.prepared_file(self._config, dataset)
            if not path.is_file():
                raise HarnessError(f"{dataset} is not prepared: `reproduce prepare {dataset}`")
            prepared = load_prepared(path)
            self._images[dataset] = prepared.sha256, np.asarray(prepared.test.labels)
        sha256, labels = self._images[dataset]
        if _images_of(record) != sha256:
            return f"it is of other images than {dataset} as prepared here"
        index = record.index
        if index.max() >= len(labels) or not np.array_equal(labels[index], record.label):
            return "its labels are not those of the test images"
        if len(index) != (spec.images or len(labels)):
            return f"it has {len(index)} images, its settings ask for {spec.images or len(labels)}"
        return None

    def attack_again(self, sample: Sample) -> Iterator[Finding]:
        """Attack a sample of the checkpoints again and compare image by image."""
        left, done = 60 * sample.minutes, 0
        generator = np.random.default_rng(sample.seed)
        for attacked in _shuffled(self._records, generator):
            if done == sample.records:
                break
            size = attacked.spec.shard or min(sample.images, len(attacked.record.index))
            shard = int(generator.integers(math.ceil(len(attacked.record.index) / size)))
            seconds = _estimated_seconds(self._config, attacked, size)
            if seconds > left:
                continue
            left, done = left - seconds, done + 1
            self._say(f"attacking {size} images again: {attacked.name}")
            try:
                verdict, reason = self._attack(attacked, size, shard)
            except HarnessError as error:
                verdict, reason = "skipped", str(error)
            yield Finding(verdict, f"{attacked.name} (again)", reason)
        left_out = min(sample.records, len(self._records)) - done
        if left_out:
            reason = f"{left_out} more would take longer than --max-minutes {sample.minutes:g}"
            yield Finding("skipped", "attacks made again", reason)
        elif sample.records and not self._records:
            reason = "no record that is ok has its checkpoint here"
            yield Finding("skipped", "attacks made again", reason)

    def _attack(self, attacked: _Attacked, size: int, shard: int) -> tuple[Verdict, str]:
        from reproduce.compute.device import acquire_device
        from reproduce.evaluation.attack import Job, Worker
        from reproduce.models.load import ModelSource

        _, record, spec, cell = attacked
        weights = paths.model_file(paths.cell_folder(self._config, cell), spec.checkpoint)
        job = Job(
            spec=spec,
            source=ModelSource(cell.dataset, cell.architecture, weights),
            model_sha256=record.info["model_sha256"],
            prepared=paths.prepared_file(self._config, cell.dataset),
            shard=size,
            machine=self._config.machine,
        )
        with acquire_device(self._config.machine) as device:
            ours = Worker(job, device).run(shard)
        rows = slice(shard * size, (shard + 1) * size)
        keys = ("index", "label", "clean", "adversarial")
        theirs = {key: getattr(record, key)[rows] for key in keys}
        return compare_predictions(
            vars(ours), theirs, ours.info["piece"], record.info.get("pieces", [])
        )


def _final_lambda(trace: pd.DataFrame) -> float:
    return float(trace.loc[trace["epoch"] == trace["epoch"].max(), "lambda"].mean())


def _spec(kind: type[S], told: dict[str, Any]) -> S:
    """Read the settings in run.json or a summary."""
    try:
        return kind.model_validate(told.get("spec"))
    except ValidationError as error:
        raise HarnessError("its settings are damaged") from error


def _digest(spec: Callable[[], Spec]) -> str | None:
    """Return the digest of what the configuration asks for; None if it has no such thing."""
    try:
        return spec().digest
    except HarnessError:
        return None


def _images_of(record: Record) -> str | None:
    """Return the checksum of the images that a record says it is of."""
    return (record.info.get("data") or {}).get("sha256")


def _other_run(record: Record, spec: EvaluationSpec, run: RunInfo | None) -> str | None:
    """Say what of a record contradicts the run in its folder; None if nothing does."""
    if run is None:
        return "the run in its folder is not whole"
    if spec.training != run.digest:
        return "it is of a run with other settings"
    if record.info["model_sha256"] != run.models.get(spec.checkpoint):
        return "it is of other weights than its run's"
    if _images_of(record) != run.data.sha256:
        return "it is of other images than its run"
    return None


def _shuffled(records: list[_Attacked], generator: np.random.Generator) -> list[_Attacked]:
    """Return records in random order, each of another checkpoint while there are any."""
    seen: Counter[str] = Counter()
    turns = []
    for number in generator.permutation(len(records)):
        weights = records[number].record.info["model_sha256"]
        turns.append((seen[weights], records[number]))
        seen[weights] += 1
    return [record for _, record in sorted(turns, key=lambda turn: turn[0])]


def _estimated_seconds(config: Config, attacked: _Attacked, images: int) -> float:
    facts = dataset_facts(attacked.cell.dataset)
    speed = _SPEEDS["cpu" if config.machine.device == "cpu" else "cuda"]
    passes = images * cost.attack_passes(attacked.spec.attack, facts.classes)
    return passes * speed.seconds(cost.forward_operations(attacked.cell.architecture, facts))


def compare_predictions(
    ours: dict[str, NDArray[Any]],
    theirs: dict[str, NDArray[Any]],
    here: dict[str, Any],
    there: Sequence[dict[str, Any]],
) -> tuple[Verdict, str]:
    """Compare two evaluations of the same images by one network.

    `ours` and `theirs` hold index, label, clean and adversarial; `here` says what computed ours,
    `there` what computed each part of theirs.  On one processor with the same versions they have
    the same bits.  Other hardware rounds otherwise, and CPU and CUDA draw other random starts:
    there some predictions may differ.
    """
    if any(not np.array_equal(ours[key], theirs[key]) for key in ("index", "label")):
        return "mismatch", "its images or labels are not those of the test set"
    clean = ours["clean"] != theirs["clean"]
    changed = ours["index"][clean | (ours["adversarial"] != theirs["adversarial"])]
    if not len(changed):
        return "ok", f"all {len(clean)} images as recorded"
    robust, recorded = (
        (a["clean"] == a["label"]) & (a["adversarial"] == a["label"]) for a in (ours, theirs)
    )
    reason = (
        f"{len(changed)} of {len(clean)} images differ (first: {changed[0]}), {robust.sum()} "
        f"robust here, {recorded.sum()} recorded"
    )
    if here["device"] == "cpu" and all(_processor(one) == _processor(here) for one in there):
        return "mismatch", f"{reason}, on the same processor and versions"
    alike = all(one.get("device") == here["device"] for one in there)
    few = max(1, round(_OTHER_ROUNDING * len(clean)))
    most = few if alike else max(1, round(_OTHER_STARTS * len(clean)))
    if clean.sum() > few or (robust ^ recorded).sum() > most:
        return "mismatch", f"{reason}, more than other hardware or versions explain"
    return "ok", f"{reason}, as other hardware or versions may give"


def _processor(part: dict[str, Any]) -> tuple[Any, ...]:
    """Return what decides how numbers are rounded."""
    torch = part.get("versions", {}).get("torch")
    return part.get("device"), part.get("name"), part.get("threads"), part.get("compiled"), torch


def _check_derived(config: Config, folder: Path) -> Iterator[Finding]:
    """Make tables, comparisons, figures and claims again, and compare them with the folder's."""
    given = sorted(path for pattern in _DERIVED for path in folder.glob(pattern))
    given += [folder / "claims.json", folder / "results.parquet"]
    problems: dict[tuple[str, str], str | None] = {}
    for path in given:
        name = path.relative_to(folder)
        if not path.is_file() or path.name.startswith("."):
            continue
        kind = name.parts[0], name.stem
        if kind not in problems:
            problems[kind] = _make_again(config, *kind)
        made, problem = paths.root(config) / name, problems[kind]
        if problem is not None or not made.is_file():
            reason = problem or "there is nothing to make it from"
            yield Finding("skipped", name.as_posix(), reason)
            continue
        try:
            difference = _difference(made, path)
        except (HarnessError, OSError, ValueError) as error:
            yield Finding("corrupt", name.as_posix(), " ".join(str(error).split()))
            continue
        verdict: Verdict = "mismatch" if difference else "ok"
        yield Finding(verdict, name.as_posix(), difference or "the same when made again")


def _make_again(config: Config, kind: str, name: str) -> str | None:
    """Make a derived file from the runs and records; say why where that is impossible."""
    try:
        if kind == "tables" and name == "checkpoints":
            write_checkpoints(config)
        elif kind == "tables":
            table = find_table(config, name)
            write_table(config, table, collect(config, table))
        elif kind == "diff":
            table = find_table(config, name)
            write_diff(config, table, build_diff(config, table, collect(config, table)))
        elif kind == "figures":
            draw(config, name)
        elif kind == "claims.json":
            write_claims(config, judge_claims(config))
        else:
            write_results(config)
    except HarnessError as error:
        return str(error)
    return None


def _difference(ours: Path, theirs: Path) -> str | None:
    """Say how a derived file differs from the one made here; None if it does not."""
    if ours.suffix == ".json":
        same = _alike(read_json(ours), read_json(theirs))
        return None if same else "its verdicts or effects are not those of the records"
    if ours.suffix == ".parquet":
        try:
            frames = pd.read_parquet(ours), pd.read_parquet(theirs)
        except Exception as error:  # of a damaged file pyarrow raises many kinds
            raise HarnessError(f"it cannot be read: {error}") from error
        try:
            pd.testing.assert_frame_equal(*frames, rtol=_ROUNDING, check_dtype=False)
        except AssertionError as error:
            return "the records give other rows: " + " ".join(str(error).split())
        return None
    # git and archives may have changed the line ends
    made, given = (
        path.read_bytes().replace(b"\r\n", b"\n").decode().split("\n") for path in (ours, theirs)
    )
    for number, (here, there) in enumerate(zip(made, given, strict=False), 1):
        if here != there:
            return f"line {number} is {there[:200]!r}, made from the records {here[:200]!r}"
    if len(made) != len(given):
        return f"it has {len(given)} lines, made from the records {len(made)}"
    return None


def _alike(ours: Any, theirs: Any) -> bool:
    """Say whether two JSON values are equal, numbers to rounding."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_alike(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return type(ours) is type(theirs) and bool(ours == theirs)
