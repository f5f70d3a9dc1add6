"""Structural mutants of `.tflite` files: complete flatbuffers with changed content.

Each change is made in the schema's object form and packed again, so that readers see a file that
is well-formed as a flatbuffer and wrong, or odd, as a model.
"""

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfkd.export.tflite import writer

INDICES = (-1, 0, 1, 2, 7, 10**4, 2**31 - 1, -(2**31))
SIZES = (0, -1, 1, 2, 3, 5, 255, 2**16, 2**31 - 1)
SCALES = (np.nan, np.inf, -np.inf, 0.0, -0.5, 1e-45, 3e38, 1.0)
NAMES = (None, b"", b"\xff\xfe", b"a" * 3000, b"\x1b[31m\n", b"state_in_0", b"step_0")


def mutant(data, rng):
    """Return a changed file, and what was changed.

    Args:
        data: Of a file that is whole.
        rng: Draws the changes, one to three.
    """
    while True:
        model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
        kinds = [KINDS[i] for i in rng.integers(len(KINDS), size=rng.choice([1, 1, 1, 2, 3]))]
        try:
            for kind in kinds:
                kind(model, rng)
            return writer.pack(model), " + ".join(kind.__name__ for kind in kinds)
        except Exception:  # nothing there to change, or nothing that can be written: once more
            continue


def pick(rng, entries):
    return entries[rng.integers(len(entries))]


def listed(rng, thing, name, odd):
    """Change a list of numbers: an entry, its length, or whether it is there."""
    values = getattr(thing, name)
    dtype = values.dtype if isinstance(values, np.ndarray) else np.int32
    if name in ("scale", "min", "max"):
        dtype = np.float32
    if name == "zeroPoint":
        dtype = np.int64
    values = [] if values is None else list(values)
    place = rng.integers(len(values)) if values else 0
    kind = rng.integers(8)
    if kind < 4 and values:
        values[place] = pick(rng, odd)
    elif kind == 4 and values:
        del values[place]
    elif kind == 5:
        values.insert(place, pick(rng, odd))
    elif kind == 6:
        values = []
    else:
        values = None
    setattr(thing, name, None if values is None else np.array(values).astype(dtype))


def rearranged(rng, entries):
    """Change a list of objects: one is lost, doubled, or two change places."""
    kind, (i, j) = rng.integers(3), rng.integers(len(entries), size=2)
    if kind == 0:
        del entries[i]
    elif kind == 1:
        entries.insert(i, copy.deepcopy(entries[j]))
    else:
        entries[i], entries[j] = entries[j], entries[i]


def fields(rng, thing):
    """Change one number, flag or list of an object."""
    name = pick(rng, sorted(vars(thing)))
    value = getattr(thing, name)
    if isinstance(value, bool):
        setattr(thing, name, not value)
    elif isinstance(value, int):
        setattr(thing, name, int(pick(rng, INDICES)))
    elif isinstance(value, float):
        setattr(thing, name, float(pick(rng, SCALES)))
    else:
        listed(rng, thing, name, INDICES)


def graph_of(model, rng):
    return pick(rng, model.subgraphs)


def tensor_of(model, rng):
    """Return a tensor, one that is an input or an output half of the time."""
    graph = graph_of(model, rng)
    ends = [*graph.inputs, *graph.outputs]
    return graph.tensors[pick(rng, ends)] if rng.random() < 0.5 else pick(rng, graph.tensors)


def operator_of(model, rng):
    return pick(rng, graph_of(model, rng).operators)


def operators(model, rng):
    rearranged(rng, graph_of(model, rng).operators)


def an_operators_code(model, rng):
    operator_of(model, rng).opcodeIndex = int(pick(rng, (0, 1, 2, 3, 1000, 2**31)))


def operator_codes(model, rng):
    kind = rng.integers(4)
    code = pick(rng, model.operatorCodes)
    if kind == 0:
        rearranged(rng, model.operatorCodes)
    elif kind == 1:
        code.builtinCode = int(rng.choice([rng.integers(210), 32, -1, 5000]))
        code.deprecatedBuiltinCode = min(127, max(code.builtinCode, -128))
    elif kind == 2:
        code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
        code.customCode = pick(rng, NAMES)
    else:
        code.version = int(pick(rng, INDICES))


