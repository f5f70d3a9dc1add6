"""`to_tflite`: a Keras model as `.tflite` bytes, converted where a crash does no harm.

model ──form of recurrence──► traced at a static batch ──► SavedModel
      ──worker: converter, first run──► bytes ──audit──► TFLiteModel
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd import translation
from tfkd.data import Data, Samples
from tfkd.errors import (
    ConversionError,
    InputError,
    MissingDependencyError,
    UnsupportedError,
    WorkerError,
    raise_all,
)
from tfkd.export.conversion import converter, diagnosis, tracing
from tfkd.export.conversion.recurrent import forms, step
from tfkd.export.micro import evaluation as micro_runtime
from tfkd.export.runtime import interpreter, worker
from tfkd.export.tflite import model as artifact
from tfkd.export.tflite import schema, structures, tflm_kernels, writer
from tfkd.export.tflite.model import TFLiteModel
from tfkd.loading import file_check, models
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import kind_of
from tfkd.quantization import export_form, rewriting
from tfkd.quantization import representative_data as calibration

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, Format, Names, PathLike, Recurrent

#: float32: as trained. float16: weights halved, for GPU delegates. dynamic: int8 weights,
#: float activations. int8: integers throughout, input and output too. int16x8: int8 weights,
#: 16-bit activations. int4: 4-bit weights, float arithmetic.
FORMATS = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")
_INTEGER = ("int8", "int16x8")
_LEAST = forms.LEAST_NARROWED
_NARROW = ("dynamic", "int4")
_TWIN_SECONDS = 900.0
# Data from which examples are drawn, so that none follows on another.
_DRAWN = (Data, Samples)


def to_tflite(
    model: AnyModel | PathLike,
    format: Format = "float32",
    representative_data: Any = None,
    *,
    batch: int | None = 1,
    recurrent: Recurrent = "auto",
    float_io: bool = False,
    uint8_io: bool = False,
    skip: Names = (),
    bits: dict[str, int] | None = None,
    shapes: dict[str, tuple[int | None, ...]] | None = None,
    micro: bool = False,
    signature: str | None = None,
    allow_flex: bool = False,
    allow_custom: bool = False,
    timeout: float = 900.0,
    trusted: bool = False,
) -> TFLiteModel:
    """Convert a Keras model to a `.tflite` file.

    The converter and the file's first run are in a child process: should they crash or hang,
    that is an error here and not the end of the caller. Whatever is asked for is what comes
    out: an int8 file in which anything is left float is refused.

    Args:
        model: A built Keras 3 or tf_keras model, also one from `quantize_aware`, or the path
            of a `.keras` or `.h5` file or a SavedModel folder.
        format: `"float32"`, `"float16"` (weights; half the bytes), `"dynamic"` (int8 weights,
            float arithmetic), `"int8"` (integers only, input and output too), `"int16x8"`
            (int8 weights, 16-bit activations) or `"int4"` (4-bit weights, float arithmetic;
            extra `int4`).
        representative_data: For int8 and int16x8, examples in the model's own input range
            from which the activation ranges are read: arrays (examples, ...), a list or dict
            of them for several inputs, a `tfkd.data.Data` (its training split is drawn
            from), a `tf.data.Dataset`, `PyDataset` or generator of batches. 100 to 500
            examples are enough; more are drawn from. A model from `quantize_aware` has
            learned its ranges and needs none, unless it has recurrent layers: their gates
            and state have no learned ranges. Where none are needed, a note says so.
        batch: Examples a call, fixed in the file; `None` leaves it free, where no recurrent
            layer and no integer reshaping forbids that.
        recurrent: The form of LSTM, GRU and SimpleRNN. `"fused"`: one operator a layer, LSTM
            only; it keeps its state between calls and must be reset. `"unrolled"`: every step
            written out, fast and large. `"loop"`: a WHILE operator. `"step"`: one step a call,
            with the state as inputs and outputs `state_in_*` and `state_out_*`, for any
            length. `"auto"` picks by format, length and, with `micro`, for a microcontroller;
            the file's `notes` say what, `recurrent_forms` measures what the others cost.
        float_io: Keep input and output of an integer file in float32.
        uint8_io: Give input and output of an int8 file the type uint8, as cameras and older
            applications have it; a QUANTIZE operator stands behind each.
        skip: Names or paths (`backbone/conv1`) of layers to leave in floating point in an int8
            file, or regular expressions that match whole ones. Of a quantize-aware model,
            `quantize_aware(skip=...)` has them.
        bits: For `"int4"`, other widths (8, or 32 for float) by such names.
        shapes: Sizes for inputs that leave some free, by the input's name, with the batch, as
            `{"token_ids": (1, 128)}`. Without them float files stay free in these places
            (height, width, sequence length): resize the input before a call. The `notes` say
            at which sizes the file ran. Integer files and microcontrollers need all sizes.
        micro: Refuse what TensorFlow Lite for Microcontrollers can't run, and try the file on
            it (extra `micro`).
        signature: Of a SavedModel, the key of the signature to convert. Defaults to
            `"serving_default"`, or the only one there is; a SavedModel with Keras layers is
            converted from these unless a signature is named.
        allow_flex: Keep operations that TFLite lacks as TensorFlow's own ("Flex"); such a file
            needs the Flex delegate.
        allow_custom: Keep unknown operations as custom operators, which the application brings.
        timeout: Seconds after which the conversion is ended.
        trusted: Whether a SavedModel that is given may hold operations that act outside the
            model (read or write files, call Python).

    Returns:
        A `TFLiteModel`; `.save(path)` writes it. Its inputs and outputs have the names of the
        layers and the order in which the model declares them.

    Raises:
        InputError: for an argument out of the allowed ones, a model that can't be read or has
            NaN weights, or representative data that does not fit (see `calibration`).
        UnsupportedError: if the model has no such form in this format.
        ConversionError: if the converter fails, dies or hangs, or would leave part of an
            integer file in floating point.
        MissingDependencyError: if an extra is needed that is not installed.

    Example:
        >>> import keras
        >>> from tfkd.export import to_tflite
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> to_tflite(model).inputs[0].shape
        (1, 4)
    """
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    request = _Request(
        format, batch, recurrent, float_io, skip, bits or {}, micro, allow_flex, allow_custom,
        dict(shapes or {}), uint8_io, signature,
    )  # fmt: skip
    with file_check.trusting(trusted):
        source = _Source(model, request, representative_data)
    if source.other_precision:
        warnings.warn(source.other_precision, stacklevel=2)
    worker.shared().start()  # imports while the model is traced here
    with tempfile.TemporaryDirectory(prefix="tfkd-") as folder:
        order = source.order(folder)
        what = f"Converting {source.name!r} to {format}"
        try:
            data, notes = worker.shared().call(converter.convert, order, timeout=timeout)
        except WorkerError as error:
            raise diagnosis.cause_of_death(error, what, order, source.scopes) from error
        file = TFLiteModel(data)
        _audit(file, source)
        if file.flex_ops or file.custom_ops:
            notes.append("not run: no interpreter here has its operators")
        else:
            notes += _try(file, source, order, timeout)
    if format in _NARROW and not file.hybrid_ops:
        notes.append(
            f"no weight got fewer than 32 bits: in {format} those of fewer than "
            f"{_LEAST:,} numbers stay, and this model has no larger ones"
        )
        warnings.warn(f"{what}: {notes[-1]}.", stacklevel=2)
    for note in notes:
        if note.startswith("float16 loses"):
            warnings.warn(f"{what}: {note}.", stacklevel=2)
    if format in _INTEGER:
        notes += _larger_than_float(file)
    return dataclasses.replace(file, notes=(*source.notes, *notes))


@dataclasses.dataclass(frozen=True)
class _Request:
    """What `to_tflite` was asked for, checked."""

    format: str
    batch: int | None
    recurrent: str
    float_io: bool
    skip: tuple[str, ...]
    bits: dict[str, int]
    micro: bool
    flex: bool
    custom: bool
    shapes: dict[str, tuple[int | None, ...]] = dataclasses.field(default_factory=dict)
    uint8_io: bool = False
    signature: str | None = None

    @property
    def free(self) -> bool:
        """Whether sizes of inputs may stay free."""
        return self.format in ("float32", "float16", "dynamic") and not self.micro

    def __post_init__(self):
        if self.format not in FORMATS:
            raise InputError(f"format must be one of {FORMATS}, got {self.format!r}.")
        if self.recurrent not in forms.FORMS:
            raise InputError(f"recurrent must be one of {forms.FORMS}, got {self.recurrent!r}.")
        if self.batch is not None and (not isinstance(self.batch, int) or self.batch < 1):
            raise InputError(f"batch must be a whole number of at least 1, got {self.batch!r}.")
        if self.float_io and self.format not in _INTEGER:
            raise InputError(
                f"float_io is for integer files; {self.format} has float inputs anyway."
            )
        if self.uint8_io and (self.format != "int8" or self.float_io):
            raise InputError(
                "uint8_io is for int8 files, and not with float_io; "
                f"{'both were given' if self.float_io else f'{self.format} has no such ends'}."
            )
        if self.uint8_io and self.recurrent in ("step", "loop"):
            raise InputError(f"uint8_io does not go with recurrent={self.recurrent!r}.")
        if self.skip and self.format != "int8":
            raise InputError(f"skip= leaves layers of an int8 file float, not of {self.format}.")
        if self.bits and self.format != "int4":
            raise InputError(f"bits= goes with format='int4', not {self.format!r}.")
        for name, width in self.bits.items():
            if width not in (4, 8, 32):
                raise InputError(f"bits= takes 4, 8 or 32 for {name!r}, got {width!r}.")
        if self.micro and self.format in ("float16", "dynamic", "int4"):
            raise InputError(
                f"Microcontrollers run float32, int8 and int16x8 files, not {self.format}: their "
                "kernels take no weights that are narrower than the arithmetic. Take 'int8'."
            )
        if self.micro and (self.flex or self.custom):
            raise InputError("micro=True goes with TFLite's own operators only.")
        if self.micro and not micro_runtime.is_installed():
            raise MissingDependencyError(
                "micro=True tries the file on TensorFlow Lite for Microcontrollers, which is not "
                "installed; its wheel is for Linux x86-64: pip install 'tfkd[micro]'."
            )


class _Source:
    """What is converted: a model in the form that is traced, or a SavedModel."""

    def __init__(self, given, request: _Request, data, twin: bool = False):
        self.request, self.notes, self.kept = request, [], ()
        self.renamed: dict[str, str] = {}  # path in the given model → name in ours
        self.twin = twin  # without its numbers: nothing is calibrated
        self.signature = self.outputs = self.loop = self.other_precision = None
        if isinstance(given, (str, os.PathLike)):
            given = self._read(pathlib.Path(given))
        elif request.signature is not None:
            raise InputError(
                f"signature={request.signature!r} is for the path of a SavedModel, got "
                f"{type(given).__name__}."
            )
        if self.signature is not None:
            self._take_signature(data)
            return
        if backends.flavour(given) is None or not hasattr(given, "layers"):
            raise InputError(
                "Expected a Keras 3 or tf_keras model, or the path of a .keras, .h5 or SavedModel, "
                f"got {type(given).__name__}."
            )
        self.name = given.name
        _check_finite(given)
        source = graph.walk(given)
        known = source.layers
        self.shapes = _shapes_of([(t.name, t.shape) for t in source.input_list], request)
        self.declared = tuple(map(tracing.declared_order, (source.inputs, source.outputs)))
        self.structures = structures.of(source.inputs), structures.of(source.outputs)
        names = {path: {path, layer.name} for path, layer in known}
        skip = graph.matching(names, request.skip, "skip")
        bits = {
            path: width
            for pattern, width in request.bits.items()
            for path in graph.matching(names, pattern, "bits")
        }
        self.other_precision = translation.other_precision(given)
        if self.other_precision:
            self.notes.append(self.other_precision)
            self.model = given
            self._translate(backends.flavour(given), float32=True)
            given = self.model
        self.model, self.samples = self._quantized(given, data)
        self._choose_form()
        self.kept += tuple(self.renamed.get(path, path) for path in skip)
        self.bits = {self.renamed.get(path, path): width for path, width in bits.items()}

    def _read(self, path):
        if not path.exists():
            raise InputError(f"There is no model at {str(path)!r}.")
        key = self.request.signature
        if is_signature(path) or (key is not None and path.is_dir()):
            self.signature = tracing.SavedSignature(path, key)
            return None
        if key is not None:
            raise InputError(f"{str(path)!r} has no signatures; signature= is for SavedModels.")
        return models.load_model(path)

    def _take_signature(self, data):
        request, signature = self.request, self.signature
        self.name, self.model = signature.name, None
        signature.check_finite()
        self.shapes = _shapes_of([(name, shape) for name, shape, _ in signature.tensors], request)
        if request.recurrent not in ("auto", "loop"):
            raise UnsupportedError(
                f"The SavedModel {signature.name!r} is a signature without layers, so "
                f"recurrent={request.recurrent!r} finds none; give the Keras model."
            )
        if request.skip or request.bits:
            raise UnsupportedError(
                "skip= and bits= need the Keras model: a SavedModel names no layers."
            )
        self.bits, self.declared = {}, ([], [])  # the signature's own order
        self.structures = None, signature.structure
        self.samples = self._data(signature, data, wanted=request.format in _INTEGER)

    def _quantized(self, model, data):
        """Bring a quantize-aware model into the converter's form, and check the data."""
        format = self.request.format
        aware = backends.is_quantize_aware(model)
        calibrated = needs_data(model, format)
        if aware and format != "int8":
            raise InputError(
                "A quantize-aware model is trained for int8; strip_quantization gives the float "
                f"model to convert to {format}."
            )
        if aware and self.request.skip:
            raise InputError("A quantize-aware model is told so in quantize_aware(skip=...).")
        samples = self._data(model, data, calibrated)
        if export_form.is_ours(model):
            self.kept = tuple(export_form.float_layers(model))
            model = export_form.freeze(model, ranges=not (calibrated or self.twin))
        return model, samples

    def _data(self, model, data, wanted):
        format = self.request.format
        if data is None:
            if wanted and not self.twin:
                raise InputError(
                    f"{format} needs representative_data: 100 to 500 examples from the training "
                    "data, preprocessed as in training."
                )
            return None
        if not wanted:
            why = "this model has learned its ranges" if format == "int8" else None
            why = why or f"{format} needs none"
            self.notes.append(f"representative_data was not used: {why}")
            return None
        shapes, in_order = self.shapes, False
        if self.signature is None and self.request.recurrent == "step":
            shapes, in_order = step.data_shapes(model)
        samples = calibration.representative_samples(model, data, shapes=shapes, in_order=in_order)
        if in_order:
            samples, note = step.whole_sequences(model, samples, isinstance(data, _DRAWN))
            self.notes += [note] if note else []
        return samples

    def _choose_form(self):
        request = self.request
        if request.format in _INTEGER:
            _check_loops(self.model)
        if self.shapes and forms.recurrent_calls(graph.walk(self.model)):
            self._to_tf_keras()
            if backends.flavour(self.model) == "tf_keras":
                self.model = forms.with_shapes(self.model, self.shapes)
        form, note = _pick(self.model, request.format, request.recurrent, request.micro, self.twin)
        integer = request.format in _INTEGER
        learned = integer and self.kept and self.samples is None
        if learned and form == "fused" and request.recurrent == "auto":
            # Left float; its kernel's state would be given a scale, as if it were not.
            form, note = "unrolled", "recurrent='auto' took unrolled for what skip= left float"
        self.notes += [note] if note else []
        if form is None:
            if integer:
                self._to_tf_keras()
            return
        if request.batch is None and form != "step":
            raise UnsupportedError(
                f"The model {self.name!r} has recurrent layers, which need a fixed batch: give a "
                "number."
            )
        if form == "loop" and not integer:
            self._translate("keras")  # tf_keras's LSTM would become the fused kernel
            return
        self._to_tf_keras()
        if form == "loop":
            # Calibrated as a step, and put into its loop when it is done.
            self.loop = step.length(self.model)
            if self.loop is None:
                raise UnsupportedError(
                    f"The model {self.name!r} runs over a free number of steps: fix it with "
                    "shapes={name: shape}, or take recurrent='step'."
                )
        if form in ("step", "loop"):
            made = step.step_model(self.model, self.samples)
            self.model, self.samples, self.outputs = made
        else:
            loops = request.recurrent == "auto" and not integer
            self.model = forms.lower(self.model, form, loops=loops, integer=integer)

    def _to_tf_keras(self):
        """Go on in tf_keras, whose layers have more integer kernels, where the model can go.

        Keras 3's LayerNormalization, for one, negates, for which there is no int8 kernel.
        """
        with contextlib.suppress(UnsupportedError):  # a custom layer: as it is
            self._translate("tf_keras")

    def _translate(self, to: str, float32: bool = False):
        if backends.flavour(self.model) == to and not float32:
            return
        layers = graph.walk(self.model).layers
        self.model, names = translation.counterparts(self.model, to, float32)
        now = {path: names[id(one)] for path, one in layers if id(one) in names}
        before = self.renamed or {path: path for path in now}
        self.renamed = {path: now[name] for path, name in before.items() if name in now}

    def order(self, folder: str) -> converter.Order:
        """Write the SavedModel and return what to do with it."""
        request = self.request
        if self.signature is not None:
            names, outputs = self.signature.save(
                folder, request.batch, self.shapes, request.free and not self.twin
            )
        else:
            dtypes = tracing.integer_dtypes(self.model) if request.format in _INTEGER else {}
            self._retype_samples(dtypes)
            names, outputs = tracing.save_model(
                self.model,
                folder,
                request.batch,
                self.outputs,
                dtypes,
                self.shapes,
                request.free and not self.twin,
            )
            indices = [
                name.removeprefix(artifact.STEP) for name, d in dtypes.items() if d == "int32"
            ]
            if indices:
                held = ", ".join(map(repr, indices))
                self.notes.append(f"the input {held} holds indices and is int32, not 8 or 16 bits")
        samples = None if self.samples is None else dict(zip(names, self.samples, strict=True))
        ins, outs = self.declared
        return converter.Order(
            folder=folder,
            format=request.format,
            samples=samples,
            float_io=request.float_io,
            uint8_io=self._uint8_io(),
            kept=tuple(map(tracing.scope_of, self.kept)),
            bits={tracing.scope_of(name): width for name, width in self.bits.items()},
            flex=request.flex,
            custom=request.custom,
            batch=request.batch,
            loop=self.loop,
            inputs=tuple(tracing.permuted(names, ins)),
            outputs=tuple(tracing.permuted(outputs, outs)),
            structures=self.structures,
        )

    def _uint8_io(self) -> bool:
        stepwise = self.loop is not None or self.outputs is not None
        if self.request.uint8_io and stepwise:
            raise InputError(
                "uint8_io does not go with the loop that recurrent='auto' took: give "
                "recurrent='unrolled' or 'fused'."
            )
        return self.request.uint8_io

    def _retype_samples(self, dtypes: dict[str, str]):
        """Bring the samples into the dtypes of the file's inputs."""
        if self.samples is None:
            return
        samples = []
        for tensor, values in zip(graph.walk(self.model).input_list, self.samples, strict=True):
            values = values.astype(dtypes.get(tensor.name, values.dtype))
            if tensor.dtype in rewriting.BYTES and values.dtype.kind == "f":
                # One number at either end, for a scale of 1 whatever the examples hold.
                values.flat[0], values.flat[-1] = rewriting.BYTES[tensor.dtype]
            samples.append(values)
        self.samples = samples

    @property
    def scopes(self) -> dict[str, str]:
        """How the names of a layer's tensors begin → its path in the given model."""
        if self.model is None:
            return {}
        given = {name: path for path, name in self.renamed.items()}
        calls = graph.walk(self.model).calls
        return {tracing.scope_of(c.name): given.get(c.name, c.name) for c in calls}


