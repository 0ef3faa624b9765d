"""Write configuration.md, config.schema.json and commands.md from the code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic_core import to_jsonable_python
from typer.cli import get_docs_for_click

from reproduce.cli.app import app
from reproduce.config.fields import PRESETS
from reproduce.config.load import build_config
from reproduce.config.schema import Config

HERE = Path(__file__).resolve().parent
INTRODUCTION = """# Configuration

Written by `make docs` from `reproduce/config`. Values come from the preset that
`preset` names, then from config.yaml, then from `--set key=value` on a command line
(with snakemake a mapping for each part: `--config preset=demo train='{epochs: 3}'`).
Perturbation sizes may be fractions such as 8/255. Paths may begin with `~` and have `$VAR` in them;
what cannot be filled in is an error.
"""


def schema() -> str:
    """Return the JSON schema of config.yaml."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def document() -> str:
    """Return the reference of all settings with their values in every preset."""
    presets = {name: build_config({"preset": name}) for name in PRESETS}
    lines = [INTRODUCTION]
    heads = ("key", "meaning", *PRESETS)
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for key, meaning in _settings(Config.model_json_schema()):
        values = [_value(presets[name], key) for name in PRESETS]
        lines.append(f"| `{key}` | {meaning} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Return the reference of all commands: what --help prints."""
    import reproduce.cli  # noqa: F401  every command registers itself

    command = typer.main.get_command(app)
    context = typer.Context(command)
    text = get_docs_for_click(obj=command, ctx=context, name="reproduce", title="Commands")
    # the overview cuts descriptions short; each command's own section has the whole
    overview, sections = text.split("**Commands**:", 1)
    names = re.findall(r"^## `reproduce (\S+)`$", sections, re.MULTILINE)
    links = " · ".join(f"[{name}](#reproduce-{name})" for name in names)
    sections = sections[sections.index("## ") :]
    return f"{overview}{links}\n\n{sections}".rstrip() + "\n"


def _settings(root: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Walk the schema and yield every leaf's dotted key and description."""

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for name, field in node["properties"].items():
            key = f"{prefix}{name}"
            inner = _references(field)
            if not inner:
                yield key, " ".join(field.get("description", "").split())
            for reference in inner:
                child = root["$defs"][reference.rsplit("/", 1)[1]]
                kind = child["properties"].get("kind", {}).get("const")
                # a mapping by name; of several kinds one after the other
                mapped = f".<{kind}>" if kind else ""
                yield from walk(child, f"{key}{mapped}.")

    yield from walk(root, "")


def _references(field: dict[str, Any]) -> list[str]:
    """Return the sections that a setting consists of: one, none for null, or one of several."""
    if "$ref" in field:
        return [field["$ref"]]
    choices = list(field.get("anyOf", []))
    for inner in field.get("patternProperties", {}).values():  # of a mapping by name
        choices += inner.get("oneOf", [])
    return [choice["$ref"] for choice in choices if "$ref" in choice]


def _value(config: Config, key: str) -> str:
    """Return a preset's value; for an attack of some kind, that of the first of its kind."""
    value: Any = config
    for part in key.split("."):
        if value is None:
            break  # a section that is left out
        if part.startswith("<"):
            value = next((one for one in value.values() if one.kind == part[1:-1]), None)
        elif value is not None:
            value = value[part] if isinstance(value, dict) else getattr(value, part)
    value = to_jsonable_python(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    text = json.dumps(value) if value is not None else "–"
    return re.sub(r'"|\.0\b', "", text).replace("|", r"\|")


def main() -> None:
    """Write all three."""
    (HERE / "commands.md").write_text(commands(), encoding="utf-8")
    (HERE / "config.schema.json").write_text(schema(), encoding="utf-8")
    (HERE / "configuration.md").write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
