"""The inputs of a data set, a batch at a time and more than once: arrays, datasets, sequences."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tfkd.errors import InputError
from tfkd.model import graph


class Opened:
    """A dataset that is opened once, to look at its first elements and then go through all.

    Opening a dataset can be expensive: a shuffle fills its buffer, files are listed and read.

    Args:
        data: A `tf.data.Dataset`.
        examples: How many examples to look at, at most, in whole elements.
    """

    def __init__(self, data, examples: int):
        self.data, self._examples = data, examples
        self._change: Callable | None = None
        self._first: list = []
        self._rest: Iterator | None = None

    @property
    def element_spec(self):
        """The spec of an element before it is changed."""
        return self.data.element_spec

    @property
    def changes(self) -> bool:
        """Whether elements are changed before they are looked at."""
        return self._change is not None

    def first(self, count: int) -> Iterator:
        """Yield the first elements, no more than `count` or than have the examples asked for."""
        for i in range(count):
            if i == len(self._first) and (self._is_enough() or not self._read()):
                return
            yield self._first[i] if self._change is None else self._change(self._first[i])

    def __iter__(self) -> Iterator:
        """Yield all elements, once."""
        i = 0
        while i < len(self._first) or (not self._is_enough() and self._read()):
            yield self._first[i]
            i += 1
        yield from self._opened()

    def changed(self, change: Callable) -> Opened:
        """Return an object that looks at the same first elements, each as `change(element)`."""
        other = copy.copy(self)
        other._change = change
        return other

    def _is_enough(self) -> bool:
        sizes = (int(next(graph.leaves(one)).shape[0]) for one in self._first)
        return sum(sizes) >= self._examples

    def _opened(self):
        if self._rest is None:
            self._rest = iter(self.data)
        return self._rest

    def _read(self) -> bool:
        try:
            self._first.append(next(self._opened()))
        except StopIteration:
            return False
        return True


class Examples:
    """The inputs `x` in data for `fit`, without the labels.

    Args:
        data: Arrays of shape (examples, ...), nested or not; a finite `tf.data.Dataset` or
            `keras.utils.PyDataset` (tf_keras: `Sequence`) of `x` or `(x, y, ...)`.
        batch_size: Examples a batch, for arrays.

    Attributes:
        read_once: Whether they can be read only once, as from an `Opened`.

    Raises:
        InputError: for an infinite data set, arrays of different lengths, and sources that can be
            read only once.
    """

    def __init__(self, data, batch_size: int):
        self.batch_size = batch_size
        self.read_once = isinstance(data, Opened)
        self._given, self.data = data, data.data if self.read_once else data
        data = self.data
        if isinstance(data, tf.data.Dataset):
            if data.cardinality() == tf.data.INFINITE_CARDINALITY:
                raise InputError("The dataset is infinite; cache it before .repeat().")
        elif sequence_kind(data) is not None:
            if batches_in(data) is None:
                raise InputError("The PyDataset is infinite; give it a number of batches.")
        else:
            self._check_arrays()

    def __iter__(self) -> Iterator:
        """Yield batches of `x`."""
        data = self.data
        if isinstance(data, tf.data.Dataset):
            for element in self._given:
                yield inputs_of(element)
        elif sequence_kind(data) is not None:
            for i in range(batches_in(data)):
                yield inputs_of(data[i])
        else:
            for start in range(0, self.size, self.batch_size):
                stop = start + self.batch_size
                yield graph.map_structure(
                    lambda leaf, a=start, b=stop: tf.convert_to_tensor(_rows(leaf)[a:b]), data
                )

    @property
    def spec(self):
        """The spec of a batch of `x`, for a `tf.function`; `None` if it is known only later."""
        if isinstance(self.data, tf.data.Dataset):
            return inputs_of(self.data.element_spec)
        if sequence_kind(self.data) is not None:
            return None
        first = next(iter(self), None)
        if first is None:
            return None
        return graph.map_structure(
            lambda leaf: tf.TensorSpec((None, *leaf.shape[1:]), leaf.dtype), first
        )

    def _check_arrays(self):
        leaves = list(graph.leaves(self.data))
        if not leaves or any(
            leaf is None or (not tf.is_tensor(leaf) and np.ndim(_rows(leaf)) == 0)
            for leaf in leaves
        ):
            raise InputError(
                "A cache needs arrays, a tf.data.Dataset or a PyDataset; a generator can't be "
                f"asked twice for the same examples. Got {type(self.data).__name__}."
            )
        sizes = {len(_rows(leaf)) for leaf in leaves}
        if len(sizes) > 1:
            raise InputError(f"The inputs have different numbers of examples: {sorted(sizes)}.")
        self.size = sizes.pop()


def _rows(leaf):
    """Return an object that can be sliced by example."""
    composite = isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)) or hasattr(leaf, "tocsr")
    return leaf if tf.is_tensor(leaf) or composite else np.asarray(leaf)


def inputs_of(element):
    """Return `x` of an element `x` or `(x, y, ...)`."""
    return element[0] if type(element) is tuple else element


def sequence_kind(data) -> type | None:
    """Return `keras.utils.PyDataset` or tf_keras's `Sequence` if `data` is one."""
    for package, name in (("keras", "PyDataset"), ("tf_keras", "Sequence")):
        module = sys.modules.get(package)
        kind = getattr(getattr(module, "utils", None), name, None)
        if kind is not None and isinstance(data, kind):
            return kind
    return None


def batches_in(data) -> int | None:
    """Return the number of batches of a sequence, or `None` for an endless one."""
    return data.num_batches if hasattr(data, "num_batches") else len(data)


def mapped_sequence(data, change: Callable):
    """Return a sequence of the same Keras whose items are `change(item)`."""
    return _mapped_kind(sequence_kind(data))(data, change)


class _Mapped:
    """A sequence around another; a base for a class of either Keras."""

    def __init__(self, data, change):
        settings = ("workers", "max_queue_size")
        super().__init__(**{n: getattr(data, n) for n in settings if hasattr(data, n)})
        # TensorFlow does not run in a forked process, so always use threads.
        self.data, self.change = data, change

    @property
    def _tfkd_answers(self):
        return self[0][0].answers

    @property
    def num_batches(self):
        return batches_in(self.data)

    def __len__(self):
        return batches_in(self.data)

    def __getitem__(self, index):
        return self.change(self.data[index])

    def on_epoch_begin(self):
        getattr(self.data, "on_epoch_begin", lambda: None)()

    def on_epoch_end(self):
        self.data.on_epoch_end()


@functools.cache
def _mapped_kind(base: type) -> type:
    return type(f"Taught{base.__name__}", (_Mapped, base), {})
