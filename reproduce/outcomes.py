"""What came of attacking published checkpoints, and when another try is worth it.

The checkpoints are other people's files: they may be missing, come late, be no
checkpoints at all, or be replaced.  What came of a try goes into a small file, the
outcome, together with what the checkpoint's files were like at the time.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce import paths
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.files import read_json, sha256_of_file, write_json
from reproduce.specs import AttackSpec, attack_spec

_ABSENT = "absent"


@dataclass(frozen=True)
class PublishedAttack:
    """One attack on one published checkpoint.

    Attributes
    ----------
    config : Config
        The configuration.
    dataset, name : str
        Data set and id of the checkpoint.
    attack : str
        Name of an attack of the configuration.
    seed : int
        Seed of the attack's random start.
    """

    config: Config
    dataset: str
    name: str
    attack: str
    seed: int

    @property
    def spec(self) -> AttackSpec:
        """What the attack does."""
        return attack_spec(self.config, self.attack, self.seed, self.dataset)

    @property
    def record(self) -> Path:
        """Its record."""
        return paths.published_record(*self._place())

    @property
    def outcome(self) -> Path:
        """The file that says what came of it."""
        return paths.published_outcome(*self._place())

    def _place(self) -> tuple[Config, str, str, str, int]:
        label = self.config.eval.label(self.attack)
        return self.config, self.dataset, self.name, label, self.seed

    def _files(self) -> list[Path]:
        """Return the files of the checkpoint that are there."""
        return paths.zoo_files(paths.zoo_folder(self.config.data), self.dataset, self.name)

    def checkpoint(self) -> str:
        """Say what the checkpoint's files are like, by sizes and times: not read for it."""
        files = self._files()
        if not files:
            return _ABSENT
        card = paths.zoo_card(paths.zoo_folder(self.config.data), self.dataset, self.name)
        stats = [path.stat() for path in (*files, *([card] if card.is_file() else []))]
        return ", ".join(f"{stat.st_size} bytes of {stat.st_mtime_ns}" for stat in stats)

    def read(self) -> dict[str, Any]:
        """Return the outcome; empty before the first try.

        Raises
        ------
        HarnessError
            If the file is damaged.
        """
        if not self.outcome.is_file():
            return {}
        found = read_json(self.outcome)
        if type(found.get("attempt", 0)) is not int:
            raise HarnessError(f"{self.outcome} is damaged at 'attempt'; delete it")
        return found

    def attempt(self) -> int:
        """Return the number of the try that is due, from 1: the last one's while none is.

        One is due when the checkpoint's files have changed, when the record was lost,
        and as long as a file is missing and may be downloaded.  Files that cannot be
        used are not tried again while they stay as they are, and what was evaluated
        stays so when its checkpoint goes.

        A job asks before it begins and keeps the answer, so that what it does itself,
        a download say, makes nothing due.
        """
        try:
            before = self.read()
        except HarnessError:  # damaged: `table` says so
            before = {}
        found = self.checkpoint()
        due = found != before.get("checkpoint")
        if before.get("evaluated"):
            due = not self.record.is_file() or (due and found != _ABSENT)
        elif before.get("missing"):
            due = due or self.config.data.zoo_download
        tried: int = before.get("attempt", 0)
        return tried + due

    def keep(self, attempt: int, checkpoint: str, weights: str) -> None:
        """Write that the checkpoint was evaluated.

        Parameters
        ----------
        attempt : int
            What `attempt` said before it began.
        checkpoint : str
            What `checkpoint` said before its files were read.
        weights : str
            Fingerprint of the files.
        """
        self._write(attempt, checkpoint, evaluated=True, reason=None, model_sha256=weights)

    def keep_failure(self, attempt: int, reason: str, *, missing: bool) -> None:
        """Write why the checkpoint cannot be had, and whether for want of a known file."""
        found = self.checkpoint()
        self._write(attempt, found, evaluated=False, reason=reason, missing=missing)

    def _write(self, attempt: int, checkpoint: str, **told: object) -> None:
        about = {"model": self.name, "attempt": attempt, "checkpoint": checkpoint}
        write_json(self.outcome, {**about, **told})

    def problem_with(self, summary: Mapping[str, Any]) -> str | None:
        """Say why the record with this summary does not count, None if it does.

        It must be of these settings, and of the weights that lie there.  Where they are
        gone, of those that were evaluated last.
        """
        if summary.get("digest") != self.spec.digest:
            return "was made with other settings than the configuration's"
        found, before = self.checkpoint(), self.read()
        weights = before.get("model_sha256")
        if found != _ABSENT and (weights is None or found != before.get("checkpoint")):
            weights = fingerprint(self.dataset, self.name, self._files())
        if weights not in (None, summary.get("model_sha256")):
            where = paths.zoo_file(paths.zoo_folder(self.config.data), self.dataset, self.name)
            return f"is of other weights than {where}"
        return None


def fingerprint(dataset: str, name: str, files: Iterable[Path]) -> str:
    """Return a SHA-256 over the id of a published checkpoint and the bytes of its files.

    Raises
    ------
    HarnessError
        If a file is missing.
    """
    state = hashlib.sha256(f"{dataset}/{name}".encode())
    for path in files:
        if not path.is_file():
            raise HarnessError(f"checkpoint {path} does not exist")
        state.update(sha256_of_file(path).encode())
    return state.hexdigest()
