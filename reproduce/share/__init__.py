"""Finished runs that go from one to another: published as small files, imported from them."""

from reproduce.share.imports import Imported, import_runs
from reproduce.share.publish import publish

__all__ = ["Imported", "import_runs", "publish"]
