"""The first stage of a conversion: the model and its data are read and checked."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from tfkd import translation
from tfkd.data import Data, Part
from tfkd.errors import InputError, UnsupportedError, argument
from tfkd.export.conversion import tracing
from tfkd.export.conversion.formats import INTEGER
from tfkd.export.conversion.recurrent import step
from tfkd.export.conversion.request import Request, shapes_of
from tfkd.export.tflite import structures
from tfkd.loading import models
from tfkd.model import backends, binding, graph
from tfkd.quantization import export_form
from tfkd.quantization import representative_data as calibration

# Data from which examples are drawn at random, so that none continues another.
_DRAWN = (Data, Part)


class Working:
    """A model on its way into the converter, translated at most once, and its layers' names.

    Args:
        model: The caller's model, which is not changed.

    Attributes:
        model: The model in its present form.
        is_own: Whether `model` is a copy, which a stage may change.
        names: Path of a layer in the given model → its name now; empty while nothing changed.
    """

    def __init__(self, model):
        self.model, self.is_own = model, False
        self.names: dict[str, str] = {}

    @property
    def flavour(self) -> str:
        """The Keras that the model now belongs to."""
        return backends.flavour(self.model)

    def translate(self, to: str, *, float32: bool = False, copied: bool = False) -> None:
        """Translate the model into another Keras.

        Args:
            to: `"keras"` or `"tf_keras"`.
            float32: Whether layers of another precision are to compute in float32.
            copied: Whether to copy a model that is of that Keras already, if it is the caller's.

        Raises:
            UnsupportedError: for layers that have no counterpart there.
        """
        if self.flavour == to and not float32 and (self.is_own or not copied):
            return
        layers = graph.walk(self.model).layers
        self.model, names = translation.counterparts(self.model, to, float32)
        self.is_own = True
        now = {path: names[id(one)] for path, one in layers if id(one) in names}
        before = self.names or {path: path for path in now}
        self.names = {path: now[name] for path, name in before.items() if name in now}

    def replace(self, model) -> None:
        """Replace the model with a copy that has the same layers, names and paths."""
        self.model, self.is_own = model, True

    def name_of(self, path: str) -> str:
        """Return the name that a layer of the given model has now."""
        return self.names.get(path, path)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The model and the data of a conversion, read and checked.

    Attributes:
        request: The arguments of `to_tflite`.
        name: The model's name.
        working: The model; `None` for a signature.
        signature: A SavedModel that is known only by its signature, or `None`.
        shapes: Shapes of the inputs, with the sizes that `shapes=` fixes; `None` if it fixes none.
        declared: Places of inputs and of outputs, flattened by Keras, in the declared order.
        structures: The model's own structures of inputs and outputs.
        skip: Paths of the layers to leave in floating point.
        bits: Other widths, by path.
        samples: Representative data, an array per input; `None` if none are needed.
        twin: Whether only the operations matter, and not their numbers: nothing is calibrated.
        warning: A warning to give to the caller, or `None`.
        notes: Notes about the file.
    """

    request: Request
    name: str
    working: Working | None
    signature: tracing.SavedSignature | None
    shapes: list[tuple] | None
    declared: tuple[list[int], list[int]]
    structures: tuple[Any, Any]
    skip: tuple[str, ...] = ()
    bits: dict[str, int] = dataclasses.field(default_factory=dict)
    samples: list[np.ndarray] | None = None
    twin: bool = False
    warning: str | None = None
    notes: tuple[str, ...] = ()


def plan(given, request: Request, data, twin: bool = False) -> Plan:
    """Read the model to convert, and check the request and the data against it.

    Args:
        given: The model, as for `to_tflite`.
        request: The arguments of `to_tflite`.
        data: Representative data, or `None`.
        twin: See `Plan`.

    Raises:
        InputError, UnsupportedError: as `to_tflite`.
    """
    if isinstance(given, (str, os.PathLike)):
        given = _read(pathlib.Path(given), request.signature)
    elif request.signature is not None:
        raise InputError(
            f"{argument('signature', request.signature)} is for the path of a SavedModel, got "
            f"{type(given).__name__}."
        )
    if isinstance(given, tracing.SavedSignature):
        return _of_signature(given, request, data, twin)
    if backends.flavour(given) is None or not hasattr(given, "layers"):
        raise InputError(
            "Expected a Keras 3 or tf_keras model, or the path of a .keras, .h5 or SavedModel, "
            f"got {type(given).__name__}."
        )
    _check_finite(given)
    source = graph.walk(given)
    shapes = shapes_of(binding.inputs_of(source), request)
    skip = source.matching(request.skip, "skip")
    bits = {
        path: width
        for pattern, width in request.bits.items()
        for path in source.matching(pattern, "bits")
    }
    working, warning = Working(given), translation.other_precision(given)
    if warning:
        working.translate(working.flavour, float32=True)
    if backends.is_quantize_aware(given):
        _check_aware(request)
    wanted = needs_data(working.model, request.format)
    samples, notes = _samples(working.model, request, shapes, data, wanted, twin)
    return Plan(
        request=request,
        name=given.name,
        working=working,
        signature=None,
        shapes=shapes,
        declared=tuple(map(tracing.declared_order, (source.inputs, source.outputs))),
        structures=(structures.of(source.inputs), structures.of(source.outputs)),
        skip=tuple(skip),
        bits=bits,
        samples=samples,
        twin=twin,
        warning=warning,
        notes=(*([warning] if warning else []), *notes),
    )


