"""The golden example, to which every other runtime must give the same answer, and raw numbers."""

from __future__ import annotations

import numpy as np

from tfkd.export.runtime.interpreter import call_interpreter, check_answers, open_runner
from tfkd.export.tflite.model import TensorInfo, TFLiteModel

_MOST_BYTES = 256 << 20
_SECONDS = 60.0


def golden_example(
    file: TFLiteModel, x=None, engine: str = "reference", call=None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the inputs of one call, in the file's own numbers, and the kernels' outputs.

    Args:
        file: The file.
        x: Examples, as for `TFLiteModel.predict`; the first is taken. Without them the numbers
            are drawn from a seed.
        engine: The kernels, one of `LITERT_ENGINES`.
        call: The tensors of the call, if they are known.

    Returns:
        (inputs, outputs) in the order of the file. The state is reset before the call.
    """
    if call is None:
        call = random_call(file) if x is None else file.first_call(x)
    answers = call_interpreter(
        _run_once, file.data, call, len(file.outputs), engine, timeout=_SECONDS
    )
    return call, check_answers(answers, file.outputs)


def _run_once(data, call, outputs, engine) -> list[np.ndarray]:
    """Run a file once, in the worker."""
    runner = open_runner(data, engine, 1, outputs)
    runner.reset()
    return runner(call)


def random_call(file: TFLiteModel) -> list[np.ndarray]:
    """Return tensors for one call: seeded numbers, zeros for states and possible indices."""
    rng = np.random.default_rng(0)
    states = {name for name, _ in file.states}
    tensors = []
    file._check_call(most=_MOST_BYTES)
    for info in file.inputs:
        if info.name in states:
            values = info.quantize(np.zeros(info.shape, np.float32))
        elif info.scale is not None:
            limits = np.iinfo(info.dtype)
            values = rng.integers(limits.min, limits.max, info.shape, info.dtype, endpoint=True)
        elif info.dtype.startswith("float"):
            values = rng.normal(size=info.shape).astype(info.dtype)
        else:
            values = np.zeros(info.shape, info.dtype)
        tensors.append(values)
    return tensors


def is_image(info: TensorInfo) -> bool:
    """Return whether an input has the shape of one grey or coloured image."""
    grey_or_colour = len(info.shape) == 4 and info.shape[0] == 1 and info.shape[3] in (1, 3)
    return grey_or_colour and (info.scale is not None or info.dtype == "float32")


def raw_values(info: TensorInfo, normalization, values: np.ndarray) -> np.ndarray:
    """Return the raw numbers that (raw - mean) / std maps to the numbers of a tensor.

    Args:
        info: The tensor.
        normalization: (mean, std) as from `normalizations_of`, or `None`.
        values: The tensor's own numbers, with the channels on the last axis.
    """
    if normalization is None:
        return info.dequantize(values)
    mean, std = map(np.float32, normalization)
    return info.dequantize(values) * std + mean


def raw_range(info: TensorInfo, normalization, values: np.ndarray | None) -> tuple[float, float]:
    """Return a first guess of the least and the largest raw number of an input.

    Args:
        info: The input.
        normalization: (mean, std) as from `normalizations_of`, or `None`.
        values: Examples in the tensor's own numbers; without them the range is that of the
            tensor's scale, or from 0 to 1.
    """
    if values is None and info.scale is not None:
        limits = np.iinfo(info.dtype)
        values = np.array([[limits.min], [limits.max]], info.dtype)
    elif values is None:
        values = np.array([[0], [1]], info.dtype)
    raw = raw_values(info, normalization, values)
    low, high = (float(f"{value:.4g}") for value in (raw.min(), raw.max()))
    return (low, high) if low < high else (0.0, 1.0)
