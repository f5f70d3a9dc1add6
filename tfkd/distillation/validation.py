"""Checks of a pair, its settings and its data, before and during training.

Checks inside the step are TensorFlow assertions: they stop it before it moves a weight, and
`assertions.as_input_errors` turns what TensorFlow raises into an `InputError`. XLA leaves them out.
"""

from __future__ import annotations

import functools
import math
import re

import keras
import numpy as np
import tensorflow as tf

from tfkd.distillation import assertions, lessons, teachers
from tfkd.distillation.cache.examples import Opened
from tfkd.distillation.teachers import functions
from tfkd.errors import InputError, argument
from tfkd.model import graph
from tfkd.model.layer_kinds import kind_of

_PROBE = 2  # enough to see NaN and shapes; the teacher may be large
#: Range of T in which float32 holds the loss: T² times what is left of log-probabilities over T.
_TEMPERATURES = (1e-3, 1e3)


def check_flag(name: str, value) -> None:
    """Raise unless a setting is True, False or None: any text would count as True."""
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True, False or None, got {value!r}.")


def check_number(name: str, value) -> None:
    """Raise unless alpha is in [0, 1], or the temperature a number that float32 can work with."""
    if type(value).__module__.startswith("keras.src.distillation"):
        raise InputError(
            f"{name} is a {type(value).__name__} of keras.distillation: here the student comes "
            "first, then the teacher, alpha and temperature; give losses with "
            f"{argument('soft_loss')} and {argument('features')}."
        )
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if name == "alpha":
        if not 0 <= number <= 1:
            raise InputError(f"alpha must be in [0, 1], got {value!r}.")
        return
    low, high = _TEMPERATURES
    if not 0 < number < np.inf:
        raise InputError(f"temperature must be a number > 0, got {value!r}.")
    if not low <= number <= high:
        raise InputError(
            f"temperature must be a number > 0 from {low:g} to {high:g}, got {value!r}: outside, "
            "float32 can't hold the softened probabilities times T²; usual values are 1 to 20."
        )


def check_strategy(flavour: str) -> None:
    """Raise under a `tf.distribute` strategy that the student's Keras can't train with.

    Args:
        flavour: `"keras"` or `"tf_keras"`, the student's.

    Raises:
        InputError: naming the strategy and what to do.
    """
    strategy, known = tf.distribute.get_strategy(), tf.distribute
    if not tf.distribute.has_strategy() or isinstance(
        strategy, (known.MirroredStrategy, known.OneDeviceStrategy)
    ):
        return
    if not isinstance(strategy, known.MultiWorkerMirroredStrategy):
        raise InputError(
            f"A distiller does not train under {type(strategy).__name__}; use MirroredStrategy "
            "for the devices of one machine, MultiWorkerMirroredStrategy for several machines."
        )
    if flavour == "keras" and sum(map(len, _cluster(strategy).values())) > 1:
        raise InputError(
            "Keras 3's fit fails under MultiWorkerMirroredStrategy; make the student a tf_keras "
            "model with tfkd.translate(student) within the strategy's scope, train that, and turn "
            f"it back with tfkd.translate(trained, {argument('to', 'keras')})."
        )


def _cluster(strategy) -> dict[str, list[str]]:
    resolver = strategy.cluster_resolver
    return {} if resolver is None else resolver.cluster_spec().as_dict()


def check_not_shared(student, models) -> None:
    """Raise if training the student would change its teacher.

    A frozen part may be shared, since nothing trains it.

    Raises:
        InputError: naming the shared layers, and how to copy.
    """
    ours = _changing_variables(student)
    for model in models:
        if model is student:
            raise InputError(
                f"The student {student.name!r} is its own teacher: training would change the "
                f"teacher. {_COPY}"
            )
        theirs = {id(variable) for variable in model.weights}
        shared = sorted({name for key, name in ours.items() if key in theirs})
        if shared:
            raise InputError(
                f"The student {student.name!r} shares trainable layers with its teacher "
                f"{model.name!r} ({', '.join(map(repr, shared))}): training would change the "
                f"teacher. {_COPY} Or freeze the shared layers (layer.trainable = False)."
            )


_COPY = (
    "For self-distillation, teach with a copy: teacher = keras.models.clone_model(model); "
    "teacher.set_weights(model.get_weights())."
)


