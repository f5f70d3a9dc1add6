"""`verify`: does the file compute what the model did, and how well does it do the job?"""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

import numpy as np

from tfkd import backends, graph, loading
from tfkd.errors import InputError
from tfkd.model import binding
from tfkd.model import task as tasks
from tfkd.outputs import OutputKind, output_kinds

from . import conversion, flatbuffer, metrics, tracing
from .artifact import STEP, TFLiteModel
from .interpreter import ENGINES, check_engine
from .layer_errors import LayerErrors, layer_errors
from .metrics import score
from .recurrent import RECURRENT

__all__ = ["OutputParity", "Verification", "score", "verify"]

# The least agreement that passes, by what was done to the numbers.
_LEAST_AGREEMENT = {"float": 0.995, "int8": 0.98}
# The largest mean difference that passes, as a share of how much the outputs vary from
# example to example: a model that says the same of everything agrees with any file.
_LARGEST_DIFFERENCE = {"classes": 0.2, "values": 0.05}


@dataclasses.dataclass(frozen=True)
class OutputParity:
    """How one output of a file differs from its model's.

    Attributes:
        name: Of the output in the file.
        argmax_agreement: Fraction on which both pick the same class; `None` for values.
        max_abs_diff: Largest difference, in the output's unit.
        mean_abs_diff: Mean of the same.
        max_lsb: Largest difference in steps of the output's scale; `None` for float outputs.
        passed: Whether the agreement reaches `threshold` and the mean difference `allowed`.
        threshold: The least agreement that passes; `None` for values.
        allowed: The largest mean difference that passes.
    """

    name: str
    argmax_agreement: float | None
    max_abs_diff: float
    mean_abs_diff: float
    max_lsb: float | None
    passed: bool
    threshold: float | None
    allowed: float

    def describe(self) -> str:
        """Say in a line how the output differs."""
        parts = []
        if self.argmax_agreement is not None:
            parts.append(
                f"same class {self.argmax_agreement:.2%} (at least {self.threshold:.2%} wanted)"
            )
        parts.append(
            f"mean difference {self.mean_abs_diff:.3g} (at most {self.allowed:.3g} wanted)"
        )
        steps = "" if self.max_lsb is None else f" or {self.max_lsb:.1f} integer steps"
        parts.append(f"largest {self.max_abs_diff:.3g}{steps}")
        return f"{self.name}: {', '.join(parts)}"


