"""What each output of a student is taught by, and the checks before the first step."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfkd import graph, losses, teachers
from tfkd.errors import InputError
from tfkd.losses import soft as soft_losses

_PROBE = 2  # enough to see NaN and shapes; the teacher may be large


@dataclasses.dataclass(frozen=True)
class Plan:
    """How every output learns; lists in the order of the student's outputs.

    Attributes:
        names: The outputs' names.
        shapes: Their shapes, batch included.
        tasks: One of `losses.TASKS` each.
        activations: `"linear"`, `"softmax"` or `"sigmoid"`: how outputs become logits.
        soft: The soft loss, or `None` where the output has none.
        weights: Factor of the output's losses.
    """

    names: list[str]
    shapes: list[tuple]
    tasks: list[str]
    activations: list[str]
    soft: list[Any]
    weights: list[float]


def plan(student, outputs, loss, loss_weights, soft_loss, from_logits) -> Plan:
    """Decide from the compiled losses how each output learns from the teacher.

    Raises:
        InputError: where a soft loss does not fit, a loss takes logits and gets
            probabilities (or the reverse), or the two can't be told apart.
    """
    names = [tensor.name for tensor in outputs]
    hard = _per_output(loss, names, "loss")
    weights = [1.0 if w is None else float(w) for w in _per_output(loss_weights, names, "weight")]
    wanted = _per_output(soft_loss, names, "soft_loss")
    seen = teachers.output_activations(student)
    tasks, activations, soft = [], [], []
    for i, one in enumerate(hard):
        task, loss_from_logits = losses.task_of(one) if one is not None else (None, None)
        chosen = soft_losses.get(wanted[i])
        skipped = one is None and wanted[i] is None and len(names) > 1
        if skipped:
            task, chosen = "regression", None
        else:
            chosen = chosen or soft_losses.default_for(task)
            task = soft_losses.check_task(chosen, task)
        activation = teachers.readable_activation(
            "student", student.name, seen[i], task, from_logits
        )
        if loss_from_logits is not None and loss_from_logits != (activation == "linear"):
            gives = "logits" if activation == "linear" else "probabilities"
            raise InputError(
                f"The loss is set to from_logits={loss_from_logits}, but the student "
                f"{student.name!r} gives {gives}; pass the loss object with "
                f"from_logits={not loss_from_logits}."
            )
        class_weights = getattr(chosen, "class_weights", None)
        if class_weights is not None and len(class_weights) != outputs[i].shape[-1]:
            raise InputError(
                f"class_weights has {len(class_weights)} entries, but the output {names[i]!r} has "
                f"{outputs[i].shape[-1]} classes."
            )
        tasks.append(task)
        activations.append(activation)
        soft.append(chosen)
    return Plan(names, [t.shape for t in outputs], tasks, activations, soft, weights)


def _per_output(given, names: list[str], what: str) -> list:
    """Spread one thing, a list or a dict by output name over the outputs."""
    if isinstance(given, dict) and not {"class_name", "config"} <= set(given):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise InputError(f"There is no output {unknown} for {what}; outputs: {names}.")
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise InputError(f"{what} has {len(given)} entries for the {len(names)} outputs.")
        return list(given)
    return [given] * len(names)


def labels(y, sample_weight, unlabeled):
    """Split labels into what the hard loss may read and which examples have one.

    Args:
        y: Labels of a batch, or `None`.
        sample_weight: Their weights, or `None`.
        unlabeled: The value that marks a missing label, or `None`.

    Returns:
        Labels with 0 in the place of missing ones, a boolean tensor of the examples (or
        steps) that have one, and the weights with 0 for the others; the last two are
        `None` and unchanged where `unlabeled` is `None`.
    """
    if y is None or unlabeled is None:
        return y, None, sample_weight
    missing = (
        tf.math.is_nan(y) if unlabeled != unlabeled else tf.equal(y, tf.cast(unlabeled, y.dtype))
    )
    y = tf.where(missing, tf.zeros_like(y), y)
    if missing.shape.rank > 1 and missing.shape[-1] != y.shape[1]:
        missing = missing[..., 0]
    if missing.shape.rank > 1:
        missing = tf.reduce_any(missing, axis=list(range(1, missing.shape.rank)))
    labelled = tf.logical_not(missing)
    weight = tf.cast(labelled, tf.float32)
    if sample_weight is not None:
        weight *= tf.reshape(tf.cast(sample_weight, tf.float32), tf.shape(weight))
    return y, labelled, weight


def weight_of(sample_weight, index: int, outputs: int):
    """Return the sample weights that belong to one output."""
    if sample_weight is None:
        return None
    leaves = list(graph.leaves(sample_weight))
    return leaves[index] if len(leaves) == outputs else leaves[0]


def weighted_mean(values, sample_weight, mask):
    """Reduce a loss per example as Keras does: weights multiply, masked entries don't count.

    Args:
        values: Float tensor (batch,) or (batch, time).
        sample_weight: Tensor that broadcasts to it from the left, or `None`.
        mask: Boolean tensor of its shape, or `None`.
    """
    if mask is not None and mask.shape.rank == values.shape.rank:
        mask = tf.cast(mask, values.dtype)
        valid = tf.maximum(tf.reduce_sum(mask), 1.0)
        values *= mask * (tf.cast(tf.size(mask), values.dtype) / valid)
    if sample_weight is not None:
        weight = tf.cast(sample_weight, values.dtype)
        if weight.shape.rank is not None and weight.shape.rank > values.shape.rank:
            weight = tf.squeeze(weight, axis=-1)
        while weight.shape.rank < values.shape.rank:
            weight = weight[..., None]
        values *= weight
    return tf.reduce_mean(values)


def check_number(name: str, value) -> None:
    """Raise unless alpha is in [0, 1], or the temperature a number > 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    small, large = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    low, high, allowed = (0, 1, "in [0, 1]") if name == "alpha" else (small, large, "a number > 0")
    if not low <= number <= high:
        raise InputError(f"{name} must be {allowed}, got {value!r}.")


