"""`verify`: does the file compute the same as the model, and how well does it do the job?"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd import intervals
from tfkd.data import Data, Part, Samples, Stream
from tfkd.data.batches import kind_of
from tfkd.errors import InputError, argument
from tfkd.escaping import printable
from tfkd.export.conversion import to_tflite
from tfkd.export.runtime.interpreter import ENGINES, check_engine
from tfkd.export.tflite import schema
from tfkd.export.tflite.model import STEP, TFLiteModel
from tfkd.export.verification import references
from tfkd.export.verification.layer_errors import LayerErrors, layer_errors
from tfkd.loading import signatures
from tfkd.model import backends, binding, metrics
from tfkd.model import task as tasks
from tfkd.model.metrics import score
from tfkd.output_kind import OutputKind
from tfkd.tables import Printed

if TYPE_CHECKING:
    from tfkd._typing import Arrays, PathLike

__all__ = ["OutputParity", "Verification", "score", "verify"]

# The lowest agreement that passes, by the kind of arithmetic.
_LEAST_AGREEMENT = {"float": 0.995, "int8": 0.98}
# The largest mean difference that passes, as a fraction of the outputs' variation between
# examples: a model with the same output for every example agrees with any file.
_LARGEST_DIFFERENCE = {"classes": 0.2, "values": 0.05}
# A class is lost if the file surely gives it in less than this share of the examples in which the
# model does: a file that never says yes agrees with nearly every example where yes is rare.
_LEAST_OF_A_CLASS = 0.5
# Rounding error of single precision, relative to the value.
_ROUNDING = 1e-6
# Most examples and bytes per batch of data that is not in memory.
_MOST, _MOST_BYTES = 4096, 2**26


@dataclasses.dataclass(frozen=True)
class OutputParity(Printed):
    """The difference between one output of a file and of its model.

    Attributes:
        name: The output's name in the file.
        argmax_agreement: Fraction on which both pick the same class; `None` for values.
        max_abs_diff: Largest difference, in the output's unit.
        mean_abs_diff: Mean difference, in the output's unit.
        max_lsb: Largest difference in steps of the output's scale; `None` for float outputs.
        relative_diff: Mean difference as a share of the output's standard deviation from example
            to example. For values it is the mean over the last axis, since each may have its own
            unit. It is 1 if the model's output does not vary and the file's differs from it.
        passed: Whether the agreement reaches `threshold`, the difference is within
            `allowed_relative` and no class is lost.
        threshold: The least agreement that passes; `None` for values.
        allowed: The mean difference, in the output's unit, that equals `allowed_relative`.
        allowed_relative: The largest `relative_diff` that passes.
        lost: A class that the model gives and the file mostly does not, with the figures; empty if
            there is none.
    """

    name: str
    argmax_agreement: float | None
    max_abs_diff: float
    mean_abs_diff: float
    max_lsb: float | None
    passed: bool
    threshold: float | None
    allowed: float
    relative_diff: float = 0.0
    allowed_relative: float = 0.0
    lost: str = ""

    def describe(self) -> str:
        """Describe the output's difference in a line."""
        parts = []
        if self.argmax_agreement is not None:
            parts.append(
                f"same class {self.argmax_agreement:.2%} (at least {self.threshold:.2%} wanted)"
            )
        if self.lost:
            parts.append(self.lost)
        parts.append(
            f"mean difference {self.mean_abs_diff:.3g}, {self.relative_diff:.1%} of how much it "
            f"varies (at most {self.allowed_relative:.0%} wanted)"
        )
        steps = "" if self.max_lsb is None else f" or {self.max_lsb:.1f} integer steps"
        parts.append(f"largest {self.max_abs_diff:.3g}{steps}")
        return printable(f"{self.name}: {', '.join(parts)}")


