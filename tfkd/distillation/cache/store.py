"""Where a cache's answers are collected: in memory, and in a folder of shards.

    manifest.json     settings, what the answers are, and a checksum of every shard
    shard-00000.npz   keys (rows, 2) and answers of some thousand examples

Every shard is written whole, then the manifest that names it, and its answers leave the memory.
What is read is checked before it is taken: a folder that is damaged, foreign or half written is
an `InputError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import time
from collections.abc import Iterator

import numpy as np

from tfkd import hashing, sealed
from tfkd.distillation.cache import shards
from tfkd.distillation.cache.answers import Answers, Held
from tfkd.distillation.cache.columns import Column, Growing
from tfkd.distillation.cache.index import OTHER, UNKNOWN, Index
from tfkd.distillation.teacher_outputs import key_of, parse
from tfkd.errors import InputError
from tfkd.files import write_atomically

FORMAT = "tfkd.cache/3"
ROWS = 4096  # rows per shard, unless the user sets another size
BYTES = 1 << 26  # most bytes per shard, in the teacher's dtypes
SECONDS = 60.0  # most work that is lost if the process is killed
_MANIFEST = "manifest.json"
_AT_ONCE = 1 << 18  # values whose rounding is checked at once
_TOLERANCE = 1e-3  # of the standard deviation: largest error of rounding to float16
_AGAIN = "name another folder, or delete this one and call cache_teacher again"
_ASK_AGAIN = (
    "Delete that file and call cache_teacher again with the same teacher and data: the teacher "
    "answers only its examples again."
)


@dataclasses.dataclass
class About:
    """The description of the answers in a cache.

    Attributes:
        names: The outputs' names, in declared order.
        tasks: One of `losses.SOFT_TASKS` per output, or `None` where they are kept as they are.
        shapes: The outputs' shapes, batch included, `None` where a size is free, or unknown.
        features: Names of the features.
        teacher: Its fingerprint, or `None` where it can't be hashed.
        signature: As `examples.signature` gives it.
    """

    names: list[str]
    tasks: list[str | None]
    shapes: list
    features: list[str]
    teacher: str | None = None
    signature: list = dataclasses.field(default_factory=list)


class Store:
    """Collects keys and answers, decides their dtype, and writes them in shards.

    Args:
        about: The description of the answers.
        dtype: `"auto"`, `"float16"` or `"float32"`.
        path: A folder, or `None` for memory only.
        settings: The settings that the folder must have been made with.
        shard_size: Examples a shard, or `None`.

    Raises:
        InputError: for a folder that can't be taken.
    """

    def __init__(self, about: About, dtype="auto", path=None, settings=None, shard_size=None):
        self.about, self.dtype, self.shard_size = about, dtype, shard_size
        self.path = None if path is None else pathlib.Path(path)
        self.settings = settings or {}
        self.known = Index()
        self.complete = False
        self._held: dict[str, Growing] = {}  # answers that stay in memory
        self._files: list[shards.Shard] = []
        self._pending: dict[str, Growing] = {}
        self._keys: list[np.ndarray] = []  # of pending answers
        self._rows, self._flushed = 0, time.monotonic()
        self._shards: list[dict] = []
        self._next = 0
        self._shapes: dict[str, list] = {}
        self._spreads: dict[str, _Spread] = {}
        if self.path is not None:
            self._open()

    def fresh(self, keys: np.ndarray) -> np.ndarray:
        """Return the rows whose examples are not held yet; of equal ones the first.

        Raises:
            InputError: where two different examples have the same key.
        """
        found = self.known.find(keys)
        _, firsts, same = np.unique(keys[:, 0], return_index=True, return_inverse=True)
        if (found == OTHER).any() or (keys[firsts[same.reshape(-1)], 1] != keys[:, 1]).any():
            raise InputError(
                "Two different examples of this data have the same 64-bit key, so a cache "
                "can't tell them apart: train without a cache, or leave one of them out."
            )
        return np.sort(firsts[found[firsts] == UNKNOWN])

    def add(self, keys: np.ndarray, columns: dict[str, Column]) -> None:
        """Keep new examples' answers; write shards when it is time."""
        if self.shard_size is None:
            row = sum(one.values.nbytes for one in columns.values()) / len(keys)
            self.shard_size = max(1, min(ROWS, int(BYTES / max(1, row))))
        self.known.add(keys)
        self._wait_with(keys, columns)
        if self._rows >= self.shard_size:
            self._flush(whole_shards=True)
        elif self.path is not None and time.monotonic() - self._flushed > SECONDS:
            self._flush()

    def finish(self) -> Answers:
        """Write what is left; return all answers, in the order of their rows in `known`."""
        self._flush()
        self.complete = True
        if self.path is not None:
            with self._kept_so_far():
                self._write_manifest()
        return self.load()

    def load(self) -> Answers:
        """Return all answers that are held, in the order of their rows in `known`."""
        if self.path is not None:
            return Answers(self._shapes, self._files)
        for growing in self._held.values():
            growing.trim()
        held = {name: growing.column() for name, growing in self._held.items()}
        return Answers(self._shapes, [Held(held)])

    def _wait_with(self, keys, columns):
        for name, one in columns.items():
            self._pending.setdefault(name, Growing()).add(one)
        self._keys.append(keys)
        self._rows += len(keys)

    def _flush(self, whole_shards=False):
        if not self._rows:
            return
        keys, pending = np.concatenate(self._keys), self._pending
        columns = {name: growing.column() for name, growing in pending.items()}
        size = self.shard_size
        stop = len(keys) // size * size if whole_shards else len(keys)
        for start in range(0, stop, size):
            end = min(start + size, stop)
            self._keep(
                keys[start:end], {name: one.between(start, end) for name, one in columns.items()}
            )
        self._keys, self._pending, self._rows = [], {}, 0
        if stop < len(keys):
            left = {name: one.between(stop, len(keys)) for name, one in columns.items()}
            self._wait_with(keys[stop:], left)
        self._flushed = time.monotonic()

    def _keep(self, keys, columns):
        columns = {name: self._narrowed(name, one) for name, one in columns.items()}
        for name, one in columns.items():
            self._shapes[name] = merged(self._shapes.get(name, one.shape), one.shape)
        if self.path is None:
            for name, one in columns.items():
                self._held.setdefault(name, Growing()).add(one)
            return
        data = shards.bytes_of(keys, columns).getbuffer()
        file = f"shard-{self._next:05d}.npz"
        self._next += 1
        with self._kept_so_far():
            write_atomically(self.path / file, data)
            entry = {"file": file, "rows": len(keys), "blake2b": hashing.checksum(data)}
            self._shards.append(entry)
            self._write_manifest()
        self._files.append(shards.written(self.path / file, keys, columns))

    @contextlib.contextmanager
    def _kept_so_far(self):
        """Return how to continue if a file can't be written."""
        try:
            yield
        except InputError as error:
            raise InputError(
                f"{error} The {sum(map(len, self._files)):,} examples that were written before are "
                "kept: make room, or repair the folder, and call cache_teacher again with the same "
                "teacher and data; the teacher answers only the others."
            ) from error

    def _narrowed(self, name: str, column: Column) -> Column:
        """Return answers in the dtype in which they are stored."""
        if column.values.dtype.kind != "f":
            return column
        if self.dtype == "float16":
            column = column.astype(np.float16)
            if not np.isfinite(column.values).all():
                raise InputError(
                    f"The teacher's answers {name!r} exceed 65,504, the largest float16: use "
                    "dtype='float32' or 'auto'."
                )
            return column
        index = parse(name)[0]
        task = "feature" if index is None else self.about.tasks[index]
        if self.dtype == "float32" or task == "regression":
            return column.astype(np.float32)
        spread = self._spreads.setdefault(name, _Spread(per_channel=task is None))
        return column.astype(np.float16 if spread.allows_float16(column) else np.float32)

    def _open(self):
        path = self.path
        try:
            path.mkdir(parents=True, exist_ok=True)
            inside = [p.name for p in path.iterdir()]
        except FileExistsError:
            raise InputError(f"{str(path)!r} is a file; name a folder for the cache.") from None
        except OSError as error:
            raise InputError(
                f"Cannot write {str(path)!r}: {error.strerror or error}; name another folder."
            ) from error
        if _MANIFEST in inside:
            self._resume(read_manifest(path))
        elif any(not name.startswith((f".{_MANIFEST}.", ".shard-")) for name in inside):
            raise InputError(
                f"The folder {str(path)!r} is not empty and holds no cache ({_MANIFEST} is "
                "missing); name another folder."
            )
        else:
            self._write_manifest()

    def _resume(self, manifest):
        stored = manifest["settings"]
        names = sorted({*self.settings, *stored})
        wrong = [name for name in names if stored.get(name) != self.settings.get(name)]
        if wrong:
            raise InputError(
                f"The cache in {str(self.path)!r} was made with another {' and '.join(wrong)}; "
                "name another folder, or delete this one."
            )
        self.about.signature = manifest["signature"]
        self._shapes = manifest["answers"]
        # The teacher is asked again about the examples of a deleted shard.
        self._shards = [one for one in manifest["shards"] if (self.path / one["file"]).exists()]
        for shard, keys in opened_shards(self.path, manifest, self._shards, self.known):
            self._files.append(shard)
            self.known.add(keys)
        numbers = [int(one["file"][6:-4]) for one in manifest["shards"]]
        self._next = max(numbers, default=-1) + 1
        self.complete = manifest["complete"] and 0 < len(self._shards) == len(manifest["shards"])

    def _write_manifest(self):
        about = dataclasses.asdict(self.about)
        about["shapes"] = [[None, *shape[1:]] for shape in self.about.shapes]
        manifest = {
            "format": FORMAT,
            "settings": self.settings,
            **about,
            "answers": self._shapes,
            "shards": self._shards,
            "complete": self.complete,
        }
        sealed.write(self.path / _MANIFEST, manifest)


