"""The command `reproduce bench`: what it prints, its JSON, one line for bad input."""

import json
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reproduce.benchmarks import autoattack, peak, run
from reproduce.benchmarks.measured import Case, Spread
from reproduce.benchmarks.result import Result, Together
from reproduce.benchmarks.settings import DEFAULTS, resolve
from reproduce.cli.bench_words import sentences, tables
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError

SMALL = ("--architectures", "wrn-10-0.5", "--batch", "8", "--methods", "trades", "--pairs", "1")
# no time for processes of their own
QUICK = (*SMALL, "--minutes", "0.2")


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peak._RUN_SECONDS, "cpu", 0.001)
    monkeypatch.setitem(peak._COPY_BYTES, "cpu", 2**20)
    monkeypatch.setitem(peak._ROWS, "cpu", 64)


def test_tables(
    tiny: Callable[..., Config],
    run_command: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "_load", lambda: [1000.0])
    out = run_command(tiny(), "bench", *QUICK)
    for words in (
        "product 64 x 64",
        "3 x 3 convolution 8 -> 8 at 32 x 32",
        "trades wrn-10-0.5, batch 8, float32",
        "pgd20",
        "hours of preset demo, trained in float32",
        "Not measured: 2 cells at once",
        "The largest share of all in float32: ",
        "The machine was busy before this began (load 1000.0",
    ):
        assert words in out


def test_json(tiny: Callable[..., Config], run_command: Callable[..., str]) -> None:
    text = run_command(tiny(), "bench", *QUICK, "--json")
    found = Result.model_validate_json(text)
    assert json.loads(text) == found.model_dump(mode="json")
    assert found.hardware["device"] == "cpu"
    assert found.settings["methods"] == ["trades"]
    assert found.settings["minutes"] == 0.2
    (row,) = found.steps
    assert (row.case.method, row.case.batch) == ("trades", 8)
    assert {rate.what for rate in found.attacks} == {"forward", "pgd20"}
    assert found.predictions[0].hours[-1].target == "all"
    assert [m.what for m in found.not_measured] != []
    assert found.provenance["versions"]["torch"]


def test_scaling_names_what_it_has_no_time_for(
    tiny: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    found = Result.model_validate_json(
        run_command(tiny(), "bench", *SMALL, "--minutes", "0.1", "--scaling", "--json")
    )
    asked = [f"wrn-34-{width}, batch {size}," for width in (0.5, 1, 2, 5, 10) for size in (32, 512)]
    named = " ".join(m.what for m in found.not_measured)
    done = " ".join(str(row.case) for row in found.scaling)
    assert all(case in named or case in done for case in asked)
    assert "scaling: trades wrn-34-10, batch 512, float32" in named


def test_autoattack_both_ways(
    tiny: Callable[..., Config], weights: Path, run_command: Callable[..., str]
) -> None:
    attack = "{kind: autoattack, version: standard, steps: 3, targets: 2, queries: 20}"
    config = tiny(f"eval.attacks.autoattack={attack}")
    given = ("--weights", str(weights), "--architecture", "wrn-10-0.25", "--dataset", "digits")
    words = ("bench", *SMALL, "--minutes", "0.05", *given, "--images", "20", "--json")
    found = Result.model_validate_json(run_command(config, *words)).autoattack
    assert found.images == 20
    assert found.differing <= 2
    assert 0 < found.plain_robust + found.robust < 40
    assert found.ratio.runs == 1
    # the plain package also computes gradients that nobody asked for
    assert 0 < found.forward <= found.plain_forward
    assert found.backward > 0


def test_autoattack_wants_the_standard_one(tiny: Callable[..., Config]) -> None:
    config = tiny("eval.attacks.autoattack={kind: autoattack, version: preview}")
    with pytest.raises(HarnessError, match="no standard AutoAttack"):
        autoattack._spec(config, "digits")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--methods", "rst"), "no reference formulation of 'rst'; there are: trades"),
        (("--methods", ""), "--methods is empty"),
        (("--architectures", "wrn-9-1"), "6n + 4"),
        (("--architectures", "wrn-50-1"), "is the one for ImageNet"),
        (("--architectures", ","), "--architectures is empty"),
        (("--batch", "0"), "--batch is 0"),
        (("--pairs", "-1"), "--pairs is -1"),
        (("--precisions", "float16"), "unknown precision 'float16'"),
        (("--precisions", "float64"), "unknown precision 'float64'"),
        (("--precisions", "tf32"), "tf32 is a GPU's"),
        (("--forms", "fast"), "unknown form 'fast'"),
        (("--forms", "graph"), "graphs are a GPU's"),
        (("--cells", "1,two"), "'two' is no whole number"),
        (("--cells", "0"), "--cells is 0"),
        (("--cells", ""), "--cells is empty"),
        (("--minutes", "0"), "--minutes is 0"),
        (("--minutes", "inf"), "--minutes is inf"),
        (("--images", "5"), "--images belongs to --weights"),
        (("--weights", "none.pt"), "--weights needs --architecture and --dataset"),
        (
            ("--weights", "none.pt", "--architecture", "wrn-10-1", "--dataset", "digits"),
            "checkpoint none.pt does not exist",
        ),
    ],
)
def test_one_line_for_bad_input(
    tiny: Callable[..., Config],
    run_command: Callable[..., str],
    words: tuple[str, ...],
    message: str,
) -> None:
    said = run_command(tiny(), "bench", *words, status=1)
    assert said.startswith("reproduce: ")
    assert message in said
    assert said.count("\n") == 1


