"""`judge`: a file's answers on the test split beside its teacher's, and the differences."""

from __future__ import annotations

import base64
import dataclasses
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfkd.errors import InputError
from tfkd.intervals import paired_means, paired_shares
from tfkd.model import task as tasks
from tfkd.model.metrics import score

#: The metric in a report's first line, by task.
METRICS = {"regression": "rmse", "anomaly": "auc"}

# Most classes for a table of classes by classes, and most examples shown.
_MOST_CLASSES, _MOST_CHANGED = 50, 12
_BINS, _PIXELS = 24, 96


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """The score of one class, or of one of several labels.

    Attributes:
        name: Name of the class.
        labelled: Number of test examples (steps, pixels) with this label.
        precision: Share of the file's answers of this class that are right; `None` without such
            answers.
        recall: Share of the examples of this class that the file answers right; `None` without
            such examples.
        f1: 2 · right / (labelled + answered); `None` if it is 0/0.
        against_recall: The recall of the teacher.
    """

    name: str
    labelled: int
    precision: float | None
    recall: float | None
    f1: float | None
    against_recall: float | None


@dataclasses.dataclass(frozen=True)
class Errors:
    """A histogram of answer minus label.

    Attributes:
        edges: Edges of the bins, one more than bins, in the labels' unit.
        counts: Number of the file's values in each bin.
        against_counts: Number of the teacher's values in each bin.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    against_counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Changed:
    """An example that file and teacher answer differently.

    Attributes:
        index: Row of the test split.
        position: Position of the step or pixel; empty if an example has one answer.
        label: Name of the class, or the value.
        against_answer: The teacher's answer.
        answer: The file's answer.
        image: The example as a PNG in a `data:` address, `None` if it is no image. It is on the
            page and not in report.json.
    """

    index: int
    position: tuple[int, ...]
    label: str | float
    against_answer: str | float
    answer: str | float
    image: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A file's answers on the test split, beside its teacher's.

    Attributes:
        name: The file's name in the report.
        against: The teacher's name in the report.
        examples: Number of examples that were compared.
        metric: `"accuracy"` or `"rmse"`.
        score: The file's score.
        against_score: The teacher's score.
        difference: `score` minus `against_score`.
        ci95: Its 95 % interval, paired; `None` for one example.
        interval: How that interval was made.
        confusion: Counts by label (rows) and answer (columns); `None` for values, several
            labels an example and more than 50 classes.
        classes: A score for each class or label.
        errors: The histogram of a regression.
        lost: Number of answers (for examples, steps, pixels, labels) that the teacher has right
            and the file wrong; `None` for values.
        won: Number of answers that the file has right and the teacher wrong.
        other: Number of answers that both have wrong, in different ways.
        changed: Some of these examples, at most 12, the lost ones first. For values, the examples
            whose answers are furthest apart.
    """

    name: str
    against: str
    examples: int
    metric: str
    score: float
    against_score: float
    difference: float
    ci95: tuple[float, float] | None
    interval: str
    confusion: tuple[tuple[int, ...], ...] | None = None
    classes: tuple[ClassScore, ...] = ()
    errors: Errors | None = None
    lost: int | None = None
    won: int | None = None
    other: int | None = None
    changed: tuple[Changed, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return everything but the images as plain values."""
        plain = dataclasses.asdict(self)
        for one in plain["changed"]:
            del one["image"]
        return plain


def judge(
    name: str,
    answers: np.ndarray,
    against: str,
    against_answers: np.ndarray,
    y: np.ndarray,
    *,
    task: str,
    activation: str | None = None,
    against_activation: str | None = None,
    class_names: Sequence[str] = (),
    x: Any = None,
) -> Predictions | None:
    """Compare a file's answers with its teacher's and with the labels.

    The interval of the difference is paired: answers that both have right, or both wrong, do not
    widen it. With one answer an example it is the interval of Agresti and Min, see
    `tfkd.intervals.paired_shares`. With several, an example counts once, by its share of right
    answers (normal interval of the mean difference). For the RMSE it is the normal interval by the
    delta method: to first order the RMSE is the mean of e² / (2 RMSE) over the examples.

    Args:
        name: The file's name in the report.
        answers: The file's answers on the test split, (examples, ...).
        against: The teacher's name in the report.
        against_answers: The teacher's answers on the same split, in the same shape, apart from a
            last axis of 1.
        y: Labels, as `tfkd.model.metrics.score` takes them.
        task: One of `tfkd.model.task.TASKS`.
        activation: Activation of the file's outputs: `"softmax"`, `"sigmoid"` or `"linear"`.
        against_activation: Activation of the teacher's outputs.
        class_names: One per class or label, in order; missing names are replaced by numbers.
        x: The examples, for images of the changed ones: an array (examples, height, width,
            1 or 3) is drawn, anything else is not.

    Returns:
        A `Predictions`; `None` for a task whose answers are not right or wrong (anomalies), or
        if it is not known which answers mean yes.

    Raises:
        InputError: for answers of different shapes, or labels that don't fit them.
    """
    task = tasks.canonical(task)
    answers, against_answers, y = map(np.asarray, (answers, against_answers, y))
    if tasks.squeezed(answers.shape) == tasks.squeezed(against_answers.shape):
        against_answers = against_answers.reshape(answers.shape)
    else:
        raise InputError(
            f"{name!r} has answers of shape {answers.shape}, {against!r} of "
            f"{against_answers.shape}; both must be for the same examples."
        )
    known = [kind in ("linear", "sigmoid") for kind in (activation, against_activation)]
    if task == "anomaly" or (task in ("binary", "multilabel") and not all(known)):
        return None
    both = (answers, activation), (against_answers, against_activation)
    scores = [score(values, y, task=task, activation=kind) for values, kind in both]
    metric = METRICS.get(task, "accuracy")
    names = {"name": name, "against": against, "examples": len(y), "metric": metric}
    found = {"score": scores[0][metric], "against_score": scores[1][metric]}
    found["difference"] = found["score"] - found["against_score"]
    if task == "regression":
        more = _of_values(answers, against_answers, y, found, x)
    elif task == "multilabel":
        more = _of_labels(*(_yes(*one) for one in both), y.reshape(answers.shape) > 0, class_names)
    else:
        if task == "binary":
            said = [_yes(*one).reshape(len(y), -1).astype(int) for one in both]
            labels, count = y.reshape(len(y), -1).astype(int), 2
        else:
            said, count = [values.argmax(-1) for values, _ in both], answers.shape[-1]
            labels = y.argmax(-1) if y.shape == answers.shape else y.reshape(said[0].shape)
            labels = labels.astype(int)
        shown = [str(one) for one in (*class_names, *range(len(class_names), count))][:count]
        more = _of_classes(*said, labels, shown, x)
    return Predictions(**names, **found, **more)


def _yes(values, activation) -> np.ndarray:
    return values > (0.0 if activation == "linear" else 0.5)


def _of_shares(right, against_right) -> dict[str, Any]:
    """Return the interval of the difference, and the numbers of right answers lost and won."""
    by_example = [one.reshape(len(one), -1) for one in (right, against_right)]
    if by_example[0].shape[1] == 1:
        ci95 = paired_shares(*(one[:, 0] for one in by_example))
        how = "paired, Agresti and Min 2005"
    else:
        ci95 = paired_means(by_example[0].mean(1) - by_example[1].mean(1))
        how = "paired by example, normal"
    return {
        "ci95": ci95,
        "interval": how,
        "lost": int((against_right & ~right).sum()),
        "won": int((right & ~against_right).sum()),
    }


def _of_classes(said, against_said, labels, names, x) -> dict[str, Any]:
    right, against_right, count = said == labels, against_said == labels, len(names)
    both_wrong = (said != against_said) & ~right & ~against_right
    places = [
        place
        for kind in (against_right & ~right, right & ~against_right, both_wrong)
        for place in np.argwhere(kind)
    ]
    changed = tuple(
        Changed(
            int(place[0]),
            tuple(map(int, place[1:])) if labels[0].size > 1 else (),
            *(names[one[tuple(place)]] for one in (labels, against_said, said)),
            image=_image(x, int(place[0])),
        )
        for place in places[:_MOST_CHANGED]
    )
    labelled, called = (np.bincount(v.ravel(), minlength=count) for v in (labels, said))
    hits, against_hits = (
        np.bincount(labels[which].ravel(), minlength=count) for which in (right, against_right)
    )
    table = None
    if count <= _MOST_CLASSES:
        pairs = np.bincount((labels * count + said).ravel(), minlength=count * count)
        table = tuple(tuple(row) for row in pairs.reshape(count, count).tolist())
    return {
        **_of_shares(right, against_right),
        "confusion": table,
        "classes": _class_scores(names, labelled, called, hits, against_hits),
        "other": int(both_wrong.sum()),
        "changed": changed,
    }


def _of_labels(said, against_said, labels, class_names) -> dict[str, Any]:
    count = labels.shape[-1]
    names = [str(one) for one in (*class_names, *range(len(class_names), count))][:count]
    yes, ours, theirs = (v.reshape(-1, count) for v in (labels, said, against_said))
    return {
        **_of_shares(said == labels, against_said == labels),
        "classes": _class_scores(
            names, yes.sum(0), ours.sum(0), (yes & ours).sum(0), (yes & theirs).sum(0)
        ),
        "other": 0,
    }


def _class_scores(names, labelled, called, hits, against_hits) -> tuple[ClassScore, ...]:
    def share(part, whole):
        return float(part / whole) if whole else None

    return tuple(
        ClassScore(
            name,
            int(labelled[i]),
            share(hits[i], called[i]),
            share(hits[i], labelled[i]),
            share(2 * hits[i], labelled[i] + called[i]),
            share(against_hits[i], labelled[i]),
        )
        for i, name in enumerate(names)
    )


def _of_values(answers, against_answers, y, found, x) -> dict[str, Any]:
    labels = y.reshape(answers.shape).astype("float64")
    errors, theirs = (values.astype("float64") - labels for values in (answers, against_answers))
    ci95 = None
    if min(found["score"], found["against_score"]) > 0:
        slopes = [
            np.square(one).reshape(len(one), -1).mean(1) / (2 * rmse)
            for one, rmse in ((errors, found["score"]), (theirs, found["against_score"]))
        ]
        gaps = slopes[0] - slopes[1]
        ci95 = paired_means(gaps - gaps.mean() + found["difference"])
    # Values of either farther out than 99.5 % of all are in the outermost bins.
    ends = np.percentile(np.r_[errors.ravel(), theirs.ravel()], [0.25, 99.75])
    edges = np.linspace(min(ends[0], 0.0), max(ends[1], 0.0), _BINS + 1)
    if edges[0] == edges[-1]:
        edges = np.linspace(-0.5, 0.5, _BINS + 1)
    counts = [
        np.histogram(np.clip(one, edges[0], edges[-1]), edges)[0].tolist()
        for one in (errors, theirs)
    ]
    changed: tuple[Changed, ...] = ()
    if answers[0].size == 1:
        values = [one.reshape(-1).astype("float64") for one in (labels, against_answers, answers)]
        far = np.argsort(-np.abs(values[2] - values[1]), kind="stable")[:_MOST_CHANGED]
        changed = tuple(
            Changed(int(i), (), *(float(one[i]) for one in values), image=_image(x, int(i)))
            for i in far
        )
    return {
        "ci95": ci95,
        "interval": "paired, normal by the delta method",
        "errors": Errors(tuple(edges.tolist()), *map(tuple, counts)),
        "changed": changed,
    }


def _image(x, index: int) -> str | None:
    """Return an example as a small PNG, its darkest value black and its brightest white."""
    if not isinstance(x, np.ndarray) or x.ndim != 4 or x.shape[-1] not in (1, 3):
        return None
    if x.dtype.kind not in "uif" or min(x.shape[1:3]) < 4:
        return None
    step = -(-max(x.shape[1:3]) // _PIXELS)
    pixels = x[index, ::step, ::step].astype("float64")
    low, high = np.nanmin(pixels), np.nanmax(pixels)
    if not np.isfinite([low, high]).all():
        return None
    bright = np.round(255 * np.nan_to_num(pixels - low) / ((high - low) or 1.0)).astype("uint8")
    return "data:image/png;base64," + base64.b64encode(_png(bright)).decode()


def _png(pixels: np.ndarray) -> bytes:
    """Return a PNG of uint8 pixels (height, width, 1 or 3) (ISO/IEC 15948)."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    lines = b"".join(b"\0" + row.tobytes() for row in pixels)  # no filter
    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines, 9))
        + chunk(b"IEND", b"")
    )
