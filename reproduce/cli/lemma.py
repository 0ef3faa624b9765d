"""The command that examines Lemma 4.2."""

from typing import TYPE_CHECKING

from rich.table import Table

from reproduce import paths
from reproduce.cli.app import ConfigOption, PresetOption, SetOption, console
from reproduce.cli.app import configure as _configure

if TYPE_CHECKING:
    from reproduce.config import Lemma
    from reproduce.lemma.results import Examination


def lemma(
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Examine the bound of Lemma 4.2 on random networks; a minute on a CPU.

    Example: reproduce lemma --preset demo
    """
    from reproduce.lemma.run import examine

    settings = _configure(config, preset, sets)
    found = examine(settings)
    console().print(_table(found))
    for line in _conclusions(settings.lemma, found):
        print(line)
    print(f"Written: {paths.lemma_file(settings)}")


def _table(found: "Examination") -> Table:
    from reproduce.lemma.results import QUANTITIES, WAYS

    table = Table("input", "largest norm found", "exponent in m", "exponent in H", "bound")
    table.add_column("tight in m")
    table.add_column("tight in H")
    for (way, name), fit in found.fits.items():
        quantity = QUANTITIES[name]
        title = quantity.title + ("" if quantity.covered else " (outside the condition)")
        words = (fit.bound, fit.width.tightness, fit.depth.tightness)
        table.add_row(WAYS[way], title, str(fit.width), str(fit.depth), *words)
    return table


def _conclusions(lemma: "Lemma", found: "Examination") -> list[str]:
    from reproduce.lemma.fit import in_words
    from reproduce.lemma.results import QUANTITIES, WAYS

    lines = []
    for (way, name), fit in found.fits.items():
        if name == "near":
            growth, low, high = fit.growth
            lines.append(
                f"{WAYS[way]}, {QUANTITIES[name].title}: {in_words(fit)}. Largest norm / sqrt(m H) "
                f"{fit.largest_ratio:.3g}; from m = {min(lemma.widths)} to {max(lemma.widths)} "
                f"it changes by a factor of {growth:.2f} ({low:.2f} to {high:.2f})."
            )
    left_out = int((~found.rows["fitted"]).sum())
    lines.append(
        f"{len(found.rows)} networks in {found.about['seconds']:.0f} s; intervals are 95 %. "
        f"{left_out} narrower than {lemma.wide_enough:g} H (1 + log H) are not fitted."
    )
    return lines