def _changing_variables(model) -> dict[int, str]:
    """Return the variables that a training step may change: id → name of the layer."""
    if not model.built:
        return {}
    found = {id(variable): model.name for variable in model.trainable_weights}
    for layer in model._flatten_layers():
        if hasattr(layer, "layers"):
            continue
        # Training changes the statistics of batch normalization.
        moves = (kind_of(layer) or "").endswith("BatchNormalization") and layer.trainable
        found |= {id(v): layer.name for v in (layer.weights if moves else layer.trainable_weights)}
    return found


def check_first_examples(x, y, objective, ask) -> None:
    """Look at the first examples, and at all labels of arrays, before the first step.

    Args:
        x: As `fit` got it; a generator can't be looked into.
        y: As `fit` got it.
        objective: The `objective.Objective` of the student.
        ask: Returns the teacher's answers for a batch, as `Teacher.ask`; `None` to not ask it.

    Raises:
        InputError: for no data, labels that don't fit the outputs, or a teacher that can't
            take the examples or whose answers are not finite.
    """
    few, labels = first_examples(x, y)
    if few is None:
        return
    if labels is None:
        needy = [type(one.soft).__name__ for one in objective.lessons
                 if one.soft is not None and one.soft.needs_labels]  # fmt: skip
        if needy:
            raise InputError(f"{', '.join(needy)} needs labels y; choose another soft_loss.")
    else:
        for label, lesson in zip(bound_labels(labels, objective), objective.lessons, strict=True):
            if label is not None and lesson.reads_labels and not lesson.is_custom:
                check_labels(np.asarray(label), lesson)
    if isinstance(few, teachers.TeacherBatch) or ask is None:
        return
    try:
        answers, features = ask(few)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # the teacher's code may raise anything for inputs of another kind
        cause = functions.cause_of(error)
        if isinstance(cause, InputError):
            raise
        raise InputError(
            f"The teacher can't take the first examples, of shape {_shapes(few)} "
            f"({first_line(cause)}); if its inputs differ from the student's, convert x to them "
            f"with {argument('teacher_inputs', like='function')}."
        ) from cause
    names = [lesson.name for lesson in objective.lessons]
    for name, value in [*zip(names, answers, strict=True), *features.items()]:
        if value is not None and not np.isfinite(np.asarray(value)).all():
            raise InputError(
                f"The teacher's answers for {name!r} hold NaN or infinite values in the first "
                "examples; check its weights and its inputs."
            )


def check_class_weight(x, y, objective, per_example: bool) -> None:
    """Raise if labels have a class per step or pixel, for which Keras finds no class weight.

    Both Kerases take the place of the largest number along the last axis for the class; Keras 3
    has one weight per example, and tf_keras takes one-hot labels and labels (batch, steps, 1) of
    steps too.

    Args:
        x: As `fit` got it.
        y: As `fit` got it.
        objective: The `objective.Objective` of the student.
        per_example: Whether class weights are for whole examples alone.

    Raises:
        InputError: saying which `sample_weight` does the same.
    """
    _, labels = first_examples(x, y)
    if labels is None or len(objective.lessons) > 1:
        return
    (lesson,), (label,) = objective.lessons, bound_labels(labels, objective)
    shape = tuple(np.shape(label))
    lacks_axis = len(shape) < len(lesson.shape) and shape[-1] != 1
    if len(shape) < 2 or not (lacks_axis or (per_example and len(shape) > 2)):
        return
    numbers = "y" if lacks_axis else "y[..., 0]" if shape[-1] == 1 else "y.argmax(-1)"
    raise InputError(
        f"class_weight is for one class per example, and the labels of the output {lesson.name!r}, "
        f"of shape {shape}, have more: give "
        f"{argument('sample_weight', like='np.vectorize(class_weight.get)(classes)')} instead, "
        f"with classes = {numbers}."
    )


