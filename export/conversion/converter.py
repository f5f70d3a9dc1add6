"""The converter's side of `to_tflite`, which runs in the worker and may die there."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import re
from typing import Any

import numpy as np

from tfkd.errors import ConversionError, MissingDependencyError, argument
from tfkd.export.conversion import repairs
from tfkd.export.conversion.recurrent import loop as looping
from tfkd.export.runtime import lean_tensorflow, worker
from tfkd.export.runtime.interpreter import open_runner, run_on_zeros
from tfkd.export.tflite import schema
from tfkd.export.tflite.model import TFLiteModel

# A weight with fewer numbers than this is not reported for its width.
_WORTH_NARROWING = 256
# The largest number of float16, and its smallest with full precision.
_LARGEST_HALF, _NORMAL = 65504.0, 2.0**-14
# Relative error of weights above which float16 has lost precision; normally it is about
# 0.0003.
_LOST_IN_HALF = 0.005


@dataclasses.dataclass(frozen=True)
class ConversionJob:
    """How the converter is to convert a SavedModel.

    Attributes:
        folder: The SavedModel.
        format: One of `formats.FORMATS`.
        samples: Representative data by input, `None` where ranges are in the graph.
        float_io: Whether inputs and outputs of an integer file stay float32.
        uint8_io: Whether inputs and outputs of an int8 file are uint8.
        kept: Names of the layers to leave in floating point.
        bits: For `"int4"`, other widths by layer name.
        narrow: Scopes of the layers whose weights are on a grid of 4 bits → how many weights
            each of their tensors has.
        flex: Whether TensorFlow's own operators may stay.
        custom: Whether unknown operators may stay.
        batch: Examples a call, or `None`.
        loop: How often to run the model, if it computes one step; `None` for a whole model.
        inputs: Names of the inputs in the declared order.
        outputs: Names of the outputs in the declared order.
        structures: The model's own structure of inputs and of outputs, where it is more than a
            list, see `structures`.
    """

    folder: str
    format: str
    samples: dict[str, np.ndarray] | None = None
    float_io: bool = False
    uint8_io: bool = False
    kept: tuple[str, ...] = ()
    bits: dict[str, int] = dataclasses.field(default_factory=dict)
    narrow: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    flex: bool = False
    custom: bool = False
    batch: int | None = 1
    loop: int | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    structures: tuple[Any, Any] = (None, None)


def prepare() -> None:
    """Start the shared worker, which imports TensorFlow while the caller goes on."""
    worker.shared().start(lean_tensorflow.load)


def convert(job: ConversionJob) -> tuple[bytes, list[str]]:
    """Convert a SavedModel, and repair the converter's faults in the file.

    Returns:
        The file, and notes about it.

    Raises:
        ConversionError: if the converter refuses.
    """
    tf = lean_tensorflow.load()
    converter = tf.lite.TFLiteConverter.from_saved_model(job.folder)
    converter.allow_custom_ops = job.custom
    ops = tf.lite.OpsSet
    supported = [ops.TFLITE_BUILTINS]
    if job.format not in ("float32", "int4"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job.format == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if job.format in ("int8", "int16x8"):
        if job.format == "int16x8":
            supported = [ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
        elif job.samples is not None:
            supported = [ops.TFLITE_BUILTINS_INT8]
        if not job.float_io or job.loop:
            io_type = tf.int16 if job.format == "int16x8" else _byte_type(job)
            converter.inference_input_type = converter.inference_output_type = io_type
        if job.samples is not None:
            converter.representative_dataset = lambda: _examples(job)
    converter.target_spec.supported_ops = supported + [ops.SELECT_TF_OPS] * job.flex
    try:
        with _quiet(), _resets_between_examples():
            data = _leave_float(converter, job) if job.kept else converter.convert()
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(
            f"The converter refused the model: {_reason(error)}", code="converter-refused"
        ) from None
    notes: list[str] = []
    if job.format == "int4":
        data, notes = _four_bits(data, job.bits)
    if job.format == "float16":
        notes = _lost_in_half(data, job.folder)
    narrow = job.narrow
    if job.loop:
        step = TFLiteModel(repairs.repaired(data, narrow=narrow))
        narrow = {}
        data = looping.looped(step, job.loop, job.float_io)
    return repairs.repaired(data, job.inputs, job.outputs, job.structures, narrow), notes


@contextlib.contextmanager
def _quiet():
    """Suppress the converter's warnings and prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _resets_between_examples():
    """Make every calibration example start from a state of zero, as in use.

    The calibrator runs fused LSTMs in the interpreter, where they keep their state between
    examples; preparing the calibrator again resets it and keeps the ranges so far.
    """
    from tensorflow.lite.python.optimize import calibrator

    feed = calibrator.Calibrator._feed_tensors

    def feed_with_resets(self, examples, resize_input):
        def prepared():
            for i, example in enumerate(examples()):
                if i:
                    self._calibrator.Prepare()
                yield example

        return feed(self, prepared, resize_input)

    calibrator.Calibrator._feed_tensors = feed_with_resets
    try:
        yield
    finally:
        calibrator.Calibrator._feed_tensors = feed


