"""Repairs of the converter's known faults, in the file that it wrote.

    bytes ──parse──► model ──each repair──► changed? ──pack──► bytes

Every repair takes the parsed file, changes it in place, and returns whether it changed anything.
"""

from __future__ import annotations

import copy
import re

import numpy as np

from tfkd.export.conversion.narrowing import narrow_weights
from tfkd.export.tflite import schema, structures, writer
from tfkd.export.tflite.model import STATE_IN, STATE_OUT, STEP
from tfkd.export.tflite.schema import LEAST_CELL_SCALE, LSTM_CELL

# Names joined from more parts are cut: each result of an UNPACK joins the names of all.
_PARTS = 4
# A scope that occurs twice just before the operation's own name.
_DOUBLED = re.compile(r"(?:^|(?<=/))([^/]+)/\1/(?=[^/]*$)")


def repaired(data: bytes, inputs=(), outputs=(), structure=(None, None), narrow=None) -> bytes:
    """Return a file with the converter's known faults repaired.

    Args:
        data: A `.tflite` file.
        inputs: Names of the inputs in the declared order.
        outputs: Names of the outputs in the declared order.
        structure: The model's own structure of inputs and of outputs, `None` for a plain list;
            see `structures`.
        narrow: The layers whose weights get 4 bits; see `narrow_weights`.

    Returns:
        A new file, or the same bytes if nothing was repaired and packing saves no bytes.
    """
    model = schema.parse(data)
    changed = [
        restore_integer_arg_max(model),
        narrow_weights(model, narrow or {}),
        separate_biases(model),
        raise_cell_scales(model),
        shorten_names(model),
        empty_unread_buffers(model),
        tie_state_scales(model),
        put_in_declared_order(model, inputs, outputs, structure),
    ]
    packed = writer.pack(model)
    return packed if any(changed) or len(packed) < len(data) else data


def restore_integer_arg_max(model) -> bool:
    """Make ARG_MAX and ARG_MIN read int8, without the DEQUANTIZE that the converter adds."""
    names = schema.op_names(model)
    changed = False
    for graph in model.subgraphs:
        floats = {
            int(op.outputs[0]): op
            for op in graph.operators
            if names[op.opcodeIndex] == "DEQUANTIZE"
            and schema.dtype_of(graph.tensors[op.inputs[0]]) == "int8"
        }
        for op in graph.operators:
            if names[op.opcodeIndex] in ("ARG_MAX", "ARG_MIN") and int(op.inputs[0]) in floats:
                op.inputs = [floats[int(op.inputs[0])].inputs[0], *op.inputs[1:]]
                changed = True
        read = {int(i) for op in graph.operators for i in op.inputs} | set(map(int, graph.outputs))
        unread = [id(op) for tensor, op in floats.items() if tensor not in read]
        graph.operators = [op for op in graph.operators if id(op) not in unread]
    return changed


def separate_biases(model) -> bool:
    """Rescale each bias to its operation's own step, and copy a bias that several share.

    A bias has the wrong step where operations share it, or where the weights changed.
    """
    wrong = schema.wrong_biases(model)
    for graph, op, place, scales in wrong:
        shared = graph.tensors[op.inputs[place]]
        if not schema.is_constant(shared, model):
            continue
        dtype = np.dtype(schema.dtype_of(shared))
        steps = np.frombuffer(bytes(model.buffers[shared.buffer].data), dtype)
        values = steps * np.asarray(shared.quantization.scale, np.float64)
        steps, limits = np.rint(values / scales), np.iinfo(dtype)
        if steps.min() < limits.min or steps.max() > limits.max:
            continue  # the audit of the file reports it
        own = shared
        if sum(int(i) == op.inputs[place] for other in graph.operators for i in other.inputs) > 1:
            own = copy.deepcopy(shared)
            own.name += b"/of/" + graph.tensors[op.outputs[0]].name
            graph.tensors.append(own)
            op.inputs = [*op.inputs[:place], len(graph.tensors) - 1, *op.inputs[place + 1 :]]
        own.quantization.scale = scales.astype(np.float32)
        own.quantization.zeroPoint = np.zeros(len(scales), np.int64)
        writer.put_data(model, own, np.frombuffer(steps.astype(dtype).tobytes(), np.uint8))
    return bool(wrong)


