"""What the teacher said, kept, so that it runs once per example and not once per epoch.

Answers are found again by the content of the example, not by its place: a dataset may be
shuffled and batched anew after its teacher was asked, and an example that the teacher never
saw (because the pipeline changes it at random) is an error, not a wrong answer.

    dataset ──once──► keys (a 64-bit hash of each x) + answers ──attach──► Taught(x, answers)

With random augmentation the teacher is asked about the clean image, once, and the student
sees another view of it in every epoch; seed the random part to repeat a run:

    cache = tfkd.cache_teacher(dataset, teacher)

    def view(taught, y):
        return tfkd.Taught(augment(taught.x), taught.answers), y

    distiller.fit(cache.attach(dataset).map(view), epochs=20)

A teacher that should see the same augmented view as the student has to run in every step:
leave the cache out.
"""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfkd import graph
from tfkd.errors import InputError
from tfkd.files import write_atomically
from tfkd.teachers import Taught, Teacher

_FORMAT = "tfkd.cache/2"
UNKNOWN = "The teacher was never asked about some examples of this data"
CHANGING = (
    f"{UNKNOWN}: the pipeline changes them from pass to pass. Cache before the random part and "
    "augment after it with attach(dataset).map(lambda taught, y: (Taught(augment(taught.x), "
    "taught.answers), y)), or train without the cache."
)