def bound_labels(y, objective) -> list:
    """Return the labels of each output, `None` where it has none.

    Args:
        y: Labels in any form that binds to the outputs.
        objective: The `objective.Objective` of the student.

    Raises:
        InputError: for labels that neither names nor order match, or a missing one.
    """
    outputs = objective.outputs
    if len(outputs) == 1 and not isinstance(y, dict):
        return (
            [next(iter(graph.leaves(y)))] if isinstance(y, (list, tuple)) and len(y) == 1 else [y]
        )
    labels = outputs.bind(y, "labels (y)", missing=True)
    lacking = [
        lesson.name
        for lesson, metrics, label in zip(objective.lessons, objective.metrics, labels, strict=True)
        if label is None and (lesson.reads_labels or metrics)
    ]
    if lacking:
        raise InputError(
            f"There are no labels for {', '.join(map(repr, lacking))}, which have a loss or a "
            f"metric that reads them; the outputs of the {outputs.owner} are "
            f"{', '.join(map(repr, outputs.labels))}: give labels "
            "for each, or no loss and metric."
        )
    return labels


def first_examples(x, y, count: int = _PROBE):
    """Return the first examples and their labels; `(None, None)` for a generator.

    Labels of arrays come whole: they are cheap to read, and a label out of range is rarely the
    first.

    Raises:
        InputError: for no examples, or different numbers of them.
    """
    if isinstance(x, (tf.data.Dataset, Opened)):
        for element in _elements(x, 1):
            return _cut(element, lambda leaf: rows_of(leaf, slice(count)))
        raise InputError("The dataset is empty.")
    if is_data_set(x):
        if len(x) == 0:
            raise InputError("The data holds no examples.")
        return _cut(x[0], lambda leaf: np.asarray(leaf)[:count])
    leaves = list(graph.leaves(x))
    if not leaves or not all(hasattr(leaf, "shape") and len(leaf.shape) > 0 for leaf in leaves):
        return None, None
    labels = [] if y is None else [leaf for leaf in graph.leaves(y) if hasattr(leaf, "__len__")]
    lengths = {leaf.shape[0] for leaf in leaves} | {len(leaf) for leaf in labels}
    if 0 in lengths:
        raise InputError("The data holds no examples.")
    if len(lengths) > 1:
        raise InputError(f"x and y have different numbers of examples: {sorted(lengths)}.")

    def few(leaf):
        first = rows_of(leaf, slice(count))
        if isinstance(first, tf.SparseTensor):
            return first
        return tf.convert_to_tensor(first.toarray() if hasattr(first, "toarray") else first)

    return graph.map_structure(few, x), y


def labelled_sample(x, y, count: int, weight=None):
    """Return examples from all over the data, their labels and weights, and a batch's examples.

    Arrays give rows at equal distances, since they may be sorted by class, and no batch size; data
    sets give their first batches. All are `None` if there are no labels, or the data can't be
    inspected. Without weights these are `()`.

    Args:
        x: As `fit` got it.
        y: As `fit` got it.
        count: How many examples, at most.
        weight: The weights of arrays, as `fit` got them.
    """
    if y is not None and not is_data_set(x):
        leaves = list(graph.leaves(x))
        if not all(hasattr(leaf, "shape") and len(leaf.shape) > 0 for leaf in leaves):
            return None, None, None, None
        count = _sample_size(leaves, count)
        step = max(1, leaves[0].shape[0] // count)
        rows = lambda leaf: rows_of(leaf, slice(0, count * step, step))  # noqa: E731
        few, labels = first_examples(
            graph.map_structure(rows, x),
            graph.map_structure(lambda leaf: None if leaf is None else rows(np.asarray(leaf)), y),
            count,
        )
        weights = () if weight is None else graph.map_structure(rows, weight)
        return graph.map_structure(_as_keras_feeds, few), labels, weights, None
    if not is_data_set(x):
        return None, None, None, None
    batches, held, size = [], 0, None
    for element in _elements(x, _BATCHES):
        size = size or int(next(graph.leaves(element)).shape[0])
        few, labels = _cut(element, lambda leaf, left=count - held: rows_of(leaf, slice(left)))
        if labels is None:
            return None, None, None, None
        if not batches and (most := _sample_size(list(graph.leaves(few)), count)) < count:
            count = most
            few, labels = _cut((few, labels), lambda leaf, most=most: rows_of(leaf, slice(most)))
        weighed = element[2] if len(element) > 2 and element[2] is not None else ()
        left = slice(count - held)
        weights = graph.map_structure(lambda leaf, left=left: rows_of(leaf, left), weighed)
        if batches and not _can_follow(batches[0], (few, labels, weights)):
            break
        batches.append((few, labels, weights))
        held += int(next(graph.leaves(few)).shape[0])
        if held >= count or len(batches) == _BATCHES:
            break
    if not batches:
        return None, None, None, None
    if len(batches) > 1:
        batches = [tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)]
    return (*batches[0], size)


