"""Results on huggingface.co: what is uploaded, downloaded and said, by a stand-in of the hub."""

import inspect
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from conftest import TINY_CELL
from faulty_work import CELLS, SETS, contents, same
from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.share.hub import parse_address

REAL = {
    name: inspect.signature(getattr(huggingface_hub, name))
    for name in ("create_repo", "upload_folder", "snapshot_download")
}


@dataclass
class Hub:
    """The functions of huggingface_hub that are used, on folders: a repository has its commits."""

    folder: Path
    cache: Path
    messages: list[str]
    fails: Exception | None = None

    def _call(self, name: str, *args: Any, **given: Any) -> dict[str, Any]:
        """Bind the arguments as the real function would."""
        found = REAL[name].bind(*args, **given).arguments
        assert found["repo_type"] == "dataset"
        if self.fails is not None:
            raise self.fails
        return found

    def _commits(self, repository: str) -> list[Path]:
        return sorted((self.folder / repository).iterdir())

    def create_repo(self, *args: Any, **given: Any) -> None:
        found = self._call("create_repo", *args, **given)
        (self.folder / found["repo_id"]).mkdir(parents=True, exist_ok=found["exist_ok"])

    def upload_folder(self, *args: Any, **given: Any) -> SimpleNamespace:
        found = self._call("upload_folder", *args, **given)
        assert found["revision"] in (None, "main")
        before = self._commits(found["repo_id"])
        commit = self.folder / found["repo_id"] / f"{len(before):040}"
        if before:
            shutil.copytree(before[-1], commit)
        target = commit / found["path_in_repo"]
        if target.exists():
            assert found["delete_patterns"] == "*"
            shutil.rmtree(target)
        shutil.copytree(found["folder_path"], target)
        self.messages.append(found["commit_message"])
        return SimpleNamespace(oid=commit.name)

    def snapshot_download(self, *args: Any, **given: Any) -> str:
        found = self._call("snapshot_download", *args, **given)
        commits = self._commits(found["repo_id"])
        names = [commit.name for commit in commits]
        revision = found["revision"]
        source = commits[names.index(revision) if revision in names else -1]
        files = [str(f.relative_to(source)) for f in source.rglob("*") if f.is_file()]
        snapshot = self.cache / "snapshots" / source.name
        for name in filter_repo_objects(files, allow_patterns=found["allow_patterns"]):
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / name).unlink(missing_ok=True)
            # as in the cache of huggingface_hub
            (snapshot / name).symlink_to(source / name)
        return str(snapshot)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub without repositories."""
    made = Hub(tmp_path / "hub", tmp_path / "cache", [])
    for name in REAL:
        monkeypatch.setattr(huggingface_hub, name, getattr(made, name))
    return made


def _refusal(kind: type[Exception], status: int) -> Exception:
    """Return what huggingface_hub raises for an answer of the hub."""
    answer = SimpleNamespace(headers={}, request=None, status_code=status)
    return kind(f"{status} Client Error.\n\nFor url: https://", response=answer)


def test_what_is_published_on_the_hub_is_imported_from_there(
    tiny: Callable[..., Config],
    attacked: Path,
    hub: Hub,
    run_command: Callable[..., str],
    tmp_path: Path,
) -> None:
    theirs, ours = tiny(*SETS, f"results={attacked}"), tiny(*SETS)
    folder, to = tmp_path / "h200", ("--to", "hf://me/wide/some")
    told = run_command(theirs, "publish", str(folder), *to, "--weights", TINY_CELL)
    first = f"hf://me/wide/some/demo@{0:040}"
    assert told.splitlines()[-2:] == [f"Written: {folder / 'demo'}", f"Uploaded: {first}"]
    assert hub.messages == ["Publish h200, preset demo"]
    there = hub.folder / "me" / "wide" / f"{0:040}" / "some" / "demo"
    same(contents(there), contents(folder / "demo"))

    # one run: nothing else is downloaded
    assert run_command(ours, "import", "hf://me/wide/some/demo", TINY_CELL).splitlines() == [
        f"Downloaded: {first}",
        f"{TINY_CELL}: imported, with 1 record(s), weights of best-test",
        f"1 imported, 0 kept, 0 refused, in {paths.root(ours)}",
    ]
    runs = hub.cache / "snapshots" / f"{0:040}" / "some" / "demo"
    same(contents(runs), {k: v for k, v in contents(there).items() if TINY_CELL in k})
    assert not any(f.is_symlink() for f in paths.root(ours).rglob("*"))

    # a second publication is in place of the first, which stays as a commit
    shutil.rmtree(folder)
    told = run_command(theirs, "publish", str(folder), *to)
    assert f"Uploaded: hf://me/wide/some/demo@{1:040}" in told
    # all runs, as from the folder above that of the preset
    for address, commit, weights in (("hf://me/wide/some", 1, 0), (first, 0, 1)):
        shutil.rmtree(ours.results)
        told = run_command(ours, "import", address)
        assert f"@{commit:040}\n" in told
        assert f"{len(CELLS)} imported, 0 kept, 0 refused" in told
        assert told.count("weights of best-test") == weights
        snapshot = hub.cache / "snapshots" / f"{commit:040}" / "some" / "demo"
        assert [path.name for path in snapshot.iterdir()] == ["cells"]


def test_an_upload_that_fails_leaves_the_folder(
    tiny: Callable[..., Config],
    attacked: Path,
    hub: Hub,
    run_command: Callable[..., str],
    tmp_path: Path,
) -> None:
    theirs = tiny(*SETS, f"results={attacked}")
    hub.fails = _refusal(errors.HfHubHTTPError, 401)
    folder = tmp_path / "h200"
    told = run_command(theirs, "publish", str(folder), "--to", "hf://me/wide", status=1)
    assert told == (
        "reproduce: hf://me/wide: 401 Client Error. For url: https:// "
        f"(`hf auth login` or HF_TOKEN logs in); {folder / 'demo'} is written, and "
        f"`hf upload --repo-type dataset me/wide {folder / 'demo'} demo` uploads it\n"
    )
    assert (folder / "demo" / "README.md").is_file()


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (_refusal(errors.RepositoryNotFoundError, 404), "no such data set, or it is not open"),
        (_refusal(errors.GatedRepoError, 403), "`hf auth login` or HF_TOKEN logs in"),
        (_refusal(errors.HfHubHTTPError, 500), "500 Client Error. For url: https://\n"),
        (errors.LocalEntryNotFoundError("Got: ConnectError\nPlease check"), "Got: ConnectError\n"),
        (errors.HFValidationError("Repo id must"), "Repo id must"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    tiny: Callable[..., Config],
    hub: Hub,
    run_command: Callable[..., str],
    fails: Exception,
    words: str,
) -> None:
    hub.fails = fails
    told = run_command(tiny(*SETS), "import", "hf://me/wide/demo@v1", status=1)
    assert told.startswith("reproduce: hf://me/wide/demo@v1: ")
    assert words in told
    assert told.count("\n") == 1


def test_addresses_that_lead_nowhere(
    tiny: Callable[..., Config],
    reference: Path,
    hub: Hub,
    run_command: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    config = tiny(*SETS)
    shutil.copytree(reference / "here", hub.folder / "me" / "wide" / f"{0:040}")
    for place in ("hf://me/wide/other", "hf://me/wide/demo/cells"):
        told = run_command(config, "import", place, status=1)
        assert f"{place} holds no such results of preset demo" in told
    # before anything is written
    monkeypatch.chdir(tmp_path)
    run_command(config, "publish", "new", "--to", "me/wide", status=1)
    assert "after --to" in run_command(config, "publish", "hf://me/wide", status=1)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words in (("import", "hf://me/wide"), ("publish", "new", "--to", "hf://me/wide")):
        told = run_command(config, *words, status=1)
        assert told == "reproduce: hf:// addresses need `pip install huggingface_hub`\n"
    assert not (tmp_path / "new").exists()
    # folders need no extra
    assert "4 imported" in run_command(config, "import", str(reference / "here"))


@pytest.mark.parametrize(
    ("text", "path", "revision"),
    [
        ("hf://me/wide/h200/paper/", "h200/paper", None),
        ("hf://me/wide/h200@refs/pr/1", "h200", "refs/pr/1"),
    ],
)
def test_addresses(text: str, path: str, revision: str | None) -> None:
    address = parse_address(text)
    assert (address.repository, str(address.path), address.revision) == ("me/wide", path, revision)
    assert str(address) == text.rstrip("/")
    for other in ("hf://", "hf://me", "hf://me/wide@", "hf://me/wide/*"):
        with pytest.raises(HarnessError, match="is not of the form"):
            parse_address(other)
