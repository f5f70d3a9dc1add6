"""`to_tflite`: a Keras model as `.tflite` bytes, converted where a crash does no harm.

model ──trace at batch 1──► SavedModel ──worker: converter──► bytes ──audit──► TFLiteModel
"""

from __future__ import annotations

import re
import tempfile

import numpy as np

from tfkd import backends, graph
from tfkd.errors import ConversionError, InputError, WorkerError
from tfkd.quantization import frozen

from . import recurrent, sandbox
from .artifact import TFLiteModel

#: float32: as trained. float16: weights halved, for GPU delegates. dynamic: int8 weights,
#: float activations. int8: integers throughout, input and output too.
FORMATS = ("float32", "float16", "dynamic", "int8")

_SECONDS = 900.0


def to_tflite(model, format: str = "float32", representative_data=None) -> TFLiteModel:
    """Convert a Keras model to a `.tflite` file with a static batch of one.

    The converter runs in a child process: should it crash or hang, that is an error here
    and not the end of the caller. Whatever is asked for is what comes out: an int8 file
    in which anything is left float is refused.

    Args:
        model: A built Keras 3 or tf_keras model, also one from `quantize_aware`.
        format: `"float32"`, `"float16"` (weights; half the bytes), `"dynamic"` (int8
            weights, float arithmetic) or `"int8"` (integers only, input and output too).
        representative_data: For int8, examples in the model's own input range from
            which the activation ranges are read: an array of shape (examples, ...), or a
            list or dict of them for several inputs; 100 to 500 are enough. A model from
            `quantize_aware` has learned its ranges and takes none, unless it has recurrent
            layers: their gates and state have no learned ranges.

    Returns:
        A `TFLiteModel`; `.save(path)` writes it.

    Raises:
        InputError: for an unknown format, or representative data that is missing, not
            wanted, of the wrong shape, empty or not finite.
        ConversionError: if the converter fails, dies or hangs, or would leave part of an
            int8 file in floating point.

    Example:
        >>> import keras
        >>> from tfkd.export import to_tflite
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> to_tflite(model).inputs[0].shape
        (1, 4)
    """
    if format not in FORMATS:
        raise InputError(f"format must be one of {FORMATS}, got {format!r}.")
    if backends.flavour(model) is None:
        raise InputError(f"Expected a Keras 3 or tf_keras model, got {type(model).__name__}.")
    _check_finite(model)
    quantized = backends.is_quantize_aware(model)
    if quantized and format != "int8":
        raise InputError(
            "A quantize-aware model is trained for int8; strip_quantization gives the float model "
            f"to convert to {format}."
        )
    calibrated = format == "int8" and (not quantized or frozen.needs_calibration(model))
    samples = _representative(model, format, representative_data, calibrated)
    kept = ()
    if frozen.is_ours(model):
        kept = tuple(frozen.float_layers(model))
        model = frozen.freeze(model, ranges=not calibrated)
    if calibrated and recurrent.has_recurrence(model):
        model = recurrent.without_loops(model)
    sandbox.shared().start()  # imports while the model is traced here
    with tempfile.TemporaryDirectory(prefix="tfkd-") as folder:
        names = _save(model, folder)
        if samples is not None:
            samples = dict(zip(names, samples, strict=True))
        try:
            data = sandbox.shared().call(_convert, folder, format, samples, kept, timeout=_SECONDS)
        except WorkerError as error:
            raise ConversionError(
                f"Converting {model.name!r} to {format} failed: {error}"
            ) from error
    converted = TFLiteModel(data)
    if converted.wrong_scales:
        raise ConversionError(
            f"Converting {model.name!r} to {format} gave the operation "
            f"{converted.wrong_scales[0]!r} scales with which its kernel computes something else. "
            "For an LSTM, unroll=True avoids it."
        )
    if format == "int8" and not converted.integer_only and not kept:
        names = ", ".join(converted.float_tensors[:5])
        raise ConversionError(
            f"Converting {model.name!r} to int8 left {len(converted.float_tensors)} tensors in "
            f"floating point ({names}); use format='dynamic' if that is acceptable, or replace "
            "the layers they belong to."
        )
    return converted


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