@dataclasses.dataclass(frozen=True)
class Verification(Printed):
    """The comparison of a file with its model; for several outputs, each figure is the worst.

    Attributes:
        engine: Kernels that ran the file.
        samples: Number of examples that were compared.
        argmax_agreement: Fraction on which both pick the same class; `None` for values.
        max_abs_diff: Largest difference of an output, in the output's unit.
        mean_abs_diff: Mean difference of an output, in the output's unit.
        max_lsb: Largest difference in steps of the output's scale; `None` for float outputs.
        metrics: The file's scores, as from `score`; for several outputs as `"name.accuracy"`.
            Empty without labels.
        model_metrics: The model's scores.
        passed: Whether every output's agreement reaches the threshold, its mean difference is
            small against the variation of the output (a fifth for classes, a twentieth for
            values), and no class of the model's answers is lost.
        threshold: The least agreement that passes; `None` for values.
        outputs: The same figures for each output, in the model's order.
        layers: The error of each layer, if `layers=True` was given.
        four_bit_weights: Number of the file's weights that have 4 bits.
    """

    engine: str
    samples: int
    argmax_agreement: float | None
    max_abs_diff: float
    mean_abs_diff: float
    max_lsb: float | None
    metrics: dict[str, float]
    model_metrics: dict[str, float]
    passed: bool
    threshold: float | None
    outputs: tuple[OutputParity, ...] = ()
    layers: LayerErrors | None = None
    four_bit_weights: int = 0

    @property
    def failure(self) -> str:
        """The failure in a line, with the figures; empty if the file passed."""
        failed = "; ".join(output.describe() for output in self.outputs if not output.passed)
        said = f"VERIFICATION FAILED ({self.engine}, {self.samples} examples): {failed}."
        return "" if self.passed else said

    def describe(self) -> str:
        """Describe the file's differences and scores in a few lines."""
        verdict = "passed" if self.passed else "FAILED"
        lines = [f"{verdict} on {self.samples} examples, run by {self.engine}"]
        if self.four_bit_weights:
            lines[0] += f", {self.four_bit_weights:,} weights of 4 bits"
        lines += [output.describe() for output in self.outputs]
        for name, value in self.metrics.items():
            own = self.model_metrics.get(name)
            beside = "" if own is None else f" (model {own:.4g})"
            lines.append(printable(f"{name}: {value:.4g}{beside}"))
        if self.layers is not None:
            lines.append(self.layers.describe(suggest=not self.passed or self._scores_worse()))
        return "\n".join(lines)

    def _scores_worse(self) -> bool:
        """Tell whether a score of the file is worse than the model's."""
        pairs = ((name, self.metrics[name], own) for name, own in self.model_metrics.items())
        return any(
            (own < value) if metrics.less_is_better(name) else (value < own)
            for name, value, own in pairs
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        shallow = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **shallow,
            "outputs": [dataclasses.asdict(output) for output in self.outputs],
            "layers": None if self.layers is None else self.layers.to_json(),
        }


