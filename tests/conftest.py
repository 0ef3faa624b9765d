"""What tests share: tiny configurations, prepared digits, and real CIFAR where it is at hand."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from reproduce.cell import Cell, parse_cell
from reproduce.cli.app import main
from reproduce.config.load import CONFIG_VARIABLE, load_config
from reproduce.config.schema import Config
from reproduce.data.sources import prepare
from reproduce.experiments import paths
from reproduce.models.load import ModelSource

if TYPE_CHECKING:
    from faulty_work import Work

ROOT = Path(__file__).resolve().parent.parent
# a terminal of before Unicode, in a notebook of another environment
ODD_TERMINAL = {"PYTHONIOENCODING": "ascii", "MPLBACKEND": "module://not.installed"}
TINY_CELL = "digits/wrn-10-0.25/trades/lam-2/seed-0"
TINY = [
    "data.train_images=100",
    "data.test_images=40",
    "train.epochs=3",
    "train.batch_size=32",
    "train.holdout=20",
    # the paper's, where the demo has float64
    "train.precision=float32",
    "eval.precision=float32",
    "eval.epsilon=0.2",
    "train.validation.start=0",
    "train.validation.epsilon=0.2",
    "train.attack={epsilon: 0.2, step_size: 0.1, steps: 2}",
    "train.validation.attack={steps: 3, step_size: 0.1}",
    "eval.attacks.pgd20={steps: 3, step_size: 0.1}",
    "experiments.table1.architectures=[wrn-10-0.25]",
    "experiments.table1.methods={trades: [2], at: [1]}",
    "experiments.table1.seeds=[0, 1]",
    "experiments.table2=null",
    "experiments.table3=null",
    "experiments.table6=null",
    *(f"experiments.figure{number}=null" for number in (1, 2, 3, 4, 6, 7, 8, 9)),
    "lemma={widths: [30, 60], depths: [1, 2], seeds: [0, 1], candidates: 4, rounds: 1}",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available() and "REPRODUCE_TEST_DEVICE" not in os.environ:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU here"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Sums over several threads are not repeatable to the bit."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_works() -> None:
    """A shell has its background jobs ignore Ctrl-C, and so what they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _coverage_goes_on() -> Iterator[None]:
    """One of AutoAttack's checks takes the tracer away, which measures the coverage of tests."""
    tracer = sys.gettrace()
    yield
    sys.settrace(tracer)


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the digits prepared."""
    folder = tmp_path_factory.mktemp("data")
    config = load_config("{}", "demo", [f"data.folder={folder}"])
    prepare(config.data, "digits", paths.prepared_file(config, "digits"))
    return folder


@pytest.fixture(scope="session")
def preloaded() -> Iterator[str]:
    """The address of a process that has imported all, of which jobs of workflows can be forks."""
    command = (
        "import os, sys; print(os.environ['REPRODUCE_PRELOADED'], flush=True); sys.stdin.read()"
    )
    server = [sys.executable, "-m", "reproduce.workflow.preload", sys.executable, "-c", command]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ODD_TERMINAL
    with subprocess.Popen(server, text=True, env=environment, **pipes) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture
def tiny(tmp_path: Path, digits_folder: Path) -> Callable[..., Config]:
    """Make a configuration whose cells train in about a second; takes more overrides."""

    def make(*sets: str) -> Config:
        places = [f"results={tmp_path / 'results'}", f"data.folder={digits_folder}"]
        return load_config("{}", "demo", [*places, *TINY, *sets])

    return make


@pytest.fixture
def paper(tmp_path: Path) -> Callable[..., Config]:
    """Make the paper's configuration, for made-up results; takes overrides."""
    return lambda *sets: load_config("{}", "paper", [f"results={tmp_path}", *sets])


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., str]:
    """Run the command line in this process: its output, or its error line if it has a status."""

    def run(config: Config, *words: str, status: int = 0) -> str:
        monkeypatch.setenv(CONFIG_VARIABLE, config.model_dump_json())
        monkeypatch.setattr(sys, "argv", ["reproduce", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert ended.value.code == status, shown.err
        assert "Traceback" not in shown.err
        return shown.out if status == 0 else shown.err

    return run


@pytest.fixture
def cell() -> Cell:
    return parse_cell(TINY_CELL)


@pytest.fixture(scope="session")
def real_cifar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with cifar10.npz and cifar-100-python, unpacked from a local copy.

    The copy is a folder with an ``unpack.py`` that writes both; it is looked for in
    REPRODUCE_TEST_DATA and in shared/data beside the checkout.
    """
    source = Path(os.environ.get("REPRODUCE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (source / "unpack.py").is_file():
        pytest.skip("no copy of CIFAR here: set REPRODUCE_TEST_DATA to a folder with one")
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, source / "unpack.py", folder], check=True, timeout=600)
    yield folder
    for path in folder.glob("*.npz"):
        path.unlink()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Path:
    """A checkpoint of a network that classifies digits, on which attacks succeed and fail."""
    from reproduce.training.train import train_cell

    sets = [f"results={tmp_path_factory.mktemp('trained')}", f"data.folder={digits_folder}"]
    sets += ["train.epochs=8", "train.attack={steps: 1, step_size: 0.2}", "data.test_images=40"]
    config = load_config("{}", "demo", sets)
    cell = parse_cell(TINY_CELL)
    train_cell(config, cell, lambda _: None)
    return paths.model_file(paths.cell_folder(config, cell), "last")


@pytest.fixture
def source(weights: Path) -> ModelSource:
    """Where that network comes from."""
    return ModelSource("digits", "wrn-10-0.25", weights)


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Path:
    """The results of four cells, trained and attacked: Table 1 of the tiny configuration."""
    from faulty_work import CELLS, SETS

    from reproduce.evaluation.evaluate import evaluate_cell
    from reproduce.training.train import train_cell

    folder = tmp_path_factory.mktemp("attacked")
    sets = [f"results={folder}", f"data.folder={digits_folder}", *TINY, *SETS]
    config = load_config("{}", "demo", sets)
    for name in CELLS:
        train_cell(config, parse_cell(name), lambda _: None, lambda: None)
        evaluate_cell(config, parse_cell(name), "pgd20", 0, "best-test", lambda _: None)
    return folder


@pytest.fixture(scope="session")
def results_of_every_kind(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A small results folder with a file of every kind; tests that change some take a copy."""
    from verify_cases import make

    return make(tmp_path_factory.mktemp("made") / "results")


@pytest.fixture
def work(tiny: Callable[..., Config], attacked: Path, tmp_path: Path) -> "Callable[..., Work]":
    """Make work of a kind that can be broken; takes overrides."""
    from faulty_work import SETS, WORK, Work

    def make(name: str, *sets: str) -> Work:
        before = tmp_path / "nothing" if name == "train" else attacked
        before.mkdir(exist_ok=True)
        return Work(tiny(*SETS, *sets), tuple(WORK[name].split()), before)

    return make


@pytest.fixture(scope="session")
def published(
    attacked: Path, digits_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Published results: four runs with a record each, the first with its weights."""
    from faulty_work import CELLS, EVERY, SETS

    from reproduce.share.publish import publish

    folder = tmp_path_factory.mktemp("published")
    sets = [f"results={attacked}", f"data.folder={digits_folder}", *TINY, *SETS]
    config = load_config("{}", "demo", sets)
    publish(config, folder / "here", {parse_cell(CELLS[0])}, EVERY, lambda _: None)
    return folder


@pytest.fixture
def reference(published: Path, tmp_path: Path) -> Path:
    """A copy of the published results."""
    shutil.copytree(published, tmp_path / "reference")
    return tmp_path / "reference"
