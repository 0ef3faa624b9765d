"""`reproduce doctor`: what it says of this machine, and of one where something is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reproduce import doctor
from reproduce.config.schema import Config


def _verdicts(config: Config, monkeypatch: pytest.MonkeyPatch, *names: str) -> dict[str, str]:
    """Make some of the checks; return the worst verdict of each."""
    monkeypatch.setattr(doctor, "_CHECKS", {n: doctor._CHECKS[n] for n in names})
    order = ("ok", "warning", "error")
    found: dict[str, str] = {}
    for finding in doctor.examine(config):
        before = found.get(finding.name, "ok")
        found[finding.name] = max(before, finding.verdict, key=order.index)
    return found


def test_nothing_is_wrong_here(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("versions", "precision", "step", "attack", "data", "disk")
    assert set(_verdicts(tiny(), monkeypatch, *names).values()) == {"ok"}


def test_a_wrong_gradient_is_an_error(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = torch.nn.functional.conv2d

    def wrong(images: torch.Tensor, *args: object) -> torch.Tensor:
        return right(images, *args) * (1.0 if images.dtype == torch.float64 else 1.2)

    monkeypatch.setattr(torch.nn.functional, "conv2d", wrong)
    found = _verdicts(tiny("train.precision=float32"), monkeypatch, "precision")
    assert found == {"precision": "error"}


def test_a_gpu_that_is_not_there_is_an_error(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("machine.device=cuda:63")
    assert _verdicts(config, monkeypatch, "device", "plan")["device"] == "error"


def test_no_compiler(tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object) -> None:
        raise doctor.HarnessError("no compiler here")

    monkeypatch.setattr(doctor, "compiled", none)
    assert _verdicts(tiny(), monkeypatch, "compiler") == {"compiler": "warning"}
    always = tiny("machine.compile=always")
    assert _verdicts(always, monkeypatch, "compiler") == {"compiler": "error"}


def test_missing_images_and_a_full_disk_are_warnings(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tiny(f"data.folder={tmp_path}")
    usage = doctor.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert _verdicts(config, monkeypatch, "data", "disk") == {"data": "warning", "disk": "warning"}


def test_a_package_that_is_too_old(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "version", lambda _: "0.0.1")
    assert _verdicts(tiny(), monkeypatch, "versions") == {"versions": "error"}


def test_the_command(
    tiny: Callable[..., Config], run_command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_CHECKS", {n: doctor._CHECKS[n] for n in ("data", "device")})
    found = json.loads(run_command(tiny(), "doctor", "--json"))
    assert [row["name"] for row in found] == ["data", "device"]
    run_command(tiny("machine.device=cuda:63"), "doctor", status=1)
