"""Networks: built by name, with weights from files, or made by the user's own module."""

import copy
import hashlib
import importlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reproduce.core.errors import HarnessError, named
from reproduce.core.files import sha256_of_file, write_atomically
from reproduce.core.rng import seeded
from reproduce.core.tensors import SAVE_WEIGHTS, expect_file, read_tensors
from reproduce.models.densenet import DenseNetBC
from reproduce.models.resnet50 import ResNet50
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
    with seeded(seed, "initialisation"):
        model: nn.Module
        if shape.bottleneck:
            # comes with its own initial weights
            return ResNet50(shape.width, facts.classes)
        if shape.family == "wrn":
            model = WideResNet(shape.depth, shape.width, facts.classes, facts.channels)
        else:
            model = DenseNetBC(shape.depth, int(shape.width), facts.classes, facts.channels)
        _initialise(model)
    return model


def _initialise(model: nn.Module) -> None:
    """He initialisation by fan-out, as both papers' code; the linear layer keeps its weight."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


# what wrappers put into names: torch.compile; DataParallel and averaged weights; Lightning and
# other classes around a network; FSDP
_WRAPPERS = {"_orig_mod", "module", "model", "_model", "net", "network", "backbone"} | {
    f"_{name}_module" for name in ("forward", "fsdp_wrapped", "checkpoint_wrapped")
}
# no weights: what the official WideResNet class builds and never calls, the count of averages
_UNUSED = ("sub_block1.", "n_averaged")
# where files that hold other weights too (averaged, a teacher's) keep the network's own
_PLAIN = ("state_dict", "model_state_dict", "model", "net")
# how far within mappings a state dict is looked for
_DEEPEST = 3
_LAYERS = (
    "if that normalises the images or changes them otherwise, attack the whole with "
    f"--model package.module:attribute, else {SAVE_WEIGHTS}"
)


def save_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a state dict as safetensors, atomically, and say in its header what it is.

    Equal weights give equal bytes: the header holds one entry, because safetensors
    writes several in any order.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    header = {"reproduce": json.dumps(about, sort_keys=True)}
    write_atomically(path, lambda part: save_file(plain, part, header))


def read_weights(path: Path) -> Any:
    """Read what a file holds, ours (.safetensors) or a published one (.pt, .pth).

    Which it is, its content says.  A file that would run code is refused; objects beside
    the tensors are passed over.
    """
    expect_file(path)
    with path.open("rb") as handle:
        begin = handle.read(9)
    if begin[8:] != b"{":  # the header's length comes first
        return read_tensors(path, stand_ins=True)
    try:
        return dict(load_file(path))
    except Exception as error:  # of a damaged header there are many
        raise HarnessError(f"checkpoint {path} is cut short or damaged: {named(error)}") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into a network, every tensor of it.

    A published file may hold the state dict within others, under names that wrappers
    of a network give (``module.``, ``_orig_mod.``, ``model.`` ...), and with the unused
    block of the official WideResNet, which is dropped.

    Raises
    ------
    HarnessError
        If the file cannot be read, holds weights that belong to another architecture or
        stand beside layers of their own, or several that fit.
    """
    expected = model.state_dict()
    content = read_weights(path)
    found = dict(_state_dicts(content))
    if not found:
        inside = content if isinstance(content, Mapping) else {"": content}
        kinds = [f"{key} {type(value).__name__}".strip() for key, value in inside.items()]
        raise HarnessError(
            f"checkpoint {path} holds no state dict of tensors alone but "
            f"{', '.join(kinds[:5]) or 'nothing'}; {SAVE_WEIGHTS}"
        )
    fitting, problems = {}, {}
    for place, state in found.items():
        renamed = _under_names_of(expected, state)
        problem = _mismatch(expected, renamed)
        if problem is None:
            fitting[place] = renamed
        else:
            problems[place] = problem
    if not fitting:
        largest = max(problems, key=lambda place: len(found[place]))
        raise HarnessError(f"checkpoint {path} {problems[largest]}")
    own = [place for place in fitting if place.rpartition(".")[2] in _PLAIN]
    chosen = own if len(own) == 1 else list(fitting)
    if len(chosen) > 1:
        raise HarnessError(
            f"checkpoint {path} holds several networks' weights, {', '.join(map(repr, chosen))}; "
            f"save those to be attacked alone"
        )
    try:
        model.load_state_dict(fitting[chosen[0]])
    except RuntimeError as error:  # quantised, sparse or without values
        raise HarnessError(f"checkpoint {path} cannot be loaded: {error}") from error


