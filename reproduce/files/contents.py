"""What a file is that was to be another, by how it begins."""

from pathlib import Path

# in lower case
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for; run git lfs pull",
    **dict.fromkeys(
        (b"<!doctype", b"<html", b"<head", b"<?xml"),
        "a web page, not the file: the file host answered with a text; download it in a browser",
    ),
    b"\x1f\x8b": "compressed with gzip; unpack it",
    b"bzh": "compressed with bzip2; unpack it",
    b"\xfd7zxz": "compressed with xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard; unpack it",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it",
    b"rar!": "a RAR archive; unpack it",
    b"\x89hdf": "an HDF5 file, such as Keras writes",
    b"\x93numpy": "an array of NumPy (.npy)",
}


def other_kind(path: Path) -> str | None:
    """Name what a file is that nobody asks for, and what helps; None if it is not known.

    Zip archives are not named: arrays and checkpoints are such.
    """
    with path.open("rb") as handle:
        begin = handle.read(512)
    if not begin:
        return "empty"
    if begin[257:262] == b"ustar":
        return "a tar archive; unpack it"
    low = begin.lstrip().lower()
    return next((words for magic, words in _BEGINNINGS.items() if low.startswith(magic)), None)
