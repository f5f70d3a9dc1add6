"""`to_tflite`: a Keras model as `.tflite` bytes, converted in a process that may crash.

model ──plan──► checked ──lower──► form of recurrence ──trace──► SavedModel
──worker: convert, repair──► bytes ──audit, first run──► TFLiteModel
"""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

from tfkd.errors import WorkerError
from tfkd.export.conversion import audit, converter, diagnosis
from tfkd.export.conversion.formats import INTEGER
from tfkd.export.conversion.lowering import lower, trace
from tfkd.export.conversion.plan import plan
from tfkd.export.conversion.recurrent import choice
from tfkd.export.conversion.request import Request
from tfkd.export.runtime import worker
from tfkd.export.tflite.model import TFLiteModel
from tfkd.loading import file_check

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, Format, Names, PathLike, Recurrent

_NARROW = ("dynamic", "int4")
_TWIN_SECONDS = 900.0


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

    The converter and the file's first run are in a child process. If they crash or hang, an
    error is raised here and the caller survives. The file has the format that was requested:
    a conversion that leaves part of an int8 file in float raises an error.

    Args:
        model: A built Keras 3 or tf_keras model, also one from `quantize_aware`, or the path
            of a `.keras` or `.h5` file or a SavedModel folder.
        format: `"float32"`, `"float16"` (weights; half the bytes), `"dynamic"` (int8 weights,
            float arithmetic), `"int8"` (integers only, input and output too), `"int16x8"`
            (int8 weights, 16-bit activations) or `"int4"` (4-bit weights, float arithmetic;
            extra `int4`).
        representative_data: For int8 and int16x8, examples in the model's own input range
            from which the activation ranges are read: arrays (examples, ...), a list or dict
            of them for several inputs, a `tfkd.data.Data` (examples are drawn from its
            training split), a `tf.data.Dataset`, `PyDataset` or generator of batches. 100 to
            500 examples are enough; a sample is drawn from more. A model from `quantize_aware`
            has learned its ranges and needs none, unless it has recurrent layers: their gates
            and state have no learned ranges. If no data are needed, a note says so.
        batch: Examples a call, fixed in the file. `None` leaves the batch free, unless a
            recurrent layer or an integer reshaping forbids that.
        recurrent: The form of LSTM, GRU and SimpleRNN. `"fused"`: one operator a layer, LSTM
            only; it keeps its state between calls and must be reset. `"unrolled"`: every step
            written out, fast and large. `"loop"`: a WHILE operator. `"step"`: one step a call,
            with the state as inputs and outputs `state_in_*` and `state_out_*`, for any
            length. `"auto"` picks by format, length and, with `micro`, for a microcontroller;
            the file's `notes` name the form, and `recurrent_forms` measures the costs of all.
        float_io: Keep input and output of an integer file in float32.
        uint8_io: Give input and output of an int8 file the type uint8, as cameras and older
            applications have it; a QUANTIZE operator converts each.
        skip: Names or paths (`backbone/conv1`) of layers to leave in floating point in an int8
            file, or regular expressions that match whole names or paths. For a quantize-aware
            model, pass them to `quantize_aware(skip=...)` instead.
        bits: For `"int4"`, other widths (8, or 32 for float) by such names.
        shapes: Shapes, batch included, for inputs with free sizes, by the input's name, such as
            `{"token_ids": (1, 128)}`. Without them float files keep these sizes free (height,
            width, sequence length): resize the input before a call. The `notes` say at which
            sizes the file ran. Integer files and microcontrollers need all sizes.
        micro: Refuse what TensorFlow Lite for Microcontrollers can't run, and try the file on
            it (extra `micro`).
        signature: For a SavedModel, the key of the signature to convert. Defaults to
            `"serving_default"`, or to the only signature. A SavedModel with Keras layers is
            converted from its layers unless a signature is named.
        allow_flex: Keep operations that TFLite lacks as TensorFlow's own ("Flex"); such a file
            needs the Flex delegate.
        allow_custom: Keep unknown operations as custom operators, which the application must
            provide.
        timeout: Seconds after which the conversion is ended.
        trusted: Whether a given SavedModel may hold operations that act outside the model
            (read or write files, call Python).

    Returns:
        A `TFLiteModel`; `.save(path)` writes it. Its inputs and outputs have the names of the
        layers and the order in which the model declares them.

    Raises:
        InputError: for an argument that is not allowed, a model that can't be read or has
            NaN weights, or representative data that does not fit (see
            `tfkd.quantization.representative_data`).
        UnsupportedError: if the model has no such form in this format.
        ConversionError: if the converter fails, dies or hangs, or would leave part of an
            integer file, other than the layers in `skip`, in floating point.
        MissingDependencyError: if a required extra is not installed.

    Example:
        >>> import keras
        >>> from tfkd.export import to_tflite
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> to_tflite(model).inputs[0].shape
        (1, 4)
    """
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    request = Request(
        format, batch, recurrent, float_io, skip, bits or {}, micro, allow_flex, allow_custom,
        dict(shapes or {}), uint8_io, signature,
    )  # fmt: skip
    converter.prepare()
    with file_check.trusting(trusted):
        source = lower(plan(model, request, representative_data))
    if source.plan.warning:
        warnings.warn(source.plan.warning, stacklevel=2)
    with tempfile.TemporaryDirectory(prefix="tfkd-") as folder:
        job, notes = trace(source, folder)
        what = f"Converting {source.name!r} to {format}"
        try:
            data, more = worker.shared().call(converter.convert, job, timeout=timeout)
        except WorkerError as error:
            raise diagnosis.crash_error(error, what, job, source.scopes) from error
        file = TFLiteModel(data)
        audit.check(file, source)
        if file.flex_ops or file.custom_ops:
            more.append("not run: no interpreter here has its operators")
        else:
            more += audit.try_out(file, source, job, timeout)
    if format in _NARROW and not file.hybrid_ops:
        more.append(
            f"no weight has fewer than 32 bits: {format} narrows no weight of fewer than "
            f"{choice.LEAST_NARROWED:,} numbers, and this model has no larger ones"
        )
        warnings.warn(f"{what}: {more[-1]}.", stacklevel=2)
    for note in more:
        if note.startswith("float16 loses"):
            warnings.warn(f"{what}: {note}.", stacklevel=2)
    if format in INTEGER:
        more += audit.larger_than_float(file)
        more += audit.cost_of_four_bits(file, micro)
    return dataclasses.replace(file, notes=(*source.notes, *notes, *more))


def float_twin(
    model,
    like: str = "int8",
    recurrent: str = "auto",
    batch: int | None = 1,
    shapes=None,
    signature: str | None = None,
) -> TFLiteModel:
    """Return a float32 file with the operations of an integer file, to compare them by layer.

    Args:
        model: The model that the integer file was made from, as for `to_tflite`.
        like: The format of the integer file.
        recurrent: The form of its recurrent layers.
        batch: Its examples a call.
        shapes: As for `to_tflite`.
        signature: As for `to_tflite`.

    Returns:
        A `TFLiteModel` whose tensors have the same names as those of the integer file.
    """
    request = Request(like, batch, recurrent, shapes=dict(shapes or {}), signature=signature)
    converter.prepare()
    source = lower(plan(model, request, None, twin=True))
    with tempfile.TemporaryDirectory(prefix="tfkd-") as folder:
        job, _ = trace(source, folder)
        job = dataclasses.replace(job, format="float32", kept=(), narrow={})
        data, _ = worker.shared().call(converter.convert, job, timeout=_TWIN_SECONDS)
    return TFLiteModel(data)
