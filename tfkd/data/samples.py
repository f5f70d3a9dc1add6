"""`Samples`, examples with their labels, and `Data`, three parts of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tfkd.data.rows import Rows, is_on_disk
from tfkd.errors import InputError


@dataclasses.dataclass(frozen=True)
class Samples:
    """Examples and their labels.

    Attributes:
        x: Array of shape (examples, ...), in memory, a `numpy.memmap`, or `Rows` of files. What is
            on disk stays there: it is read in batches.
        y: Array of shape (examples,) or (examples, ...), class numbers or values.
    """

    x: np.ndarray | Rows
    y: np.ndarray

    def __post_init__(self):
        for name in ("x", "y"):
            try:
                len(getattr(self, name))
            except TypeError:
                raise InputError(
                    f"{name} must be an array of shape (examples, ...), got "
                    f"{getattr(self, name)!r:.80}."
                ) from None
        if len(self.x) != len(self.y):
            raise InputError(f"x has {len(self.x)} examples but y has {len(self.y)}.")
        if len(self.x) == 0:
            raise InputError("The data holds no examples.")

    def __len__(self):
        return len(self.x)

    @property
    def in_memory(self) -> bool:
        """Whether the examples are arrays in memory, and not on a disk."""
        return not is_on_disk(self.x)

    def head(self, count: int) -> Samples:
        """Return the first examples, in memory.

        Args:
            count: How many at most.
        """
        return Samples(np.asarray(self.x[:count]), self.y[:count])

    def batches(self, size: int) -> Iterator[Samples]:
        """Yield the examples in their order, so many at once, in memory.

        Args:
            size: Examples of a batch; the last one may have fewer.
        """
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield Samples(np.asarray(self.x[rows]), self.y[rows])

    def dataset(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return a `tf.data.Dataset` of batches (x, y), which copies no more than it gives.

        Args:
            batch_size: Examples of a batch; the last one may have fewer.
            seed: Shuffles the examples, in another order in each pass; `None` keeps the order.
                What is shuffled is their numbers: 8 bytes for each example.
            augment: Function from a batch of `x` to one of the same shape, in TensorFlow
                operations.
        """
        import tensorflow as tf

        def read(rows):
            return np.asarray(self.x[rows]), np.asarray(self.y[rows])

        x, y = (np.asarray(values[:1]) for values in (self.x, self.y))

        def batch(rows):
            xs, ys = tf.numpy_function(read, [rows], [x.dtype, y.dtype], stateful=False)
            xs, ys = (
                tf.ensure_shape(xs, (None, *x.shape[1:])),
                tf.ensure_shape(ys, (None, *y.shape[1:])),
            )
            return (xs if augment is None else augment(xs)), ys

        rows = tf.data.Dataset.range(len(self))
        if seed is not None:
            rows = rows.shuffle(len(self), seed=seed)
        return rows.batch(batch_size).map(batch).prefetch(2)


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set split three ways.

    Attributes:
        name: What to call it in a report.
        train: What models are fitted on.
        validation: What choices are made on.
        test: What is reported, and touched by nothing else.
        class_names: One per class, in label order; empty for regression.
        class_weight: Class number → what an example of it counts in the hard loss, as Keras's
            `fit` takes it; `None` for 1 each.

    Raises:
        InputError: for class names that repeat, or are fewer than the classes.
    """

    name: str
    train: Samples
    validation: Samples
    test: Samples
    class_names: tuple[str, ...] = ()
    class_weight: Mapping[int, float] | None = None

    def __post_init__(self):
        names = tuple(self.class_names)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"class_names has {twice!r} {names.count(twice)} times: give every class a name of "
                "its own, in label order."
            )
        classes = max((count_classes(part.y) for part in self.parts.values()), default=0)
        if names and classes > len(names):
            raise InputError(
                f"There are {len(names)} class_names for labels of {classes} classes: give one "
                "for each class, in label order."
            )

    @property
    def parts(self) -> dict[str, Samples]:
        """The parts that hold labelled examples, by name."""
        named = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in named.items() if isinstance(part, Samples)}


#: The parts of `Data`.
PARTS = ("train", "validation", "test")


def count_classes(y) -> int:
    """Return how many classes labels name: class numbers from 0, or rows of zeros and ones.

    Args:
        y: Array of shape (examples, ...).

    Returns:
        The highest class number and one, or the length of a row; 0 for values.
    """
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        whole = y.dtype.kind in "biu"
        return y.shape[1] if is_one_hot(y) or (whole and y.max() <= 1) else 0
    return int(y.max()) + 1 if y.dtype.kind in "iu" and y.size else 0


def representative(samples: Samples, count: int = 200, seed: int = 0) -> np.ndarray:
    """Draw examples for int8 calibration, as evenly over the classes as they come.

    Args:
        samples: The training part; class numbers of shape (examples,) or (examples, 1) and
            one-hot rows are told apart, anything else is drawn from at random.
        count: How many at most; 100 to 500 settle the ranges.
        seed: Seed of the draw.

    Returns:
        Array of shape (count, ...).
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    labels = np.asarray(samples.y)
    if is_one_hot(labels):
        labels = labels.argmax(-1)
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        # Sorting by "how many of this class came before me" deals the classes out in turn.
        turn = np.empty(len(order), int)
        for label in np.unique(labels):
            of_class = labels[order] == label
            turn[of_class] = np.arange(of_class.sum())
        order = order[np.argsort(turn, kind="stable")]
    return np.asarray(samples.x[np.sort(order[:count])])


def is_one_hot(y) -> bool:
    """Tell whether labels are rows of zeros with a single one: shape (examples, classes)."""
    y = np.asarray(y)
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "biuf":
        return False
    return bool(((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all())