def verify(
    file: TFLiteModel | PathLike,
    model: Any,
    x: Arrays,
    y: Arrays | None = None,
    engine: str = "auto",
    threshold: float | None = None,
    layers: bool = False,
    task: str | Mapping[str, str] | None = None,
    signature: str | None = None,
) -> Verification:
    """Compare a `.tflite` file with the Keras model it was made from, or with another reference.

    Both run on the same examples; a file or a model that keeps state is reset before each. A
    file that does not reach its threshold gets a warning. Differences are measured relative to
    the variation of the reference's outputs from example to example, whatever their unit.

    Without labels, an output that ends in a softmax or sigmoid is compared by its classes. An
    output that ends in a plain dense layer or convolution may hold logits or values: it passes
    if it passes as either. All other outputs, such as states and embeddings, are values.

    Args:
        file: A `TFLiteModel` or the path of a `.tflite` file.
        model: The Keras 3 or tf_keras model, or its path; for the file of a quantize-aware
            model, that model. Or the path of a SavedModel, whose signature is called; a float32
            `.tflite` file; a function that takes a batch in the form of `x` and returns an
            array (examples, ...), or a list or dict of them.
        x: Array of shape (examples, ...), or for several inputs a list of them in the
            model's order or a dict by its own keys or its layers' names; real data, the test
            split. Or a `tfkd.Data` (its test part is taken), a `Samples`, a `Stream` or the
            source of one, such as a `tf.data.Dataset` of batches (x, y), with labels: data that
            is not in memory is read in batches. Outputs and labels are held, and inputs of an
            output's size, which it may reconstruct.
        y: Labels (examples, ...), see `metrics.score`; for several outputs a list in the
            model's order, with `None` for an output that is not scored, or a dict by its own
            keys or its layers' names.
        engine: `"xnnpack"` (Android, desktop), `"reference"` (TensorFlow Lite's plain
            kernels) or `"tflm"` (TensorFlow Lite for Microcontrollers). `"auto"` is
            `"xnnpack"`. A microcontroller answers as `"tflm"` does, and nearly as
            `"reference"`: both differ from XNNPACK by rounding, up to whole classes.
        threshold: Least agreement on the class that passes. Defaults to 0.995 for float
            outputs, 0.98 for integer ones.
        layers: Whether to measure each layer's error too, which takes another conversion.
        task: `"categorical"` (or `"classification"`), `"binary"`, `"multilabel"`, `"anomaly"`
            or `"regression"`, if it does not follow from the model's outputs and the labels, see
            `tfkd.model.task.task_of`; for several outputs a dict of them by name, as for `y`.
            With several labels an example, the agreement counts each label by itself.
        signature: For a SavedModel, the key of the signature, as for `to_tflite`.

    Returns:
        A `Verification`.

    Warns:
        UserWarning: if an output does not reach its threshold.

    Raises:
        InputError: for an unknown engine, data or labels that don't fit, outputs that don't
            match the model's, or NaN.
        WorkerError: if the interpreter dies on the file.
    """
    check_engine(engine, ("auto", *ENGINES))
    engine = "xnnpack" if engine == "auto" else engine
    if task is not None and not isinstance(task, Mapping):
        task = tasks.canonical(task)
    if not isinstance(file, TFLiteModel):
        file = TFLiteModel.load(file)
    reference = references.of(model, signature)
    answers = _Answers(file, reference, engine, task, threshold)
    for batch_x, batch_y in _batches(x, y):
        answers.add(batch_x, batch_y)
    want, got, judges = answers.joined()
    model_scores = [judge.score(values) for judge, values in zip(judges, want, strict=True)]
    infos = references.visible(file, "outputs")
    order = _matching(
        "output",
        reference.outputs,
        reference.output_names,
        [values.shape[1:] for values in want],
        [(name, v.shape[1:]) for (name, _), v in zip(infos, got, strict=True)],
    )
    parities, scores = [None] * len(want), [None] * len(want)
    for place, (name, info), values in zip(order, infos, got, strict=True):
        judge = judges[place]
        parities[place] = judge.parity(name, values, want[place], info.scale)
        scores[place] = judge.score(values)
    names = [parity.name for parity in parities]
    result = Verification(
        engine=engine,
        samples=len(want[0]),
        metrics=_named(names, scores),
        model_metrics=_named(names, model_scores),
        outputs=tuple(parities),
        layers=_layers(file, reference, answers.fed) if layers else None,
        four_bit_weights=file.four_bit_weights,
        **_worst(parities),
    )
    if not result.passed:
        warnings.warn(_failure_message(result), stacklevel=2)
    return result