def rows_of(leaf, chosen: slice):
    """Return rows of an array or tensor; of a sparse tensor too, which can't be indexed."""
    if not isinstance(leaf, tf.SparseTensor):
        return leaf[chosen]
    numbers = range(*chosen.indices(int(leaf.shape[0])))
    place = tf.math.floordiv(leaf.indices[:, :1] - numbers.start, numbers.step)
    exact = tf.equal(place * numbers.step + numbers.start, leaf.indices[:, :1])
    kept = (exact & (place >= 0) & (place < len(numbers)))[:, 0]
    indices = tf.concat([place, leaf.indices[:, 1:]], axis=1)
    shape = tf.concat([[len(numbers)], leaf.dense_shape[1:]], axis=0)
    return tf.SparseTensor(indices[kept], leaf.values[kept], shape)


#: Most bytes of a sample: a row may be a video.
_BYTES = 2**28


def _sample_size(leaves: list, count: int) -> int:
    """Return how many examples fit into a sample, by the bytes of each."""
    size = sum(bytes_of_example(leaf) for leaf in leaves if hasattr(leaf, "shape"))
    return max(1, min(count, _BYTES // max(size, 1)))


def bytes_of_example(leaf) -> int:
    """Return about how much one row of an array or tensor takes; of ragged ones the mean."""
    if hasattr(leaf, "flat_values"):
        rows = max(int(leaf.nrows()), 1)
        return math.prod(leaf.flat_values.shape.as_list()) * 4 // rows
    return math.prod(int(size) for size in leaf.shape[1:]) * 4


def _as_keras_feeds(leaf):
    """Return a tensor of arrays in the form that `fit` passes on: floats in Keras's dtype."""
    dtype = keras.config.floatx()
    return tf.cast(leaf, dtype) if leaf.dtype.is_floating and leaf.dtype.name != dtype else leaf


#: Most batches of a data set that are read for a sample, since reading takes time.
_BATCHES = 16


def _elements(x, count: int):
    if isinstance(x, Opened):
        yield from x.first(count)
    elif isinstance(x, tf.data.Dataset):
        yield from x.take(count)
    else:
        yield from (x[i] for i in range(min(len(x), count)))


def _can_follow(first, other) -> bool:
    """Tell whether two batches can be joined."""
    pairs = zip(graph.leaves(first), graph.leaves(other), strict=True)
    return all(
        isinstance(a, (np.ndarray, tf.Tensor))
        and isinstance(b, (np.ndarray, tf.Tensor))
        and a.shape[1:] == b.shape[1:]
        for a, b in pairs
    )


def is_data_set(x) -> bool:
    """Tell whether data comes in batches that can be looked into: no generator, no arrays."""
    if isinstance(x, (tf.data.Dataset, Opened)):
        return True
    # keras.utils.PyDataset, tf_keras.utils.Sequence
    return hasattr(x, "__getitem__") and (
        hasattr(x, "num_batches") or (hasattr(x, "__len__") and hasattr(x, "on_epoch_end"))
    )


def _cut(element, cut):
    parts = element if isinstance(element, tuple) else (element,)
    if isinstance(element, teachers.TeacherBatch):
        parts = (element,)
    few = [graph.map_structure(cut, part) for part in parts[:2]]
    return few[0], few[1] if len(few) > 1 else None


def check_labels(y: np.ndarray, lesson: lessons.Lesson) -> None:
    """Raise for labels that don't fit their output, naming the first row.

    Args:
        y: Labels (examples, ...).
        lesson: How the output learns.

    Raises:
        InputError: for shapes that would broadcast, and labels that are NaN, negative,
            fractional or too large.
    """
    _check_shape(y, lesson)
    if y.dtype.kind not in "biuf" or not y.size:
        return
    for bad, what in _problems(y, lesson, np):
        wrong = np.asarray(bad)
        if wrong.any():
            row = int(np.argwhere(wrong.reshape(len(y), -1).any(1))[0, 0])
            value = y[row][wrong[row]] if y.ndim > 1 else y[row : row + 1]
            raise InputError(
                f"{what} (row {row}: {np.ravel(value)[0]:g}){_missing_label_hint(lesson)}."
            )


def _check_shape(y, lesson):
    shape, rows, name = lesson.shape, y.shape[1:], lesson.name
    if _are_numbers(y.shape, lesson):
        return
    wanted = tuple(shape[1:])
    known = tuple(w if w is not None else r for w, r in zip(wanted, rows, strict=False))
    squeezed = wanted[-1:] == (1,) and rows == known[: len(wanted) - 1]
    if (rows != known and not squeezed) or (len(rows) != len(wanted) and not squeezed):
        raise InputError(
            f"The labels have the shape {y.shape}, but the output {name!r} gives {tuple(shape)}; "
            "they would broadcast. Reshape the labels to fit the output."
        )


def _are_numbers(shape, lesson) -> bool:
    """Tell whether labels of a shape are class numbers rather than rows of classes."""
    if lesson.task != "categorical":
        return False
    if len(shape) < len(lesson.shape):
        return True
    return shape[-1] == 1 and lesson.shape[-1] != 1


def _problems(y, lesson, np_or_tf):
    """Yield pairs (which labels are wrong, what is wrong with them)."""
    isnan = tf.math.is_nan if np_or_tf is tf else np.isnan
    isinf = tf.math.is_inf if np_or_tf is tf else np.isinf
    floating = y.dtype.is_floating if np_or_tf is tf else y.dtype.kind == "f"
    missing = _missing(y, lesson, isnan, floating)
    there = lambda bad: bad if missing is None else bad & ~missing  # noqa: E731
    name, classes = lesson.name, lesson.classes
    if floating:
        bad = there(isnan(y) | isinf(y))
        yield bad, f"Labels of the output {name!r} are NaN or infinite"
    if lesson.task == "categorical" and _are_numbers(tuple(y.shape), lesson):
        if floating:
            floor = tf.floor(y) if np_or_tf is tf else np.floor(y)
            yield (
                there(y != floor),
                (f"Labels of the output {name!r} are class numbers with a fraction"),
            )
        yield (
            there(y < 0),
            (
                f"Labels of the output {name!r} are negative, but it has {classes} classes, 0 to "
                f"{classes - 1}"
            ),
        )
        large = there(y >= classes)
        yield (
            large,
            (
                f"The labels go {_largest_label_text(y, large)}, but the output {name!r} has "
                f"{classes} classes, 0 to {classes - 1}"
            ),
        )
    elif lesson.task == "categorical":
        yield there(y < 0), f"Labels of the output {name!r} are negative shares of a class"
    elif lesson.task == "binary":
        yield (
            there((y < 0) | (y > 1)),
            (f"Labels of the yes/no output {name!r} must be from 0 to 1"),
        )


def _missing(y, lesson, isnan, floating):
    """Return which labels are missing; `None` if these labels can't be missing."""
    missing = None
    for value in (lesson.unlabeled, lesson.ignored):
        if value is None:
            continue
        if value != value:
            found = isnan(y) if floating else None
        else:
            found = y == value if isinstance(y, np.ndarray) else lessons.is_value(y, value)
        if found is not None:
            missing = found if missing is None else missing | found
    return missing


def _largest_label_text(y, large) -> str:
    if isinstance(y, np.ndarray):
        return f"up to {int(y[large].max()) if np.any(large) else 0}"
    return "past the last class"


def _missing_label_hint(lesson) -> str:
    if lesson.unlabeled is None and lesson.ignored is None:
        return f"; correct them, or give the value of missing labels as {argument('unlabeled')}"
    return ""


def assert_labels(y, lesson: lessons.Lesson) -> list:
    """Return assertions that a batch's labels fit, for inside a step.

    Args:
        y: Labels of a batch, as the pipeline gave them.
        lesson: How the output learns.
    """
    y = tf.convert_to_tensor(y)
    if y.dtype == tf.bool or not (y.dtype.is_floating or y.dtype.is_integer):
        return []
    if y.dtype == tf.uint64:
        y = tf.minimum(y, tf.constant(tf.int64.max, tf.uint64))  # so that no label becomes negative
    if y.dtype.is_integer:
        y = tf.cast(y, tf.int64)
    bads = [bad for bad, _ in _problems(y, lesson, tf)]
    if not bads:
        return []

    def say():
        bads, texts = zip(*_problems(y, lesson, tf), strict=True)
        first = tf.argmax(tf.cast(tf.stack([tf.reduce_any(bad) for bad in bads]), tf.int32))
        bad = tf.stack(bads)[first]
        row = tf.reduce_min(tf.where(bad)[:, 0])
        where = tf.strings.format(" (row {} of the batch: {})", (row, tf.boolean_mask(y, bad)[0]))
        said = tf.constant(texts)[first]
        return assertions.marked(said, where, f"{_missing_label_hint(lesson)}.")

    wrong = functools.reduce(tf.logical_or, bads)
    return [assertions.assertion(tf.logical_not(tf.reduce_any(wrong)), say)]


def assert_finite(loss, **values):
    """Return an assertion that a loss is finite, which says what else is not.

    Args:
        loss: Scalar.
        **values: The parts of the loss by name: nested tensors.
    """

    def broken(leaf):
        leaf = leaf.values if isinstance(leaf, tf.SparseTensor) else leaf
        return tf.logical_not(tf.reduce_all(tf.math.is_finite(tf.cast(leaf, tf.float32))))

    def state(name, nested):
        floats = [leaf for leaf in graph.leaves(nested) if _is_float(leaf)]
        wrong = tf.reduce_any(tf.stack(list(map(broken, floats)))) if floats else tf.constant(False)
        rows = "" if name.startswith("weights") else _broken_rows(floats)
        return tf.where(wrong, tf.strings.join([f" {name}", rows, ";"]), "")

    def say():
        found = tf.strings.join([state(name.replace("_", " "), v) for name, v in values.items()])
        return assertions.marked(
            "The loss is NaN or infinite. These are not finite:",
            found,
            " the step was not taken. Correct the inputs; if only the student is not finite, "
            "lower the learning rate or set the optimizer's clipnorm.",
        )

    return assertions.assertion(tf.math.is_finite(loss), say)


def broken_layers(model) -> list[str]:
    """Return the names of the layers whose weights hold NaN, or infinite values that are trained.

    Weights that are not trained may be infinite by design, as in a mask that is added to logits.
    """
    trained = set(map(id, model.trainable_variables))
    in_layers = [(layer.name, variable) for layer in model.layers for variable in layer.weights]
    known = {id(variable) for _, variable in in_layers}
    own = [(model.name, variable) for variable in model.weights if id(variable) not in known]
    broken = []
    for name, variable in (*in_layers, *own):
        values = np.asarray(variable)
        if values.dtype.kind not in "fV":  # NumPy has no dtype kind for bfloat16
            continue
        values = values.astype("float32")
        if np.isnan(values).any() or (id(variable) in trained and np.isinf(values).any()):
            broken.append(name)
    return list(dict.fromkeys(broken))


def _broken_rows(leaves):
    """Describe which rows of a batch are not finite; empty if there are no rows."""
    dense = [leaf for leaf in leaves if isinstance(leaf, tf.Tensor) and leaf.shape.rank]
    if len({leaf.shape[0] for leaf in dense}) != 1:
        return ""
    finite = [
        tf.reduce_all(tf.math.is_finite(leaf), axis=list(range(1, leaf.shape.rank)))
        for leaf in dense
    ]
    bad = tf.logical_not(tf.reduce_all(tf.stack(finite), axis=0))
    first = tf.reduce_min(tf.where(bad))
    said = " in {} of {} rows of the batch (the first is {})"
    return tf.strings.format(said, (tf.math.count_nonzero(bad), tf.size(bad), first))


def _shapes(x) -> str:
    return ", ".join(str(tuple(leaf.shape)) for leaf in graph.leaves(x))


def _is_float(leaf) -> bool:
    return hasattr(leaf, "dtype") and tf.as_dtype(leaf.dtype).is_floating


def first_line(error) -> str:
    """Return an error's message in one line of at most 200 characters."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # Keras prints bold text
    return " ".join(plain.split())[:200] or type(error).__name__
