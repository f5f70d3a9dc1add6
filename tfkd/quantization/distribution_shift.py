"""Are data like those a model was trained on? Layers that keep statistics remember.

Batch normalization, Normalization and the ranges of quantize-aware training are compared with the
values of a few examples there: data with other preprocessing differ.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.errors import InputError, argument
from tfkd.model import graph

_PROBED = 64  # number of examples to compare with the model's statistics
_CHUNK = 8
_TINY = 1e-12
# Median distance of means in standard deviations, and ratio of variances, beyond which data differ
# from the training data; loose for layers that may have been trained on other data.
_FAR, _WIDE = 3.0, 25.0
_FAR_LOOSE, _WIDE_LOOSE = 30.0, 400.0
_BEYOND = 10.0  # ratio of ranges


def far_values(source: graph.Graph, arrays) -> list[str]:
    """Return the layers whose values are far from those in training.

    Args:
        source: The model's graph; a model with state between batches is not checked.
        arrays: Examples (examples, ...), one array per input.

    Returns:
        A sentence for each layer that has seen very different values; mostly none.

    Raises:
        InputError: if the model can't run on the examples.
    """
    import tensorflow as tf

    witnesses = _statistics_layers(source)
    if not witnesses:
        return []
    heard = [(i, call) for i, call in enumerate(source.calls) if id(call.layer) in witnesses]
    first_part = dataclasses.replace(
        source,
        calls=source.calls[: heard[-1][0]],
        outputs=[call.inputs[0] for _, call in heard],
    )
    if any(getattr(call.layer, "stateful", False) for call in first_part.calls):
        return []  # running it would change the model's state

    def apply(call, args, kwargs):
        if "training" in kwargs:
            kwargs = {**kwargs, "training": False}
        return graph.call_layer(call, args, kwargs, training=False)

    rows = np.unique(np.linspace(0, len(arrays[0]) - 1, _PROBED).astype(int))
    fixed = source.input_list[0].shape[0]
    size = fixed or _CHUNK
    if fixed:
        rows = np.resize(rows, -(-len(rows) // size) * size)  # restart from the beginning
    for start in range(0, len(rows), size):
        part = [tf.convert_to_tensor(x[rows[start : start + size]]) for x in arrays]
        try:
            reached = graph.replay(first_part, part, apply)
        except tf.errors.InvalidArgumentError as error:  # indices outside an Embedding's table
            raise InputError(
                f"The model {source.name!r} can't run on "
                f"{argument('representative_data', alone=True)}: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error
        for (_, call), x in zip(heard, reached, strict=True):
            witnesses[id(call.layer)].see(np.asarray(x, dtype="float64"))
    said = [witness.verdict() for witness in witnesses.values()]
    return [
        f"Values of {argument('representative_data', alone=True)} are far from those in training: "
        f"at the layer {message}. Preprocess {argument('representative_data', alone=True)} as in "
        "training, and draw it from all of the training data."
        for message in said
        if message
    ]


def _statistics_layers(source: graph.Graph) -> dict:
    """Return, by layer id, the first layer after each input that keeps statistics of it."""
    package = source.package
    origins = {tensor.index: {tensor.index} for tensor in source.input_list}
    unheard, found = set(origins), {}
    for call in source.calls:
        before = set().union(*(origins[tensor.index] for tensor in call.inputs))
        origins.update((tensor.index, before) for tensor in call.outputs)
        # Batch normalization leaves out masked values, and the mask is not known here.
        if not unheard & before or call.inputs[0].masked is not False:
            continue
        witness = None
        is_normalization = isinstance(call.layer, package.layers.Normalization)
        if is_normalization or hasattr(call.layer, "moving_variance"):
            witness = _Moments.of(call)
        elif call.kind == "QuantizeLayer":
            witness = _Range.of(call)
        if witness is not None:
            found[id(call.layer)] = witness
            unheard -= before
    return found


class _Moments:
    """Compares means and variances with the statistics of a layer.

    Args:
        name: The layer's path.
        mean: The layer's mean per channel.
        variance: The layer's variance per channel.
        epsilon: The number that the layer adds to the variance.
        kept: The axes of channels.
        loose: Whether the statistics may come from other data than the model's: a frozen layer.
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
        """Return the ratio of variances, now to training: the estimate nearest to 1.

        Rare features have no variance in a few examples, and a large one where they occur: the
        median over channels is then far from 1, but the mean is not. Also, moving variances start
        at 1 and keep a part of it after few steps: the same in all, at most the smallest.
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
        self.least = self.most = 0.0  # includes zero, as learned ranges do
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
