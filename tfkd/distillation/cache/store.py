"""Where a cache's answers are collected: in memory, and in a folder of shards.

    manifest.json     settings, what the answers are, and a checksum of every shard
    shard-00000.npz   keys (rows, 2) and answers of some thousand examples

Every shard is written whole, then the manifest that names it. What is read is checked before
it is taken: a folder that is damaged, foreign or half written is an `InputError`.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import re
import time
from typing import Any

import numpy as np

from tfkd import hashing, sealed
from tfkd.distillation.teacher_outputs import parse
from tfkd.errors import InputError
from tfkd.files import write_atomically

FORMAT = "tfkd.cache/3"
ROWS = 4096  # a shard, unless the user says another size
SECONDS = 60.0  # of work that a kill may lose
_MANIFEST = "manifest.json"
_TOLERANCE = 1e-3  # of the standard deviation, that rounding to float16 may cost
_AGAIN = "name another folder, or delete this one and call cache_teacher again"
_ASK_AGAIN = (
    "Delete that file and call cache_teacher again with the same teacher and data: only its "
    "examples are asked again."
)


@dataclasses.dataclass
class Column:
    """One kind of answer, a row per example.

    Attributes:
        values: Array (rows, ...), or a flat one where rows have different shapes.
        sizes: Then the shape of each row: int64 (rows, rank).
    """

    values: np.ndarray
    sizes: np.ndarray | None = None

    def __len__(self):
        return len(self.values if self.sizes is None else self.sizes)

    @property
    def shape(self) -> list[int | None]:
        """Shape of a row, `None` where rows differ."""
        if self.sizes is None:
            return list(self.values.shape[1:])
        same = (self.sizes == self.sizes[:1]).all(0) if len(self.sizes) else self.sizes.all(0)
        return [int(n) if one else None for n, one in zip(self.sizes[0], same, strict=True)]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.values.nbytes + (0 if self.sizes is None else self.sizes.nbytes)

    @property
    def starts(self) -> np.ndarray:
        """Where each row starts in the flat values, and where the last one ends."""
        return np.concatenate([[0], np.cumsum(np.prod(self.sizes, 1))]).astype(np.int64)

    def take(self, rows: np.ndarray) -> Column:
        """Return some rows, in another order."""
        if self.sizes is None:
            return Column(self.values[rows])
        starts = self.starts
        parts = [self.values[starts[row] : starts[row + 1]] for row in np.asarray(rows).tolist()]
        values = np.concatenate(parts) if parts else self.values[:0]
        return Column(values, self.sizes[rows]).levelled()

    def astype(self, dtype) -> Column:
        """Return the rows in another dtype."""
        with np.errstate(over="ignore"):
            return Column(self.values.astype(dtype), self.sizes)

    def levelled(self) -> Column:
        """Return a plain array where every row has the same shape."""
        if self.sizes is None or not len(self.sizes) or (self.sizes != self.sizes[:1]).any():
            return self
        return Column(self.values.reshape(len(self.sizes), *self.sizes[0]))

    @staticmethod
    def join(columns: list[Column]) -> Column:
        """Put rows one after another; a part in float32 makes the whole float32."""
        if len({(one.sizes is None, *one.values.shape[1:]) for one in columns}) == 1 and (
            columns[0].sizes is None
        ):
            return Column(np.concatenate([one.values for one in columns]))
        sizes = [
            np.tile(np.array(one.shape, np.int64), (len(one), 1))
            if one.sizes is None
            else one.sizes
            for one in columns
        ]
        flat = np.concatenate([one.values.reshape(-1) for one in columns])
        return Column(flat, np.concatenate(sizes)).levelled()


@dataclasses.dataclass
class About:
    """What is known of the answers in a cache.

    Attributes:
        names: The outputs' names, in declared order.
        tasks: One of `losses.SOFT_TASKS` per output, or `None` where they are kept as they are.
        shapes: The outputs' shapes, batch included, `None` where a size is free.
        features: Names of the features.
        teacher: Its fingerprint, or `None` where it can't be hashed.
        signature: As `examples.signature` gives it.
    """

    names: list[str]
    tasks: list[str | None]
    shapes: list[tuple]
    features: list[str]
    teacher: str | None = None
    signature: list = dataclasses.field(default_factory=list)


class Store:
    """Collects keys and answers, decides their dtype, and writes them in shards.

    Args:
        about: What is known of the answers.
        dtype: `"auto"`, `"float16"` or `"float32"`.
        path: A folder, or `None` for memory only.
        settings: What the folder must have been made with.
        shard_size: Examples a shard, or `None`.

    Raises:
        InputError: for a folder that can't be taken.
    """

    def __init__(self, about: About, dtype="auto", path=None, settings=None, shard_size=None):
        self.about, self.dtype, self.shard_size = about, dtype, shard_size or ROWS
        self.path = None if path is None else pathlib.Path(path)
        self.settings = settings or {}
        self.known: dict[int, int] = {}  # key → check
        self.complete = False
        self._parts: list[tuple[np.ndarray, dict[str, Column]]] = []
        self._pending: list[tuple[np.ndarray, dict[str, Column]]] = []
        self._rows, self._flushed = 0, time.monotonic()
        self._shards: list[dict] = []
        self._next = 0
        self._shapes: dict[str, list] = {}
        self._spreads: dict[str, _Spread] = {}
        if self.path is not None:
            self._open()

    @property
    def columns(self) -> list[str]:
        """Names of the answers that are held."""
        return list((self._parts or self._pending)[0][1])

    def fresh(self, keys: np.ndarray) -> np.ndarray:
        """Return the rows whose examples are not held yet; of equal ones the first.

        Raises:
            InputError: where two different examples have the same key.
        """
        rows, new = [], {}
        for row, (key, check) in enumerate(keys.tolist()):
            before = self.known.get(key, new.get(key))
            if before is None:
                new[key] = check
                rows.append(row)
            elif before != check:
                raise InputError(
                    "Two different examples of this data have the same 64-bit key, so a cache "
                    "can't tell them apart: train without a cache, or leave one of them out."
                )
        return np.array(rows, np.int64)

    def add(self, keys: np.ndarray, columns: dict[str, Column]) -> None:
        """Keep new examples' answers; write shards when it is time."""
        self.known.update(keys.tolist())
        self._pending.append((keys, columns))
        self._rows += len(keys)
        if self._rows >= self.shard_size:
            self._flush(whole_shards=True)
        elif self.path is not None and time.monotonic() - self._flushed > SECONDS:
            self._flush()

    def finish(self) -> tuple[np.ndarray, dict[str, Column]]:
        """Write what is left; return all keys and answers."""
        self._flush()
        self.complete = True
        if self.path is not None:
            self._write_manifest()
        return self.load()

    def load(self) -> tuple[np.ndarray, dict[str, Column]]:
        """Return all keys (examples, 2) and answers that are held."""
        return join(self._parts)

    def _flush(self, whole_shards=False):
        if not self._pending:
            return
        keys, columns = join(self._pending)
        size = self.shard_size
        stop = len(keys) // size * size if whole_shards else len(keys)
        for start in range(0, stop, size):
            rows = np.arange(start, min(start + size, stop))
            self._keep(keys[rows], {name: one.take(rows) for name, one in columns.items()})
        rows = np.arange(stop, len(keys))
        left = (keys[rows], {name: one.take(rows) for name, one in columns.items()})
        self._pending, self._rows = ([left] if len(rows) else []), len(rows)
        self._flushed = time.monotonic()

    def _keep(self, keys, columns):
        columns = {name: self._narrowed(name, one) for name, one in columns.items()}
        self._parts.append((keys, columns))
        for name, one in columns.items():
            self._shapes[name] = merged(self._shapes.get(name, one.shape), one.shape)
        if self.path is None:
            return
        arrays = {"keys": keys}
        for name, one in columns.items():
            arrays[f"values:{name}"] = one.values
            if one.sizes is not None:
                arrays[f"sizes:{name}"] = one.sizes
        buffer = io.BytesIO()
        # By position: an answer may have any name.
        np.savez(buffer, names=np.array(list(arrays)), **_numbered(arrays.values()))
        data = buffer.getvalue()
        file = f"shard-{self._next:05d}.npz"
        self._next += 1
        write_atomically(self.path / file, data)
        self._shards.append({"file": file, "rows": len(keys), "blake2b": hashing.checksum(data)})
        self._write_manifest()

    def _narrowed(self, name: str, column: Column) -> Column:
        """Return answers in the dtype that they are kept in."""
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
                "name another folder, or delete it."
            )
        self.about.signature = manifest["signature"]
        self._shapes = manifest["answers"]
        # A shard that the user deleted is asked again.
        self._shards = [one for one in manifest["shards"] if (self.path / one["file"]).exists()]
        self._parts = read_shards(self.path, manifest, self._shards)
        numbers = [int(one["file"][6:-4]) for one in manifest["shards"]]
        self._next = max(numbers, default=-1) + 1
        for keys, _ in self._parts:
            self.known.update(keys.tolist())
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
    """Whether float16 is fine enough for answers, from all that were seen so far."""

    def __init__(self, per_channel: bool):
        self.per_channel = per_channel  # for values of which nothing is known
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def allows_float16(self, column: Column) -> bool:
        """Tell whether the rms rounding error is at most 1e-3 of the standard deviation."""
        last = column.shape[-1:] or [None]
        channels = last[0] if self.per_channel and last[0] else 1
        values = column.values.reshape(-1, channels)
        exact = values.astype(np.float64)
        self.count += len(exact)
        self.total = self.total + exact.sum(0)
        self.squares = self.squares + (exact**2).sum(0)
        variance = np.maximum(self.squares / self.count - (self.total / self.count) ** 2, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            error = ((values.astype(np.float16) - exact) ** 2).mean(0)
        return bool((error <= _TOLERANCE**2 * variance).all())


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


def read_shards(path, manifest, shards) -> list[tuple[np.ndarray, dict[str, Column]]]:
    """Return keys and answers of each shard, checked against the manifest.

    Raises:
        InputError: for the first shard that is damaged.
    """
    parts, seen = [], set()
    for entry in shards:
        file = path / entry["file"]
        try:
            parts.append(_read_shard(file, entry, manifest["answers"]))
            keys = parts[-1][0][:, 0].tolist()
            if len(set(keys)) < len(keys) or not seen.isdisjoint(keys):
                raise ValueError("it holds an example twice, or one that another shard holds")
            seen.update(keys)
        # Whatever NumPy or zipfile raise for damaged bytes.
        except Exception as error:
            raise InputError(f"{str(file)!r} is damaged: {error}. {_ASK_AGAIN}") from error
    return parts


def _read_shard(file, entry, shapes) -> tuple[np.ndarray, dict[str, Column]]:
    data = file.read_bytes()
    if hashing.checksum(data) != entry["blake2b"]:
        raise ValueError("its bytes are not those that were written (another checksum)")
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        names = stored["names"].tolist()
        arrays = {name: stored[f"a{i}"] for i, name in enumerate(names)}
    keys = arrays.pop("keys")
    if keys.dtype != np.int64 or keys.shape != (entry["rows"], 2):
        raise ValueError(f"its keys are {keys.dtype} {keys.shape}, not int64 ({entry['rows']}, 2)")
    columns = {}
    for name, shape in shapes.items():
        one = Column(arrays.pop(f"values:{name}"), arrays.pop(f"sizes:{name}", None))
        allowed = {"indices": "ui"}.get(parse(name)[2], "f")
        if one.values.dtype.kind not in allowed:
            raise ValueError(f"its answers {name!r} are {one.values.dtype}")
        if one.sizes is not None and one.values.shape != (one.starts[-1],):
            raise ValueError(f"its answers {name!r} have not the sizes that it names")
        found = one.shape
        fits = len(found) == len(shape) and all(
            b in (None, a) for a, b in zip(found, shape, strict=True)
        )
        if len(one) != entry["rows"] or not fits:
            raise ValueError(f"its answers {name!r} are ({len(one)}, {found}), not {shape} each")
        if allowed == "f" and not np.isfinite(one.values).all():
            raise ValueError(f"its answers {name!r} are not all finite")
        columns[name] = one
    if arrays:
        raise ValueError(f"it holds {sorted(arrays)}, of which nothing is known")
    return keys, columns


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


def join(parts) -> tuple[np.ndarray, dict[str, Column]]:
    """Put the keys and answers of several shards one after another."""
    keys = np.concatenate([keys for keys, _ in parts])
    names = parts[0][1]
    return keys, {name: Column.join([columns[name] for _, columns in parts]) for name in names}


def _numbered(arrays) -> dict[str, Any]:
    return {f"a{i}": array for i, array in enumerate(arrays)}
