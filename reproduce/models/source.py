"""Where a network to attack comes from: a checkpoint file, RobustBench's zoo, or Python code."""

import hashlib
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reproduce.catalogue import DatasetFacts, dataset_facts
from reproduce.errors import HarnessError
from reproduce.files import sha256_of_file
from reproduce.models.build import build_model
from reproduce.models.weights import load_weights
from reproduce.tensors import expect_file
from reproduce.zoo import ZooCheckpoint


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
    """

    dataset: str
    architecture: str | None = None
    weights: Path | None = None
    import_path: str | None = None
    zoo: ZooCheckpoint | None = None

    @property
    def name(self) -> str:
        """What results of this network go by."""
        if self.zoo is not None:
            return self.zoo.name
        return self.import_path or f"{Path(str(self.weights)).stem}-{self.architecture}"

    @property
    def ours(self) -> bool:
        """Whether its architecture is built here, not by code from elsewhere."""
        return self.import_path is None and self.zoo is None

    def load(self, facts: DatasetFacts | None = None) -> nn.Module:
        """Return the network, on the CPU.

        Parameters
        ----------
        facts : DatasetFacts, optional
            Of the data set as it was prepared: a folder says itself how many classes
            it has.

        Raises
        ------
        HarnessError
            If the checkpoint cannot be read or is of another architecture, or the
            import path leads to no network.
        """
        if self.zoo is not None:
            return self.zoo.load()
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

        Raises
        ------
        HarnessError
            As `load`.
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
    """Import what a path names and call it if it is no network yet."""
    name, colon, attribute = path.partition(":")
    if not (name and colon and attribute):
        raise HarnessError(f"model {path!r}: expected package.module:attribute")
    # as `python -m` does: code beside the user is found
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise HarnessError(
            f"model {path!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        raise HarnessError(f"model {path!r}: {name} has no {attribute!r}")
    model = found = getattr(module, attribute)
    if isinstance(found, type) or (callable(found) and not isinstance(found, nn.Module)):
        try:
            model = found()
        except (Exception, SystemExit) as error:
            raise HarnessError(
                f"model {path!r} cannot be called without arguments: "
                f"{type(error).__name__}: {error}"
            ) from error
    if not isinstance(model, nn.Module):
        raise HarnessError(f"model {path!r} gives a {type(model).__name__}, not a torch.nn.Module")
    _check_values(path, model)
    return model


def _check_values(path: str, model: nn.Module) -> None:
    """Refuse a network whose weights cannot be told apart, or frozen."""
    for key, value in [*model.state_dict().items(), *model.named_parameters()]:
        if not isinstance(value, Tensor):
            problem = f"a {type(value).__name__}, not a tensor"
        elif is_lazy(value) or value.is_meta:
            problem = "without values: return a network that has its weights"
        elif isinstance(value, nn.Parameter) and value.is_inference():
            problem = "an inference tensor: make the network outside of torch.inference_mode"
        else:
            continue
        raise HarnessError(f"model {path!r}: its {key} is {problem}")
