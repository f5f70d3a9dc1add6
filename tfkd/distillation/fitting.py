"""`fit` and `evaluate`, and their work before and after the training steps, for either Keras.

data ─► check ─► bind to outputs ─► add answers ─► score teacher ─► Keras's `fit` ─► score student
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfkd.distillation import assertions, teachers, validation, worth
from tfkd.distillation.cache import cache_teacher as cache
from tfkd.distillation.cache.examples import Opened
from tfkd.distillation.scoring import Scoring, tolerated
from tfkd.distillation.step import Step
from tfkd.errors import InputError, TeacherWarning, argument
from tfkd.model import backends

if TYPE_CHECKING:
    from tfkd._typing import Arrays

_FIT_ARGUMENTS = (
    "batch_size", "epochs", "verbose", "callbacks", "validation_split", "validation_data",
    "shuffle", "class_weight", "sample_weight", "initial_epoch", "steps_per_epoch",
    "validation_steps", "validation_batch_size", "validation_freq",
)  # fmt: skip
_EVALUATE_ARGUMENTS = ("batch_size", "verbose", "sample_weight", "steps", "callbacks")


class Fitting(Step):
    """Train and evaluate: bind the data, query and score the teacher, and call Keras."""

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
        """Train the student; accepts the arguments of `keras.Model.fit`.

        Args:
            x: As for Keras, or a `TeacherBatch` from `TeacherCache.attach`.
            y: Labels; `None` (with arrays as `x`) trains on the teacher's answers alone. For
                several outputs, a list in their order, or a dict whose keys are the student's
                output keys or layer names.
            *args: Passed to Keras.
            cache_teacher: `True` runs the teacher once per example before the first epoch and
                keeps its answers in memory (for arrays, finite datasets and `PyDataset`s). A
                `TeacherCache` replaces the teacher, which is then not needed.
            cache_dtype: How `cache_teacher=True` stores answers: `"float16"`, `"float32"`, or
                `"auto"`, which uses float16 where the rounding error is at most 1e-3 of the
                answers' standard deviation.
            baseline: The same student trained without a teacher (a Keras model or a path), if
                you have one. `fit` then reports how much better the new student is.
            **kwargs: Passed to Keras.

        Before the first step, `fit` scores the teacher on up to 256 labelled examples, taken from
        the validation data if the teacher can run on it, and if kept answers are its own. A
        `TeacherWarning` reports a teacher that is no better than chance, has its classes in a
        different order, or is worse than `baseline`. After the last step, `fit` scores the
        student on the same examples. See `teacher_scores` and `student_scores`. If the examples are
        large, fewer are scored.
        If a score can't be computed (the student has a fixed batch size, or a callable teacher
        knows no other examples), training continues without it.

        Returns:
            Keras's `History`, with `loss`, `hard_loss` and `soft_loss`.

        Raises:
            InputError: if there is no teacher, the data is empty, labels don't fit the
                outputs, the teacher gives NaN, the baseline's outputs differ from the student's,
                the cache lacks an example, or the loss becomes NaN or infinite.
        """
        kwargs |= dict(zip(_FIT_ARGUMENTS, args, strict=False))
        held = _held_answers(x, cache_teacher)
        teacher = None if held is not None else self._teacher()
        self._check_compiled("fit")
        backends.check_callbacks(self._keras.__name__, kwargs.get("callbacks"))
        ends_on_nan = backends.has_callback(kwargs.get("callbacks"), "TerminateOnNaN")
        if ends_on_nan != self._untracked.ends_on_nan:
            self._untracked.ends_on_nan = ends_on_nan
            self.train_function = None  # tracing fixes whether the step checks for NaN
        # A dataset is opened once for all readers before the first epoch.
        probe = Opened(x, worth.EXAMPLES) if isinstance(x, tf.data.Dataset) else x
        self._build_student(probe, y)
        objective = self._objective()
        self._check_class_weight(probe, y, kwargs.get("class_weight"))
        scoring = self._scoring()
        baseline = None if baseline is None else scoring.alike(baseline)
        if self._untracked.teacher is not None:
            validation.check_not_shared(self.student, self._untracked.teacher.models)
        # Building a cache runs the teacher on every example and checks every answer anyway.
        runs_teacher = isinstance(teacher, teachers.Teacher) and cache_teacher is False
        validation.check_first_examples(probe, y, objective, self._ask if runs_teacher else None)
        held_out = kwargs.get("validation_data")
        if held is not None:
            own = teachers.fingerprint_of(self._untracked.teacher)
            objective.check_cache(held, [one.teacher_layer for one in self._features], own)
            # Score the answers that teach, which need not be those of the distiller's teacher.
            held_out = held_out if own == held.teacher else None
        y, kwargs["sample_weight"] = objective.in_order(y, kwargs.get("sample_weight"))
        self._prepare_validation(kwargs, cache_teacher, cache_dtype)
        x, probe = self._with_answers(x, probe, teacher, cache_teacher, cache_dtype)
        if held is not None and self._features:
            self._adapt_to_cache(cache.feature_shapes(teachers.answers_beside(x)))
        has_answers = cache_teacher is not False or teachers.carries_answers(x)
        if not has_answers:
            teacher.check_threads()
        if isinstance(x, tf.data.Dataset) or hasattr(x, "__next__"):
            kwargs.setdefault("shuffle", False)  # else Keras 3 warns about its own default
        if kwargs["sample_weight"] is None:
            del kwargs["sample_weight"]
        verbose = kwargs.get("verbose", "auto") not in (0, False)
        sample, batch_size = None, kwargs.get("batch_size") or 32
        with tolerated("teacher", raises=True):
            sample = scoring.score_teacher(
                probe, y, held_out, batch_size, kwargs.get("sample_weight")
            )
        del probe  # an open dataset holds its buffers
        if sample is not None and baseline is not None:
            scoring.score_baseline(sample, baseline)
        scoring.report_teacher(sample, verbose)
        self._allow_jit(has_answers or teacher.in_graph)
        with assertions.as_input_errors():
            history = super().fit(x, y, **kwargs)
        self._warn_after_training(history)
        if sample is not None:
            with tolerated("student"):
                scoring.score_student(sample, verbose)
        return history

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run one step on one batch; accepts the arguments of `keras.Model.train_on_batch`.

        Args:
            x: As for Keras.
            y: As for `fit`.
            sample_weight: As for Keras.
            class_weight: As for Keras.
            **kwargs: Passed to Keras.

        Raises:
            InputError: for a `class_weight` that doesn't fit the labels.
        """
        self._build_student(x, y)
        self._check_class_weight(x, y, class_weight)
        with assertions.as_input_errors():
            return super().train_on_batch(x, y, sample_weight, class_weight, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Evaluate on one batch; accepts the arguments of `keras.Model.test_on_batch`.

        Args:
            x: As for Keras.
            y: As for `fit`.
            sample_weight: As for Keras.
            **kwargs: Passed to Keras.
        """
        self._build_student(x, y)
        with assertions.as_input_errors():
            return super().test_on_batch(x, y, sample_weight, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the student's losses and metrics; accepts what `keras.Model.evaluate` accepts.

        Without labels or without a compiled loss, the loss is the soft loss, and the teacher
        runs to compute it.

        Args:
            x: As for Keras.
            y: As for `fit`.
            *args: Passed to Keras.
            **kwargs: Passed to Keras.

        Returns:
            The return value of `keras.Model.evaluate`.

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
        # Keras sums metrics over replicas only if `metrics` has the names that the step returns.
        self._untracked.hides_hard_and_soft = not self._evaluates_teacher(labelled)
        try:
            with assertions.as_input_errors():
                return super().evaluate(x, y, *args, **kwargs)
        finally:
            self._untracked.hides_hard_and_soft = False

    def cache_teacher(self, x: Arrays, dtype: str = "auto") -> cache.TeacherCache:
        """Run the teacher once on every example and keep its answers for several calls of `fit`.

        Args:
            x: Arrays of shape (examples, ...), a finite batched dataset, or a `PyDataset`.
            dtype: As `cache_dtype` of `fit`.

        Returns:
            A cache in memory for `fit(..., cache_teacher=)` of this distiller, or of another
            one whose student has the same outputs and which is compiled with the same loss.

        Raises:
            InputError: if the teacher is an array, which already holds its answers.
        """
        if isinstance(self._teacher(), teachers.ArrayTeacher):
            raise InputError(
                "A teacher that is an array already holds its answers; call fit without a cache."
            )
        self._build_student(x, None)
        objective = self._objective()
        with assertions.as_input_errors():
            return cache.cache_answers(
                x, self._ask, self._teacher().in_graph, objective.tasks, objective.shapes,
                objective.outputs.labels, dtype=dtype, teacher=self._teacher(),
            )  # fmt: skip

    def ask_teacher(self, x: Arrays, dtype: str = "auto") -> cache.TeacherCache:
        """Call `cache_teacher`; this old name will be removed in tfkd 0.3."""
        warnings.warn(
            "Distiller.ask_teacher is now Distiller.cache_teacher; the old name will be removed in "
            "tfkd 0.3.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.cache_teacher(x, dtype)

    def score(
        self, x: Any, y: Any = None, who: Any = "student", part: str = "validation"
    ) -> list[worth.Score | None]:
        """Score the student, its teacher or another model on labelled examples.

        Args:
            x: Arrays of shape (examples, ...), or a part of a `tfkd.Data`, such as a
                `tfkd.Stream`, which has its labels with it and is read in batches.
            y: Labels, as for `fit`.
            who: `"student"`, `"teacher"`, or a model or `TFLiteModel` with the same outputs as
                the student.
            part: The name of these examples in error messages.

        Returns:
            A `worth.Score` per output; `None` for an output without labels or without a hard loss.

        Raises:
            InputError: for labels that don't fit their output.
        """
        self._build_student(x, y)
        objective, scoring = self._objective(), self._scoring()
        name = who if isinstance(who, str) else getattr(who, "name", type(who).__name__)
        answers = scoring.answers_of(who if isinstance(who, str) else scoring.alike(who))
        return worth.sample_of(x, y, objective, part).scores(answers, name, check_labels=True)

    @property
    def teacher_scores(self) -> list[worth.Score | None] | None:
        """The teacher's score per output on labelled examples, from the last `fit`."""
        return self._untracked.scores.teacher

    @property
    def student_scores(self) -> list[worth.Score | None] | None:
        """The student's score per output after the last `fit`, on the same examples."""
        return self._untracked.scores.student

    def _check_class_weight(self, x, y, class_weight):
        """Raise if Keras would look up class weights by values that are not class numbers."""
        if class_weight is None:
            return
        if self._settings["unlabeled"] is not None and self._keras is not keras:
            raise InputError(
                "tf_keras also looks up class_weight for missing labels, and finds none; with "
                f"{argument('unlabeled')} give sample_weight instead of class_weight."
            )
        validation.check_class_weight(x, y, self._objective(), self._keras is keras)

    def _allow_jit(self, teacher_in_graph):
        """Turn XLA off if it can't compile the step; raise if the caller requested XLA."""
        if not getattr(self, "jit_compile", False):
            return
        if teacher_in_graph and self._settings["unlabeled"] is None:
            return
        if self._untracked.jit_compile is True:
            raise InputError(
                f"{argument('jit_compile', True)} needs a teacher that runs in TensorFlow, and "
                f"does not work with {argument('unlabeled')}; leave jit_compile out, or, without "
                f"{argument('unlabeled')}, cache the teacher."
            )
        self.jit_compile = False
        self.train_function = None

    def _with_answers(self, x, probe, teacher, cache_teacher, dtype):
        """Return `x` and `probe`, with the teacher's answers added if they are kept."""
        objective = self._objective()
        if isinstance(teacher, teachers.ArrayTeacher):
            answers = teacher.beside(x, objective.tasks, objective.outputs)
            x = teachers.TeacherBatch(x, cache.encode_arrays(answers, objective.outputs.labels))
            return x, x
        if cache_teacher is False:
            return x, probe
        held = self.cache_teacher(probe, dtype) if cache_teacher is True else cache_teacher
        attached = held.attach(x)
        return attached, probe.changed(held.beside) if isinstance(probe, Opened) else attached

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
                self._teacher().ask(x, None)  # raises: it has only answers for training rows
            return
        kwargs["validation_data"] = (attached, *given[1:]) if arrays else attached

    def _warn_after_training(self, history):
        """Warn about faults that only a finished run shows."""
        soft = history.history.get("soft_loss")
        if soft and self._objective().has_soft and all(value == 0.0 for value in soft):
            warnings.warn(
                "The soft loss was exactly 0 in every epoch, so the teacher taught nothing: it "
                "gave the same answers as the student (is the student a copy of the teacher, or "
                "is the teacher constant?).",
                TeacherWarning,
                stacklevel=3,
            )
        broken = validation.broken_layers(self.student)
        if broken:
            warnings.warn(
                f"The student's weights hold NaN or infinite values after training (in "
                f"{', '.join(map(repr, broken[:3]))}): its outputs are meaningless. Lower the "
                "learning rate or set the optimizer's clipnorm, and train again.",
                stacklevel=3,
            )


def _held_answers(x, cache_teacher) -> cache.About | None:
    """Return what is known of answers that a cache or the data holds; `None` for none."""
    if isinstance(cache_teacher, cache.TeacherCache):
        return cache_teacher.about
    answers = teachers.answers_beside(x)
    return None if answers is None else cache.about_of(answers)


def _element_parts(data) -> tuple:
    """Return the parts (x, y, weights) of an element of a data set that is not an array."""
    if isinstance(data, tf.data.Dataset):
        spec = data.element_spec
        return spec if type(spec) is tuple else (spec,)
    few = data[0] if hasattr(data, "__getitem__") and hasattr(data, "__len__") else (None, None)
    return few if type(few) is tuple else (few,)
