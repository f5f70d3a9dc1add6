"""The labels that each output of a model learns, bound by name, with task, loss and metric.

labels ─► an array: those of the one output ──────► Output ─► loss, metric, checks
      └─► a dict: by name, whatever the order ────► Output for each, in the model's order
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfkd import output_kind
from tfkd.compression.loss import loss_for, metric_for
from tfkd.data.outputs import names_of, shown
from tfkd.errors import InputError, argument
from tfkd.export.tflite.model import TFLiteModel
from tfkd.model import backends, binding, graph
from tfkd.model import task as tasks


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a model, and the labels that it learns.

    Attributes:
        name: Its name in the labels; `None` if they are an array, for a single output.
        shape: Shape of the answers, (examples, ...).
        activation: `"softmax"`, `"sigmoid"` or `"linear"`; `None` if it is not known, or the
            classes are not along the last axis.
        labels: Labels of the training part, or of another, see `of`.
        task: One of `tfkd.model.task.TASKS`.
    """

    name: str | None
    shape: tuple[int | None, ...]
    activation: str | None
    labels: np.ndarray
    task: str

    def of(self, labels: Any) -> Output:
        """Return the same output with the labels of another part of the data."""
        return dataclasses.replace(self, labels=value_of(labels, self.name))

    def loss(self, package: Any) -> Any:
        """Return the loss that fits it, see `loss_for`."""
        units = self.shape[-1]
        with self.named():
            return loss_for(
                package, self.activation, units, self.labels, shape=self.shape, task=self.task
            )

    def metric(self, package: Any, loss: Any) -> Any:
        """Return the metric to report with the loss."""
        return metric_for(package, self.task, self.activation, loss)

    def check(self) -> None:
        """Raise for labels of a training part from which nothing can be learned.

        Raises:
            InputError: for labels of anomalies, and for labels with only one class.
        """
        with self.named():
            if self.task == "anomaly":
                raise InputError(
                    "Labels of anomalies score a detector, but a detector learns values: give the "
                    "examples as their own labels, (x, x), and verify the file with the labels."
                )
            if self.task != "regression":
                self._check_several()

    def warn_of_unseen(self, parts: Sequence[Any]) -> None:
        """Warn about classes that other parts of the data have, and the training part has not.

        Args:
            parts: The labels of each part.

        Warns:
            UserWarning: with the first of these classes.
        """
        if self.task != "categorical":
            return
        known = set(self._classes())
        unseen = sorted({one for y in parts for one in self.of(y)._classes()} - known)
        if unseen:
            of = "" if self.name is None else f" of {self.name!r}"
            classes = f"class{'es' if len(unseen) > 1 else ''} {', '.join(map(str, unseen[:5]))}"
            warnings.warn(
                f"The training part has no example of {classes}{of}, which other parts have: no "
                "student can learn that. Split the data so that each part has each class.",
                stacklevel=5,
            )

    def _classes(self) -> np.ndarray:
        """Return the class numbers in the labels."""
        y, units = self.labels, self.shape[-1]
        rows = y.ndim > 1 and y.shape[-1] == units != 1 and y.ndim == len(self.shape)
        return np.unique(y.argmax(-1) if rows else y)

    def check_names(self, names: Sequence[str], model: str) -> None:
        """Raise if classes were numbered without one that the model has, which shifts the others.

        Args:
            names: Names of the classes; may be empty.
            model: The model's name.
        """
        units, word = self.shape[-1], "outputs" if self.name is None else "numbers"
        if names and self.task in ("categorical", "multilabel") and len(names) != units:
            few = ", ".join(map(repr, names[:6])) + (", ..." if len(names) > 6 else "")
            with self.named():
                raise InputError(
                    f"{model!r} has {units} {word}, but the data names {len(names)} classes "
                    f"({few}): name one for each {word[:-1]}, in the order of the {word}, with "
                    f"{argument('class_names', of='as_data')}."
                )

    def _check_several(self) -> None:
        y, shape = self.labels, self.shape
        several = y.ndim > 1 and y.shape == tasks.filled(shape, y)
        rows = y.reshape(-1, y.shape[-1] if several else 1)
        if (rows == rows[0]).all():
            label = rows[0].item() if rows.shape[1] == 1 else rows[0].tolist()
            raise InputError(
                f"All {len(y)} labels of the training part are {label}, so there is nothing to "
                "tell apart: give examples of each class."
            )

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Name the output in its error message if there are several."""
        try:
            yield
        except InputError as error:
            if self.name is None:
                raise
            raise InputError(f"For the output {self.name!r}: {error}") from error


def outputs_of(model: Any, labels: Any, task: Any = None) -> tuple[Output, ...]:
    """Return the outputs of a model in its flat order, each with its labels.

    Args:
        model: A model of either Keras.
        labels: Labels of the training part, an array for one output or a dict by name for several.
        task: One of `tfkd.model.task.TASKS`; for several outputs, a dict by name. Defaults to the
            task that labels and outputs imply.

    Raises:
        InputError: for labels that are not those of the model's outputs, or don't fit them.
    """
    names = names_in(model, names_of(labels))
    if names == (None,):
        shapes: list[Any] = [_shape_of(model)]
    else:
        shapes = [slot.shape for slot in binding.outputs_of(model).entries]
    found = []
    activations = output_kind.output_activations(model)
    for name, shape, activation in zip(names, shapes, activations, strict=True):
        output = Output(name, shape, activation, value_of(labels, name), "")
        known = task.get(name) if isinstance(task, Mapping) else task
        with output.named():
            known = known or tasks.task_of(output.labels, shape, activation=activation)
        found.append(dataclasses.replace(output, task=known))
    return tuple(found)


def canonical(task: Any, names: Sequence[str]) -> Any:
    """Return a given task by its canonical name; for several outputs, a dict of tasks.

    Args:
        task: One of `tfkd.model.task.TASKS`, a dict of output → task, or `None`.
        names: Names of the outputs that have labels; empty for a single one.

    Raises:
        InputError: for an unknown task, or one that does not match the outputs of the labels.
    """
    if task is None:
        return None
    spelled = argument("task", alone=True)
    if not isinstance(task, Mapping):
        if names:
            raise InputError(
                f"The labels are for {shown(names)}: give {spelled} as a dict of output → task (in "
                "Python, or in the file of a recipe)."
            )
        return tasks.canonical(task)
    unknown = [name for name in task if name not in names]
    if unknown:
        raise InputError(
            f"{spelled} has an entry for {shown(unknown)}, but the labels are for {shown(names)}."
        )
    return {name: tasks.canonical(one) for name, one in task.items()}


def names_in(model: Any, names: Sequence[str], missing: bool = False) -> tuple[str | None, ...]:
    """Return the name of each output of a model in the labels, in its flat order.

    Args:
        model: A model of either Keras, or a `TFLiteModel`.
        names: Names of the outputs that have labels; empty for one output, which has no name.
        missing: Whether the model may have outputs without labels; their names are `None`.

    Raises:
        InputError: for labels of other outputs than the model's.
    """
    if not names:
        return (None,)
    if not isinstance(model, TFLiteModel):
        _check_structure(model, names)
    return tuple(_slots(model).bind({name: name for name in names}, "labels (y)", missing=missing))


def _check_structure(model: Any, names: Sequence[str]) -> None:
    """Raise for a model to whose outputs labels by name can't be bound."""
    if not graph.has_graph(model):
        raise InputError(
            f"{model.name!r} has no graph, so labels can't be matched with its outputs: train it "
            "in a Distiller or with its own fit."
        )
    structure = graph.walk(model).outputs
    if isinstance(structure, graph.Tensor):
        raise InputError(
            f"{model.name!r} has one output, but the labels are for {shown(names)}: give one array."
        )
    if not all(isinstance(one, graph.Tensor) for one in _values(structure)):
        raise InputError(
            f"The outputs of {model.name!r} are nested lists or dicts: give them in one dict by "
            "name."
        )


