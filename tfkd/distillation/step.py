"""The distillation step, and all that `Distiller` does around it, for either Keras.

data ─► answers of the teacher, outputs of the student ─► objective ─► loss ─► checks ─► update
"""

from __future__ import annotations

import concurrent.futures
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfkd import losses
from tfkd.distillation import assertions, lessons, teachers, validation, worth
from tfkd.distillation.cache import cache_teacher as cache
from tfkd.distillation.cache.examples import Opened
from tfkd.distillation.objective import Objective
from tfkd.distillation.scoring import Scores, Scoring, tolerated
from tfkd.errors import InputError, TeacherWarning, argument
from tfkd.loading import file_check
from tfkd.losses import balance, pairing
from tfkd.losses import features as feature_losses
from tfkd.losses import soft as soft_losses
from tfkd.model import backends, binding, feature_extractor, graph, real_shapes

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from tfkd._typing import AnyModel, AnyTeacher, Arrays, ModelOptions

#: Defaults with the adaptive soft loss, and with a named one.
_ADAPTIVE = {"alpha": 0.5, "temperature": 1.0}
_NAMED = {
    "float": {"alpha": 0.1, "temperature": 4.0},
    "quantize-aware": {"alpha": 0.5, "temperature": 1.0},
}


class Step:
    """The distillation step, written once for both Keras flavours.

    A subclass adds the flavour's `Model` and two hooks: `_total_loss` and `_apply`.
    """

    def __init__(
        self,
        student: AnyModel,
        teacher: AnyTeacher | None = None,
        alpha: float | None = None,
        temperature: float | None = None,
        soft_loss: Any = "auto",
        features: Sequence[feature_losses.FeatureLoss] | Literal["auto"] = (),
        from_logits: bool | None = None,
        teacher_from_logits: bool | None = None,
        student_inputs: Callable[[Any], Any] | None = None,
        teacher_inputs: Callable[[Any], Any] | None = None,
        unlabeled: float | Mapping[str, float] | None = None,
        evaluate_teacher: bool = False,
        trusted: bool = False,
        **kwargs: Unpack[ModelOptions],
    ):
        # The student casts for itself; the policy is here for the optimizer's loss scaling.
        kwargs.setdefault("dtype", _policy(student))
        super().__init__(autocast=False, **kwargs)
        temperature = soft_losses.temperature_of(soft_loss, temperature)
        soft_loss = losses.resolve(soft_loss, temperature)
        defaults = _NAMED["quantize-aware" if backends.is_quantize_aware(student) else "float"]
        if _is_adaptive(soft_loss):
            defaults = _ADAPTIVE
        alpha = defaults["alpha"] if alpha is None else alpha
        temperature = defaults["temperature"] if temperature is None else temperature
        validation.check_number("alpha", alpha)
        validation.check_number("temperature", temperature)
        self.student = student
        if isinstance(features, str) and features == "auto":
            features = pairing.pair_layers(student, teacher)
        self._features = [feature_losses.get(one) for one in features]
        self._student_tap = feature_extractor.Tap(
            student, [f.student_layer for f in self._features], "student"
        )
        self._settings = {
            "soft_loss": soft_loss,
            "from_logits": from_logits,
            "teacher_from_logits": teacher_from_logits,
            "student_inputs": student_inputs,
            "teacher_inputs": teacher_inputs,
            "unlabeled": unlabeled,
            "evaluate_teacher": bool(evaluate_teacher),
        }
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
        self._feature_means = None
        if count := balance.count_auto(self._features):
            self._feature_means = self.add_weight(
                name="feature_means", shape=(2, count), dtype="float32", initializer="zeros",
                trainable=False,
                aggregation="mean" if self._keras is keras else tf.VariableAggregation.MEAN,
            )  # fmt: skip
        mean = self._keras.metrics.Mean
        self._trackers = {name: mean(name=name) for name in ("loss", "hard_loss", "soft_loss")}
        self._untracked = _Untracked()
        self._adapters = []
        if self._student_tap.inputs is not None:
            self._untracked.outputs = real_shapes.outputs_of(student, "student")
        with file_check.trusting(trusted):
            self.teacher = teacher
        self.built = True

    def __setattr__(self, name, value):
        if name == "teacher":  # Keras would track it, train it and save it
            Step.teacher.fset(self, value)
        else:
            super().__setattr__(name, value)

    def __dir__(self):
        # Keras saves every model it finds by `dir`.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def teacher(self) -> Any:
        """What teaches, as it was given; `None` after loading, until it is set again."""
        return self._untracked.given

    @teacher.setter
    def teacher(self, given: Any) -> None:
        settings, untracked = self._settings, self._untracked
        untracked.given, untracked.teacher, untracked.objective = given, None, None
        # A step that was traced with the previous teacher would go on asking that one.
        self.train_function = self.test_function = None
        if given is None:
            return
        names = [loss.teacher_layer for loss in self._features]
        if _is_array(given):
            if names:
                raise InputError("Feature losses need a Keras model as teacher, not an array.")
            untracked.teacher = teachers.ArrayTeacher(given, settings["teacher_from_logits"])
        else:
            same_x = settings["student_inputs"] is None
            untracked.teacher = teachers.Teacher(
                given, settings["teacher_from_logits"], names, settings["teacher_inputs"],
                student=self._student_tap.inputs if same_x else None,
            )  # fmt: skip
            untracked.teacher.check_stateless()
        validation.check_not_shared(self.student, untracked.teacher.models)
        self._build_adapters(untracked.teacher.feature_shapes)
        untracked.teacher.check_inputs()
        if untracked.outputs is not None:
            self._check_shapes()

    @property
    def alpha(self) -> Any:
        """Weight of the hard loss, a scalar variable; assign a number in [0, 1] to move it."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: Any) -> None:
        validation.check_number("alpha", value)
        self._alpha.assign(value)

    @property
    def temperature(self) -> Any:
        """Softening of both distributions, a scalar variable; assign a number > 0 to move it."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: Any) -> None:
        validation.check_number("temperature", value)
        self._temperature.assign(value)

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
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
        kwargs = {"metrics": metrics, **kwargs}
        backends.check_flavour(
            self._keras.__name__, optimizer=optimizer, loss=loss, metrics=metrics,
            weighted_metrics=kwargs.get("weighted_metrics"),
        )  # fmt: skip
        untracked = self._untracked
        untracked.objective = None
        untracked.loss, untracked.loss_weights = loss, loss_weights
        untracked.jit_compile = kwargs.get("jit_compile")
        if untracked.outputs is None:
            # What belongs to which output shows when the student has seen data.
            untracked.compiled = {"optimizer": optimizer, **kwargs}
            super().compile(optimizer=optimizer, loss=loss, loss_weights=loss_weights, **kwargs)
            return
        if untracked.teacher is not None:
            self._objective()
        self._compile_outputs(optimizer=optimizer, **kwargs)

    def _compile_outputs(self, **kwargs):
        """Hand Keras losses and metrics in the order of the outputs, and their names."""
        untracked, outputs = self._untracked, self._untracked.outputs
        losses_ = lessons.per_output(untracked.loss, outputs, "loss")
        weights = lessons.per_output(untracked.loss_weights, outputs, "loss_weights")
        several = len(outputs) > 1
        measured = [[] for _ in outputs.entries]
        for name in ("metrics", "weighted_metrics"):
            given = kwargs.get(name)
            for i, found in enumerate(_metrics_of(given, outputs)):
                measured[i] += found
            if isinstance(given, dict) or outputs.is_nested(given):
                bound = [[] if m is None else m for m in outputs.bind(given, name, missing=True)]
                listed = several or not isinstance(bound[0], (list, tuple))
                kwargs[name] = bound if listed else bound[0]
        if several:
            # The names that plain Keras gives the losses and metrics of this student.
            by_key = self._keras is keras and all(slot.key for slot in outputs.entries)
            self.output_names = [s.key if by_key else s.name for s in outputs.entries]
        kwargs["loss_weights"] = loss_weights = untracked.loss_weights
        if (several and loss_weights is not None) or isinstance(loss_weights, dict):
            kwargs["loss_weights"] = [1.0 if w is None else float(w) for w in weights]
        loss = None
        if any(one is not None for one in losses_):
            loss = losses_ if several else losses_[0]
        super().compile(loss=loss, **kwargs)
        untracked.metrics, untracked.has_built_metrics = measured, not any(measured)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a loaded distiller as it was compiled before it was saved."""
        config = self._keras.saving.deserialize_keras_object(config)
        outputs = self._untracked.outputs
        if outputs is not None and not outputs.ordered:
            # Keras was given lists in the flat order; as a caller's they could be another.
            for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
                if isinstance(config.get(name), (list, tuple)):
                    config[name] = outputs.packed(config[name])
        self.compile(**config)
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the student's outputs."""
        if isinstance(inputs, teachers.TeacherBatch):
            inputs = inputs.x
        if self._settings["student_inputs"] is not None:
            inputs = self._settings["student_inputs"](inputs)
        outputs, self._untracked.features = self._student_tap(inputs, training)
        return outputs

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        cache_teacher: bool | cache.TeacherCache = False,
        cache_dtype: str = "auto",
        baseline: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Train the student; takes what `keras.Model.fit` takes.

        Args:
            x: As for Keras, or a `TeacherBatch` from `TeacherCache.attach`.
            y: Labels; `None` (with `x` arrays) trains on the teacher alone. For several
                outputs a list in their order, or a dict by the student's keys or layer names.
            *args: Passed on to Keras.
            cache_teacher: `True` to ask the teacher once per example before the first epoch
                and keep its answers in memory (arrays, finite datasets, `PyDataset`s), or a
                `TeacherCache`, with which no teacher is needed.
            cache_dtype: How `cache_teacher=True` keeps answers: `"float16"`, `"float32"`, or
                `"auto"`, which takes float16 where it holds them to 1e-3 of their spread.
            baseline: The same student trained without a teacher, a Keras model (or a path), if
                there is one: what the teacher is worth is then reported as a difference to it.
            **kwargs: Passed on to Keras.

        Before the first step the teacher is scored on up to 256 labelled examples, of the
        validation data where it can be asked about them. A `TeacherWarning` reports a teacher that
        is no better than chance, has its classes in a different order, or is worse than
        `baseline`. After the last step the student is scored on the same examples. See
        `teacher_scores` and `student_scores`. If the examples are large, fewer are scored.
        Training goes on where a score can't be had (a student for one batch size alone, a
        callable teacher that knows no other examples).

        Returns:
            Keras's `History`, with `loss`, `hard_loss` and `soft_loss`.

        Raises:
            InputError: if there is no teacher, the data is empty, labels don't fit the
                outputs, the teacher gives NaN, the baseline has other outputs than the student, a
                cached example can't be found again, or the loss stops being finite.
        """
        kwargs |= dict(zip(_FIT_ARGUMENTS, args, strict=False))
        held = cache_teacher if isinstance(cache_teacher, cache.TeacherCache) else None
        teacher = None if held is not None or teachers.carries_answers(x) else self._teacher()
        self._check_compiled("fit")
        backends.check_callbacks(self._keras.__name__, kwargs.get("callbacks"))
        ends_on_nan = backends.has_callback(kwargs.get("callbacks"), "TerminateOnNaN")
        if ends_on_nan != self._untracked.ends_on_nan:
            self._untracked.ends_on_nan = ends_on_nan
            self.train_function = None  # the traced step has the check in it, or has it not
        # A dataset is opened once for all that is done with it before the first epoch.
        look = Opened(x, worth.EXAMPLES) if isinstance(x, tf.data.Dataset) else x
        self._build_student(look, y)
        objective = self._objective()
        self._check_class_weight(look, y, kwargs.get("class_weight"))
        scoring = self._scoring()
        baseline = None if baseline is None else scoring.alike(baseline)
        if self._untracked.teacher is not None:
            validation.check_not_shared(self.student, self._untracked.teacher.models)
        # A cache asks about every example anyway, and checks every answer.
        asked = isinstance(teacher, teachers.Teacher) and cache_teacher is False
        validation.check_first_examples(look, y, objective, self._ask if asked else None)
        held_out = kwargs.get("validation_data")
        y, kwargs["sample_weight"] = objective.in_order(y, kwargs.get("sample_weight"))
        self._prepare_validation(kwargs, cache_teacher, cache_dtype)
        x, look = self._with_answers(x, look, teacher, cache_teacher, cache_dtype)
        answered = cache_teacher is not False or teachers.carries_answers(x)
        if not answered:
            teacher.check_threads()
        if isinstance(x, tf.data.Dataset) or hasattr(x, "__next__"):
            kwargs.setdefault("shuffle", False)  # Keras 3 warns of its own default otherwise
        if kwargs["sample_weight"] is None:
            del kwargs["sample_weight"]
        talks = kwargs.get("verbose", "auto") not in (0, False)
        sample, batch_size = None, kwargs.get("batch_size") or 32
        with tolerated("teacher", raises=True):
            sample = scoring.score_teacher(look, y, held_out, batch_size)
        del look  # an open dataset holds its buffers
        if sample is not None and baseline is not None:
            scoring.score_baseline(sample, baseline)
        scoring.talk_of_teacher(sample, talks)
        self._allow_jit(answered or teacher.in_graph)
        with assertions.told():
            history = super().fit(x, y, **kwargs)
        self._look_back(history)
        if sample is not None:
            with tolerated("student"):
                scoring.score_student(sample, talks)
        return history

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run one step on one batch; takes what `keras.Model.train_on_batch` takes.

        Args:
            x: As for Keras.
            y: As for `fit`.
            sample_weight: As for Keras.
            class_weight: As for Keras.
            **kwargs: Passed on to Keras.

        Raises:
            InputError: for a `class_weight` that doesn't fit the labels.
        """
        if class_weight is not None:
            self._build_student(x, y)
            self._check_class_weight(x, y, class_weight)
        return super().train_on_batch(x, y, sample_weight, class_weight, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the student's losses and metrics; takes what `keras.Model.evaluate` takes.

        Without labels or without a compiled loss the loss is the soft loss, for which the
        teacher runs.

        Args:
            x: As for Keras.
            y: As for `fit`.
            *args: Passed on to Keras.
            **kwargs: Passed on to Keras.

        Returns:
            What Keras returns.

        Raises:
            InputError: for labels that don't fit the outputs.
        """
        if "_use_cached_eval_dataset" not in kwargs:  # not Keras's own call inside fit
            self._check_compiled("evaluate")
            kwargs |= dict(zip(_EVALUATE_ARGUMENTS, args, strict=False))
            args = ()
            if x is not None:
                self._build_student(x, y)
            y, weight = self._objective().in_order(y, kwargs.pop("sample_weight", None))
            if weight is not None:
                kwargs["sample_weight"] = weight
        labelled = y is not None or (
            (validation.is_data_set(x) and len(_element_parts(x)) > 1) or hasattr(x, "__next__")
        )
        # Keras sums metrics over replicas where its names are those of the step's.
        self._untracked.hides = not self._evaluates_teacher(labelled)
        try:
            with assertions.told():
                return super().evaluate(x, y, *args, **kwargs)
        finally:
            self._untracked.hides = False

    def cache_teacher(self, x: Arrays, dtype: str = "auto") -> cache.TeacherCache:
        """Ask the teacher about every example, once, for more than one call of `fit`.

        Args:
            x: Arrays of shape (examples, ...), a finite batched dataset, or a `PyDataset`.
            dtype: As `cache_dtype` of `fit`.

        Returns:
            A cache in memory for `fit(..., cache_teacher=)`, of this distiller or of others
            with a student of the same outputs, compiled with the same loss.

        Raises:
            InputError: for a teacher that is an array, whose answers are there already.
        """
        if isinstance(self._teacher(), teachers.ArrayTeacher):
            raise InputError("A teacher that is an array holds its answers; call fit as it is.")
        self._build_student(x, None)
        objective = self._objective()
        return cache.cache_answers(
            x, self._ask, self._teacher().in_graph, objective.tasks, objective.shapes,
            objective.outputs.labels, dtype=dtype,
        )  # fmt: skip

    def ask_teacher(self, x: Arrays, dtype: str = "auto") -> cache.TeacherCache:
        """Do what `cache_teacher` does; its old name, served until tfkd 0.3."""
        warnings.warn(
            "Distiller.ask_teacher is Distiller.cache_teacher now; the old name is removed in "
            "tfkd 0.3.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.cache_teacher(x, dtype)

    def score(
        self, x: Any, y: Any, who: Any = "student", part: str = "validation"
    ) -> list[worth.Score | None]:
        """Score the student, its teacher or another model on labelled arrays.

        Args:
            x: Arrays of shape (examples, ...).
            y: Labels, as for `fit`.
            who: `"student"`, `"teacher"`, or a model whose outputs are the student's.
            part: What the examples are called in errors.

        Returns:
            A `worth.Score` per output; `None` for one without labels or a hard loss.
        """
        objective, scoring = self._objective(), self._scoring()
        sample = worth.Sample(x, validation.bound_labels(y, objective), objective.lessons, part)
        if isinstance(who, str):
            return sample.scores(scoring.answers_of(who), who)
        return sample.scores(scoring.answers_of(scoring.alike(who)), who.name)

    @property
    def metrics(self):
        """The three losses and the compiled metrics; `loss` is what is minimised."""
        ours = list(self._trackers.values())[: 1 if self._untracked.hides else None]
        compiled = [m for m in super().metrics if m.name not in self._trackers]
        return [ours[0], *compiled, *ours[1:]]

    @property
    def teacher_scores(self) -> list[worth.Score | None] | None:
        """The teacher's score per output on labelled examples, from the last `fit`."""
        return self._untracked.scores.teacher

    @property
    def student_scores(self) -> list[worth.Score | None] | None:
        """The student's score per output after the last `fit`, on the same examples."""
        return self._untracked.scores.student

    def train_step(self, data: Any) -> dict[str, Any]:
        """Run one optimizer step on `L = alpha · hard + (1 − alpha) · soft (+ regularizers)`."""
        x, y, sample_weight = self._keras.utils.unpack_x_y_sample_weight(data)
        x, answers, features = self._lesson(x)
        batch = self._objective().batch(y, sample_weight, checked=not self._is_jitted)
        with tf.GradientTape(persistent=self._feature_means is not None) as tape:
            y_pred = self(x, training=True)
            hard, extras = self._hard_loss_and_extras(x, batch, y_pred, True)
            soft = self._soft_loss(answers, features, batch, y_pred, hard, tape)
            alpha = tf.convert_to_tensor(self._alpha)
            loss = alpha * hard + (1.0 - alpha) * soft + extras
        checks = self._assertions(
            loss, inputs=x, labels=y, teacher_answers=answers, outputs_of_the_student=y_pred
        )
        with tf.control_dependencies(checks):
            self._apply(loss, tape)
        self._track(x, loss=loss, hard_loss=hard, soft_loss=soft)
        return self._logs(x, batch, y_pred)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate the student on the hard loss; the teacher runs if `evaluate_teacher`.

        Where there are no labels or no hard loss, the loss is the soft loss.
        """
        x, y, sample_weight = self._keras.utils.unpack_x_y_sample_weight(data)
        objective = self._objective()
        with_teacher = self._evaluates_teacher(labelled=y is not None)
        if with_teacher:
            x, answers, features = self._lesson(x)
        elif isinstance(x, teachers.TeacherBatch):
            x = x.x
        batch = objective.batch(y, sample_weight, checked=not self._is_jitted)
        y_pred = self(x, training=False)
        hard, loss = self._hard_loss_and_extras(x, batch, y_pred, False)
        loss = loss + hard
        if with_teacher:
            soft = self._soft_loss(answers, features, batch, y_pred, hard, None)
            self._track(x, hard_loss=hard, soft_loss=soft)
            alone = objective.is_soft_alone(labelled=y is not None)
            alpha = 0.0 if alone else tf.convert_to_tensor(self._alpha)
            loss += (1.0 - alpha) * (soft - hard)
        self._track(x, loss=loss)
        logs = self._logs(x, batch, y_pred)
        hidden = () if with_teacher else ("hard_loss", "soft_loss")
        return {name: value for name, value in logs.items() if name not in hidden}

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the distiller without its teacher."""
        pack = keras.saving.serialize_keras_object
        settings = dict(self._settings)
        for name in ("soft_loss", "student_inputs", "teacher_inputs"):
            if settings[name] is not None:
                settings[name] = pack(settings[name])
        return {
            "name": self.name,
            "student": self._keras.saving.serialize_keras_object(self.student),
            "alpha": float(tf.convert_to_tensor(self._alpha)),
            "temperature": float(tf.convert_to_tensor(self._temperature)),
            "features": [pack(one) for one in self._features],
            "teacher_feature_shapes": self._untracked.feature_shapes,
            **settings,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild a distiller from `get_config`'s result."""
        config = dict(config)
        for name in ("teacher", "trusted"):  # a file must not name other files to read
            config.pop(name, None)
        shapes = config.pop("teacher_feature_shapes", None)
        unpack = keras.saving.deserialize_keras_object
        for name in ("soft_loss", "student_inputs", "teacher_inputs"):
            if isinstance(config.get(name), dict):
                config[name] = unpack(config[name])
        student = cls._keras.saving.deserialize_keras_object(config.pop("student"))
        distiller = cls(student, **config)
        if shapes:
            # The saved weights need adapters now; the teacher, which sets their widths, comes last.
            distiller._build_adapters({name: tuple(shape) for name, shape in shapes.items()})
        return distiller

    def _teacher(self):
        if self._untracked.teacher is None:
            raise InputError(
                "This distiller has no teacher (a saved one does not hold it): set "
                "distiller.teacher = teacher."
            )
        return self._untracked.teacher

    def _check_compiled(self, method: str):
        if getattr(self, "optimizer", None) is None:
            raise InputError(f"Call distiller.compile(optimizer, loss) before {method}.")

    def _check_class_weight(self, x, y, class_weight):
        """Raise where Keras would look up the class weights of other things than the classes."""
        if class_weight is None:
            return
        if self._settings["unlabeled"] is not None and self._keras is not keras:
            raise InputError(
                "tf_keras looks up class_weight for missing labels too, and finds none; with "
                f"{argument('unlabeled')} give sample_weight instead."
            )
        validation.check_class_weight(x, y, self._objective(), self._keras is keras)

    def _allow_jit(self, teacher_in_graph):
        """Turn XLA off where it can't compile the step; raise if the caller asked for XLA."""
        if not getattr(self, "jit_compile", False):
            return
        if teacher_in_graph and self._settings["unlabeled"] is None:
            return
        if self._untracked.jit_compile is True:
            raise InputError(
                f"{argument('jit_compile', True)} needs a teacher that runs in TensorFlow and no "
                f"{argument('unlabeled')}; leave jit_compile out, or cache the teacher."
            )
        self.jit_compile = False
        self.train_function = None

    def _objective(self) -> Objective:
        untracked = self._untracked
        if untracked.objective is None:
            untracked.objective = Objective(
                self.student,
                untracked.outputs,
                untracked.loss,
                untracked.loss_weights,
                self._settings,
            )
            if untracked.teacher is not None:
                untracked.teacher.check(
                    untracked.objective.tasks, untracked.outputs, untracked.objective.axes
                )
        if untracked.metrics is not None:
            untracked.objective.metrics = untracked.metrics
        return untracked.objective

    def _build_student(self, x, y):
        """Show a student without a graph the first examples: its outputs are known then."""
        untracked = self._untracked
        if untracked.outputs is not None:
            return
        few, _ = validation.first_examples(x, y, count=1)
        if few is None:
            raise InputError(
                f"The outputs of the student {self.student.name!r} ({type(self.student).__name__}) "
                "show only when it is called, and this data can't be looked into beforehand: give "
                "arrays or a dataset, or rebuild it with the Functional API."
            )
        values = self(few, training=False)
        if graph.has_graph(self.student):  # a Sequential, which this has built
            self._student_tap = feature_extractor.Tap(self.student, (), "student")
            untracked.outputs = real_shapes.outputs_of(self.student, "student")
        else:
            owner = f"student {self.student.name!r}"
            untracked.outputs = binding.slots_of_values(values, "output", owner)
        if untracked.teacher is not None:
            untracked.teacher.check_shapes(untracked.outputs)
        if untracked.compiled is not None:
            self._objective()
            self._compile_outputs(**untracked.compiled)

    def _check_shapes(self):
        """Raise unless the outputs have the shapes of the teacher's, stated or real."""
        untracked = self._untracked
        try:
            untracked.teacher.check_shapes(untracked.outputs)
        except InputError:
            if self._student_tap.inputs is None or not untracked.teacher.measure():
                raise
            untracked.outputs = real_shapes.outputs_of(self.student, "student", always=True)
            untracked.teacher.check_shapes(untracked.outputs)

    def _build_adapters(self, teacher_shapes):
        """Make the adapters' weights; kept if a teacher of the same widths comes again."""
        if self._adapters or not self._features:
            return
        self._untracked.feature_shapes = {name: list(s) for name, s in teacher_shapes.items()}
        student_shapes = self._student_tap.shapes
        for one in self._features:
            shape = student_shapes[one.student_layer]
            adapter = one.adapter(self._keras, shape, teacher_shapes[one.teacher_layer])
            if adapter is None:
                adapter = self._keras.layers.Identity()
            adapter.build(shape)
            self._adapters.append(adapter)

    def _ask(self, x):
        """Return the teacher's answers for a batch, per output of the student."""
        objective = self._objective()
        return self._teacher().ask(
            x, objective.tasks, objective.shapes, objective.outputs, objective.axes
        )

    def _with_answers(self, x, look, teacher, cache_teacher, dtype):
        """Put the teacher's answers beside the data, and what looks at it, if they are kept."""
        objective = self._objective()
        if isinstance(teacher, teachers.ArrayTeacher):
            answers = teacher.beside(x, objective.tasks, objective.outputs)
            x = teachers.TeacherBatch(x, cache.encode_arrays(answers, objective.outputs.labels))
            return x, x
        if cache_teacher is False:
            return x, look
        if cache_teacher is True:
            held = self.cache_teacher(look, dtype)
        else:
            held = cache_teacher
            layers = [one.teacher_layer for one in self._features]
            objective.check_cache(held, layers, self._untracked.teacher)
        attached = held.attach(x)
        return attached, look.changed(held.beside) if isinstance(look, Opened) else attached

    def _scoring(self) -> Scoring:
        return Scoring(
            self._objective(), lambda x: self(x, training=False), self._ask,
            self._untracked.teacher, self._student_tap, self._settings["student_inputs"],
            self._untracked.scores,
        )  # fmt: skip

    def _prepare_validation(self, kwargs, cache_teacher, dtype):
        """Bind the labels of `validation_data`, and add the teacher's answers where needed."""
        given = kwargs.get("validation_data")
        if given is None:
            return
        objective = self._objective()
        arrays = isinstance(given, (list, tuple)) and not isinstance(given, teachers.TeacherBatch)
        if arrays:
            x, y, weight = (*given, None, None)[:3]
            if y is not None:
                validation.check_first_examples(x, y, objective, None)
            y, weight = objective.in_order(y, weight)
            given = (x,) if y is None else (x, y) if weight is None else (x, y, weight)
            kwargs["validation_data"] = given
            labelled = y is not None
        else:
            x = given
            labelled = len(_element_parts(given)) > 1
        asks = objective.has_soft and self._evaluates_teacher(labelled)
        if not asks or teachers.carries_answers(x):
            return
        if isinstance(cache_teacher, cache.TeacherCache) and (
            self._untracked.teacher is None or (arrays and cache_teacher.covers(x))
        ):
            attached = cache_teacher.attach(x)
        elif cache_teacher is True and isinstance(self._teacher(), teachers.Teacher):
            attached = self.cache_teacher(x, dtype).attach(x)
        else:
            if isinstance(self._teacher(), teachers.ArrayTeacher):
                self._teacher().ask(x, None)  # raises: it answers for the training rows only
            return
        kwargs["validation_data"] = (attached, *given[1:]) if arrays else attached

    def _evaluates_teacher(self, labelled: bool) -> bool:
        """Tell whether evaluation reports the soft loss, for which the teacher is asked."""
        return self._settings["evaluate_teacher"] or self._objective().is_soft_alone(labelled)

    def _lesson(self, x):
        """Return the inputs, the teacher's answers and its features."""
        if isinstance(x, teachers.TeacherBatch):
            return (x.x, *self._objective().answers_in(x.answers))
        return (x, *self._ask(x))

    @property
    def _is_jitted(self) -> bool:
        return getattr(self, "jit_compile", False) is True

    def _assertions(self, loss, **values) -> list:
        """Return what has to hold before a step moves a weight."""
        if self._is_jitted or self._untracked.ends_on_nan:
            return []
        values["weights_of_the_student"] = self.student.trainable_weights
        return [validation.assert_finite(loss, **values)]

    def _hard_loss_and_extras(self, x, batch, y_pred, training):
        """Return the compiled loss alone, and regularizers and `add_loss` terms alone."""
        extras = _per_replica(_sum(self.losses))
        objective = self._objective()
        if batch.labels is None or not objective.has_hard:
            return 0.0, extras
        y, outputs, weights = objective.hard_terms(batch, y_pred)
        total = tf.cast(self._total_loss(x, y, outputs, weights, training), tf.float32)
        total = tf.reduce_mean(total) - extras  # a loss without a reduction has one per example
        # The mean over a replica without examples is NaN.
        some = tf.shape(next(graph.leaves(y_pred)))[0] > 0
        return tf.where(some, total, tf.zeros_like(total)), extras

    def _soft_loss(self, answers, features, batch, y_pred, hard, tape):
        """Return the sum over outputs and features of weighted means over the batch."""
        objective = self._objective()
        total = objective.soft(answers, batch, y_pred, self._temperature)
        ours, self._untracked.features = self._untracked.features, None
        values = []
        for one, adapter in zip(self._features, self._adapters, strict=True):
            feature = ours[one.student_layer]
            mask = getattr(feature, "_keras_mask", None)
            more = {"mask": mask} if feature_losses.takes_mask(one) else {}
            each = one(features[one.teacher_layer], adapter(feature), **more)
            values.append(lessons.weighted_mean(each, batch.weight(0), None))
        reference = total if objective.has_soft else hard
        weights = balance.weights_of(
            self._features, values, reference, ours, self._feature_means, tape
        )
        for weight, value in zip(weights, values, strict=True):
            total += weight * value
        return _per_replica(total)

    def _logs(self, x, batch, y_pred):
        if batch.labels is None:
            return {name: tracker.result() for name, tracker in self._trackers.items()}
        terms = self._objective().metric_terms(batch, y_pred)
        self._build_metrics(*terms)
        return self.compute_metrics(x, *terms)

    def _build_metrics(self, y, y_pred, weight):
        """Make the metrics' variables; made in a trace, they would have TensorFlow repeat it."""
        if (
            self._untracked.has_built_metrics
            or tf.executing_eagerly()
            or tf.distribute.has_strategy()
        ):
            return
        self._untracked.has_built_metrics = True

        def build():
            zeros = keras.tree.map_structure(_zeros_like, (y, y_pred, weight))
            self.compute_metrics(None, *zeros)

        def reset():
            for metric in self.metrics:
                if metric.name not in self._trackers:
                    metric.reset_state()

        # A trace does not extend to other threads. Unlike in `tf.init_scope`, variables made
        # there are tracked by no function.
        with concurrent.futures.ThreadPoolExecutor(1) as outside:
            # An error that a metric raises for zeros is dropped: the step raises it again.
            outside.submit(build).exception()
            outside.submit(reset).result()

    def _track(self, x, **values):
        batch = tf.shape(next(graph.leaves(x)))[0]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in values.items():
            self._trackers[name].update_state(value * replicas, sample_weight=batch)

    def _look_back(self, history):
        """Warn about what only a whole run shows."""
        soft = history.history.get("soft_loss")
        if soft and self._objective().has_soft and all(value == 0.0 for value in soft):
            warnings.warn(
                "The soft loss was exactly 0 in every epoch, so the teacher taught nothing: it "
                "gave the same answers as the student (is the student its copy, or the teacher "
                "constant?).",
                TeacherWarning,
                stacklevel=3,
            )
        broken = validation.broken_layers(self.student)
        if broken:
            warnings.warn(
                f"The student's weights hold NaN or infinite values after training (in "
                f"{', '.join(map(repr, broken[:3]))}): its answers are worthless. Lower the "
                "learning rate or set the optimizer's clipnorm, and train again.",
                stacklevel=3,
            )


class _Untracked:
    """What a distiller holds that Keras must neither track, save nor train."""

    given = teacher = objective = features = loss = loss_weights = feature_shapes = jit_compile = (
        None
    )
    outputs: binding.Slots | None = None
    metrics: list | None = None
    hides = False  # whether `metrics` leaves out the hard and the soft loss
    compiled: dict | None = None  # what `compile` was given before the outputs were known
    ends_on_nan = False
    has_built_metrics = False

    def __init__(self):
        self.scores = Scores()


def _zeros_like(value):
    """Return zeros of a traced tensor's shape and dtype, two along a free axis."""
    if value is None:
        return None
    return tf.zeros([2 if size is None else size for size in value.shape], value.dtype)


_FIT_ARGUMENTS = (
    "batch_size", "epochs", "verbose", "callbacks", "validation_split", "validation_data",
    "shuffle", "class_weight", "sample_weight", "initial_epoch", "steps_per_epoch",
    "validation_steps", "validation_batch_size", "validation_freq",
)  # fmt: skip
_EVALUATE_ARGUMENTS = ("batch_size", "verbose", "sample_weight", "steps", "callbacks")


def _metrics_of(given, outputs: binding.Slots) -> list[list]:
    """Return the metrics of each output, as Keras reads what `compile` was given."""
    count = len(outputs)
    if not given:
        return [[] for _ in range(count)]
    if isinstance(given, dict) or outputs.is_nested(given):
        given = outputs.bind(given, "metrics", missing=True)
    elif count == 1 or not isinstance(given, (list, tuple)) or len(given) != count:
        given = [given] * count
    listed = [one if isinstance(one, (list, tuple)) else [one] for one in given]
    return [[metric for metric in one if metric is not None] for one in listed]


def _is_adaptive(soft_loss) -> bool:
    """Tell whether every output that learns from the teacher has the adaptive loss."""
    if isinstance(soft_loss, (list, tuple, dict)) and not lessons.is_config(soft_loss):
        values = soft_loss.values() if isinstance(soft_loss, dict) else soft_loss
        named = [value for value in values if value is not None]
        return bool(named) and all(isinstance(v, str) and v == "adaptive" for v in named)
    return isinstance(soft_loss, str) and soft_loss == "adaptive"


def _is_array(given) -> bool:
    """Tell whether a teacher is arrays of its outputs: one, or a list or dict of them."""
    parts = list(graph.leaves(given))
    return bool(parts) and all(isinstance(one, (np.ndarray, tf.Tensor)) for one in parts)


def _element_parts(data) -> tuple:
    """Return the parts of an element of a data set that isn't arrays: x, y, weights."""
    if isinstance(data, tf.data.Dataset):
        spec = data.element_spec
        return spec if type(spec) is tuple else (spec,)
    few = data[0] if hasattr(data, "__getitem__") and hasattr(data, "__len__") else (None, None)
    return few if type(few) is tuple else (few,)


def _policy(student) -> str:
    half = any(getattr(layer, "compute_dtype", "") == "float16" for layer in student.layers)
    return "mixed_float16" if half else "float32"


def _per_replica(value):
    """Divide by the number of replicas, whose gradients are summed."""
    return value / tf.distribute.get_strategy().num_replicas_in_sync


def _sum(values):
    return tf.add_n([tf.cast(tf.reduce_sum(v), tf.float32) for v in values]) if values else 0.0
