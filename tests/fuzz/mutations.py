"""Damage to whole files: what a disk, a cut line or somebody with intent does to bytes."""

import random
from collections.abc import Sequence

# what lengths, offsets and counts are overwritten with
_TELLING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 10**12, 2**63 - 1)
_WORDS = (
    b"-1",
    b"0",
    b"nan",
    b"NaN",
    b"1e999",
    b"1" * 5000,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"[" * 3000,
    b"\x00",
    b"\n",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'"\\ud800"',
    b"../../x",
    b"(1000000000000,)",
    b"&a [*a, *a]",
    b"!!python/object:os.system",
)


def mutate(data: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Return `data` damaged in one to four ways."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        found = _once(found, seeds, rng)
    return bytes(found)


def _once(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> bytearray:
    at = rng.randrange(len(data) + 1)
    # ends and beginnings are where formats keep their headers
    at = rng.choice(
        (at, at, min(at, rng.randrange(200)), max(0, len(data) - rng.randrange(1, 200)))
    )
    kind = rng.randrange(8)
    if kind == 0 and at < len(data):  # a bit turns
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 2:  # cut short
        del data[at:]
    elif kind == 3:  # a piece is lost
        del data[at : at + rng.randrange(1, 64)]
    elif kind == 4:  # a piece stands twice
        data[at:at] = data[at : at + rng.randrange(1, 256)]
    elif kind == 5:  # the end is another file's
        other = rng.choice(seeds)
        data[at:] = other[rng.randrange(len(other) + 1) :]
    elif kind == 6:  # a length says something else
        size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
        value = rng.choice(_TELLING) % (1 << (8 * size))
        data[at : at + size] = value.to_bytes(size, order)
    else:
        data[at : at + rng.choice((0, 0, 1, 4))] = rng.choice(_WORDS)
    return data
