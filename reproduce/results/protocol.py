"""Where a configuration leaves the settings that the paper's numbers were made with."""

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

    Keys are the dotted ones of the configuration; ``checkpoint`` and ``checkpoint.METHOD`` are what
    the tables show.  protocol.yaml names the source of every value.
    """
    text = files("reproduce").joinpath("paper", "protocol.yaml").read_text(encoding="utf-8")
    values = {key: item["value"] for key, item in yaml.safe_load(text).items()}
    return {k: parse_radius(v) if "/" in str(v) else v for k, v in values.items()}


def deviations(
    config: Config,
    attacks: Collection[str] | None = None,
    methods: Collection[str] | None = None,
    datasets: Collection[str] | None = None,
) -> list[str]:
    """List the settings by which a configuration differs from the paper's protocol.

    Only the settings of these attacks, training methods (none for networks trained elsewhere)
    and data sets count; of all, unless given.  Where to run and where files lie do not count;
    on how many images an attack runs, its records say.  `table_deviations` has the rest.
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
    """List what a table shows otherwise than the paper's; `row` names one method or strategy."""
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
    def text(value: object) -> str:
        if value is None:
            return "all" if key.endswith("images") else "not set"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return [] if ours == paper else [f"{key} is {text(ours)}, the paper's is {text(paper)}"]


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
