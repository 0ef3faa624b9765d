"""Networks: built by name, with weights from a file, or by code of the user."""

import copy
import hashlib
import math
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reproduce.core.errors import HarnessError
from reproduce.core.files import sha256_of_file
from reproduce.core.rng import derive, own_random_numbers
from reproduce.core.tensors import expect_file
from reproduce.models.densenet import DenseNetBC
from reproduce.models.resnet50 import ResNet50
from reproduce.models.weights import load_weights
from reproduce.models.wide_resnet import WideResNet
from reproduce.registry import DatasetFacts, dataset_facts, parse_architecture
from reproduce.zoo.checkpoints import ZooCheckpoint


def build_model(architecture: str, facts: DatasetFacts, seed: int = 0) -> nn.Module:
    """Build a network for a data set and initialise it.

    Parameters
    ----------
    architecture : str
        Name such as ``wrn-34-10``.
    facts : DatasetFacts
        Gives the number of classes and of input channels, and the kind of images.
    seed : int
        Picks the initial weights.

    Returns
    -------
    torch.nn.Module
        Maps images in [0, 1], shape (B, channels, H, W), to logits (B, classes).

    Raises
    ------
    HarnessError
        If the architecture is unknown, or made for images of another kind.

    Examples
    --------
    >>> from reproduce.registry import dataset_facts
    >>> model = build_model("wrn-10-1", dataset_facts("cifar10"))
    >>> model(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    shape = parse_architecture(architecture)
    facts.check_architecture(shape)
    with own_random_numbers(torch.device("cpu"), derive(seed, "initialisation")):
        model: nn.Module
        if shape.bottleneck:
            # comes with its own initial weights
            return ResNet50(shape.width, facts.classes)
        if shape.family == "wrn":
            model = WideResNet(shape.depth, shape.width, facts.classes, facts.channels)
        else:
            model = DenseNetBC(shape.depth, int(shape.width), facts.classes, facts.channels)
        # He initialisation by fan-out, as both papers' code; the linear layer keeps its weight
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
    return model


@dataclass(frozen=True)
class ModelSource:
    """How to get a network that classifies a data set: one of four ways.

    Attributes
    ----------
    dataset : str
        Data set whose classes it tells apart.
    architecture : str, optional
        Name such as ``wrn-34-10``, with `weights`.
    weights : Path, optional
        Checkpoint: our .safetensors, or a published .pt or .pth.
    import_path : str, optional
        ``package.module:attribute``, a `torch.nn.Module` or something that returns one when called
        without arguments.
    zoo : ZooCheckpoint, optional
        A checkpoint of RobustBench's zoo.
    module : torch.nn.Module, optional
        A network that is here already.
    """

    dataset: str
    architecture: str | None = None
    weights: Path | None = None
    import_path: str | None = None
    zoo: ZooCheckpoint | None = None
    module: nn.Module | None = None

    @property
    def name(self) -> str:
        """What results of this network go by."""
        if self.zoo is not None:
            return self.zoo.name
        if self.module is not None:
            return type(self.module).__name__
        return self.import_path or f"{Path(str(self.weights)).stem}-{self.architecture}"

    @property
    def ours(self) -> bool:
        """Whether its architecture is built here, not by code from elsewhere."""
        return self.weights is not None

    def load(self, facts: DatasetFacts | None = None) -> nn.Module:
        """Return the network, on the CPU.

        `facts` are those of the data set as it was prepared: a folder says itself how many
        classes it has.
        """
        if self.zoo is not None:
            return self.zoo.load()
        if self.weights is not None:
            if self.architecture is None:
                raise HarnessError("a checkpoint file needs its architecture, such as wrn-34-10")
            model = build_model(self.architecture, facts or dataset_facts(self.dataset))
            load_weights(model, self.weights)
            return model
        # attacks move it to a device and may change its precision
        model = _import_model(self.name) if self.module is None else copy.deepcopy(self.module)
        for key, value in model.state_dict().items():
            if not isinstance(value, Tensor) or is_lazy(value) or value.is_meta:
                raise HarnessError(f"model {self.name!r}: its {key} is no tensor with values")
        return model

    def fingerprint(self) -> str:
        """Return a SHA-256 that tells this network from others.

        Of a checkpoint it is the file's, of one of the zoo also of its id.  Of Python
        code, or of a network itself, it covers the weights, the layers, and the files of
        the module named and of the layers' classes, but not what those import.
        """
        if self.zoo is not None:
            return self.zoo.fingerprint()
        if self.weights is not None:
            expect_file(self.weights)
            return sha256_of_file(self.weights)
        model = self.load()
        state = hashlib.sha256((self.import_path or repr(model)).encode())
        modules = {type(part).__module__ for part in model.modules()}
        if self.import_path is not None:
            modules.add(self.import_path.partition(":")[0])
        for name in sorted(modules):
            file = getattr(sys.modules.get(name), "__file__", None)
            if file is not None and Path(file).is_file():
                state.update(sha256_of_file(Path(file)).encode())
        for key, value in model.state_dict().items():
            state.update(f"{key} {value.dtype} {list(value.shape)}".encode())
            state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return state.hexdigest()


def _import_model(path: str) -> nn.Module:
    """Import what a path names, and call it if it is no network yet."""
    # as `python -m` does: modules in the working folder are found
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = pkgutil.resolve_name(path)
        model = found if isinstance(found, nn.Module) else found()
    except (Exception, SystemExit) as error:  # of the user's code
        raise HarnessError(
            f"model {path!r} cannot be made by package.module:attribute without arguments: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise HarnessError(f"model {path!r} gives a {type(model).__name__}, not a torch.nn.Module")
    return model
