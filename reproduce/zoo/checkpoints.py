"""Published checkpoints: RobustBench's l_inf zoo, what is known of them, and attacks on them."""

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, read_model, sha256_of_file, write_atomically
from reproduce.core.tensors import numpy_numbers, read_tensors
from reproduce.core.vision import torchvision
from reproduce.experiments import paths
from reproduce.paper.published import network_of, parse_radius, published_models
from reproduce.registry import check_zoo_id

if TYPE_CHECKING:
    from torch import nn

THREAT_MODEL = "Linf"
# what tables say where nothing is known
UNKNOWN = "unknown"

_HOST = "https://drive.google.com/uc?id="


def robustbench(module: str = "robustbench") -> Any:
    """Import RobustBench or one of its modules; an error says how to install it."""
    if sys.modules.get(module) is not None:
        return sys.modules[module]
    torchvision()
    # Two that it imports and its release on PyPI does not bring: autoattack is pyautoattack there,
    # pkg_resources left setuptools.  Both go again: else the harness would take pyautoattack for
    # the original.
    lent = [
        name
        for name in ("autoattack", "pkg_resources")
        if name not in sys.modules and importlib.util.find_spec(name) is None
    ]
    try:
        for name in lent:
            package = name == "autoattack"
            sys.modules[name] = (
                importlib.import_module("pyautoattack") if package else ModuleType(name)
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of timm's old module names
            importlib.import_module("robustbench")
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise HarnessError(
            f"RobustBench cannot be imported, there is no {error.name}; "
            "pip install robustbench brings it and what it needs"
        ) from error
    finally:
        for name in list(sys.modules):
            if name.partition(".")[0] in lent:
                del sys.modules[name]


@dataclass(frozen=True)
class ZooCheckpoint:
    """A checkpoint of RobustBench's l_inf zoo by its id, or one exported by this harness.

    `folder` is the zoo: RobustBench's ``model_dir``, with ``<data set>/Linf/<id>.pt`` inside.
    """

    name: str
    dataset: str
    folder: Path

    def __post_init__(self) -> None:
        check_zoo_id(self.name)

    @property
    def card(self) -> Path:
        """The model card of an exported checkpoint."""
        return paths.zoo_card(self.folder, self.dataset, self.name)

    @property
    def exported(self) -> bool:
        """Whether a card says what it is; never so under a name that RobustBench has."""
        return self.card.is_file() and not is_published(self.name)

    @property
    def path(self) -> Path:
        """The file of a checkpoint that is one network."""
        return paths.zoo_file(self.folder, self.dataset, self.name)

    def files(self) -> dict[Path, str]:
        """Return the file, or the files of an ensemble, each with its address at the file host."""
        if self.exported:
            return {self.path: ""}
        enums = robustbench("robustbench.model_zoo.enums")
        models = robustbench("robustbench.model_zoo").model_dicts
        names = {entry.value: entry for entry in enums.BenchmarkDataset}
        if self.dataset not in names:
            raise HarnessError(
                f"RobustBench has no models of {self.dataset!r}; it has: {', '.join(names)}"
            )
        known = models[names[self.dataset]][enums.ThreatModel(THREAT_MODEL)]
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
            return {self.path: _HOST + hosted}
        # RobustBench's names of the members of an ensemble
        return {Path(f"{self.path}_m{number}.pt"): _HOST + one for number, one in enumerate(hosted)}

    def obtain(self, *, download: bool, say: Callable[[str], None] = print) -> None:
        """Check that every file is there and is a checkpoint; may download what is missing."""
        for path, address in self.files().items():
            if path.is_file():
                read_tensors(path)
            elif download and address:
                say(f"{self.name}: downloading {path}")
                write_atomically(path, partial(self._download, address))
            else:
                raise HarnessError(
                    f"{path} does not exist; put RobustBench's file there "
                    f"(from {address}), or set data.zoo_download: true"
                )

    def load(self) -> "nn.Module":
        """Return the network, on the CPU, built and filled by RobustBench's code."""
        for path in self.files():
            # RobustBench reads it once more; what could run code does not get that far
            read_tensors(path)
        try:
            if self.exported:
                return self._load_exported()
            utils = robustbench("robustbench.utils")
            with numpy_numbers():
                model: nn.Module = utils.load_model(
                    self.name, str(self.folder), self.dataset, THREAT_MODEL
                )
                return model
        except (RuntimeError, LookupError, TypeError, AttributeError) as error:
            raise HarnessError(
                f"checkpoint {self.path} does not fit RobustBench's network for {self.name}: "
                f"{textwrap.shorten(str(error), 200, placeholder=' ...')}"
            ) from error

    def fingerprint(self) -> str:
        """Return a SHA-256 over the id and the bytes of every file that is there."""
        state = hashlib.sha256(f"{self.dataset}/{self.name}".encode())
        files = paths.zoo_files(self.folder, self.dataset, self.name)
        if not files:
            raise HarnessError(f"checkpoint {self.path} does not exist")
        for path in files:
            state.update(sha256_of_file(path).encode())
        return state.hexdigest()

    def _download(self, address: str, part: Path) -> None:
        """Let RobustBench download a file; keep it only if it is a checkpoint."""
        try:
            robustbench("robustbench.utils").download_gdrive_new(address.removeprefix(_HOST), part)
            read_tensors(part)
        except Exception as error:  # gdown, requests and urllib3 raise many things
            raise HarnessError(
                f"{self.name} could not be downloaded from {address}, nothing was kept: {error}"
            ) from error

    def _load_exported(self) -> "nn.Module":
        """Build the network that a model card names, and fill it."""
        architecture = read_json(self.card).get("architecture")
        found = re.fullmatch(r"WideResNet-(\d+)-(\d+)", str(architecture))
        if found is None:
            raise HarnessError(
                f"{self.card}: architecture {architecture!r} is not a WideResNet of "
                "RobustBench's, such as WideResNet-34-10"
            )
        classes = 100 if self.dataset == "cifar100" else 10
        model = wide_resnet(int(found[1]), int(found[2]), classes)
        model.load_state_dict(read_tensors(self.path))
        return model.eval()


def is_published(name: str) -> bool:
    """Say whether RobustBench has a model of this name, for any data set and threat model."""
    if name in published_models():
        return True
    models = robustbench("robustbench.model_zoo").model_dicts
    return any(name in known for threats in models.values() for known in threats.values())


def wide_resnet(depth: int, width: int, classes: int) -> "nn.Module":
    """Build RobustBench's own WideResNet, without the block that is never used."""
    module = robustbench("robustbench.model_zoo.architectures.wide_resnet")
    model: nn.Module = module.WideResNet(depth=depth, num_classes=classes, widen_factor=width)
    return model


class ZooFacts(BaseModel):
    """What a checkpoint is, as a model card says it; None where nothing does."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, populate_by_name=True)

    architecture: str | None = None
    """Its network as the leaderboard names it, such as ``WideResNet-34-10``."""
    extra_data: bool | None = Field(default=None, alias="additional_data")
    """Whether it was trained with images beyond the data set's."""
    epsilon: float | None = Field(default=None, alias="eps")
    """Radius of the numbers that are reported of it, pixels in [0, 1]."""

    @field_validator("epsilon", mode="before")
    @classmethod
    def _radius(cls, value: object) -> float | None:
        """Read a radius such as 8/255; some of RobustBench's cards have a number."""
        try:
            return None if value is None else parse_radius(str(value))
        except ZeroDivisionError as error:
            raise ValueError("no radius") from error

    @property
    def network(self) -> str | None:
        """The architecture as cells name it, if they have such, else as the leaderboard does."""
        return network_of(self.architecture or "") or self.architecture

    @property
    def unknown(self) -> list[str]:
        """The facts that nothing says."""
        values = (self.architecture, self.extra_data, self.epsilon)
        names = ("network", "extra images", "epsilon")
        return [name for name, value in zip(names, values, strict=True) if value is None]


def zoo_facts(checkpoint: ZooCheckpoint) -> ZooFacts:
    """Look up what a checkpoint is: in zoo.csv, else in its model card in the zoo."""
    model = published_models().get(checkpoint.name)
    if model is not None and model.dataset == checkpoint.dataset:
        return ZooFacts(
            architecture=model.architecture, extra_data=model.extra_data, epsilon=model.epsilon
        )
    return read_model(checkpoint.card, ZooFacts) if checkpoint.card.is_file() else ZooFacts()