def _check_loops(model):
    """Raise for layers that would end the converter when it is calibrated."""
    problems = [
        f"layer {path!r} ({type(layer).__name__}): {rewriting.REASONS[kind_of(layer)]}"
        for path, layer in graph.walk(model).layers
        if rewriting.is_loop(layer)
    ]
    raise_all(problems, UnsupportedError, fix=rewriting.NO_LOOPS)


# Steps up to which "auto" writes recurrence out in an integer file for a phone: some 70 kB. And
# where there is no loop: beyond the second number the converter takes minutes.
_SHORT, _LONG = 32, 512


def _pick(model, format: str, wanted: str, micro: bool, twin: bool = False):
    """Choose the form of recurrence, see `forms.choose`; return it and a note.

    In integers: on a microcontroller the smallest; elsewhere, where XNNPACK has no kernel for the
    fused LSTM, steps that are written out, or a loop if they are many.
    """
    form, takes = forms.choose(model, format, wanted)
    if not takes:
        return form, None
    costs = ""
    if format in _INTEGER and not twin:
        form, takes, costs = _pick_integer(model, format, takes, micro)
    told = "; ".join(f"{name} for {', '.join(layers)}" for name, layers in takes.items())
    return (
        form,
        f"recurrent='auto' took {told}; {costs}recurrent_forms() shows what the others cost",
    )


