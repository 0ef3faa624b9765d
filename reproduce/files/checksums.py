"""Checksums of files, and fingerprints of values."""

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Of a .csv those with lines that end in LF, as we write it: git on Windows, and tools that
    unpack archives, give texts other line ends.
    """
    if path.suffix == ".csv":
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def md5_of_file(path: Path) -> str:
    """Return the MD5 of a file's bytes, in hexadecimal: published files are known by it."""
    with path.open("rb") as handle:
        # no defence against anybody, and systems that forbid MD5 allow it for that
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def digest(value: Any, length: int = 12) -> str:
    """Return a short fingerprint of a JSON-like value, the same on every machine."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
