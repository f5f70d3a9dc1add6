"""`Distiller`: a Keras model whose `fit` trains a student on labels and on a teacher.

One step body (`_Step`) serves Keras 3 and tf_keras students, tfmot-wrapped ones included;
`Distiller(student, ...)` gives the class that fits the student.
"""

from __future__ import annotations

import functools
import os

import keras
import numpy as np
import tensorflow as tf

from tfkd import backends, cache, graph, lessons, losses, taps, teachers
from tfkd.errors import InputError
from tfkd.losses import features as feature_losses

_DEFAULTS = {
    "float": {"alpha": 0.1, "temperature": 4.0},
    "quantize-aware": {"alpha": 0.5, "temperature": 1.0},
}


class _Step:
    """The distillation step, written once for both Keras flavours.

    A subclass adds the flavour's `Model` and two hooks: `_total_loss` and `_apply`.
    """

    def __init__(
        self,
        student,
        teacher=None,
        alpha=None,
        temperature=None,
        soft_loss="auto",
        features=(),
        from_logits=None,
        teacher_from_logits=None,
        student_inputs=None,
        teacher_inputs=None,
        unlabeled=None,
        evaluate_teacher=False,
        **kwargs,
    ):
        # The student casts for itself; the policy is here for the optimizer's loss scaling.
        kwargs.setdefault("dtype", _policy(student))
        super().__init__(autocast=False, **kwargs)
        defaults = _DEFAULTS["quantize-aware" if backends.is_quantize_aware(student) else "float"]
        alpha = defaults["alpha"] if alpha is None else alpha
        temperature = defaults["temperature"] if temperature is None else temperature
        lessons.check_number("alpha", alpha)
        lessons.check_number("temperature", temperature)
        self.student = student
        self._features = [feature_losses.get(one) for one in features]
        self._student_tap = taps.Tap(student, [f.student_layer for f in self._features], "student")
        self._outputs = graph.walk(student).output_list
        self._settings = {
            "soft_loss": soft_loss,
            "from_logits": from_logits,
            "teacher_from_logits": teacher_from_logits,
            "student_inputs": student_inputs,
            "teacher_inputs": teacher_inputs,
            "unlabeled": unlabeled,
            "evaluate_teacher": bool(evaluate_teacher),
        }
        if unlabeled is not None and len(self._outputs) > 1:
            raise InputError("unlabeled= is for students with one output.")
        # Variables, not Python floats: a callback can move them without a retrace.
        constant = self._keras.initializers.Constant
        self._alpha = self.add_weight(
            name="alpha",
            shape=(),
            dtype="float32",
            initializer=constant(float(alpha)),
            trainable=False,
        )
        self._temperature = self.add_weight(
            name="temperature",
            shape=(),
            dtype="float32",
            initializer=constant(float(temperature)),
            trainable=False,
        )
        mean = self._keras.metrics.Mean
        self._trackers = {name: mean(name=name) for name in ("loss", "hard_loss", "soft_loss")}
        self._aside = _Aside()
        self._adapters = []
        self.teacher = teacher
        self.built = True

    def __setattr__(self, name, value):
        if name == "teacher":  # Keras would track it, train it and save it
            _Step.teacher.fset(self, value)
        else:
            super().__setattr__(name, value)

    def __dir__(self):
        # Keras saves every model it finds by `dir`.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def teacher(self):
        """What teaches, as it was given; `None` after loading, until it is set again."""
        return self._aside.given

    @teacher.setter
    def teacher(self, given):
        settings, aside = self._settings, self._aside
        aside.given, aside.teacher, aside.plan = given, None, None
        # A step that was traced with another teacher would go on asking that one.
        self.train_function = self.test_function = None
        if given is None:
            return
        arrays = given if isinstance(given, (list, tuple)) else [given]
        names = [loss.teacher_layer for loss in self._features]
        if all(isinstance(one, (np.ndarray, tf.Tensor)) for one in arrays) and arrays:
            if names:
                raise InputError("Feature losses need a Keras model as teacher, not an array.")
            aside.teacher = teachers.ArrayTeacher(arrays, settings["teacher_from_logits"])
        else:
            aside.teacher = teachers.Teacher(
                given, settings["teacher_from_logits"], names, settings["teacher_inputs"]
            )
        lessons.check_shapes(self.student.name, self._shapes, aside.teacher.output_shapes)
        self._build_adapters(aside.teacher.feature_shapes)

    @property
    def alpha(self):
        """Weight of the hard loss, a scalar variable; assign a number in [0, 1] to move it."""
        return self._alpha

    @alpha.setter
    def alpha(self, value):
        lessons.check_number("alpha", value)
        self._alpha.assign(value)

    @property
    def temperature(self):
        """Softening of both distributions, a scalar variable; assign a number > 0 to move it."""
        return self._temperature

    @temperature.setter
    def temperature(self, value):
        lessons.check_number("temperature", value)
        self._temperature.assign(value)

    def compile(self, optimizer="adam", loss=None, metrics=None, loss_weights=None, **kwargs):
        """Configure training; takes what `keras.Model.compile` takes.

        Args:
            optimizer: A Keras optimizer or its name. Defaults to `"adam"`.
            loss: The hard loss between labels and outputs, or `None` to learn from the
                teacher alone; by output name or in order for several outputs.
            metrics: Metrics of the student's outputs.
            loss_weights: Weights of the outputs, for the hard and the soft loss alike.
            **kwargs: Passed on to Keras.

        Raises:
            InputError: where the loss does not fit the outputs, or logits and
                probabilities can't be told apart.
        """
        backends.check_flavour(self._keras.__name__, optimizer=optimizer, loss=loss)
        self._aside.plan = None
        self._aside.loss, self._aside.loss_weights = loss, loss_weights
        if self._aside.teacher is not None:
            self._plan()
        self._aside.jit_compile = kwargs.get("jit_compile")
        super().compile(
            optimizer=optimizer, loss=loss, metrics=metrics, loss_weights=loss_weights, **kwargs
        )

    def compile_from_config(self, config):
        """Compile a loaded distiller as it was compiled before it was saved."""
        self.compile(**self._keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def call(self, inputs, training=None):
        """Return the student's outputs."""
        if isinstance(inputs, teachers.Taught):
            inputs = inputs.x
        if self._settings["student_inputs"] is not None:
            inputs = self._settings["student_inputs"](inputs)
        outputs, self._aside.features = self._student_tap(inputs, training)
        return outputs

    def fit(self, x=None, y=None, *args, cache_teacher=False, **kwargs):
        """Train the student; takes what `keras.Model.fit` takes.

        Args:
            x: As for Keras, or a `tfkd.teachers.Taught` from `TeacherCache.attach`.
            y: Labels; `None` (with `x` arrays) trains on the teacher alone.
            *args: Passed on to Keras.
            cache_teacher: `True` to ask the teacher once per example before the first epoch
                and keep its answers in memory (arrays and finite datasets), or a
                `TeacherCache`.
            **kwargs: Passed on to Keras.

        Returns:
            Keras's `History`, with `loss`, `hard_loss` and `soft_loss`.

        Raises:
            InputError: if there is no teacher, the data is empty, labels don't fit the
                outputs, the teacher gives NaN, or a cached example can't be found again.
        """
        teacher = self._teacher()
        plan = self._plan()
        lessons.check_first_examples(
            x, y, plan, lambda batch: teacher.ask(batch, plan.tasks, self._shapes),
            # A cache asks about every example anyway, and checks every answer.
            teacher_runs=isinstance(teacher, teachers.Teacher) and cache_teacher is False,
        )  # fmt: skip
        if isinstance(teacher, teachers.ArrayTeacher):
            x = teacher.beside(x, plan.tasks)
        elif cache_teacher is not False:
            if cache_teacher is True:
                cache_teacher = self.ask_teacher(x)
            if cache_teacher.tasks not in (None, plan.tasks):
                raise InputError(
                    f"The cached answers are for {cache_teacher.tasks} outputs, and this distiller "
                    f"is compiled for {plan.tasks}; ask the teacher again."
                )
            x = cache_teacher.attach(x)
        answered = cache_teacher is not False or teachers.carries_answers(x)
        if not answered:
            teacher.check_threads()
        if (isinstance(x, tf.data.Dataset) or hasattr(x, "__next__")) and len(args) < 7:
            kwargs.setdefault("shuffle", False)  # Keras 3 warns of its own default otherwise
        self._allow_jit(teacher.in_graph or answered)
        try:
            return super().fit(x, y, *args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            if cache.UNKNOWN in str(error):
                raise InputError(cache.CHANGING) from None
            raise

    def ask_teacher(self, x) -> cache.TeacherCache:
        """Ask the teacher about every example, once, for more than one call of `fit`.

        Args:
            x: Arrays of shape (examples, ...), or a finite batched dataset.

        Returns:
            A cache in memory for `fit(..., cache_teacher=)`, of this distiller or of others
            with a student of the same outputs, compiled with the same loss.

        Raises:
            InputError: for a teacher that is an array, whose answers are there already.
        """
        if isinstance(self._teacher(), teachers.ArrayTeacher):
            raise InputError("A teacher that is an array holds its answers; call fit as it is.")
        return cache.ask_once(x, self._teacher(), self._plan().tasks, self._shapes)

    @property
    def metrics(self):
        """The three losses and the compiled metrics; `loss` is what is minimised."""
        ours = list(self._trackers.values())
        compiled = [m for m in super().metrics if m.name not in self._trackers]
        return [ours[0], *compiled, *ours[1:]]

    def train_step(self, data):
        """Run one optimizer step on `L = alpha · hard + (1 − alpha) · soft (+ regularizers)`."""
        x, y, sample_weight = self._keras.utils.unpack_x_y_sample_weight(data)
        x, answers, features = self._lesson(x)
        y, labelled, hard_weight = lessons.labels(y, sample_weight, self._settings["unlabeled"])
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            hard, extras = self._hard_loss_and_extras(x, y, y_pred, hard_weight, True)
            soft = self._soft_loss(answers, features, y, y_pred, sample_weight)
            alpha = tf.convert_to_tensor(self._alpha)
            loss = alpha * hard + (1.0 - alpha) * soft + extras
        self._apply(loss, tape)
        self._track(x, loss=loss, hard_loss=hard, soft_loss=soft)
        return self._logs(x, y, y_pred, sample_weight, labelled)

    def test_step(self, data):
        """Evaluate the student on the hard loss; the teacher runs if `evaluate_teacher`."""
        x, y, sample_weight = self._keras.utils.unpack_x_y_sample_weight(data)
        with_teacher = self._settings["evaluate_teacher"]
        if with_teacher:
            x, answers, features = self._lesson(x)
        y, labelled, hard_weight = lessons.labels(y, sample_weight, self._settings["unlabeled"])
        y_pred = self(x, training=False)
        hard, loss = self._hard_loss_and_extras(x, y, y_pred, hard_weight, False)
        loss = loss + hard
        if with_teacher:
            soft = self._soft_loss(answers, features, y, y_pred, sample_weight)
            self._track(x, hard_loss=hard, soft_loss=soft)
            alpha = tf.convert_to_tensor(self._alpha)
            loss += (1.0 - alpha) * (soft - hard)
        self._track(x, loss=loss)
        logs = self._logs(x, y, y_pred, sample_weight, labelled)
        hidden = () if with_teacher else ("hard_loss", "soft_loss")
        return {name: value for name, value in logs.items() if name not in hidden}

    def get_config(self):
        """Return what rebuilds the distiller; a teacher only if it was given as a path."""
        pack = keras.saving.serialize_keras_object
        settings = dict(self._settings)
        for name in ("soft_loss", "student_inputs", "teacher_inputs"):
            if settings[name] is not None:
                settings[name] = pack(settings[name])
        path = self.teacher if isinstance(self.teacher, (str, os.PathLike)) else None
        return {
            "name": self.name,
            "student": self._keras.saving.serialize_keras_object(self.student),
            "teacher": None if path is None else os.fspath(path),
            "alpha": float(tf.convert_to_tensor(self._alpha)),
            "temperature": float(tf.convert_to_tensor(self._temperature)),
            "features": [pack(one) for one in self._features],
            "teacher_feature_shapes": self._aside.feature_shapes,
            **settings,
        }

    def _teacher(self):
        if self._aside.teacher is None:
            raise InputError(
                "This distiller has no teacher (a saved one does not hold it): set "
                "distiller.teacher = teacher."
            )
        return self._aside.teacher

    def _allow_jit(self, teacher_in_graph):
        """Turn XLA off where the step can't be compiled, unless it was asked for."""
        if not getattr(self, "jit_compile", False):
            return
        if teacher_in_graph and self._settings["unlabeled"] is None:
            return
        if self._aside.jit_compile is True:
            raise InputError(
                "jit_compile=True needs a teacher that runs in TensorFlow and no unlabeled=; leave "
                "jit_compile out, or cache the teacher."
            )
        self.jit_compile = False
        self.train_function = None

    def _plan(self) -> lessons.Plan:
        aside = self._aside
        if aside.plan is None:
            settings = self._settings
            aside.plan = lessons.plan(
                self.student, self._outputs, self._aside.loss, aside.loss_weights,
                settings["soft_loss"], settings["from_logits"],
            )  # fmt: skip
            self._teacher().check(aside.plan.tasks, self._shapes)
        return aside.plan

    @property
    def _shapes(self):
        return [tensor.shape for tensor in self._outputs]

    def _build_adapters(self, teacher_shapes):
        """Make the adapters' weights; kept if a teacher of the same widths comes again."""
        if self._adapters or not self._features:
            return
        self._aside.feature_shapes = {name: list(s) for name, s in teacher_shapes.items()}
        student_shapes = self._student_tap.shapes
        for one in self._features:
            shape = student_shapes[one.student_layer]
            adapter = one.adapter(self._keras, shape, teacher_shapes[one.teacher_layer])
            if adapter is None:
                adapter = self._keras.layers.Identity()
            adapter.build(shape)
            self._adapters.append(adapter)

    def _lesson(self, x):
        """Return the inputs, the teacher's answers and its features."""
        if isinstance(x, teachers.Taught):
            plan = self._plan()
            return (x.x, *cache.decode(x.answers, len(plan.tasks), self._shapes))
        return (x, *self._teacher().ask(x, self._plan().tasks, self._shapes))

    def _hard_loss_and_extras(self, x, y, y_pred, sample_weight, training):
        """Return the compiled loss alone, and regularizers and `add_loss` terms alone."""
        extras = _per_replica(_sum(self.losses))
        if y is None or self._aside.loss is None:
            return 0.0, extras
        total = tf.cast(self._total_loss(x, y, y_pred, sample_weight, training), tf.float32)
        return total - extras, extras

    def _soft_loss(self, answers, features, y, y_pred, sample_weight):
        """Return the sum over outputs and features of weighted means over the batch."""
        plan = self._plan()
        total = 0.0
        labels = [None] * len(plan.tasks) if y is None else list(graph.leaves(y))
        for i, output in enumerate(graph.leaves(y_pred)):
            if plan.soft[i] is None:
                continue
            student = losses.logits_of(output, plan.activations[i])
            label = labels[i] if len(labels) == len(plan.tasks) else y
            values = plan.soft[i](answers[i], student, self._temperature, label)
            weight = lessons.weight_of(sample_weight, i, len(plan.tasks))
            mask = getattr(output, "_keras_mask", None)
            total += plan.weights[i] * lessons.weighted_mean(values, weight, mask)
        for one, adapter in zip(self._features, self._adapters, strict=True):
            student = adapter(self._aside.features[one.student_layer])
            values = one(features[one.teacher_layer], student)
            weight = lessons.weight_of(sample_weight, 0, len(plan.tasks))
            total += one.weight * lessons.weighted_mean(values, weight, None)
        self._aside.features = None
        return _per_replica(total)

    def _logs(self, x, y, y_pred, sample_weight, labelled):
        if y is None:
            return {name: tracker.result() for name, tracker in self._trackers.items()}
        if labelled is not None:
            y, y_pred = tf.boolean_mask(y, labelled), tf.boolean_mask(y_pred, labelled)
            if sample_weight is not None:
                sample_weight = tf.boolean_mask(sample_weight, labelled)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def _track(self, x, **values):
        batch = tf.shape(next(graph.leaves(x)))[0]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in values.items():
            self._trackers[name].update_state(value * replicas, sample_weight=batch)


class Distiller(_Step, keras.Model):
    """Train a student on the labels and on what a teacher says of the same examples.

    Minimises ``L = alpha · hard + (1 − alpha) · soft``: `hard` is the compiled loss;
    `soft` for classification is ``T² · KL(teacher ‖ student)`` between the softened
    distributions, taken on logits (Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531), for regression the squared distance to the teacher,
    plus the feature losses. A softmax or sigmoid output is recognised and turned back into
    logits. Regularizers and `add_loss` terms are added in full.

    `evaluate` and `predict` are the student's own; `distiller.student` is the trained
    model. A tf_keras student, also one wrapped by tfmot for quantization-aware training,
    is taken by the same name: the call then returns a `tf_keras.Model` with the same
    methods. Saving, checkpoints and `variables` hold the student and never the teacher:
    after loading a saved distiller, set `distiller.teacher` again.

    Args:
        student: The model to train; Functional or Sequential, Keras 3 or tf_keras.
        teacher: A Keras 3 or tf_keras model; the path of a `.keras`, `.h5`, SavedModel or
            `.tflite` file; a callable from a NumPy batch to outputs; an array of outputs,
            a row per training example; or a list of models, paths and callables, whose
            probabilities (or values) are averaged. Left exactly as it is.
        alpha: Weight of the hard loss, in [0, 1]. Defaults to 0.1, and to 0.5 for a student
            from `quantize_aware`: at that stage a soft teacher pulls a student away from
            where it has settled (measured, see benchmarks/RESULTS.md).
        temperature: Softening of both distributions, > 0. Defaults to 4, and to 1 for a
            student from `quantize_aware`.
        soft_loss: `"auto"` (by the compiled loss), a name or object of `tfkd.losses`, or a
            list or dict (by output) of them.
        features: `tfkd.losses.FeatureLoss` objects; both models then still run once a step.
        from_logits: Whether the student's outputs are logits, where it can't be told.
        teacher_from_logits: The same for the teacher.
        student_inputs: Callable from a batch of `x` to what the student takes, in TensorFlow
            operations; `evaluate` and `predict` apply it too.
        teacher_inputs: The same for the teacher.
        unlabeled: Label that marks an example without one (`-1`, `float("nan")`): such
            examples learn from the teacher alone, and metrics leave them out.
        evaluate_teacher: Whether `evaluate` and validation also report the soft loss, for
            which the teacher has to run. Defaults to `False`.
        **kwargs: `name`, `dtype`: passed on to `keras.Model`.

    Raises:
        InputError: for an alpha or temperature out of range, something that can't teach or
            be taught, unknown layers, or outputs of different shapes.

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

    @classmethod
    def from_config(cls, config):
        """Rebuild a distiller from `get_config`'s result."""
        return _from_config(config, keras, Distiller)

    def _total_loss(self, x, y, y_pred, sample_weight, training):
        return self.compute_loss(x, y, y_pred, sample_weight, training=training)

    def _apply(self, loss, tape):
        with tape:
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))


