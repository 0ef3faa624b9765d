"""How many images go through a network at once: fewer where they are large, whatever runs it."""

import pytest
import torch

from reproduce.compute.device import images_at_once
from reproduce.config.schema import Machine


def test_small_images_are_no_more_and_one_always_goes() -> None:
    sizes = {8: 10, 32: 10, 33: 9, 64: 5, 320: 1, 3200: 1}
    assert {
        size: images_at_once(Machine(eval_batch=10), torch.device("cpu"), size) for size in sizes
    } == sizes


class _Card:
    def __init__(self, gibibytes: float) -> None:
        self.total_memory = int(gibibytes * 2**30)


@pytest.mark.parametrize(
    ("gibibytes", "most", "of_four"),
    [(8, 128, 46), (16, 256, 93), (24, 500, 128), (139, 1000, 500), (0.01, 1, 1)],
)
def test_half_of_a_cards_memory(
    monkeypatch: pytest.MonkeyPatch, gibibytes: float, most: int, of_four: int
) -> None:
    """Cut to a size that cards share; where none fits, as many as do."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: _Card(gibibytes))
    assert images_at_once(Machine(), torch.device("cuda", 0), 32) == most
    # four jobs share the card
    shared = images_at_once(Machine(jobs_per_gpu=4), torch.device("cuda", 0), 32)
    assert shared == of_four
    assert images_at_once(Machine(eval_batch=7), torch.device("cuda", 0), 32) == 7
