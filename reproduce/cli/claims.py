"""The command that judges the paper's claims."""

from rich.markup import escape
from rich.table import Table

from reproduce import paths
from reproduce.cli.app import ConfigOption, PresetOption, SetOption, console
from reproduce.cli.app import configure as _configure

# lines about what is missing; an empty campaign has hundreds
_SHOWN = 10
_COLOURS = {"holds": "green", "fails": "red", "too little data": "yellow"}


def claims(
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Test the paper's claims on whatever results exist: holds, fails, or too little data.

    Example: reproduce claims --preset demo
    """
    from reproduce.claims import context, judge_claims, write_claims

    settings = _configure(config, preset, sets)
    judged_on = context(settings)
    found = judge_claims(settings)
    write_claims(settings, found)
    print(f"Preset {judged_on['preset']}; data: {', '.join(judged_on['datasets'])}.")
    if judged_on["deviations"]:
        print(f"Not the paper's protocol: {'; '.join(judged_on['deviations'])}.")
    table = Table("claim", "verdict", "what was found", show_lines=True)
    for column in table.columns[:2]:
        column.no_wrap = True
    for claim in found:
        colour = _COLOURS[claim.verdict]
        heard = f"{claim.statement} [{claim.source}]"
        table.add_row(
            claim.name, f"[{colour}]{claim.verdict}[/]", f"{escape(heard)}\n{escape(claim.summary)}"
        )
    console().print(table)
    missing = list(dict.fromkeys(line for claim in found for line in claim.missing))
    for line in missing[:_SHOWN]:
        print(f"Missing: {line}")
    if len(missing) > _SHOWN:
        print(f"Missing: {len(missing) - _SHOWN} more, listed in the file.")
    print(f"Written: {paths.claims_file(settings)}")
