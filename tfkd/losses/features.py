"""Feature losses: what a layer of the student gives against what a layer of the teacher gives.

A feature loss names one layer of each model (a path such as `backbone/conv4` reaches into
nested models). Where it needs weights of its own, an adapter from the student's width to
the teacher's, these are trained with the student and are no part of it.
"""

from __future__ import annotations

import inspect

import keras
import tensorflow as tf

from tfkd.errors import InputError
from tfkd.losses.outputs import Configured

_register = keras.saving.register_keras_serializable("tfkd")


class FeatureLoss(Configured):
    """Base of the feature losses.

    Args:
        student_layer: Name or path of the student's layer.
        teacher_layer: Name or path of the teacher's layer.
        weight: Factor of the loss in the soft part. Defaults to 1.

    Raises:
        InputError: if a name is missing or the weight is not a number ≥ 0.
    """

    def __init__(self, student_layer, teacher_layer, weight=1.0):
        for role, name in (("student_layer", student_layer), ("teacher_layer", teacher_layer)):
            if not isinstance(name, str) or not name:
                raise InputError(f"{type(self).__name__} needs {role}, the name of a layer.")
        if not float(weight) >= 0:
            raise InputError(f"weight must be a number >= 0, got {weight!r}.")
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.weight = float(weight)

    def adapter(self, package, student_shape, teacher_shape):
        """Return a layer that brings the student's feature to the teacher's width, or `None`.

        Args:
            package: `keras` or `tf_keras`, the student's.
            student_shape: Shape of the student's feature, batch included.
            teacher_shape: Shape of the teacher's feature.

        Raises:
            InputError: if the two can't be compared at all.
        """
        del package, student_shape, teacher_shape

    def __call__(self, teacher, student, mask=None):
        """Return one value per example.

        Args:
            teacher: The teacher's feature (batch, ..., channels).
            student: The student's, through the adapter.
            mask: Boolean tensor (batch, positions) of the positions that count, from the
                student's Keras mask; `None` if all do. A loss without this argument never
                gets one.

        Returns:
            Float32 tensor (batch,).
        """
        raise NotImplementedError

    def _refuse(self, why, student_shape, teacher_shape):
        raise InputError(
            f"{type(self).__name__} can't compare {self.student_layer!r} {tuple(student_shape)} "
            f"with {self.teacher_layer!r} {tuple(teacher_shape)}: {why}."
        )


@_register
class Hint(FeatureLoss):
    """Squared distance to the teacher's feature, through a trained linear adapter.

    ``mean (adapter(s) − t)²`` (Romero et al. 2015, "FitNets",
    https://arxiv.org/abs/1412.6550). The adapter maps the last axis (a 1×1 convolution);
    features of equal width have none.
    """

    def adapter(self, package, student_shape, teacher_shape):
        """Return a `Dense` layer over the last axis where the widths differ."""
        if tuple(student_shape[1:-1]) != tuple(teacher_shape[1:-1]):
            self._refuse(
                "all sizes but the last must be equal; choose layers of the same resolution",
                student_shape,
                teacher_shape,
            )
        if student_shape[-1] == teacher_shape[-1]:
            return None
        return package.layers.Dense(teacher_shape[-1], dtype="float32")

    def __call__(self, teacher, student, mask=None):
        """Return one mean square per example, so scaled that their mean is over all positions."""
        square = tf.square(tf.cast(student, tf.float32) - tf.cast(teacher, tf.float32))
        axes = list(range(1, square.shape.rank))
        if mask is None:
            return tf.reduce_mean(square, axis=axes)
        share = tf.reduce_mean(tf.cast(mask, tf.float32))
        return tf.math.divide_no_nan(tf.reduce_mean(_masked(square, mask), axis=axes), share)


@_register
class AttentionTransfer(FeatureLoss):
    """Where the features are strong, whatever their width.

    ``‖ Q_s / ‖Q_s‖ − Q_t / ‖Q_t‖ ‖²`` with ``Q = mean_c F_c²`` over the positions of an
    example (Zagoruyko and Komodakis 2017, https://arxiv.org/abs/1612.03928, with p = 2).
    """

    def adapter(self, package, student_shape, teacher_shape):
        """Check that both have the same positions; no weights are needed."""
        if len(student_shape) < 3 or tuple(student_shape[1:-1]) != tuple(teacher_shape[1:-1]):
            self._refuse(
                "it needs features with positions (images, sequences) of the same size",
                student_shape,
                teacher_shape,
            )

    def __call__(self, teacher, student, mask=None):
        """Return one squared distance per example; masked positions are no positions."""
        difference = self._map(student, mask) - self._map(teacher, mask)
        return tf.reduce_sum(tf.square(difference), axis=-1)

    @staticmethod
    def _map(feature, mask):
        feature = _masked(tf.cast(feature, tf.float32), mask)
        attention = tf.reduce_mean(tf.square(feature), axis=-1)
        attention = tf.reshape(attention, [tf.shape(attention)[0], -1])
        return tf.math.l2_normalize(attention, axis=-1, epsilon=1e-12)


@_register
class SimilarityPreserving(FeatureLoss):
    """Which examples of a batch look alike, whatever the features' shapes.

    ``‖ G_t − G_s ‖_F² / b²`` with ``G`` the row-normalized matrix ``F Fᵀ`` of a batch of b
    flattened features (Tung and Mori 2019, https://arxiv.org/abs/1907.09682). Fits LSTM and
    GRU states of different widths.
    """

    def __call__(self, teacher, student, mask=None):
        """Return each example's row of the sum, scaled so that their mean is the formula."""
        square = tf.square(self._similarities(teacher, mask) - self._similarities(student, mask))
        return tf.reduce_sum(square, axis=-1) / tf.cast(tf.shape(square)[0], tf.float32)

    @staticmethod
    def _similarities(feature, mask):
        feature = _masked(tf.cast(feature, tf.float32), mask)
        flat = tf.reshape(feature, [tf.shape(feature)[0], -1])
        return tf.math.l2_normalize(tf.matmul(flat, flat, transpose_b=True), axis=-1, epsilon=1e-12)


def takes_mask(loss: FeatureLoss) -> bool:
    """Tell whether a feature loss takes a mask; one that a user wrote need not."""
    return "mask" in inspect.signature(loss.__call__).parameters


def _masked(feature, mask):
    """Return a feature with zeros at the positions that don't count."""
    if mask is None:
        return feature
    mask = tf.cast(mask, feature.dtype)
    while mask.shape.rank < feature.shape.rank:
        mask = mask[..., None]
    return feature * mask


def get(identifier) -> FeatureLoss:
    """Return the feature loss for an object or a configuration.

    Args:
        identifier: A `FeatureLoss`, its serialized form, or a
            `keras.distillation.FeatureDistillation` with `"mse"` and both layers named.

    Raises:
        InputError: for anything else.
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, FeatureLoss):
        return identifier
    if type(identifier).__name__ == "FeatureDistillation":
        name = getattr(identifier.loss, "__name__", type(identifier.loss).__name__)
        if name in ("mean_squared_error", "MeanSquaredError") and (
            identifier.student_layer_name and identifier.teacher_layer_name
        ):
            return Hint(identifier.student_layer_name, identifier.teacher_layer_name)
        raise InputError(
            "keras.distillation.FeatureDistillation is taken with loss='mse' and both layer names; "
            "use tfkd.losses.Hint, AttentionTransfer or SimilarityPreserving instead."
        )
    raise InputError(f"features must hold tfkd.losses.FeatureLoss objects, got {identifier!r}.")