def _read(path: pathlib.Path, key: str | None):
    if not path.exists():
        raise InputError(f"There is no model at {str(path)!r}.")
    if is_signature(path) or (key is not None and path.is_dir()):
        return tracing.SavedSignature(path, key)
    if key is not None:
        raise InputError(
            f"{str(path)!r} has no signatures; {argument('signature')} is for SavedModels."
        )
    return models.load_model(path)


def _of_signature(signature, request: Request, data, twin: bool) -> Plan:
    signature.check_finite()
    shapes = shapes_of(signature.slots, request)
    if request.recurrent not in ("auto", "loop"):
        raise UnsupportedError(
            f"The SavedModel {signature.name!r} is a signature without layers, so "
            f"{argument('recurrent', request.recurrent)} finds none; give the Keras model.",
            code="signature-without-layers",
        )
    if request.skip or request.bits:
        raise UnsupportedError(
            f"{argument('skip')} and {argument('bits')} need the Keras model: a SavedModel has "
            "no layer names.",
            code="signature-without-layers",
        )
    wanted = request.format in INTEGER
    samples, notes = _samples(signature, request, shapes, data, wanted, twin)
    return Plan(
        request=request,
        name=signature.name,
        working=None,
        signature=signature,
        shapes=shapes,
        declared=([], []),  # the signature's own order
        structures=(None, signature.structure),
        samples=samples,
        twin=twin,
        notes=tuple(notes),
    )


def _check_aware(request: Request):
    if request.format != "int8":
        raise InputError(
            "A quantize-aware model is trained for int8; strip_quantization returns the float "
            f"model to convert to {request.format}."
        )
    if request.skip:
        skip = argument("skip", like="...", of="quantize_aware")
        raise InputError(
            f"The model is quantize-aware: choose its float layers with {skip}, before training."
        )


def _samples(model, request: Request, shapes, data, wanted: bool, twin: bool):
    """Return representative data as arrays, or `None`, and notes about it."""
    format = request.format
    if data is None:
        if wanted and not twin:
            raise InputError(
                f"{format} needs {argument('representative_data', alone=True)}: 100 to 500 "
                "examples from the training data, preprocessed as in training."
            )
        return None, []
    if not wanted:
        why = "this model has learned its ranges" if format == "int8" else f"{format} needs none"
        return None, [f"{argument('representative_data', alone=True)} was not used: {why}"]
    in_order = False
    if request.recurrent == "step" and backends.flavour(model) is not None:
        shapes, in_order = step.data_shapes(model)
    samples = calibration.representative_samples(model, data, shapes=shapes, in_order=in_order)
    if not in_order:
        return samples, []
    samples, note = step.whole_sequences(model, samples, isinstance(data, _DRAWN))
    return samples, [note] if note else []


def is_signature(path) -> bool:
    """Return whether a path is a SavedModel that is known only by its signature."""
    path = pathlib.Path(path)
    return path.is_dir() and not models.is_keras_saved_model(path)


def needs_data(model, format: str) -> bool:
    """Return whether `to_tflite` needs representative data for a model in a format.

    Args:
        model: A Keras model, or the path of a SavedModel's signature.
        format: One of `FORMATS`.
    """
    if format not in INTEGER:
        return False
    aware = backends.flavour(model) is not None and backends.is_quantize_aware(model)
    return not aware or export_form.needs_calibration(model)


def _check_finite(model):
    bad = [
        weight.name
        for weight in model.weights
        if not np.isfinite(np.asarray(weight, dtype="float32")).all()
    ]
    if bad:
        raise InputError(
            f"The model {model.name!r} has weights that are not finite ({', '.join(bad[:5])}); "
            "training diverged: lower the learning rate and train again."
        )
