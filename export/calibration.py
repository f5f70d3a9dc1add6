"""Representative data: whatever holds examples → one checked array per input.

The ranges of an int8 file come from these examples and nothing else: what does not fit the
model is an error here, what it was not trained on a warning.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import warnings
from collections.abc import Iterable

import numpy as np

from tfkd import backends, graph
from tfkd.data import Data, Samples, is_one_hot, representative
from tfkd.errors import InputError, UnsupportedError

_FEW = 10  # examples below which there is a warning
_DRAWN = 200  # examples from a `Data` or `Samples`
_PROBED = 64  # examples whose statistics are compared with the model's
_CHUNK = 8
_TINY = 1e-12
# Median distance of means in standard deviations, and ratio of variances, beyond which data
# are others than those of training; loose for layers that may have been trained on others.
_FAR, _WIDE = 3.0, 25.0
_FAR_LOOSE, _WIDE_LOOSE = 30.0, 400.0
_BEYOND = 10.0  # ratio of ranges

_WANTED = (
    "arrays (examples, ...), a list or dict of them for several inputs, a tfkd.data.Data, or a "
    "tf.data.Dataset, PyDataset or generator of batches"
)


def representative_samples(model, data, *, limit: int = 500) -> list[np.ndarray]:
    """Return the examples from which the ranges of an int8 file are read, checked.

    Args:
        model: A built Keras 3 or tf_keras model, or what else names its inputs: an object with
            `name` and `tensors`, (name, shape, dtype) of each input.
        data: One of

            - an array (examples, ...), a list or tuple of one array per input, a dict by
              input name;
            - a `tfkd.data.Data`, whose training split alone is used, or a `Samples`: 200
              examples, as evenly over the classes as they come;
            - a `tf.data.Dataset`, a `PyDataset` or `Sequence`, an iterable or iterator, or a
              function without arguments that returns one: of batches of any size or single
              examples, as `x`, `(x,)`, `(x, y)` or `(x, y, weights)`, where `x` is a tuple,
              list or dict for several inputs; or, as TFLite has it, of lists of one array per
              input. No more is drawn from it than needed, so that it may be endless: shuffle
              it before.
        limit: Examples at most. Of longer arrays so many rows are drawn at random, always the
            same ones and the same for every input, and kept in their order.

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
    reader = _Reader(
        model.name,
        source.input_list if source else [graph.Tensor(-1, *one) for one in model.tensors],
    )
    arrays = reader.read(data, limit)
    _warn_of_little(reader.tensors, arrays)
    if source and len(arrays[0]) >= _FEW:
        for message in _strange_values(source, arrays):
            _warn(message)
    return arrays


