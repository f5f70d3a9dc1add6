"""Representative data: whatever holds examples → one checked array per input.

The ranges of an int8 file come only from these examples: data that does not fit the model raises an
error here, and data unlike its training data a warning.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import warnings
from collections.abc import Iterable, Mapping

import numpy as np

from tfkd.data import Data, Part, is_one_hot, representative
from tfkd.errors import InputError, UnsupportedError, argument
from tfkd.model import backends, binding, graph
from tfkd.quantization import distribution_shift

_FEW = 10  # fewer examples cause a warning
_DRAWN = 200  # examples from a `Data` or `Samples`

_WANTED = (
    "arrays (examples, ...), a list or dict of them for several inputs, a tfkd.data.Data, or a "
    "tf.data.Dataset, PyDataset or generator of batches"
)


def representative_samples(
    model, data, *, limit: int = 500, shapes=None, in_order: bool = False
) -> list[np.ndarray]:
    """Return the examples from which the ranges of an int8 file are read, checked.

    Args:
        model: A built Keras 3 or tf_keras model, or another object that names its inputs, with
            `name`, `tensors`, (name, shape, dtype) of each input, and `slots`, the `binding.Slots`
            of these.
        data: One of

            - an array (examples, ...), a list or tuple of one array per input in the model's
              order, a dict by the model's own keys or its layers' names;
            - a `tfkd.data.Data`, of which only the training split is used, a `Samples` or a
              `Stream`: 200 examples from all of it, spread over the classes as evenly as possible;
            - a `tf.data.Dataset`, a `PyDataset` or `Sequence`, an iterable or iterator, or a
              function without arguments that returns one: of batches of any size or single
              examples, as `x`, `(x,)`, `(x, y)` or `(x, y, weights)`, where `x` is a tuple,
              list or dict for several inputs; or, as TFLite has it, of lists of one array per
              input. Only as many examples as needed are drawn, so that it may be endless; shuffle
              it before.
        limit: Maximum number of examples. From longer arrays, that many rows are drawn at random,
            always the same ones and the same for every input, and kept in their order.
        shapes: The shapes that the data must have, if they are not the inputs' own: one per input,
            with `None` for a free size.
        in_order: Whether each example continues the one before; then the first examples of longer
            arrays are taken.

    Returns:
        One array (examples, ...) per input, in the order of `graph.walk(model).input_list`
        and in the input's dtype.

    Raises:
        InputError: for data that is empty, holds NaN, looks like labels, or does not fit the
            inputs in number, names, shapes, dtypes or length.
        UnsupportedError: for an input that takes strings.

    Warns:
        UserWarning: for fewer than ten examples, an input with equal examples only, and
            values far from those that the model was trained on, as its BatchNormalization and
            Normalization layers or the ranges of a quantize-aware model show.
    """
    if not isinstance(limit, int) or limit < 1:
        raise InputError(f"limit must be a whole number of at least 1, got {limit!r}.")
    is_signature = backends.flavour(model) is None and hasattr(model, "tensors")
    source = None if is_signature else graph.walk(model)
    if source:
        reader = _Reader(model.name, source.input_list, binding.inputs_of(source))
    else:
        tensors = [graph.Tensor(-1, *one) for one in model.tensors]
        reader = _Reader(model.name, tensors, model.slots)
    if shapes is not None:
        reader.tensors = [
            dataclasses.replace(tensor, shape=tuple(shape))
            for tensor, shape in zip(reader.tensors, shapes, strict=True)
        ]
    arrays = reader.read(data, limit, in_order)
    _warn_of_little(reader.tensors, arrays)
    if source and len(arrays[0]) >= _FEW:
        for message in distribution_shift.far_values(source, arrays):
            _warn(message)
    return arrays


class _Reader:
    """Reads data for the inputs of one model.

    Args:
        name: The name of the model.
        tensors: Its inputs.
        slots: The same inputs, as slots that data binds to.
    """

    def __init__(self, name: str, tensors: list[graph.Tensor], slots: binding.Slots):
        self.name, self.tensors, self.slots = name, tensors, slots
        for tensor in tensors:
            if tensor.dtype == "string":
                raise UnsupportedError(
                    f"The input {tensor.name!r} of {name!r} takes strings, which have no integer "
                    "form; convert the part of the model that takes numbers instead of text.",
                    code="string-input",
                )

    def read(self, data, limit: int, in_order: bool = False) -> list[np.ndarray]:
        if isinstance(data, Data):
            data = data.train
        if isinstance(data, Part):
            data = representative(data, min(_DRAWN, limit))
        if callable(data) and not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
            data = data()
        if _is_array(data) or isinstance(data, (list, tuple, Mapping)):
            arrays = [_as_array(values) for values in self._by_input(data, given=True)]
            self._check(arrays)
        else:
            arrays = self._collect(_elements(data), limit)
        rows = slice(None)
        if len(arrays[0]) > limit and in_order:
            rows = slice(limit)
        elif len(arrays[0]) > limit:
            rows = np.sort(np.random.default_rng(0).choice(len(arrays[0]), limit, replace=False))
        return [_cast(tensor, x[rows]) for tensor, x in zip(self.tensors, arrays, strict=True)]

    def _collect(self, elements, limit: int) -> list[np.ndarray]:
        """Draw elements until there are enough examples."""
        batches, count = [], 0
        for element in elements:
            arrays = [_as_array(values) for values in self._by_input(self._x_of(element))]
            arrays = [
                values[None] if _fits(tensor, (1, *values.shape)) else values
                for tensor, values in zip(self.tensors, arrays, strict=True)
            ]
            self._check(arrays)
            batches.append(arrays)
            count += len(arrays[0])
            if count >= limit:
                break
        if not batches:
            raise InputError(
                f"{_named()} is empty, or was used up before; give 100 to 500 examples."
            )
        for tensor, values in zip(self.tensors, zip(*batches, strict=True), strict=True):
            sizes = sorted({x.shape[1:] for x in values})
            if len(sizes) > 1:
                raise InputError(
                    f"{_named()} for input {tensor.name!r} holds examples of the shapes "
                    f"{sizes[0]} and {sizes[1]}; pad or cut them to one."
                )
        return [np.concatenate(values) for values in zip(*batches, strict=True)]

    def _x_of(self, element):
        """Return the inputs in an element of a data set, unpacked as in Keras."""
        if not isinstance(element, (list, tuple)) or not element:
            return element
        structured = isinstance(element[0], (list, tuple, Mapping))
        if len(self.tensors) > 1 and not structured:
            return element  # one array per input
        if len(element) > 3:
            raise InputError(
                f"The elements of {_named()} must be x, (x,), (x, y) or (x, y, weights), "
                f"got {len(element)} parts; put several inputs into a dict by name."
            )
        return element[0]

    def _by_input(self, x, given: bool = False) -> list:
        """Return the values of each input, in order.

        Args:
            x: An array, or a list, tuple or dict of them.
            given: Whether the caller passed `x` itself, rather than a data set.
        """
        if isinstance(x, (list, tuple)):
            if given and self._is_x_and_y(x):
                raise InputError(f"{_named()} looks like (x, y); give x alone.")
            if len(self.tensors) == 1 != len(x) and not self._is_examples(x):
                raise InputError(
                    f"The model {self.name!r} takes one input, got data for {len(x)}; give one "
                    "array of examples."
                )
        return self.slots.bind(x, _named(), arrays=True)

    def _is_examples(self, parts) -> bool:
        """Tell whether a list for a single input holds examples rather than several arrays."""
        try:
            return _fits(self.tensors[0], np.shape(parts))
        except (ValueError, TypeError):  # ragged
            return False

    def _is_x_and_y(self, parts) -> bool:
        if len(parts) not in (2, 3):
            return False
        if isinstance(parts[0], (tuple, Mapping)):
            return True
        if isinstance(parts[0], list) and any(map(_is_array, parts[0])):
            return True
        if len(self.tensors) > 1 or not all(map(_is_array, parts)):
            return False
        x, y = (_as_array(part).shape for part in parts[:2])
        return _fits(self.tensors[0], x) and not _fits(self.tensors[0], y) and x[:1] == y[:1]

    def _check(self, arrays):
        for tensor, values in zip(self.tensors, arrays, strict=True):
            what = f"{_named()} for input {tensor.name!r}"
            if not _fits(tensor, values.shape):
                raise InputError(
                    f"{what} must have the shape {(None, *tensor.shape[1:])}, got "
                    f"{values.shape}{_advice(tensor, values)}."
                )
            if len(values) == 0:
                raise InputError(f"{_named()} is empty; give 100 to 500 examples.")
            _check_dtype(tensor, values, what)
        lengths = {tensor.name: len(x) for tensor, x in zip(self.tensors, arrays, strict=True)}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{count} for {name!r}" for name, count in lengths.items())
            raise InputError(
                f"{_named()} has different numbers of examples ({counts}); the same row "
                "of every input must be one example."
            )


def _elements(data):
    """Return an iterator over any source of batches."""
    if isinstance(data, (str, bytes)):
        raise InputError(f"{_named()} can't be text ({data[:40]!r}); give {_WANTED}.")
    if isinstance(data, Iterable):
        return iter(data)
    if hasattr(data, "__getitem__"):  # a PyDataset of an older Keras
        count = data.num_batches if hasattr(data, "num_batches") else len(data)
        return (data[i] for i in (itertools.count() if count is None else range(count)))
    raise InputError(f"{_named()} can't be {type(data).__name__}; give {_WANTED}.")


def _is_array(values) -> bool:
    return hasattr(values, "__array__")


def _as_array(values) -> np.ndarray:
    try:
        return np.asarray(values)
    except Exception as error:  # ragged lists, sparse tensors
        raise InputError(
            f"{_named()} holds {type(values).__name__}, which is not an array: {error}"
        ) from error


def _fits(tensor, shape) -> bool:
    return len(shape) == len(tensor.shape) and all(
        want in (None, got) for want, got in zip(tensor.shape[1:], shape[1:], strict=True)
    )


def _advice(tensor, values) -> str:
    """Return the end of a sentence about a shape that does not fit."""
    whole = np.issubdtype(values.dtype, np.integer)
    column = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    if (whole and column) or is_one_hot(values):
        return ": these look like labels; give the inputs x that the model was trained on"
    if _fits(tensor, (1, *values.shape)):
        return ": a single example; give 100 to 500 in one array"
    if _fits(tensor, (*values.shape, 1)):
        return ": the last axis is missing; give x[..., None]"
    return "; prepare the examples as for training"


def _check_dtype(tensor, values, what: str):
    kind = values.dtype.kind
    numbers = kind in "biufc" or values.dtype.name == "bfloat16"
    if not numbers or (kind == "c" and "complex" not in tensor.dtype):
        raise InputError(f"{what} must be numbers ({tensor.dtype}), got {values.dtype}.")


def _cast(tensor, values: np.ndarray) -> np.ndarray:
    """Return the values in the input's dtype, if it can hold all of them."""
    what = f"{_named()} for input {tensor.name!r}"
    if values.dtype.kind not in "biu" and not np.isfinite(values).all():
        raise InputError(f"{_named()} holds NaN or infinite values; leave these examples out.")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(tensor.dtype)
    whole = cast.dtype.kind in "biu"
    if not (np.array_equal(cast, values) if whole else np.isfinite(cast).all()):
        raise InputError(
            f"{what} must fit {tensor.dtype}, got {values.dtype} from {values.min():.6g} to "
            f"{values.max():.6g}, which would change; prepare the examples as for training."
        )
    return cast


def _warn(message: str):
    """Warn at the line outside tfkd that caused the call."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "tfkd":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _warn_of_little(tensors, arrays):
    count = len(arrays[0])
    if count < _FEW:
        _warn(
            f"The ranges come from {count} examples of {_named()}; give 100 to 500, or "
            "values outside these ranges are cut off."
        )
    for tensor, values in zip(tensors, arrays, strict=True):
        if count > 1 and (values == values[:1]).all():
            _warn(
                f"All {count} examples of {_named()} for input {tensor.name!r} are "
                "equal; give different ones, drawn from the training data."
            )


def _named() -> str:
    return argument("representative_data", alone=True)
