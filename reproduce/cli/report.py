"""The command that shows everything on one page: report."""

from reproduce.cli.app import ConfigOption, PresetOption, SetOption
from reproduce.cli.app import configure as _configure


def report(
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write report.html, one file with every table, figure and claim from whatever results exist.

    Example: reproduce report --preset demo
    """
    from reproduce.report import write_report

    print(f"Written: {write_report(_configure(config, preset, sets))}")