def _pick_integer(model, format, takes, micro):
    """Return the form in an integer file, which layers take which, and what it costs.

    The times are of 8 to 64 units over 29 to 150 steps, in XNNPACK on x86-64.
    """
    every = [name for layers in takes.values() for name in layers]
    steps, size = forms.written_out(model)
    can_loop = step.can_loop(model)
    size = f"about {float(f'{size:.2g}'):,.0f} bytes"
    if micro:
        # Their GATHER, with which the loop reads its step, has no 16 bits.
        if format == "int8" and "unrolled" in takes and can_loop:
            costs = (
                f"the smallest on a microcontroller: {steps} steps written out are {size} more; "
            )
            return "loop", {"the loop": every}, costs
        return ("fused" if "fused" in takes else "unrolled"), takes, ""
    if can_loop and steps > _SHORT:
        costs = f"{steps} steps written out are {size} more; "
        return "loop", {"the loop": every}, costs
    if "fused" in takes and steps > _LONG:
        costs = f"{steps} steps written out are {size}, and several times as fast; "
        return "fused", takes, costs
    costs = f"its {steps} steps are {size}; "
    if can_loop:
        costs += "the loop is that much smaller and takes 1 to 3 times as long; "
    if "fused" in takes:
        costs += "fused LSTMs are the smallest and take 3 to 20 times as long in XNNPACK; "
    return "unrolled", {"unrolled": every}, costs


