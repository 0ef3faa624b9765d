"""Small runs that tests train, stop and compare."""

from collections.abc import Callable

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Config

EPOCHS, STEPS = 3, 3  # 80 images of the tiny configuration, 32 a batch


def quiet(_: str) -> None:
    """Say nothing."""


def never() -> None:
    """Give no reason to stop."""


def results(config: Config, cell: Cell) -> dict[str, bytes]:
    """Return every result of a run but run.json, which holds times."""
    folder = paths.cell_folder(config, cell)
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name not in ("run.json", ".lock")
    }


def stop_at(asked: int) -> Callable[[], str | None]:
    """Ask to stop once asked more often: before every step, and in validation after a batch."""
    times: list[None] = []

    def stop() -> str | None:
        times.append(None)
        return "stopped by the test" if len(times) > asked else None

    return stop
