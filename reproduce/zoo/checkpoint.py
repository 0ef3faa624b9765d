"""One published checkpoint: where its file lies, how to get it, the network it holds."""

import difflib
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.catalogue import check_zoo_id
from reproduce.errors import HarnessError
from reproduce.files import read_json, write_atomically
from reproduce.outcomes import fingerprint
from reproduce.paper import published_models
from reproduce.paths import zoo_card, zoo_file
from reproduce.tensors import numpy_numbers, read_tensors
from reproduce.zoo.package import robustbench

if TYPE_CHECKING:  # tables ask where checkpoints lie and load none
    from torch import nn

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
