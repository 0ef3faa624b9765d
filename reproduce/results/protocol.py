"""Loader of protocol.yaml: the settings that the paper's numbers were made with."""

from collections.abc import Collection, Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from reproduce.config.fields import flatten
from reproduce.config.grids import TuningTable
from reproduce.config.schema import Config
from reproduce.experiments.grids import find_experiment
from reproduce.paper.published import parse_radius
from reproduce.registry import DATASETS, METHODS


@cache
def protocol() -> dict[str, Any]:
    """Return the paper's value of every setting that it, or a code it builds on, decides.

    Returns
    -------
    dict
        Values by dotted key of the configuration; ``checkpoint`` and ``checkpoint.METHOD``
        are what the tables show.

    Source: protocol.yaml names that of every value.
    """
    text = files("reproduce").joinpath("paper", "protocol.yaml").read_text(encoding="utf-8")
    return {key: _value(item["value"]) for key, item in yaml.safe_load(text).items()}


def _value(written: Any) -> Any:
    return parse_radius(written) if isinstance(written, str) and "/" in written else written


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
        Attacks whose settings count; all unless given.
    methods : collection of str, optional
        Training methods whose own settings count, none for networks trained elsewhere;
        all unless given.
    datasets : collection of str, optional
        Data sets whose own settings count; all unless given.
    """
    attacks = config.eval.attacks if attacks is None else attacks
    methods = METHODS if methods is None else methods
    datasets = DATASETS if datasets is None else datasets
    sections = {"data", "war", "awp", "mixed", "eval"}
    ours = flatten(config.model_dump(mode="json", include=sections))
    found = [] if config.preset == "paper" else [f"preset is {config.preset}"]
    for key, value in ours.items():
        if key in protocol() and _concerns(key, attacks, methods, datasets):
            found += _difference(key, value, protocol()[key])
    for method in methods:
        found += _of_training(config, method)
    return list(dict.fromkeys(found))


def table_deviations(config: Config, name: str, row: str | None = None) -> list[str]:
    """List what a table shows otherwise than the paper's.

    Parameters
    ----------
    config : Config
        The configuration.
    name : str
        The table.
    row : str, optional
        Only rows of this training method, or strategy of tuning; all unless given.
    """
    found = []
    for item in find_experiment(config, name).evaluations:
        method = item.cell.method
        theirs = protocol().get(f"checkpoint.{method}", protocol()["checkpoint"])
        if theirs != item.checkpoint and row in (None, method):
            found.append(f"{name} shows checkpoint {item.checkpoint}, the paper {theirs}")
    grid = getattr(config.experiments, name)
    if isinstance(grid, TuningTable):
        for strategy, key in {"untuned": "untuned", "manual": "lambdas"}.items():
            if row in (None, strategy):
                full = f"experiments.{name}.{key}"
                found += _difference(full, getattr(grid, key), protocol()[full])
    return list(dict.fromkeys(found))


def _of_training(config: Config, method: str) -> list[str]:
    """List the training settings of a method that differ."""
    replaced, found = flatten(config.train_for.get(method, {})), []
    for key, value in flatten(config.read_by(method)).items():
        shared, own = f"train.{key}", f"train_for.{method}.{key}"
        theirs = protocol().get(own, protocol()[shared])
        if (key, value, theirs) == ("precision", "tf32", "float32"):
            continue  # PyTorch's default, of which the paper's card made float32
        name = own if key in replaced or own in protocol() else shared
        found += _difference(name, value, theirs)
    return found


def _difference(key: str, ours: object, paper: object) -> list[str]:
    return (
        []
        if ours == paper
        else [f"{key} is {_brief(key, ours)}, the paper's is {_brief(key, paper)}"]
    )


def _concerns(
    key: str, attacks: Collection[str], methods: Iterable[str], datasets: Collection[str]
) -> bool:
    """Say whether some attacks, or methods on some data sets, read a setting."""
    section, _, setting = {"data.extra_images": "mixed"}.get(key, key).partition(".")
    if setting.startswith("attacks."):
        return setting.split(".")[1] in attacks
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
