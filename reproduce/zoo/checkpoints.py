"""What came of attacking published checkpoints, and when another try is worth it.

The checkpoints are other people's files: they may be missing, come late, be no
checkpoints at all, or be replaced.  What came of a try goes into a small file, the
outcome, together with what the checkpoint's files were like at the time.
"""

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, brief
from reproduce.core.files import read_json, sha256_of_file, write_atomically, write_json
from reproduce.core.tensors import numpy_numbers, read_tensors
from reproduce.core.vision import torchvision
from reproduce.experiments import paths
from reproduce.experiments.paths import zoo_card, zoo_file
from reproduce.experiments.spec import AttackSpec, attack_spec
from reproduce.paper.published import network_of, parse_radius, published_models
from reproduce.registry import check_zoo_id

if TYPE_CHECKING:
    from torch import nn

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


def robustbench(module: str = "robustbench") -> Any:
    """Import RobustBench or one of its modules.

    Its import needs a torchvision that can be imported, a module named ``autoattack``
    (its release on PyPI depends on the same code under the name ``pyautoattack``), and
    ``pkg_resources``, which setuptools no longer brings along.

    Raises
    ------
    HarnessError
        If it, or something it needs, is not installed.
    """
    if sys.modules.get(module) is not None:
        return sys.modules[module]
    torchvision()
    with _stand_ins(), warnings.catch_warnings():
        # of timm's old module names
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("robustbench")
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise HarnessError(
                f"RobustBench cannot be imported, there is no {error.name}; "
                "pip install robustbench brings it and what it needs"
            ) from error


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Provide the two modules by name inside, unless they are installed.

    They are taken away again: with a stand-in left behind, the harness would take
    pyautoattack for the original when it is asked for the original.
    """
    missing = [
        name
        for name in ("autoattack", "pkg_resources")
        if name not in sys.modules and importlib.util.find_spec(name) is None
    ]
    try:
        if "autoattack" in missing:
            sys.modules["autoattack"] = importlib.import_module("pyautoattack")
        if "pkg_resources" in missing:
            # it is asked for the place of a list of ImageNet's files, at another time
            sys.modules["pkg_resources"] = ModuleType("pkg_resources")
        yield
    finally:
        for name in list(sys.modules):
            if name.partition(".")[0] in missing:
                del sys.modules[name]


THREAT_MODEL = "Linf"
_WIDE = re.compile(r"WideResNet-(\d+)-(\d+)")


@dataclass(frozen=True)
class ZooCheckpoint:
    """A checkpoint of RobustBench's l_inf zoo, or one exported by this harness.

    Attributes
    ----------
    name : str
        RobustBench's id, such as ``Zhang2019Theoretically``.
    dataset : str
        Data set it was trained on.
    folder : Path
        The zoo: RobustBench's ``model_dir``, with ``<data set>/Linf/<id>.pt`` inside.

    Raises
    ------
    HarnessError
        If the name is no id.
    """

    name: str
    dataset: str
    folder: Path

    def __post_init__(self) -> None:
        check_zoo_id(self.name)

    @property
    def card(self) -> Path:
        """The model card of an exported checkpoint, as RobustBench's ``model_info`` lies."""
        return zoo_card(self.folder, self.dataset, self.name)

    @property
    def exported(self) -> bool:
        """Whether a card says what it is; never so under a name that RobustBench has."""
        return self.card.is_file() and not is_published(self.name)

    @property
    def path(self) -> Path:
        """The file of a checkpoint that is one network."""
        return zoo_file(self.folder, self.dataset, self.name)

    def files(self) -> dict[Path, str]:
        """Return the file, or the files of an ensemble, each with its id at the file host.

        Raises
        ------
        HarnessError
            If RobustBench has no such id, or no file of its own for it.
        """
        if self.exported:
            return {self.path: ""}
        known = _known(self.dataset)
        if self.name not in known:
            near = difflib.get_close_matches(self.name, known, 3) or list(known)[:3]
            raise HarnessError(
                f"RobustBench has no {self.dataset} model {self.name!r} for l_inf; close to it: "
                f"{', '.join(near)}"
            )
        hosted = known[self.name]["gdrive_id"]
        if hosted is None:
            raise HarnessError(f"RobustBench gets {self.name} through timm, it has no file for it")
        if isinstance(hosted, str):
            return {self.path: hosted}
        # RobustBench's names of the members of an ensemble
        return {Path(f"{self.path}_m{number}.pt"): one for number, one in enumerate(hosted)}

    def obtain(self, *, download: bool, say: Callable[[str], None] = print) -> None:
        """See to it that every file is there and is a checkpoint.

        Parameters
        ----------
        download : bool
            Whether a missing file may be downloaded, by RobustBench's code.
        say : callable
            Told what is downloaded.

        Raises
        ------
        HarnessError
            If a file is missing and may not be or could not be downloaded, or is none.
        """
        for path, hosted in self.files().items():
            if path.is_file():
                read_tensors(path)
            elif not (download and hosted):
                other = f" (from {_address(hosted)}), or set data.zoo_download: true"
                raise HarnessError(
                    f"{self.name}: {path} does not exist; put RobustBench's file there"
                    + (other if hosted else "")
                )
            else:
                say(f"{self.name}: downloading {path}")
                write_atomically(path, partial(self._download, hosted))

    def load(self) -> "nn.Module":
        """Return the network, on the CPU, built and filled by RobustBench's code.

        Raises
        ------
        HarnessError
            If a file is missing, is no checkpoint, or belongs to another network.
        """
        for path in self.files():
            # RobustBench reads it once more; what could run code does not get that far
            read_tensors(path)
        if self.exported:
            return self._load_exported()
        load = robustbench("robustbench.utils").load_model
        try:
            with numpy_numbers():
                model = load(self.name, str(self.folder), self.dataset, THREAT_MODEL)
        except (RuntimeError, LookupError, TypeError, AttributeError) as error:
            raise self._of_another(error) from error
        from torch import nn

        if not isinstance(model, nn.Module):
            raise HarnessError(f"RobustBench gives a {type(model).__name__} for {self.name}")
        return model

    def fingerprint(self) -> str:
        """Return a SHA-256 over the id and the bytes of every file.

        Raises
        ------
        HarnessError
            If a file is missing.
        """
        return fingerprint(self.dataset, self.name, self.files())

    def _download(self, hosted: str, part: Path) -> None:
        """Let RobustBench download a file; keep it only if it is a checkpoint."""
        download = robustbench("robustbench.utils").download_gdrive_new
        problem = f"{self.name} could not be downloaded from {_address(hosted)}"
        try:
            download(hosted, part)
        except Exception as error:  # gdown, requests and urllib3 raise many things
            raise HarnessError(f"{problem}: {_reason(error)}") from error
        if not part.is_file():
            raise HarnessError(f"{problem}: the file host gave no file")
        try:
            read_tensors(part)
        except HarnessError as error:
            raise HarnessError(f"{problem}, nothing was kept: {error}") from error

    def _load_exported(self) -> "nn.Module":
        """Build the network that a model card names, and fill it."""
        card = read_json(self.card)
        found = _WIDE.fullmatch(str(card.get("architecture")))
        if found is None:
            raise HarnessError(
                f"{self.card}: architecture {card.get('architecture')!r} is not a WideResNet of "
                "RobustBench's, such as WideResNet-34-10"
            )
        depth, width = int(found[1]), int(found[2])
        state = read_tensors(self.path)
        model = wide_resnet(depth, width, 100 if self.dataset == "cifar100" else 10)
        try:
            model.load_state_dict(state)
        except (RuntimeError, TypeError) as error:
            raise self._of_another(error) from error
        return model.eval()

    def _of_another(self, error: Exception) -> HarnessError:
        return HarnessError(
            f"checkpoint {self.path} does not fit RobustBench's network for {self.name}: "
            f"{_reason(error)}"
        )