def empty_unread_buffers(model) -> bool:
    """Empty buffers that nothing in the file refers to.

    The converter leaves two such buffers for each fused int8 LSTM, and their numbers differ from
    one conversion of a model to the next.
    """
    held = {int(tensor.buffer) for graph in model.subgraphs for tensor in graph.tensors}
    held |= {int(entry.buffer) for entry in model.metadata or ()}
    held |= set(map(int, () if model.metadataBuffer is None else model.metadataBuffer))
    changed = False
    for index, buffer in enumerate(model.buffers):
        if index not in held and buffer.data is not None and len(buffer.data):
            buffer.data, changed = None, True
    return changed


def raise_cell_scales(model) -> bool:
    """Raise the cell scale of fused int8 LSTMs to the smallest that their kernel supports.

    No number in the file depends on this scale: a cell starts at zero, and the interpreter
    derives the gates' multipliers from the scales when it loads the file.
    """
    names, changed = schema.op_names(model), False
    for graph in model.subgraphs:
        for op in graph.operators:
            if names[op.opcodeIndex] != "UNIDIRECTIONAL_SEQUENCE_LSTM":
                continue
            quantization = graph.tensors[op.inputs[LSTM_CELL]].quantization
            scales = None if quantization is None else quantization.scale
            if scales is not None and len(scales) == 1 and scales[0] < LEAST_CELL_SCALE:
                quantization.scale = np.asarray([LEAST_CELL_SCALE], np.float32)
                changed = True
    return changed


def tie_state_scales(model) -> bool:
    """Give each state output of a step file the scale of the state input that it feeds.

    Nothing else reads the state output, and the operation that computes it takes its scales from
    the file.
    """
    changed = False
    for signature in model.signatureDefs or ():
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        ins, outs = (
            {(entry.name or b"").decode(): int(entry.tensorIndex) for entry in entries}
            for entries in (signature.inputs, signature.outputs)
        )
        for name, index in ins.items():
            target = outs.get(STATE_OUT + name.removeprefix(STATE_IN))
            if not name.startswith(STATE_IN) or target is None:
                continue
            given, made = (tensors[i].quantization for i in (index, target))
            if any(one is None or one.scale is None or not len(one.scale) for one in (given, made)):
                continue
            made.scale, made.zeroPoint = given.scale.copy(), given.zeroPoint.copy()
            changed = True
    return changed


def shorten_names(model) -> bool:
    """Remove repeated scopes from tensors' names, and cut names that join many others.

    The converter names each operation after its layer's scope and its layer: `conv/conv/Conv2D`.
    An unrolled layer over n steps has n names of n parts each, which can be a third of the file.
    """
    changed = False
    for subgraph in model.subgraphs:
        taken = {schema.name_of(tensor) for tensor in subgraph.tensors}
        for tensor in subgraph.tensors:
            name = schema.name_of(tensor)
            parts = [_DOUBLED.sub(r"\1/", part) for part in name.split(";")]
            wanted = short = parts[0] if len(parts) > _PARTS else ";".join(parts)
            if wanted == name:
                continue
            number = 0
            while short in taken:
                number += 1
                short = f"{wanted}.{number}"
            taken.add(short)
            tensor.name, changed = short.encode(), True
    return changed


def put_in_declared_order(model, inputs, outputs, structure) -> bool:
    """Put inputs and outputs in the model's order, in the graph and in its signature.

    The converter orders them by a hash table, and a signature sorts them by name.
    """
    graph, changed = model.subgraphs[0], False
    signature = next((one for one in model.signatureDefs if one.subgraphIndex == 0), None)
    forms = {}
    for which, names, form in zip(("inputs", "outputs"), (inputs, outputs), structure, strict=True):
        entries = [] if signature is None else getattr(signature, which)
        by_name = {(entry.name or b"").decode(): entry for entry in entries}
        # A loop's signature has the names of the model, without the prefix of the step file.
        found = [by_name.get(name, by_name.get(name.removeprefix(STEP))) for name in names]
        found = [entry for entry in found if entry is not None]
        wanted = [int(entry.tensorIndex) for entry in found]
        given = [int(i) for i in getattr(graph, which)]
        if sorted(wanted) == sorted(given) and (wanted, found) != (given, entries):
            setattr(graph, which, wanted)
            setattr(signature, which, found)
            changed = True
        if form is not None:
            forms[which] = structures.filled(form, [entry.name.decode() for entry in found])
    if forms:
        structures.put(model, forms)
        changed = True
    return changed
