"""`Distiller`: a Keras model whose `fit` trains a student on labels and on a teacher.

One step body (`_Step`) serves Keras 3 and tf_keras students, tfmot-wrapped ones included;
`Distiller(student, ...)` gives the class that fits the student.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
import tensorflow as tf

from tfkd import backends, losses, teachers
from tfkd.errors import InputError


class _Step:
    """The distillation step, written once for both Keras flavours.

    A subclass adds the flavour's `Model` and three small hooks: `_keras` (the package),
    `_hard_loss_and_extras` and `_apply`.
    """

    def __init__(
        self,
        student,
        teacher,
        alpha=0.1,
        temperature=4.0,
        soft_loss="auto",
        from_logits=None,
        teacher_from_logits=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_number("alpha", alpha, 0.0, 1.0)
        _check_number(
            "temperature", temperature, np.finfo(np.float32).tiny, np.finfo(np.float32).max
        )
        self.student = student
        self._teacher = teachers.Teacher(teacher, teacher_from_logits)
        self._soft_loss_argument = soft_loss
        self._from_logits = from_logits
        # Variables, not Python floats: a callback can move them without a retrace.
        constant = self._keras.initializers.Constant
        self._alpha = self.add_weight(
            name="alpha", shape=(), initializer=constant(float(alpha)), trainable=False
        )
        self._temperature = self.add_weight(
            name="temperature", shape=(), initializer=constant(float(temperature)), trainable=False
        )
        mean = self._keras.metrics.Mean
        self._trackers = {name: mean(name=name) for name in ("loss", "hard_loss", "soft_loss")}
        _check_shapes(student, self._teacher)
        self.built = True

    @property
    def teacher(self):
        """The teacher as it was given: a model or a list of models."""
        models = self._teacher.models
        return models[0] if len(models) == 1 else models

    @property
    def alpha(self):
        """Weight of the hard loss, a scalar variable; assign a number in [0, 1] to move it."""
        return self._alpha

    @alpha.setter
    def alpha(self, value):
        _check_number("alpha", value, 0.0, 1.0)
        self._alpha.assign(value)

    @property
    def temperature(self):
        """Softening of both distributions, a scalar variable; assign a number > 0 to move it."""
        return self._temperature

    @temperature.setter
    def temperature(self, value):
        _check_number("temperature", value, np.finfo(np.float32).tiny, np.finfo(np.float32).max)
        self._temperature.assign(value)

    def compile(self, optimizer="adam", loss=None, metrics=None, **kwargs):
        """Configure training; takes what `keras.Model.compile` takes.

        Args:
            optimizer: A Keras optimizer or its name. Defaults to `"adam"`.
            loss: The hard loss, between the labels and the student's outputs.
            metrics: Metrics of the student's outputs.
            **kwargs: Passed on to Keras.

        Raises:
            InputError: where the loss does not fit the outputs, or logits and
                probabilities can't be told apart.
        """
        task, loss_from_logits = losses.task_of(loss)
        self._soft_loss = losses.get(self._soft_loss_argument, task)
        self._task = self._soft_loss.task
        self._activation = teachers.readable_activation(
            "student", self.student, self._task, self._from_logits
        )
        self._teacher.check(self._task)
        if loss_from_logits is not None and loss_from_logits != (self._activation == "linear"):
            gives = "logits" if self._activation == "linear" else "probabilities"
            raise InputError(
                f"The loss is set to from_logits={loss_from_logits}, but the student "
                f"{self.student.name!r} gives {gives}; pass the loss object with "
                f"from_logits={not loss_from_logits}."
            )
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def call(self, inputs, training=None):
        """Return the student's outputs."""
        return self.student(inputs, training=training)

    @property
    def metrics(self):
        """The compiled metrics and the three losses; `loss` is what is minimised."""
        ours = list(self._trackers.values())
        compiled = [m for m in super().metrics if m.name not in self._trackers]
        return [ours[0], *compiled, *ours[1:]]

    def train_step(self, data):
        """Run one optimizer step on `L = alpha · hard + (1 − alpha) · soft (+ regularizers)`."""
        x, y, sample_weight = self._keras.utils.unpack_x_y_sample_weight(data)
        answers = self._teacher.answers(x, self._task)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            hard, extras = self._hard_loss_and_extras(x, y, y_pred, sample_weight, training=True)
            soft = self._soft_loss_value(answers, y_pred, sample_weight)
            alpha = tf.convert_to_tensor(self._alpha)
            loss = alpha * hard + (1.0 - alpha) * soft + extras
        self._apply(loss, tape)
        self._track(x, loss=loss, hard_loss=hard, soft_loss=soft)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data):
        """Evaluate the student alone, on the hard loss; the teacher does not run."""
        x, y, sample_weight = self._keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        hard, extras = self._hard_loss_and_extras(x, y, y_pred, sample_weight, training=False)
        self._track(x, loss=hard + extras)
        logs = self.compute_metrics(x, y, y_pred, sample_weight)
        return {k: v for k, v in logs.items() if k not in ("hard_loss", "soft_loss")}

    def _soft_loss_value(self, answers, y_pred, sample_weight):
        """Return the weighted mean over the batch, as Keras reduces its own losses."""
        student = losses.logits_of(y_pred, self._activation)
        per_example = self._soft_loss(answers, student, self._temperature)
        if sample_weight is not None:
            weight = tf.cast(sample_weight, per_example.dtype)
            per_example *= tf.reshape(weight, tf.shape(per_example))
        return _per_replica(tf.reduce_mean(per_example))

    def _track(self, x, **values):
        batch = tf.shape(tf.nest.flatten(x)[0])[0]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in values.items():
            self._trackers[name].update_state(value * replicas, sample_weight=batch)


