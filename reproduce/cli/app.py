"""The application object, options that every command shares, and how errors are shown."""

import codecs
import inspect
import io
import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from reproduce.cell import EXAMPLE
from reproduce.config.load import (
    CONFIG_VARIABLE,
    build_config,
    from_snakefile,
    kept_values,
    read_settings,
)
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import experiment_names, find_experiment, planned_methods

app = typer.Typer(
    name="reproduce",
    help=(
        "Regenerate the tables of 'Do Wider Neural Networks Really Help Adversarial Robustness?' "
        "(Wu et al., NeurIPS 2021) and compare them with the paper."
    ),
    epilog="Example: reproduce plan --preset demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# what a terminal or a pipe of another encoding than UTF-8 shows instead
_READABLE = {"λ": "lambda", "Δ": "Delta", "±": "+-", "−": "-", "–": "-", "…": "..."}

# whether an error shows where it comes from
_debug = False

_DEFAULT_CONFIG = "config.yaml"

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        envvar=CONFIG_VARIABLE,
        help="Configuration file (config.yaml if not given), or a mapping written out in JSON.",
    ),
]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="paper, short, mini or demo, whatever the file says.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting, for example train.epochs=10; repeatable."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda or cuda:K; short for --set machine.device="),
]
CellArgument = Annotated[str, typer.Argument(metavar="CELL", help=f"Cell id, such as {EXAMPLE}.")]
ExperimentArgument = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="Name of an experiment, such as table1.")
]
ExperimentsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="EXPERIMENT", help="Experiments, such as table1; all if none."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"reproduce {version('reproduce')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, before its line.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and end."
        ),
    ] = False,
) -> None:
    """Take what stands before the command."""
    global _debug
    _debug = debug


def console() -> Console:
    """Return a console for tables: as wide as the terminal, wide enough in a pipe or log."""
    plain = Console(soft_wrap=True)
    return plain if plain.is_terminal else Console(soft_wrap=True, width=160)


def command(name: str | None = None, *, device: bool = False) -> Callable[..., Any]:
    """Register a command: its first parameter is the configuration, built from shared options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        shared = {"config": ConfigOption, "preset": PresetOption, "sets": SetOption}
        if device:
            shared["device"] = DeviceOption
        _, *own = inspect.signature(function).parameters.values()
        options = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for key, kind in shared.items()
        ]

        @wraps(function)
        def run(**given: Any) -> None:
            function(configure(*(given.pop(key) for key in shared)), **given)

        run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*own, *options]}
        app.command(name)(run)
        return function

    return register


def configure(
    config: str | None, preset: str | None, sets: list[str] | None, device: str | None = None
) -> Config:
    """Build the configuration from the shared options."""
    overrides = list(sets or [])
    if device is not None:
        overrides.append(f"machine.device={device}")
    if config is None and Path(_DEFAULT_CONFIG).exists():
        config = _DEFAULT_CONFIG
    if config is None and preset is None:
        raise HarnessError(
            "there is no config.yaml here; change to the harness's folder, or give --config "
            "or --preset"
        )
    if config is None:
        print(f"There is no config.yaml here: preset {preset} as it is.", file=sys.stderr)
    user = read_settings(config or "{}", preset, overrides)
    settings = build_config(user)
    if not from_snakefile():  # planning said it
        kept = kept_values(user, settings, planned_methods(settings))
        if kept is not None:
            print(f"{kept}.", file=sys.stderr)
    return settings


def chosen_experiments(config: Config, names: list[str] | None) -> list[str]:
    """Return the experiments named, checked, or all of the configuration."""
    if not names:
        return list(experiment_names(config))
    return [find_experiment(config, name).name for name in names]


def main() -> NoReturn:
    """Run the command line; what the user can mend is one line, with --debug after a traceback."""
    # that of a notebook's terminal may not even import here
    os.environ["MPLBACKEND"] = "agg"
    codecs.register_error("readable", _readable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if closed
            stream.reconfigure(errors="readable")
    try:
        app()
    except HarnessError as error:
        _fail(error)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(HarnessError(f"{place}{error.strerror or error}"))
    except UnicodeEncodeError as error:  # what is printed is always readable: a file's name
        _fail(
            HarnessError(
                f"{error.object!r:.200} cannot be the name of a file, {error.encoding} lacks "
                f"{error.object[error.start]!r}; names are to be UTF-8, and where the locale "
                "is another, set PYTHONUTF8=1"
            )
        )
    sys.exit(0)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what an encoding lacks in other characters, or as an escape."""
    if isinstance(error, UnicodeEncodeError):
        readable = _READABLE.get(error.object[error.start])
        if readable is not None:
            return readable, error.start + 1
        error.end = error.start + 1
    return codecs.backslashreplace_errors(error)


def _fail(error: HarnessError) -> NoReturn:
    """End with an error's line; called where it, or what it is made of, is being handled."""
    if _debug:
        traceback.print_exc()
    print(f"reproduce: {error}", file=sys.stderr)
    sys.exit(error.exit_status)