def is_signature(path) -> bool:
    """Tell whether a path is a SavedModel of which only the signature is known."""
    path = pathlib.Path(path)
    return path.is_dir() and not models.is_keras_saved_model(path)


def needs_data(model, format: str) -> bool:
    """Tell whether `to_tflite` wants representative data for a model in a format.

    Args:
        model: A Keras model, or the path of a SavedModel's signature.
        format: One of `FORMATS`.
    """
    if format not in _INTEGER:
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


def _shapes_of(inputs, request: _Request) -> list[tuple] | None:
    """Return the inputs' shapes with what `shapes=` fixes, or `None` if it fixes nothing."""
    if not request.shapes:
        return None
    names = [name.split("/")[-1] for name, _ in inputs]
    unknown = [name for name in request.shapes if name not in names]
    if unknown:
        raise InputError(
            f"shapes= names the input {unknown[0]!r}, which the model has not; it has "
            f"{', '.join(map(repr, names))}."
        )
    found = []
    for name, (_, shape) in zip(names, inputs, strict=True):
        given = request.shapes.get(name)
        if given is None:
            found.append(tuple(shape))
            continue
        sizes = tuple(given) if isinstance(given, (tuple, list)) else None
        fits = sizes is not None and len(sizes) == len(shape)
        fits = fits and all(
            one is None or (isinstance(one, (int, np.integer)) and one > 0) for one in sizes
        )
        if not fits or not all(
            None in pair or pair[0] == pair[1] for pair in zip(sizes[1:], shape[1:], strict=True)
        ):
            raise InputError(
                f"shapes= must give {name!r} a size for each of {tuple(shape)}, the batch first, "
                f"and change no fixed one; got {given!r}."
            )
        if sizes[0] not in (None, request.batch):
            raise InputError(
                f"shapes= gives {name!r} a batch of {sizes[0]}, and batch= is {request.batch}: "
                "give the same in both."
            )
        found.append((shape[0], *tracing.filled([shape], [sizes])[0][1:]))
    return found


