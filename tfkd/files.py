"""Write files so that neither a reader nor an interruption leaves half of one.

A file or folder is made beside its final place, as `.name.` and eight random characters, and takes
its place by one rename. The next process that writes the same name removes what a killed process
left: a process holds a lock on what it is working on.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

from tfkd.errors import InputError, argument

try:
    import fcntl
except ImportError:  # Windows has no such locks, so leftovers stay
    fcntl = None  # type: ignore[assignment]

#: Files and whole folders that this process has finished writing, in order.
_finished: list[pathlib.Path] = []
#: Folders that are being filled; files in them are not finished.
_staged: list[pathlib.Path] = []
#: Parent folder → hidden entries that it had when this process first wrote into it.
_hidden: dict[pathlib.Path, list[pathlib.Path]] = {}

#: Seconds to wait for a folder's lock. A process that holds it for longer is filling that folder.
_PATIENCE = 0.2


def finished() -> list[pathlib.Path]:
    """Return the files and folders that this process has finished writing, in order."""
    return list(_finished)


def write_atomically(path, data: bytes) -> pathlib.Path:
    """Write bytes to a path: the old file stays until the new one is whole.

    Returns:
        The path.

    Raises:
        InputError: if the folder does not exist or can't be written.
    """
    path = pathlib.Path(path)
    temporary = lock = None
    try:
        with _alone_in(path.parent) as alone:
            if alone:
                _remove_leftovers(path)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            lock = _locked(os.dup(handle))
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _note(path)
    except OSError as error:
        raise InputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error
    finally:
        if lock is not None:
            os.close(lock)
        if temporary is not None:
            pathlib.Path(temporary).unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def staged_folder(out, *, force: bool = False) -> Iterator[pathlib.Path]:
    """Yield a folder to fill, which becomes `out` when the block ends without an error.

    After an exception, Ctrl-C included, `out` is as it was before.

    Args:
        out: The folder to make. It may exist if it is empty, or with `force`: then files of
            the same name are replaced, all of them or none, and others stay.
        force: Whether `out` may hold files.

    Yields:
        An empty folder, beside `out` or hidden in it.

    Raises:
        InputError: if `out` is a file, is not empty, or can't be written, or if a folder is
            where a file has to go, or a file where a folder has to.
    """
    out = pathlib.Path(out).absolute()
    try:
        if out.is_symlink() and not out.exists():
            raise InputError(f"{str(out)!r} is a broken link; remove it, or name a folder.")
        if out.exists() and not out.is_dir():
            raise InputError(f"{str(out)!r} is a file; name a folder.")
        if out.is_dir() and not os.access(out, os.W_OK):
            raise InputError(f"The folder {str(out)!r} can't be written.")
        made = _missing_parents(out.parent)
        out.parent.mkdir(parents=True, exist_ok=True)
        # Into an existing folder, which may be a link or a mounted volume.
        beside = out / out.name if out.is_dir() else out
        with _alone_in(beside.parent) as alone:
            if alone:
                _remove_leftovers(beside)
        if out.is_dir() and any(out.iterdir()) and not force:
            raise InputError(
                f"The folder {str(out)!r} is not empty; name another, or give "
                f"{argument('force', True)} to replace files of the same name."
            )
        lock = None
        with _alone_in(beside.parent):
            staging = pathlib.Path(tempfile.mkdtemp(dir=beside.parent, prefix=f".{out.name}."))
            with contextlib.suppress(OSError):  # on systems that can't open folders
                lock = _locked(os.open(staging, os.O_RDONLY))
    except OSError as error:
        raise InputError(f"Cannot write {str(out)!r}: {error.strerror or error}.") from error
    _staged.append(staging)
    try:
        yield staging
        try:
            if out.is_dir():
                _replace(staging, out)
            else:
                os.chmod(staging, 0o777 & ~_umask())
                os.rename(staging, out)
        except OSError as error:
            raise InputError(f"Cannot write {str(out)!r}: {error.strerror or error}.") from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    finally:
        _staged.remove(staging)
        if lock is not None:
            os.close(lock)
    shutil.rmtree(staging, ignore_errors=True)
    _note(out)


def _replace(staging: pathlib.Path, out: pathlib.Path) -> None:
    """Move all files of one folder into another, or none."""
    names = sorted(p.relative_to(staging) for p in staging.rglob("*") if p.is_file())
    for name in names:
        if (out / name).is_dir():
            raise InputError(
                f"{str(out / name)!r} must be a file, but a folder is there. Nothing was "
                "replaced; remove that folder, or write to another."
            )
        for parent in name.parents:
            if (out / parent).exists() and not (out / parent).is_dir():
                raise InputError(
                    f"{str(out / parent)!r} must be a folder, but a file is there. Nothing was "
                    "replaced; remove that file, or write to another folder."
                )
    old = pathlib.Path(tempfile.mkdtemp(dir=staging))  # protected by the lock of staging
    places: list[tuple[pathlib.Path, pathlib.Path | None]] = []
    made: list[pathlib.Path] = []
    try:
        for number, name in enumerate(names):
            target = out / name
            made += _missing_parents(target.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = old / str(number) if os.path.lexists(target) else None
            places.append((target, kept))
            if kept is not None:
                os.rename(target, kept)
            os.rename(staging / name, target)
    except BaseException:
        for target, kept in reversed(places):
            if kept is None:
                target.unlink(missing_ok=True)
            elif os.path.lexists(kept):
                os.replace(kept, target)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _note(path: pathlib.Path) -> None:
    path = path.absolute()
    if not any(path.is_relative_to(one) for one in _staged):
        _finished.append(path)


def _remove_leftovers(path: pathlib.Path) -> None:
    """Remove leftovers of killed processes that were writing this name."""
    if fcntl is None:
        return
    parent = path.absolute().parent
    if parent not in _hidden:
        _hidden[parent] = [one for one in parent.iterdir() if one.name.startswith(".")]
    found = [one for one in _hidden[parent] if one.name[:-8] == f".{path.name}."]
    for one in found:
        _hidden[parent].remove(one)
        with contextlib.suppress(OSError):  # locked by the process that writes it, or gone
            if one.is_symlink():
                continue
            handle = os.open(one, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(one) if one.is_dir() else one.unlink()
            finally:
                os.close(handle)


@contextlib.contextmanager
def _alone_in(folder: pathlib.Path) -> Iterator[bool]:
    """Hold the lock of a folder while an entry in it is created and locked, or found unlocked.

    Yields:
        Whether no other process can interfere. One can on systems without such locks, or while the
        folder itself is being filled.
    """
    handle, end = None, time.monotonic() + _PATIENCE
    if fcntl is not None and folder.absolute() not in _staged:
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
    alone = False
    try:
        while handle is not None and not alone and time.monotonic() < end:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # a file system without locks
                break
        yield alone
    finally:
        if handle is not None:
            os.close(handle)


def _locked(handle: int) -> int:
    """Lock a file descriptor's file, on systems with such locks, and return the descriptor."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


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
