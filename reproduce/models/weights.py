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
    content = read_weights(path)
    found = dict(_state_dicts(content))
    if not found:
        inside = content if isinstance(content, Mapping) else {"": content}
        inside = inside or {"": content}
        kinds = [f"{key} {type(value).__name__}".strip() for key, value in inside.items()]
        raise HarnessError(
            f"checkpoint {path} holds no state dict of tensors alone but "
            f"{', '.join(kinds[:5])}; {SAVE_WEIGHTS}"
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
