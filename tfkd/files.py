"""Writing so that a reader, or a kill in the middle, never sees half of it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from tfkd.errors import InputError


def write_atomically(path, data: bytes) -> pathlib.Path:
    """Write bytes to a path: the old file stays until the new one is whole.

    Returns:
        The path.

    Raises:
        InputError: if the folder does not exist or can't be written.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            pathlib.Path(temporary).unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def staged_folder(out, *, force: bool = False) -> Iterator[pathlib.Path]:
    """Give a folder to fill that becomes `out` when the block ends well.

    After an exception, Ctrl-C included, `out` is as it was before.

    Args:
        out: The folder to make. It may exist if it is empty, or with `force`: then files
            of the same name are replaced, one by one, and others stay.
        force: Whether `out` may hold files.

    Yields:
        An empty folder beside `out`.

    Raises:
        InputError: if `out` is a file, is not empty, or can't be written.
    """
    out = pathlib.Path(out).absolute()
    try:
        if out.exists() and not out.is_dir():
            raise InputError(f"{str(out)!r} is a file; name a folder.")
        if out.is_dir() and any(out.iterdir()) and not force:
            raise InputError(
                f"The folder {str(out)!r} is not empty; name another, or allow replacing the "
                "files of the same name with --force."
            )
        if out.is_dir() and not os.access(out, os.W_OK):
            raise InputError(f"The folder {str(out)!r} can't be written.")
        made = _missing_parents(out.parent)
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = pathlib.Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise InputError(f"Cannot write {str(out)!r}: {error.strerror or error}.") from error
    try:
        yield staging
        os.chmod(staging, 0o777 & ~_umask())
        if out.is_dir():
            for file in sorted(p for p in staging.rglob("*") if p.is_file()):
                target = out / file.relative_to(staging)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
        else:
            os.rename(staging, out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(staging, ignore_errors=True)


def _missing_parents(folder: pathlib.Path) -> list[pathlib.Path]:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
