"""Files, locks, devices and progress: what stands between a run and the machine."""

import errno
import fcntl
import io
import os
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from reproduce.compute.device import claimed, describe, take_slots
from reproduce.compute.distributed import Group
from reproduce.config.schema import Machine
from reproduce.core import provenance as provenance_module
from reproduce.core.errors import HarnessError
from reproduce.core.files import (
    digest,
    exclusive,
    read_json,
    write_atomically,
    write_json,
    write_text,
)
from reproduce.core.progress import ProgressBar
from reproduce.core.provenance import provenance
from reproduce.core.vision import torchvision

# --- files


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")

    def half(part: Path) -> None:
        part.write_text("ne")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    # of what is written no reader sees a part, locks or not
    write_text(tmp_path / "file", "new")
    with (
        pytest.raises(HarnessError, match=f"^{tmp_path}/lock cannot be locked, its disk knows no"),
        exclusive(tmp_path / "lock", "a run"),
    ):
        pass
    folder = tmp_path / "slots"
    with ExitStack() as held, pytest.raises(HarnessError, match="choosing cannot be locked, its"):
        take_slots(held, folder, ["card"], 1, 1)


def test_files_are_readable_as_the_user_wants(tmp_path: Path) -> None:
    def private(part: Path) -> None:
        part.touch(mode=0o600)

    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "file", private)
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: .*file.txt"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError(errno.EACCES, "Permission denied"), "could not be written: Permission denied"),
    ],
)
def test_what_the_system_says_becomes_one_line(
    tmp_path: Path, error: Exception, message: str
) -> None:
    def fail(_: Path) -> None:
        raise error

    with pytest.raises(HarnessError, match=message):
        write_atomically(tmp_path / "file.txt", fail)


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1, 2.5, None]}


def test_digest_depends_on_content_alone() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert re.fullmatch("[0-9a-f]{12}", digest([]))


def test_a_lock_is_free_again_after_use(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    for _ in range(2):
        with exclusive(path, "this"):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises((HarnessError, OSError)), exclusive(tmp_path / "file" / ".lock", "this"):
        pass


# --- devices, on a machine that seems to have GPUs


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"card-{index}")
    )
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("two_gpus")
def test_jobs_spread_over_gpus_and_then_share_them() -> None:
    machine = Machine(device="cuda", jobs_per_gpu=2)
    with (
        claimed(machine) as first,
        claimed(machine) as second,
        claimed(machine) as third,
        claimed(machine) as fourth,
    ):
        assert [d.index for d in (first, second, third, fourth)] == [0, 1, 0, 1]
    with claimed(machine) as again:
        assert again.index == 0


@pytest.mark.usefixtures("two_gpus")
def test_more_processes_than_gpus_are_refused() -> None:
    for device, count, available in (("cuda", 3, 2), ("cuda:1", 2, 1)):
        message = rf"{count} processes were started for {available} GPU\(s\), machine.device is"
        refused, group = Machine(device=device), Group(0, count)
        with pytest.raises(HarnessError, match=message), claimed(refused, group):
            pass


@pytest.mark.usefixtures("two_gpus")
def test_a_job_waits_for_a_free_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(device="cuda")
    with claimed(machine), claimed(machine):
        waits = []

        def wait(_: float) -> None:
            waits.append(None)
            raise TimeoutError

        monkeypatch.setattr("reproduce.compute.device.time.sleep", wait)
        with pytest.raises(TimeoutError), claimed(machine):
            pass
    assert waits == [None]


@pytest.mark.usefixtures("two_gpus")
def test_a_named_gpu() -> None:
    with claimed(Machine(device="cuda:1")) as device:
        assert device == torch.device("cuda", 1)
    with pytest.raises(HarnessError, match="GPUs here: 0 to 1"), claimed(Machine(device="cuda:2")):
        pass


@pytest.mark.usefixtures("two_gpus")
def test_gpus_compute_in_full_float32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    with claimed(Machine(device="cuda:0")):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


def test_threads_are_the_configured() -> None:
    with claimed(Machine(device="cpu", threads=1)) as device:
        about = describe(device)
    assert about["device"] == "cpu"
    assert about["threads"] == 1
    assert about["name"]


def test_torchvision_imports_beside_any_torch() -> None:
    assert torchvision() is torchvision("torchvision")
    assert hasattr(torchvision("torchvision.datasets"), "CIFAR100")


# --- progress and provenance


def test_progress_in_a_terminal_shows_time_left_and_metrics() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160, highlight=False)
    with ProgressBar("a cell", 10, "steps", done=4, console=console) as bar:
        for _ in range(6):
            bar.advance(1, "nat 0.5 | test 40.0")
        bar.line("epoch 1/2")
    shown = screen.getvalue()
    for part in ("a cell", "10/10", "steps", "left", "nat 0.5 | test 40.0", "epoch 1/2"):
        assert part in shown


def test_progress_in_a_log_is_plain_lines() -> None:
    log = io.StringIO()
    with ProgressBar("a cell", 4, "steps", console=Console(file=log, width=80)) as bar:
        bar.line("begun")
        for _ in range(3):
            bar.advance()
        bar.line("epoch 1/2")
    lines = log.getvalue().splitlines()
    assert lines[0] == "begun"
    assert re.fullmatch(r"epoch 1/2(  \(\d+:\d\d:\d\d left\))?", lines[1])


def test_provenance_names_versions_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    about = provenance()
    assert about["versions"]["torch"] == torch.__version__
    if about["commit"] is not None:
        assert re.fullmatch("[0-9a-f]{40}(-dirty)?", about["commit"].split("-g")[-1])

    def slow(*_args: object, **_options: object) -> None:
        raise subprocess.TimeoutExpired("git", 10)

    monkeypatch.setattr(subprocess, "run", slow)
    assert provenance_module._commit() is None


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the code, as far as that asks where it is."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(provenance_module, "__file__", str(tmp_path / "reproduce" / "code.py"))
    return tmp_path


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_the_commit_of_a_checkout_of_another_owner(checkout: Path) -> None:
    for path in (checkout, checkout / ".git"):
        os.chown(path, 65534, 65534)
    assert re.fullmatch("[0-9a-f]{40}", provenance_module._commit() or "")


def test_the_commit_is_not_of_the_repository_of_a_hook(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = provenance_module._commit()
    monkeypatch.setenv("GIT_DIR", str(checkout / "other"))
    assert provenance_module._commit() == expected is not None


def test_the_commit_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance_module, "__file__", str(tmp_path / "reproduce" / "code.py"))
    told = tmp_path / "COMMIT"
    told.write_text("$Format:%H$\n")  # as it lies in a checkout
    assert provenance_module._commit() is None
    told.write_text(f"{'0a' * 20}\n")  # as `git archive` writes it
    assert provenance_module._commit() == "0a" * 20
    monkeypatch.setenv("REPRODUCE_COMMIT", "built from v1")
    assert provenance_module._commit() == "built from v1"
