"""Scores around a run: of the teacher before it, of the student after it, on the same examples.

held-out or training data ─► sample ─► teacher's, baseline's, student's answers ─► `worth.Score`s
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfkd import losses
from tfkd.distillation import assertions, teachers, validation, worth
from tfkd.distillation.cache.examples import Opened
from tfkd.distillation.objective import Objective
from tfkd.distillation.teachers import functions
from tfkd.errors import InputError, TeacherWarning
from tfkd.model import feature_extractor, graph
from tfkd.model.fingerprint import fingerprint


@dataclasses.dataclass
class Scores:
    """Scores of the last run, one per output; `None` where there is none.

    Attributes:
        teacher: The teacher's, before the run.
        student: The student's, after it.
        baseline: Those of the model to compare with.
        kept: The teacher's, by the examples and the teacher that gave them.
    """

    teacher: list[worth.Score | None] | None = None
    student: list[worth.Score | None] | None = None
    baseline: list[worth.Score | None] | None = None
    kept: dict[tuple, list] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Scoring:
    """The tools that compute scores.

    Attributes:
        objective: How each output learns.
        call: From a batch to the student's outputs, outside training.
        ask: From a batch to the teacher's answers and features.
        teacher: The teacher, or `None`.
        tap: The student's.
        prepare: From a batch to what the student takes, or `None`.
        scores: Where they are kept.
    """

    objective: Objective
    call: Callable[[Any], Any]
    ask: Callable[[Any], tuple]
    teacher: Any
    tap: feature_extractor.Tap
    prepare: Callable[[Any], Any] | None
    scores: Scores

    def score_teacher(self, x, y, held_out, batch_size, weight=None) -> worth.Sample | None:
        """Score the teacher on labelled examples; elements with a weight of zero do not count."""
        objective, scores = self.objective, self.scores
        scores.teacher = scores.student = scores.baseline = None
        if not objective.has_soft or not objective.has_hard or self._is_for_one_batch_size():
            return None
        sample = None
        if isinstance(self.teacher, teachers.Teacher) and held_out is not None:
            sample = self._sample(held_out, None, "validation", batch_size)
        if sample is None and (self.teacher is not None or _has_answers(x)):
            sample = self._sample(x, y, "training", batch_size, weight)
        if sample is None:
            return None
        key = self._key_of_scores(sample)
        found = scores.kept.get(key)
        if found is None:
            found = sample.scores(self.answers_of("teacher"), "teacher")
        scores.kept = {} if key is None else {key: found}
        scores.teacher = found
        return sample

    def score_baseline(self, sample, baseline: teachers.Teacher) -> None:
        """Score the baseline on the examples that the teacher was scored on."""
        try:
            self.scores.baseline = sample.scores(self.answers_of(baseline), "baseline")
        except InputError:
            raise
        except Exception as error:  # a model may raise anything for inputs of another kind
            raise InputError(
                f"The baseline can't take the student's examples ({validation.first_line(error)}); "
                "give the same student, trained without a teacher."
            ) from error

    def _key_of_scores(self, sample) -> tuple | None:
        """Return a key of the teacher's score, or `None` if there is none.

        With it, each `fit` in a loop asks the teacher again only if it was trained meanwhile.
        """
        if isinstance(sample.x, teachers.TeacherBatch):
            return None  # the batch already has the answers
        try:
            asked = fingerprint((sample.x, sample.labels, sample.masks))
            return self.objective, asked, self.teacher.fingerprint()
        except InputError:
            return None

    def report_teacher(self, sample, verbose) -> None:
        """Warn if a teacher can't help, and print its score."""
        scores = self.scores
        for i, found in enumerate(scores.teacher or ()):
            if found is None:
                continue
            other = scores.baseline[i] if scores.baseline else None
            wrong = worth.complaint(found, sample.part, other)
            if wrong:
                warnings.warn(wrong, TeacherWarning, stacklevel=3)
            elif verbose:
                print(f"Teacher on {sample.part} examples: {found}")

    def score_student(self, sample, verbose) -> None:
        """Score the student on the examples that its teacher was scored on."""
        scores = self.scores
        scores.student = sample.scores(self.answers_of("student"), "student")
        for i, found in enumerate(scores.student):
            if found is None or not verbose:
                continue
            other = scores.baseline[i] if scores.baseline else None
            print(worth.conclusion(found, scores.teacher[i], other, sample.part))

    def _sample(self, x, y, part: str, batch_size: int, weight=None) -> worth.Sample | None:
        if part == "validation" and type(x) in (list, tuple):
            x, y, weight = (*x, None, None)[:3]
        few, labels, weights, size = validation.labelled_sample(x, y, worth.EXAMPLES, weight)
        if few is None or labels is None:
            return None
        objective = self.objective
        labels = validation.bound_labels(labels, objective)
        if any(isinstance(label, tf.RaggedTensor) for label in labels):
            return None
        # Batches no larger than a step's: if a step fits into memory, they do.
        masks = objective.counted(None if isinstance(weights, tuple) and not weights else weights)
        sample = worth.Sample(few, labels, objective.lessons, part, size or batch_size, masks).cut()
        sample = None if sample is None else sample.of_finite_inputs()
        if sample is None or not self._may_mask():
            return sample
        found = []
        for batch in sample.batches():
            outputs = graph.leaves(self.call(_inputs(batch)))
            found.append([getattr(output, "_keras_mask", None) for output in outputs])
        unmasked = [
            None if any(one is None for one in given) else np.concatenate(given)
            for given in zip(*found, strict=True)
        ]
        masks = map(worth.both, sample.masks or [None] * len(unmasked), unmasked)
        return dataclasses.replace(sample, masks=list(masks))

    def _may_mask(self) -> bool:
        """Tell whether an output of the student may have a mask of its padding."""
        walked = self.tap.graph
        return walked is None or any(one.masked is not False for one in walked.output_list)

    def _is_for_one_batch_size(self) -> bool:
        """Tell whether the student takes batches of one fixed size only, as stateful models do."""
        inputs = self.tap.inputs
        return inputs is not None and any(
            slot.shape is not None and slot.shape[0] is not None for slot in inputs.entries
        )

    def answers_of(self, who):
        """Return a function from a batch to a model's logits or values, per output.

        Args:
            who: `"student"`, `"teacher"`, or what `alike` gave.
        """
        objective = self.objective

        def answers(x):
            if who == "teacher":
                if isinstance(x, teachers.TeacherBatch):
                    return objective.answers_in(x.answers)[0]
                return self.ask(x)[0]
            x = _inputs(x)
            if who != "student":
                tasks = [lesson.task for lesson in objective.lessons]
                return who.ask(x, tasks, objective.shapes, objective.outputs, objective.axes)[0]
            return [
                losses.logits_of(output, lesson.activation)
                for output, lesson in zip(
                    graph.leaves(self.call(x)), objective.lessons, strict=True
                )
            ]

        return answers

    def alike(self, model) -> teachers.Teacher:
        """Return a model with the student's outputs as one that can be asked for them.

        Logits and probabilities are told apart by its own graph, which need not end as the
        student's does; where that doesn't show, it gives what the student gives.

        Raises:
            InputError: if it is no model, or its outputs differ from the student's.
        """
        objective = self.objective
        tasks = [lesson.task for lesson in objective.lessons]
        inputs = self.tap.inputs if self.prepare is None else None
        linear = all(
            lesson.activation == "linear"
            for lesson in objective.lessons
            if lesson.task != "regression"
        )
        try:
            other = teachers.Teacher(model, None, (), self.prepare, inputs)
            other.check_shapes(objective.outputs)
            with contextlib.suppress(InputError):
                other.check(tasks, objective.outputs, objective.axes)
                return other
            other.from_logits = linear
            other.check(tasks, objective.outputs, objective.axes)
        except InputError as error:
            raise InputError(f"The model does not have the student's outputs. {error}") from None
        return other


@contextlib.contextmanager
def tolerated(who: str, raises: bool = False):
    """Let training continue if a model can't be scored: it needs no score.

    Args:
        who: Who is scored.
        raises: Whether answers that are not finite are an error.
    """
    try:
        with assertions.as_input_errors():
            yield
    except worth.NotFiniteError as error:
        if raises:
            raise
        warnings.warn(str(error), TeacherWarning, stacklevel=4)
    except Exception as error:  # a model or the user's data may raise anything
        cause = functions.cause_of(error)
        if isinstance(cause, InputError):  # training raises it itself, if it matters there
            return
        warnings.warn(
            f"The {who} could not be scored ({type(cause).__name__}: "
            f"{validation.first_line(cause)}); training continues without a score.",
            TeacherWarning,
            stacklevel=4,
        )


def _has_answers(x) -> bool:
    if isinstance(x, Opened):
        return x.changes or teachers.carries_answers(x.data)
    return teachers.carries_answers(x)


def _inputs(x):
    return x.x if isinstance(x, teachers.TeacherBatch) else x