def tensor_indices(model, rng):
    listed(rng, operator_of(model, rng), pick(rng, ("inputs", "outputs", "intermediates")), INDICES)


def options(model, rng):
    op = operator_of(model, rng)
    kind = rng.integers(4)
    if kind == 0:
        op.builtinOptions, op.builtinOptionsType = None, 0
    elif kind == 1:
        number = int(rng.integers(1, 120))
        op.builtinOptionsType = number
        name = {value: key for key, value in vars(schema.BuiltinOptions).items()}[number]
        op.builtinOptions = getattr(schema, f"{name}T")()
    else:
        fields(rng, op.builtinOptions)


def shapes(model, rng):
    listed(rng, tensor_of(model, rng), "shape", SIZES)


def shape_signatures(model, rng):
    tensor = tensor_of(model, rng)
    if tensor.shapeSignature is None and tensor.shape is not None:
        tensor.shapeSignature = np.array(tensor.shape)
    listed(rng, tensor, "shapeSignature", SIZES)


def types(model, rng):
    tensor_of(model, rng).type = int(rng.choice([rng.integers(20), 99, -1]))


def quantization(tensor):
    if tensor.quantization is None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.array([0.5], np.float32)
        tensor.quantization.zeroPoint = np.array([0], np.int64)
    return tensor.quantization


def scales(model, rng):
    listed(rng, quantization(tensor_of(model, rng)), "scale", SCALES)


def all_scales(model, rng):
    """Change a tensor's scales and keep their number."""
    part = quantization(tensor_of(model, rng))
    part.scale = np.full(len(part.scale), pick(rng, SCALES), np.float32)


def zero_points(model, rng):
    listed(rng, quantization(tensor_of(model, rng)), "zeroPoint", (*INDICES, 2**40, 300, -129))


def quantized_axes(model, rng):
    quantization(tensor_of(model, rng)).quantizedDimension = int(pick(rng, INDICES))


def no_quantization(model, rng):
    tensor_of(model, rng).quantization = None


def buffer_indices(model, rng):
    tensor_of(model, rng).buffer = int(pick(rng, (0, 1, 2, 3, 1000, 2**31)))


def external_buffers(model, rng):
    tensor_of(model, rng).externalBuffer = int(pick(rng, (1, 2, 1000)))


def buffers(model, rng):
    held = [buffer for buffer in model.buffers if buffer.data is not None]
    buffer, kind = pick(rng, held), rng.integers(7)
    data = np.asarray(buffer.data)
    if kind == 0:
        buffer.data = data[: rng.integers(len(data))]
    elif kind == 1:
        buffer.data = np.concatenate([data, data])
    elif kind == 2:
        buffer.data = np.empty(0, np.uint8)
    elif kind == 3:
        buffer.data = None
    elif kind == 4:
        buffer.data = None
        buffer.offset, buffer.size = int(rng.integers(2000)), len(data)
    elif kind == 5:
        buffer.data, buffer.offset, buffer.size = None, 2**40, 2**40
    else:
        rearranged(rng, model.buffers)


