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
from reproduce.cell import Cell
from reproduce.compute.device import acquire_device, default_dtype, describe
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, sha256_of_file, write_json
from reproduce.core.provenance import provenance
from reproduce.data.sources import load_prepared
from reproduce.evaluation.attack import Job, Worker, check_ball
from reproduce.evaluation.evaluate import require_checkpoint
from reproduce.evaluation.records import Record, read_record, write_arrays
from reproduce.examples.files import Holder, perturbation_picture, read_files
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
    """One of the two networks: its attack, its record, and what the description says of it."""

    cell: Cell
    checkpoint: Checkpoint
    spec: EvaluationSpec
    record: Record
    about: dict[str, str]


def choose_images(narrow: Record, wide: Record, each: int = _EACH) -> list[tuple[int, Holder]]:
    """Choose images that both networks classify rightly: the first `each` by who holds."""
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

    PGD's noise is each image's own, so this repeats the attack of the record, and a prediction
    that differs from the record's is named.
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
        narrow, wide = (_network(config, item) for item in pair)
        data = load_prepared(paths.prepared_file(config, dataset)).sha256
        try:
            if path.is_file():
                info, _ = read_files(path)
                made = [network.model_dump(exclude={"differs"}) for network in info.networks]
                if (made, info.data_sha256) == ([narrow.about, wide.about], data):
                    say(f"examples of {dataset}: already there, {path}")
                    return path
        except HarnessError as error:
            say(str(error))
        chosen = choose_images(narrow.record, wide.record)
        if not chosen:
            raise HarnessError(f"{narrow.cell} and {wide.cell} are both right on no test image")
        indices = np.array([index for index, _ in chosen])
        with acquire_device(config.machine) as device:
            found = [_attack(config, network, indices, device) for network in (narrow, wide)]
            where = describe(device)
        shown = ("adversarial", "prediction", "confidence")
        facts, spec = dataset_facts(dataset), narrow.spec
        arrays = {
            "index": indices.astype(np.int32),
            **{key: found[0][key] for key in ("label", "images")},
            **{key: np.stack([one[key] for one in found]) for key in shown},
        }
        about = []
        for network, one in zip((narrow, wide), found, strict=True):
            record, predicted = network.record, one["prediction"]
            rows = np.searchsorted(record.index, indices)
            other = predicted[0] != record.clean[rows]
            other |= predicted[2] != record.adversarial[rows]
            about.append({**network.about, "differs": indices[other].tolist()})
            for index in indices[other]:
                say(f"{network.cell}: image {index} is predicted otherwise than in the record")
        description = {
            "dataset": dataset,
            "class_names": list(facts.class_names),
            "attack": spec.name,
            "seed": spec.seed,
            "epsilon": spec.epsilon,
            "data_sha256": data,
            "held_by": [name for _, name in chosen],
            "networks": about,
            **where,
            **provenance(),
        }
        write_arrays(path, arrays)
        description["examples_sha256"] = sha256_of_file(path)
        write_json(path.with_suffix(".json"), description)
    say(f"examples of {dataset}: {len(chosen)} images, {path}")
    return path


def _network(config: Config, item: Evaluation) -> _Network:
    """Return a network with its record, checked as tables check it."""
    cell, checkpoint = item.cell, item.checkpoint
    sha256 = require_checkpoint(config, cell, checkpoint).models[checkpoint]
    spec = evaluation_spec(config, cell, item.attack, item.seed, checkpoint)
    folder, label = paths.cell_folder(config, cell), config.eval.label(item.attack)
    path = paths.record_file(folder, checkpoint, label, item.seed)
    record = read_record(path) if path.is_file() else None
    made_for = {"digest": spec.digest, "model_sha256": sha256}
    if record is None or not made_for.items() <= record.info.items():
        raise HarnessError(
            f"{cell} is not attacked by {item.attack} yet, or with other settings or weights; run "
            f"`reproduce evaluate {cell} --attack {item.attack} --checkpoint {checkpoint}` first"
        )
    own = {"cell": cell.id, "checkpoint": checkpoint, **made_for}
    about = {**own, "record_sha256": record.info["record_sha256"]}
    return _Network(cell, checkpoint, spec, record, about)


def _attack(
    config: Config, network: _Network, indices: NDArray[np.int64], device: torch.device
) -> dict[str, NDArray[Any]]:
    """Attack the images of a network, and predict x, the picture of the perturbation and x'."""
    cell, spec = network.cell, network.spec
    job = Job(
        spec,
        ModelSource(
            cell.dataset,
            cell.architecture,
            paths.model_file(paths.cell_folder(config, cell), network.checkpoint),
        ),
        network.about["model_sha256"],
        paths.prepared_file(config, cell.dataset),
        config.eval.shard,
        config.machine,
    )
    worker = Worker(job, device)
    store = worker.store
    with default_dtype(spec.precision), frozen(worker.model):
        # image by image, so that no others are decoded
        rows = np.searchsorted(store.indices, indices).tolist()
        pairs = [store.plain(row, row + 1) for row in rows]
        images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        (part,) = worker.parts
        found = part.run(Batch(images, labels, indices.tolist()), spec.seed)
        check_ball(part.name, images, found, spec.epsilon)
        # pixels k / 255 as the whole numbers k
        pixels = _last_channels(images.mul(255).round()).astype(np.uint8)
        adversarial = _last_channels(found).astype(np.float32)
        picture = perturbation_picture(pixels, adversarial, spec.epsilon)
        shown = torch.from_numpy(picture).permute(0, 3, 1, 2).to(found)
        logits = torch.stack([worker.network.logits(x) for x in (images, shown, found)])
    best = logits.softmax(2).max(2)
    return {
        "label": labels.cpu().numpy().astype(np.int16),
        "images": pixels,
        "adversarial": adversarial,
        "prediction": best.indices.cpu().numpy().astype(np.int16),
        "confidence": best.values.cpu().numpy().astype(np.float32),
    }


def _last_channels(images: Tensor) -> NDArray[Any]:
    """Return images as arrays of shape (N, height, width, channels)."""
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())
