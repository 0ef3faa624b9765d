"""Making adversarial examples: which images, and the attack on each of two networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reproduce.attacks.parts import Batch
from reproduce.attacks.target import frozen
from reproduce.compute.device import acquire_device, default_dtype, describe
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive
from reproduce.core.provenance import provenance
from reproduce.data.imagenet import EvaluationStore
from reproduce.data.sources import load_prepared
from reproduce.evaluation.attack import Job, Worker, check_ball
from reproduce.evaluation.evaluate import require_checkpoint
from reproduce.evaluation.records import Record, read_record
from reproduce.examples.files import Holder, perturbation_picture, read_files, write_examples
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, example_evaluations
from reproduce.experiments.spec import EvaluationSpec, evaluation_spec
from reproduce.models.load import ModelSource
from reproduce.registry import dataset_facts

# images of each of the four combinations
_EACH = 2
# by whether the narrow and the wide network hold
_HOLDERS: dict[tuple[bool, bool], Holder] = {
    (True, True): "both",
    (True, False): "narrow",
    (False, True): "wide",
    (False, False): "neither",
}


class _Network(NamedTuple):
    """One of the two networks: its planned attack, its weights, and their record."""

    item: Evaluation
    spec: EvaluationSpec
    model_sha256: str
    record: Record

    @property
    def identity(self) -> dict[str, str]:
        """What tells the network and its record from others."""
        return {
            "cell": self.item.cell.id,
            "digest": self.spec.digest,
            "model_sha256": self.model_sha256,
            "record_sha256": self.record.info["record_sha256"],
        }


def choose_images(narrow: Record, wide: Record, each: int = _EACH) -> list[tuple[int, Holder]]:
    """Choose images that both networks classify rightly, and that show who holds under attack.

    Returns positions in the official test split with "both", "narrow", "wide" or "neither",
    in this order: of each combination the first `each` of the test set.
    """
    index, at_narrow, at_wide = np.intersect1d(narrow.index, wide.index, return_indices=True)
    right = (narrow.clean == narrow.label)[at_narrow] & (wide.clean == wide.label)[at_wide]
    holds = narrow.robust[at_narrow], wide.robust[at_wide]
    return [
        (int(position), name)
        for who, name in _HOLDERS.items()
        for position in index[right & (holds[0] == who[0]) & (holds[1] == who[1])][:each]
    ]


def make_examples(config: Config, say: Callable[[str], None] = print) -> Path:
    """Attack a few test images of two networks and keep the images, unless they are there.

    PGD's noise is each image's own, so this repeats the attack of the record, and a
    prediction that differs from the record's is named.  Returns the .npz; the description
    lies beside it.

    Raises
    ------
    HarnessError
        If no experiment compares widths under PGD, one of its two networks is not
        trained or not attacked yet, or another process makes them.
    """
    pair = example_evaluations(config)
    if pair is None:
        raise HarnessError(
            "no experiment of this configuration has networks of two widths under PGD to make "
            "adversarial examples of"
        )
    dataset = pair[0].cell.dataset
    path = paths.examples_file(config, dataset)
    with exclusive(path.with_name(f".{path.stem}.lock"), f"examples of {dataset}"):
        networks = [_network(config, item) for item in pair]
        images = load_prepared(paths.prepared_file(config, dataset)).sha256
        if _is_there(path, networks, images, say):
            say(f"examples of {dataset}: already there, {path}")
            return path
        chosen = choose_images(networks[0].record, networks[1].record)
        if not chosen:
            raise HarnessError(
                f"{pair[0].cell} and {pair[1].cell} classify no test image rightly that examples "
                "could show"
            )
        arrays, info = _attack(config, networks, chosen, images)
        write_examples(path, arrays, info)
    for network, seen in zip(networks, info["networks"], strict=True):
        for index in seen["differs"]:
            say(f"{network.item.cell}: image {index} is predicted otherwise than in the record")
    say(f"examples of {dataset}: {len(chosen)} images, {path}")
    return path


def _network(config: Config, item: Evaluation) -> _Network:
    """Return a network's record, checked as tables check it."""
    run = require_checkpoint(config, item.cell, item.checkpoint)
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    folder, label = paths.cell_folder(config, item.cell), config.eval.label(item.attack)
    path = paths.record_file(folder, item.checkpoint, label, item.seed)
    mend = (
        f"run `reproduce evaluate {item.cell} --attack {item.attack} --checkpoint "
        f"{item.checkpoint}` first"
    )
    if not path.is_file():
        raise HarnessError(f"{item.cell} is not attacked by {item.attack} yet; {mend}")
    record, sha256 = read_record(path), run.models[item.checkpoint]
    if (record.info["digest"], record.info["model_sha256"]) != (spec.digest, sha256):
        raise HarnessError(f"{path} is of other settings or weights; {mend}")
    return _Network(item, spec, sha256, record)


