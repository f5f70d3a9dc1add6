"""`Slimming`: a callback that takes channels to zero during training.

After each step of the optimizer, every group of coupled channels (`dependency`) is made shorter by
the same length, and a group shorter than that becomes zero: this is the proximal operator of the
group lasso (Parikh & Boyd 2014, "Proximal Algorithms", 6.5.4). Adding the penalty to the loss would
only make weights hover around zero.

    weights of a group ──norm──► factor = max(0, 1 − length / norm) ──► weights × factor
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfkd._renamed import old_attribute, with_old_keywords
from tfkd.errors import InputError, UnsupportedError, argument, raise_all
from tfkd.model import backends
from tfkd.model.layer_kinds import kind_of
from tfkd.pruning.structured import dependency, importance

_WEIGHTS = ("bn_scale", "kernels")


class Slimming(keras.callbacks.Callback):
    """Take whole channels to exactly zero during training, so that pruning them loses nothing.

    Choose it where there is time to train before `prune_channels`: a trained model learns to do
    without the channels that go. Channels shrink until `amount` of them have reached zero; from
    then on nothing shrinks, and the others recover. Then prune by the same weights:
    `criterion="bn_scale"` after `weights="bn_scale"`, `"l2"` after `weights="kernels"`, the amount
    that the logs report as `zero_channels`, and `round_to=1`, since rounding would remove other
    channels too. Pruning then loses nothing if none of these weights is frozen and the next
    activation is zero at zero, as ReLU, tanh and swish are; a sigmoid gives 0.5, which is then
    missing. Works in `fit` of both Keras flavours and of a `Distiller`, on the distiller's student.
    Slim before quantization-aware training.

    `weights="bn_scale"` is network slimming (Liu et al. 2017, https://arxiv.org/abs/1708.06519): L1
    on the scales of batch normalization; where a scale is zero, its shift becomes zero too.
    `weights="kernels"` is the group lasso (Wen et al. 2016, https://arxiv.org/abs/1608.03665) over
    the groups of the dependency graph (Fang et al. 2023, https://arxiv.org/abs/2301.12900): a
    channel's slices of all kernels, of the layer that makes it and of those that read it, shrink
    together; batch normalization's scales don't count.

    In both, a group `g` of `n` weights that may go is multiplied after each step by
    `max(0, 1 − learning_rate · strength · √n / ‖w_g‖)`, which for a single scale is the soft
    threshold of L1. Scales that are coupled, as at an `Add`, form one group: they can only go
    together. A weight of a kernel is in the group of its input channel and in that of its output
    channel: each norm is over all that its group holds, and the weight is multiplied by both
    factors. A group that has come to zero stays there until the end of `fit`; momentum would bring
    it back. Frozen weights neither count nor change.

    The shrinkage covers the steps that the optimizer has made, at its present learning rate. With
    `steps_per_execution=k` it is applied once in `k` steps, for all `k`. With gradient
    accumulation, or where loss scaling skips a step, it is applied only when the optimizer makes a
    step. `jit_compile` makes no difference: the shrinkage is a function of its own.

    Args:
        strength: Weight of the penalty, > 0. A channel that the loss does not hold reaches zero
            after `size / (learning_rate · strength)` steps, `size` being the root mean square of
            its weights: 1 for new scales, about 0.1 for kernels. Choose a value with which a
            typical channel gets there about when `fit` ends: the default suits the hundred thousand
            steps of the paper; a few hundred under `SGD(0.05, momentum=0.9)` decaying to 0 need
            about 0.1 for scales, 0.01 for kernels. A larger value takes all channels to zero at
            once where batch normalization follows, since the loss there depends only on their
            relative sizes. Use SGD: Adam makes the steps of all weights alike. Defaults to 1e-4.
        weights: Which weights shrink: `"bn_scale"` or `"kernels"`.
        amount: The largest fraction of the channels that may go, in (0, 1]; at least one may. Each
            layer keeps at least one. Defaults to a half.

    Raises:
        InputError: for an argument that is not allowed; at the start of `fit`, if no
            channel that can go has such a weight, or the optimizer averages weights.
        UnsupportedError: at the start of `fit`, for a subclassed or quantize-aware model, or one
            of which no channel can go.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> model.compile(keras.optimizers.SGD(0.1), "mse")
        >>> x = np.random.default_rng(0).normal(size=(64, 8))
        >>> slimming = tfkd.Slimming(0.1, weights="kernels")
        >>> history = model.fit(x, x[:, :1], epochs=40, callbacks=[slimming], verbose=0)
        >>> history.history["zero_channels"][-1] > 0.2
        True
    """

    # tf_keras would convert every step's logs to NumPy arrays, which nothing reads here.
    _supports_tf_logs = True
    of = old_attribute("Slimming", "of", "weights")

    @with_old_keywords(of="weights")
    def __init__(self, strength: float = 1e-4, weights: str = "bn_scale", amount: float = 0.5):
        super().__init__()
        problems = []
        number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
        if not (number and 0 < strength < float("inf")):
            problems.append(f"strength must be a number > 0, got {strength!r}")
        if weights not in _WEIGHTS:
            problems.append(f"weights must be one of {_WEIGHTS}, got {weights!r}")
        if isinstance(amount, bool) or not (isinstance(amount, numbers.Real) and 0 < amount <= 1):
            problems.append(f"amount must be above 0 and at most 1, got {amount!r}")
        raise_all(problems)
        self.strength, self.weights, self.amount = float(strength), weights, float(amount)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the groups of the model, and compile the step on them."""
        student = getattr(self.model, "student", None)
        model = self.model if backends.flavour(student) is None else student
        if backends.is_quantize_aware(model):
            raise UnsupportedError(
                f"The model {model.name!r} is quantize-aware; slim and prune it before "
                "quantize_aware, whose ranges hold only for the channels that it sees.",
                code="slimming-quantized",
            )
        # In the first releases of Keras 3, loss scaling does not count its steps.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if getattr(optimizer, "use_ema", False):
            raise InputError(
                "The optimizer has use_ema=True: the averages with which it replaces the weights "
                "are not zero where the weights are; leave use_ema out."
            )
        found = dependency.find(model)
        slices, followers = _slices(found, model, self.weights)
        self._optimizer = optimizer
        self._step = _step(optimizer, slices, followers, found, self.strength, self.amount)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count steps from here: a restored backup has changed the optimizer's count by now."""
        self._done = _steps_of(self._optimizer)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Shrink the groups for the steps that the optimizer has made."""
        self._done, self._zero = self._step(self._done)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the share of groups at zero into the logs as `zero_channels`."""
        logs["zero_channels"] = float(self._zero)

    # Attributes that tf_keras's `fit` reads from callbacks, and Keras 3's callbacks lack.
    def _implements_train_batch_hooks(self):
        return True

    def _implements_test_batch_hooks(self):
        return False

    def _implements_predict_batch_hooks(self):
        return False


@dataclasses.dataclass(frozen=True)
class _Slices:
    """The slices of a weight along an axis, and the group of each."""

    variable: Any
    axis: int
    groups: np.ndarray

    @property
    def size(self) -> int:
        """The number of weights in a slice."""
        return int(np.prod(self.variable.shape)) // len(self.groups)

    def squares(self):
        """Return the squared norm of each slice."""
        others = [axis for axis in range(len(self.variable.shape)) if axis != self.axis]
        return tf.reduce_sum(tf.square(tf.cast(self.variable, tf.float32)), others)

    def multiply(self, value, factors):
        """Multiply each slice of a value of the weight by its factor."""
        shape = [1] * len(self.variable.shape)
        shape[self.axis] = -1
        return value * tf.cast(tf.reshape(factors, shape), value.dtype)


def _slices(found: dependency.Dependencies, model, weights: str):
    """Return the slices that shrink, and those that follow their group to zero."""
    left = {id(variable) for variable in model.trainable_weights}

    def take(variables):
        for variable in variables:
            if id(variable) in left:
                left.remove(id(variable))  # another layer may share it
                for axis, labels in found.axes.get(id(variable), {}).items():
                    groups = found.roots[labels]
                    if np.isin(groups, found.groups).any():
                        yield _Slices(variable, axis % len(variable.shape), groups)

    slices, followers = [], []
    for _, layer in found.graph.layers:
        if weights == "kernels":
            slices += take(filter(importance.is_kernel, getattr(layer, "weights", ())))
        elif kind_of(layer) == "BatchNormalization" and layer.gamma is not None:
            slices += take([layer.gamma])
            followers += take([layer.beta])
    if not len(found.groups):
        reasons = found.reasons or "all are its outputs"
        raise UnsupportedError(
            f"No channel of the model {model.name!r} can go: {reasons}.", code="nothing-to-prune"
        )
    if not slices:
        what, way = {
            "bn_scale": ("scales of batch normalization", f"use {argument('weights', 'kernels')}"),
            "kernels": ("kernels", "make its layers trainable"),
        }[weights]
        raise InputError(
            f"{argument('weights', weights)} shrinks the trainable {what} of channels that can go, "
            f"but the model {model.name!r} has none; {way}."
        )
    return slices, followers


def _counts(found: dependency.Dependencies, present) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs (count in a layer's configuration, group in `present` that it counts).

    Returns:
        Numbers of the counts, and places in `present`, without counts that include a group
        which always stays.
    """
    every = [labels for counts in found.counts.values() for labels in counts.values()]
    of = [np.unique(found.roots[labels]) for labels in every]
    of = {tuple(groups) for groups in of if np.isin(groups, present).all()}
    pairs = [(number, group) for number, groups in enumerate(sorted(of)) for group in groups]
    numbers, groups = np.array(pairs, "int32").reshape(-1, 2).T
    return numbers, np.searchsorted(present, groups).astype("int32")


def _steps_of(optimizer):
    # `tf.cast` alone would return a variable of that type itself, which goes on counting.
    return tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64)


def _step(
    optimizer, slices, followers, found: dependency.Dependencies, strength: float, amount: float
):
    """Compile the step.

    Returns:
        A function that takes the number of the optimizer's steps at its last call, and returns
        their number now and the share of groups at zero.
    """
    every = np.concatenate([one.groups for one in slices])
    present = np.intersect1d(every, found.groups)

    def numbers(some):
        """Number the groups of slices; groups that stay come last."""
        groups = np.concatenate([np.array([], int), *(one.groups for one in some)])
        may_go = np.isin(groups, present)
        return np.where(may_go, np.searchsorted(present, groups), len(present)).astype("int32")

    own = numbers(slices)
    weights = np.concatenate([np.full(len(one.groups), one.size) for one in slices])
    roots = np.sqrt(np.bincount(own, weights, len(present) + 1)[:-1])
    lengths = tf.constant(strength * roots, tf.float32)
    # Followers read from the table of living groups, which comes after the table of factors.
    reads = np.concatenate([own, numbers(followers) + len(present) + 1])
    alive = tf.Variable(tf.ones(len(present), tf.bool), trainable=False)
    most = max(1, int(amount * len(present) + 1e-9))
    counts, members = _counts(found, present)

    def ranks(values):
        return tf.argsort(tf.argsort(values))

    def last_of_its_layer(sizes):
        rank = tf.gather(ranks(sizes), members)
        highest = tf.math.unsorted_segment_max(rank, counts, counts.max(initial=-1) + 1)
        stays = tf.cast(rank == tf.gather(highest, counts), tf.int32)
        return tf.math.unsorted_segment_sum(stays, members, len(present)) > 0

    def step(done):
        now = _steps_of(optimizer)
        rate = optimizer.learning_rate
        rate = rate(now) if callable(rate) else rate  # a schedule in one of the legacy optimizers
        room = most - tf.math.count_nonzero(~alive, dtype=tf.int32)
        steps = tf.where(room > 0, now - done, 0)
        taken = lengths * tf.cast(rate, tf.float32) * tf.cast(steps, tf.float32)
        squares = tf.concat([one.squares() for one in slices], 0)
        norms = tf.sqrt(tf.math.unsorted_segment_sum(squares, own, len(present) + 1)[:-1])
        # Before the first step nothing is removed, since scales may start at zero.
        # Momentum may have moved a removed channel, so consider only the others.
        sizes = tf.where(alive, norms / lengths, -1.0)
        short = alive & (norms <= taken) & (steps > 0) & ~last_of_its_layer(sizes)
        order = ranks(tf.where(short, sizes, np.inf))
        alive.assign(alive & ~(short & (order < room)))
        left = tf.where(norms > taken, 1.0 - tf.math.divide_no_nan(taken, norms), 1.0)
        factors = tf.where(alive, left, 0.0)
        table = tf.concat([factors, [1.0], tf.cast(alive, tf.float32), [1.0]], 0)
        everyone = [*slices, *followers]
        shares = tf.split(tf.gather(table, reads), [len(one.groups) for one in everyone])
        variables = {id(one.variable): one.variable for one in everyone}
        values = {key: tf.convert_to_tensor(variable) for key, variable in variables.items()}
        for one, share in zip(everyone, shares, strict=True):
            values[id(one.variable)] = one.multiply(values[id(one.variable)], share)
        for key, value in values.items():
            variables[key].assign(value)
        return now, tf.reduce_mean(tf.cast(~alive, tf.float64))

    return tf.function(step).get_concrete_function(tf.TensorSpec((), tf.int64))
