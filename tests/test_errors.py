"""An error is one printable line, whatever the names and values in it."""

import pickle

import pytest

from reproduce.core.errors import LONGEST, HarnessError, Stopped, brief


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("results/a\nb is damaged", "results/a b is damaged"),
        ("  a\t\r\n b ", "a b"),
        ("\x1b[31mred\x00", "\\x1b[31mred\\x00"),
        ("\ud800 \u202e", "\\ud800 \\u202e"),
        ("λ is 6 ± 1", "λ is 6 ± 1"),
    ],
)
def test_an_error_is_one_printable_line(given: str, line: str) -> None:
    assert str(HarnessError(given)) == line


def test_of_a_very_long_error_both_ends_are_left() -> None:
    message = str(HarnessError(f"begin {'x' * 10**6} end"))
    assert len(message) <= LONGEST
    assert message.startswith("begin xxx")
    assert message.endswith("xxx end")


def test_errors_travel_between_processes() -> None:
    again = pickle.loads(pickle.dumps(Stopped("a\nb")))
    assert type(again) is Stopped
    assert str(again) == "a b"


def test_a_value_whose_text_no_memory_holds_is_shown() -> None:
    bomb: list[object] = ["x"]
    for _ in range(100):
        bomb = [bomb, bomb]
    assert len(brief(bomb)) < LONGEST
    assert brief("8/255") == "'8/255'"
    assert len(brief("x" * 10**6)) < 300
