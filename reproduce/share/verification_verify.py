"""A verdict on a whole results folder."""

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.experiments import paths
from reproduce.share.verification_again import Sample, repeat
from reproduce.share.verification_derived import Rebuilt, check_examples, check_lemma
from reproduce.share.verification_finding import Finding, Verification, judged
from reproduce.share.verification_folder import DERIVED, Copied, copy_folder
from reproduce.share.verification_images import Images
from reproduce.share.verification_kinds import Kind
from reproduce.share.verification_records import (
    CheckedRecord,
    check_outcome,
    check_record,
    check_shard,
)
from reproduce.share.verification_runs import CheckedRun, check_run


def verify_folder(
    config: Config,
    folder: Path,
    sample: Sample,
    say: Callable[[str], None],
    tell: Callable[[Finding], object] = lambda _: None,
) -> Verification:
    """Check every file of a results folder, and what they say against each other.

    Nothing in the folder is executed, unpickled, followed or changed.

    Parameters
    ----------
    config : Config
        The configuration whose results they are said to be; where images lie; what to
        attack on.
    folder : Path
        The results folder of one preset.
    sample : Sample
        Which evaluations are done again.
    say : callable
        Told what takes its time.
    tell : callable
        Told every finding as soon as it is made.

    Raises
    ------
    HarnessError
        If it is no folder, or too large for one.
    """
    with tempfile.TemporaryDirectory(prefix="reproduce-verify-") as work:
        copies = config.model_copy(update={"results": Path(work, "results")})
        return _Check(copies, Path(work), sample, say, tell).run(folder)


class _Check:
    """One verification: the checked copy, and what was found so far."""

    def __init__(
        self,
        config: Config,
        work: Path,
        sample: Sample,
        say: Callable[[str], None],
        tell: Callable[[Finding], object],
    ) -> None:
        self._config, self._work, self._sample = config, work, sample
        self._say, self._tell = say, tell
        self._root = paths.root(config)
        self._images = Images(config)
        self._found = Verification(sample.seed)
        self._files: list[Copied] = []

    def run(self, folder: Path) -> Verification:
        """Do all checks, one kind after the other."""
        given = self._work / "given"
        self._files, findings = copy_folder(folder, self._root, given)
        self._add(findings)
        runs = self._runs({finding.path for finding in findings if finding.verdict == "damaged"})
        records = self._records(runs)
        self._others(records)
        self._add(self._again(records))
        rebuilt = Rebuilt(self._config, given)
        self._add(judged(f.name, partial(rebuilt.check, f)) for f in self._of(*DERIVED))
        return self._found

    def _of(self, *kinds: Kind) -> list[Copied]:
        return [file for file in self._files if file.place.kind in kinds]

    def _add(self, findings: Iterable[Finding]) -> None:
        """Keep findings, with the files in them named from the results folder on."""
        for finding in findings:
            reason = finding.reason.replace(f"{self._root}/", "")
            reason = reason.replace(f"{self._work / 'given'}/", "")
            named = Finding(finding.verdict, finding.path, reason)
            self._found.findings.append(named)
            self._tell(named)

    def _drop(self, finding: Finding, *files: Copied) -> None:
        """Take what does not stand out of the copy: nothing is made from it."""
        if finding.verdict in ("damaged", "differs"):
            for file in files:
                file.path.unlink(missing_ok=True)

    def _runs(self, refused: set[str]) -> dict[str, CheckedRun]:
        """Check the training runs; by cell.  `refused` are files that are not opened."""
        cells: dict[str, dict[str, Copied]] = {}
        for file in self._files:
            if "cell" in file.place.parts:
                cell, base = file.place.parts["cell"], Path(file.name).name
                own = cells.setdefault(cell, {})
                # a file of the same name may lie among its records
                if file.name == f"cells/{cell}/{base}":
                    own[base] = file
        found = {}
        for cell, own in cells.items():
            lost = {path for path in refused if path.rpartition("/")[0] == f"cells/{cell}"}
            checked = check_run(self._config, cell, own, {path.rpartition("/")[2] for path in lost})
            for finding in checked.findings:
                self._drop(finding, *(f for f in own.values() if f.name == finding.path))
            self._add(checked.findings)
            found[cell] = checked
        return found

    def _records(self, runs: dict[str, CheckedRun]) -> list[CheckedRecord]:
        """Check records, and take those that do not stand out of the copy."""
        standing = []
        summaries = {file.name: file for file in self._of("summary")}
        for file in self._of("record"):
            summary = summaries.pop(f"{file.name.removesuffix('.npz')}.json", None)
            cell = file.place.parts.get("cell")
            finding, checked = check_record(
                self._config, file, None if cell is None else runs[cell], self._images
            )
            self._drop(finding, file, *([] if summary is None else [summary]))
            self._add([finding])
            if checked is not None:
                standing.append(checked)
        for summary in summaries.values():
            finding = Finding("damaged", summary.name, "its record is not there")
            self._drop(finding, summary)
            self._add([finding])
        return standing

    def _others(self, records: list[CheckedRecord]) -> None:
        """Check blocks of unfinished evaluations, outcomes, the lemma and examples."""
        self._add(judged(file.name, partial(check_shard, file)) for file in self._of("shard"))
        told = {record.file.name.removesuffix(".npz"): record.record.info for record in records}
        infos: dict[str, dict[str, Any]] = {f"{name}.json": info for name, info in told.items()}
        for file in self._of("outcome"):
            self._keep(judged(file.name, partial(check_outcome, file, infos)), file)
        for file in self._of("lemma"):
            self._keep(judged(file.name, partial(check_lemma, self._config, file)), file)
        checksums = [info["record_sha256"] for info in infos.values()]
        about = {file.name: file for file in self._of("examples-info")}
        for file in self._of("examples"):
            pair = about.pop(f"{file.name.removesuffix('.npz')}.json", None)
            finding = judged(file.name, partial(check_examples, file, checksums))
            self._keep(finding, *([file] if pair is None else [file, pair]))
        for file in about.values():
            self._keep(Finding("damaged", file.name, "its images are not there"), file)
        for file in self._of("speeds"):
            self._keep(_readable(file), file)

    def _keep(self, finding: Finding, *files: Copied) -> None:
        self._drop(finding, *files)
        self._add([finding])

    def _again(self, records: list[CheckedRecord]) -> list[Finding]:
        work = self._work / "again"
        return repeat(self._config, records, self._images, self._sample, work, self._say)


def _readable(file: Copied) -> Finding:
    try:
        read_json(file.path)
    except HarnessError as error:
        return Finding("damaged", file.name, str(error))
    # another machine's speeds, which nothing is made from
    file.path.unlink()
    return Finding("stands", file.name)