def _values(structure: Any) -> list[Any]:
    return list(structure.values() if isinstance(structure, Mapping) else structure)


def answering(model: Any, names: Sequence[str]) -> Callable[[Any], Any]:
    """Return a function from a batch to answers in the form of labels: by name for several outputs.

    Args:
        model: A Keras model, or a `TFLiteModel`.
        names: Names of the outputs that have labels; others are left out. Empty for one output.
    """
    is_file = isinstance(model, TFLiteModel)
    answers = model.predict if is_file else model.predict_on_batch
    if not names:
        return lambda x: next(iter(graph.leaves(answers(x))))  # a dict may contain a single output
    slots, bound = _slots(model), names_in(model, names, missing=True)

    def by_name(x):
        found = slots.bind(answers(x), "answers")
        return {name: one for name, one in zip(bound, found, strict=True) if name is not None}

    return by_name


def activations_of(model: Any, names: Sequence[str]) -> dict[str | None, str | None]:
    """Return the activation of each output of a model, by the name that labels give it."""
    bound = names_in(model, names, missing=True)
    return dict(zip(bound, output_kind.output_activations(model), strict=True))


def renamed(
    metrics: Mapping[str, float], file: TFLiteModel, names: Sequence[str]
) -> dict[str, float]:
    """Return a file's metrics, `"name.accuracy"` of several outputs, with the labels' names.

    Args:
        metrics: Metrics by the names of the file's outputs.
        file: The file.
        names: Names of the outputs that have labels; empty for one, whose metrics have no name.
    """
    if not names:
        return dict(metrics)
    bound = names_in(file, names, missing=True)
    known = {slot.name: name for slot, name in zip(_slots(file).entries, bound, strict=True)}
    pairs = ((*key.rsplit(".", 1), value) for key, value in metrics.items())
    return {f"{known[output]}.{metric}": value for output, metric, value in pairs}


