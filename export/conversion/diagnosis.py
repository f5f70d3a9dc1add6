"""Why a child process died on a model: the operation, its known cause, the way out."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfkd.errors import ConversionError, TfkdError, WorkerError, argument
from tfkd.export.conversion import converter
from tfkd.export.runtime import worker as sandbox
from tfkd.export.runtime.interpreter import run_on_zeros
from tfkd.export.tflite import schema, writer

_SECONDS = 300.0


def crash_error(
    error: WorkerError, what: str, job: converter.ConversionJob, scopes, data: bytes | None = None
) -> ConversionError:
    """Return the error for a conversion whose process crashed, hung or ran out of memory.

    Args:
        error: How the child process failed.
        what: What the process was doing, in words.
        job: The conversion that it was given.
        scopes: Layers by the prefix that they give the names of tensors.
        data: The file, if the conversion was done and running the file was fatal.
    """
    message = f"{what} failed: {error}"
    if error.timed_out:
        return ConversionError(
            f"{message} Give a larger {argument('timeout')}, or fewer examples.",
            code="converter-time",
        )
    if error.out_of_memory:
        return ConversionError(
            f"{message} Give fewer examples, or a smaller batch.", code="converter-memory"
        )
    if error.signal is None:
        return ConversionError(message, code="converter-failed")
    if data is not None:
        return ConversionError(f"{message} {_of_the_file(data, scopes)}", code="converter-failed")
    loops = _loops(job, scopes) if job.samples is not None else ()
    if loops:
        return ConversionError(
            f"{message} The operation WHILE ({', '.join(loops)}) crashes the converter during "
            f"calibration: use {argument('recurrent', 'unrolled')}, 'loop' or 'step', or replace "
            "the layer that hides the loop with a Keras LSTM, GRU or SimpleRNN.",
            code="loop-in-calibration",
        )
    return ConversionError(
        f"{message} Formats without calibration: 'float32', 'dynamic'.", code="converter-failed"
    )


def _loops(job, scopes) -> list[str]:
    """Name the WHILE loops in the graph to calibrate."""
    plain = dataclasses.replace(job, format="float32", samples=None, float_io=False, kept=())
    try:
        data, _ = sandbox.shared().call(converter.convert, plain, timeout=_SECONDS)
    except TfkdError:
        return []
    model = schema.parse(data)
    names = schema.op_names(model)
    found = {}
    for subgraph in model.subgraphs:
        for op in subgraph.operators:
            if names[op.opcodeIndex] == "WHILE":
                tensor = schema.name_of(subgraph.tensors[op.outputs[0]])
                found[repr(schema.layer_in(tensor, scopes) or tensor)] = True
    return list(found)


def _of_the_file(data: bytes, scopes) -> str:
    found = fatal_op(data)
    if found is None:
        return "The operation that failed could not be found."
    kind, tensor = found
    layer = schema.layer_in(tensor, scopes)
    where = f"of the layer {layer!r}" if layer else f"that makes {tensor!r}"
    return (
        f"The kernel of {kind} {where} crashes the process: use another format, or, in int8, "
        f"leave the layer in float with {argument('skip')}."
    )


def fatal_op(data: bytes) -> tuple[str, str] | None:
    """Find the operation whose kernel crashes the process, by running ever longer beginnings.

    Args:
        data: A `.tflite` file.

    Returns:
        The names of the operator and of its result; `None` if no beginning is fatal.
    """
    model = schema.parse(data)
    count = len(model.subgraphs[0].operators)
    with sandbox.Worker() as worker:

        def dies(length: int) -> bool:
            try:
                worker.call(_run_beginning, data, length, timeout=_SECONDS)
            except WorkerError as error:
                return error.signal is not None
            except TfkdError:
                pass
            return False

        if not dies(count):
            return None
        alive, dead = 0, count
        while dead - alive > 1:
            middle = (alive + dead) // 2
            alive, dead = (alive, middle) if dies(middle) else (middle, dead)
    op = model.subgraphs[0].operators[dead - 1]
    name = schema.op_names(model)[op.opcodeIndex]
    return name, schema.name_of(model.subgraphs[0].tensors[op.outputs[0]])


def _run_beginning(data: bytes, length: int) -> None:
    """Run the first operations of a file, in the worker."""
    model = schema.parse(data)
    subgraph = model.subgraphs[0]
    subgraph.operators = subgraph.operators[:length]
    subgraph.outputs = np.array(subgraph.operators[-1].outputs, np.int32)
    model.signatureDefs = []
    run_on_zeros(writer.pack(model))
