"""`TeacherCache`: a teacher's answers, looked up by the bytes of an example."""

from __future__ import annotations

import dataclasses
import pathlib
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfkd.distillation import assertions, teacher_outputs
from tfkd.distillation.cache import store
from tfkd.distillation.cache.answers import Answers
from tfkd.distillation.cache.examples import Examples, inputs_of, mapped_sequence, sequence_kind
from tfkd.distillation.cache.index import Index
from tfkd.distillation.cache.store import About
from tfkd.distillation.teachers import TeacherBatch
from tfkd.errors import InputError
from tfkd.model.examples import example_keys, keys_at_once, matches, show_signature, signature

if TYPE_CHECKING:
    from tfkd._typing import Arrays

_UNKNOWN = "The cache has no answers for some examples of this data"
CHANGING = (
    f"{_UNKNOWN}: it was made from other data, or the pipeline changes the examples from pass to "
    "pass. Cache before the random part and augment after it with attach(dataset).map(lambda "
    "taught, y: (TeacherBatch(augment(taught.x), taught.answers), y)), shuffle after padded_batch, "
    "or train without the cache."
)
_AT_ONCE = 1024  # examples whose keys are computed together
_KEY = 16  # bytes: key and check


class TeacherCache:
    """A teacher's answers by example, made by `cache_teacher` or opened by `load`.

    A cache in a folder holds only its keys in memory: the answers stay in their files, and are
    read batch by batch. The folder must not change while the cache is used.

    Attributes:
        size: Number of examples.
        bytes_per_example: Bytes that one example's answers and keys take, in memory or on disk.
        outputs: Names of the teacher's outputs in declared order; `output0`, `output1` ...
            if they have none.
        shapes: Shapes of these outputs, batch included; `None` for the batch and for free sizes.
        tasks: One of `losses.SOFT_TASKS` per output, `None` for an output that is kept unchanged.
        features: Names of the features.
        dtypes: Dtype of each answer, `"float16"` or `"float32"`, by output and feature.
        teacher: Fingerprint of the teacher, or `None` if it can't be hashed.
        signature: Place, dtype and shape (without the batch) of each input.
        about: This description as one object.
    """

    def __init__(self, index: Index, answers: Answers, about: About):
        index.merge()
        self._index, self._answered = index, answers
        shapes = [(None, *shape[1:]) for shape in about.shapes]
        self.about = about = dataclasses.replace(about, shapes=shapes)
        self.outputs = list(about.names)
        self.shapes = list(about.shapes)
        self.tasks = list(about.tasks)
        self.features = list(about.features)
        self.teacher = about.teacher
        self.signature = about.signature

    @classmethod
    def load(cls, path) -> TeacherCache:
        """Open a folder that `cache_teacher` filled; no teacher is needed.

        Args:
            path: The folder.

        Raises:
            InputError: if the folder holds no cache, or its cache is incomplete or damaged.
        """
        path = pathlib.Path(path)
        if not path.is_dir() or not (path / "manifest.json").exists():
            raise InputError(
                f"There is no cache in {str(path)!r}: give a folder that cache_teacher filled."
            )
        manifest = store.read_manifest(path)
        missing = [one["file"] for one in manifest["shards"] if not (path / one["file"]).exists()]
        if missing or not manifest["complete"] or not manifest["shards"]:
            lost = f" (missing: {', '.join(missing)})" if missing else ""
            raise InputError(
                f"The cache in {str(path)!r} is not complete{lost}; call cache_teacher again "
                "with the same teacher and data, and it adds the missing answers."
            )
        index, shards = Index(), []
        for shard, keys in store.opened_shards(path, manifest, manifest["shards"], index):
            index.add(keys)
            shards.append(shard)
        about = About(
            *(manifest[n] for n in ("names", "tasks", "shapes", "features")),
            manifest["teacher"], manifest["signature"],
        )  # fmt: skip
        return cls(index, Answers(manifest["answers"], shards), about)

    def __repr__(self):
        return (
            f"TeacherCache({self.size:,} examples, outputs {', '.join(self.outputs)}, "
            f"{self.bytes_per_example:.0f} bytes per example)"
        )

    @property
    def size(self) -> int:
        """Number of examples."""
        return self._index.size

    @property
    def bytes_per_example(self) -> float:
        """Bytes that one example's answers and keys take, in memory or on disk."""
        return _KEY + self._answered.nbytes / max(1, self.size)

    @property
    def dtypes(self) -> dict[str, str]:
        """Dtype of each answer, by output and feature."""
        found = {}
        for key, dtype in self._answered.dtypes.items():
            _, name, part = teacher_outputs.parse(key)
            if part in ("", "top"):
                found[name] = dtype.name
        return found

    def attach(self, data: Any) -> tf.data.Dataset:
        """Add the teacher's answers to the inputs.

        Args:
            data: A batched `tf.data.Dataset` or a `keras.utils.PyDataset` (tf_keras:
                `Sequence`) of `x`, `(x, y)` or `(x, y, sample_weight)`, or arrays `x` of
                shape (examples, ...).

        Returns:
            A dataset of the same kind with `TeacherBatch(x, answers)` in place of `x`; for
            arrays a `TeacherBatch`. `Distiller.fit` accepts both. Augment after `attach`, and
            change only `taught.x`.

        Raises:
            InputError: if the inputs' dtype, shape or structure differs from the cache's, or if
                the cache has no answers for an example; for a `tf.data.Dataset` the latter is
                raised when `fit` reaches the example.
        """
        if isinstance(data, tf.data.Dataset):
            self._check(signature(inputs_of(data.element_spec)))
            lookup = self._lookup()

            @tf.autograph.experimental.do_not_convert
            def add(*element):
                return (TeacherBatch(element[0], lookup(element[0])), *element[1:])

            attached = data.map(add, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            # TensorFlow never frees a Python function, so `lookup` refers to the cache weakly.
            # Objects made from the dataset, such as iterators, keep it alive, and so the cache.
            attached._tfkd_cache = self
            return attached
        if sequence_kind(data) is not None:
            return mapped_sequence(data, self.beside)
        return TeacherBatch(
            data, self._answers(data, f"{_UNKNOWN}; make the cache from the same data.")
        )

    def beside(self, element: Any) -> tuple:
        """Return an element of a data set, `x` or `(x, y, ...)`, with the answers added to `x`.

        Raises:
            InputError: as `attach` does.
        """
        x = inputs_of(element)
        rest = element[1:] if type(element) is tuple else ()
        return (TeacherBatch(x, self._answers(x, CHANGING)), *rest)

    def covers(self, x: Arrays) -> bool:
        """Return whether the cache has answers for every example.

        Args:
            x: Arrays of shape (examples, ...), nested or not.
        """
        return all(self.rows(keys) is not None for keys in map(keys_of, Examples(x, _AT_ONCE)))

    def _check(self, given: list) -> None:
        """Raise unless the inputs have the places, dtypes and shapes of the cache."""
        if not matches(self.signature, given):
            raise InputError(
                f"The cache was made from {show_signature(self.signature)}, but this data is "
                f"{show_signature(given)}: convert the data, because the cache finds examples "
                "by their bytes."
            )

    def rows(self, keys: np.ndarray) -> np.ndarray | None:
        """Return the row of each key, or `None` if the cache lacks one of the keys."""
        rows = self._index.find(keys)
        return rows if (rows >= 0).all() else None

    def _answers(self, x, unknown: str) -> dict[str, np.ndarray]:
        found = []
        for batch in Examples(x, _AT_ONCE):
            self._check(signature(batch))
            rows = self.rows(keys_of(batch))
            if rows is None:
                raise InputError(unknown)
            found.append(rows)
        rows = np.concatenate(found) if found else np.zeros(0, np.int64)
        try:
            return dict(zip(self._answered.names, self._answered.batch(rows), strict=True))
        except ValueError as error:
            raise InputError(f"{error} Give one batch at a time.") from None

    def _lookup(self) -> Callable:
        """Return a function from a batch to its answers, for `tf.data`."""
        names, shapes = self._answered.names, self._answered.shapes
        dtypes = [tf.as_dtype(self._answered.dtypes[name]) for name in names]
        weak = weakref.ref(self)

        def found(keys):
            cache = weak()
            if cache is None:
                raise RuntimeError("Keep the dataset that attach returned while you use it.")
            rows = cache._index.find(keys)
            known = rows if (rows >= 0).all() else rows[:0]
            return rows, *cache._answered.batch(known)

        def lookup(x):
            rows, *values = tf.numpy_function(found, [example_keys(x)], [tf.int64, *dtypes])
            known = tf.debugging.Assert(tf.reduce_all(rows >= 0), [assertions.marked(CHANGING)])
            with tf.control_dependencies([known]):
                values = [tf.identity(one) for one in values]
            return {
                name: tf.ensure_shape(one, (None, *shapes[name]))
                for name, one in zip(names, values, strict=True)
            }

        return lookup


def keys_of(x) -> np.ndarray:
    """Return the key and the check of each example of a batch: int64 (batch, 2)."""
    return keys_at_once(x)