def values(model, rng):
    """Change constants: among them shapes, axes, permutations and paddings."""
    small = [b for b in model.buffers if b.data is not None and 4 <= len(b.data) <= 64]
    buffer = pick(rng, small)
    words = np.array(buffer.data[: len(buffer.data) // 4 * 4]).view(np.int32).copy()
    words[rng.integers(len(words))] = pick(rng, INDICES)
    buffer.data = np.concatenate([words.view(np.uint8), buffer.data[len(words) * 4 :]])


def flags(model, rng):
    tensor = tensor_of(model, rng)
    name = pick(rng, ("isVariable", "hasRank"))
    setattr(tensor, name, not getattr(tensor, name))


def variant_tensors(model, rng):
    part = schema.VariantSubTypeT()
    part.shape, part.type = np.array([pick(rng, SIZES)], np.int32), int(rng.integers(20))
    tensor_of(model, rng).variantTensors = [part] * int(rng.integers(3))


def sparse(tensor):
    if tensor.sparsity is None:
        tensor.sparsity = schema.SparsityParametersT()
        tensor.sparsity.traversalOrder = np.array([0, 1], np.int32)
        tensor.sparsity.dimMetadata = [schema.DimensionMetadataT(), schema.DimensionMetadataT()]
    return tensor.sparsity


def sparsity_parameters(model, rng):
    every = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    encoded = [tensor for tensor in every if tensor.sparsity is not None]
    part = sparse(pick(rng, encoded) if encoded else tensor_of(model, rng))
    kind = rng.integers(7)
    if kind < 2:
        listed(rng, part, ("traversalOrder", "blockMap")[kind], INDICES)
    elif kind == 2:
        rearranged(rng, part.dimMetadata)
    elif kind == 3:
        part.dimMetadata = None
    else:
        dimension = pick(rng, part.dimMetadata)
        inner = [one for one in (dimension.arraySegments, dimension.arrayIndices) if one]
        if kind == 4 or not inner:
            dimension.format = int(rng.integers(3))
            dimension.denseSize = int(pick(rng, SIZES))
        elif kind == 5:
            listed(rng, pick(rng, inner), "values", INDICES)
        else:
            dimension.arraySegments, dimension.arraySegmentsType = None, int(rng.integers(5))


def no_sparsity(model, rng):
    tensor = tensor_of(model, rng)
    tensor.sparsity = None if tensor.sparsity else sparse(tensor)


def signatures(model, rng):
    signature, kind = pick(rng, model.signatureDefs), rng.integers(8)
    entries = pick(rng, [one for one in (signature.inputs, signature.outputs) if one])
    if kind == 0:
        rearranged(rng, model.signatureDefs)
    elif kind == 1:
        signature.subgraphIndex = int(pick(rng, (0, 1, 2, 2**31)))
    elif kind == 2:
        signature.signatureKey = pick(rng, NAMES)
    elif kind == 3:
        rearranged(rng, entries)
    elif kind == 4:
        pick(rng, entries).tensorIndex = int(pick(rng, (0, 1, 2, 3, 1000, 2**31)))
    elif kind == 5:
        pick(rng, entries).name = pick(rng, NAMES)
    elif kind == 6:
        setattr(signature, pick(rng, ("inputs", "outputs")), None)
    else:
        model.signatureDefs = None


def ends(model, rng):
    listed(rng, graph_of(model, rng), pick(rng, ("inputs", "outputs")), INDICES)


def subgraphs(model, rng):
    rearranged(rng, model.subgraphs)


def tensors(model, rng):
    rearranged(rng, graph_of(model, rng).tensors)


def lists(model, rng):
    """Leave a whole list out."""
    graph = graph_of(model, rng)
    owner, name = pick(
        rng,
        [
            *((model, name) for name in ("operatorCodes", "buffers", "metadata", "subgraphs")),
            *((graph, name) for name in ("tensors", "operators", "inputs", "outputs")),
        ],
    )
    setattr(owner, name, pick(rng, (None, [])))


def names(model, rng):
    kind = rng.integers(3)
    thing = tensor_of(model, rng) if kind else graph_of(model, rng)
    thing.name = pick(rng, NAMES)
    if kind == 2:  # of another tensor
        thing.name = tensor_of(model, rng).name


def metadata(model, rng):
    model.metadata = model.metadata or []
    kind = rng.integers(4)
    if kind == 0 or not model.metadata:
        entry, buffer = schema.MetadataT(), schema.BufferT()
        entry.name = pick(rng, (*NAMES, b"tfkd_structures", b"TFLITE_METADATA", b"min_runtime"))
        content = pick(
            rng, (b"[" * 5000, b'{"outputs": 3, "inputs": [1]}', b"\0", b'{"outputs": {"a": {}}}')
        )
        buffer.data, entry.buffer = np.frombuffer(content, np.uint8), len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    elif kind == 1:
        rearranged(rng, model.metadata)
    elif kind == 2:
        pick(rng, model.metadata).buffer = int(pick(rng, (0, 1, 1000, 2**31)))
    else:
        pick(rng, model.metadata).name = pick(rng, NAMES)


KINDS = (
    operators, an_operators_code, operator_codes, tensor_indices, tensor_indices, options, options,
    shapes, shapes, shape_signatures, types, types, scales, all_scales, zero_points,
    quantized_axes, no_quantization, buffer_indices, external_buffers, buffers, buffers, values,
    flags, variant_tensors, sparsity_parameters, sparsity_parameters, no_sparsity, signatures,
    signatures, ends, ends, subgraphs, tensors, lists, names, metadata,
)  # fmt: skip
