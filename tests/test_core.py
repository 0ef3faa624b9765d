"""Files, locks, progress and provenance: what stands between a run and the machine."""

import errno
import fcntl
import io
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from reproduce.core import provenance as provenance_module
from reproduce.core.errors import HarnessError, Stopped
from reproduce.core.files import (
    exclusive,
    is_held,
    read_json,
    read_npz,
    write_atomically,
    write_json,
    write_text,
)
from reproduce.core.progress import ProgressBar
from reproduce.core.provenance import differences, provenance
from reproduce.core.tensors import StandIn, read_tensors


def test_an_error_is_one_line_and_travels_between_processes() -> None:
    again = pickle.loads(pickle.dumps(Stopped("results/a\n  b is stopped")))
    assert type(again) is Stopped
    assert str(again) == "results/a b is stopped"


# --- writing


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("interrupted"), "interrupted"),
        (OSError(errno.EACCES, "Permission denied"), "could not be written: Permission denied"),
        # as safetensors wraps it
        (RuntimeError("I/O error: No space left (os error 28)"), "could not be written: .*space"),
    ],
)
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, error: Exception, message: str
) -> None:
    path, plain = tmp_path / "deep" / "file.txt", tmp_path / "plain"
    # a file of safetensors is private at first
    write_atomically(path, lambda part: (part.touch(mode=0o600), part.write_text("old")))
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode

    def half(part: Path) -> None:
        part.write_text("ne")
        raise error

    kind = KeyError if isinstance(error, KeyError) else HarnessError
    with pytest.raises(kind, match=message):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


WRITE = """
import os, sys
from pathlib import Path
from reproduce.core.files import write_atomically

def write(part):
    part.write_text("whole")
    print("ready", flush=True)
    sys.stdin.read()
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), 9)

write_atomically(Path(sys.argv[1]), write)
"""


@pytest.mark.parametrize("end", ["killed", "whole"])
def test_what_another_process_writes(tmp_path: Path, end: str) -> None:
    """It stays while that lives, and goes with the next write once it was killed."""
    path = tmp_path / "slow.txt"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, path, end], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    write_text(path, "quick")
    assert len(list(tmp_path.iterdir())) == 2
    process.communicate()
    write_text(tmp_path / "next.txt", "")
    assert path.read_text() == ("whole" if end == "whole" else "quick")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "next.txt", path]


# --- locks


def test_a_lock_is_free_again_after_use(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    for _ in range(2):
        with exclusive(path, "this"):
            assert is_held(path)
            held = pytest.raises(HarnessError, match=r"^that is being worked on by another process")
            with held, exclusive(path, "that"):
                pass
        assert not is_held(path)


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    # of what is written no reader sees a part, locks or not
    write_text(tmp_path / "file", "new")
    refused = pytest.raises(HarnessError, match=r"lock cannot be locked: No locks .* another disk")
    with refused, exclusive(tmp_path / "lock", "a run"):
        pass
    assert not is_held(tmp_path / "file")


def test_looking_never_keeps_a_run_from_its_lock(tmp_path: Path) -> None:
    """Who looks holds a shared lock for a moment."""
    with (tmp_path / ".lock").open("w") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        with exclusive(tmp_path / ".lock", "a run"):
            assert is_held(tmp_path / ".lock")


# --- JSON, npz, checksums


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    value = {"a": [1, 2.5, None], "b": "λ\U0001f600"}
    write_json(path, value)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == value
    # files of before had a checksum in themselves
    path.write_text(json.dumps({"a": 1, "json_sha256": "0" * 64}))
    assert read_json(path) == {"a": 1}
    for damaged in (b'{"a": 1', b'{"a": \xff}', b"[1]"):
        path.write_bytes(damaged)
        with pytest.raises(HarnessError, match=r"x\.json is damaged, it is not JSON; delete it"):
            read_json(path)
    path.unlink()
    with pytest.raises(HarnessError, match=r"x\.json cannot be read: No such file"):
        read_json(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_named(tmp_path: Path, save: object) -> None:
    path = tmp_path / "x.npz"
    save(path, a=np.arange(200))
    assert read_npz(path, ["a", "b"]).keys() == {"a"}
    whole = path.read_bytes()
    garbled = whole[:300] + bytes(byte ^ 0xFF for byte in whole[300:400]) + whole[400:]
    for content in (b"", whole[:-30], garbled, b"\x93NUMPY\x01\x00" + bytes(200)):
        path.write_bytes(content)
        with pytest.raises(HarnessError, match=r"x\.npz is not a whole \.npz file of plain arrays"):
            read_npz(path, ["a"])


def test_other_files_than_an_npz_of_plain_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(HarnessError, match=r"x\.npz does not exist"):
        read_npz(path, ["a"])
    np.savez(path, a=np.array([print]))
    with pytest.raises(HarnessError, match="Object arrays cannot be loaded"):
        read_npz(path, ["a"])
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(HarnessError, match="it is a Git LFS pointer"):
        read_npz(path, ["a"])


# --- checkpoints


class _Evil:
    def __init__(self, run: object) -> None:
        self.run = run

    def __reduce__(self) -> tuple:
        return (self.run, ("echo code of a checkpoint was run > ran",))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("run", [exec, os.system, Path])
def test_a_checkpoint_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: object, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"evil": _Evil(run), "weight": torch.ones(2)}
    torch.save(content, "w.pt", _use_new_zipfile_serialization=zipped)
    refused = pytest.raises(HarnessError, match=r"w\.pt asks for .*: only tensors are read")
    with refused:
        read_tensors(Path("w.pt"))
    if run is Path:
        read = read_tensors(Path("w.pt"), stand_ins=True)
        assert isinstance(read["evil"], StandIn)
        assert torch.equal(read["weight"], torch.ones(2))
    else:
        with refused:
            read_tensors(Path("w.pt"), stand_ins=True)
    assert not Path("ran").exists()


def test_a_checkpoint_changes_no_class(tmp_path: Path) -> None:
    """A pickle may give a state to whatever it names."""
    torch.save({"a": torch.ones(2)}, tmp_path / "whole.pt")
    program = b"\x80\x02ctorch.storage\nUntypedStorage\nN}X\x04\x00\x00\x00evilK\x01s\x86b."
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "w.pt", "w") as changed,
    ):
        for name in whole.namelist():
            changed.writestr(name, program if name.endswith("data.pkl") else whole.read(name))
    with pytest.raises(HarnessError, match=r"w\.pt"):
        read_tensors(tmp_path / "w.pt", stand_ins=True)
    assert not hasattr(torch.UntypedStorage, "evil")


