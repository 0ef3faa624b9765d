"""What the examination of Lemma 4.2 found, as a table of the page."""

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.lemma.results import QUANTITIES, WAYS, Exponent, read_examination
from reproduce.report.exhibits import Cell, Plain
from reproduce.report.words import minus

_HEADS = (
    "Largest norm",
    "Input dimension",
    "Exponent in m",
    "95 % interval",
    "Exponent in H",
    "95 % interval",
    "Bound",
    "In m",
    "In H",
)


def lemma_view(config: Config, damaged: list[str]) -> Plain | None:
    """Write the fitted exponents out; None if there are none of these settings yet.

    Parameters
    ----------
    config : Config
        The configuration.
    damaged : list of str
        Takes what is wrong with a file that cannot be read.
    """
    try:
        found = read_examination(config)
    except HarnessError as error:
        damaged.append(str(error))
        return None
    if found is None:
        return None
    rows = []
    for way, place in WAYS.items():
        for name, quantity in QUANTITIES.items():
            fit = found.fits[way, name]
            title = quantity.title if quantity.covered else f"{quantity.title} *"
            verdicts = fit.bound, fit.width.tightness, fit.depth.tightness
            rows.append(
                (
                    Cell(title),
                    Cell(place),
                    *_exponent(fit.width),
                    *_exponent(fit.depth),
                    *map(Cell, verdicts),
                )
            )
    caption = "Growth of the input gradient with width m and depth H; the lemma's bound is 0.5 each"
    return Plain("lemma-exponents", caption, _HEADS, tuple(rows))


def _exponent(found: Exponent) -> tuple[Cell, Cell]:
    """Write an exponent, and its interval."""
    interval = f"{found.low:.3f} to {found.high:.3f}"
    return Cell(minus(f"{found.value:.3f}"), found.value), Cell(minus(interval), found.low)
