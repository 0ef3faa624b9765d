"""Bad input through the commands: one line and a status, nothing made outside the results."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY_CELL

from reproduce.cell import parse_cell
from reproduce.cli.app import app, main
from reproduce.config.load import CONFIG_VARIABLE
from reproduce.config.schema import Config
from reproduce.experiments import paths

COMMANDS = [c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands]


Shell = Callable[..., tuple[int, str]]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Shell:
    """Run the command in the test's folder: its status, and what it said of errors."""
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["reproduce", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "--config", "no\udcff.yaml"],
        ["plan", "--config", "."],
        ["plan", "--config", "{[[["],
        ["plan", "--preset", "demo", "--set", "train.epochs=" + "9" * 400],
        ["status", "--preset", "demo", "--set", "a." * 3000 + "b=1"],
        ["train", "digits/wrn-10-1/trades/lam-1/../..", "--preset", "demo"],
        ["train", "\x1b[31m", "--preset", "demo"],
        ["prepare", "../digits", "--preset", "demo"],
        ["table", "../table1", "--preset", "demo"],
        ["figure", "a\nb", "--preset", "demo"],
        ["evaluate", "--weights", ".", "--architecture", "wrn-10-1", "--dataset", "digits"],
        ["report", "--preset", "demo", "--set", 'results="a\\0b"'],
    ],
    ids=range(12),
)
def test_bad_words(shell: Shell, tmp_path: Path, words: list[str]) -> None:
    status, said = shell(*words)
    assert status == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith("reproduce: "), said
    assert last.isprintable()
    assert list(tmp_path.iterdir()) == []


def _damage(config: Config) -> list[Path]:
    """Put bytes that are nothing where commands look for results."""
    folder = paths.cell_folder(config, parse_cell(TINY_CELL))
    record = paths.record_file(folder, "best-test", "pgd20", 0)
    places = [
        paths.run_file(folder),
        paths.trace_file(folder),
        paths.epochs_file(folder),
        record,
        record.with_suffix(".json"),
        paths.lemma_file(config),
        paths.throughput_file(config),
        paths.examples_file(config, "digits"),
        paths.examples_file(config, "digits").with_suffix(".json"),
    ]
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'{"a": NaN}\xff\x00')
    return places


@pytest.mark.parametrize("command", ["plan", "status", "table", "claims", "report", "results"])
def test_results_that_are_nothing(
    shell: Shell, tiny: Callable[..., Config], tmp_path: Path, command: str
) -> None:
    config = tiny()
    damaged = _damage(config)
    words = [command, *(["table1"] if command == "table" else [])]
    status, said = shell(*words, "--config", config.model_dump_json())
    # damage is named, or left out and named in what is made
    assert status == 0 or said.strip().splitlines()[-1].startswith("reproduce: ")
    assert {path.name for path in tmp_path.iterdir()} == {"results"}
    assert all(path.read_bytes() == b'{"a": NaN}\xff\x00' for path in damaged)


def test_a_folder_whose_name_is_no_unicode(
    shell: Shell, tiny: Callable[..., Config], attacked: Path
) -> None:
    config = tiny(f"results={attacked}")
    status, said = shell("publish", "b\udcff", "--config", config.model_dump_json())
    assert status == 1
    assert "cannot be the name of a file, utf-8 lacks '\\udcff'" in said.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(
    run_command: Callable[..., str], tiny: Callable[..., Config], command: str
) -> None:
    told = " ".join(run_command(tiny(), command, "--help").split())
    assert f"Example: reproduce {command}" in told
