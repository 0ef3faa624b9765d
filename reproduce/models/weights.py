"""Weights on disk: safetensors of our own, and state dicts that others published."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reproduce.errors import HarnessError
from reproduce.files import write_atomically
from reproduce.tensors import read_tensors

# built by the official WideResNet class and never called
_UNUSED = "sub_block1."
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def save_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a state dict as safetensors, atomically, and say in its header what it is.

    Equal weights give equal bytes: the header holds one entry, because safetensors
    writes several in any order.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    header = {"reproduce": json.dumps(about, sort_keys=True)}
    write_atomically(path, lambda part: save_file(plain, part, header))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict, ours (.safetensors) or a published one (.pt, .pth).

    A published file may wrap the state dict, carry ``module.`` from DataParallel,
    and hold the unused block of the official WideResNet, which is dropped.  Files
    are read as plain tensors; one that would run code is refused.

    Raises
    ------
    HarnessError
        If the file is missing, cut short, or not a state dict.
    """
    if not path.is_file():
        raise HarnessError(f"checkpoint {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
    # of a dtype that torch does not have
    except (SafetensorError, OSError, LookupError, AttributeError, ValueError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise HarnessError(f"checkpoint {path} is cut short or damaged: {reason}") from error
    return _plain_state(read_tensors(path), path)


def _plain_state(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what a published file holds, and strip what wraps its names."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise HarnessError(f"checkpoint {path} holds no state dict of tensors")
    state = {str(key).removeprefix("module."): value for key, value in content.items()}
    return {key: value for key, value in state.items() if not key.startswith(_UNUSED)}


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into a network, every tensor of it.

    Raises
    ------
    HarnessError
        If the file cannot be read or belongs to another architecture.
    """
    state = read_weights(path)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    # published files of old PyTorch versions lack the counters, which nothing reads
    for key in expected.keys() - state.keys():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
    found = {key: tuple(value.shape) for key, value in state.items()}
    if found != expected:
        raise HarnessError(
            f"checkpoint {path} is of another architecture: {_mismatch(expected, found)}"
        )
    model.load_state_dict(state)


def _mismatch(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """Name the first tensor that is missing, too many or of another shape."""
    for key in expected:
        if key not in found:
            return f"it has no {key}"
        if expected[key] != found[key]:
            return f"{key} has shape {list(found[key])}, expected {list(expected[key])}"
    extra = next(key for key in found if key not in expected)
    return f"it has {extra}, which the network lacks"