def _representative(model, format, data, wanted):
    """Return the representative data as a list of float arrays, checked; or `None`."""
    if data is None:
        if wanted:
            raise InputError(
                "int8 needs representative_data: 100 to 500 examples from the training data, "
                "preprocessed as in training."
            )
        return None
    if not wanted:
        why = "this model has learned its ranges" if format == "int8" else f"{format} needs none"
        raise InputError(f"representative_data is not used here: {why}; leave it out.")
    tensors = graph.walk(model).input_list
    if isinstance(data, dict):
        data = [data[tensor.name] for tensor in tensors]
    elif not isinstance(data, (list, tuple)):
        data = [data]
    if len(data) != len(tensors):
        raise InputError(f"The model has {len(tensors)} inputs, got data for {len(data)}.")
    arrays = []
    for tensor, values in zip(tensors, data, strict=True):
        values = np.asarray(values, dtype=tensor.dtype)
        fits = values.ndim == len(tensor.shape) and all(
            want in (None, got)
            for want, got in zip(tensor.shape[1:], values.shape[1:], strict=True)
        )
        if not fits:
            raise InputError(
                f"representative_data for input {tensor.name!r} must have the shape "
                f"{tensor.shape}, got {values.shape}."
            )
        if len(values) == 0:
            raise InputError("representative_data is empty; give 100 to 500 examples.")
        if not np.isfinite(values.astype("float64")).all():
            raise InputError("representative_data holds NaN or infinite values.")
        arrays.append(values)
    return arrays


def _save(model, folder: str) -> list[str]:
    """Trace the model for one example and write it as a SavedModel.

    Returns:
        The names of the inputs in the signature, in the graph's order.
    """
    import tensorflow as tf

    source = graph.walk(model)
    names = _identifiers([tensor.name for tensor in source.input_list])
    free = [
        f"{tensor.name} {tensor.shape}" for tensor in source.input_list if None in tensor.shape[1:]
    ]
    if free:
        raise InputError(
            f"The model {model.name!r} has inputs of free size ({', '.join(free)}); a .tflite "
            "file is static: rebuild the model with a fixed Input shape."
        )
    specs = [
        tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in zip(names, source.input_list, strict=True)
    ]
    by_index = {tensor.index: i for i, tensor in enumerate(source.input_list)}

    def forward(*tensors):
        structure = graph.map_structure(lambda t: tensors[by_index[t.index]], source.inputs)
        outputs = list(graph.leaves(model(structure, training=False)))
        return dict(zip(output_names, outputs, strict=True))

    output_names = _identifiers([tensor.name for tensor in source.output_list])
    module = tf.Module()
    # tf_keras variables are TensorFlow's own; a Keras 3 one holds it as `value`.
    module.weights = [w if isinstance(w, tf.Variable) else w.value for w in model.variables]
    module.forward = tf.function(forward, input_signature=specs, autograph=False)
    tf.saved_model.save(module, folder, signatures=module.forward)
    return names


def _identifiers(names: list[str]) -> list[str]:
    """Make names that are distinct and safe in every language that will read them."""
    taken: list[str] = []
    for name in names:
        safe = re.sub(r"\W", "_", name.split("/")[-1]) or "tensor"
        safe = f"t_{safe}" if safe[0].isdigit() else safe
        candidate, number = safe, 1
        while candidate in taken:
            number += 1
            candidate = f"{safe}_{number}"
        taken.append(candidate)
    return taken


def _convert(folder: str, format: str, samples, kept: tuple[str, ...]) -> bytes:
    """Run the converter and a first trial; in the worker.

    Args:
        folder: Of the SavedModel.
        format: One of `FORMATS`.
        samples: Representative data by input, or `None`.
        kept: Names of the layers to leave in floating point.
    """
    import tensorflow as tf

    from .artifact import open_interpreter

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if format != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if format == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if format == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
        if samples is not None:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            count = len(next(iter(samples.values())))

            def representative():
                for i in range(count):
                    yield {name: values[i : i + 1] for name, values in samples.items()}

            converter.representative_dataset = representative
    try:
        data = _leave_float(converter, kept) if kept else converter.convert()
    except Exception as error:
        text = str(error)
        found = re.search(r"error: (.+)", text)
        reason = found.group(1) if found else text.strip().splitlines()[0]
        raise ConversionError(f"The converter refused the model: {reason}") from None
    data = recurrent.with_cell_scales_mended(data)
    interpreter = open_interpreter(data, "xnnpack", 1)
    interpreter.reset_all_variables()
    for tensor in interpreter.get_input_details():  # memory as it comes may be no valid index
        interpreter.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]))
    interpreter.invoke()
    return data


def _leave_float(converter, kept: tuple[str, ...]) -> bytes:
    """Calibrate, then quantize everything but the named layers.

    The converter's own switch for this is the deny list of its quantization debugger, which
    goes by the names of the operations' results.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    inside = re.compile("|".join(f"(^|/){re.escape(name)}(/|$)" for name in kept))
    names = {
        tensor.name.decode(errors="replace")
        for graph_ in TFLiteModel(calibrated)._parsed.subgraphs
        for tensor in graph_.tensors
    }
    denied = {n for n in names if any(inside.search(part) for part in n.split(";"))}
    for name in kept:
        if not any(f"{name}/" in tensor for tensor in denied):
            raise ConversionError(f"The layer {name!r} to leave in floating point was not found.")
    data = mlir_quantize(
        calibrated,
        denylisted_nodes=denied,
        input_data_type=tf.int8,
        output_data_type=tf.int8,
    )
    return bytes(data)
