"""Where a configuration leaves the paper's protocol, setting by setting."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from reproduce.catalogue import DATASETS, METHODS
from reproduce.config import Config, TuningTable
from reproduce.experiments import Evaluation, find_experiment
from reproduce.settings import build_config

Tree = Mapping[str, Any]

# settings of which the paper says nothing
_UNSAID = {"preset", "eval.shard", "eval.autoattack_package"}
# sections that say where and on what to run, and one of which no table holds a number
_PLACES = {
    "results",
    "data.folder",
    "data.cifar10",
    "data.cifar100",
    "data.cifar10_extra",
    "data.imagenet",
    "data.zoo",
    "data.zoo_download",
    "machine",
    "lemma",
}
# which checkpoint a table shows and what a method trains with are compared as they resolve
_RESOLVED = ("eval.checkpoint", "experiments.", "train.", "train_for.")


def deviations(
    config: Config,
    attacks: Collection[str] | None = None,
    methods: Collection[str] | None = None,
    datasets: Collection[str] | None = None,
) -> list[str]:
    """List the settings by which a configuration differs from the paper's protocol.

    Where to run and where files lie do not count, and on how many images an attack
    runs is told from its records.  What only a table says stands in
    `table_deviations`.

    Parameters
    ----------
    config : Config
        The configuration.
    attacks : collection of str, optional
        Attacks whose settings count beside those of the one that chooses checkpoints;
        all unless given.
    methods : collection of str, optional
        Training methods whose own settings count, none for networks trained elsewhere;
        all unless given.
    datasets : collection of str, optional
        Data sets whose own settings count; all unless given.
    """
    methods = METHODS if methods is None else methods
    datasets = DATASETS if datasets is None else datasets
    reference = build_config({"preset": "paper"})
    paper, ours = (_flat(c.model_dump(mode="json")) for c in (reference, config))
    if attacks is not None and any(METHODS[name].validation == "attack" for name in methods):
        attacks = {*attacks, "pgd20"}
    found = [] if config.preset == "paper" else [f"preset is {config.preset}"]
    for key in sorted(paper.keys() | ours.keys()):
        place = any(key == name or key.startswith(f"{name}.") for name in _PLACES)
        if place or key in _UNSAID or key.startswith(_RESOLVED):
            continue
        if key.startswith("eval.attacks.") and not _counts(key, attacks, ours, paper):
            continue
        if _concerns(key, methods, datasets):
            found += _difference(key, ours.get(key), paper.get(key))
    for method in methods:
        found += _of_training(config, reference, method)
    return list(dict.fromkeys(found))


def table_deviations(config: Config, name: str, row: str | None = None) -> list[str]:
    """List what a table shows otherwise than the paper's, in the rows that both have.

    Parameters
    ----------
    config : Config
        The configuration.
    name : str
        The table.
    row : str, optional
        Only rows of this training method, or strategy of tuning; all unless given.
    """
    reference = build_config({"preset": "paper"})
    ours, paper = (find_experiment(c, name) for c in (config, reference))
    shown = {_row(item): item.checkpoint for item in paper.evaluations}
    found = []
    for item in ours.evaluations:
        theirs = shown.get(_row(item), item.checkpoint)
        if theirs != item.checkpoint and row in (None, item.cell.method):
            found.append(f"{name} shows checkpoint {item.checkpoint}, the paper {theirs}")
    grid, table = (getattr(c.experiments, name) for c in (config, reference))
    if isinstance(grid, TuningTable):
        strategies = {"untuned": "untuned", "manual": "lambdas"}
        for strategy, key in strategies.items():
            if row in (None, strategy):
                values = getattr(grid, key), getattr(table, key)
                found += _difference(f"experiments.{name}.{key}", *values)
    return list(dict.fromkeys(found))


def _row(item: Evaluation) -> tuple[object, ...]:
    """Return what names a number of a table: all but the seeds."""
    return replace(item.cell, seed=0), item.attack


def _of_training(config: Config, reference: Config, method: str) -> list[str]:
    """List the training settings of a method that differ."""
    ours = _flat(config.read_by(method))
    # every setting, also what the paper's others make idle: it is what ours is held against
    paper = _flat(reference.train_of(method).model_dump(mode="json"))
    own = {key for c in (config, reference) for key in _flat(c.train_for.get(method, {}))}
    found = []
    for key in sorted(ours):
        name = f"train_for.{method}.{key}" if key in own else f"train.{key}"
        if key == "measured_from":
            # the paper measures every epoch: to measure more than our preset is no step from it
            if ours[key] > paper[key]:
                found.append(f"{name} is {ours[key]:g}, the paper preset's is {paper[key]:g}")
            continue
        found += _difference(name, ours.get(key), paper.get(key))
    return found


def _difference(key: str, ours: object, paper: object) -> list[str]:
    return (
        []
        if ours == paper
        else [f"{key} is {_brief(key, ours)}, the paper's is {_brief(key, paper)}"]
    )


def _counts(key: str, attacks: Collection[str] | None, ours: Tree, paper: Tree) -> bool:
    """Say whether a setting of an attack changes a number of the paper."""
    name, _, setting = key.removeprefix("eval.attacks.").partition(".")
    chosen = attacks is None or name in attacks
    # an attack of the user's own has no number in the paper, one that is not there none of ours
    both = all(f"eval.attacks.{name}.kind" in tree for tree in (ours, paper))
    return chosen and setting != "images" and both


def _concerns(key: str, methods: Iterable[str], datasets: Iterable[str]) -> bool:
    """Say whether some methods on some data sets read a setting; all do what is no part's."""
    section = {"data.extra_images": "mixed"}.get(key, key.partition(".")[0])
    if key == "data.imagenet_crop":
        return "imagenet" in datasets
    rows = [METHODS[name] for name in methods]
    parts = {
        part for row in rows for part in (row.lambda_rule, row.weight_perturbation, row.batches)
    }
    return section not in ("war", "awp", "mixed") or section in parts


def _brief(key: str, value: object) -> str:
    if value is None:
        return "all" if key.endswith("images") else "not set"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(tree: Tree, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
