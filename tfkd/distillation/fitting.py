"""`fit`, `evaluate` and what they do around the steps, for either Keras.

data ─► checked, bound to the outputs, answers beside it ─► scores ─► Keras's `fit` ─► scores
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
from tfkd.model import backends, binding, feature_extractor, graph, real_shapes

if TYPE_CHECKING:
    from tfkd._typing import Arrays

_FIT_ARGUMENTS = (
    "batch_size", "epochs", "verbose", "callbacks", "validation_split", "validation_data",
    "shuffle", "class_weight", "sample_weight", "initial_epoch", "steps_per_epoch",
    "validation_steps", "validation_batch_size", "validation_freq",
)  # fmt: skip
_EVALUATE_ARGUMENTS = ("batch_size", "verbose", "sample_weight", "steps", "callbacks")


class Fitting(Step):
    """Training and evaluation: data is bound, the teacher asked and scored, and Keras runs."""

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
        with assertions.as_input_errors():
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
            with assertions.as_input_errors():
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
    def teacher_scores(self) -> list[worth.Score | None] | None:
        """The teacher's score per output on labelled examples, from the last `fit`."""
        return self._untracked.scores.teacher

    @property
    def student_scores(self) -> list[worth.Score | None] | None:
        """The student's score per output after the last `fit`, on the same examples."""
        return self._untracked.scores.student

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


def _element_parts(data) -> tuple:
    """Return the parts of an element of a data set that isn't arrays: x, y, weights."""
    if isinstance(data, tf.data.Dataset):
        spec = data.element_spec
        return spec if type(spec) is tuple else (spec,)
    few = data[0] if hasattr(data, "__getitem__") and hasattr(data, "__len__") else (None, None)
    return few if type(few) is tuple else (few,)
