"""From a preset, a config.yaml and overrides to a validated configuration."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reproduce.config.fields import PRESETS, Tree, flatten, merge
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError

# the Snakefile hands its jobs the configuration in this environment variable
CONFIG_VARIABLE = "REPRODUCE_CONFIG"


def load_config(source: Path | str, preset: str | None = None, sets: Sequence[str] = ()) -> Config:
    """Build the configuration, as `reproduce.load_config` describes."""
    return build_config(read_settings(source, preset, sets))


def read_settings(
    source: Path | str, preset: str | None = None, sets: Sequence[str] = ()
) -> dict[str, Any]:
    """Read what a user sets: the file and the overrides of `load_config`, without the preset's."""
    inline = isinstance(source, str) and source.lstrip().startswith("{")
    what = "the configuration" if inline else f"configuration {source}"
    try:
        text = str(source) if inline else Path(source).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HarnessError(f"{what} cannot be read: {error}") from error
    user = _parse(text, what) or {}
    if not isinstance(user, dict) or not all(isinstance(key, str) for key in user):
        raise HarnessError(f"{what} must be a mapping of names to values")
    for item in sets:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise HarnessError(f"override {item!r:.200}: write key=value, such as train.epochs=10")
        user = merge(user, _nested(key, _parse(text, f"override {item!r:.200}")))
    return user if preset is None else {**user, "preset": preset}


def kept_values(user: Tree, config: Config, methods: Iterable[str]) -> str | None:
    """Say in a line which methods keep a value of their own where a user sets one of `train`."""
    shared = flatten(config.train.model_dump(mode="json"))
    own = {name: flatten(config.train_of(name).model_dump(mode="json")) for name in methods}
    chosen = {name: flatten(user.get("train_for", {}).get(name, {})) for name in own}
    parts = []
    for key in flatten(user.get("train", {})):
        kept = [
            f"{name} ({values[key]})"
            for name, values in own.items()
            if values[key] != shared[key] and key not in chosen[name]
        ]
        if kept:
            parts.append(
                f"train.{key}={shared[key]} is not for {', '.join(kept)}, which have their own: "
                f"train_for.METHOD.{key}"
            )
    return "; ".join(parts) or None


def from_snakefile() -> bool:
    """Say whether a Snakefile hands on the configuration, and so has printed its warnings."""
    return os.environ.get(CONFIG_VARIABLE, "").lstrip().startswith("{")


def resolved(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values for config.yaml, without the section `machine`."""
    return config.model_dump(mode="json", exclude={"machine"})


def build_config(user: Tree) -> Config:
    """Validate a user's mapping on top of the preset that it names."""
    name = user.get("preset", "paper")
    if name not in PRESETS:
        raise HarnessError(f"unknown preset {name!r:.200}; known: {', '.join(PRESETS)}")
    return _validate({**merge(_preset(name), user), "preset": name})


def override(config: Config, sets: Mapping[str, Any]) -> Config:
    """Change single settings of a configuration, given by their dotted keys."""
    tree = config.model_dump(mode="json")
    for key, value in sets.items():
        tree = merge(tree, _nested(key, value))
    return _validate(tree)


@cache
def _preset(name: str) -> dict[str, Any]:
    text = files("reproduce").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Write a value under a dotted key as a tree."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key written twice; YAML would drop the first in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping and check its keys as they are written, before ``<<`` brings more."""
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key {key!r} is written twice")
        return node


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506, a safe loader
    except Exception as error:  # of tags and dates that there are not, YAML's reader raises many
        raise HarnessError(f"{what} is not YAML: {error}") from error


def _validate(tree: Tree) -> Config:
    inside = ""
    try:
        config = Config.model_validate(tree)
        for method in config.train_for:
            inside = f"train_for.{method}"
            config.train_of(method)
    except ValidationError as error:
        raise HarnessError(_first_problem(error, inside)) from None
    return config


def _first_problem(error: ValidationError, inside: str) -> str:
    """Say the first validation error in one line: the key, the value, what is allowed."""
    first, *more = error.errors(include_url=False)
    # pydantic adds "[key]", and the alternatives of a value that may be of several kinds
    place = [str(part) for part in first["loc"] if "[" not in str(part)]
    if place[:2] == ["eval", "attacks"]:
        del place[3:4]  # the kind of the attack
    key = ".".join([inside, *place] if inside else place)
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        line = f"unknown key {key!r} in the configuration"
    else:
        line = f"configuration key {key!r}: {reason}" if key else f"configuration: {reason}"
        if not isinstance(first["input"], Mapping):
            line += f" (it is {first['input']!r:.200})"
    return line + (f"; and {len(more)} more" if more else "")