class _Spread:
    """Whether float16 is precise enough for answers, from all answers so far."""

    def __init__(self, per_channel: bool):
        self.per_channel = per_channel  # for values of unknown kind
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def allows_float16(self, column: Column) -> bool:
        """Tell whether the rms rounding error is at most 1e-3 of the standard deviation."""
        last = column.shape[-1:] or [None]
        channels = last[0] if self.per_channel and last[0] else 1
        values = column.values.reshape(-1, channels)
        errors = 0.0
        for start in range(0, len(values), _AT_ONCE // channels + 1):
            some = values[start : start + _AT_ONCE // channels + 1]
            exact = some.astype(np.float64)
            self.total = self.total + exact.sum(0)
            self.squares = self.squares + (exact**2).sum(0)
            with np.errstate(over="ignore", invalid="ignore"):
                errors = errors + ((some.astype(np.float16) - exact) ** 2).sum(0)
        self.count += len(values)
        variance = np.maximum(self.squares / self.count - (self.total / self.count) ** 2, 0.0)
        return bool((errors / max(1, len(values)) <= _TOLERANCE**2 * variance).all())


def read_manifest(path: pathlib.Path) -> dict:
    """Return a folder's manifest, every part of it checked.

    Raises:
        InputError: that names the file, what is wrong and the way out.
    """
    file = path / _MANIFEST
    held = sealed.read(file, FORMAT, _AGAIN)
    wrong = [name for name, fits in _FIELDS.items() if name not in held or not fits(held[name])]
    if wrong:
        raise InputError(
            f"{str(file)!r} is damaged: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} "
            f"missing or of the wrong type; {_AGAIN}."
        )
    return held


def opened_shards(
    path, manifest, entries, known: Index
) -> Iterator[tuple[shards.Shard, np.ndarray]]:
    """Yield each shard and its keys, checked against the manifest.

    Args:
        path: The folder.
        manifest: What `read_manifest` gave.
        entries: Those of its shards that are wanted.
        known: Has the keys of the shards before; the caller adds to it.

    Raises:
        InputError: for the first shard that is damaged.
    """
    classes = {
        key_of(i, name, "indices"): shape[-1]
        for i, (name, shape) in enumerate(zip(manifest["names"], manifest["shapes"], strict=True))
        if shape
    }
    for entry in entries:
        file = path / entry["file"]
        try:
            shard, keys = shards.opened(file, entry, manifest["answers"], classes)
            if len(np.unique(keys[:, 0])) < len(keys) or (known.find(keys) != UNKNOWN).any():
                raise ValueError("it holds an example twice, or one that another shard holds")
        # NumPy and zipfile raise many types for damaged bytes.
        except Exception as error:
            raise InputError(f"{str(file)!r} is damaged: {error}. {_ASK_AGAIN}") from error
        yield shard, keys


def merged(one: list, other: list) -> list:
    """Return a shape that both have, `None` where they differ."""
    if len(one) != len(other):
        raise InputError(f"The teacher's answers have different ranks: {one} and {other}.")
    return [a if a == b else None for a, b in zip(one, other, strict=True)]


def _is_shapes(value) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list) and all(n is None or type(n) is int for n in one) for one in value
    )


def _is_texts(value) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_shard(value) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"file", "rows", "blake2b"}
        and re.fullmatch(r"shard-\d{5,}\.npz", str(value["file"])) is not None
        and type(value["rows"]) is int
        and isinstance(value["blake2b"], str)
    )


_FIELDS = {
    "settings": lambda v: isinstance(v, dict),
    "names": _is_texts,
    "tasks": lambda v: isinstance(v, list) and all(t is None or isinstance(t, str) for t in v),
    "shapes": _is_shapes,
    "features": _is_texts,
    "teacher": lambda v: v is None or isinstance(v, str),
    "signature": lambda v: isinstance(v, list) and all(isinstance(s, list) for s in v),
    "answers": lambda v: isinstance(v, dict) and _is_shapes(list(v.values())),
    "shards": lambda v: isinstance(v, list) and all(map(_is_shard, v)),
    "complete": lambda v: isinstance(v, bool),
}
