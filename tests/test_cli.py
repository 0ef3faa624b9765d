"""The command line as a user meets it: what it prints, its exit status, one line an error."""

import io
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import TINY_CELL

from reproduce.cell import parse_cell
from reproduce.cli.app import main
from reproduce.config.load import CONFIG_VARIABLE
from reproduce.config.schema import Config
from reproduce.experiments import paths

COMMANDS = [
    "plan",
    "status",
    "prepare",
    "train",
    "evaluate",
    "table",
    "diff",
    "results",
    "tensorboard",
]


class Shell:
    """Runs the command in this process and keeps what it said."""

    def __init__(self, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.out = self.err = ""

    def __call__(self, *words: str, config: Config | None = None) -> int:
        extra = [] if config is None else ["--config", config.model_dump_json()]
        self._monkeypatch.setattr(sys, "argv", ["reproduce", *words, *extra])
        with pytest.raises(SystemExit) as caught:
            main()
        self.out, self.err = self._capsys.readouterr()
        return caught.value.code or 0

    def error(self) -> str:
        """Return the error, which must be a single line of its own."""
        lines = self.err.strip().splitlines()
        assert lines[-1].startswith("reproduce: ")
        assert "Traceback" not in self.err
        return lines[-1]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    return Shell(capsys, monkeypatch)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(shell: Shell, command: str) -> None:
    assert shell(command, "--help") == 0
    assert f"Example: reproduce {command}" in shell.out.replace("\n", " ")


def test_help_lists_the_commands(shell: Shell) -> None:
    assert shell("--help") == 0
    assert all(command in shell.out for command in COMMANDS)


def test_the_whole_way(shell: Shell, tiny: Callable[..., Config]) -> None:
    config = tiny("experiments.table1.methods={trades: [2]}", "experiments.table1.seeds=[0]")
    assert shell("plan", config=config) == 0
    assert "table1" in shell.out
    assert "paper's V100" in shell.out
    assert shell("status", config=config) == 0
    assert f"{TINY_CELL} │ not begun" in shell.out
    assert shell("train", TINY_CELL, "--max-minutes", "0.000001", config=config) == 75
    assert "run the same command again to continue" in shell.error()
    assert shell("status", config=config) == 0
    assert "saved in epoch 1 of 3" in shell.out
    assert shell("train", TINY_CELL, config=config) == 0
    assert "epoch 3/3" in shell.err
    assert "left)" in shell.err
    assert shell("evaluate", TINY_CELL, config=config) == 0
    assert "pgd20-seed0:  robust" in shell.out
    assert shell("evaluate", TINY_CELL, "--checkpoint", "last", "--seed", "1", config=config) == 0
    assert shell("status", config=config) == 0
    assert "trained" in shell.out
    assert "1/1" in shell.out
    assert shell("table", "table1", config=config) == 0
    assert "# Table 1." in shell.out
    assert shell("diff", "table1", config=config) == 0
    assert "Not a reproduction of the paper" in shell.out
    assert "no paper value" in shell.out
    assert shell("status", config=tiny("train.momentum=0.5")) == 0
    assert "trained with other settings" in shell.out


def test_plan_measures_this_machine(shell: Shell, tiny: Callable[..., Config]) -> None:
    config = tiny()
    assert shell("plan", "--measure", config=config) == 0
    assert "microseconds a pass" in shell.out
    assert "measured" in shell.out.splitlines()[-1]
    saved = json.loads(paths.throughput_file(config).read_text())
    assert set(saved["seconds_per_pass"]) == {"digits/wrn-10-0.25"}
    assert 0 < saved["seconds_per_pass"]["digits/wrn-10-0.25"] < 1
    paths.throughput_file(config).write_text("{}")
    assert shell("plan", config=config) == 1
    assert "is not a measurement" in shell.error()


def test_paper_plan(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell("plan", "table1", "--preset", "paper") == 0
    row = next(line for line in shell.out.splitlines() if "table1" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[:5] == ["table1", "99", "0", "99", "0"]
    # 33 runs each of 12, 20 and 32 GPU-hours at 36 passes a step, of which ours takes 26 or 27
    assert 1_500 < float(cells[5].replace(",", "")) < 1_700


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "--preset", "papr"], "unknown preset 'papr'"),
        (["plan", "table9", "--preset", "demo"], "unknown experiment 'table9'"),
        (["plan", "--preset", "demo", "--set", "trian.epochs=3"], "unknown key 'trian'"),
        (["train", "digits/wrn-9-1/trades/lam-1/seed-0", "--preset", "demo"], "6n + 4"),
        (["train", "some-cell", "--preset", "demo"], "unknown cell id"),
        (["train", "digits/wrn-10-1/trades/lam--1/seed-0", "--preset", "demo"], "unknown cell id"),
        (["prepare", "mnist", "--preset", "demo"], "unknown data set"),
        (["prepare", "cifar10", "--preset", "mini", "--set", "data.cifar10=/none"], "not exist"),
        (["evaluate", TINY_CELL, "--preset", "demo"], "is not trained"),
        (["evaluate", TINY_CELL, "--preset", "demo", "--attack", "pgd7"], "unknown attack"),
        (["evaluate", TINY_CELL, "--preset", "demo", "--checkpoint", "best"], "eval.checkpoint"),
        (["train", TINY_CELL, "--preset", "demo", "--device", "tpu"], "machine.device"),
        (["train", TINY_CELL, "--preset", "demo", "--max-minutes", "-1"], "machine.max_minutes"),
        (["table", "table9", "--preset", "demo"], "unknown table"),
        (["plan", "--config", "none.yaml"], "cannot be read"),
        (["plan"], "there is no config.yaml here"),
    ],
)
def test_one_line_for_bad_input(
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell(*words) == 1
    assert message in shell.error()
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) in (
        [],
        [".lock"],
    )


