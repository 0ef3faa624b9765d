"""The application object, options that every command shares, and how errors are shown."""

import inspect
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from reproduce.cell import EXAMPLE
from reproduce.config.fields import PRESETS
from reproduce.config.load import (
    CONFIG_VARIABLE,
    build_config,
    from_snakefile,
    kept_values,
    read_settings,
)
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import planned_methods

app = typer.Typer(
    name="reproduce",
    help=(
        "Regenerate the tables of 'Do Wider Neural Networks Really Help Adversarial Robustness?' "
        "(Wu et al., NeurIPS 2021) and compare them with the paper."
    ),
    epilog="Example: reproduce plan --preset demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# whether an error shows where it comes from
_debug = False

_DEFAULT_CONFIG = "config.yaml"
_SHARED: dict[str, Any] = {
    "config": Annotated[
        str | None,
        typer.Option(
            envvar=CONFIG_VARIABLE,
            show_envvar=False,
            help="File or JSON of settings; else config.yaml.",
        ),
    ],
    "preset": Annotated[str | None, typer.Option(help=f"{', '.join(PRESETS)}; else the file's.")],
    "sets": Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting: train.epochs=10. Repeatable."),
    ],
    "device": Annotated[
        str | None,
        typer.Option(help="cpu, cuda or cuda:K; else machine.device."),
    ],
}
CellArgument = Annotated[str, typer.Argument(metavar="CELL", help=f"Cell id, such as {EXAMPLE}.")]
ExperimentArgument = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="Name of an experiment, such as table1.")
]
ExperimentsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="EXPERIMENT", help="Experiments, such as table1. None: all."),
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
    """Take the options before the command."""
    global _debug
    _debug = debug


def command(
    name: str | None = None,
    *,
    device: bool = False,
    defaults: Callable[[Any], Mapping[str, str]] | None = None,
) -> Callable[..., Any]:
    """Register a command: its first parameter is the configuration, built from shared options.

    `defaults` gives shared options that the user left out from the command's argument `folder`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        shared = [key for key in _SHARED if device or key != "device"]
        _, *own = inspect.signature(function).parameters.values()
        options = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_SHARED[key]
            )
            for key in shared
        ]

        @wraps(function)
        def run(**given: Any) -> None:
            found = {key: value for key in shared if (value := given.pop(key)) is not None}
            if defaults is not None:
                found = {**defaults(given["folder"]), **found}
            function(_configure(**found), **given)

        run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*own, *options]}
        app.command(name)(run)
        return function

    return register


def _configure(
    config: str | None = None,
    preset: str | None = None,
    sets: list[str] | None = None,
    device: str | None = None,
) -> Config:
    overrides = [*(sets or []), *([] if device is None else [f"machine.device={device}"])]
    if config is None and Path(_DEFAULT_CONFIG).exists():
        config = _DEFAULT_CONFIG
    if config is None:
        if preset is None:
            raise HarnessError(
                "there is no config.yaml here; change to the harness's folder, or give --config "
                "or --preset"
            )
        print(f"There is no config.yaml here: preset {preset} as it is.", file=sys.stderr)
    user = read_settings(config or "{}", preset, overrides)
    settings = build_config(user)
    # planning said it to the jobs of a Snakefile
    if not from_snakefile() and (kept := kept_values(user, settings, planned_methods(settings))):
        print(f"{kept}.", file=sys.stderr)
    return settings


def console() -> Console:
    """Return a console for tables: as wide as the terminal, wide enough in a pipe or log."""
    plain = Console(soft_wrap=True)
    return plain if plain.is_terminal else Console(soft_wrap=True, width=160)


def main() -> NoReturn:
    """Run the command line; what the user can mend is one line, with --debug after a traceback."""
    # that of a notebook's terminal may not even import here
    os.environ["MPLBACKEND"] = "agg"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if closed
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (HarnessError, OSError) as error:
        text = str(error)
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            text = f"{place}{error.strerror or error}"
        if _debug:
            traceback.print_exc()
        print(f"reproduce: {' '.join(text.split())}", file=sys.stderr)
        sys.exit(getattr(error, "exit_status", 1))
    sys.exit(0)
