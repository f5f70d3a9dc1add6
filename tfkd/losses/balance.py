"""`weight="auto"`: feature losses scaled to the value of the soft loss.

The value of a feature loss depends on the unit of the features: features ten times as large
make a `Hint` a hundred times as large. Its weight then says nothing about its influence.
`weight="auto"` divides by the running mean of the loss itself:

``w_k = 1 / n · EMA(soft) / EMA(feature_k)``, no gradient through either,

so that all n such losses together are as large as the soft loss, in every phase of training
(running-mean normalization as in Groenendijk et al. 2021, https://arxiv.org/abs/2009.01717).
Where nothing learns from the teacher's outputs, the hard loss takes the place of the soft
loss, and where there is none either, 1. One scalar multiplication per loss; no further pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfkd.losses.features import FeatureLoss

#: Factor per step of the running means: they look back about a hundred steps.
DECAY = 0.99


def size_of(losses: Sequence[FeatureLoss]) -> int:
    """Return how many running means the losses need: 0, or one each and the reference's."""
    count = sum(loss.weight == "auto" for loss in losses)
    return count and count + 1


def weights_of(
    losses: Sequence[FeatureLoss], values: list, reference, running, training: bool
) -> list:
    """Return the weight of each feature loss.

    Args:
        losses: The feature losses.
        values: Scalar float32 value of each, in this batch.
        reference: Scalar float32: what the losses with `weight="auto"` are to sum to.
        running: Variable of shape (`size_of(losses)`,) with the running means, zeros before
            training; `None` where no loss has `weight="auto"`. Training moves it, unless a
            value is not finite.
        training: Whether the batch is one of training. Evaluation before any training takes
            the batch's own values.

    Returns:
        A number or a scalar tensor per loss.
    """
    if running is None:
        return [loss.weight for loss in losses]
    auto = [value for loss, value in zip(losses, values, strict=True) if loss.weight == "auto"]
    now = tf.stop_gradient(tf.stack([tf.cast(value, tf.float32) for value in (reference, *auto)]))
    means = tf.convert_to_tensor(running)
    if training:
        moved = DECAY * means + (1.0 - DECAY) * now
        running.assign(tf.where(tf.reduce_all(tf.math.is_finite(now)), moved, means))
        means = tf.convert_to_tensor(running)  # the mean over replicas
    else:
        means = tf.where(tf.reduce_any(means > 0.0), means, now)
    # Both start at 0, so that their ratio is right from the first step.
    scales = iter(tf.unstack(tf.math.divide_no_nan(means[0], means[1:]) / len(auto)))
    return [next(scales) if loss.weight == "auto" else loss.weight for loss in losses]