def is_published(name: str) -> bool:
    """Say whether RobustBench has a model of this name, for any data set and threat model."""
    if name in published_models():
        return True
    models = robustbench("robustbench.model_zoo").model_dicts
    return any(name in known for threats in models.values() for known in threats.values())


def wide_resnet(depth: int, width: int, classes: int) -> "nn.Module":
    """Build RobustBench's own WideResNet, without the block that is never used."""
    made = robustbench("robustbench.model_zoo.architectures.wide_resnet").WideResNet(
        depth=depth, num_classes=classes, widen_factor=width
    )
    from torch import nn

    if not isinstance(made, nn.Module):
        raise HarnessError(f"RobustBench's WideResNet is a {type(made).__name__}")
    return made


def _reason(error: Exception) -> str:
    """Return an error of other code as one line, ending at a word where it is long."""
    return textwrap.shorten(str(error), 200, placeholder=" ...") or type(error).__name__


def _address(hosted: str) -> str:
    return f"https://drive.google.com/uc?id={hosted}"


def _known(dataset: str) -> Mapping[str, Mapping[str, Any]]:
    """Return RobustBench's register of l_inf models of a data set."""
    enums = robustbench("robustbench.model_zoo.enums")
    try:
        key = enums.BenchmarkDataset(dataset)
    except ValueError:
        names = ", ".join(entry.value for entry in enums.BenchmarkDataset)
        raise HarnessError(f"RobustBench has no models of {dataset!r}; it has: {names}") from None
    models = robustbench("robustbench.model_zoo").model_dicts
    known: Mapping[str, Mapping[str, Any]] = models[key][enums.ThreatModel(THREAT_MODEL)]
    return known


