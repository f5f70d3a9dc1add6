"""Soft losses: the student's answer against the teacher's.

A soft loss is called as `loss(teacher, student, temperature, y)` and returns one value per
example (shape: that of the outputs without their last axis), so that sample weights and
masks apply to it as they do to any Keras loss. For classification both arguments are
logits. The distiller multiplies by no factor: a loss contains its own T².

| name | class | task | paper |
|---|---|---|---|
| `"kl"`, `"reverse_kl"` | `KLDivergence` | categorical | Hinton et al. 2015 |
| `"binary_kl"` | `BinaryKLDivergence` | binary, multi-label | the same, per label |
| `"standardized_kl"` | `StandardizedKLDivergence` | categorical | Sun et al. 2024 |
| `"dkd"` | `DKD` | categorical | Zhao et al. 2022 |
| `"dist"` | `DIST` | categorical | Huang et al. 2022 |
| `"binary_dist"` | `DIST(independent=True)` | binary, multi-label | the same, of each label |
| `"logit_mse"` | `LogitMeanSquaredError` | categorical, binary | Ba and Caruana 2014 |
| `"mse"` | `MeanSquaredError` | regression | |
| `"teacher_bounded"` | `TeacherBounded` | regression | Chen et al. 2017 |

`tfkd.losses.WeightedSum` adds several of them up on one output.

Label smoothing, a baseline without a teacher, is Keras's
`CategoricalCrossentropy(label_smoothing=e)` on one-hot labels (`keras.utils.to_categorical`). For
class numbers a teacher of equal logits does the same: `Distiller(student, np.zeros((examples,
classes)), alpha=1 - e, temperature=1, soft_loss="kl", teacher_from_logits=True)`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfkd.errors import InputError, argument
from tfkd.losses.outputs import SOFT_TASKS, Configured

_register = keras.saving.register_keras_serializable("tfkd")


class SoftLoss(Configured):
    """Base of the soft losses.

    A subclass sets `tasks` and defines `__call__`; its constructor's arguments are kept
    as attributes of the same names, from which `get_config` reads them.

    Attributes:
        tasks: The tasks (out of `SOFT_TASKS`) whose outputs it can compare.
        needs_labels: Whether it reads `y`. Elements that lack one of their labels then don't count.
        mixes_elements: Whether an element's value depends on other elements. It is then
            called with `mask` too, a boolean tensor (...) or `None`: the elements that count.
        knows_labels: Whether it uses labels where there are some. It is then called with `known`
            too, a boolean tensor of the elements that have a label, or `None` for all.
    """

    tasks: tuple[str, ...] = ()
    needs_labels = False
    mixes_elements = False
    knows_labels = False

    def for_task(self, task: str) -> SoftLoss:
        """Return the loss for outputs of one of its tasks: itself, unless the task changes it."""
        del task
        return self

    def __call__(self, teacher, student, temperature, y=None):
        """Return one value per example.

        Args:
            teacher: Float tensor (..., classes): logits, or values for regression.
            student: Float tensor of the same shape.
            temperature: Scalar > 0.
            y: The labels as `fit` got them, or `None`.

        Returns:
            Float32 tensor (...).
        """
        raise NotImplementedError


@_register
class KLDivergence(SoftLoss):
    """Kullback-Leibler divergence between softened class distributions, times T².

    ``T² · Σ_c p_c (log p_c − log q_c)`` with ``p = softmax(teacher / T)`` and
    ``q = softmax(student / T)``; the factor keeps the gradient's size independent of T
    (Hinton, Vinyals and Dean 2015, https://arxiv.org/abs/1503.02531). Taken on
    log-softmax, so a confidently wrong student still gets its full gradient.

    Args:
        reverse: Take ``KL(q ‖ p)``, which makes the student seek the teacher's main mode
            rather than cover all of it. Defaults to `False`.
        class_weights: One weight > 0 per class for imbalanced data, or `None`. The
            weighted form is ``Σ_c w_c (p_c log(p_c / q_c) − p_c + q_c)``, which stays
            non-negative and zero only where q = p; with equal weights it equals the form above.
    """

    tasks = ("categorical",)

    def __init__(self, reverse: bool = False, class_weights: Sequence[float] | None = None):
        self.reverse = bool(reverse)
        self.class_weights = _checked_weights(class_weights)

    def __call__(self, teacher, student, temperature, y=None):
        """Return one divergence per example, in nats times T²."""
        log_p, log_q = _log_softmax(teacher, temperature), _log_softmax(student, temperature)
        if self.reverse:
            log_p, log_q = log_q, log_p
        return _squared(temperature) * _weighted_kl(log_p, log_q, self.class_weights)


@_register
class BinaryKLDivergence(SoftLoss):
    """Kullback-Leibler divergence for independent yes/no outputs (binary, multi-label), times T².

    ``T² · mean_k w_k KL(Bernoulli(σ(t_k / T)) ‖ Bernoulli(σ(s_k / T)))``; the mean over labels
    matches Keras's `BinaryCrossentropy`, so alpha weighs comparable values.

    Args:
        class_weights: One weight > 0 per label, or `None`.
    """

    tasks = ("binary",)

    def __init__(self, class_weights: Sequence[float] | None = None):
        self.class_weights = _checked_weights(class_weights)

    def __call__(self, teacher, student, temperature, y=None):
        """Return one divergence per example, in nats times T²."""
        teacher, student = _softened(teacher, temperature), _softened(student, temperature)
        p = tf.sigmoid(teacher)
        divergence = p * (tf.math.log_sigmoid(teacher) - tf.math.log_sigmoid(student))
        divergence += (1.0 - p) * (tf.math.log_sigmoid(-teacher) - tf.math.log_sigmoid(-student))
        if self.class_weights is not None:
            divergence *= tf.constant(self.class_weights, tf.float32)
        return _squared(temperature) * tf.reduce_mean(divergence, axis=-1)


@_register
class StandardizedKLDivergence(SoftLoss):
    """KL after each example's logits are standardized, so that only their pattern counts.

    ``T² · KL(softmax(Z(t) / T) ‖ softmax(Z(s) / T))`` with ``Z(z) = (z − mean z) / std z``
    (Sun et al. 2024, "Logit Standardization in Knowledge Distillation",
    https://arxiv.org/abs/2403.01427). Choose it for a student too small to reach the
    teacher's logit range; the paper takes T = 2.
    """

    tasks = ("categorical",)

    def __call__(self, teacher, student, temperature, y=None):
        """Return one divergence per example, in nats times T²."""
        log_p = _log_softmax(_standardized(teacher), temperature)
        log_q = _log_softmax(_standardized(student), temperature)
        return _squared(temperature) * _weighted_kl(log_p, log_q)


@_register
class DKD(SoftLoss):
    """Decoupled distillation: how sure of the target class, and how the other classes compare.

    ``T² · (target_weight · TCKD + rest_weight · NCKD)``: `TCKD` is the divergence between
    (target, everything else), `NCKD` the divergence among the other classes (Zhao et al. 2022,
    https://arxiv.org/abs/2203.08679). Plain KL is ``TCKD + (1 − p_target) · NCKD``, which reduces
    the second part for a confident teacher. For soft labels, as from mixup, the target class is the
    one with the largest share.

    Args:
        target_weight: The paper's alpha. Defaults to 1.
        rest_weight: The paper's beta. Defaults to 8.
    """

    tasks = ("categorical",)
    needs_labels = True

    def __init__(self, target_weight: float = 1.0, rest_weight: float = 8.0):
        self.target_weight = float(target_weight)
        self.rest_weight = float(rest_weight)

    def __call__(self, teacher, student, temperature, y=None):
        """Return one value per example, in nats times T²."""
        target, rest = self.parts(teacher, student, temperature, y)
        weighted = self.target_weight * target + self.rest_weight * rest
        return _squared(temperature) * weighted

    @staticmethod
    def parts(teacher, student, temperature, y):
        """Return TCKD and NCKD, one value per example each, in nats."""
        classes = teacher.shape[-1]
        target = tf.one_hot(tf.argmax(one_hot(y, teacher), -1), classes)
        others = 1.0 - target

        def split(logits):
            log_p = _log_softmax(logits, temperature)
            log_target = tf.reduce_sum(log_p * target, axis=-1)
            # The share of all other classes, summed in log space over them alone.
            log_rest = tf.reduce_logsumexp(log_p - _FAR * target, axis=-1)
            among = tf.nn.log_softmax(_softened(logits, temperature) - _FAR * target)
            return tf.stack([log_target, log_rest], axis=-1), among

        (two_t, among_t), (two_s, among_s) = split(teacher), split(student)
        rest = tf.reduce_sum(others * tf.exp(among_t) * (among_t - among_s), axis=-1)
        return _weighted_kl(two_t, two_s), rest if classes > 2 else tf.zeros_like(rest)


@_register
class DIST(SoftLoss):
    """Correlation instead of equality, within each example and within each class.

    ``T² · (inter_weight · (1 − ρ(p_i, q_i)) + intra_weight · mean_c (1 − ρ(p_·c, q_·c)))``
    with Pearson's ρ, over the classes of an example and over the examples of a batch
    (Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher",
    https://arxiv.org/abs/2205.10536). The second part belongs to the whole batch and is added
    equally to each of its examples. The first part needs at least three classes or labels and is
    otherwise left out: two probabilities of an example correlate with +1 or −1, whatever their
    size.

    Args:
        inter_weight: The paper's beta. Defaults to 1.
        intra_weight: The paper's gamma. Defaults to 1.
        independent: Whether the outputs are independent yes/no outputs, whose probabilities are
            sigmoids.
    """

    mixes_elements = True

    def __init__(
        self, inter_weight: float = 1.0, intra_weight: float = 1.0, independent: bool = False
    ):
        self.inter_weight = float(inter_weight)
        self.intra_weight = float(intra_weight)
        self.independent = bool(independent)

    @property
    def tasks(self) -> tuple[str, ...]:
        """`"binary"` for independent outputs, otherwise `"categorical"`."""
        return ("binary",) if self.independent else ("categorical",)

    def __call__(self, teacher, student, temperature, y=None, mask=None):
        """Return one value per example; elements that `mask` leaves out mix with none."""
        p, q = self._probabilities(teacher, temperature), self._probabilities(student, temperature)
        inter = 1.0 - _pearson(p, q, axis=-1)
        if p.shape[-1] < 3:
            inter = tf.zeros_like(inter)
        rows = [-1, p.shape[-1]]
        counts = None if mask is None else tf.reshape(tf.cast(mask, p.dtype), [-1, 1])
        intra = 1.0 - _pearson(tf.reshape(p, rows), tf.reshape(q, rows), 0, counts)
        return _squared(temperature) * (
            self.inter_weight * inter + self.intra_weight * tf.reduce_mean(intra)
        )

    def _probabilities(self, logits, temperature):
        if self.independent:
            return tf.sigmoid(_softened(logits, temperature))
        return tf.exp(_log_softmax(logits, temperature))


@_register
class LogitMeanSquaredError(SoftLoss):
    """Squared distance between logits; the temperature plays no part.

    ``mean_c (s_c − t_c)²`` (Ba and Caruana 2014, https://arxiv.org/abs/1312.6184). A constant added
    to every logit of an example changes this loss, unlike any softmax: for classes, a teacher whose
    probabilities were turned back into logits is centred first, and so is the student. Yes/no
    outputs are never centred: each has a logit of its own.
    """

    tasks = ("categorical", "binary")

    def __init__(self, centred: bool = True):
        self.centred = bool(centred)

    def for_task(self, task: str) -> SoftLoss:
        """Return the loss for classes, or the one without centring for yes/no outputs."""
        loss = copy.copy(self)
        loss.centred = self.centred and task == "categorical"
        return loss

    def __call__(self, teacher, student, temperature, y=None):
        """Return one mean square per example."""
        difference = tf.cast(student, tf.float32) - tf.cast(teacher, tf.float32)
        if self.centred and teacher.shape[-1] != 1:
            difference -= tf.reduce_mean(difference, axis=-1, keepdims=True)
        return tf.reduce_mean(tf.square(difference), axis=-1)


@_register
class MeanSquaredError(SoftLoss):
    """Squared distance to the teacher's values, for regression; the temperature plays no part.

    ``mean_k (s_k − t_k)²``.
    """

    tasks = ("regression",)

    def __call__(self, teacher, student, temperature, y=None):
        """Return one mean square per example."""
        difference = tf.cast(student, tf.float32) - tf.cast(teacher, tf.float32)
        return tf.reduce_mean(tf.square(difference), axis=-1)


@_register
class TeacherBounded(SoftLoss):
    """The teacher as an upper bound: a student that does better costs nothing.

    ``‖s − y‖²`` where ``‖s − y‖² + margin > ‖t − y‖²``, otherwise 0; both means over the
    values of an example (Chen et al. 2017, "Learning Efficient Object Detection Models with
    Knowledge Distillation", section 3.3). A regression teacher can be wrong in any
    direction, so its values themselves are not imitated. An example with a missing label does not
    count.

    Args:
        margin: How much the student has to beat the teacher by. Defaults to 0.
    """

    tasks = ("regression",)
    needs_labels = True

    def __init__(self, margin: float = 0.0):
        self.margin = float(margin)

    def __call__(self, teacher, student, temperature, y=None):
        """Return one value per example."""
        teacher, student = tf.cast(teacher, tf.float32), tf.cast(student, tf.float32)
        y = tf.reshape(tf.cast(y, tf.float32), tf.shape(teacher))
        ours = tf.reduce_mean(tf.square(student - y), axis=-1)
        theirs = tf.reduce_mean(tf.square(teacher - y), axis=-1)
        return tf.where(ours + self.margin > theirs, ours, tf.zeros_like(ours))


_BY_NAME = {
    "kl": KLDivergence,
    "reverse_kl": lambda: KLDivergence(reverse=True),
    "binary_kl": BinaryKLDivergence,
    "standardized_kl": StandardizedKLDivergence,
    "dkd": DKD,
    "dist": DIST,
    "binary_dist": lambda: DIST(independent=True),
    "logit_mse": LogitMeanSquaredError,
    "mse": MeanSquaredError,
    "teacher_bounded": TeacherBounded,
}


#: Names that mean a loss for each kind of output, see `default_for`.
BY_TASK = ("auto", "adaptive", "hinton")


def get(identifier: Any) -> SoftLoss | None:
    """Return the soft loss for an identifier.

    Args:
        identifier: One of `BY_TASK` (`None` is returned), `None`, a name of the table above,
            a `SoftLoss`, a configuration made by `keras.saving.serialize_keras_object`, or
            a sound loss of `keras.distillation`.

    Raises:
        InputError: for anything else, and for losses of `keras.distillation` that do not compute
            what their name says.
    """
    if identifier is None or (isinstance(identifier, str) and identifier in BY_TASK):
        return None
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, SoftLoss):
        return identifier
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    if type(identifier).__name__ == "LogitsDistillation":
        return _from_keras_distillation(identifier)
    raise InputError(
        f"soft_loss must be one of {', '.join(map(repr, (*BY_TASK, *_BY_NAME)))}, or a "
        f"tfkd.losses.SoftLoss; got {identifier!r}."
    )


def temperature_of(soft_loss, temperature: float | None) -> float | None:
    """Return the temperature of a `keras.distillation.LogitsDistillation`.

    Args:
        soft_loss: As `Distiller` takes it.
        temperature: The caller's value, or `None`.

    Raises:
        InputError: if the two differ.
    """
    if type(soft_loss).__name__ != "LogitsDistillation":
        return temperature
    brought = float(soft_loss.temperature)
    if temperature not in (None, brought):
        raise InputError(
            f"The LogitsDistillation has {argument('temperature', brought)}, and the distiller is "
            f"given {temperature!r}; give one of the two."
        )
    return brought


def check_task(loss: SoftLoss, task: str | None) -> str:
    """Return the task that a soft loss will work on.

    Raises:
        InputError: if the loss is for another task, or for several tasks and none was given.
    """
    if task is None and len(loss.tasks) == 1:
        return loss.tasks[0]
    if task not in loss.tasks:
        raise InputError(
            f"soft_loss {type(loss).__name__} is for {' or '.join(loss.tasks)} outputs, but the "
            f"compiled loss is for {task or 'unknown'} ones (of {', '.join(SOFT_TASKS)})."
        )
    return task


def _from_keras_distillation(loss) -> SoftLoss:
    inner = type(loss.loss).__name__
    if inner == "KLDivergence":
        return KLDivergence()
    name = getattr(loss.loss, "__name__", inner)
    raise InputError(
        f"keras.distillation.LogitsDistillation with loss {name!r} runs that loss on raw logits "
        "(no softmax, no T²), so it does not compute that loss; use "
        f"{argument('soft_loss', 'kl')}, or give it the object keras.losses.KLDivergence()."
    )


# Subtracted from a logit to take its class out of a softmax; exp(-1e4) is 0 in float32.
_FAR = 1e4


def _softened(logits, temperature):
    return tf.cast(logits, tf.float32) / tf.cast(temperature, tf.float32)


def _log_softmax(logits, temperature):
    return tf.nn.log_softmax(_softened(logits, temperature))


def _squared(temperature):
    return tf.square(tf.cast(temperature, tf.float32))


def _weighted_kl(log_p, log_q, weights=None):
    p = tf.exp(log_p)
    terms = p * (log_p - log_q)
    if weights is not None:
        terms = tf.constant(weights, tf.float32) * (terms - p + tf.exp(log_q))
    return tf.reduce_sum(terms, axis=-1)


def _standardized(logits):
    logits = tf.cast(logits, tf.float32)
    centred = logits - tf.reduce_mean(logits, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + 1e-7)


def _pearson(a, b, axis, counts=None):
    """Return Pearson's correlation along an axis, of the entries whose count is 1."""
    if counts is None:
        a -= tf.reduce_mean(a, axis=axis, keepdims=True)
        b -= tf.reduce_mean(b, axis=axis, keepdims=True)
    else:
        total = tf.reduce_sum(counts, axis=axis, keepdims=True)
        a = counts * (a - tf.math.divide_no_nan(tf.reduce_sum(counts * a, axis, True), total))
        b = counts * (b - tf.math.divide_no_nan(tf.reduce_sum(counts * b, axis, True), total))
    norms = tf.reduce_sum(a * a, axis) * tf.reduce_sum(b * b, axis)
    return tf.reduce_sum(a * b, axis) * tf.math.rsqrt(norms + 1e-12)


def one_hot(y, like):
    """Return labels (numbers or rows) as float rows of `like`'s shape."""
    if y.shape.rank == like.shape.rank and y.shape[-1] == like.shape[-1]:
        return tf.cast(y, tf.float32)
    numbers = tf.reshape(tf.cast(y, tf.int32), tf.shape(like)[:-1])
    return tf.one_hot(numbers, like.shape[-1])


def _checked_weights(weights):
    if weights is None:
        return None
    weights = [float(weight) for weight in weights]
    if not weights or not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise InputError(f"class_weights must be numbers > 0, one per class; got {weights}.")
    return weights