keras.saving.register_keras_serializable("tfkd", "Distiller")(Distiller)


@functools.cache
def _tf_keras_distiller():
    """Return the tf_keras twin of `Distiller`, made when first needed."""
    tf_keras = backends.tf_keras()

    @tf_keras.saving.register_keras_serializable("tfkd", "Distiller")
    class TfKerasDistiller(_Step, tf_keras.Model):
        __doc__ = Distiller.__doc__
        _keras = tf_keras

        @classmethod
        def from_config(cls, config):
            return _from_config(config, tf_keras, cls)

        def _total_loss(self, x, y, y_pred, sample_weight, training):
            del training
            return self.compute_loss(x, y, y_pred, sample_weight)

        def _apply(self, loss, tape):
            self.optimizer.minimize(loss, self.trainable_variables, tape=tape)

    TfKerasDistiller.__name__ = TfKerasDistiller.__qualname__ = "Distiller"
    return TfKerasDistiller


class _Aside:
    """What a distiller holds that Keras must neither track, save nor train."""

    given = teacher = plan = features = loss = loss_weights = feature_shapes = jit_compile = None


def _from_config(config, package, distiller_class):
    config = dict(config)
    shapes = config.pop("teacher_feature_shapes", None)
    unpack = keras.saving.deserialize_keras_object
    for name in ("soft_loss", "student_inputs", "teacher_inputs"):
        if isinstance(config.get(name), dict):
            config[name] = unpack(config[name])
    student = package.saving.deserialize_keras_object(config.pop("student"))
    distiller = distiller_class(student, **config)
    if shapes:
        # Before the weights are read: the teacher, whose widths they have, comes later.
        distiller._build_adapters({name: tuple(shape) for name, shape in shapes.items()})
    return distiller


def _policy(student) -> str:
    half = any(getattr(layer, "compute_dtype", "") == "float16" for layer in student.layers)
    return "mixed_float16" if half else "float32"


def _per_replica(value):
    """Divide by the number of replicas, whose gradients are summed."""
    return value / tf.distribute.get_strategy().num_replicas_in_sync


def _sum(values):
    return tf.add_n([tf.cast(tf.reduce_sum(v), tf.float32) for v in values]) if values else 0.0
