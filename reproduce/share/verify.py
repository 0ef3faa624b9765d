"""Check a results folder: checksums, what was made from its records, a sample attacked again."""

import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import zip_longest
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

_OTHER_SETTINGS = "its settings are not those of this configuration"
_DERIVED = (
    *("tables/*.csv", "tables/*.md", "tables/*.tex", "diff/*.csv", "figures/*.csv"),
    *("claims.json", "results.parquet"),
)
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


class _NotOk(HarnessError):
    """Why a result is not ok; any other `HarnessError` says that it is corrupt."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict


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
    said = {0: "all results are ok", 1: "some results are not ok"}
    return f"{said.get(exit_status(findings), 'all that could be checked is ok')}: {listed}"


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
        verifier = _Verifier(links)
        for run in sorted(root.glob("cells/*/*/*/*/*")):
            yield verifier.finding(run, verifier.check_run)
        files = [*root.glob("cells/*/*/*/*/*/records*/*"), *root.glob("models/*/*/records*/*")]
        records = {file.with_suffix(".npz") for file in files if file.suffix in (".npz", ".json")}
        for record in sorted(records):
            yield verifier.finding(record, verifier.check_record)
        yield from verifier.attack_again(sample, say)
        for file in (file for pattern in _DERIVED for file in sorted(folder.glob(pattern))):
            made = root / file.relative_to(folder)
            if not file.name.startswith("."):
                yield verifier.finding(made, partial(verifier.check_derived, file))


class _Attacked(NamedTuple):
    """A record that is ok, of weights that are here."""

    path: Path
    cell: Cell
    spec: EvaluationSpec
    record: Record


class _Verifier:
    """The results under `config`, and the runs and records that were found whole so far."""

    def __init__(self, config: Config) -> None:
        self._config, self._root = config, paths.root(config)
        self._runs: dict[Path, RunInfo] = {}
        self._attacked: list[_Attacked] = []
        self._images = cache(partial(_prepared_images, config))

    def finding(self, path: Path, check: Callable[[Path], str], suffix: str = "") -> Finding:
        """Check one result."""
        verdict: Verdict = "ok"
        try:
            reason = check(path)
        except _NotOk as error:
            verdict, reason = error.verdict, str(error)
        except HarnessError as error:
            verdict, reason = "corrupt", str(error)
        name = path.relative_to(self._root).as_posix()
        return Finding(verdict, name + suffix, reason.replace(f"{self._root}/", ""))

    def check_run(self, folder: Path) -> str:
        """Compare the files of a run with the checksums in its run.json."""
        run, cell = read_run(folder), parse_cell("/".join(folder.parts[-5:]))
        if run is None:
            raise _NotOk("skipped", "it is not finished: it has no run.json")
        spec = _read_spec(TrainingSpec, read_json(paths.run_file(folder)))
        if (spec.cell, spec.digest) != (cell.id, run.digest):
            raise HarnessError("the settings in run.json are of another cell or digest")
        if damaged := ", ".join(path.name for path in damaged_files(folder, run)):
            raise HarnessError(f"{damaged}: missing, or not as run.json says")
        trace = pd.read_parquet(paths.trace_file(folder))
        ends_with = trace.loc[trace["epoch"] == trace["epoch"].max(), "lambda"].mean()
        if not math.isclose(ends_with, run.final_lambda, rel_tol=1e-5, abs_tol=1e-6):  # float32
            raise HarnessError("the final lambda in run.json is not that of its trace")
        self._runs[folder] = run
        if training_spec(self._config, cell).digest != run.digest:
            raise _NotOk("skipped", _OTHER_SETTINGS)
        return f"{len(run.kept)} of {len(run.models)} checkpoints are here"

    def check_record(self, path: Path) -> str:
        """Compare a record with its summary, its run and the test images."""
        record, folder = read_record(path), path.parent.parent
        kind, dataset, *_ = path.relative_to(self._root).parts
        if record.info.get("metrics") != record.metrics.as_dict():
            raise HarnessError("the metrics in its summary are not those of its predictions")
        if kind == "models":
            raise _NotOk("skipped", "the network that was attacked is not in this folder")
        spec, run = _read_spec(EvaluationSpec, record.info), self._runs.get(folder)
        label = spec.attack.label(spec.name)
        expected = paths.record_file(folder, spec.checkpoint, label, spec.seed)
        if path != expected or record.info["digest"] != spec.digest:
            raise HarnessError("the settings in its summary are of another name or digest")
        made = spec.training, record.info["model_sha256"], _images_of(record)
        if run is None or made != (run.digest, run.models.get(spec.checkpoint), run.data.sha256):
            raise _NotOk("mismatch", "it is not of the settings, weights and images of its run")
        self._check_images(record, spec, dataset)
        cell = parse_cell("/".join(folder.parts[-5:]))
        if not _is_asked_for(self._config, cell, spec):
            raise _NotOk("skipped", _OTHER_SETTINGS)
        if spec.checkpoint in run.kept:
            self._attacked.append(_Attacked(path, cell, spec, record))
        return str(record.metrics)

    def _check_images(self, record: Record, spec: EvaluationSpec, dataset: str) -> None:
        """Compare a record with the images that are prepared here."""
        prepared, index = self._images(dataset), record.index
        if prepared is None:
            raise _NotOk("skipped", f"{dataset} is not prepared: `reproduce prepare {dataset}`")
        sha256, labels = prepared
        if _images_of(record) != sha256 or index.max() >= len(labels):
            raise _NotOk("mismatch", "it is of other images than those prepared here")
        if len(index) != (spec.images or len(labels)):
            raise _NotOk("mismatch", "it has more or fewer images than its settings ask for")
        if (labels[index] != record.label).any():
            raise _NotOk("mismatch", "its labels are not those of the test images")

    def attack_again(self, sample: Sample, say: Callable[[str], None]) -> Iterator[Finding]:
        """Attack a sample of the checkpoints again and compare image by image."""
        generator = np.random.default_rng(sample.seed)
        weights = pd.Series([one.record.info["model_sha256"] for one in self._attacked], dtype=str)
        weights = weights.sample(frac=1, random_state=generator)
        # each of another checkpoint while there are any
        order = weights.groupby(weights).cumcount().sort_values(kind="stable").index
        left, done = 60 * sample.minutes, 0
        for attacked in (self._attacked[place] for place in order):
            images = len(attacked.record.index)
            size = attacked.spec.shard or min(sample.images, images)
            shard = int(generator.integers(math.ceil(images / size)))
            seconds = _estimated_seconds(self._config, attacked, size)
            if done < sample.records and seconds <= left:
                left, done = left - seconds, done + 1
                say(f"attacking {size} images again: {attacked.path.relative_to(self._root)}")
                check = partial(self._check_attack, attacked, size, shard)
                yield self.finding(attacked.path, check, " (again)")
        if done < min(sample.records, len(self._attacked)):
            reason = f"the others would take longer than --max-minutes {sample.minutes:g}"
            yield Finding("skipped", "attacks made again", reason)
        elif sample.records and not self._attacked:
            reason = "no record that is ok has its checkpoint here"
            yield Finding("skipped", "attacks made again", reason)

    def _check_attack(self, attacked: _Attacked, size: int, shard: int, _: Path) -> str:
        from reproduce.compute.device import acquire_device
        from reproduce.evaluation.attack import Job, Worker
        from reproduce.models.load import ModelSource

        cell, spec, record = attacked.cell, attacked.spec, attacked.record
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
        there = record.info.get("pieces", [])
        verdict, reason = compare_predictions(vars(ours), theirs, ours.info["piece"], there)
        if verdict != "ok":
            raise _NotOk(verdict, reason)
        return reason

    def check_derived(self, given: Path, made: Path) -> str:
        """Make a table, comparison, figure or other file again, and compare it with the given."""
        try:
            if not made.is_file():
                _make_again(self._config, made.relative_to(self._root))
        except HarnessError as error:
            raise _NotOk("skipped", str(error)) from error
        if not made.is_file():
            raise _NotOk("skipped", "there is nothing to make it from")
        try:
            difference = _difference(made, given)
        except Exception as error:  # of a damaged file pandas and pyarrow raise many kinds
            raise HarnessError(f"it cannot be read: {error}") from error
        if difference is not None:
            raise _NotOk("mismatch", difference)
        return "the same when made again"


def _read_spec(kind: type[S], told: dict[str, Any]) -> S:
    """Read the settings in run.json or a summary."""
    try:
        return kind.model_validate(told.get("spec"))
    except ValidationError as error:
        raise HarnessError("its settings are damaged") from error


def _prepared_images(config: Config, dataset: str) -> tuple[str, NDArray[np.integer]] | None:
    """Return the checksum of the prepared images and the labels of the test images."""
    from reproduce.data.sources import load_prepared

    path = paths.prepared_file(config, dataset)
    if not path.is_file():
        return None
    prepared = load_prepared(path)
    return prepared.sha256, np.asarray(prepared.test.labels)


def _images_of(record: Record) -> str | None:
    return (record.info.get("data") or {}).get("sha256")


def _is_asked_for(config: Config, cell: Cell, spec: EvaluationSpec) -> bool:
    """Say whether the configuration means the same by this evaluation."""
    try:
        asked = evaluation_spec(config, cell, spec.name, spec.seed, spec.checkpoint)
    except HarnessError:  # it has no such attack
        return False
    return asked.digest == spec.digest


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
    """Compare two evaluations of the same images; `here` and `there` say what computed them.

    On one processor with the same versions they have the same bits.  Other hardware rounds
    otherwise, and CPU and CUDA draw other random starts: there some predictions may differ.
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