@dataclasses.dataclass(frozen=True)
class Verification:
    """What comparing a file with its model showed; of several outputs, the worst of each.

    Attributes:
        engine: Kernels that ran the file.
        samples: How many examples were compared.
        argmax_agreement: Fraction on which both pick the same class; `None` for values.
        max_abs_diff: Largest difference of an output, in the output's unit.
        mean_abs_diff: Mean of the same.
        max_lsb: Largest difference in steps of the output's scale; `None` for float outputs.
        metrics: What `score` says of the file, for several outputs as `"name.accuracy"`;
            empty without labels.
        model_metrics: The same of the model.
        passed: Whether every output's agreement reaches the threshold and its mean difference
            is small against how much the output varies (a fifth for classes, a twentieth for
            values).
        threshold: The least agreement that passes; `None` for values.
        outputs: The same figures for each output, in the model's order.
        layers: The error of each layer, where it was asked for.
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

    def describe(self) -> str:
        """Say in a few lines how the file differs and what it is worth."""
        verdict = "passed" if self.passed else "FAILED"
        lines = [f"{verdict} on {self.samples} examples, run by {self.engine}"]
        lines += [output.describe() for output in self.outputs]
        lines += [
            f"{name}: {value:.4g} (model {self.model_metrics[name]:.4g})"
            for name, value in self.metrics.items()
        ]
        if self.layers is not None:
            lines.append(self.layers.describe())
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        shallow = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **shallow,
            "outputs": [dataclasses.asdict(output) for output in self.outputs],
            "layers": None if self.layers is None else self.layers.to_json(),
        }


def verify(
    file,
    model,
    x,
    y=None,
    engine: str = "auto",
    threshold: float | None = None,
    layers: bool = False,
    task: str | None = None,
) -> Verification:
    """Compare a `.tflite` file with the Keras model it was made from.

    Both run on the same examples; a file that keeps state is reset before each. A file that
    does not reach its threshold is warned of.

    Args:
        file: A `TFLiteModel` or the path of a `.tflite` file.
        model: The Keras 3 or tf_keras model, or its path; for a file from `quantize_aware`,
            that model.
        x: Array of shape (examples, ...), or for several inputs a list of them in the
            model's order or a dict by its own keys or its layers' names; real data, the test
            split.
        y: Labels (examples, ...), see `metrics.score`; for several outputs a list in the
            model's order, with `None` for what is not scored, or a dict by its own keys or
            its layers' names.
        engine: `"xnnpack"` (Android, desktop), `"reference"` (TensorFlow Lite's plain
            kernels) or `"tflm"` (TensorFlow Lite for Microcontrollers). `"auto"` is
            `"xnnpack"`; what a microcontroller will answer is told by `"tflm"`, or nearly by
            `"reference"`: they differ from XNNPACK by rounding, up to whole classes.
        threshold: Least agreement on the class that passes. Defaults to 0.995 for float
            outputs, 0.98 for integer ones.
        layers: Whether to measure also which layer loses how much; takes another conversion.
        task: `"categorical"` (or `"classification"`), `"binary"`, `"multilabel"`, `"anomaly"`
            or `"regression"`, where that does not follow from the model's outputs and the
            labels, see `tfkd.model.task.task_of`. Of several labels an example the agreement is
            that of each label by itself.

    Returns:
        A `Verification`.

    Warns:
        UserWarning: if an output does not reach what is wanted of it.

    Raises:
        InputError: for an unknown engine, data or labels that don't fit, outputs that don't
            match the model's, or NaN.
        WorkerError: if the interpreter dies on the file.
    """
    check_engine(engine, ("auto", *ENGINES))
    engine = "xnnpack" if engine == "auto" else engine
    task = None if task is None else tasks.canonical(task)
    if not isinstance(file, TFLiteModel):
        file = TFLiteModel.load(file)
    if isinstance(model, (str, os.PathLike)):
        model = loading.load_model(model)
    source = graph.walk(model)
    arrays = _input_arrays(source, x)
    fed = _for_file(file, source, arrays)
    labels = _labels(model, source, y)
    # The model first: it is the faster one to find that the labels don't fit.
    want = model.predict(graph.as_structured(source, arrays), verbose=0)
    want = [_finite("model", values) for values in graph.leaves(want)]
    # An input that an output may be a reconstruction of.
    only = np.asarray(arrays[0]) if len(arrays) == 1 else None
    judges = [
        _Judge(kind, values, labels_, only, task)
        for kind, values, labels_ in zip(output_kinds(model), want, labels, strict=True)
    ]
    model_scores = [judge.score(values) for judge, values in zip(judges, want, strict=True)]
    got = file.predict(fed, engine=engine)
    got = [_finite("file", values) for values in (got if isinstance(got, list) else [got])]
    infos = _visible(file, "outputs")
    order = _matching(
        "output",
        source.output_list,
        [values.shape[1:] for values in want],
        [(name, values.shape[1:]) for (name, _), values in zip(infos, got, strict=True)],
    )
    parities, scores = [None] * len(want), [None] * len(want)
    for place, (name, info), values in zip(order, infos, got, strict=True):
        judge = judges[place]
        parities[place] = judge.parity(name, values, want[place], info.scale, threshold)
        scores[place] = judge.score(values)
    names = [parity.name for parity in parities]
    result = Verification(
        engine=engine,
        samples=len(want[0]),
        metrics=_named(names, scores),
        model_metrics=_named(names, model_scores),
        outputs=tuple(parities),
        layers=_layers(file, model, source, fed) if layers else None,
        **_worst(parities),
    )
    if not result.passed:
        warnings.warn(_alarm(result), stacklevel=2)
    return result


class _Judge:
    """Knows what one output of a model is about, and compares and scores it by that."""

    def __init__(self, kind: OutputKind, want, y, x, task):
        self.axis = kind.class_axis if not kind.is_last else None
        want = self._classes_last(want)
        self.y = None if y is None else np.asarray(y)
        if self.y is not None and self.y.ndim == want.ndim:
            self.y = self._classes_last(self.y)
        self.x, self.activation = x, kind.activation
        if task is not None:
            self.task = task
        elif self.y is not None and self.y.dtype.kind in "biuf" and self.y.size:
            self.task = tasks.task_of(self.y, want.shape, x, kind.activation)
        else:
            self.task = tasks.without_labels(want.shape, x, kind.activation)
        self.logits = {"linear": True, "sigmoid": False}.get(kind.activation)

    def _classes_last(self, values) -> np.ndarray:
        return values if self.axis is None else np.moveaxis(values, self.axis, -1)

    def score(self, values) -> dict[str, float]:
        if self.y is None:
            return {}
        values = self._classes_last(values)
        return metrics.score(values, self.y, self.x, task=self.task, activation=self.activation)

    def parity(self, name, got, want, scale, threshold) -> OutputParity:
        if got.shape != want.shape:
            raise InputError(
                f"The file gives outputs of shape {got.shape}, the model {want.shape}; "
                "it was not made from this model."
            )
        difference = np.abs(got.astype("float64") - want)
        same = None
        if self.task == "categorical":
            same = self._classes_last(got).argmax(-1) == self._classes_last(want).argmax(-1)
        elif self.task in ("binary", "multilabel") and self.logits is not None:
            limit = 0.0 if self.logits else 0.5
            same = (got > limit) == (want > limit)
        kind = "values" if same is None else "classes"
        # Outputs that never vary can't be told from rounding: then only equality passes.
        spread = np.std(want, axis=0, dtype="float64").mean()
        allowed = float(_LARGEST_DIFFERENCE[kind] * spread + 1e-6)
        agreement = None if same is None else float(np.mean(same))
        if agreement is None:
            threshold = None
        elif threshold is None:
            threshold = _LEAST_AGREEMENT["float" if scale is None else "int8"]
        mean = float(difference.mean())
        return OutputParity(
            name=name,
            argmax_agreement=agreement,
            max_abs_diff=float(difference.max()),
            mean_abs_diff=mean,
            max_lsb=None if scale is None else float(difference.max() / scale),
            passed=mean <= allowed and (agreement is None or agreement >= threshold),
            threshold=threshold,
            allowed=allowed,
        )


def _input_arrays(source: graph.Graph, x) -> list[np.ndarray]:
    """Return the data as one array per input of the model, in its order, checked."""
    tensors = source.input_list
    slots = _also_as_in_files(binding.inputs_of(source), tensors)
    values = slots.bind(x, "x", arrays=True)
    arrays = []
    for tensor, label, one in zip(tensors, slots.labels, values, strict=True):
        array = np.asarray(one)
        fits = array.ndim == len(tensor.shape) and all(
            want in (None, got) for want, got in zip(tensor.shape[1:], array.shape[1:], strict=True)
        )
        if not fits or len(array) == 0:
            wanted = ", ".join("any" if n is None else str(n) for n in tensor.shape[1:])
            raise InputError(
                f"Input {label!r} takes arrays of shape (examples, {wanted}), at least one "
                f"example, got {array.shape}."
            )
        arrays.append(array)
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise InputError(f"The inputs have different numbers of examples: {sorted(counts)}.")
    return arrays


def _labels(model, source: graph.Graph, y) -> list:
    """Return labels, or `None`, for each output of the model."""
    tensors = source.output_list
    if y is None:
        return [None] * len(tensors)
    slots = _also_as_in_files(binding.outputs_of(model), tensors)
    return slots.bind(y, "y", missing=True, arrays=True)


def _also_as_in_files(slots: binding.Slots, tensors) -> binding.Slots:
    """Return inputs or outputs that are known by their names in a file too."""
    entries = []
    names = [slot.name for slot in slots.entries]
    for slot, name in zip(slots.entries, _names(tensors), strict=True):
        if names.count(slot.name) > 1:
            # Two layers of one name inside nested models; the file numbers them.
            slot = dataclasses.replace(slot, name=name)
        entries.append(dataclasses.replace(slot, aliases=slot.aliases | {name} - {slot.name}))
    return dataclasses.replace(slots, entries=tuple(entries))


def _names(tensors) -> list[str]:
    """Return what `to_tflite` calls inputs or outputs."""
    return tracing.identifiers([tensor.name for tensor in tensors])


def _visible(file: TFLiteModel, which: str):
    """Return (name, `TensorInfo`) of what is data: all but a step file's states."""
    return [
        (info.name.removeprefix(STEP) if file.states else info.name, info)
        for info in file._visible(which)
    ]


