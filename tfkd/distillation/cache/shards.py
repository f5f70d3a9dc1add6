"""Shards: answers of some thousand examples in a file, read a row at a time where they lie.

A shard is an uncompressed `.npz`, so every array lies in it as it is. A shard that is opened is
hashed and checked piece by piece, and stays on disk: of its answers nothing is held. Rows are read,
not memory-mapped: a file that is changed later is an error and not the end of the process, no
number of shards uses up the open files, and what was read does not stay in the process's memory.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np

from tfkd import hashing
from tfkd.distillation.cache.columns import Column, shape_of, starts_of
from tfkd.distillation.teacher_outputs import parse
from tfkd.errors import InputError

_PIECE = 1 << 20  # bytes that are checked at once
_HEADER = np.lib.format


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array in a file.

    Attributes:
        offset: Where its first byte is.
        dtype: Of its values.
        shape: All of it.
    """

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def step(self) -> int:
        """Bytes of an entry along the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def read(self, stream, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Return the entries of several ranges, one range after another."""
        counts = stops - starts
        out = np.empty((int(counts.sum()), *self.shape[1:]), self.dtype)
        if not out.nbytes:
            return out
        view, place = memoryview(out.reshape(-1).view(np.uint8)), 0
        # Adjacent ranges are read at once.
        first = np.flatnonzero(np.concatenate([[True], starts[1:] != stops[:-1]]))
        last = np.append(first[1:], len(starts)) - 1
        for start, stop in zip(starts[first].tolist(), stops[last].tolist(), strict=True):
            size = (stop - start) * self.step
            stream.seek(self.offset + start * self.step)
            end = place + size
            while place < end:  # a single read returns at most 2 GB
                count = stream.readinto(view[place:end])
                if not count:
                    raise ValueError("it was truncated while it was in use")
                place += count
        return out


