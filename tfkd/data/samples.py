"""`Samples`, examples with their labels, and `Data`, a data set in three parts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfkd.data.outputs import (
    Labels,
    check_names,
    each,
    end_to_end,
    listed,
    named,
    names_of,
    no_class_weights,
    shown,
    spelled,
)
from tfkd.data.rows import Rows, is_on_disk
from tfkd.errors import InputError, argument


class Part:
    """Base of the parts of a `Data`: `Samples`, and a `Stream` of batches.

    Attributes:
        x: Array of shape (examples, ...); only `Samples` have it.
        y: Labels (examples, ...), for several outputs by name; only `Samples` have them.
    """

    x: Any
    y: Any

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def in_memory(self) -> bool:
        """Whether the examples are arrays in memory."""
        raise NotImplementedError

    @property
    def labels(self) -> Any:
        """Labels (examples, ...) that show their kind: all, or those of the first examples."""
        raise NotImplementedError

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that have labels; empty for labels of one output."""
        return ()

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the examples, (None, ...)."""
        raise NotImplementedError

    @property
    def has_weights(self) -> bool:
        """Whether each example has a weight of its own."""
        return False

    def inputs(self, batch_size: int) -> Any:
        """Return the examples without labels: the array, or a dataset of batches if there is none.

        Args:
            batch_size: Examples of a batch.
        """
        return self.dataset(batch_size).map(lambda x, *_: x)

    def batches(self, size: int, *, again: bool = True) -> Iterator[Samples]:
        """Yield all examples in batches, in memory.

        Args:
            size: Examples of a batch; the last one may have fewer.
            again: Whether the examples must come in the same order as before, as scoring requires.
        """
        raise NotImplementedError

    def rows(self, size: int) -> Iterator[tuple[Any, ...]]:
        """Yield batches with everything that a model learns from: (x, y) or (x, y, weights).

        Args:
            size: Examples of a batch; the last one may have fewer.
        """
        for batch in self.batches(size, again=False):
            yield batch.x, batch.y

    def dataset(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return a `tf.data.Dataset` of batches (x, y) that holds only a few of them at a time.

        Args:
            batch_size: Examples of a batch; the last one may have fewer.
            seed: Shuffles the numbers of `Samples` (8 bytes per example), in another order in each
                pass; `None` keeps the order. A `Stream` keeps its own order.
            augment: Function from a batch of `x` to one of the same shape, in TensorFlow
                operations.
        """
        raise NotImplementedError

    def head(self, count: int) -> Samples:
        """Return the first examples, in memory.

        Args:
            count: How many at most.
        """
        held, left = [], count
        for batch in self.batches(min(count, self.at_once()), again=False):
            held.append(batch.at(slice(left)))
            left -= len(held[-1])
            if left == 0:
                break
        return joined(held)

    def answered(self, function: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Return the results of a function of a batch for all examples, and their labels.

        Args:
            function: Takes an array (batch, ...) and returns one (batch, ...) or a dict of them.
                All results are held in memory.
        """
        outputs, labels = [], []
        for batch in self.batches(self.at_once()):
            outputs.append(each(np.asarray, function(batch.x)))
            labels.append(batch.y)
        return end_to_end(*outputs), end_to_end(*labels)

    def at_once(self, most: int = 256, most_bytes: int = 2**24) -> int:
        """Return how many examples to take at a time.

        Args:
            most: The largest number to return.
            most_bytes: A limit on their size, at 4 bytes per value.
        """
        size = 4 * math.prod(one or 1 for one in self.shape[1:])
        return max(1, min(most, most_bytes // size))

    def drawn(self, count: int, seed: int = 0) -> Samples:
        """Return examples drawn at random with equal probability, in memory.

        Args:
            count: How many at most.
            seed: Seed of the draw.
        """
        raise NotImplementedError


def joined(parts: Sequence[Samples]) -> Samples:
    """Return several samples, concatenated into one."""
    x = np.concatenate([one.x for one in parts])
    return Samples(x, end_to_end(*(one.y for one in parts)))


@dataclasses.dataclass(frozen=True)
class Samples(Part):
    """Examples and their labels, with access to each of them.

    Attributes:
        x: Array of shape (examples, ...), in memory, a `numpy.memmap`, or `Rows` of files. Data on
            disk stays there and is read in batches.
        y: Array of shape (examples,) or (examples, ...), class numbers or values. For a model with
            several outputs, a dict of such arrays by the outputs' names.

    Raises:
        InputError: for values that are no arrays, lengths that differ, or a dict that names fewer
            than two outputs.
    """

    x: np.ndarray | Rows
    y: Labels

    def __post_init__(self):
        check_names(self.y)
        for name, values in (("x", self.x), *spelled(self.y)):
            try:
                len(values)
            except TypeError:
                raise InputError(
                    f"{name} must be an array of shape (examples, ...), got {values!r:.80}."
                ) from None
            if len(self.x) != len(values):
                raise InputError(f"x has {len(self.x)} examples but {name} has {len(values)}.")
        if len(self.x) == 0:
            raise InputError("The data holds no examples.")

    def __len__(self):
        return len(self.x)

    @property
    def in_memory(self) -> bool:
        """Whether the examples are arrays in memory, and not on a disk."""
        return not is_on_disk(self.x)

    def inputs(self, batch_size: int) -> Any:
        """Return the examples without labels: the array, or a dataset of batches from disk."""
        return self.x if self.in_memory else super().inputs(batch_size)

    @property
    def labels(self) -> Any:
        """Labels of all examples."""
        return each(np.asarray, self.y)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that have labels; empty for labels of one output."""
        return names_of(self.y)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the examples, (None, ...)."""
        return (None, *np.shape(self.x[:1])[1:])

    def batches(self, size: int, *, again: bool = True) -> Iterator[Samples]:
        """Yield the examples in their order, in batches, in memory."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))

    def dataset(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return a `tf.data.Dataset` of batches (x, y); see `Part.dataset`."""
        import tensorflow as tf

        def read(rows):
            found = self.at(rows)
            return found.x, *listed(found.y)

        first = read(slice(1))
        types = [np.asarray(values).dtype for values in first]
        shapes = [(None, *np.shape(values)[1:]) for values in first]

        def batch(rows):
            values = tf.numpy_function(read, [rows], types, stateful=False)
            x, *y = map(tf.ensure_shape, values, shapes)
            return (x if augment is None else augment(x)), named(self.outputs, y)

        rows = tf.data.Dataset.range(len(self))
        if seed is not None:
            rows = rows.shuffle(len(self), seed=seed)
        return rows.batch(batch_size).map(batch).prefetch(2)

    def head(self, count: int) -> Samples:
        """Return the first examples, in memory."""
        return self.at(slice(count))

    def drawn(self, count: int, seed: int = 0) -> Samples:
        """Return examples drawn at random, in memory."""
        return self.at(np.random.default_rng(seed).permutation(len(self))[:count])

    def at(self, rows: slice | np.ndarray) -> Samples:
        """Return some examples, in memory.

        Args:
            rows: Their numbers, as a slice or an integer array.
        """

        def some(values):
            return np.asarray((values if hasattr(values, "shape") else np.asarray(values))[rows])

        return Samples(some(self.x), each(some, self.y))


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set split three ways.

    Attributes:
        name: What to call it in a report.
        train: The part that models are fitted on.
        validation: The part that choices are made on.
        test: The part for the reported scores, used for nothing else.
        class_names: One per class, in label order; empty for regression. For several outputs, a
            dict by their names.
        class_weight: Class number → weight of its examples in the hard loss, as Keras's `fit` takes
            it; `None` for 1 each.

    Raises:
        InputError: for class names that repeat, or are fewer than the classes; for class weights
            beside weights of examples or labels of several outputs, and parts whose labels are of
            different outputs.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...] | Mapping[str, tuple[str, ...]] = ()
    class_weight: Mapping[int, float] | None = None

    def __post_init__(self):
        if self.class_weight is not None and self.parts["train"].has_weights:
            raise InputError(
                f"The stream already has weights: leave {argument('class_weight')} out, and "
                "multiply the stream's weights by the class weights."
            )
        outputs = self.outputs
        if self.class_weight is not None and outputs:
            raise InputError(no_class_weights(outputs))
        for name, part in self.parts.items():
            if set(part.outputs) != set(outputs):
                raise InputError(
                    f"The training part has labels for {shown(outputs)}, but the {name} part has "
                    f"labels for {shown(part.outputs)}: give each part labels for the same outputs."
                )
        labels = [part.y for part in self.parts.values() if isinstance(part, Samples)]
        _check_classes(self.class_names, labels, outputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that have labels; empty for labels of one output."""
        train = self.parts.get("train")
        return () if train is None else train.outputs

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that hold labelled examples, by name."""
        named = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in named.items() if isinstance(part, Part)}


#: The parts of `Data`.
PARTS = ("train", "validation", "test")


def _check_classes(class_names: Any, labels: Sequence[Any], outputs: Sequence[str]) -> None:
    """Raise for class names that repeat, that are too few, or whose output has no labels.

    Args:
        class_names: One per class, or a dict of them by output.
        labels: The labels of each part that has arrays.
        outputs: The names of the outputs.
    """
    if class_names and isinstance(class_names, Mapping) != bool(outputs):
        wanted = "a dict of output → names" if outputs else "a list of names"
        raise InputError(
            f"The labels are for {shown(outputs)}: give {argument('class_names', alone=True)} as "
            f"{wanted}."
        )
    unknown = [name for name in class_names if name not in outputs] if outputs else []
    if unknown:
        raise InputError(
            f"class_names has names for {shown(unknown)}, but the labels are for {shown(outputs)}."
        )
    by_output = dict(class_names) if outputs else {None: class_names}
    for output, given in by_output.items():
        names, of = tuple(given), f" of {output!r}" if outputs else ""
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"class_names{of} has {twice!r} {names.count(twice)} times: give every class a "
                "name of its own, in label order."
            )
        known = (y[output] if outputs else y for y in labels)
        classes = max(map(count_classes, known), default=0)
        if names and classes > len(names):
            raise InputError(
                f"There are {len(names)} class_names{of} for labels of {classes} classes: give one "
                "for each class, in label order."
            )


def count_classes(y) -> int:
    """Return the number of classes in labels: class numbers from 0, or one-hot rows.

    Args:
        y: Array of shape (examples, ...).

    Returns:
        The length of a one-hot row, or the highest class number plus one; 0 for values. Other rows
        of zeros and ones, several labels or a class for each step, have 2 at least.
    """
    y = np.asarray(y)
    if is_one_hot(y):
        return y.shape[1]
    return int(y.max()) + 1 if y.dtype.kind in "biu" and y.size else 0


def is_one_hot(y) -> bool:
    """Tell whether labels are rows of zeros with a single one: shape (examples, classes)."""
    y = np.asarray(y)
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "biuf":
        return False
    return bool(((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all())
