"""Documents that are written from the code, or make claims about it, are true."""

import importlib.util
import json
import re
from importlib import metadata
from pathlib import Path

import pandas as pd
import yaml
from conftest import ROOT
from packaging.specifiers import SpecifierSet

from reproduce.claims.statements import STATEMENTS
from reproduce.config.load import load_config
from reproduce.experiments.grids import experiment_names
from reproduce.results.status import plan
from reproduce.tables.diff import VERDICTS

DOCS = ROOT / "docs"


def test_generated_documents_are_current() -> None:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    text = (DOCS / "configuration.md").read_text()
    assert text == generate.document(), "run `make docs`"
    schema = (DOCS / "config.schema.json").read_text()
    assert schema == generate.schema(), "run `make docs`"
    assert (DOCS / "commands.md").read_text() == generate.commands(), "run `make docs`"
    assert json.loads(schema)["title"] == "Config"
    assert load_config(ROOT / "config.yaml").preset == "paper"
    for line in text.splitlines():
        if line.startswith("| `"):  # every setting is described
            assert len(line.split("|")[2].strip()) > 10, line


def test_the_verdicts_of_the_diff_are_described() -> None:
    lines = (DOCS / "diff.md").read_text().splitlines()
    first = lines.index("| verdict | meaning |") + 2
    described = [f"| {name} | {meaning} |" for name, meaning in VERDICTS.items()]
    assert lines[first : first + len(described)] == described


def test_the_lock_pins_what_the_package_needs() -> None:
    text = (ROOT / "envs" / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))
    conda = yaml.safe_load((ROOT / "envs" / "gpu.yaml").read_text())["dependencies"][-1]["pip"]
    wanted = dict(requirement.split("==") for requirement in conda)
    assert f"TORCH := torch=={wanted.pop('torch')}" in (ROOT / "Makefile").read_text()
    constraints = (ROOT / "envs" / "torch-constraints.txt").read_text().splitlines()
    wanted |= dict(line.split("==") for line in constraints if not line.startswith("#"))
    assert wanted.items() <= pins.items()
    # every line has a hash; "; python_version < ..." says where a line counts
    lines = [x for x in text.replace("\\\n", " ").splitlines() if x and not x.startswith("#")]
    line = r"\S+==\S+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+ *"
    assert all(re.fullmatch(line, x) for x in lines)
    # and is for the oldest Python that the README names
    assert "You need Python 3.11 or newer" in (ROOT / "README.md").read_text()
    for package in metadata.distributions():
        about = package.metadata
        if pins.get(about["Name"].lower()) == about["Version"]:
            assert "3.11.0" in SpecifierSet(about.get("Requires-Python") or ""), about["Name"]


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            # of the badge, on the site that hosts the repository
            if not target.startswith(("http", "../../actions")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_costs_in_the_readme_are_those_of_the_plan(tmp_path: Path) -> None:
    config = load_config("{}", "paper", [f"results={tmp_path}"])
    rows = re.findall(
        r"^\| `(table\d|figure[36]|all)` \|[^|]*\| (\d+) \| (\d+) \| ([\d,]+) \| ([\d.]+) GB \|$",
        (DOCS / "reproduce.md").read_text(),
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
    assert f"`all` then takes {hours:,.0f} hours" in (DOCS / "reproduce.md").read_text()


def test_what_was_measured_is_what_is_published() -> None:
    readme, page = (ROOT / "README.md").read_text(), (DOCS / "measured.md").read_text()
    folder = ROOT / "results" / "reference" / "cpu"
    table = (folder / "mini" / "tables" / "table1.md").read_text()
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 3
    assert [row for row in rows if row not in page] == []
    diff = pd.read_csv(folder / "paper" / "diff" / "table1.csv").to_dict("records")
    assert len(diff) == 3
    for row in diff:
        name = row["metric"].replace("_", " ")
        ours, paper = f"{row['ours']:.2f}", f"{row['paper']:.2f}"
        difference = f"{row['difference']:+.2f}".replace("-", "−")
        assert f"| {name} | {ours} | {paper} | {difference} |" in page
        assert re.search(rf"{name}[^|]*\| {paper} \| {ours} \| 1 \| {row['verdict']} \|", readme)
    claims = json.loads((folder / "mini" / "claims.json").read_text())["claims"]
    effects = {one["name"]: (one["verdict"], one["effects"][:1]) for one in claims}
    # the claim is that stability falls, README says by how much it rises
    for name, sign in (("lambda-stability", 1), ("wider-natural", 1), ("wider-stability", -1)):
        verdict, (effect,) = effects[name]
        value, *ends = (sign * effect[key] for key in ("value", "low", "high"))
        low, high = (f"{end:.1f}".replace("-", "−") for end in sorted(ends))
        assert f"| {value:+.1f} points ({low} to {high}) | 2 | {verdict} |" in readme


def test_the_table_of_claims_is_that_of_the_code() -> None:
    lines = (ROOT / "docs" / "claims.md").read_text().splitlines()
    rows = [tuple(line.split(" | ")[:2]) for line in lines if line.startswith("| `")]
    assert rows == [(f"| `{one.name}`", one.source) for one in STATEMENTS]


def test_the_steps_name_files_and_names_that_exist() -> None:
    page = " ".join((DOCS / "extend.md").read_text().split())
    for path in re.findall(r"`((?:reproduce|tests)/[^`]*)`", page):
        assert (ROOT / path).exists(), path
    named = re.findall(r"`(\w+)` (?:in|from) `([^`]+\.py)`", page)
    assert len(named) > 8
    for name, path in named:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{name} in {path}"
