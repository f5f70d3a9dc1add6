"""`weight="auto"`: feature losses that pull at a layer in proportion to the soft loss.

The value of a feature loss says nothing about its influence: features ten times as large make a
`Hint` a hundred times as large, and an `AttentionTransfer` with a small value can have a large
gradient. `weight="auto"` compares gradients, at the student's tapped layer h, where both the
soft loss and the feature loss act and where the unit of the features cancels:

``w_k = SHARE / n · sqrt(EMA mean_i ‖∂soft/∂h_i‖² / EMA mean_i ‖∂feature_k/∂h_i‖²)``

over the examples i of a batch, for the n feature losses with `weight="auto"` (the adaptive weight
of Esser et al. 2021, https://arxiv.org/abs/2012.09841, equation 7, smoothed over steps). Where
no output learns from the teacher, the hard loss takes the place of the soft loss. A step then has
one more backward pass from the outputs to the tapped layers, and no additional forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfkd.errors import InputError, argument
from tfkd.losses.features import FeatureLoss

#: Length of the feature losses' gradient at a layer, relative to the soft loss's gradient.
SHARE = 1.0

#: Decay per step of the running means, which cover about a hundred steps.
DECAY = 0.99

# Gradients of half precision underflow without it.
_SCALE = 1024.0


def count_auto(losses: Sequence[FeatureLoss]) -> int:
    """Return how many of the losses have `weight="auto"`."""
    return sum(loss.weight == "auto" for loss in losses)


def weights_of(
    losses: Sequence[FeatureLoss],
    values: list,
    reference,
    features: dict,
    running,
    tape: tf.GradientTape | None,
) -> list:
    """Return the weight of each feature loss.

    Args:
        losses: The feature losses.
        values: Scalar float32 value of each, in this batch.
        reference: Scalar float32: the loss to compare with.
        features: The student's features by the name of their layer.
        running: Variable of shape (2, `count_auto(losses)`) with the running means, zeros before
            training; `None` where no loss has `weight="auto"`.
        tape: Persistent tape that recorded the values; training updates the running means, except
            with values that are not finite. `None` in evaluation, which uses them as they are: 0
            before any training.

    Returns:
        A number or a scalar tensor per loss.

    Raises:
        InputError: if there is no reference, or it does not depend on the layer of a loss.
    """
    if running is None:
        return [loss.weight for loss in losses]
    if tape is not None:
        with tape.stop_recording():
            now = _gradients(losses, values, reference, features, tape)
            means = tf.convert_to_tensor(running)
            moved = DECAY * means + (1.0 - DECAY) * now
            running.assign(tf.where(tf.reduce_all(tf.math.is_finite(now)), moved, means))
    means = tf.convert_to_tensor(running)  # the mean over replicas
    # All means start at 0, so that their ratio is right from the first step.
    ratios = tf.sqrt(tf.math.divide_no_nan(means[0], means[1]))
    scales = iter(tf.unstack(SHARE / count_auto(losses) * ratios, count_auto(losses)))
    return [next(scales) if loss.weight == "auto" else loss.weight for loss in losses]


def _gradients(losses, values, reference, features, tape):
    """Return mean squared gradients per example of the reference and the losses at their layers.

    Returns:
        Float32 tensor (2, `count_auto(losses)`).
    """
    auto = [(loss, value) for loss, value in zip(losses, values, strict=True)
            if loss.weight == "auto"]  # fmt: skip
    layers = [features[loss.student_layer] for loss, _ in auto]
    if not tf.is_tensor(reference):
        raise InputError(
            f"{argument('weight', 'auto')} compares a feature loss with the soft or the hard "
            f"loss, and there is neither: give {argument('weight')} a number, or "
            "compile(loss=...)."
        )
    pulls = tape.gradient(reference, layers, output_gradients=tf.constant(_SCALE))
    own = [
        tape.gradient(value, layer, output_gradients=tf.constant(_SCALE))
        for (_, value), layer in zip(auto, layers, strict=True)
    ]
    for (loss, _), pull, gradient in zip(auto, pulls, own, strict=True):
        if pull is None or gradient is None:
            raise InputError(
                f"{type(loss).__name__} of {loss.student_layer!r} has "
                f"{argument('weight', 'auto')}, which compares it with the soft (or hard) loss at "
                "that layer, but no trained weight before the layer gets a gradient of both. "
                f"Give {argument('weight')} a number."
            )
    return tf.stack([
        tf.stack([_mean_square(gradient) for gradient in gradients]) for gradients in (pulls, own)
    ])  # fmt: skip


def _mean_square(gradient):
    """Return the mean over examples of ‖∂/∂h_i‖², of the gradient of a mean over examples."""
    gradient = tf.cast(tf.convert_to_tensor(gradient), tf.float32) / _SCALE
    examples = tf.cast(tf.shape(gradient)[0], tf.float32)
    return examples * tf.reduce_sum(tf.square(gradient))
