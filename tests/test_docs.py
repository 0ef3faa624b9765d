"""Documents that are written from the code, or make claims about it, are true."""

import importlib.util
import json
import re
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pandas as pd
import yaml
from conftest import ROOT
from packaging.specifiers import SpecifierSet

from reproduce.claims.statements import STATEMENTS
from reproduce.cli.app import app
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.experiments.grids import experiment_names
from reproduce.results.status import plan
from reproduce.tables.diff import VERDICTS

DOCS = ROOT / "docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_documents_are_current() -> None:
    generate = _generator()
    assert (DOCS / "configuration.md").read_text() == generate.document(), "run `make docs`"
    assert (DOCS / "config.schema.json").read_text() == generate.schema(), "run `make docs`"


def test_every_setting_is_described() -> None:
    for line in (DOCS / "configuration.md").read_text().splitlines():
        if line.startswith("| `"):
            assert len(line.split("|")[2].strip()) > 10, line


def test_the_verdicts_of_the_diff_are_described() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    first = lines.index("| verdict | meaning |") + 2
    described = [f"| {name} | {meaning} |" for name, meaning in VERDICTS.items()]
    assert lines[first : first + len(described)] == described


def test_the_shipped_configuration_is_the_papers() -> None:
    config = load_config(ROOT / "config.yaml")
    assert config.preset == "paper"
    assert isinstance(config, Config)


def test_the_lock_pins_what_the_package_needs() -> None:
    lock = (ROOT / "envs" / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    conda = yaml.safe_load((ROOT / "envs" / "gpu.yaml").read_text())["dependencies"][-1]["pip"]
    makefile = (ROOT / "Makefile").read_text()
    for requirement in conda:
        name, version = requirement.split("==")
        if name == "torch":
            assert f"TORCH := {requirement}" in makefile
        else:
            assert pins[name] == version
    for line in (ROOT / "envs" / "torch-constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            assert pins[name] == version


def test_the_lock_serves_every_python_that_the_readme_names() -> None:
    assert "You need Python 3.11 or newer" in (ROOT / "README.md").read_text()
    lock = (ROOT / "envs" / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    installed = {name: metadata.metadata(name) for name in pins if _is_installed(name)}
    assert len(installed) > len(pins) / 2
    refused = [
        f"{name} {about['Requires-Python']}"
        for name, about in installed.items()
        # an environment may be older than the lock
        if about["Version"] == pins[name]
        and "3.11.0" not in SpecifierSet(about.get("Requires-Python") or "")
    ]
    assert refused == []


def test_every_line_of_the_lock_has_a_hash() -> None:
    text = (ROOT / "envs" / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [x for x in text.splitlines() if x and not x.startswith("#")]
    assert lines
    # "; python_version < ..." says where a line counts
    line = r"\S+==\S+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+ *"
    assert all(re.fullmatch(line, x) for x in lines)


def _is_installed(name: str) -> bool:
    try:
        metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    names = [c.name or c.callback.__name__ for c in app.registered_commands]
    assert len(names) > 10
    # RobustBench's layout has a page of its own
    missing = [n for n in names if f"reproduce {n}" not in readme and n != "export"]
    assert missing == []


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_schema_is_json() -> None:
    assert json.loads((DOCS / "config.schema.json").read_text())["title"] == "Config"


def test_the_costs_in_the_readme_are_those_of_the_plan(tmp_path: Path) -> None:
    config = load_config("{}", "paper", [f"results={tmp_path}"])
    rows = re.findall(
        r"^\| `(table\d|figure[36]|all)` \|[^|]*\| (\d+) \| (\d+) \| ([\d,]+) \| ([\d.]+) GB \|$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    planned = [
        (
            entry.name,
            str(entry.cells),
            str(entry.evaluations),
            f"{entry.hours:,.0f}",
            f"{entry.size / 1e9:.1f}",
        )
        for entry in plan(config, experiment_names(config))
        # all other figures are of runs that tables have
        if entry.name.startswith("table") or entry.name in ("figure3", "figure6", "all")
    ]
    assert rows == planned
    late = ["train.validation.start=0.74", "train_for.awp-trades.validation.start=0.495"]
    late += ["train_for.trades-step.validation.start=0"]
    config = load_config("{}", "paper", [f"results={tmp_path}", *late])
    hours = plan(config, experiment_names(config))[-1].hours
    assert f"`all` then takes {hours:,.0f} hours" in (ROOT / "README.md").read_text()


def test_what_the_readme_says_was_measured_is_what_is_published() -> None:
    readme = (ROOT / "README.md").read_text()
    folder = ROOT / "results" / "reference" / "cpu"
    table = (folder / "mini" / "tables" / "table1.md").read_text()
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 3
    assert [row for row in rows if row not in readme] == []
    diff = pd.read_csv(folder / "paper" / "diff" / "table1.csv").to_dict("records")
    assert len(diff) == 3
    for row in diff:
        name = row["metric"].replace("_", " ")
        numbers = f"{row['ours']:.2f} | {row['paper']:.2f} | {row['difference']:+.2f}"
        assert f"| {name} | {numbers.replace('-', '−')} |" in readme


def test_the_table_of_claims_is_that_of_the_code() -> None:
    lines = (ROOT / "docs" / "claims.md").read_text().splitlines()
    rows = [tuple(line.split(" | ")[:2]) for line in lines if line.startswith("| `")]
    assert rows == [(f"| `{one.name}`", one.source) for one in STATEMENTS]