def _examples(job):
    count = len(next(iter(job.samples.values())))
    batch = job.batch or 1
    for start in range(0, count, batch):
        rows = np.arange(start, start + batch) % count
        yield {name: values[rows] for name, values in job.samples.items()}


def _reason(error: Exception) -> str:
    """Return the relevant part of the converter's long error text."""
    text = str(error)
    flex = re.search(r"Op types?: ([^\n]*)|TF Select ops: ([^\n]*)", text)
    if flex and "Select" in text:
        names = flex.group(1) or flex.group(2)
        return (
            f"TFLite has no operator for {names.strip()}. {argument('allow_flex', True)} keeps it "
            "as TensorFlow's own, which runs on Android with the Flex delegate, but on no "
            "microcontroller; otherwise replace the layer."
        )
    if "TensorListReserve" in text or "element_shape to be static" in text:
        return (
            "it has a recurrent loop over a free batch (TensorListReserve); give the Keras model "
            "rather than a SavedModel's signature, or export the signature with a fixed batch."
        )
    found = re.search(r"error: (.+)", text)
    return found.group(1) if found else (text.strip().splitlines() or [type(error).__name__])[0]


def try_out(data: bytes, micro: bool) -> None:
    """Run a file once on zeros; a file for a microcontroller also on that runtime.

    Raises:
        ConversionError: if an interpreter refuses.
    """
    zeros = run_on_zeros(data)
    if micro:
        runner = open_runner(data, "tflm", 1, len(TFLiteModel(data).outputs))
        runner.reset()
        runner(zeros)


def _leave_float(converter, job: ConversionJob) -> bytes:
    """Quantize all but the named layers, with calibrated ranges or those of the graph.

    The converter's switch for this is the deny list of its quantization debugger, which matches
    the names of the operations' results. The debugger takes a float file that contains ranges:
    calibrated ones, or the graph's fake quantization as QUANTIZE and DEQUANTIZE.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    learned = job.samples is None
    if learned:
        converter.optimizations = []
        converter.inference_input_type = converter.inference_output_type = tf.float32
    else:
        converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    results = _results_of(schema.parse(calibrated), job.kept, empty=learned)
    denied = {name for names in results.values() for name in names}
    io_type = tf.float32 if job.float_io and not job.loop else _byte_type(job)
    data = bytes(
        mlir_quantize(
            calibrated, denylisted_nodes=denied, input_data_type=io_type, output_data_type=io_type
        )
    )
    left = [] if learned else schema.float_results(schema.parse(data), job.kept)
    if left:
        raise ConversionError(
            f"The converter also left layers in floating point that {argument('skip')} does not "
            f"name ({', '.join(left[:3])}): name them, too, replace them, or use "
            f"{argument('format', 'dynamic')}.",
            code="left-in-float",
        )
    return data


def _byte_type(job: ConversionJob):
    import tensorflow as tf

    return tf.uint8 if job.uint8_io else tf.int8


def _results_of(model, layers, empty: bool = False) -> dict[str, list[str]]:
    """Return the names of the results of layers' operations.

    Args:
        model: The parsed file.
        layers: The scopes of the layers.
        empty: Whether layers may have no operation, such as a Dropout that a pattern matched.

    Raises:
        ConversionError: for a layer without an operation of its own.
    """
    scopes = {name: name for name in layers}
    found: dict[str, list[str]] = {name: [] for name in layers}
    for subgraph in model.subgraphs:
        for op in subgraph.operators:
            for layer in schema.layers_of(op, subgraph, model, scopes):
                found[layer] += [schema.name_of(subgraph.tensors[i]) for i in op.outputs]
    for name, results in found.items():
        if not results and not empty:
            raise ConversionError(
                f"The layer {name!r} has no operation of its own in the file; name the layer "
                "before or after it.",
                code="layer-without-operation",
            )
    return found


def _lost_in_half(data: bytes, folder: str) -> list[str]:
    """Describe the weights that float16 clips, or can't represent precisely.

    This compares the weights of the file, with batch normalization folded in, with those of a
    float32 file, which is only made if one of them may have lost precision.
    """
    import tensorflow as tf

    half = _constants(data, "float16")
    if not any(map(_may_have_lost, half.values())):
        return []
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.allow_custom_ops = True
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    with _quiet():
        whole = _constants(converter.convert(), "float32")
    notes = []
    for key in half.keys() & whole.keys():
        got, want = half[key].astype(np.float64), whole[key].astype(np.float64)
        size = np.sqrt(np.mean(want**2))
        if size == 0 or np.sqrt(np.mean((got - want) ** 2)) <= _LOST_IN_HALF * size:
            continue
        cut = np.count_nonzero(np.abs(want) > _LARGEST_HALF)
        gone = np.count_nonzero((got == 0) & (want != 0))
        facts = [f"{cut} are cut off at 65,504"] if cut else []
        facts += [f"{gone} become 0"] if gone else []
        notes.append(
            f"float16 loses weights of {key[0]!r}: of {want.size}, {' and '.join(facts) or 'most'}"
            f"{'' if facts else ' are rounded to few digits'} (they reach "
            f"{np.abs(want).max():.3g}); rescale the layer, or use float32"
        )
    return sorted(notes)


def _may_have_lost(values: np.ndarray) -> bool:
    values = np.abs(values.astype(np.float64))
    return bool(values.max(initial=0.0) >= _LARGEST_HALF or np.sqrt(np.mean(values**2)) < _NORMAL)


def _constants(data: bytes, dtype: str) -> dict[tuple, np.ndarray]:
    """Return a file's weights by name (without the number at its end) and shape."""
    model = schema.parse(data)
    found: dict[tuple, list] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if schema.dtype_of(tensor) != dtype or not schema.is_constant(tensor, model):
                continue
            values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype)
            shape = tuple(map(int, tensor.shape if tensor.shape is not None else ()))
            name = re.sub(r"\d+$", "", schema.name_of(tensor))
            found.setdefault((name, shape), []).append(values)
    return {key: values[0] for key, values in found.items() if len(values) == 1}