# Sizes at which a file is tried whose inputs leave some free.
_TRIED = tuple(2**n for n in range(9))


def _try(file: TFLiteModel, source: _Source, order, timeout: float) -> list[str]:
    """Run a file once, one with free sizes at several, and return what there is to say of it."""
    if any(info.free for info in file.inputs):
        return [_try_sizes(file, source, timeout)]
    what = f"The first run of {source.name!r} in {order.format}"
    try:
        worker.shared().call(converter.try_out, file.data, source.request.micro, timeout=timeout)
    except WorkerError as error:
        raise diagnosis.cause_of_death(error, what, order, source.scopes, file.data) from error
    return []


def _try_sizes(file: TFLiteModel, source: _Source, timeout: float) -> str:
    ran, reason = [], None
    for size in _TRIED:
        shapes = [
            tuple(size if i in info.free else n for i, n in enumerate(info.shape))
            for info in file.inputs
        ]
        try:
            worker.shared().call(interpreter.run_on_zeros, file.data, shapes, timeout=timeout)
            ran.append(str(size))
        except (ConversionError, WorkerError) as error:
            reason = reason or error
    free = ", ".join(f"{i.name} [{', '.join(map(str, i.sizes))}]" for i in file.inputs if i.free)
    if not ran:
        raise ConversionError(
            f"The file of {source.name!r} with free sizes ({free}) runs at none of the sizes "
            f"tried, {_TRIED[0]} to {_TRIED[-1]}: fix them with shapes=. The first error: {reason}"
        )
    return (
        f"free sizes: {free}; of {', '.join(map(str, _TRIED))} for each it ran at "
        f"{', '.join(ran)}; resize the inputs before a call, or fix them with shapes="
    )


