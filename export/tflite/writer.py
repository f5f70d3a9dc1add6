"""Writing a changed `.tflite` file, with the alignment that kernels rely on."""

from __future__ import annotations

from collections.abc import Callable

import flatbuffers

# The schema's `force_align` for a buffer's data, which the Python writer ignores.
_ALIGNMENT = 16
# Largest bytes of vectors to deduplicate: shapes, scales, zero points.
_SHARED = 1 << 16


class _Builder(flatbuffers.Builder):
    """A builder that aligns every vector of bytes, and writes equal vectors once.

    Each channel of weights and of biases has a zero point of eight bytes, always 0. The converter
    writes them repeatedly; in a small file they take a twentieth.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self.written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x):  # noqa: N802  its name there
        if x.nbytes > _SHARED:
            return super().CreateNumpyVector(x)
        key = x.dtype.str, x.tobytes()
        if key not in self.written:
            self.written[key] = super().CreateNumpyVector(x)
        return self.written[key]

    def StartVector(self, element_size, count, alignment):  # noqa: N802  its name there
        if element_size == 1:
            alignment = max(alignment, _ALIGNMENT)
        return super().StartVector(element_size, count, alignment)


def finished(write: Callable[[flatbuffers.Builder], int], identifier: bytes) -> bytes:
    """Return a finished flatbuffer.

    Args:
        write: A function that writes the root table with a given builder and returns its place.
        identifier: The four bytes that identify the type of the flatbuffer.
    """
    builder = _Builder(1024)
    builder.Finish(write(builder), identifier)
    return bytes(builder.Output())


def pack(model) -> bytes:
    """Return the file of a parsed model.

    Args:
        model: A `schema.ModelT`, as from `schema.parse`.
    """
    return finished(model.Pack, b"TFL3")


def put_data(model, tensor, data) -> None:
    """Give a tensor other data; a buffer that it shares with other tensors stays as it is.

    Args:
        model: A `schema.ModelT`; it is changed.
        tensor: One of its tensors.
        data: Bytes, as an array of uint8.
    """
    old = model.buffers[tensor.buffer]
    if bytes(old.data) == bytes(data):
        return
    if sum(other.buffer == tensor.buffer for g in model.subgraphs for other in g.tensors) > 1:
        tensor.buffer = len(model.buffers)
        model.buffers.append(type(old)())
    model.buffers[tensor.buffer].data = data


def with_main(model, index: int) -> bytes:
    """Return the file in which another subgraph is the main one; both change places.

    Args:
        model: A `schema.ModelT`, as from `schema.parse`; it is changed.
        index: Index of the subgraph.
    """
    places = {0: index, index: 0}
    model.subgraphs[0], model.subgraphs[index] = model.subgraphs[index], model.subgraphs[0]
    for graph in model.subgraphs:
        for op in graph.operators:
            for options in (op.builtinOptions, getattr(op, "builtinOptions2", None)):
                for name in [one for one in vars(options or object) if "ubgraphInd" in one]:
                    given = getattr(options, name)
                    if isinstance(given, int):
                        setattr(options, name, places.get(given, given))
    for signature in model.signatureDefs:
        signature.subgraphIndex = places.get(signature.subgraphIndex, signature.subgraphIndex)
    return pack(model)