@dataclasses.dataclass
class Shard:
    """A file of answers.

    Attributes:
        file: The path, whatever folder the process changes to.
        rows: Number of examples.
        arrays: Values of each answer, as they lie in the file.
        sizes: The shape of each row, of answers that have different ones.
        state: What `_state` gave when it was opened.
    """

    file: pathlib.Path
    rows: int
    arrays: dict[str, Stored]
    sizes: dict[str, np.ndarray]
    state: tuple[int, int, int]

    def __len__(self):
        return self.rows

    @property
    def nbytes(self) -> int:
        """Bytes of the answers, in the file and of their shapes in memory."""
        stored = sum(one.step * one.shape[0] for one in self.arrays.values())
        return stored + sum(one.nbytes for one in self.sizes.values())

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of an answer."""
        return self.arrays[name].dtype

    def shape(self, name: str) -> list[int | None]:
        """Return the shape of a row of an answer, `None` where rows differ."""
        return shape_of(self.arrays[name].shape[1:], self.sizes.get(name))

    def take(self, rows: np.ndarray) -> dict[str, Column]:
        """Return some rows of every answer.

        Raises:
            InputError: if the file is gone or was replaced since it was opened.
        """
        try:
            with open(self.file, "rb", buffering=0) as stream:
                if _state(stream) != self.state:
                    raise ValueError("it was changed or replaced while it was in use")
                return {name: self._column(stream, name, rows) for name in self.arrays}
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(
                f"{str(self.file)!r} can't be read any more: {why}. Restore the folder and open "
                "the cache again."
            ) from error

    def _column(self, stream, name: str, rows: np.ndarray) -> Column:
        array, sizes = self.arrays[name], self.sizes.get(name)
        if sizes is None:
            return Column(array.read(stream, rows, rows + 1))
        starts = starts_of(sizes)
        values = array.read(stream, starts[rows], starts[rows + 1])
        return Column(values, sizes[rows]).levelled()


def bytes_of(keys: np.ndarray, columns: dict[str, Column]) -> io.BytesIO:
    """Return the bytes of a shard."""
    arrays = {"keys": keys}
    for name, one in columns.items():
        arrays[f"values:{name}"] = one.values
        if one.sizes is not None:
            arrays[f"sizes:{name}"] = one.sizes
    buffer = io.BytesIO()
    # By position, since an answer may have any name.
    numbered: dict[str, Any] = {
        f"a{i}": np.ascontiguousarray(array) for i, array in enumerate(arrays.values())
    }
    np.savez(buffer, names=np.array(list(arrays)), **numbered)
    return buffer


def written(file: pathlib.Path, keys: np.ndarray, columns: dict[str, Column]) -> Shard:
    """Return the shard that was just written from these keys and columns.

    Raises:
        InputError: if it holds other keys: another process filled the same folder.
    """
    with open(file, "rb") as stream:
        state, arrays = _state(stream), _arrays(stream)
        if not np.array_equal(_whole(stream, arrays["keys"]), keys):
            raise InputError(
                f"Another process also writes {str(file)!r}: let only one process fill a folder, "
                "and call cache_teacher again with another folder."
            )
    return Shard(
        file.absolute(),
        len(keys),
        {name: arrays[f"values:{name}"] for name in columns},
        {name: np.array(one.sizes) for name, one in columns.items() if one.sizes is not None},
        state,
    )


def opened(file: pathlib.Path, entry: dict, shapes: dict, classes: dict) -> tuple[Shard, Any]:
    """Return a shard of a folder and its keys, every part of it checked.

    Args:
        file: The path.
        entry: Its entry in the manifest: `rows` and `blake2b`.
        shapes: Per answer the shape of a row, `None` where rows differ.
        classes: Per name of top-k indices the number of classes, or `None`.

    Raises:
        ValueError: that says what is wrong, or any error of zipfile and NumPy.
    """
    with open(file, "rb") as stream:
        state = _state(stream)
        if hashing.checksum_of(stream) != entry["blake2b"]:
            raise ValueError("its bytes have changed since they were written (another checksum)")
        arrays = _arrays(stream)
        keys = _whole(stream, arrays.pop("keys"))
        if keys.dtype != np.int64 or keys.shape != (entry["rows"], 2):
            raise ValueError(
                f"its keys are {keys.dtype} {keys.shape}, not int64 ({entry['rows']}, 2)"
            )
        shard = Shard(file.absolute(), len(keys), {}, {}, state)
        for name in shapes:
            shard.arrays[name] = arrays.pop(f"values:{name}")
            if f"sizes:{name}" in arrays:
                shard.sizes[name] = _whole(stream, arrays.pop(f"sizes:{name}"))
            _check(shard, name, shapes[name])
        if arrays:
            raise ValueError(f"it holds the unknown arrays {sorted(arrays)}")
        for name, array in shard.arrays.items():
            _check_values(stream, name, array, classes.get(name))
    return shard, keys


def _state(stream) -> tuple[int, int, int]:
    """Return values that change if the file is modified or replaced."""
    found = os.fstat(stream.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def _arrays(stream) -> dict[str, Stored]:
    """Return the location of each named array in a shard."""
    members = _members(stream)
    names = _whole(stream, members.pop("names")).tolist()
    arrays = {name: members.pop(f"a{i}") for i, name in enumerate(names)}
    return arrays | members


def _members(stream) -> dict[str, Stored]:
    """Return the locations of the arrays in an `.npz`; read only their headers."""
    found = {}
    size = stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise ValueError(f"{info.filename!r} is compressed")
            stream.seek(info.header_offset)
            lengths = struct.unpack("<26xHH", stream.read(30))
            start = stream.seek(sum(lengths), io.SEEK_CUR)
            version = _HEADER.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"{info.filename!r} has the version {version} of .npy")
            read = {1: _HEADER.read_array_header_1_0, 2: _HEADER.read_array_header_2_0}
            shape, turned, dtype = read[version[0]](stream)
            if dtype.hasobject or not dtype.isnative or (turned and len(shape) > 1):
                raise ValueError(f"{info.filename!r} holds {dtype}, or has an unexpected order")
            offset = stream.tell()
            stop = offset + dtype.itemsize * math.prod(shape)
            if stop != start + info.file_size or stop > size:
                raise ValueError(f"{info.filename!r} does not have the size that it declares")
            found[info.filename.removesuffix(".npy")] = Stored(offset, dtype, shape)
    return found


def _whole(stream, array: Stored) -> np.ndarray:
    """Read a small array whole."""
    count = array.shape[0] if array.shape else 0
    return array.read(stream, np.array([0]), np.array([count]))


def _check(shard: Shard, name: str, shape: list) -> None:
    """Raise unless an answer has its dtype and shapes."""
    array, sizes = shard.arrays[name], shard.sizes.get(name)
    allowed = {"indices": "ui"}.get(parse(name)[2], "f")
    if array.dtype.kind not in allowed:
        raise ValueError(f"its answers {name!r} are {array.dtype}")
    if sizes is not None:
        fits = sizes.dtype == np.int64 and sizes.ndim == 2 and (sizes >= 0).all()
        if not fits or array.shape != (starts_of(sizes)[-1],):
            raise ValueError(f"its answers {name!r} do not have the sizes that it declares")
    rows = (array.shape[0] if array.shape else 0) if sizes is None else len(sizes)
    found = shard.shape(name)
    fits = len(found) == len(shape) and all(
        b in (None, a) for a, b in zip(found, shape, strict=True)
    )
    if rows != shard.rows or not fits:
        raise ValueError(f"its answers {name!r} are ({rows}, {found}), not {shape} each")


def _check_values(stream, name: str, array: Stored, classes: int | None) -> None:
    """Raise unless values are finite, and top-k indices are distinct existing classes."""
    if not array.step:
        return
    for start in range(0, array.shape[0], at_once := max(1, _PIECE // array.step)):
        stop = min(start + at_once, array.shape[0])
        values = array.read(stream, np.array([start]), np.array([stop]))
        if array.dtype.kind == "f":
            if not np.isfinite(values).all():
                raise ValueError(f"its answers {name!r} are not all finite")
        elif classes is not None:
            if values.max(initial=0) >= classes or values.min(initial=0) < 0:
                raise ValueError(f"its answers {name!r} name classes above {classes - 1}")
            if values.ndim > 1:
                ordered = np.sort(values, axis=-1)
                if (ordered[..., 1:] == ordered[..., :-1]).any():
                    raise ValueError(f"its answers {name!r} name a class twice")