def _batches(x, y) -> Iterator[tuple]:
    """Yield examples and labels: arrays whole, and parts that are not in memory in batches."""
    part = x.test if isinstance(x, Data) else x
    if kind_of(part) is not None:
        part = Stream(part)
    if not isinstance(part, Part):
        yield x, y
        return
    if y is not None:
        raise InputError("The data contains its labels: leave y out.")
    if isinstance(part, Samples) and part.in_memory:
        yield part.x, part.y
        return
    # Each batch starts an interpreter's process, and is copied several times on the way.
    for batch in part.batches(part.at_once(_MOST, _MOST_BYTES)):
        yield batch.x, batch.y


class _Answers:
    """The answers of reference and file, batch by batch."""

    def __init__(self, file, reference, engine, task, threshold):
        self.file, self.reference, self.engine = file, reference, engine
        self.task, self.threshold = task, threshold
        self.want, self.got, self.labels = [], [], []
        self.judges: list[_Judge] = []
        self.x: list[np.ndarray | None] = []  # inputs that an output may reconstruct
        self.fed: list[np.ndarray] = []  # the first batch, in the form for the file

    def add(self, x, y) -> None:
        """Run both on a batch."""
        file, reference = self.file, self.reference
        arrays = reference.bind(x, over_steps=bool(file.states))
        places = _matching(
            "input",
            reference.inputs,
            reference.input_names,
            [array.shape[1:] for array in arrays],
            [(name, info.shape[1:]) for name, info in references.visible(file, "inputs")],
        )
        fed = [arrays[place] for place in places]
        given = [None] * len(reference.outputs)
        labels = given if y is None else reference.outputs.bind(y, "y", missing=True, arrays=True)
        self.labels.append(labels)
        stacked = _stacked(file, reference) if file.states else ()
        # The reference first, since it finds faster that labels don't fit.
        self.want.append([_checked_finite("model", one) for one in reference.run(arrays, stacked)])
        only = np.asarray(arrays[0]) if len(arrays) == 1 else None
        alike = only is not None and any(one.size == only.size for one in self.want[-1])
        self.x.append(only if alike else None)
        if not self.judges:
            self.judges, self.fed = self._judges(self.want[0], labels, only), fed
            for judge, one in zip(self.judges, self.want[0], strict=True):
                judge.score(one)
        self.got.append([_checked_finite("file", one) for one in file._predict(fed, self.engine)])

    def joined(self) -> tuple[list, list, list[_Judge]]:
        """Return the answers of reference and file, and a judge for each output."""
        if len(self.want) == 1:
            return self.want[0], self.got[0], self.judges
        want, got = (
            [np.concatenate(values) for values in zip(*batches, strict=True)]
            for batches in (self.want, self.got)
        )
        labels = [
            None if parts[0] is None else np.concatenate(parts)
            for parts in zip(*self.labels, strict=True)
        ]
        x = None if any(one is None for one in self.x) else np.concatenate(self.x)
        return want, got, self._judges(want, labels, x)

    def _judges(self, want, labels, only) -> list[_Judge]:
        given = [self.task] * len(want)
        if isinstance(self.task, Mapping):
            given = self.reference.outputs.bind(self.task, "task", missing=True)
            given = [None if one is None else tasks.canonical(one) for one in given]
        return [
            _Judge(kind, values, one, only, task, self.threshold)
            for kind, values, one, task in zip(
                self.reference.kinds, want, labels, given, strict=True
            )
        ]


