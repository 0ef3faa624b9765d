"""The command line as a user meets it: what it prints, its exit status, one line an error."""

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import TINY_CELL
from typer.testing import CliRunner

from reproduce.cell import parse_cell
from reproduce.cli.app import app, main
from reproduce.config.load import CONFIG_VARIABLE
from reproduce.config.schema import Config
from reproduce.experiments import paths

COMMANDS = [c.name or c.callback.__name__ for c in app.registered_commands]


class Said(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error, which must be a single line of its own."""
        last = self.err.strip().splitlines()[-1]
        assert self.status == 1, self.err
        assert last.startswith("reproduce: ")
        assert last.isprintable()
        assert "Traceback" not in self.err
        return last


Shell = Callable[..., Said]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Shell:
    """Run the command in this process, in the test's folder."""
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, config: Config | None = None) -> Said:
        given = [] if config is None else ["--config", config.model_dump_json()]
        monkeypatch.setattr(sys, "argv", ["reproduce", *words, *given])
        with pytest.raises(SystemExit) as ended:
            main()
        return Said(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_and_fits_a_screen(command: str) -> None:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(app, [command, "--help"]).output
    assert f"Example: reproduce {command}" in shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= (29 if command == "evaluate" else 24)


def test_version(shell: Shell) -> None:
    assert shell("--version").out == f"reproduce {version('reproduce')}\n"


def test_the_whole_way(shell: Shell, tiny: Callable[..., Config]) -> None:
    config = tiny("experiments.table1.methods={trades: [2]}", "experiments.table1.seeds=[0]")
    assert "paper's V100" in shell("plan", config=config).out
    assert f"{TINY_CELL} │ not begun" in shell("status", config=config).out
    stopped = shell("train", TINY_CELL, "--max-minutes", "0.000001", config=config)
    assert stopped.status == 75
    assert "run the same command again to continue" in stopped.err
    assert "saved in epoch 1 of 3" in shell("status", config=config).out
    trained = shell("train", TINY_CELL, config=config)
    assert trained.status == 0
    assert "epoch 3/3" in trained.err
    assert "pgd20-seed0:  robust" in shell("evaluate", TINY_CELL, config=config).out
    assert shell("evaluate", TINY_CELL, "--checkpoint", "last", config=config).status == 0
    shown = shell("status", config=config).out
    assert "trained" in shown
    assert "1/1" in shown
    assert "# Table 1." in shell("table", "table1", config=config).out
    compared = shell("diff", "table1", config=config).out
    assert "Not a reproduction of the paper" in compared
    assert "no paper value" in compared
    other = shell("status", config=tiny("train.momentum=0.5")).out
    assert "trained with other settings" in other


def test_plan_measures_this_machine(shell: Shell, tiny: Callable[..., Config]) -> None:
    config = tiny()
    shown = shell("plan", "--measure", config=config).out
    assert "microseconds a pass" in shown
    assert "measured" in shown.splitlines()[-1]
    saved = json.loads(paths.throughput_file(config).read_text())["seconds_per_pass"]
    assert saved.keys() == {"digits/wrn-10-0.25"}
    assert 0 < saved["digits/wrn-10-0.25"] < 1
    paths.throughput_file(config).write_text("{}")
    assert "throughput.json is damaged" in shell("plan", config=config).error


def test_paper_plan(shell: Shell) -> None:
    shown = shell("plan", "table1", "--preset", "paper")
    assert "There is no config.yaml here: preset paper as it is." in shown.err
    row = next(line for line in shown.out.splitlines() if "table1" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[:5] == ["table1", "99", "0", "99", "0"]
    # 33 runs each of 12, 20 and 32 GPU-hours at 36 passes a step, of which ours takes 26 or 27
    assert 1_500 < float(cells[5].replace(",", "")) < 1_700
    Path("config.yaml").write_text("preset: mini")
    assert "Preset mini" in shell("plan").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "table9", "--preset", "demo"], "unknown experiment 'table9'"),
        (["plan", "--preset", "demo", "--set", "trian.epochs=3"], "unknown key 'trian'"),
        (["plan", "--preset", "demo", "--set", "train.epochs=" + "9" * 400], "train.epochs"),
        (["train", "\x1b[31m", "--preset", "demo"], "unknown cell id"),
        (["prepare", "../digits", "--preset", "demo"], "unknown data set"),
        (["prepare", "cifar10", "--preset", "mini", "--set", "data.cifar10=/none"], "not exist"),
        (["evaluate", TINY_CELL, "--preset", "demo"], "is not trained"),
        (["evaluate", TINY_CELL, "--preset", "demo", "--attack", "pgd7"], "preset demo has: "),
        (["train", TINY_CELL, "--preset", "demo", "--device", "tpu"], "machine.device"),
        (["table", "../table1", "--preset", "demo"], "unknown table"),
        (["figure", "a\nb", "--preset", "demo"], "unknown figure"),
        (["plan", "--config", "no\udcff.yaml"], "cannot be read"),
        (["plan"], "there is no config.yaml here"),
        (["report", "--preset", "demo", "--set", 'results="a\\0b"'], "results"),
    ],
    ids=range(14),
)
def test_bad_input(shell: Shell, tmp_path: Path, words: list[str], message: str) -> None:
    assert message in shell(*words).error
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".lock"}


