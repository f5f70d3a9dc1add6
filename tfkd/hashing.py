"""Digests of bytes: the one place that chooses a hash for each purpose.

BLAKE2b distinguishes tfkd's own objects. Published checksums of files are SHA-256, which other
tools print too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest(data, size: int = 32) -> bytes:
    """Return `size` bytes that other bytes would not give.

    Args:
        data: Bytes, or whatever has a buffer of them.
        size: 1 to 64.
    """
    return hashlib.blake2b(data, digest_size=size).digest()


def digest_of(parts: Iterable[bytes]) -> bytes:
    """Return 32 bytes that other byte strings, or the same ones parted otherwise, would not give.

    Args:
        parts: The byte strings, each hashed with its length in front.
    """
    found = hashlib.blake2b(digest_size=32)
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


def running():
    """Return an object to which `update` adds bytes, and whose `digest` returns 32 bytes."""
    return hashlib.blake2b(digest_size=32)


def checksum(data) -> str:
    """Return `digest` as 64 hexadecimal digits."""
    return digest(data).hex()


def checksum_of(stream, piece: int = 1 << 20) -> str:
    """Return `checksum` of all that a binary file holds, read from its start in pieces."""
    found = hashlib.blake2b(digest_size=32)
    stream.seek(0)
    while data := stream.read(piece):
        found.update(data)
    return found.hexdigest()


def sha256(data) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits, as `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()