class _Judge:
    """Knows the task of one output of a model, and compares and scores the output by it."""

    def __init__(self, kind: OutputKind, want, y, x, task, threshold):
        self.axis = kind.class_axis if not kind.is_last else None
        want = self._classes_last(want)
        self.y = None if y is None else binding.as_array(y, "the labels (y)")
        if self.y is not None and self.y.ndim == want.ndim:
            self.y = self._classes_last(self.y)
        self.x, self.activation = x, kind.activation
        if task is not None:
            self.task = task
        elif self.y is not None and self.y.dtype.kind in "biuf" and self.y.size:
            self.task = tasks.task_of(self.y, want.shape, x, kind.activation)
        else:
            self.task = tasks.without_labels(want.shape, x, kind.activation)
        self.threshold = threshold
        # Without task and labels, free values may be logits, but bent values can't be.
        guessed = task is None and self.y is None and self.task == "categorical"
        if guessed and kind.activation not in ("softmax", "linear"):
            self.task = "regression"
        self.may_be_values = guessed and kind.activation == "linear" and threshold is None
        self.logits = {"linear": True, "sigmoid": False}.get(kind.activation)

    def _classes_last(self, values) -> np.ndarray:
        return values if self.axis is None else np.moveaxis(values, self.axis, -1)

    def score(self, values) -> dict[str, float]:
        if self.y is None:
            return {}
        values = self._classes_last(values)
        return metrics.score(values, self.y, self.x, task=self.task, activation=self.activation)

    def _elements(self, values) -> np.ndarray:
        """Return outputs as (examples, positions, classes or labels)."""
        values = self._classes_last(values)
        return values.reshape(len(values), -1, values.shape[-1] if values.ndim > 1 else 1)

    def _classes(self, values) -> np.ndarray | None:
        """Return the answers as class numbers, 2 · label + 0 or 1 for labels; `None` for values."""
        if self.task == "categorical":
            return self._elements(values).argmax(-1)
        if self.task in ("binary", "multilabel") and self.logits is not None:
            values = self._elements(values)
            return 2 * np.arange(values.shape[-1]) + (values > (0.0 if self.logits else 0.5))
        return None

    def _lost(self, want, difference, ours, theirs, least: float) -> str:
        """Describe the class that the file loses most, if it surely keeps less than `least` of it.

        Where no value moved by more than the allowed share, the model itself hardly prefers its
        class to the file's, and the example is not lost.
        """
        want, difference = self._elements(want), self._elements(difference)
        centre = want.mean((0, 1), dtype="float64")
        if self.task == "categorical":
            places = [classes[..., None] for classes in (ours, theirs)]
            difference = np.maximum(*(np.take_along_axis(difference, at, -1) for at in places))[
                ..., 0
            ]
            want, centre = np.take_along_axis(want, places[0], -1)[..., 0], centre[ours]
        moved = difference > _LARGEST_DIFFERENCE["classes"] * np.abs(want - centre)
        kept = (ours == theirs) | ~moved
        examples, shares = _by_class(*(one.reshape(len(one), -1) for one in (ours, kept)))
        lost = [
            (share, count, number)
            for number, (share, count) in enumerate(zip(shares, examples, strict=True))
            if count and intervals.wilson(share, count)[1] < least
        ]
        if not lost:
            return ""
        share, count, number = min(lost)
        label, answer = divmod(number, 2)
        what = f"label {label} as {answer}" if self.task == "multilabel" else f"class {number}"
        return f"of {what} only {share:.0%} in {count:.0f} examples (at least {least:.0%} wanted)"

    def parity(self, name, got, want, scale) -> OutputParity:
        if got.shape != want.shape:
            raise InputError(
                f"The file gives outputs of shape {got.shape}, but the model gives "
                f"{want.shape}; the file was not made from this model."
            )
        difference = np.abs(got.astype("float64") - want)
        ours, theirs = self._classes(want), self._classes(got)
        same = None if ours is None else ours == theirs
        kind = "values" if same is None else "classes"
        agreement, threshold, lost = None, None, ""
        if same is not None:
            agreement, threshold = float(np.mean(same)), self.threshold
            if threshold is None:
                threshold = _LEAST_AGREEMENT["float" if scale is None else "int8"]
            lost = self._lost(want, difference, ours, theirs, min(threshold, _LEAST_OF_A_CLASS))
        relative = _relative(difference, want, each=same is None)
        passed = relative <= _LARGEST_DIFFERENCE[kind]
        passed = passed and (agreement is None or (agreement >= threshold and not lost))
        if not passed and self.may_be_values:
            passed = _relative(difference, want, each=True) <= _LARGEST_DIFFERENCE["values"]
            lost = "" if passed else lost  # values have no classes
        mean = float(difference.mean())
        return OutputParity(
            name=name,
            argmax_agreement=agreement,
            max_abs_diff=float(difference.max()),
            mean_abs_diff=mean,
            max_lsb=None if scale is None else float(difference.max() / scale),
            passed=passed,
            threshold=threshold,
            allowed=float(_LARGEST_DIFFERENCE[kind] * _spread(want).mean()),
            relative_diff=relative,
            allowed_relative=_LARGEST_DIFFERENCE[kind],
            lost=lost,
        )


