"""Write docs/configuration.md and docs/config.schema.json from the configuration model."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reproduce.config import PRESETS, Config
from reproduce.settings import build_config

HERE = Path(__file__).resolve().parent
INTRODUCTION = """# Configuration

Written by `make docs` from `reproduce/config.py`. Values come from the preset that
`preset` names, then from config.yaml, then from `--set key=value` on a command line
(`--config key=value` with snakemake). Perturbation sizes may be fractions such as 8/255.
"""


def schema() -> str:
    """Return the JSON schema of config.yaml."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def document() -> str:
    """Return the reference of all settings with their values in every preset."""
    presets = {name: build_config({"preset": name}).model_dump(mode="json") for name in PRESETS}
    lines = [INTRODUCTION]
    heads = ("key", "meaning", *PRESETS)
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for key, meaning in _settings(Config.model_json_schema()):
        values = [_value(presets[name], key) for name in PRESETS]
        lines.append(f"| `{key}` | {meaning} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _settings(root: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Walk the schema and yield every leaf's dotted key and description."""

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for name, field in node["properties"].items():
            key = f"{prefix}{name}"
            inner = field.get("$ref") or field.get("additionalProperties", {}).get("$ref")
            if inner is None:
                yield key, " ".join(field.get("description", "").split())
                continue
            child = root["$defs"][inner.rsplit("/", 1)[1]]
            mapped = "$ref" not in field
            yield from walk(child, f"{key}.<name>." if mapped else f"{key}.")

    yield from walk(root, "")


def _value(tree: dict[str, Any], key: str) -> str:
    """Return a preset's value; for a mapping by name, that of its first entry."""
    value: Any = tree
    for part in key.split("."):
        value = next(iter(value.values())) if part == "<name>" else value[part]
    if isinstance(value, float):
        return f"{value:.4g}"
    text = json.dumps(value) if value is not None else "–"
    return re.sub(r'"|\.0\b', "", text).replace("|", r"\|")


def main() -> None:
    """Write both files."""
    (HERE / "config.schema.json").write_text(schema(), encoding="utf-8")
    (HERE / "configuration.md").write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
