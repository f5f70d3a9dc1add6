"""JSON with a checksum, for tfkd's own files in a folder, so that what is read is what was written.

The checksum detects damage, not malice: a file's content is only data, whoever wrote it.
"""

from __future__ import annotations

import json
import pathlib

from tfkd import hashing
from tfkd.errors import InputError
from tfkd.files import write_atomically

_CHECKSUM = "blake2b"


def as_kept(content):
    """Return plain values as `read` returns them: lists for tuples, keys as texts."""
    return json.loads(json.dumps(content))


def write(path, content: dict) -> None:
    """Write plain values to a JSON file, with a checksum of them.

    Args:
        path: The file.
        content: What to write; `"format"` says what it is.

    Raises:
        InputError: if it can't be written.
    """
    content = as_kept(content)
    sealed = content | {_CHECKSUM: checksum_of(content)}
    write_atomically(path, json.dumps(sealed, indent=1).encode())


def read(path, format: str, fix: str) -> dict:
    """Return what `write` wrote.

    Args:
        path: The file.
        format: What its `"format"` must be.
        fix: What to do about a file that can't be read.

    Raises:
        InputError: that names the file, what is wrong, and `fix`.
    """
    file = pathlib.Path(path)
    try:
        held = json.loads(file.read_bytes().decode())
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{str(file)!r} can't be read: {why}; {fix}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(file)!r} is damaged: it is not JSON ({error}); {fix}.") from error
    found = held.get("format") if isinstance(held, dict) else None
    if found != format:
        raise InputError(
            f"{str(file)!r} has the format {found!r:.80}, and this version of tfkd reads "
            f"{format!r}; {fix}."
        )
    told = held.pop(_CHECKSUM, None)
    if told != checksum_of(held):
        raise InputError(f"{str(file)!r} is damaged, or was changed after it was written; {fix}.")
    return held


def checksum_of(content: dict) -> str:
    """Return the checksum of plain values."""
    return hashing.checksum(json.dumps(content, sort_keys=True).encode())