def _by_class(classes, kept) -> tuple[list[float], list[float]]:
    """Return the number of examples that contain each class, and the mean share of it in them.

    Args:
        classes: Class numbers (examples, positions).
        kept: Whether each is one of the share.
    """
    count = int(classes.max()) + 1
    examples, shares = np.zeros(count), np.zeros(count)
    for row, right in zip(classes, kept, strict=True):
        there = np.bincount(row, minlength=count)
        examples += there > 0
        shares += np.bincount(row[right], minlength=count) / np.maximum(there, 1)
    return examples.tolist(), (shares / np.maximum(examples, 1)).tolist()


def _spread(want) -> np.ndarray:
    """Return the variation of each number over the examples; 0 if it is only rounding."""
    spread = np.std(want, axis=0, dtype="float64")
    size = np.abs(want).max(axis=0).astype("float64")
    return np.where(spread > _ROUNDING * size, spread, 0.0)


def _relative(difference, want, each: bool) -> float:
    """Return the mean difference as a fraction of the outputs' variation.

    Args:
        difference: Absolute differences (examples, ...).
        want: The model's outputs.
        each: Whether the last axis holds values of different units, each with its own variation.
    """
    size = np.abs(want).mean(axis=0, dtype="float64")
    mean, spread, noise = difference.mean(axis=0), _spread(want), _ROUNDING * size
    if each and mean.ndim:
        axes = tuple(range(mean.ndim - 1))
        mean, spread, noise = (values.mean(axis=axes) for values in (mean, spread, noise))
    else:
        mean, spread, noise = (np.atleast_1d(values.mean()) for values in (mean, spread, noise))
    # An output that never varies can't be distinguished from rounding: only equality passes.
    varies = spread > 0
    shares = np.where(mean <= noise, 0.0, 1.0)
    np.divide(mean, spread, out=shares, where=varies)
    # A single value counts no more than its share of the axis, however wrong it is.
    return float(np.minimum(shares, 1.0).mean() if len(shares) > 1 else shares.mean())


def _stacked(file: TFLiteModel, reference) -> list[bool]:
    """Return, for each output of the reference, whether the step file returns it at every step."""
    every = {info.name for info in file.outputs if info.name.startswith(STEP)}
    return [STEP + name in every for name in reference.output_names]


def _matching(kind, slots: binding.Slots, names, shapes, theirs) -> list[int]:
    """Return, for each input or output of the file, its place in those of the reference.

    Args:
        kind: `"input"` or `"output"`.
        slots: The reference's inputs or outputs.
        names: Their names in a file.
        shapes: Their shapes without the batch.
        theirs: (name, shape without the batch) of the file's inputs or outputs.
    """
    if len(names) != len(theirs):
        raise InputError(
            f"The file has {len(theirs)} {kind}s, but the model has {len(names)}; the file was not "
            "made from this model."
        )
    if len(names) == 1:
        return [0]
    found = [name for name, _ in theirs]
    for ours in (names, slots.labels):
        if sorted(ours) == sorted(found):
            return [ours.index(name) for name in found]
    sizes = [tuple(shape) for _, shape in theirs]
    shapes = [tuple(shape) for shape in shapes]
    if len(set(shapes)) == len(shapes) and sorted(shapes) == sorted(sizes):
        return [shapes.index(size) for size in sizes]
    if slots.ordered and shapes == sizes and not any(slot.given for slot in slots.entries):
        return list(range(len(names)))  # without chosen names: the declared order
    counted, are_counted = signatures.in_order(found)
    if are_counted and found[0].startswith(f"{kind}_") and slots.ordered:
        places = [counted.index(name) for name in found]  # the names of Keras's export
        if sizes == [shapes[place] for place in places]:
            return places
    raise InputError(
        f"The file's {kind}s ({', '.join(found)}) can't be matched with the model's "
        f"({', '.join(names)}): neither names nor shapes identify them. Give both the same names."
    )


