"""Published results on huggingface.co, in data-set repositories: uploaded and downloaded."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from reproduce.cell import Cell
from reproduce.core.errors import HarnessError, named

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)/?(?:@([\w./-]+))?")
_LOGIN = "`hf auth login` or HF_TOKEN logs in"


class Address(NamedTuple):
    """A place in a data-set repository; the revision is a branch, a tag or a commit."""

    repository: str
    path: PurePosixPath
    revision: str | None

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{SCHEME}{PurePosixPath(self.repository) / self.path}{revision}"


def parse_address(text: str) -> Address:
    """Parse ``hf://OWNER/NAME[/PATH][@REVISION]``; what it is for must be installed."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise HarnessError(f"{SCHEME} addresses need `pip install huggingface_hub`") from error
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise HarnessError(f"{text} is not of the form {SCHEME}OWNER/NAME[/PATH][@REVISION]")
    repository, path, revision = found.groups()
    return Address(repository, PurePosixPath(path.strip("/")), revision)


def upload(folder: Path, address: Address) -> Address:
    """Upload a published folder of a preset to below an address; return where it lies.

    It is one commit, or several if the folder is large; the last is returned.  The repository is
    created if it is missing; a folder of the same name that is there is replaced.
    """
    from huggingface_hub import create_repo, upload_folder

    repository, path = address.repository, address.path / folder.name
    by_hand = f"hf upload --repo-type dataset {repository} {folder} {path}"
    with _one_line(address, f"; {folder} is written, and `{by_hand}` uploads it"):
        create_repo(repository, repo_type="dataset", exist_ok=True)
        commit = upload_folder(
            repo_id=repository,
            repo_type="dataset",
            revision=address.revision,
            folder_path=folder,
            path_in_repo=str(path),
            delete_patterns="*",
            commit_message=f"Publish {folder.absolute().parent.name}, preset {folder.name}",
        )
    return Address(repository, path, commit.oid)


def download(address: Address, preset: str, cells: Collection[Cell]) -> tuple[Path, Address]:
    """Download published runs, all if no cells are given, into huggingface_hub's cache.

    Return their folder and the address with its commit.  As with folders, the address is that of
    the preset's folder or of the one above.
    """
    from huggingface_hub import snapshot_download

    runs = [address.path / "cells", address.path / preset / "cells"]
    names = [f"{cell}/*" for cell in cells] or ["*"]
    with _one_line(address):
        snapshot = snapshot_download(
            address.repository,
            repo_type="dataset",
            revision=address.revision,
            allow_patterns=[f"{path}/{name}" for path in runs for name in names],
        )
    folder = Path(snapshot)
    if not any((folder / path).is_dir() for path in runs):
        raise HarnessError(f"{address} holds no such results of preset {preset}")
    return folder / address.path, address._replace(revision=folder.name)


@contextmanager
def _one_line(address: Address, more: str = "") -> Iterator[None]:
    """Say in one line what went wrong at an address."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError as error:
        reason = f"there is no such data set, or it is not open to you ({_LOGIN})"
        raise HarnessError(f"{address}: {reason}{more}") from error
    except errors.HfHubHTTPError as error:
        login = f" ({_LOGIN})" if error.response.status_code in (401, 403) else ""
        raise HarnessError(f"{address}: {error}{login}{more}") from error
    # of the library that it uses, which differs from version to version: no connection
    except (errors.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]
        raise HarnessError(f"{address}: {named(error)}{more}") from error
