"""Feature losses: the output of a student's layer compared with that of a teacher's layer.

A feature loss names one layer of each model (a path such as `backbone/conv4` reaches into
nested models). Where it needs weights of its own, an adapter from the student's width to
the teacher's, these weights are trained with the student and are no part of it.
`tfkd.losses.pair_layers` chooses the layers by their shapes.

| class | formula | shapes | paper |
|---|---|---|---|
| `Hint` | ``mean (adapter(s) − t)²`` | but for the width equal | Romero 2015 |
| `AttentionTransfer` | ``‖norm mean_c s² − norm mean_c t²‖²`` | equal positions | Zagoruyko 2017 |
| `ChannelWise` | ``T²/C Σ_c KL(softmax_i t_ic/T ‖ softmax_i s_ic/T)`` | the same | Shu 2021 |
| `SimilarityPreserving` | ``‖G_t − G_s‖² / b²``, ``G = norm F Fᵀ`` | any | Tung 2019 |
| `RelationalKD` | ``huber(Δ ‖f_i − f_j‖/μ) + 2 huber(Δ cos ∠(f_i f_j f_k))`` | any | Park 2019 |
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, Literal

import keras
import tensorflow as tf

from tfkd.errors import InputError
from tfkd.losses.outputs import Configured, checked_number

if TYPE_CHECKING:
    from tfkd._typing import Shape

_register = keras.saving.register_keras_serializable("tfkd")


class FeatureLoss(Configured):
    """Base of the feature losses.

    Args:
        student_layer: Name or path of the student's layer.
        teacher_layer: Name or path of the teacher's layer.
        weight: Factor of the loss in the soft part, or `"auto"`, with which it pulls as hard as the
            soft loss (see `tfkd.losses.balance`). Defaults to 1.

    Attributes:
        mixes_examples: Whether an example's value depends on the others of its batch; with several
            replicas the loss then sees the examples of all.

    Raises:
        InputError: if a name is missing or the weight is not a number ≥ 0.
    """

    mixes_examples = False

    def __init__(
        self, student_layer: str, teacher_layer: str, weight: float | Literal["auto"] = 1.0
    ):
        for role, name in (("student_layer", student_layer), ("teacher_layer", teacher_layer)):
            if not isinstance(name, str) or not name:
                raise InputError(f"{type(self).__name__} needs {role}, the name of a layer.")
        if weight != "auto":
            weight = checked_number("weight", weight)
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.weight = weight

    def adapter(self, package: Any, student_shape: Shape, teacher_shape: Shape) -> Any:
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
                student's Keras mask; `None` if all do. A loss without this parameter gets
                no mask.

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

    def adapter(self, package: Any, student_shape: Shape, teacher_shape: Shape) -> Any:
        """Return a `Dense` layer over the last axis where the widths differ."""
        if tuple(student_shape[1:-1]) != tuple(teacher_shape[1:-1]):
            self._refuse(
                "all sizes but the last must be equal; choose layers of the same resolution",
                student_shape,
                teacher_shape,
            )
        return _to_width(package, student_shape, teacher_shape)

    def __call__(self, teacher, student, mask=None):
        """Return one mean square per example, scaled so that their mean is over all positions."""
        square = tf.square(tf.cast(student, tf.float32) - tf.cast(teacher, tf.float32))
        axes = list(range(1, square.shape.rank))
        if mask is None:
            return tf.reduce_mean(square, axis=axes)
        share = tf.reduce_mean(tf.cast(mask, tf.float32))
        return tf.math.divide_no_nan(tf.reduce_mean(_masked(square, mask), axis=axes), share)


@_register
class AttentionTransfer(FeatureLoss):
    """Match where the features are strong, whatever their width.

    ``‖ Q_s / ‖Q_s‖ − Q_t / ‖Q_t‖ ‖²`` with ``Q = mean_c F_c²`` over the positions of an
    example (Zagoruyko and Komodakis 2017, https://arxiv.org/abs/1612.03928, with p = 2).
    """

    def adapter(self, package: Any, student_shape: Shape, teacher_shape: Shape) -> Any:
        """Check that both have the same positions; no weights are needed."""
        if len(student_shape) < 3 or tuple(student_shape[1:-1]) != tuple(teacher_shape[1:-1]):
            self._refuse(
                "it needs features with positions (images, sequences) of the same size",
                student_shape,
                teacher_shape,
            )

    def __call__(self, teacher, student, mask=None):
        """Return one squared distance per example, without masked positions."""
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
    """Match which examples of a batch look alike, whatever the features' shapes.

    ``‖ G_t − G_s ‖_F² / b²`` with ``G`` the row-normalized matrix ``F Fᵀ`` of a batch of b
    flattened features (Tung and Mori 2019, https://arxiv.org/abs/1907.09682). Fits LSTM and
    GRU states of different widths.
    """

    mixes_examples = True

    def __call__(self, teacher, student, mask=None):
        """Return each example's row of the sum, scaled so that their mean is the formula."""
        square = tf.square(self._similarities(teacher, mask) - self._similarities(student, mask))
        return tf.reduce_sum(square, axis=-1) / tf.cast(tf.shape(square)[0], tf.float32)

    @staticmethod
    def _similarities(feature, mask):
        feature = _masked(tf.cast(feature, tf.float32), mask)
        flat = tf.reshape(feature, [tf.shape(feature)[0], -1])
        return tf.math.l2_normalize(tf.matmul(flat, flat, transpose_b=True), axis=-1, epsilon=1e-12)


@_register
class ChannelWise(FeatureLoss):
    """Match where each channel is active, for dense prediction (segmentation, detection).

    ``T² / C · Σ_c KL(softmax_i(t_ic / T) ‖ softmax_i(s_ic / T))``, the softmax over the
    positions i of one channel c (Shu et al. 2021, "Channel-wise Knowledge Distillation for
    Dense Prediction", https://arxiv.org/abs/2011.13256). Features of different widths have
    a trained linear adapter over the last axis (a 1×1 convolution). Also fits maps of logits:
    name the layers that give them.

    Args:
        student_layer: Name or path of the student's layer.
        teacher_layer: Name or path of the teacher's layer.
        weight: As for every feature loss. The paper takes 50 for features and 3 for logits.
        temperature: The T above, independent of the distiller's. Defaults to the paper's 4.

    Raises:
        InputError: as `FeatureLoss`, or for a temperature that is not > 0.
    """

    def __init__(
        self,
        student_layer: str,
        teacher_layer: str,
        weight: float | Literal["auto"] = 1.0,
        temperature: float = 4.0,
    ):
        super().__init__(student_layer, teacher_layer, weight)
        self.temperature = checked_number("temperature", temperature, positive=True)

    def adapter(self, package: Any, student_shape: Shape, teacher_shape: Shape) -> Any:
        """Return a `Dense` layer over the last axis where the widths differ."""
        sizes = tuple(student_shape[1:-1])
        single = None not in sizes and math.prod(sizes) == 1  # `()` too
        if single or sizes != tuple(teacher_shape[1:-1]):
            self._refuse(
                "it needs features with several positions (images, sequences) of the same size",
                student_shape,
                teacher_shape,
            )
        return _to_width(package, student_shape, teacher_shape)

    def __call__(self, teacher, student, mask=None):
        """Return one mean over channels per example, without masked positions."""
        log_p, log_q = self._log_map(teacher, mask), self._log_map(student, mask)
        divergence = tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=1)
        return self.temperature**2 * tf.reduce_mean(divergence, axis=-1)

    def _log_map(self, feature, mask):
        """Return log-softmax over positions, shape (batch, positions, channels)."""
        feature = tf.cast(feature, tf.float32) / self.temperature
        if mask is not None:
            feature = tf.where(_expanded(mask, feature), feature, _NOWHERE)
        shape = tf.shape(feature)
        return tf.nn.log_softmax(tf.reshape(feature, [shape[0], -1, shape[-1]]), axis=1)


@_register
class RelationalKD(FeatureLoss):
    """Match how the examples of a batch lie to each other: their distances and angles.

    ``λ_D · mean_{i≠j} h(ψ_D(t) − ψ_D(s)) + λ_A · mean_{i≠j≠k} h(ψ_A(t) − ψ_A(s))`` with
    ``ψ_D = ‖f_i − f_j‖ / μ`` (μ: the mean distance of the batch), ``ψ_A = cos ∠(f_i f_j f_k)``
    and h the Huber loss with δ = 1 (Park et al. 2019, "Relational Knowledge Distillation",
    https://arxiv.org/abs/1904.05068). Features are flattened; their widths may differ. Two examples
    at the same place form no angle: its cosine counts as 0, and no gradient flows. One example has
    no relations and costs 0.

    The angles take memory for b³ numbers with a batch of b; `angle_weight=0` leaves them out.

    Args:
        student_layer: Name or path of the student's layer.
        teacher_layer: Name or path of the teacher's layer.
        weight: As for every feature loss; multiplies both parts.
        distance_weight: The λ_D above. Defaults to 1.
        angle_weight: The λ_A above. Defaults to 2; the paper takes 1 : 2, scaled by 25 for
            classification.

    Raises:
        InputError: as `FeatureLoss`, or for a weight that is not ≥ 0.
    """

    mixes_examples = True

    def __init__(
        self,
        student_layer: str,
        teacher_layer: str,
        weight: float | Literal["auto"] = 1.0,
        distance_weight: float = 1.0,
        angle_weight: float = 2.0,
    ):
        super().__init__(student_layer, teacher_layer, weight)
        self.distance_weight = checked_number("distance_weight", distance_weight)
        self.angle_weight = checked_number("angle_weight", angle_weight)

    def __call__(self, teacher, student, mask=None):
        """Return each example's part of the means, scaled so that their mean is the formula.

        Masked positions count as zeros. An example with only masked positions does not count.
        """
        flat = [
            tf.reshape(_masked(tf.cast(f, tf.float32), mask), [tf.shape(f)[0], -1])
            for f in (teacher, student)
        ]
        batch = tf.shape(flat[0])[0]
        counts = tf.ones([batch])
        if mask is not None:
            counts = tf.cast(tf.reduce_any(tf.reshape(mask, [batch, -1]), axis=1), tf.float32)
        pairs = counts[:, None] * counts * (1.0 - tf.eye(batch))
        grams = [_gram(f, counts) for f in flat]
        distances = [_distances(gram) for gram in grams]
        values = tf.zeros([batch])
        if self.distance_weight:
            scaled = [
                tf.math.divide_no_nan(
                    d * tf.reduce_sum(pairs), tf.reduce_sum(pairs * d)
                ) for d in distances
            ]  # fmt: skip
            cost = pairs * _huber(scaled[0] - scaled[1])
            values += self.distance_weight * _shares(tf.reduce_sum(cost, 1), pairs)
        if self.angle_weight:
            # The vertex is the first axis.
            triplets = pairs[:, :, None] * pairs[:, None, :] * pairs
            cosines = [_cosines(g, d) for g, d in zip(grams, distances, strict=True)]
            cost = triplets * _huber(cosines[0] - cosines[1])
            values += self.angle_weight * _shares(tf.reduce_sum(cost, [1, 2]), triplets)
        return values


def takes_mask(loss: FeatureLoss) -> bool:
    """Tell whether a feature loss takes a mask; a user's own loss need not."""
    return "mask" in inspect.signature(loss.__call__).parameters


def _masked(feature, mask):
    """Return a feature with masked positions set to zero."""
    return feature if mask is None else feature * tf.cast(_expanded(mask, feature), feature.dtype)


def _expanded(mask, feature):
    """Return a mask with trailing axes of size one, up to the feature's rank."""
    while mask.shape.rank < feature.shape.rank:
        mask = mask[..., None]
    return mask


# A logit so low that its position gets no share of a softmax.
_NOWHERE = -1e9


def _to_width(package, student_shape, teacher_shape):
    """Return a trained linear map of the last axis, or `None` if the widths are equal."""
    if student_shape[-1] == teacher_shape[-1]:
        return None
    return package.layers.Dense(teacher_shape[-1], dtype="float32")


def _gram(flat, counts):
    """Return the inner products of rows, centred by the mean of the rows that count."""
    mean = tf.math.divide_no_nan(tf.linalg.matvec(flat, counts, True), tf.reduce_sum(counts))
    centred = flat - mean
    return tf.matmul(centred, centred, transpose_b=True)


def _distances(gram):
    """Return the distances of rows from their inner products; 0 without gradient for equal rows."""
    own = tf.linalg.diag_part(gram)
    both = own[:, None] + own
    square = both - 2.0 * gram
    apart = square > 1e-6 * both  # smaller values are rounding errors
    return tf.where(apart, tf.sqrt(tf.where(apart, square, 1.0)), 0.0)


def _cosines(gram, distances):
    """Return cos ∠(f_i f_j f_k) as [j, i, k]; 0 if an arm of the angle has length 0."""
    own = tf.linalg.diag_part(gram)[:, None, None]
    inner = gram[None] - gram[:, :, None] - gram[:, None, :] + own
    inverse = tf.math.divide_no_nan(1.0, distances)
    return inner * inverse[:, :, None] * inverse[:, None, :]


def _huber(difference):
    size = tf.abs(difference)
    return tf.where(size < 1.0, 0.5 * tf.square(difference), size - 0.5)


def _shares(sums, counted):
    """Return each example's part of a sum; their mean is the mean over everything that counts."""
    examples = tf.cast(tf.size(sums), tf.float32)
    return tf.math.divide_no_nan(sums * examples, tf.reduce_sum(counted))


def get(identifier: Any) -> FeatureLoss:
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
            "keras.distillation.FeatureDistillation is only taken with loss='mse' and both layer "
            "names; use tfkd.losses.Hint, AttentionTransfer or SimilarityPreserving instead."
        )
    raise InputError(f"features must hold tfkd.losses.FeatureLoss objects, got {identifier!r}.")
