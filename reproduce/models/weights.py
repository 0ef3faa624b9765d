"""Weights in files: ours in safetensors, published ones in whatever wrappers made of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reproduce.core.errors import HarnessError, named
from reproduce.core.files import write_atomically
from reproduce.core.tensors import SAVE_WEIGHTS, expect_file, read_tensors

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

    Which it is, its content says.  A file that would run code is refused; objects that
    are no tensors are passed over.
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
        If the file cannot be read, holds weights of another architecture or of further
        layers, or several networks' weights.
    """
    expected = model.state_dict()
    found = {
        place: _under_names_of(expected, state) for place, state in _state_dicts(read_weights(path))
    }
    if not found:
        raise HarnessError(f"checkpoint {path} holds no mapping of tensors alone; {SAVE_WEIGHTS}")
    forms = {place: _form(state) for place, state in found.items()}
    fitting = [place for place, form in forms.items() if form == _form(expected)]
    if not fitting:
        largest = forms[max(forms, key=lambda place: len(forms[place]))]
        form = _form(expected)
        first = next(key for key in {**form, **largest} if form.get(key) != largest.get(key))
        raise HarnessError(
            f"checkpoint {path} is of another architecture: {first} is "
            f"{largest.get(first, 'missing')}, expected {form.get(first, 'nothing')}; of a network "
            "with layers around it attack the whole with --model package.module:attribute, or "
            f"{SAVE_WEIGHTS}"
        )
    own = [place for place in fitting if place.rpartition(".")[2] in _PLAIN]
    chosen = own if len(own) == 1 else fitting
    if len(chosen) > 1:
        raise HarnessError(
            f"checkpoint {path} holds several networks' weights, {', '.join(map(repr, chosen))}; "
            "save those to be attacked alone"
        )
    try:
        model.load_state_dict(found[chosen[0]])
    except RuntimeError as error:  # quantised, sparse or without values
        raise HarnessError(f"checkpoint {path} cannot be loaded: {error}") from error


def _form(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Say of each tensor what must be equal."""
    kinds = {True: "real numbers", False: "whole numbers"}
    return {
        key: f"{kinds[value.is_floating_point()]} of shape {list(value.shape)}"
        for key, value in state.items()
    }


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