def _audit(file: TFLiteModel, source: _Source):
    """Raise if a file is not what was asked for."""
    request = source.request
    what = f"Converting {source.name!r} to {request.format}"
    if file.wrong_scales:
        raise ConversionError(
            f"{what} gave the operation {file.wrong_scales[0]!r} scales with which its kernel "
            "computes something else. For an LSTM, recurrent='unrolled' avoids it."
        )
    if file.flex_ops and not request.flex:
        raise ConversionError(
            f"{what} needs TensorFlow's own operators ({', '.join(file.flex_ops)}): replace the "
            "layers, or allow_flex=True for a file that needs the Flex delegate."
        )
    if file.custom_ops and not request.custom:
        raise ConversionError(
            f"{what} needs operators that TFLite does not have ({', '.join(file.custom_ops)}): "
            "replace the layers, or allow_custom=True if your application brings them."
        )
    if request.format in _INTEGER and not source.kept:
        left = _left_float(file, request.float_io)
        unread = [info.name for info in _unread(file) if info.dtype == "float32"]
        if unread and not request.float_io:
            raise UnsupportedError(
                f"{what}: nothing reads the input {', '.join(map(repr, unread))}, so there is no "
                "scale for it. Build the model without it, or give float_io=True."
            )
        if left:
            layers = {schema.layer_in(name, source.scopes) for name in left} - {None}
            where = f"of {', '.join(map(repr, sorted(layers)))} " if layers else ""
            raise ConversionError(
                f"{what} left {len(left)} tensors {where}in floating point "
                f"({', '.join(left[:3])}); use format='dynamic' if that is acceptable, name the "
                "layers in skip= (int8), or replace them."
            )
    if request.micro:
        tflm_kernels.check(file, source.scopes)