class _Reader:
    """Reads data for the inputs of one model.

    Args:
        name: The model's.
        tensors: Its inputs.
    """

    def __init__(self, name: str, tensors: list[graph.Tensor]):
        self.name, self.tensors = name, tensors
        for tensor in tensors:
            if tensor.dtype == "string":
                raise UnsupportedError(
                    f"The input {tensor.name!r} of {name!r} takes strings, which have no integer "
                    "form; convert the part of the model behind the text's numbers."
                )

    def read(self, data, limit: int) -> list[np.ndarray]:
        if isinstance(data, Data):
            data = data.train
        if isinstance(data, Samples):
            data = representative(data, min(_DRAWN, limit))
        if callable(data) and not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
            data = data()
        if _is_array(data) or isinstance(data, (list, tuple, dict)):
            arrays = [_as_array(values) for values in self._by_input(data, given=True)]
            self._check(arrays)
        else:
            arrays = self._collect(_elements(data), limit)
        rows = slice(None)
        if len(arrays[0]) > limit:
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
                "representative_data is empty, or was used up before; give 100 to 500 examples."
            )
        for tensor, values in zip(self.tensors, zip(*batches, strict=True), strict=True):
            sizes = sorted({x.shape[1:] for x in values})
            if len(sizes) > 1:
                raise InputError(
                    f"representative_data for input {tensor.name!r} holds examples of the shapes "
                    f"{sizes[0]} and {sizes[1]}; pad or cut them to one."
                )
        return [np.concatenate(values) for values in zip(*batches, strict=True)]

    def _x_of(self, element):
        """Return what a data set's element has for the inputs, as Keras unpacks it."""
        if not isinstance(element, (list, tuple)) or not element:
            return element
        structured = isinstance(element[0], (list, tuple, dict))
        if len(self.tensors) > 1 and not structured:
            return element  # one array per input
        if len(element) > 3:
            raise InputError(
                "The elements of representative_data must be x, (x,), (x, y) or (x, y, weights), "
                f"got {len(element)} parts; put several inputs into a dict by name."
            )
        return element[0]

    def _by_input(self, x, given: bool = False) -> list:
        """Return what belongs to each input, in order.

        Args:
            x: An array, or a list, tuple or dict of them.
            given: Whether the caller gave it so, and it is not from a data set.
        """
        if isinstance(x, dict):
            return self._by_name(x)
        parts = list(x) if isinstance(x, (list, tuple)) else [x]
        wanted = len(self.tensors)
        if given and self._is_x_and_y(parts):
            raise InputError("representative_data looks like (x, y); give x alone.")
        if len(parts) != wanted:
            names = ", ".join(repr(tensor.name) for tensor in self.tensors)
            raise InputError(
                f"The model {self.name!r} takes {wanted} inputs, got data for {len(parts)}; give "
                + (f"one array for each of {names}." if wanted > 1 else "one array of examples.")
            )
        return parts

    def _by_name(self, x: dict) -> list:
        names = [tensor.name for tensor in self.tensors]
        missing = [repr(name) for name in names if name not in x]
        unknown = [repr(name) for name in x if name not in names]
        if missing or unknown:
            problems = [
                f"{what} {', '.join(some)}"
                for what, some in (("lacks", missing), ("has the unknown", unknown))
                if some
            ]
            raise InputError(
                f"representative_data {' and '.join(problems)}; the inputs of {self.name!r} are "
                f"{', '.join(map(repr, names))}."
            )
        return [x[name] for name in names]

    def _is_x_and_y(self, parts) -> bool:
        if len(parts) not in (2, 3):
            return False
        if isinstance(parts[0], (tuple, dict)):
            return True
        if isinstance(parts[0], list) and any(map(_is_array, parts[0])):
            return True
        if len(self.tensors) > 1 or not all(map(_is_array, parts)):
            return False
        x, y = (_as_array(part).shape for part in parts[:2])
        return _fits(self.tensors[0], x) and not _fits(self.tensors[0], y) and x[:1] == y[:1]

    def _check(self, arrays):
        for tensor, values in zip(self.tensors, arrays, strict=True):
            what = f"representative_data for input {tensor.name!r}"
            if not _fits(tensor, values.shape):
                raise InputError(
                    f"{what} must have the shape {(None, *tensor.shape[1:])}, got "
                    f"{values.shape}{_advice(tensor, values)}."
                )
            if len(values) == 0:
                raise InputError("representative_data is empty; give 100 to 500 examples.")
            _check_dtype(tensor, values, what)
        lengths = {tensor.name: len(x) for tensor, x in zip(self.tensors, arrays, strict=True)}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{count} for {name!r}" for name, count in lengths.items())
            raise InputError(
                f"representative_data has different numbers of examples ({counts}); the same row "
                "of every input must be one example."
            )


def _elements(data):
    """Return an iterator over whatever holds batches."""
    if isinstance(data, (str, bytes)):
        raise InputError(f"representative_data can't be text ({data[:40]!r}); give {_WANTED}.")
    if isinstance(data, Iterable):
        return iter(data)
    if hasattr(data, "__getitem__"):  # a PyDataset of an older Keras
        count = data.num_batches if hasattr(data, "num_batches") else len(data)
        return (data[i] for i in (itertools.count() if count is None else range(count)))
    raise InputError(f"representative_data can't be {type(data).__name__}; give {_WANTED}.")


def _is_array(values) -> bool:
    return hasattr(values, "__array__")


