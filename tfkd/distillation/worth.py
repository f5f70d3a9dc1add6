"""What a teacher is worth: its score on labelled examples, and the student's on the same.

sample, answers ─► score ─► Score ─► complaint: no better than chance, classes crossed, ...
                              └─────► difference between two, with its interval
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfkd.data import Part, Samples
from tfkd.data.outputs import end_to_end
from tfkd.distillation import lessons, teachers, validation
from tfkd.errors import InputError, argument
from tfkd.intervals import by_example, paired_shares, wilson
from tfkd.model import graph

#: Most labelled examples that a teacher answers before the first step.
EXAMPLES = 256
#: Most numbers in all answers together: a score of pixels needs fewer images.
NUMBERS = 2**24
#: With fewer elements than this, a teacher is not judged.
_ENOUGH = 10
#: Standard errors above chance that count as better than chance (one-sided, 1 %).
_Z = 2.33
#: Above this agreement by chance, nearly all labels have one class, and a teacher is not judged.
_ONE_CLASS = 0.98
_BINS = 15


@dataclasses.dataclass(frozen=True)
class Score:
    """How well answers fit labels.

    Attributes:
        name: The output's name.
        metric: `"accuracy"` (of labels, where an example has several) or `"r2"`, the explained
            share of the values' variance.
        value: The score, as a fraction.
        interval: Its 95 % interval (Wilson's, for accuracies), or `None` for values.
        chance: The score of random answers with the same frequencies; 0 for values, 1 where
            their labels are all equal.
        standard_errors: How many standard errors the score lies above chance; `None` for values.
        calibration: Expected calibration error over 15 bins of confidence, or `None`.
        count: Labelled elements: examples, steps, pixels or labels.
        crossed: Pairs (label, answer) of classes that the answers swap.
        hits: Boolean (count,), or the squared errors of values: for paired differences.
        rows: The example of each hit; `None` if each is an example of its own.
    """

    name: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    chance: float
    standard_errors: float | None
    calibration: float | None
    count: int
    crossed: tuple[tuple[int, int], ...] = ()
    hits: Any = dataclasses.field(default=None, repr=False, compare=False)
    rows: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def beats_chance(self) -> bool | None:
        """Whether the answers are better than chance; `None` if the labels don't show it."""
        if self.count < _ENOUGH or self.chance > _ONE_CLASS:
            return None
        return self.value > 0 if self.standard_errors is None else self.standard_errors > _Z

    def __str__(self):
        if self.metric == "r2":
            return f"R² {self.value:.3f} ({self.count} examples; the mean of the labels gets 0)"
        low, high = self.interval
        calibration = "" if self.calibration is None else f", calibration {self.calibration:.3f}"
        return (
            f"accuracy {self.value:.3f} ({self.count} labels, 95 % interval {low:.3f} to "
            f"{high:.3f}; chance {self.chance:.3f}{calibration})"
        )


def score(answers, y, lesson: lessons.Lesson, mask=None) -> Score | None:
    """Compare logits or values with labels.

    Args:
        answers: Array (examples, ...) of logits, or values for regression, in the output's shape.
        y: Labels as `fit` takes them.
        lesson: How the output learns.
        mask: Boolean array of the answers' leading axes: the elements that count, or `None`.

    Returns:
        The `Score`, or `None` where nothing is labelled or the labels are the user's own kind.
    """
    if y is None or lesson.is_custom:
        return None
    labels = lessons.labels_of(y, lesson)
    answers, y = np.asarray(answers, "float64"), np.asarray(labels.y)
    known = labels.present if labels.present is not None else labels.known
    known = both(None if known is None else np.asarray(known), mask)
    if lesson.task == "categorical":
        return _class_score(answers, y, known, lesson)
    y = y.reshape(answers.shape).astype("float64")
    counts = np.isfinite(y)
    if known is not None:
        counts &= np.broadcast_to(_expanded(known, y.ndim), y.shape)
    if not counts.any():
        return None
    compared = _binary_score if lesson.task == "binary" else _regression_score
    return compared(answers, np.where(counts, y, 0.0), counts, lesson)


def both(known, mask):
    """Return the elements that neither of two masks leaves out; `None` leaves out nothing."""
    if known is None or mask is None:
        return mask if known is None else known
    rank = max(known.ndim, mask.ndim)
    return _expanded(known, rank) & _expanded(mask, rank)


def _expanded(array, rank: int):
    return array.reshape(array.shape + (1,) * (rank - array.ndim))


def _rows(counts) -> np.ndarray | None:
    """Return the example of each element that counts; `None` if each is an example of its own."""
    size = math.prod(counts.shape[1:])
    if size == 1:
        return None
    return np.repeat(np.arange(len(counts), dtype="int32"), size)[counts.reshape(-1)]


def _class_score(answers, y, known, lesson) -> Score | None:
    answers = np.moveaxis(answers, lesson.axis, -1)
    if y.ndim == answers.ndim and y.shape[lesson.axis] == lesson.classes != 1:
        y = np.moveaxis(y, lesson.axis, -1).argmax(-1)
    elements, classes = answers.shape[:-1], answers.shape[-1]
    y, answers = y.reshape(-1), answers.reshape(-1, classes)
    counts = (y >= 0) & (y < classes)  # the step raises for other labels
    if known is not None:
        counts &= np.broadcast_to(_expanded(known, len(elements)), elements).reshape(-1)
    rows = _rows(counts.reshape(elements))
    y, answers = y[counts], answers[counts]
    if not y.size:
        return None
    y, said = y.astype(int), answers.argmax(-1)
    seen = np.bincount(y, minlength=classes)
    chance = float(seen @ np.bincount(said, minlength=classes)) / len(y) ** 2
    p = np.exp(answers - answers.max(-1, keepdims=True))
    confidence = p.max(-1) / p.sum(-1)
    return _accuracy(lesson, said == y, chance, confidence, _crossed(y, said, seen), rows)


def _binary_score(answers, y, counts, lesson) -> Score:
    labels = answers.shape[-1] if answers.ndim > 1 else 1
    says, is_yes, counted = (a.reshape(-1, labels) for a in (answers > 0, y > 0.5, counts))
    total = counted.sum(0)
    said, true = ((a & counted).sum(0) / np.maximum(total, 1) for a in (says, is_yes))
    chance = float(total @ (said * true + (1 - said) * (1 - true)) / total.sum())
    confidence = 1 / (1 + np.exp(-np.abs(answers[counts])))
    hits = (says == is_yes)[counted]
    return _accuracy(lesson, hits, chance, confidence, (), _rows(counts))


def _regression_score(answers, y, counts, lesson) -> Score:
    """Return R² against the mean of each value's labels; `y` is 0 where `counts` is false."""
    square = np.square(answers - y)[counts]
    mean = y.sum(0) / np.maximum(counts.sum(0), 1)
    spread = float(np.square(y - mean)[counts].mean())
    value = 1 - float(square.mean()) / spread if spread else 0.0
    chance = 0.0 if spread else 1.0  # for equal labels, their mean is always right
    count = len(y) if counts.all() else len(square)  # examples, or single values
    rows = _rows(counts)
    return Score(lesson.name, "r2", value, None, chance, None, None, count, hits=square, rows=rows)


def _accuracy(lesson, hits, chance, confidence, crossed, rows) -> Score:
    count, value = len(hits), float(hits.mean())
    error = math.sqrt(max(chance * (1 - chance), 1e-12) / count)
    return Score(
        lesson.name, "accuracy", value, wilson(value, count), chance, (value - chance) / error,
        _calibration_error(hits, confidence), count, crossed, hits, rows,
    )  # fmt: skip


def _calibration_error(hits, confidence) -> float:
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    gaps = np.bincount(bins, hits, _BINS) - np.bincount(bins, confidence, _BINS)
    return float(np.abs(gaps).sum() / counts.sum())


def _crossed(y, said, seen) -> tuple[tuple[int, int], ...]:
    """Return pairs (label, answer) of classes that the answers permute among themselves."""
    # Count only pairs that occur: a table of classes by classes could be very large.
    pairs, counts = np.unique(y * len(seen) + said, return_counts=True)
    labels, answers = np.divmod(pairs, len(seen))
    clear = (seen[labels] >= 3) & (counts > 0.6 * seen[labels]) & (labels != answers)
    moved = dict(zip(labels[clear].tolist(), answers[clear].tolist(), strict=True))
    # A permutation: each of these classes is also the answer for another one.
    if len(moved) < 2 or set(moved.values()) != set(moved):
        return ()
    return tuple(moved.items())


@dataclasses.dataclass(frozen=True)
class Sample:
    """Labelled examples that teacher and student are scored on.

    Attributes:
        x: The examples, as `fit` got them.
        labels: The labels of each output, or `None`.
        lessons: How each output learns.
        part: The part of the data they come from: `"validation"` or `"training"`.
        at_once: Maximum number of examples per call of a model.
        masks: Boolean array of each output, the elements that count, or `None`.
    """

    x: Any
    labels: list
    lessons: tuple[lessons.Lesson, ...]
    part: str
    at_once: int = 128
    masks: list | None = None

    def scores(
        self, answers_of: Callable, who: str, check_labels: bool = False
    ) -> list[Score | None]:
        """Return a score per output; `None` where there is nothing to score.

        Args:
            answers_of: From a batch of examples to logits or values per output.
            who: Who answers, for errors.
            check_labels: Whether to raise for labels that don't fit their output. In training the
                step raises for them, and they are left out here.

        Raises:
            NotFiniteError: if answers are not finite.
        """
        batches, labels = self._answered(answers_of)
        if check_labels:
            for lesson, y in zip(self.lessons, labels, strict=True):
                if y is not None and lesson.hard is not None and not lesson.is_custom:
                    validation.check_labels(np.asarray(y), lesson)
        scores = []
        for i, (lesson, y) in enumerate(zip(self.lessons, labels, strict=True)):
            if y is None or lesson.hard is None or batches[0][i] is None:
                scores.append(None)
                continue
            answers = np.concatenate([np.asarray(batch[i], "float32") for batch in batches])
            broken = ~np.isfinite(answers).reshape(len(answers), -1).all(1)
            if broken.any():
                raise NotFiniteError(
                    f"The {who} gives NaN or infinite values for {broken.sum()} of {len(broken)} "
                    f"{self.part} examples ({lesson.name!r}, the first is number "
                    f"{broken.argmax()} of these); check its weights and its inputs."
                )
            scores.append(score(answers, y, lesson, self.masks[i] if self.masks else None))
        return scores

    def _answered(self, answers_of: Callable) -> tuple[list, list]:
        """Return the answers of each batch, and the labels of each output."""
        return [answers_of(batch) for batch in self.batches()], self.labels

    def batches(self) -> Iterator:
        """Yield the examples in batches of a size that a model can be expected to take."""
        leaves = [leaf for leaf in graph.leaves(self.x) if hasattr(leaf, "shape")]
        size = sum(map(validation.bytes_of_example, leaves))
        step = max(1, min(self.at_once, _BYTES // max(size, 1)))
        for start in range(0, int(leaves[0].shape[0]), step):
            rows = slice(start, start + step)
            yield graph.map_structure(lambda leaf, r=rows: validation.rows_of(leaf, r), self.x)

    def of_finite_inputs(self) -> Sample | None:
        """Return the examples whose inputs are finite: the step itself reports the others."""
        inputs = self.x.x if isinstance(self.x, teachers.TeacherBatch) else self.x
        finite = None
        for leaf in graph.leaves(inputs):
            if isinstance(leaf, (np.ndarray, tf.Tensor)) and tf.as_dtype(leaf.dtype).is_floating:
                rows = np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(1)
                finite = rows if finite is None else finite & rows
        if finite is None or finite.all():
            return self
        return self._of(lambda leaf: np.asarray(leaf)[finite]) if finite.any() else None

    def _of(self, rows: Callable) -> Sample:
        """Select examples, by a function from an array to the selected rows."""
        some = lambda leaf: None if leaf is None else rows(leaf)  # noqa: E731
        masks = None if self.masks is None else [some(mask) for mask in self.masks]
        labels = [some(y) for y in self.labels]
        x = graph.map_structure(some, self.x)
        return dataclasses.replace(self, x=x, labels=labels, masks=masks)

    def cut(self) -> Sample | None:
        """Return as many of the examples as have few enough answers; `None` for none."""
        numbers = 0
        for lesson, y in zip(self.lessons, self.labels, strict=True):
            if y is None or lesson.hard is None:
                continue
            shape = np.shape(y)
            in_rows = len(shape) == len(lesson.shape) and shape[lesson.axis] == lesson.classes
            more = lesson.classes if lesson.task == "categorical" and not in_rows else 1
            numbers += math.prod(shape[1:]) * (more or 1)
        count = NUMBERS // max(numbers, 1)
        if count >= int(next(graph.leaves(self.x)).shape[0]):
            return self
        if not count:
            return None
        return self._of(lambda leaf: validation.rows_of(leaf, slice(count)))


class NotFiniteError(InputError):
    """Answers that are NaN or infinite: no score, and nothing to learn from."""


#: Bytes of input per call of a model.
_BYTES = 2**24


def complaint(teacher: Score, part: str, baseline: Score | None = None) -> str:
    """Return what is wrong with a teacher, in a sentence or two; empty if nothing is.

    Args:
        teacher: Its score.
        part: What it was scored on: "validation" or "training".
        baseline: The score of the student trained without it, on the same, if known.
    """
    said = f"The teacher's {teacher.name!r} scores {teacher} on {part} examples"
    if teacher.crossed:
        pairs = ", ".join(f"{label} as {answer}" for label, answer in teacher.crossed)
        return (
            f"{said}, and confuses classes (labels {pairs}): its classes seem to be "
            "in another order than the labels'. Reorder them before you distil."
        )
    if teacher.beats_chance is False:
        return (
            f"{said}: no better than chance. A student can't learn from it; check its weights, "
            "the preprocessing of its inputs and the order of its classes."
        )
    if baseline is not None and baseline.value > teacher.value:
        return (
            f"{said}; the student trained without it scores {baseline.value:.3f} there. Such a "
            "teacher may hold the student back: tfkd.compare measures what it is worth."
        )
    return ""


def conclusion(student: Score, teacher: Score | None, baseline: Score | None, part: str) -> str:
    """Return the line that ends a training: with the teacher, without it, and the difference.

    Args:
        student: The student's score.
        teacher: The teacher's score on the same examples.
        baseline: The score of the student trained without a teacher on the same examples, if known.
        part: What they were scored on: "validation" or "training".
    """
    said = f"Student on {part} examples: {student.metric} {student.value:.3f}"
    said += "" if teacher is None else f", teacher {teacher.value:.3f}"
    if student.beats_chance is False:
        said += ". The student is no better than chance: it is too small, or trained too briefly"
    if baseline is None:
        return (
            f"{said}. To see what the teacher is worth, train the same student without it: "
            f"{argument('baseline', like='model', of='fit')}, or tfkd.compare."
        )
    gap, interval = difference(student, baseline)
    said += f", without teacher {baseline.value:.3f}: {gap:+.3f} ({_interval_text(interval)})"
    if interval is None or interval[1] >= 0:
        return said
    return f"{said}. The teacher made the student worse: keep the one trained without it"


@dataclasses.dataclass(frozen=True)
class Streamed(Sample):
    """A part of the data, read in batches, which are not held.

    Attributes:
        bind: From labels as the part has them to those of each output.
    """

    bind: Callable[[Any], list] = dataclasses.field(kw_only=True)

    def _answered(self, answers_of: Callable) -> tuple[list, list]:
        answers, labels = [], []
        for batch in self.x.batches(self.x.at_once(self.at_once)):
            answers.append([np.asarray(one) for one in answers_of(batch.x)])
            labels.append(batch.y)
        return answers, self.bind(end_to_end(*labels))


def sample_of(x, y, objective, part: str) -> Sample:
    """Return labelled examples to score on.

    Args:
        x: Arrays of examples, or a `Part` of a data set.
        y: Labels, as `fit` takes them; `None` for a `Part`, which has its own.
        objective: The `objective.Objective` of the student.
        part: The name of the part.
    """
    if isinstance(x, Samples) and x.in_memory:
        x, y = x.x, x.y
    if isinstance(x, Part):
        bind = functools.partial(validation.bound_labels, objective=objective)
        labels = bind(x.labels) if x.outputs else []  # raises for names that don't bind
        return Streamed(x, labels, objective.lessons, part, bind=bind)
    return Sample(x, validation.bound_labels(y, objective), objective.lessons, part)


@dataclasses.dataclass(frozen=True)
class Worth:
    """The worth of a teacher: the same student with and without it, on the same examples.

    Attributes:
        teacher: The teacher's score.
        alone: The score of the student that learned from labels alone.
        taught: The score of the student that also learned from the teacher.
        part: The part that the examples come from.
    """

    teacher: Score
    alone: Score
    taught: Score
    part: str = "validation"

    @property
    def helps(self) -> bool:
        """Whether the taught student is at least as good as the other."""
        return self.taught.value >= self.alone.value

    @property
    def harms(self) -> bool:
        """Whether the taught student is worse by more than the interval of the difference."""
        interval = difference(self.taught, self.alone)[1]
        return interval is not None and interval[1] < 0

    def figures(self) -> dict[str, Any]:
        """Return the scores and their difference as plain values."""
        gap, interval = difference(self.taught, self.alone)
        return {
            "metric": self.taught.metric,
            "part": self.part,
            "examples": self.taught.count,
            "teacher": self.teacher.value,
            "teacher_calibration_error": self.teacher.calibration,
            "chance": self.teacher.chance,
            "alone": self.alone.value,
            "taught": self.taught.value,
            "difference": gap,
            "ci95": None if interval is None else list(interval),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values, and which student was kept for them."""
        kept = "taught" if self.helps else "alone"
        return {**self.figures(), "kept": kept, "summary": str(self)}

    def compared(self) -> str:
        """Return the scores and their difference in words."""
        gap, interval = difference(self.taught, self.alone)
        return (
            f"{self.taught.metric} on {self.taught.count} {self.part} labels: teacher "
            f"{self.teacher.value:.3f}, student with it {self.taught.value:.3f}, without "
            f"{self.alone.value:.3f}; difference {gap:+.3f} ({_interval_text(interval)})"
        )

    def __str__(self):
        kept = "with" if self.helps else "without"
        return f"{self.compared()}. The student trained {kept} the teacher was kept."


def _interval_text(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "one example gives no interval"
    return f"95 % {interval[0]:+.3f} to {interval[1]:+.3f}"


def difference(one: Score, other: Score) -> tuple[float, tuple[float, float] | None]:
    """Return one score minus another on the same elements, and its 95 % interval.

    One example gives no interval: it is `None`.

    The interval is paired: elements that both have right or both wrong do not widen it. That of
    an accuracy is `intervals.paired_shares`; that of values is normal. An example of several
    elements counts once, since they are not independent.

    Args:
        one: A score.
        other: Another, of the same elements in the same order.
    """
    gaps = np.asarray(one.hits, "float64") - np.asarray(other.hits, "float64")
    gaps, value = by_example(gaps, one.rows), one.value - other.value
    if len(gaps) < 2:
        return value, None
    if one.metric != "r2":
        return value, paired_shares(one.hits, other.hits, one.rows)
    error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    total = float(np.mean(other.hits)) / max(1 - other.value, 1e-12)
    error = error / total if total else 0.0
    return value, (value - 1.96 * error, value + 1.96 * error)