def _larger_than_float(file: TFLiteModel) -> list[str]:
    """Say if an integer file is larger than the float32 one of its operators would be.

    Weights take a quarter of the bytes, and scales are added: of a model with few weights they
    are more than that saves.
    """
    if 4 * file.weight_bytes >= file.size:
        return []  # what they save is more than all the rest
    model = schema.parse(file.data)
    for part in model.subgraphs:
        for tensor in part.tensors:
            buffer = model.buffers[tensor.buffer]
            if schema.is_constant(tensor, model) and schema.dtype_of(tensor) == "int8":
                buffer.data = np.zeros(4 * len(buffer.data), np.uint8)
            tensor.quantization = None
    size = len(writer.pack(model))
    if size >= file.size:
        return []
    return [
        f"this file of {file.size:,} bytes is larger than the float32 one of its operators, about "
        f"{size:,}: its scales take more than its weights save"
    ]


def _unread(file: TFLiteModel):
    """Return the inputs that no operation reads."""
    main = file._parsed.subgraphs[0]
    read = {int(i) for op in main.operators for i in op.inputs} | set(map(int, main.outputs))
    return [info for info, i in zip(file.inputs, main.inputs, strict=True) if int(i) not in read]


def _left_float(file: TFLiteModel, float_io: bool) -> list[str]:
    """Return the float tensors of an integer file that do not belong to its float ends."""
    if not float_io:
        return list(file.float_tensors)
    model = file._parsed
    names = schema.op_names(model)
    inner = []
    for subgraph in model.subgraphs:
        ends = set()
        if subgraph is model.subgraphs[0]:
            ends |= {int(i) for i in subgraph.inputs} - {
                int(i) for op in subgraph.operators for i in op.inputs
            }
        for op in subgraph.operators:
            if names[op.opcodeIndex] == "QUANTIZE":
                ends |= set(map(int, op.inputs)) & set(map(int, subgraph.inputs))
            if names[op.opcodeIndex] == "DEQUANTIZE":
                ends |= set(map(int, op.outputs)) & set(map(int, subgraph.outputs))
        inner += [
            schema.name_of(subgraph.tensors[i])
            for i in sorted(schema.touched(subgraph) - ends)
            if schema.dtype_of(subgraph.tensors[i]).startswith("float")
        ]
    return inner


