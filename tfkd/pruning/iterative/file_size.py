"""The size of a model on the device: the bytes of the file that it becomes."""

from __future__ import annotations

import warnings

import numpy as np

from tfkd.errors import InputError
from tfkd.model import graph

#: Bytes of a weight in a file of each format.
BYTES_PER_WEIGHT = {"float32": 4, "float16": 2, "dynamic": 1, "int8": 1}


def file_bytes(model, format: str = "int8") -> int:
    """Return the bytes of the `.tflite` file that a model becomes.

    If the format needs data, calibrates on a little noise: the size does not depend on the data.

    Args:
        model: A Keras 3 or tf_keras model.
        format: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.

    Raises:
        InputError: for another format.
        TfkdError: as `tfkd.export.to_tflite` raises.
    """
    from tfkd.export import to_tflite

    check_format(format)
    noise = _noise(graph.walk(model)) if format == "int8" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about ranges from little data
        return to_tflite(model, format, noise).size


def check_format(format: str) -> None:
    """Raise an `InputError` for a format whose size can't be predicted."""
    if format not in BYTES_PER_WEIGHT:
        raise InputError(f"format must be one of {tuple(BYTES_PER_WEIGHT)}, got {format!r}.")


def _noise(walked: graph.Graph, count: int = 4):
    """Return examples on which a model can run: noise from 0 to 0.9, and zeros for integer inputs.

    As an index into an Embedding, each of these numbers is 0.
    """
    random = np.random.default_rng(0)

    def drawn(tensor: graph.Tensor):
        shape = (count, *[size or 1 for size in tensor.shape[1:]])
        most = 0.9 if "float" in tensor.dtype else 0.0
        return random.uniform(0.0, most, shape).astype(tensor.dtype)

    return graph.map_structure(drawn, walked.inputs)
