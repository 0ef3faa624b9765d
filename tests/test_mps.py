"""Jobs that share a GPU through MPS: a made-up daemon says what is asked of it."""

import os
from pathlib import Path

import pytest

from reproduce.compute import device as devices


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control program that notes its start; the second one fails, as the real one's."""
    said = tmp_path / "said"
    program = tmp_path / "nvidia-cuda-mps-control"
    program.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/runs ] && exit 1\ntouch {tmp_path}/runs\n"
        f'echo "start, sees ${{CUDA_VISIBLE_DEVICES:-all}}" >> {said}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(devices, "slots_folder", lambda: tmp_path / "slots")
    for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    return said


def _trial(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """What a process computes through the daemon: there is no GPU to compute on."""
    run = devices.subprocess.run

    def instead(command: list[str], **options: object) -> object:
        words = [*command[:2], code] if "-c" in command else command
        return run(words, **options)

    monkeypatch.setattr(devices.subprocess, "run", instead)


def test_the_first_job_starts_it(daemon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all GPUs, whichever the job may see."""
    _trial(monkeypatch, "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    for _ in range(2):
        devices.share_through_mps()
        assert os.environ.pop("CUDA_MPS_PIPE_DIRECTORY") == str(devices.slots_folder() / "mps")
    assert daemon.read_text() == "start, sees all\n"


def test_where_nothing_computes_through_it_jobs_take_turns(
    daemon: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    _trial(monkeypatch, "raise SystemExit(1)")
    devices.share_through_mps()
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert "does not work here, jobs take turns" in capsys.readouterr().out
    assert daemon.exists()


@pytest.mark.parametrize("name", ["CUDA_MPS_PIPE_DIRECTORY", "SLURM_JOB_ID"])
def test_a_daemon_of_the_site_is_left_alone(
    daemon: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    devices.share_through_mps()
    assert not daemon.exists()
    assert os.environ[name] == "7"