def _is_there(
    path: Path, networks: list[_Network], images: str, say: Callable[[str], None]
) -> bool:
    """Say whether whole examples of these settings, weights, records and images are there."""
    if not path.is_file():
        return False
    try:
        info, _ = read_files(path)
    except HarnessError as error:
        say(str(error))
        return False
    wanted = [network.identity for network in networks]
    found = [network.model_dump(include=set(wanted[0])) for network in info.networks]
    return (found, info.data_sha256) == (wanted, images)


def _attack(
    config: Config, networks: list[_Network], chosen: list[tuple[int, Holder]], images: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of the examples and their description."""
    indices = np.array([index for index, _ in chosen])
    seen: list[dict[str, NDArray[Any]]] = []
    about: list[dict[str, Any]] = []
    with acquire_device(config.machine) as device:
        for network in networks:
            worker = _worker(config, network, device)
            with default_dtype(network.spec.precision):
                batch = _batch(worker.store, indices)
                found = _one_network(worker, batch, network.spec)
            # images that are not predicted as in the record, on x or on x'
            record, predicted = network.record, found["prediction"]
            rows = np.searchsorted(record.index, indices)
            other = (predicted[0] != record.clean[rows]) | (
                predicted[2] != record.adversarial[rows]
            )
            seen.append(found)
            about.append(
                {
                    **network.identity,
                    "checkpoint": network.item.checkpoint,
                    "differs": indices[other].tolist(),
                }
            )
        where = describe(device)
    facts, spec = dataset_facts(networks[0].item.cell.dataset), networks[0].spec
    arrays: dict[str, NDArray[Any]] = {
        "index": indices.astype(np.int32),
        "label": batch.labels.cpu().numpy().astype(np.int16),
        "images": _pixels(batch.images),
        **{key: np.stack([found[key] for found in seen]) for key in seen[0]},
    }
    info = {
        "dataset": facts.name,
        "class_names": list(facts.class_names),
        "attack": spec.name,
        "seed": spec.seed,
        "epsilon": spec.epsilon,
        "data_sha256": images,
        "held_by": [name for _, name in chosen],
        "networks": about,
        **where,
        **provenance(),
    }
    return arrays, info


def _worker(config: Config, network: _Network, device: torch.device) -> Worker:
    """Return what attacks this network in an evaluation, without shards."""
    cell = network.item.cell
    weights = paths.model_file(paths.cell_folder(config, cell), network.item.checkpoint)
    job = Job(
        network.spec,
        ModelSource(cell.dataset, cell.architecture, weights),
        network.model_sha256,
        paths.prepared_file(config, cell.dataset),
        config.eval.shard,
        config.machine,
    )
    return Worker(job, device)


def _batch(store: EvaluationStore, indices: NDArray[np.int64]) -> Batch:
    """Return images by their positions in the official split, decoded alone if they are files."""
    rows = np.searchsorted(store.indices, indices)
    pairs = [store.plain(int(row), int(row) + 1) for row in rows]
    images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return Batch(images, labels, indices.tolist())


def _one_network(worker: Worker, batch: Batch, spec: EvaluationSpec) -> dict[str, NDArray[Any]]:
    """Attack the images, and predict x, the picture of the perturbation and x'."""
    with frozen(worker.model):
        (part,) = worker.parts
        found = part.run(batch, spec.seed)
        check_ball(part.name, batch.images, found, spec.epsilon)
        adversarial = _last_channels(found).astype(np.float32)
        picture = perturbation_picture(_pixels(batch.images), adversarial, spec.epsilon)
        shown = torch.from_numpy(picture).permute(0, 3, 1, 2).to(found)
        logits = torch.stack([worker.network.logits(x) for x in (batch.images, shown, found)])
    best = logits.softmax(2).max(2)
    return {
        "adversarial": adversarial,
        "prediction": best.indices.cpu().numpy().astype(np.int16),
        "confidence": best.values.cpu().numpy().astype(np.float32),
    }


def _last_channels(images: Tensor) -> NDArray[Any]:
    """Return images as arrays of shape (N, height, width, channels)."""
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    """Return images of pixels k / 255 as the whole numbers k."""
    return _last_channels(images.mul(255).round()).astype(np.uint8)