def _processor(part: dict[str, Any]) -> list[Any]:
    """Return what decides how numbers are rounded."""
    torch = part.get("versions", {}).get("torch")
    return [torch, *(part.get(key) for key in ("device", "name", "threads", "compiled"))]


def _make_again(config: Config, name: Path) -> None:
    """Make a derived file, and what goes with it, from the runs and records."""
    match name.parts[0], name.stem:
        case "tables", "checkpoints":
            write_checkpoints(config)
        case "tables" | "diff", table:
            experiment = find_table(config, table)
            results = collect(config, experiment)
            write_table(config, experiment, results)
            write_diff(config, experiment, build_diff(config, experiment, results))
        case "figures", figure:
            draw(config, figure)
        case "claims.json", _:
            write_claims(config, judge_claims(config))
        case _:
            write_results(config)


def _difference(made: Path, given: Path) -> str | None:
    """Say how a derived file differs from the one made here; None if it does not."""
    if given.suffix == ".json":
        same = _alike(read_json(made), read_json(given))
        return None if same else "its verdicts or effects are not those of the records"
    if given.suffix == ".parquet":
        rows, told = pd.read_parquet(made), pd.read_parquet(given)
        try:
            pd.testing.assert_frame_equal(rows, told, rtol=_ROUNDING, check_dtype=False)
        except AssertionError as error:
            return "the records give other rows: " + " ".join(str(error).split())
        return None
    # universal newlines: git and archives may have changed the line ends
    here, there = (path.read_text("utf-8").split("\n") for path in (made, given))
    for number, (ours, theirs) in enumerate(zip_longest(here, there, fillvalue=""), 1):
        if ours != theirs:
            return f"line {number} is {theirs[:200]!r}, made from the records {ours[:200]!r}"
    return None


def _alike(ours: Any, theirs: Any) -> bool:
    """Say whether two JSON values are equal, numbers to rounding."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_alike(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return bool(ours == theirs)