def _state_dicts(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Give every mapping of tensors alone within a file, with the keys that lead to it."""
    waiting: list[tuple[tuple[object, ...], Any]] = [((), content)]
    seen = set()  # a file may hold one mapping in many places, or in itself
    for keys, value in waiting:
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        if value and all(isinstance(one, Tensor) for one in value.values()):
            yield ".".join(map(str, keys)), {str(key): one for key, one in value.items()}
        elif len(keys) < _DEEPEST:
            waiting += [((*keys, key), one) for key, one in value.items()]


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _under_names_of(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Give tensors the network's names, without what wrappers put into theirs.

    Where two would have one name, all keep their own.
    """
    names = {_bare(key): key for key in expected}
    used = {key: value for key, value in state.items() if not _bare(key).startswith(_UNUSED)}
    renamed = {
        key if key in expected else names.get(_bare(key), key): value for key, value in used.items()
    }
    # published files of old PyTorch versions lack the counters, which nothing reads
    counters = {key: value for key, value in expected.items() if key.endswith("_batches_tracked")}
    return {**counters, **(renamed if len(renamed) == len(used) else used)}


def _mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Name the first tensor that is missing, too many or of another kind; None if all fit."""
    missing = next((key for key in expected if key not in found), None)
    if missing is not None:
        inner = next((key for key in found if key.endswith(f".{missing}")), None)
        if inner is None:
            return f"is of another architecture: it has no {missing}"
        return f"has {inner} where {missing} is expected, in a layer around it: {_LAYERS}"
    extra = next((key for key in found if key not in expected), None)
    if extra is not None:
        if extra.partition(".")[0] in {key.partition(".")[0] for key in expected}:
            return f"is of another architecture: it has {extra}, which the network lacks"
        return f"has {extra} beside the network's tensors: {_LAYERS}"
    for key, value in expected.items():
        if value.shape != found[key].shape:
            shapes = f"{list(found[key].shape)}, expected {list(value.shape)}"
            return f"is of another architecture: {key} has shape {shapes}"
        if value.is_floating_point() != found[key].is_floating_point():
            return f"cannot be loaded: {key} is {found[key].dtype}, expected real numbers"
    return None


@dataclass(frozen=True)
class ModelSource:
    """How to get a network that classifies a data set.

    Attributes
    ----------
    dataset : str
        Data set whose classes it tells apart.
    architecture : str, optional
        Name such as ``wrn-34-10``, with `weights`.
    weights : Path, optional
        Checkpoint: our .safetensors, or a published .pt or .pth.
    import_path : str, optional
        Instead of both: ``package.module:attribute``, a `torch.nn.Module` or
        something that returns one when called without arguments.
    zoo : ZooCheckpoint, optional
        Instead of all of them: a checkpoint of RobustBench's zoo.
    module : torch.nn.Module, optional
        Instead of all of them: a network that is here already.
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
        if self.module is not None:
            # what an evaluation does to it stays here
            return copy.deepcopy(self.module)
        if self.import_path is not None:
            return _import_model(self.import_path)
        if self.architecture is None or self.weights is None:
            raise HarnessError("a checkpoint file needs its architecture, such as wrn-34-10")
        model = build_model(self.architecture, facts or dataset_facts(self.dataset))
        load_weights(model, self.weights)
        return model

    def fingerprint(self) -> str:
        """Return a SHA-256 that tells this network from others.

        Of a checkpoint it is the file's, of one of the zoo also of its id.  Of Python
        code it covers the weights, the file of the module named and those of the
        classes the network is made of; functions that those import from elsewhere it
        does not see.
        """
        if self.zoo is not None:
            return self.zoo.fingerprint()
        if self.weights is not None:
            expect_file(self.weights)
            return sha256_of_file(self.weights)
        state = hashlib.sha256(str(self.import_path).encode())
        model = self.load()
        modules = {str(self.import_path).partition(":")[0]}
        modules |= {type(part).__module__ for part in model.modules()}
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
    name, _, attribute = path.partition(":")
    if not (name and attribute):
        raise HarnessError(f"model {path!r}: expected package.module:attribute")
    # as `python -m` does: code beside the user is found
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _of_the_user(path, "cannot be imported", lambda: importlib.import_module(name))
    if not hasattr(module, attribute):
        raise HarnessError(f"model {path!r}: {name} has no {attribute!r}")
    model = getattr(module, attribute)
    if callable(model) and not isinstance(model, nn.Module):
        model = _of_the_user(path, "cannot be called without arguments", model)
    if not isinstance(model, nn.Module):
        raise HarnessError(f"model {path!r} gives a {type(model).__name__}, not a torch.nn.Module")
    for key, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise HarnessError(f"model {path!r}: its {key} is a {kind}, not a tensor")
        if is_lazy(value) or value.is_meta:
            raise HarnessError(f"model {path!r}: its {key} has no values yet")
    return model


def _of_the_user(path: str, problem: str, call: Callable[[], Any]) -> Any:
    """Run the user's code and name its error."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        raise HarnessError(f"model {path!r} {problem}: {kind}: {error}") from error