def test_defaults_by_device() -> None:
    assert resolve("cpu", {"pairs": None}) == DEFAULTS["cpu"]
    gpu = resolve("cuda:1", {"batch": 64})
    assert (gpu.batch, gpu.minutes, gpu.precisions) == (64, 10.0, ("float32", "tf32", "bf16"))
    # what is wanted most comes first, and nothing twice
    cases = gpu.cases()
    assert str(cases[0]) == "trades wrn-34-1, batch 64, float32, graph"
    assert len(set(map(str, cases))) == len(cases)


def test_what_cannot_be_read_is_told_first(
    tiny: Callable[..., Config], tmp_path: Path, run_command: Callable[..., str]
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no checkpoint")
    given = ("--weights", str(broken), "--architecture", "wrn-10-0.25", "--dataset", "digits")
    said = run_command(tiny(), "bench", *SMALL, *given, status=1)
    assert str(broken) in said
    assert "peaks" not in said


def test_tables_fit_a_terminal(
    tiny: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    text = run_command(tiny(), "bench", *SMALL, "--minutes", "0.1", "--scaling", "--json")
    found = Result.model_validate_json(text)
    case = Case(
        method="awp-trades",
        architecture="densenet-bc-40-12",
        batch=128,
        precision="float32",
        form="compiled-graph",
    )
    spread_ = Spread(median=1.856, low=1.66, high=12.06, runs=15)
    (row,) = found.steps
    long = row.model_copy(update={"case": case, "ratio": spread_, "memory_bytes": 123 * 2**30})
    together = [
        Together(
            case=case, cells=16, images_per_second=None, against_one=None, note="out of memory"
        )
    ]
    shown = found.model_copy(update={"steps": [row, long], "scaling": [long], "together": together})
    for width in (80, 120):
        console = Console(width=width, record=True, file=StringIO())
        for table in tables(shown):
            console.print(table)
        text = console.export_text()
        assert "…" not in text
        assert "1.86 (1.66 to 12.06; 15)" in text
        assert "123.00 GiB" in text
        assert max(map(len, text.splitlines())) <= width
    assert "Not measured: 16 cells at once: out of memory." in list(sentences(shown))


def test_ctrl_c_shows_what_there_is(
    tiny: Callable[..., Config],
    run_command: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = run.measure_attacks

    def interrupted(*given: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return real(*given)

    monkeypatch.setattr(run, "measure_attacks", interrupted)
    given = ("--minutes", "5", "--json")
    found = Result.model_validate_json(run_command(tiny(), "bench", *SMALL, *given))
    assert len(found.steps) == 1
    assert found.attacks == []
    assert {m.why for m in found.not_measured} == {"stopped by SIGINT"}