class Distiller(_Step, keras.Model):
    """Train a student on the labels and on what a teacher says of the same examples.

    Minimises ``L = alpha · hard + (1 − alpha) · soft``: `hard` is the compiled loss;
    `soft` for classification is ``T² · KL(teacher ‖ student)`` between the softened
    distributions, taken on logits (Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531), for regression the squared distance to the teacher.
    A softmax or sigmoid output is recognised and turned back into logits. Regularizers
    and `add_loss` terms are added in full.

    `evaluate` and `predict` are the student's own; `distiller.student` is the trained
    model. A tf_keras student, also one wrapped by tfmot for quantization-aware training,
    is taken by the same name: the call then returns a `tf_keras.Model` with the same
    methods.

    Args:
        student: The model to train; Keras 3 or tf_keras, with one output.
        teacher: A trained model that takes the same inputs, or a list of such models,
            whose probabilities (or values) are averaged. Left exactly as it is.
        alpha: Weight of the hard loss, in [0, 1]. Defaults to 0.1.
        temperature: Softening of both distributions, > 0. Defaults to 4.
        soft_loss: `"auto"` (by the compiled loss), `"kl"`, `"binary_kl"`, `"mse"` or an
            object (see `tfkd.losses`).
        from_logits: Whether the student's outputs are logits, where it can't be told.
        teacher_from_logits: The same for the teacher.
        **kwargs: `name`, `dtype`: passed on to `keras.Model`.

    Raises:
        InputError: for an alpha or temperature out of range, something that is no
            model, or outputs of different shapes.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> x, y = np.random.rand(64, 4).astype("float32"), np.random.randint(0, 3, 64)
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = tfkd.Distiller(student, teacher, alpha=0.1, temperature=4.0)
        >>> distiller.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = distiller.fit(x, y, epochs=2, verbose=0)
        >>> sorted(history.history)
        ['hard_loss', 'loss', 'soft_loss']
    """

    _keras = keras

    def __new__(cls, student=None, *args, **kwargs):
        """Give the class that fits the student's Keras."""
        if backends.flavour(student) == "tf_keras":
            return _tf_keras_distiller()(student, *args, **kwargs)
        if backends.flavour(student) is None or not hasattr(student, "layers"):
            raise InputError(
                f"The student must be a Keras 3 or tf_keras model, got {type(student).__name__}."
            )
        return super().__new__(cls, student, *args, **kwargs)

    def _hard_loss_and_extras(self, x, y, y_pred, sample_weight, training):
        total = self.compute_loss(x, y, y_pred, sample_weight, training=training)
        extras = _per_replica(_sum(self.losses))
        return total - extras, extras

    def _apply(self, loss, tape):
        with tape:
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))


@functools.cache
def _tf_keras_distiller():
    """Return the tf_keras twin of `Distiller`, made when first needed."""
    tf_keras = backends.tf_keras()

    class TfKerasDistiller(_Step, tf_keras.Model):
        __doc__ = Distiller.__doc__
        _keras = tf_keras

        def _hard_loss_and_extras(self, x, y, y_pred, sample_weight, training):
            del training
            total = self.compute_loss(x, y, y_pred, sample_weight)
            extras = _per_replica(_sum(self.losses))
            return total - extras, extras

        def _apply(self, loss, tape):
            self.optimizer.minimize(loss, self.trainable_variables, tape=tape)

    TfKerasDistiller.__name__ = TfKerasDistiller.__qualname__ = "Distiller"
    return TfKerasDistiller


def _per_replica(value):
    """Divide by the number of replicas, whose gradients are summed."""
    return value / tf.distribute.get_strategy().num_replicas_in_sync


def _sum(values):
    return tf.add_n([tf.cast(tf.reduce_sum(v), tf.float32) for v in values]) if values else 0.0


def _check_number(name, value, low, high):
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not low <= number <= high:
        allowed = "in [0, 1]" if name == "alpha" else "a number > 0"
        raise InputError(f"{name} must be {allowed}, got {value!r}.")


def _check_shapes(student, teacher):
    shapes = [tuple(student.output_shape)] if _single(student) else None
    if shapes is None:
        raise InputError(
            f"The student {student.name!r} has several outputs; Distiller takes one output."
        )
    for model in teacher.models:
        if not _single(model):
            raise InputError(f"The teacher {model.name!r} has several outputs; give one.")
        if tuple(model.output_shape)[1:] != shapes[0][1:]:
            raise InputError(
                f"The teacher {model.name!r} gives outputs of shape {tuple(model.output_shape)}, "
                f"the student {student.name!r} {shapes[0]}; they must be equal."
            )


def _single(model) -> bool:
    return len(model.outputs) == 1