# what tables say where nothing is known
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ZooFacts:
    """What a checkpoint is; None where nothing says it.

    Attributes
    ----------
    architecture : str or None
        Its network in the leaderboard's words, such as ``WideResNet-34-10``.
    extra_data : bool or None
        Whether it was trained with images beyond the data set's.
    epsilon : float or None
        Radius of the numbers that are reported of it, pixels in [0, 1].
    """

    architecture: str | None = None
    extra_data: bool | None = None
    epsilon: float | None = None

    @property
    def network(self) -> str | None:
        """The architecture as cells name it, if they have such, else as the leaderboard does."""
        return network_of(self.architecture or "") or self.architecture

    @property
    def unknown(self) -> list[str]:
        """What nothing says, in words."""
        named = {
            "network": self.architecture,
            "extra images": self.extra_data,
            "epsilon": self.epsilon,
        }
        return [name for name, value in named.items() if value is None]


def zoo_facts(checkpoint: ZooCheckpoint) -> ZooFacts:
    """Look up what a checkpoint is; RobustBench need not be installed.

    zoo.csv comes first.  Of other checkpoints the model card in the zoo's folder is read:
    one that was exported has it, and RobustBench's own may be put there.

    Raises
    ------
    HarnessError
        If the card is damaged, or one of these fields is not what RobustBench writes.
    """
    model = published_models().get(checkpoint.name)
    if model is not None and model.dataset == checkpoint.dataset:
        return ZooFacts(model.architecture, model.extra_data, model.epsilon)
    if not checkpoint.card.is_file():
        return ZooFacts()
    card = read_json(checkpoint.card)
    return ZooFacts(
        _field(checkpoint.card, card, "architecture", str),
        _field(checkpoint.card, card, "additional_data", bool),
        _radius(checkpoint.card, card.get("eps")),
    )


def _field(path: Path, card: dict[str, Any], key: str, kind: type) -> Any:
    """Return a field of a card; None if it is null or left out."""
    value = card.get(key)
    if value is not None and not isinstance(value, kind):
        wanted = {str: "a network's name, such as WideResNet-34-10", bool: "true or false"}[kind]
        raise HarnessError(f"{path}: {key} {brief(value)}: expected {wanted}")
    return value


def _radius(path: Path, told: object) -> float | None:
    if told is None:
        return None
    try:
        return parse_radius(str(told))
    except (ValueError, ZeroDivisionError):
        raise HarnessError(f"{path}: eps {brief(told)}: expected a radius, such as 8/255") from None