def check_shapes(name: str, ours, theirs) -> None:
    """Raise unless teacher and student give outputs of the same shapes."""
    if theirs is not None and [tuple(s[1:]) for s in ours] != [tuple(s[1:]) for s in theirs]:
        show = ", ".join(str(tuple(s)) for s in theirs)
        mine = ", ".join(str(tuple(s)) for s in ours)
        raise InputError(
            f"The teacher gives outputs of shape {show}, the student {name!r} {mine}; they must "
            "be equal."
        )


def check_first_examples(x, y, plan: Plan, ask, teacher_runs: bool) -> None:
    """Look at a few examples before the first step; a generator can't be looked into.

    Args:
        x: As `fit` got it.
        y: As `fit` got it.
        plan: How the outputs learn.
        ask: The teacher's `ask`, for a batch.
        teacher_runs: Whether the teacher can be asked (not so for an array of answers).

    Raises:
        InputError: for no data, labels that don't fit the outputs, or a teacher whose
            answers are not finite.
    """
    few, labels_few = _few(x, y)
    if few is None:
        return
    labels_few = None if labels_few is None else list(graph.leaves(labels_few))
    if labels_few is not None and len(labels_few) == len(plan.tasks):
        for label, name, task, shape in zip(
            labels_few, plan.names, plan.tasks, plan.shapes, strict=True
        ):
            _check_labels(np.asarray(label), name, task, shape)
    if any(one is not None and one.needs_labels for one in plan.soft) and labels_few is None:
        needy = [type(one).__name__ for one in plan.soft if one is not None and one.needs_labels]
        raise InputError(f"{', '.join(needy)} needs labels y; choose another soft_loss.")
    if isinstance(few, teachers.Taught) or not teacher_runs:
        return
    answers, features = ask(few)
    for name, value in [*zip(plan.names, answers, strict=True), *features.items()]:
        if not np.isfinite(np.asarray(value)).all():
            raise InputError(
                f"The teacher's answers for {name!r} hold NaN or infinite values in the first "
                "examples; check its weights and its inputs."
            )


def _few(x, y):
    """Return the first examples and their labels; `(None, None)` for a generator."""
    if isinstance(x, tf.data.Dataset):
        for element in x.take(1):
            parts = element if isinstance(element, tuple) else (element,)
            if isinstance(element, teachers.Taught):
                parts = (element,)
            cut = [graph.map_structure(lambda leaf: leaf[:_PROBE], part) for part in parts]
            return cut[0], cut[1] if len(cut) > 1 else None
        raise InputError("The dataset is empty.")
    if hasattr(x, "__getitem__") and hasattr(x, "num_batches"):  # keras.utils.PyDataset
        parts = x[0]
        parts = parts if isinstance(parts, tuple) else (parts,)
        cut = [graph.map_structure(lambda leaf: np.asarray(leaf)[:_PROBE], p) for p in parts]
        return cut[0], cut[1] if len(cut) > 1 else None
    leaves = list(graph.leaves(x))
    if not leaves or not all(hasattr(leaf, "shape") and len(leaf.shape) > 0 for leaf in leaves):
        return None, None
    lengths = {len(leaf) for leaf in leaves} | (
        set() if y is None else {len(leaf) for leaf in graph.leaves(y)}
    )
    if 0 in lengths:
        raise InputError("The data holds no examples.")
    if len(lengths) > 1:
        raise InputError(f"x and y have different numbers of examples: {sorted(lengths)}.")
    x = graph.map_structure(lambda leaf: tf.convert_to_tensor(leaf[:_PROBE]), x)
    # Labels are cheap to read whole, and the one that is out of range is rarely the first.
    return x, y


def _check_labels(y, name, task, shape):
    rows, wanted = y.shape[1:], tuple(shape[1:])
    numbers = y.ndim < len(shape) or (y.shape[-1:] == (1,) and wanted[-1:] != (1,))
    if task == "categorical" and numbers:
        if y.size and np.issubdtype(y.dtype, np.number) and np.nanmax(y) >= wanted[-1]:
            raise InputError(
                f"The labels go up to {int(np.nanmax(y))}, but the output {name!r} has "
                f"{wanted[-1]} classes (0 to {wanted[-1] - 1})."
            )
        return
    known = tuple(w if w is not None else r for w, r in zip(wanted, rows, strict=False))
    squeezed = wanted[-1:] == (1,) and rows == known[: len(wanted) - 1]
    if (rows != known and not squeezed) or (len(rows) != len(wanted) and not squeezed):
        raise InputError(
            f"The labels have the shape {y.shape}, but the output {name!r} gives {tuple(shape)}; "
            "they would broadcast."
        )