def _for_file(file, source, arrays) -> list[np.ndarray]:
    """Return the model's inputs in the order of the file's."""
    infos = _visible(file, "inputs")
    order = _matching(
        "input",
        source.input_list,
        [array.shape[1:] for array in arrays],
        [(name, info.shape[1:]) for name, info in infos],
    )
    return [arrays[place] for place in order]


def _matching(kind, tensors, shapes, theirs) -> list[int]:
    """Return for each of the file's inputs or outputs its place in the model's.

    Args:
        kind: `"input"` or `"output"`.
        tensors: The model's.
        shapes: Their shapes without the batch.
        theirs: (name, shape without the batch) of the file's.
    """
    names = _names(tensors)
    if len(names) != len(theirs):
        raise InputError(
            f"The file has {len(theirs)} {kind}s, the model {len(names)}; it was not made from "
            "this model."
        )
    if len(names) == 1:
        return [0]
    found = [name for name, _ in theirs]
    if sorted(names) == sorted(found):
        return [names.index(name) for name in found]
    sizes = [tuple(shape) for _, shape in theirs]
    shapes = [tuple(shape) for shape in shapes]
    if len(set(shapes)) == len(shapes) and sorted(shapes) == sorted(sizes):
        return [shapes.index(size) for size in sizes]
    raise InputError(
        f"The file's {kind}s ({', '.join(found)}) can't be told to be the model's "
        f"({', '.join(names)}): neither names nor shapes decide. Name them alike."
    )