def test_a_torchscript_archive_is_not_read(tmp_path: Path) -> None:
    """Its code would be run."""
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "w.pt")
    for stand_ins in (True, False):
        with pytest.raises(HarnessError, match="TorchScript"):
            read_tensors(tmp_path / "w.pt", stand_ins=stand_ins)


# --- progress and provenance


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_in_a_terminal_and_plain_lines_in_a_log(terminal: bool) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=160, highlight=False)
    with ProgressBar("a cell", 10, "steps", done=4, console=console) as bar:
        for _ in range(6):
            bar.advance(1, "nat 0.5 | test 40.0")
        bar.line("epoch 1/2")
    if terminal:
        for part in ("a cell", "10/10", "steps", "left", "nat 0.5 | test 40.0", "epoch 1/2"):
            assert part in shown.getvalue()
    else:
        assert re.fullmatch(r"epoch 1/2(  \(\d+:\d\d:\d\d left\))?\n", shown.getvalue())


def test_another_place_or_version_is_said() -> None:
    before = {"threads": 2, "compiled": False, "versions": {"torch": "2.1"}, "commit": None}
    assert list(differences(before, before)) == []
    now = {"threads": 2, "compiled": True, "versions": {"torch": "2.2", "numpy": "2"}}
    bits = "the last bits may differ"
    assert list(differences(before, now)) == [
        f"begun with compiled False, now True: {bits}",
        f"begun with torch 2.1, now 2.2: {bits}",
    ]


def test_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it has another owner, and where a hook of git's names another repository."""
    assert provenance()["versions"]["torch"] == torch.__version__
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(provenance_module, "__file__", str(tmp_path / "reproduce" / "code.py"))
    if os.getuid() == 0:
        for path in (tmp_path, tmp_path / ".git"):
            os.chown(path, 65534, 65534)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    assert re.fullmatch("[0-9a-f]{40}", provenance_module._commit() or "")


def test_the_commit_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance_module, "__file__", str(tmp_path / "reproduce" / "code.py"))
    archive = tmp_path / "COMMIT"
    archive.write_text("$Format:%H$\n")  # as it lies in a checkout
    assert provenance_module._commit() is None
    archive.write_text(f"{'0a' * 20}\n")  # as `git archive` writes it
    assert provenance_module._commit() == "0a" * 20
    monkeypatch.setenv("REPRODUCE_COMMIT", "built from v1")
    assert provenance_module._commit() == "built from v1"