def _as_array(values) -> np.ndarray:
    try:
        return np.asarray(values)
    except Exception as error:  # ragged lists, sparse tensors: whatever NumPy is told
        raise InputError(
            f"representative_data holds {type(values).__name__}, which is no array: {error}"
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
    """Return the values in the input's dtype, if all of them have a place there."""
    what = f"representative_data for input {tensor.name!r}"
    if values.dtype.kind not in "biu" and not np.isfinite(values).all():
        raise InputError(
            "representative_data holds NaN or infinite values; leave these examples out."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(tensor.dtype)
    whole = cast.dtype.kind in "biu"
    if not (np.array_equal(cast, values) if whole else np.isfinite(cast).all()):
        raise InputError(
            f"{what} must fit {tensor.dtype}, got {values.dtype} from {values.min():.6g} to "
            f"{values.max():.6g}, which would be changed; prepare the examples as for training."
        )
    return cast


def _warn(message: str):
    """Warn at the line outside tfkd from which all this was called."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "tfkd":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _warn_of_little(tensors, arrays):
    count = len(arrays[0])
    if count < _FEW:
        _warn(
            f"The ranges come from {count} examples of representative_data; give 100 to 500, or "
            "values beyond theirs will be cut off."
        )
    for tensor, values in zip(tensors, arrays, strict=True):
        if count > 1 and (values == values[:1]).all():
            _warn(
                f"All {count} examples of representative_data for input {tensor.name!r} are "
                "equal; give different ones, drawn from the training data."
            )


def _strange_values(source: graph.Graph, arrays) -> list[str]:
    """Return what layers that remember their training say of the values that reach them."""
    import tensorflow as tf

    witnesses = _witnesses(source)
    if not witnesses:
        return []
    heard = [(i, call) for i, call in enumerate(source.calls) if id(call.layer) in witnesses]
    first_part = dataclasses.replace(
        source,
        calls=source.calls[: heard[-1][0]],
        outputs=[call.inputs[0] for _, call in heard],
    )
    if any(getattr(call.layer, "stateful", False) for call in first_part.calls):
        return []  # running it would move the model's state

    def apply(call, args, kwargs):
        if "training" in kwargs:
            kwargs = {**kwargs, "training": False}
        return graph.call_layer(call, args, kwargs, training=False)

    rows = np.unique(np.linspace(0, len(arrays[0]) - 1, _PROBED).astype(int))
    fixed = source.input_list[0].shape[0]
    size = fixed or _CHUNK
    if fixed:
        rows = np.resize(rows, -(-len(rows) // size) * size)  # from the start again
    for start in range(0, len(rows), size):
        part = [tf.convert_to_tensor(x[rows[start : start + size]]) for x in arrays]
        try:
            reached = graph.replay(first_part, part, apply)
        except tf.errors.InvalidArgumentError as error:  # numbers beyond an Embedding's
            raise InputError(
                f"The model {source.name!r} can't run on representative_data: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error
        for (_, call), x in zip(heard, reached, strict=True):
            witnesses[id(call.layer)].see(np.asarray(x, dtype="float64"))
    said = [witness.verdict() for witness in witnesses.values()]
    return [
        f"Values of representative_data are far from those in training: at the layer {message}. "
        "Preprocess representative_data as in training, and draw it from all of the training data."
        for message in said
        if message
    ]


def _witnesses(source: graph.Graph) -> dict:
    """Return, for each input, the first layer behind it that remembers, by its id."""
    package = backends.keras() if source.flavour == "keras" else backends.tf_keras()
    origins = {tensor.index: {tensor.index} for tensor in source.input_list}
    unheard, found = set(origins), {}
    for call in source.calls:
        before = set().union(*(origins[tensor.index] for tensor in call.inputs))
        origins.update((tensor.index, before) for tensor in call.outputs)
        # Batch normalization leaves out what is masked, of which the mask is not known here.
        if not unheard & before or call.inputs[0].masked is not False:
            continue
        witness = None
        is_normalization = isinstance(call.layer, package.layers.Normalization)
        if is_normalization or hasattr(call.layer, "moving_variance"):
            witness = _Moments.of(call)
        elif type(call.layer).__name__ == "QuantizeLayer":
            witness = _Range.of(call)
        if witness is not None:
            found[id(call.layer)] = witness
            unheard -= before
    return found


class _Moments:
    """Compares means and variances with those that a layer keeps.

    Args:
        name: The layer's path.
        mean: Its mean per channel.
        variance: Likewise.
        epsilon: What it adds to the variance.
        kept: The axes of channels.
        loose: Whether they may come from other data than the model's: a frozen layer.
    """

    @classmethod
    def of(cls, call):
        layer, rank = call.layer, len(call.inputs[0].shape)
        if hasattr(layer, "moving_mean"):
            mean, variance, given = layer.moving_mean, layer.moving_variance, False
        else:
            mean, variance, given = layer.mean, layer.variance, layer.input_mean is not None
        mean = np.asarray(mean, dtype="float64").ravel()
        variance = np.asarray(variance, dtype="float64").ravel()
        untrained = not mean.any() and (variance == 1.0).all()
        if untrained or getattr(layer, "invert", False):
            return None
        axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        kept = {axis % rank for axis in axes}
        loose = given or not layer.trainable
        return cls(call.name, mean, variance, getattr(layer, "epsilon", 1e-7), kept, loose)

    def __init__(self, name, mean, variance, epsilon, kept, loose):
        self.name, self.mean, self.variance, self.epsilon = name, mean, variance, epsilon
        self.kept, self.loose = kept, loose
        self.count, self.sum, self.squares = 0, np.zeros_like(mean), np.zeros_like(mean)

    def see(self, x):
        reduced = tuple(axis for axis in range(x.ndim) if axis not in self.kept)
        shape = [n if axis in self.kept else 1 for axis, n in enumerate(x.shape)]
        apart = x - self.mean.reshape(shape)
        self.sum += apart.sum(reduced).ravel()
        self.squares += (apart**2).sum(reduced).ravel()
        self.count += x.size // self.mean.size

    def verdict(self) -> str | None:
        apart = self.sum / self.count
        variance = np.maximum(self.squares / self.count - apart**2, 0.0)
        shift = np.median(np.abs(apart) / np.sqrt(self.variance + self.epsilon))
        spread = self.spread(variance)
        far, wide = (_FAR_LOOSE, _WIDE_LOOSE) if self.loose else (_FAR, _WIDE)
        if shift < far and 1 / wide < spread < wide:
            return None
        then = np.median(self.mean), np.median(np.sqrt(self.variance))
        now = np.median(self.mean + apart), np.median(np.sqrt(variance))
        return (
            f"{self.name!r} they are {now[0]:.3g} ± {now[1]:.3g}, in training {then[0]:.3g} ± "
            f"{then[1]:.3g} (mean ± standard deviation, medians over its channels)"
        )

    def spread(self, variance) -> float:
        """Return the ratio of variances, now to training: of several estimates the nearest to 1.

        Rare features have no variance in a few examples, and much where they do occur: then
        the median over channels is far from 1, and the mean is not. And moving variances start
        at 1, of which after few steps a part is left: the same in all, at most the smallest.
        """
        pairs = [(variance, self.variance)]
        rest = self.variance.min()
        some = self.variance > rest
        if rest < 1.0 and some.any():
            pairs.append((variance[some], (self.variance[some] - rest) / (1.0 - rest)))
        estimates = []
        for now, then in pairs:
            ratios = (now + _TINY) / (then + _TINY)
            seen = ratios[now > _TINY]
            estimates += [ratios.mean(), np.median(seen) if seen.size else 0.0]
        if min(estimates) <= 1.0 <= max(estimates):
            return 1.0
        return float(min(estimates) if min(estimates) > 1.0 else max(estimates))


class _Range:
    """Compares values with the range that a quantize-aware model has learned."""

    @classmethod
    def of(cls, call):
        held = getattr(call.layer, "quantizer_vars", None) or {}
        if "min_var" not in held or not float(np.asarray(held.get("seen", 1.0))):
            return None
        return cls(call.name, float(held["min_var"]), float(held["max_var"]))

    def __init__(self, name, low, high):
        self.name, self.low, self.high = name, low, high
        self.least = self.most = 0.0  # as learned ranges, which hold zero
        self.count = self.outside = 0

    def see(self, x):
        self.least, self.most = min(self.least, x.min()), max(self.most, x.max())
        margin = 0.1 * (self.high - self.low)
        self.outside += ((x < self.low - margin) | (x > self.high + margin)).sum()
        self.count += x.size

    def verdict(self):
        spread = (self.most - self.least + _TINY) / (self.high - self.low + _TINY)
        if self.outside < self.count / 2 and 1 / _BEYOND < spread < _BEYOND:
            return None
        return (
            f"{self.name!r} they go from {self.least:.3g} to {self.most:.3g}, in training from "
            f"{self.low:.3g} to {self.high:.3g}"
        )
