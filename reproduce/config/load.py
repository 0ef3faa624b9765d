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
from reproduce.core.errors import HarnessError, brief

# the Snakefile hands its jobs the configuration in this environment variable
CONFIG_VARIABLE = "REPRODUCE_CONFIG"


def load_config(source: Path | str, preset: str | None = None, sets: Sequence[str] = ()) -> Config:
    """Build the configuration: preset, then the user's file, then single overrides.

    Parameters
    ----------
    source : Path or str
        A YAML file such as config.yaml, or a mapping written out as YAML or JSON
        (it begins with a brace).
    preset : str, optional
        Preset to use whatever the file says.
    sets : sequence of str
        Overrides ``key.subkey=value``, the value in YAML.

    Raises
    ------
    HarnessError
        Naming the key, the value and what is allowed, if anything does not fit.

    Examples
    --------
    >>> load_config("{}", "mini", ["train.epochs=3"]).train.epochs
    3
    """
    return build_config(read_settings(source, preset, sets))


def read_settings(
    source: Path | str, preset: str | None = None, sets: Sequence[str] = ()
) -> dict[str, Any]:
    """Read what a user sets: the file and the overrides of `load_config`, without the preset's."""
    user = dict(_read(source))
    for item in sets:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise HarnessError(
                f"override {brief(item)}: expected key=value, for example train.epochs=10"
            )
        value = _parse(text, f"override {brief(item)}: {brief(text)} is not a YAML value")
        user = merge(user, _nested(key, value))
    if preset is not None:
        user["preset"] = preset
    return user


def kept_values(user: Tree, config: Config, methods: Iterable[str]) -> str | None:
    """Say in a line which methods keep a value of their own where a user sets one of `train`.

    None if no method does.
    """
    methods, parts = tuple(methods), []
    shared = flatten(config.train.model_dump(mode="json"))
    for key in flatten(user.get("train", {})):
        kept = []
        for method in methods:
            value = flatten(config.train_of(method).model_dump(mode="json"))[key]
            is_set = key in flatten(user.get("train_for", {}).get(method, {}))
            if value != shared[key] and not is_set:
                kept.append(f"{method} ({_short(value)})")
        if kept:
            parts.append(
                f"train.{key}={_short(shared[key])} is not for {', '.join(kept)}, which have "
                f"their own: train_for.METHOD.{key}"
            )
    return "; ".join(parts) or None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def from_snakefile() -> bool:
    """Say whether a Snakefile hands on the configuration, and so has printed its warnings."""
    return os.environ.get(CONFIG_VARIABLE, "").lstrip().startswith("{")


def resolved(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values that config.yaml takes again.

    Without the section `machine`, which is not of the results.
    """
    return config.model_dump(mode="json", exclude={"machine"})


def build_config(user: Tree) -> Config:
    """Validate a user's mapping on top of the preset that it names."""
    name = user.get("preset", "paper")
    if name not in PRESETS:
        raise HarnessError(f"unknown preset {brief(name)}; known: {', '.join(PRESETS)}")
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
    first, *others = key.split(".")
    for name in reversed(others):
        value = {name: value}
    return {first: value}


# --- YAML


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key written twice; YAML would drop the first in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping and check its keys as they are written, before ``<<`` brings more."""
        node = super().compose_mapping_node(anchor)
        keys = set()
        for written, _ in node.value:
            if not isinstance(written, yaml.ScalarNode):
                continue  # the constructor says that it is no key
            if written.value in keys:
                line = written.start_mark.line + 1
                raise yaml.YAMLError(
                    f"key {written.value!r} is written twice, again in line {line}"
                )
            keys.add(written.value)
        return node


def _parse(text: str, problem: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506, a safe loader
    except Exception as error:  # of tags and dates that there are not, YAML's reader raises many
        raise HarnessError(f"{problem}: {error}") from error


def _read(source: Path | str) -> Tree:
    inline = isinstance(source, str) and source.lstrip().startswith("{")
    what = "configuration given as a mapping" if inline else f"configuration {source}"
    try:
        text = str(source) if inline else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"{what} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise HarnessError(f"{what} is not YAML: {error}") from error
    value = _parse(text, f"{what} is not YAML")
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise HarnessError(f"{what} must be a mapping of names to values")
    return value


# --- validation


def _validate(tree: Tree) -> Config:
    method: tuple[str, ...] = ()
    try:
        config = Config.model_validate(tree)
        for name in config.train_for:
            method = ("train_for", name)
            config.train_of(name)
    except ValidationError as error:
        raise HarnessError(_first_problem(error, method)) from None
    return config


def _first_problem(error: ValidationError, inside: tuple[str, ...]) -> str:
    """Say the first validation error in one line: the key, the value, what is allowed."""
    problems = error.errors(include_url=False)
    first = problems[0]
    place = [*inside, *(str(part) for part in first["loc"] if part != "[key]")]
    if place[:2] == ["eval", "attacks"]:
        # pydantic puts the kind of an attack between its name and its keys
        place = place[:3] + place[4:]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        line = f"unknown key {key!r} in the configuration"
        if "." in place[-1]:
            line += "; a dot is for --set, elsewhere write mappings: train: {epochs: 3}"
    elif first["type"] == "missing":
        line = f"configuration key {key!r} is missing"
    elif first["type"] == "union_tag_not_found":
        line = f"configuration key {key!r}: kind is missing; it is pgd, fab, square or autoattack"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        line = f"configuration key {key!r}: {reason}" if key else f"configuration: {reason}"
        if not isinstance(first["input"], Mapping):
            line += f" (it is {brief(first['input'])})"
    more = len(problems) - 1
    return line + (f"; and {more} more" if more else "")