def test_methods_that_keep_their_own_value_are_named_once(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("plan", "table6", "--preset", "paper")
    said = shell(*words, "--set", "train.epochs=3").err
    assert said.count("train.epochs=3 is not for rst (200)") == 1
    # a job: planning said it
    monkeypatch.setenv(CONFIG_VARIABLE, json.dumps({"train": {"epochs": 3}}))
    assert "is not for" not in shell(*words).err


@pytest.mark.parametrize("command", ["plan", "status", "table", "report"])
def test_results_that_are_nothing(
    shell: Shell, tiny: Callable[..., Config], tmp_path: Path, command: str
) -> None:
    config, garbage = tiny(), b'{"a": NaN}\xff\x00'
    folder = paths.cell_folder(config, parse_cell(TINY_CELL))
    files = [paths.run_file(folder), paths.trace_file(folder), paths.epochs_file(folder)]
    files.append(paths.record_file(folder, "best-test", "pgd20", 0))
    files += [paths.lemma_file(config), paths.examples_file(config, "digits")]
    files += [file.with_suffix(".json") for file in (files[3], files[5])]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(garbage)
    words = [command, *(["table1"] if command == "table" else [])]
    said = shell(*words, config=config)
    # damage is named, or left out and named in what is made
    assert said.status == 0 or said.error
    assert {path.name for path in tmp_path.iterdir()} == {"results"}
    assert all(path.read_bytes() == garbage for path in files)


def test_odd_folders(shell: Shell, tiny: Callable[..., Config], tmp_path: Path) -> None:
    assert "a[/b]c" in shell("diff", "table1", config=tiny(f"results={tmp_path}/a[/b]c")).out
    (tmp_path / "file").write_text("")
    said = shell("train", TINY_CELL, config=tiny(f"results={tmp_path / 'file'}"))
    assert str(tmp_path / "file") in said.error


@pytest.mark.parametrize(
    ("words", "cause"),
    [(("train", "nonsense"), "HarnessError"), (("report",), "NotADirectoryError")],
)
def test_debug_shows_where_an_error_comes_from(
    shell: Shell,
    tiny: Callable[..., Config],
    words: tuple[str, ...],
    cause: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise NotADirectoryError(20, "Not a directory", "file")

    monkeypatch.setattr("reproduce.report.build.write_report", fail)
    line = shell(*words, config=tiny()).error
    shown = shell("--debug", *words, config=tiny()).err.splitlines()
    assert shown[0].startswith("Traceback")
    assert any(cause in each for each in shown)
    assert shown[-1] == line
    # it is of one call
    assert shell(*words, config=tiny()).error == line