def _checked_finite(role, values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind == "f":
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise InputError(
                f"The {role}'s outputs are NaN or infinite on {bad.sum()} of {len(values)} "
                "examples: there is nothing to compare."
            )
    return values


def _named(names, scores) -> dict[str, float]:
    if len(names) == 1:
        return scores[0]
    return {
        f"{name}.{metric}": value
        for name, values in zip(names, scores, strict=True)
        for metric, value in values.items()
    }


def _worst(parities) -> dict[str, Any]:
    """Return the overall figures: each is the worst among the outputs."""
    classes = [parity for parity in parities if parity.argmax_agreement is not None]
    steps = [parity.max_lsb for parity in parities if parity.max_lsb is not None]
    least = min(classes, key=lambda p: p.argmax_agreement - p.threshold, default=None)
    return {
        "argmax_agreement": None if least is None else least.argmax_agreement,
        "threshold": None if least is None else least.threshold,
        "max_abs_diff": max(parity.max_abs_diff for parity in parities),
        "mean_abs_diff": max(parity.mean_abs_diff for parity in parities),
        "max_lsb": max(steps, default=None),
        "passed": all(parity.passed for parity in parities),
    }


def _layers(file, reference, fed) -> LayerErrors:
    if "WHILE" in file.ops:
        raise InputError(
            f"{argument('layers', True)} can't look into a loop: compare a file made with "
            f"{argument('recurrent', 'unrolled', of='to_tflite')}."
        )
    if isinstance(reference.model, TFLiteModel):
        return layer_errors(file, reference.model, fed, [])
    if reference.model is None:
        raise InputError(
            f"{argument('layers', True)} needs a model or a file to look into, but got a function."
        )
    known = reference.layers
    names = {name: name for name in known}
    if backends.is_quantize_aware(reference.model):
        # Names of the lowered model; `skip` takes those of the float model.
        names = {name: name.removeprefix("quant_").removeprefix("round_") for name in names}
    main = file._parsed.subgraphs[0]
    results = {schema.dtype_of(main.tensors[i]) for op in main.operators for i in op.outputs}
    like = {"int16": "int16x8", "int8": "int8"}
    like = next((format for dtype, format in like.items() if dtype in results), "float32")
    if any(info.free for info in file.inputs):
        raise InputError(
            f"{argument('layers', True)} needs a file with fixed sizes: give "
            f"{argument('shapes', of='to_tflite')}."
        )
    shapes = {  # a file may fix sizes that the model leaves free
        slot.name: info.shape
        for slot, info in zip(reference.inputs.entries, file.inputs, strict=False)
        if slot.shape is not None and None in slot.shape[1:]
    }
    form = "unrolled" if reference.is_recurrent and not file.keeps_state else "auto"
    batch, key = file.inputs[0].shape[0], reference.signature
    twin = to_tflite.float_twin(reference.model, like, form, batch, shapes, key)
    return layer_errors(file, twin, fed, names)


def _failure_message(result: Verification) -> str:
    if result.layers is None:
        advice = f"{argument('layers', True, of='verify')} shows which layer causes this."
    else:
        advice = result.layers.suggestion()
    return f"{result.failure} {advice}"