def test_a_preset_without_a_file_is_said(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell("plan", "--preset", "demo") == 0
    assert "There is no config.yaml here: preset demo as it is." in shell.err
    assert shell("plan", "--preset", "demo", "--config", "config.yaml") == 1
    assert "config.yaml cannot be read" in shell.error()
    (tmp_path / "config.yaml").write_text("preset: mini")
    assert shell("plan") == 0
    assert "Preset mini" in shell.out


def test_methods_that_keep_their_own_value_are_named_once(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("plan", "table6", "--set", f"results={tmp_path}", "--preset", "paper")
    assert shell(*words, "--set", "train.epochs=3") == 0
    assert shell.err.count("train.epochs=3 is not for rst (200)") == 1
    # a job: planning said it
    monkeypatch.setenv(CONFIG_VARIABLE, json.dumps({"train": {"epochs": 3}}))
    assert shell(*words) == 0
    assert "is not for" not in shell.err


def test_one_damaged_run_does_not_hide_the_others(
    shell: Shell, tiny: Callable[..., Config]
) -> None:
    config = tiny()
    path = paths.run_file(paths.cell_folder(config, parse_cell(TINY_CELL)))
    path.parent.mkdir(parents=True)
    for content in ("[]", "{}", "no json"):
        path.write_text(content)
        assert shell("status", config=config) == 0
        assert "damaged" in shell.out
        assert "not begun" in shell.out
        assert shell("plan", config=config) == 0
    assert shell("train", TINY_CELL, config=config) == 0
    assert f"{TINY_CELL} has a damaged run.json: training it again" in shell.out
    assert shell("status", config=config) == 0
    assert "damaged;" not in shell.out


def test_folders_with_brackets(shell: Shell, tiny: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny(f"results={tmp_path}/a[/b]c")
    assert shell("diff", "table1", config=config) == 0
    assert "a[/b]c" in shell.out


def test_an_unreadable_folder(shell: Shell, tiny: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = tiny(f"results={tmp_path / 'file'}")
    assert shell("train", TINY_CELL, config=config) == 1
    assert str(tmp_path / "file") in shell.error()


def test_the_environment_variable(
    shell: Shell, tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, tiny().model_dump_json())
    assert shell("status", "table1") == 0
    assert TINY_CELL in shell.out
    assert parse_cell(TINY_CELL).id == TINY_CELL


def test_version(shell: Shell) -> None:
    assert shell("--version") == 0
    assert shell.out == f"reproduce {version('reproduce')}\n"


@pytest.mark.parametrize(
    ("words", "cause"),
    [(("train", "nonsense"), "HarnessError"), (("publish", "file"), "NotADirectoryError")],
)
def test_debug_shows_where_an_error_comes_from(
    shell: Shell, tiny: Callable[..., Config], words: tuple[str, ...], cause: str, monkeypatch
) -> None:
    if cause != "HarnessError":

        def fail(*_: object) -> None:
            raise NotADirectoryError(20, "Not a directory", "file")

        monkeypatch.setattr("reproduce.share.publish.publish", fail)
    assert shell(*words, config=tiny()) == 1
    line = shell.error()
    assert shell("--debug", *words, config=tiny()) == 1
    shown = shell.err.splitlines()
    assert shown[0].startswith("Traceback")
    assert cause in shell.err
    assert shown[-1] == line
    # it is of one call
    assert shell(*words, config=tiny()) == 1
    assert shell.error() == line


@pytest.mark.parametrize(("encoding", "heads"), [("latin-1", "lambda"), ("utf-8", "λ")])
def test_what_a_terminal_s_encoding_lacks_is_written_readably(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, encoding: str, heads: str
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, tiny().model_dump_json())
    monkeypatch.setattr(sys, "argv", ["reproduce", "diff", "table1"])
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with pytest.raises(SystemExit, match="0"):
            main()
        terminal.flush()
        assert f" {heads} " in terminal.buffer.getvalue().decode(encoding)
