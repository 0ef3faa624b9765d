"""How the page writes names and numbers."""

import math
import re

_NAMES = {"war": "WAR", "lemma": "Lemma", "checkpoints": "Checkpoints"}


def label(name: str) -> str:
    """Write the name of a table or figure: Table 1, Figure 3, WAR."""
    return _NAMES.get(name) or re.sub(r"(\d+)$", r" \1", name).capitalize()


def with_std(mean: float, std: float) -> str:
    """Write a number of the paper: 47.81 ± 0.09; empty for none."""
    if math.isnan(mean):
        return ""
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def signed(difference: float) -> str:
    """Write a difference with its sign: +0.42, −1.30, 0.00; empty for none."""
    if math.isnan(difference):
        return ""
    text = f"{difference:+.2f}"
    return minus(text) if float(text) else "0.00"


def minus(text: str) -> str:
    """Write the sign of a negative number as typography has it."""
    return text.replace("-", "−")


def count(number: int, word: str) -> str:
    """Write a number of things: 1 seed, 3 seeds."""
    return f"{number:,} {word}{'s' * (number != 1)}"