class TeacherCache:
    """A teacher's answers by example, made by `cache_teacher`.

    Attributes:
        size: Number of examples.
        bytes_per_example: Memory that one example's answers and key take.
        tasks: One of `losses.TASKS` per output, where the answers were asked for a distiller;
            `None` for answers that are kept as they are.
    """

    tasks: list[str] | None = None

    def __init__(self, keys, arrays):
        order = np.argsort(keys, kind="stable")
        self._keys = np.asarray(keys)[order]
        self._arrays = {name: array[order] for name, array in arrays.items()}
        self._table = None

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self._keys)

    @property
    def bytes_per_example(self) -> float:
        """Memory that one example's answers and key take."""
        total = self._keys.nbytes + sum(array.nbytes for array in self._arrays.values())
        return total / max(1, self.size)

    def attach(self, data):
        """Put the answers beside the inputs.

        Args:
            data: A batched `tf.data.Dataset` of `x`, `(x, y)` or `(x, y, sample_weight)`, or
                arrays `x` of shape (examples, ...).

        Returns:
            The dataset with `Taught(x, answers)` in the place of `x`, or a `Taught`; what
            `Distiller.fit` takes. Augment after it, on `taught.x` alone.

        Raises:
            InputError: for examples the teacher was not asked about; from a dataset, when
                `fit` reaches them.
        """
        if not isinstance(data, tf.data.Dataset):
            return Taught(data, self._found(_keys_of(data)))
        if self._table is None:
            keys = tf.constant(self._keys)
            rows = tf.range(self.size, dtype=tf.int64)
            initializer = tf.lookup.KeyValueTensorInitializer(keys, rows)
            self._table = tf.lookup.StaticHashTable(initializer, default_value=-1)
        held = {name: tf.constant(array) for name, array in self._arrays.items()}

        def add(*element):
            x = element[0]
            rows = self._table.lookup(_keys_of(x))
            known = tf.debugging.Assert(tf.reduce_all(rows >= 0), [CHANGING])
            with tf.control_dependencies([known]):
                rows = tf.identity(rows)
            answers = {name: tf.gather(array, rows) for name, array in held.items()}
            return (Taught(x, answers), *element[1:])

        return data.map(add, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _found(self, keys):
        keys = np.asarray(keys)
        rows = np.minimum(np.searchsorted(self._keys, keys), self.size - 1)
        if not np.array_equal(self._keys[rows], keys):
            raise InputError(f"{UNKNOWN}; make the cache from the same data.")
        return {name: array[rows] for name, array in self._arrays.items()}

    def _covers(self, keys) -> bool:
        return bool(np.isin(keys, self._keys).all())


def cache_teacher(
    data,
    teacher,
    path=None,
    *,
    dtype: str = "float16",
    top_k: int | None = None,
    features=(),
    task: str | None = None,
    from_logits: bool | None = None,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> TeacherCache:
    """Ask a teacher about every example of a data set, once.

    Choose it when several runs share a teacher, or the teacher is costly: later epochs
    cost what the student alone does. `Distiller.fit(x, y, cache_teacher=True)` does the
    same for one call of `fit`.

    Args:
        data: A finite, batched `tf.data.Dataset` of `x` or `(x, y, ...)`, or arrays `x`.
        teacher: Whatever `Distiller` takes as a teacher (but an array).
        path: A folder to keep the answers in; they are written in shards, and a run that
            was killed goes on where it stopped. `None` keeps them in memory only.
        dtype: `"float16"` (2 bytes an answer; three decimal digits) or `"float32"`.
        top_k: Keep only the k largest logits of each example and the mass of the others,
            spread evenly over them: for thousands of classes. Categorical outputs only.
        features: Names or paths of teacher layers to keep as well.
        task: `"categorical"`, `"binary"` or `"regression"`. Defaults to what the teacher's
            last layer says: softmax, sigmoid, or values that are kept as they are (logits).
        from_logits: As `teacher_from_logits` of `Distiller`.
        batch_size: Examples at a time, for arrays.
        progress: Called with the number of examples done.

    Returns:
        A `TeacherCache`; give it to `Distiller.fit(..., cache_teacher=cache)`.

    Raises:
        InputError: for empty or infinite data, data that changes from pass to pass, answers
            that are not finite, or a folder that holds the answers of another teacher,
            other data or other settings.
    """
    if dtype not in ("float16", "float32"):
        raise InputError(f"dtype must be 'float16' or 'float32', got {dtype!r}.")
    if not isinstance(teacher, Teacher):
        teacher = Teacher(teacher, from_logits, features)
    tasks, shapes = _what_it_gives(teacher, task)
    if top_k is not None and not (isinstance(top_k, int) and 1 <= top_k < shapes[0][-1]):
        raise InputError(
            f"top_k must be at least 1 and less than the {shapes[0][-1]} classes, got {top_k!r}."
        )
    settings = {"dtype": dtype, "top_k": top_k, "features": list(features), "tasks": tasks}
    store = _Store(path, teacher, settings)
    if store.complete:
        cache = store.load()
        keys = np.concatenate([np.asarray(_keys_of(x)) for x in _batches(data, batch_size)()])
        if not (len(np.unique(keys)) == cache.size and cache._covers(keys)):
            raise InputError(
                f"The cache in {str(path)!r} is of other data ({cache.size} examples, {len(keys)} "
                "given); name another folder."
            )
        return cache
    return _collect(data, teacher, store, tasks, shapes, dtype, top_k, batch_size, progress)


def ask_once(x, teacher: Teacher, tasks: list[str], shapes: list[tuple]) -> TeacherCache:
    """Make the in-memory cache of `Distiller.fit(..., cache_teacher=True)`.

    Args:
        x: Arrays or a finite dataset.
        teacher: The distiller's teacher.
        tasks: One of `losses.TASKS` per output.
        shapes: The student's output shapes.
    """
    made = _collect(x, teacher, _Store(None, teacher, {}), tasks, shapes)
    made.tasks = list(tasks)
    return made


def decode(answers: dict, outputs: int, shapes: list[tuple]):
    """Return what `Teacher.ask` would have: a list of outputs and a dict of features."""
    results = []
    for i in range(outputs):
        if f"values{i}" in answers:
            results.append(_spread(answers, i, shapes[i][-1]))
        else:
            results.append(tf.cast(answers[f"output{i}"], tf.float32))
    features = {
        name.removeprefix("feature:"): tf.cast(value, tf.float32)
        for name, value in answers.items()
        if name.startswith("feature:")
    }
    return results, features


def encode_arrays(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return a teacher's outputs, given as arrays, in the form a cache hands on."""
    return {f"output{i}": np.asarray(a, np.float32) for i, a in enumerate(arrays)}


def _encode(outputs, features, dtype, top_k):
    answers = {}
    for i, output in enumerate(outputs):
        if top_k is None:
            answers[f"output{i}"] = tf.cast(output, dtype)
            continue
        log_p = tf.nn.log_softmax(output)
        values, indices = tf.math.top_k(log_p, top_k)
        kind = tf.uint16 if output.shape[-1] < 2**16 else tf.int32
        rest = tf.math.log1p(-tf.minimum(tf.reduce_sum(tf.exp(values), -1), 1.0 - 1e-7))
        answers[f"values{i}"] = tf.cast(values, dtype)
        answers[f"indices{i}"] = tf.cast(indices, kind)
        answers[f"rest{i}"] = tf.cast(rest, dtype)
    for name, feature in features.items():
        answers[f"feature:{name}"] = tf.cast(feature, dtype)
    return answers


def _spread(answers, i, classes):
    """Return log-probabilities: the k kept ones, and the rest's mass spread evenly."""
    values = tf.cast(answers[f"values{i}"], tf.float32)
    chosen = tf.one_hot(tf.cast(answers[f"indices{i}"], tf.int32), classes)
    k = values.shape[-1]
    each = tf.cast(answers[f"rest{i}"], tf.float32) - np.log(classes - k)
    kept = tf.reduce_sum(chosen, axis=-2)
    return tf.einsum("...k,...kc->...c", values, chosen) + (1.0 - kept) * each[..., None]


def _collect(
    data, teacher, store, tasks, shapes, dtype="float16", top_k=None, batch_size=256, progress=None
):
    """Ask the teacher about every example that the store does not hold yet."""
    batches = _batches(data, batch_size)

    def ask(x):
        return _encode(*teacher.ask(x, tasks, shapes), dtype, top_k)

    # A Python teacher is called outside any graph: it may run TensorFlow itself, and inside
    # one it would wait for the thread that waits for it.
    if teacher.in_graph:
        ask = tf.function(ask, reduce_retracing=True)
    done = 0
    for x in batches():
        keys = np.asarray(_keys_of(x))
        fresh = ~np.isin(keys, store.keys)
        if fresh.any():
            answers = {name: value.numpy() for name, value in ask(x).items()}
            bad = [name for name, value in answers.items() if not np.isfinite(value).all()]
            if bad:
                raise InputError(
                    f"The teacher's answers are not all finite (in {', '.join(bad)}, near example "
                    f"{done}); check the teacher, or use dtype='float32' if they exceed 65,504."
                )
            store.add(keys[fresh], {name: value[fresh] for name, value in answers.items()})
        done += len(keys)
        if progress is not None:
            progress(done)
    if done == 0:
        raise InputError("The data holds no examples.")
    again = np.asarray(_keys_of(next(iter(batches()))))
    if not np.isin(again, store.keys).all():
        raise InputError(CHANGING)
    return store.finish()


def _what_it_gives(teacher: Teacher, task):
    shapes = teacher.output_shapes
    if shapes is None:
        raise InputError(
            "The shape of this teacher's outputs is not known before it is asked; "
            "cache it with Distiller.fit(..., cache_teacher=True), where the student's is."
        )
    if task is not None:
        return [task] * len(shapes), shapes
    if teacher.from_logits is True:
        return ["regression"] * len(shapes), shapes  # values kept as they are
    names = {"softmax": "categorical", "sigmoid": "binary", "linear": "regression"}
    source = teacher.sources[0]
    if len(teacher.sources) > 1 or source.activations is None or None in source.activations:
        raise InputError(
            "Say task='categorical', 'binary' or 'regression' for this teacher (and from_logits=, "
            "where its last layer does not tell): how its answers are kept depends on it."
        )
    return [names[one] for one in source.activations], shapes


def _batches(data, batch_size):
    """Return a function that iterates over the inputs, a batch at a time."""
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise InputError("The dataset is infinite; cache it before .repeat().")
        return lambda: (e[0] if isinstance(e, tuple) else e for e in data)
    leaves = [np.asarray(leaf) for leaf in graph.leaves(data)]
    if not leaves or leaves[0].ndim == 0:
        raise InputError(
            "A cache needs arrays or a tf.data.Dataset; a generator or PyDataset can't be asked "
            f"twice for the same examples. Got {type(data).__name__}."
        )

    def batch(start):
        return graph.map_structure(
            lambda leaf: tf.convert_to_tensor(np.asarray(leaf)[start : start + batch_size]), data
        )

    def arrays():
        return map(batch, range(0, len(leaves[0]), batch_size))

    return arrays


def _keys_of(x):
    """Return a 64-bit hash of each example: a multilinear hash over its 64-bit words.

    ``Σ_i r_i · w_i mod 2⁶⁴`` with fixed random odd ``r`` (Carter and Wegman 1979); the
    same in a `tf.data` graph and outside it, and vectorized over the batch.
    """
    total = None
    for stream, leaf in enumerate(graph.leaves(x)):
        words = _words_of(tf.convert_to_tensor(leaf))
        factors = tf.random.stateless_uniform(
            [tf.shape(words)[1]], [stream, 20260701], minval=None, maxval=None, dtype=tf.int64
        )
        # Odd factors are invertible: no single changed value can go unseen.
        hashed = tf.reduce_sum(words * tf.bitwise.bitwise_or(factors, tf.ones_like(factors)), 1)
        total = hashed if total is None else total * 1_000_003 + hashed
    return total


def _words_of(tensor):
    """Return the bits of each example as int64, padded with zeros: (examples, words)."""
    if tensor.dtype == tf.string:
        tensor = tf.strings.to_hash_bucket_fast(tensor, 2**62)
    elif tensor.dtype == tf.bool:
        tensor = tf.cast(tensor, tf.uint8)
    flat = tf.reshape(tensor, [tf.shape(tensor)[0], -1])
    a_word = 8 // tensor.dtype.size
    if a_word == 1:
        return tf.bitcast(flat, tf.int64)
    flat = tf.pad(flat, [[0, 0], [0, -tf.shape(flat)[1] % a_word]])
    return tf.bitcast(tf.reshape(flat, [tf.shape(flat)[0], -1, a_word]), tf.int64)


class _Store:
    """Where answers are collected: in memory, and in a folder if there is one."""

    _ROWS = 4096

    def __init__(self, path, teacher, settings):
        self.path = None if path is None else pathlib.Path(path)
        self.settings = settings
        self.parts: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self.pending: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self.keys = np.empty(0, np.int64)
        self.complete = False
        if self.path is None:
            return
        self.settings = {**settings, "teacher": teacher.fingerprint()}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write {str(path)!r}: {error.strerror}.") from error
        manifest = self.path / "manifest.json"
        if manifest.exists():
            self._resume(json.loads(manifest.read_text()))
        elif any(self.path.iterdir()):
            raise InputError(f"The folder {str(path)!r} is not empty and holds no cache.")
        else:
            self._write_manifest()

    def _resume(self, manifest):
        stored = manifest.get("settings", {})
        wrong = [name for name, value in self.settings.items() if stored.get(name) != value]
        if manifest.get("format") != _FORMAT or wrong:
            raise InputError(
                f"The cache in {str(self.path)!r} was made with another {' and '.join(wrong)}; "
                "name another folder, or delete it."
            )
        for number in range(manifest["shards"]):
            with np.load(self._shard(number), allow_pickle=False) as shard:
                arrays = {name: shard[name] for name in shard.files}
            self.parts.append((arrays.pop("keys"), arrays))
        self.keys = np.concatenate([self.keys, *(keys for keys, _ in self.parts)])
        self.complete = manifest["complete"]

    def add(self, keys, arrays):
        # The same example may stand several times in one batch.
        keys, first = np.unique(keys, return_index=True)
        self.pending.append((keys, {name: array[first] for name, array in arrays.items()}))
        self.keys = np.concatenate([self.keys, keys])
        if self.path is not None and sum(len(k) for k, _ in self.pending) >= self._ROWS:
            self._flush()

    def finish(self) -> TeacherCache:
        self._flush()
        self.complete = True
        if self.path is not None:
            self._write_manifest()
        return self.load()

    def load(self) -> TeacherCache:
        keys = np.concatenate([keys for keys, _ in self.parts])
        names = self.parts[0][1]
        arrays = {name: np.concatenate([part[name] for _, part in self.parts]) for name in names}
        return TeacherCache(keys, arrays)

    def _flush(self):
        if not self.pending:
            return
        keys = np.concatenate([keys for keys, _ in self.pending])
        names = self.pending[0][1]
        arrays = {name: np.concatenate([part[name] for _, part in self.pending]) for name in names}
        self.parts.append((keys, arrays))
        self.pending = []
        if self.path is not None:
            buffer = io.BytesIO()
            np.savez(buffer, keys=keys, **arrays)
            write_atomically(self._shard(len(self.parts) - 1), buffer.getvalue())
            self._write_manifest()

    def _shard(self, number):
        return self.path / f"shard-{number:05d}.npz"

    def _write_manifest(self):
        manifest = {
            "format": _FORMAT,
            "settings": self.settings,
            "shards": len(self.parts),
            "complete": self.complete,
        }
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=2).encode())
