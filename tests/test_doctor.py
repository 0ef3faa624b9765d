"""`reproduce doctor`: what it says of this machine, and of one where something is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reproduce import doctor
from reproduce.config.schema import Config

Verdicts = Callable[..., dict[str, str]]


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Verdicts:
    """Make some of the checks; return the worst verdict of each."""

    def make(config: Config, *names: str) -> dict[str, str]:
        monkeypatch.setattr(doctor, "_CHECKS", {n: doctor._CHECKS[n] for n in names})
        order, found = ("ok", "warning", "error"), dict.fromkeys(names, "ok")
        for finding in doctor.examine(config):
            found[finding.name] = max(found[finding.name], finding.verdict, key=order.index)
        return found

    return make


def test_nothing_is_wrong_here(tiny: Callable[..., Config], verdicts: Verdicts) -> None:
    found = verdicts(tiny(), "versions", "precision", "step", "data", "disk")
    assert set(found.values()) == {"ok"}


def test_a_wrong_gradient_is_an_error(
    tiny: Callable[..., Config], verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = torch.nn.functional.conv2d

    def wrong(images: torch.Tensor, *args: object) -> torch.Tensor:
        return right(images, *args) * (1.0 if images.dtype == torch.float64 else 1.2)

    monkeypatch.setattr(torch.nn.functional, "conv2d", wrong)
    assert set(verdicts(tiny("train.precision=float32"), "precision").values()) == {"error"}


def test_no_compiler(
    tiny: Callable[..., Config], verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: object) -> None:
        raise doctor.HarnessError("no compiler here")

    for kind, verdict in (("auto", "warning"), ("always", "error"), ("never", "ok")):
        monkeypatch.setattr(doctor, "compiled", none)
        config = tiny(f"machine.compile={kind}")
        assert verdicts(config, "compiler") == {"compiler": verdict}


def test_missing_images_a_full_disk_and_old_packages(
    tiny: Callable[..., Config],
    verdicts: Verdicts,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    usage = doctor.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(doctor, "version", lambda _: "0.0.1")
    found = verdicts(tiny(f"data.folder={tmp_path}"), "data", "disk", "versions")
    assert found == {"data": "warning", "disk": "warning", "versions": "error"}


def test_the_command(
    tiny: Callable[..., Config], run_command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_CHECKS", {n: doctor._CHECKS[n] for n in ("data", "device")})
    found = json.loads(run_command(tiny(), "doctor", "--json"))
    assert [row["name"] for row in found] == ["data", "device"]
    # a GPU that is not there
    run_command(tiny("machine.device=cuda:63"), "doctor", status=1)