def _finite(role, values) -> np.ndarray:
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
    """Return the overall figures: of each, the worst among the outputs."""
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


def _layers(file, model, source, fed) -> LayerErrors:
    names = {name: name for name, _ in source.layers}
    if backends.is_quantize_aware(model):
        # The lowering's own names; the float model's are what `skip` takes.
        names = {name: name.removeprefix("quant_").removeprefix("round_") for name in names}
    main = file._parsed.subgraphs[0]
    results = {flatbuffer.dtype_of(main.tensors[i]) for op in main.operators for i in op.outputs}
    like = {"int16": "int16x8", "int8": "int8"}
    like = next((format for dtype, format in like.items() if dtype in results), "float32")
    if "WHILE" in file.ops:
        raise InputError(
            "layers=True can't look into a loop: compare the form recurrent='unrolled' of the file."
        )
    recurrent = any(type(layer).__name__ in RECURRENT for _, layer in source.layers)
    form = "unrolled" if recurrent and not file.keeps_state else "auto"
    twin = conversion.float_twin(model, like, form, file.inputs[0].shape[0])
    return layer_errors(file, twin, fed, names)


def _alarm(result: Verification) -> str:
    failed = "; ".join(output.describe() for output in result.outputs if not output.passed)
    if result.layers is None:
        advice = "verify(..., layers=True) shows which layer loses it."
    else:
        advice = result.layers.suggestion()
    return f"VERIFICATION FAILED ({result.engine}, {result.samples} examples): {failed}. {advice}"