def curves_by_name(
    curves: Mapping[str, list[float]], model: Any, names: Sequence[str]
) -> dict[str, list[float]]:
    """Return the curves of `fit`, with each output's metrics under its name in the labels.

    Args:
        curves: `"val_NAME_accuracy"` and so on. NAME is the key in a dict of outputs in Keras 3,
            and the layer's name otherwise.
        model: The model that was trained.
        names: Names of the outputs that have labels; empty for a single one.
    """
    if not names:
        return dict(curves)
    by_key = backends.package_of(model) is keras
    known = {
        f"{front}{called}_{metric}": f"{front}{name}_{metric}"
        for name, slot in zip(names_in(model, names), _slots(model).entries, strict=True)
        for called in [slot.key if by_key and slot.key is not None else slot.name]
        for front in ("", "val_")
        for metric in ("loss", "accuracy", "mae")
    }
    return {known.get(key, key): values for key, values in curves.items()}


def _slots(model: Any) -> binding.Slots:
    return model._slots("outputs") if isinstance(model, TFLiteModel) else binding.outputs_of(model)


def value_of(values: Any, name: str | None) -> Any:
    """Return an output's entry in values by name; for a single output, the value itself."""
    return values if name is None else values[name]


def arranged(model: Any, names: Sequence[str | None], values: Sequence[Any]) -> Any:
    """Return values in the structure of a model's outputs, as its `fit` and `compile` take them.

    Args:
        model: A model of either Keras.
        names: Of its outputs, as `names_in` gives them.
        values: One for each, in the same order.
    """
    if tuple(names) == (None,):
        return values[0]
    structure = graph.walk(model).outputs
    if isinstance(structure, Mapping):
        return dict(zip(sorted(structure), values, strict=True))
    return list(values)


def _shape_of(model: Any) -> tuple[int | None, ...]:
    """Return the shape of a single output."""
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, (dict, list)) and len(shape) == 1:  # tf_keras keeps the structure
        [shape] = shape.values() if isinstance(shape, dict) else shape
    if not isinstance(shape, tuple) or not all(isinstance(n, (int, type(None))) for n in shape):
        if graph.has_graph(model) and len(found := binding.outputs_of(model)) > 1:
            wanted = ", ".join(f"{label!r}: ..." for label in found.labels)
            raise InputError(
                f"{model.name!r} has {len(found)} outputs, but the labels are one array: give a "
                f"dict of them, {{{wanted}}}."
            )
        raise InputError(
            f"{model.name!r} must have one output of a known shape to be trained here; train it "
            "in a Distiller or with its own fit."
        )
    return shape
