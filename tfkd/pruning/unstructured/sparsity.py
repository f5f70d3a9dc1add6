"""`sparsity`: how many weights of a model or a file are zero, and how small they compress."""

from __future__ import annotations

import dataclasses
import gzip
from typing import TYPE_CHECKING

import numpy as np

from tfkd.errors import InputError, UnsupportedError
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import QUANTIZING, kind_of
from tfkd.tables import Printed, aligned

if TYPE_CHECKING:
    from tfkd._typing import AnyModel
    from tfkd.export.tflite.model import TFLiteModel

# Types of weights in a .tflite file; constants of other types are shapes and biases.
_STORED = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16}
_STORED |= {"float16": np.float16, "float32": np.float32, "int4": np.int8}


@dataclasses.dataclass(frozen=True)
class TensorSparsity:
    """The zeros of one weight tensor.

    Attributes:
        name: Name of the layer and the weight, or of the tensor in a file.
        size: Number of values.
        zeros: Number of zeros; in a file, of values equal to the zero point.
        distinct: Number of different values stored in it.
    """

    name: str
    size: int
    zeros: int
    distinct: int

    @property
    def share(self) -> float:
        """Fraction of the values that are zero."""
        return self.zeros / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True)
class Sparsity(Printed):
    """The zeros of a model or a file, and its size.

    Attributes:
        tensors: One `TensorSparsity` per kernel or embedding; biases and vectors don't count.
        bytes: Size of the file, or of all weights of a model as float32.
        gzip_bytes: The same after gzip at its highest level, as a download would be.
    """

    tensors: tuple[TensorSparsity, ...]
    bytes: int
    gzip_bytes: int

    @property
    def size(self) -> int:
        """Number of values in all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def zeros(self) -> int:
        """Number of zeros in all tensors."""
        return sum(tensor.zeros for tensor in self.tensors)

    @property
    def share(self) -> float:
        """Fraction of the values that are zero."""
        return self.zeros / self.size if self.size else 0.0

    def describe(self) -> str:
        """Return a table, a line per tensor, and the sizes."""
        lines = [("weights", "size", "zeros", "share", "distinct")]
        lines += [
            (t.name, f"{t.size:,}", f"{t.zeros:,}", f"{t.share:.1%}", f"{t.distinct:,}")
            for t in self.tensors
        ]
        lines.append(("total", f"{self.size:,}", f"{self.zeros:,}", f"{self.share:.1%}", ""))
        return "\n".join([*aligned(lines), f"{self.bytes:,} bytes, {self.gzip_bytes:,} after gzip"])


def sparsity(subject: AnyModel | TFLiteModel) -> Sparsity:
    """Count the zeros among the weights of a model or a `.tflite` file.

    Zeros make the compressed file smaller. Zeros alone make nothing faster: kernels multiply by
    them as by other numbers, so measure the time separately, with `benchmark`.

    Args:
        subject: A built Functional or Sequential model, Keras 3 or tf_keras, also one from
            `prune_weights`, `cluster_weights` or `quantize_aware`, whose weights count as
            its forward pass has them; or a `tfkd.export.TFLiteModel`.

    Returns:
        A `Sparsity`; its `describe()` is a table.

    Raises:
        InputError: for anything else.
        UnsupportedError: for a subclassed model, or a file with weights in a sparse format.

    Example:
        >>> import keras, numpy as np
        >>> from tfkd.pruning import sparsity
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model.set_weights([np.eye(4, 2), np.zeros(2)])
        >>> sparsity(model).share
        0.75
    """
    if backends.flavour(subject) is not None:
        return _of_model(subject)
    if isinstance(getattr(subject, "data", None), bytes) and hasattr(subject, "gzip_size"):
        tensors = tuple(_tensors(subject.data))
        return Sparsity(tensors, subject.size, subject.gzip_size)
    raise InputError(
        f"subject must be a Keras 3 or tf_keras model or a TFLiteModel, got "
        f"{type(subject).__name__}; open a file with tfkd.export.TFLiteModel.load(path)."
    )


def _of_model(model) -> Sparsity:
    tensors, everything = [], []
    for path, layer in graph.walk(model).layers:
        for name, values in _weights(layer):
            everything.append(np.asarray(values, np.float32).tobytes())
            if values.ndim > 1 and name != "bias":
                zeros = int(np.sum(values == 0))
                tensors.append(
                    TensorSparsity(f"{path}/{name}", values.size, zeros, len(np.unique(values)))
                )
    data = b"".join(everything)
    return Sparsity(tuple(tensors), len(data), len(gzip.compress(data, 9, mtime=0)))


def _weights(layer) -> list[tuple[str, np.ndarray]]:
    """Return names and values of a layer's weights, as used by its forward pass."""
    if hasattr(layer, "cluster_centroids"):
        from tfkd.pruning.unstructured import clustering

        layer = clustering.unwrapped(layer)
    masks, rounded = {}, []
    if hasattr(layer, "pruning_vars"):
        masks = {id(weight): mask.numpy() for weight, mask, _ in layer.pruning_vars}
        layer = layer.layer
    if kind_of(layer) in QUANTIZING:
        rounded = [
            (weight, np.asarray(quantizer(weight, False, weights=held)))
            for weight, quantizer, held in layer._weight_vars
        ]
        layer = layer.layer
    elif kind_of(layer) == "QuantizeLayer":
        return []
    taken = {id(weight) for weight, _ in rounded}
    plain = [weight for weight in getattr(layer, "weights", ()) if id(weight) not in taken]
    values = [(weight, np.where(masks.get(id(weight), 1), weight.numpy(), 0)) for weight in plain]
    return [(_short(weight.name), value) for weight, value in rounded + values]


def _short(name: str) -> str:
    return name.split("/")[-1].split(":")[0]


def _tensors(data: bytes):
    """Yield the weights of a `.tflite` file: constant matrices that an operation reads."""
    from tfkd.export.tflite import schema

    model = schema.parse(data)
    seen = set()
    for part in model.subgraphs:
        for index in sorted({int(i) for op in part.operators for i in op.inputs if i >= 0}):
            tensor = part.tensors[index]
            kind, shape = schema.dtype_of(tensor), schema.tensor_info(tensor, None).shape
            if tensor.buffer in seen or kind not in _STORED or len(shape) < 2:
                continue
            if not schema.is_constant(tensor, model):
                continue
            seen.add(tensor.buffer)
            name = schema.name_of(tensor)
            if tensor.sparsity is not None:
                raise UnsupportedError(
                    f"The tensor {name!r} is stored in a sparse format; convert the model without "
                    "the converter's experimental sparsity.",
                    code="sparse-format",
                )
            held = bytes(model.buffers[tensor.buffer].data)[: schema.size_of(tensor)]
            values = _numbers(held, kind, shape)
            zeros = int(np.sum(values == _zero_point(tensor, len(shape))))
            yield TensorSparsity(name, values.size, zeros, len(np.unique(values)))


def _numbers(held: bytes, kind: str, shape) -> np.ndarray:
    values = np.frombuffer(held, _STORED[kind])
    if kind == "int4":  # two per byte, the lower half first
        values = np.stack([values << 4 >> 4, values >> 4], -1).reshape(-1)
    return values[: int(np.prod(shape))].reshape(shape)


def _zero_point(tensor, rank: int):
    quantization = tensor.quantization
    points = None if quantization is None else quantization.zeroPoint
    if points is None or not len(points):
        return 0
    if len(points) == 1:
        return int(points[0])
    shape = [1] * rank
    shape[quantization.quantizedDimension] = len(points)
    return np.reshape(points, shape)