def _quantizer():
    """Return the modules `qtyping` and `quantizer` of litert-quantizer, or of its predecessor.

    Until 0.10 the package was called ai-edge-quantizer.
    """
    failures = []
    for package in ("litert_quantizer", "ai_edge_quantizer"):
        try:
            importlib.import_module(package)
            return tuple(
                importlib.import_module(f"{package}.{name}") for name in ("qtyping", "quantizer")
            )
        except ImportError as error:
            failures.append(str(error))
    raise MissingDependencyError(
        f"int4 needs litert-quantizer, which could not be imported ({failures[0]}), and neither "
        f"could its predecessor ai-edge-quantizer ({failures[1]}): pip install 'tfkd[int4]'."
    )


def _four_bits(data: bytes, bits: dict[str, int]) -> tuple[bytes, list[str]]:
    """Round weights to 4 bits per channel with litert-quantizer; arithmetic stays float."""
    qtyping, quantizer = _quantizer()
    made = quantizer.Quantizer(bytearray(data))
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    made.add_weight_only_config(regex=".*", operation_name=everything, num_bits=4)
    for name, results in _results_of(schema.parse(data), bits).items():
        for result in results:
            pattern = f"^{re.escape(result)};?$"  # the quantizer ends an operation's name with ";"
            if bits[name] == 32:
                made.update_quantization_recipe(
                    regex=pattern,
                    operation_name=everything,
                    algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE,
                )
            else:
                made.add_weight_only_config(
                    regex=pattern, operation_name=everything, num_bits=bits[name]
                )
    try:
        narrow = bytes(made.quantize().quantized_model)
    except Exception as error:
        raise ConversionError(
            f"The 4-bit quantizer refused the model: {' '.join(str(error).split())[:300]}",
            code="four-bit-quantizer",
        ) from None
    model = schema.parse(narrow)
    wide = {name: name for name, width in bits.items() if width == 32}
    left = sorted(
        schema.name_of(tensor)
        for graph in model.subgraphs
        for tensor in graph.tensors
        if schema.is_constant(tensor, model)
        and schema.dtype_of(tensor) == "float32"
        and tensor.shape is not None
        and len(tensor.shape) > 1
        and np.prod(tensor.shape) >= _WORTH_NARROWING
        and schema.layer_in(schema.name_of(tensor), wide) is None
    )
    if not left:
        return narrow, []
    return narrow, [
        f"weights left in 32 bits, because int4 has no kernel for them: {', '.join(left[:5])}"
    ]
