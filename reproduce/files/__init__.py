"""Files that are either whole or absent: atomic writes, checksums, locks."""

from reproduce.files.arrays import DAMAGED_FILE, check_head, read_npz, refuse_bombs
from reproduce.files.checksums import digest, md5_of_file, sha256_of_file
from reproduce.files.contents import other_kind
from reproduce.files.locks import exclusive, is_held, lock_file
from reproduce.files.objects import SEAL, is_sealed, read_json, write_json
from reproduce.files.writing import remove_abandoned, write_atomically, write_text

__all__ = [
    "DAMAGED_FILE",
    "SEAL",
    "check_head",
    "digest",
    "exclusive",
    "is_held",
    "is_sealed",
    "lock_file",
    "md5_of_file",
    "other_kind",
    "read_json",
    "read_npz",
    "refuse_bombs",
    "remove_abandoned",
    "sha256_of_file",
    "write_atomically",
    "write_json",
    "write_text",
]