def float_twin(
    model,
    like: str = "int8",
    recurrent: str = "auto",
    batch: int | None = 1,
    shapes=None,
    signature: str | None = None,
) -> TFLiteModel:
    """Return the float32 file with the operations of the integer one, to compare layer by layer.

    Args:
        model: The model that the integer file was made of, as for `to_tflite`.
        like: The format of that file.
        recurrent: The form it was made in.
        batch: Its examples a call.
        shapes: As for `to_tflite`.
        signature: Likewise.

    Returns:
        A `TFLiteModel` whose tensors carry the same names.
    """
    request = _Request(
        like,
        batch,
        recurrent,
        False,
        (),
        {},
        False,
        False,
        False,
        dict(shapes or {}),
        signature=signature,
    )
    source = _Source(model, request, None, twin=True)
    with tempfile.TemporaryDirectory(prefix="tfkd-") as folder:
        order = dataclasses.replace(source.order(folder), format="float32", kept=())
        data, _ = worker.shared().call(converter.convert, order, timeout=_TWIN_SECONDS)
    return TFLiteModel(data)


@dataclasses.dataclass(frozen=True)
class RecurrentForm:
    """What one form of a model's recurrent layers costs, measured on the file.

    Attributes:
        form: `"fused"`, `"unrolled"`, `"loop"` or `"step"`.
        picked: Whether `recurrent="auto"` takes it.
        ops: Operators in the file; `None`, as all that follows, where it can't be made.
        bytes: Of the file.
        activation_bytes: Of activations at a time, less than any arena.
        arena_bytes: Least arena of TensorFlow Lite for Microcontrollers on this 64-bit host;
            `None` if it is not installed or does not run the file.
        latency_us: Median of a call in XNNPACK with one thread on this machine, in microseconds,
            the forms called in turns; of a step file, one step.
        keeps_state: Whether it must be reset before each sequence.
        error: Why it can't be made, else `None`.
    """

    form: str
    picked: bool
    ops: int | None = None
    bytes: int | None = None
    activation_bytes: int | None = None
    arena_bytes: int | None = None
    keeps_state: bool | None = None
    error: str | None = None
    latency_us: float | None = None


def recurrent_forms(
    model: AnyModel | PathLike,
    format: Format = "int8",
    representative_data: Any = None,
    **options: Any,
) -> list[RecurrentForm]:
    """Make a model's file in each form of its recurrent layers and compare what they cost.

    Args:
        model: As for `to_tflite`.
        format: As for `to_tflite`.
        representative_data: As for `to_tflite`; not an iterator, since it is read several times.
        **options: As for `to_tflite`.

    Returns:
        One `RecurrentForm` each; empty for a model without recurrent layers.

    Raises:
        InputError: as `to_tflite`.
    """
    if isinstance(model, (str, os.PathLike)):
        model = models.load_model(model)
    picked, _ = _pick(model, format, "auto", options.get("micro", False))
    if picked is None:
        return []
    rows, files = [], {}
    for form in forms.FORMS[1:]:
        try:
            file = to_tflite(model, format, representative_data, recurrent=form, **options)
        except (UnsupportedError, ConversionError) as error:
            rows.append(RecurrentForm(form, form == picked, error=str(error)))
            continue
        files[form] = file.data
        rows.append(
            RecurrentForm(
                form,
                form == picked,
                sum(file.ops.values()),
                file.size,
                file.activation_bytes,
                _arena(file),
                file.keeps_state,
            )
        )
    timed = interpreter.call_interpreter(interpreter.time_in_turns, files, timeout=_TWIN_SECONDS)
    return [dataclasses.replace(row, latency_us=timed.get(row.form)) for row in rows]


def _arena(file: TFLiteModel) -> int | None:
    if not micro_runtime.is_installed():
        return None
    try:
        return micro_runtime.least_arena(file)
    except ConversionError:
        return None
