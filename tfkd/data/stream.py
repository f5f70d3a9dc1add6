"""`Stream`: a part of the data that comes in batches, again and again, and is never held."""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfkd import hashing
from tfkd.data.batches import (
    WANTED,
    check_finite,
    check_spec,
    checked,
    different,
    form_of,
    in_words,
    kind_of,
    not_scored,
    odd_weight,
    outermost,
)
from tfkd.data.outputs import each, end_to_end, listed, names_of, spelled
from tfkd.data.samples import Part, Samples, joined
from tfkd.errors import InputError, argument

_NO_ARRAYS = "A stream has no arrays x and y: use its batches(256), dataset(32) or head(100)."
#: Number of labels that are read to recognize their kind.
_LOOKED_AT = 1024
#: Seconds after which counting reports its progress.
_LONG = 60.0


@dataclasses.dataclass(frozen=True)
class Stream(Part):
    """Batches of examples and labels from a source that is read anew for each pass.

    Batches may have any size: they are joined and cut to the requested size. The stream sets their
    order: shuffle the training part (`dataset.shuffle(...)` before `.batch`), but neither the
    validation part nor the test part. Weights are for training: scores count all examples alike,
    so weights other than 1 are refused where a stream is scored.

    Attributes:
        source: A `tf.data.Dataset`, a `keras.utils.PyDataset` (tf_keras: `Sequence`), or a
            function without arguments that returns a new generator; of batches `(x, y)` or
            `(x, y, weights)`, arrays of shape (batch, ...), each example of the same shape. Labels
            of several outputs are a dict of arrays by the outputs' names.
        examples: The number of examples. Needed for an endless source, from which each pass takes
            that many from the start. Without it, a separate pass counts the examples, unless the
            source states their number.

    Raises:
        InputError: for a source that can be read only once, endless data without `examples`,
            batches of another form, or values of `x` that are not finite.

    Example:
        >>> def batches():
        ...     for i in range(3):
        ...         yield np.full((4, 2), i, "float32"), np.arange(4)
        >>> stream = Stream(batches)
        >>> len(stream), [len(batch) for batch in stream.batches(5)]
        (12, [5, 5, 2])
    """

    source: Any
    examples: int | None = None

    _called = "the stream"  # in messages
    _can_be_scored = False
    #: Number and weight of the first example with a weight other than 1, as far as seen.
    _odd = None

    def __post_init__(self):
        if self.examples is not None and (type(self.examples) is not int or self.examples < 1):
            raise InputError(
                f"examples must be a whole number of at least 1, got {self.examples!r}."
            )
        kind = kind_of(self.source)
        if kind is None:
            raise InputError(f"A stream can't be made from {type(self.source).__name__}: {WANTED}.")
        if self._is_endless() and self.examples is None:
            raise InputError(
                f"The {kind} is endless: say how many examples a pass takes with "
                f"{argument('examples', of='tfkd.Stream')}, or cut it with dataset.take(batches)."
            )
        self._first  # noqa: B018  a batch of another form is found here

    def __len__(self):
        return self.examples if self.examples is not None else self._seen[0]

    @property
    def x(self):
        """Not available: raises an error that says what a stream has instead."""
        raise InputError(_NO_ARRAYS)

    @property
    def y(self):
        """Not available either, for the same reason."""
        raise InputError(_NO_ARRAYS)

    @property
    def in_memory(self) -> bool:
        """Always `False`: a stream is never held in memory."""
        return False

    @property
    def labels(self) -> Any:
        """Labels of the first examples and, where they were counted, the largest and smallest."""
        return self._seen[1]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that have labels; empty for labels of one output."""
        return names_of(self._first[1])

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the examples, (None, ...)."""
        return (None, *self._first[0].shape[1:])

    @property
    def has_weights(self) -> bool:
        """Whether each example has a weight."""
        return len(self._first) == 3

    def name_it(self, name: str) -> None:
        """Name the part that this is, for messages: `"training"`, `"validation"` or `"test"`."""
        self.__dict__["_called"] = f"the {name} part"

    def check_scored(self) -> None:
        """Raise unless scores can be had from it; reads its start twice, and its weights once.

        Raises:
            InputError: for examples that differ when they are read again, as those of a shuffled
                stream do, and for weights that are not all 1.
        """
        if self._can_be_scored:
            return
        before, count = self._first, 2 * self.at_once()
        for _ in range(2):
            start = self.head(count)
            if what := different(before, (start.x, start.y)):
                raise InputError(
                    f"{what} of {self._called} differ when its first examples are read again: "
                    "shuffle only the training part, and augment only that."
                )
            before = start.x, start.y
            getattr(self.source, "on_epoch_end", lambda: None)()  # a PyDataset may shuffle there
        if self.has_weights:
            whole = self.rows(self.at_once()) if self._is_known else [len(self)]  # which counts
            for _ in whole:
                self._check_weights()
        self.__dict__["_can_be_scored"] = True

    def batches(self, size: int, *, again: bool = True) -> Iterator[Samples]:
        """Yield all examples once, in batches; see `Part.batches`.

        Raises:
            InputError: if there are fewer examples than stated; with `again`, if labels come in
                another order than in the first such pass, and for weights other than 1.
        """
        digest = hashing.running()
        for x, y, *_ in self.rows(size):
            if again:
                self._check_weights()
            for labels in listed(y):
                digest.update(np.ascontiguousarray(labels).tobytes())
            yield Samples(x, y)
        order = self.__dict__.setdefault("_order", digest.digest()) if again else None
        if order not in (None, digest.digest()):
            raise InputError(
                f"{self._called.capitalize()} yielded other labels, or another order, than in the "
                "previous pass: shuffle only the training part."
            )

    def rows(self, size: int) -> Iterator[tuple[Any, ...]]:
        """Yield batches (x, y) or (x, y, weights) as arrays; see `Part.rows`.

        Raises:
            InputError: if there are fewer examples than stated.
        """
        count = 0
        for batch in self._looked_at(self._in_batches(size).prefetch(2)):
            count += len(batch[0])
            yield batch
        if self.examples is not None and count < self.examples:
            raise InputError(
                f"The stream ended after {count} examples, but {argument('examples')} says "
                f"{self.examples}."
            )

    def dataset(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return a `tf.data.Dataset` of batches (x, y) or (x, y, weights); see `Part.dataset`."""
        import tensorflow as tf

        batches = self._in_batches(batch_size)
        if augment is not None:
            batches = batches.map(lambda x, *rest: (augment(x), *rest))
        # It tells Keras where an epoch ends, and raises if a pass ends elsewhere.
        exactly = tf.data.experimental.assert_cardinality(-(-len(self) // batch_size))
        return batches.apply(exactly).prefetch(2)

    def _in_batches(self, batch_size: int):
        import tensorflow as tf

        batches = self._source_dataset().rebatch(batch_size)
        if self.examples is not None:
            whole = -(-self.examples // batch_size)

            def cut(i, batch):
                left = self.examples - i * batch_size
                return tf.nest.map_structure(lambda values: values[:left], batch)

            batches = batches.take(whole).enumerate().map(cut)
        return batches

    def drawn(self, count: int, seed: int = 0) -> Samples:
        """Return examples drawn at random in one pass, in memory."""
        rng, held, seen = np.random.default_rng(seed), list[Samples](), 0
        for batch in self.batches(self.at_once(), again=False):
            for row in range(len(batch)):
                place = seen if seen < count else int(rng.integers(seen + 1))
                seen += 1
                if place < count:
                    held[place : place + 1] = [batch.at(np.array([row]))]  # a copy
        return joined(held)

    def _check_weights(self) -> None:
        """Raise if an example that was read has a weight other than 1."""
        if self._odd is not None:
            raise InputError(not_scored(self._called, *self._odd))

    def _looked_at(self, dataset) -> Iterator:
        """Yield the batches of a dataset; check x and note the first weight that is not 1."""
        count = 0
        for batch in self._read(dataset):
            check_finite(batch[0], self._called, count, len(self._first[0]) or 1)
            if self._odd is None and (odd := odd_weight(batch)) is not None:
                self.__dict__["_odd"] = count + odd[0], odd[1]
            count += len(batch[0])
            yield batch

    @property
    def _is_tf(self) -> bool:
        return kind_of(self.source) == "tf.data.Dataset"

    def _is_endless(self) -> bool:
        if self._is_tf:
            return int(self.source.cardinality()) == -1
        return hasattr(self.source, "num_batches") and self.source.num_batches is None

    @functools.cached_property
    def _first(self) -> tuple[Any, ...]:
        """The first batch, checked, as arrays; labels of several outputs as a dict of arrays."""
        if self._is_tf:
            check_spec(self.source.element_spec)
        try:
            first = next(iter(self._read(self.source) if self._is_tf else self._items()), None)
        except InputError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise _failure(error) from error
        if first is None:
            raise InputError(
                "The stream is empty, or was used up by another pass: a function must return a "
                "new generator each time."
            )
        first = checked(first)
        check_finite(first[0], self._called, 0, len(first[0]) or 1)
        return first

    @property
    def _is_known(self) -> bool:
        """Whether the number of examples is known without counting."""
        return self.examples is not None or self._known() is not None

    @functools.cached_property
    def _seen(self) -> tuple[int, Any]:
        """The number of examples, and labels that show their kind."""
        looked_at, count = [], 0
        if self._is_known:
            for x, y, *_ in self._looked_at(self._in_batches(self.at_once())):
                looked_at.append(y)
                count += len(x)
                if count >= _LOOKED_AT:
                    break
            return self.examples or self._known(), end_to_end(*looked_at)
        start, warned, most = time.perf_counter(), False, None
        for x, y, *_ in self._looked_at(self._source_dataset()):
            if count < _LOOKED_AT:
                looked_at.append(y)
            count += len(x)
            for name, labels in spelled(y):
                if labels.dtype.kind == "f" and not np.isfinite(labels).all():
                    raise InputError(
                        f"{name} of {self._called} holds NaN or infinite labels in its first "
                        f"{count:,} examples."
                    )
            rows = each(outermost, y)
            most = rows if most is None else each(outermost, end_to_end(most, rows))
            if not warned and time.perf_counter() - start > _LONG:
                warned = True
                warnings.warn(
                    f"Counting the examples of a stream: {count:,} so far. If it never ends, or to "
                    f"skip the count, give {argument('examples', of='tfkd.Stream')}.",
                    stacklevel=2,
                )
        if not count:
            raise InputError("The stream is empty.")
        return count, end_to_end(*looked_at, most)

    def _known(self) -> int | None:
        """Return the number of examples if the source states it."""
        if not self._is_tf:
            return None
        batches, size = int(self.source.cardinality()), self.source.element_spec[0].shape[0]
        return batches * size if batches > 0 and size is not None else None

    def _source_dataset(self):
        """Return the source's batches as a dataset with known shapes."""
        import tensorflow as tf

        def spec(values):
            return tf.TensorSpec((None, *values.shape[1:]), values.dtype)

        specs = tf.nest.map_structure(spec, self._first)
        if not self._is_tf:
            return tf.data.Dataset.from_generator(self._told, output_signature=specs)

        def shaped(*batch):
            return tf.nest.map_structure(
                lambda wanted, values: tf.ensure_shape(values, wanted.shape),
                *(specs, batch),
                check_types=False,
            )

        return self.source.map(shaped)

    def _told(self):
        """Yield the batches of a Python source; keep an error of tfkd, which TensorFlow wraps."""
        wanted = form_of(self._first)
        try:
            for item in self._items():
                batch = checked(item)
                if (found := form_of(batch)) != wanted:
                    raise InputError(
                        f"A batch has {in_words(found)}, but the first one has "
                        f"{in_words(wanted)}: give all batches the same form."
                    )
                yield batch
        except InputError as error:
            self.__dict__["_error"] = error
            raise
        except Exception as error:  # whatever the user's code raises
            self.__dict__["_error"] = _failure(error)
            raise self.__dict__["_error"] from error

    def _items(self) -> Iterator:
        """Yield the batches of a Python source unchanged."""
        if callable(self.source) and not hasattr(self.source, "__getitem__"):
            yield from self.source()
            return
        data = self.source
        getattr(data, "on_epoch_begin", lambda: None)()
        i, count = 0, data.num_batches if hasattr(data, "num_batches") else len(data)
        while count is None or i < count:
            yield data[i]
            i += 1
        getattr(data, "on_epoch_end", lambda: None)()

    def _read(self, dataset) -> Iterator:
        """Yield the batches of a dataset as arrays; raise errors of tfkd unwrapped."""
        import tensorflow as tf

        try:
            yield from dataset.as_numpy_iterator()
        except tf.errors.OpError as error:
            kept = self.__dict__.pop("_error", None)
            if kept is not None:
                raise kept from None
            reason = str(error).partition("\n")[0][:200]
            raise InputError(f"The stream failed: {reason}") from error


def _failure(error: Exception) -> InputError:
    """Return the error for what the code of a source raised."""
    said = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    return InputError(f"The source of the stream failed ({said}).")
