"""The second stage of a conversion: the model is rewritten into the form for the converter.

quantize-aware ──► learned ranges in the graph
recurrent layers ──► fused, unrolled, loop, step
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np

from tfkd.errors import InputError, UnsupportedError, argument, raise_all
from tfkd.export.conversion import converter, tracing
from tfkd.export.conversion.formats import INTEGER
from tfkd.export.conversion.plan import Plan, Working, needs_data
from tfkd.export.conversion.recurrent import choice, forms, step
from tfkd.export.conversion.request import Request
from tfkd.export.tflite import model as artifact
from tfkd.model import graph
from tfkd.model.layer_kinds import kind_of
from tfkd.quantization import export_form, rewriting, without_rule


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A model in the form that is traced.

    Attributes:
        plan: The plan that it was made from.
        model: The model to trace; `None` for a signature.
        samples: Representative data for the model, or `None`.
        kept: Names of the model's layers that stay in floating point.
        bits: Other widths, by name of the model's layers.
        narrow: The model's layers whose weights are on a grid of 4 bits, see `narrow_layers`.
        scopes: How the names of a layer's tensors begin → its path in the given model.
        outputs: Names of the outputs of a step, or `None`.
        loop: How often the step is run in the file, or `None`.
        notes: Notes about the file, the plan's included.
    """

    plan: Plan
    model: Any = None
    samples: list[np.ndarray] | None = None
    kept: tuple[str, ...] = ()
    bits: dict[str, int] = dataclasses.field(default_factory=dict)
    narrow: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    scopes: dict[str, str] = dataclasses.field(default_factory=dict)
    outputs: list[str] | None = None
    loop: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def request(self) -> Request:
        """The request of the plan."""
        return self.plan.request

    @property
    def name(self) -> str:
        """The model's name."""
        return self.plan.name


def lower(plan: Plan) -> Lowered:
    """Bring the planned model into the form that is traced.

    Raises:
        UnsupportedError: if the model has no such form in this format.
    """
    request, working = plan.request, plan.working
    if working is None:
        return Lowered(plan, samples=plan.samples, notes=plan.notes)
    left_float, narrow = [], {}
    if export_form.is_ours(working.model):
        left_float = export_form.float_layers(working.model)
        narrow = export_form.narrow_layers(working.model)
        calibrated = needs_data(working.model, request.format) or plan.twin
        working.replace(export_form.freeze(working.model, ranges=not calibrated))
    if request.format in INTEGER:
        _check_loops(working.model)
    if plan.shapes and forms.recurrent_calls(graph.walk(working.model)):
        _to_tf_keras(working, copied=True)
        if working.flavour == "tf_keras":
            working.replace(forms.with_shapes(working.model, plan.shapes))
    learned = request.format in INTEGER and bool(left_float) and plan.samples is None
    form, note = _form(plan, working, learned, narrow)
    samples, outputs, loop = _in_form(form, plan, working)
    if request.uint8_io and outputs is not None:
        raise InputError(
            f"{argument('uint8_io', alone=True)} can't be combined with the loop "
            f"that {argument('recurrent', 'auto')} chose: give {argument('recurrent', 'unrolled')} "
            "or 'fused'."
        )
    given = {name: path for path, name in working.names.items()}
    return Lowered(
        plan,
        working.model,
        samples,
        kept=(*map(working.name_of, left_float), *map(working.name_of, plan.skip)),
        bits={working.name_of(path): width for path, width in plan.bits.items()},
        narrow={working.name_of(name): sizes for name, sizes in narrow.items()},
        scopes={
            tracing.scope_of(call.name): given.get(call.name, call.name)
            for call in graph.walk(working.model).calls
        },
        outputs=outputs,
        loop=loop,
        notes=(*plan.notes, *([note] if note else [])),
    )


def _check_loops(model):
    """Raise for layers that would crash the converter during calibration."""
    problems = [
        f"layer {path!r} ({type(layer).__name__}): {without_rule.reason(kind_of(layer))}"
        for path, layer in graph.walk(model).layers
        if without_rule.is_loop(layer)
    ]
    raise_all(problems, UnsupportedError, fix=without_rule.no_loops(), code="no-integer-loop")


def _form(plan: Plan, working: Working, learned: bool, narrow) -> tuple[str | None, str | None]:
    """Choose the form of recurrence, and explain the choice.

    Args:
        plan: The plan of the conversion.
        working: The plan's model.
        learned: Whether the file is integer, with learned ranges and layers left float.
        narrow: Names of the layers that get weights of 4 bits.
    """
    request = plan.request
    form, note = choice.pick(
        *(working.model, request.format, request.recurrent, request.micro, plan.twin, narrow),
        left_float=learned,
    )
    if form is not None and request.batch is None and form != "step":
        raise UnsupportedError(
            f"The model {plan.name!r} has recurrent layers, which need a fixed batch: give "
            f"{argument('batch')} a number.",
            code="free-sizes",
        )
    return form, note


def _in_form(form: str | None, plan: Plan, working: Working):
    """Convert recurrent layers to a form.

    Returns:
        The samples for the model in this form, the names of the outputs, and the number of steps
        of a loop; each may be `None`.
    """
    integer = plan.request.format in INTEGER
    if form is None:
        if integer:
            _to_tf_keras(working)
        return plan.samples, None, None
    if form == "loop" and not integer:
        working.translate("keras")  # tf_keras's LSTM would become the fused kernel
        return plan.samples, None, None
    working.translate("tf_keras", copied=True)
    if form not in ("step", "loop"):
        loops = plan.request.recurrent == "auto" and not integer
        working.replace(forms.lower(working.model, form, loops=loops, integer=integer))
        return plan.samples, None, None
    steps = None
    if form == "loop":
        # Calibrated as a step, and put into its loop afterwards.
        steps = step.length(working.model)
        if steps is None:
            raise UnsupportedError(
                f"The model {plan.name!r} runs over a free number of steps: fix it with "
                f"{argument('shapes', like='{name: shape}')}, or use "
                f"{argument('recurrent', 'step')}.",
                code="free-sizes",
            )
    model, samples, outputs = step.step_model(working.model, plan.samples)
    working.replace(model)
    return samples, outputs, steps


def _to_tf_keras(working: Working, copied: bool = False) -> None:
    """Translate the model to tf_keras, whose layers have more integer kernels, if possible.

    For example, Keras 3's LayerNormalization negates, which has no int8 kernel.
    """
    with contextlib.suppress(UnsupportedError):  # a custom layer: left unchanged
        working.translate("tf_keras", copied=copied)


def trace(source: Lowered, folder: str) -> tuple[converter.ConversionJob, list[str]]:
    """Write the SavedModel; return the job for the converter, and notes about it.

    Args:
        source: The lowered model, as from `lower`.
        folder: Where to write the SavedModel.
    """
    plan, request, notes = source.plan, source.request, []
    free = request.free and not plan.twin
    samples = source.samples
    if plan.signature is not None:
        names, outputs = plan.signature.save(folder, request.batch, plan.shapes, free)
    else:
        dtypes = tracing.integer_dtypes(source.model) if request.format in INTEGER else {}
        samples = _retyped(source.model, samples, dtypes)
        names, outputs = tracing.save_model(
            source.model, folder, request.batch, source.outputs, dtypes, plan.shapes, free
        )
        indices = [name.removeprefix(artifact.STEP) for name, d in dtypes.items() if d == "int32"]
        if indices:
            held = ", ".join(map(repr, indices))
            notes.append(f"the input {held} holds indices and is int32, not 8 or 16 bits")
    ins, outs = plan.declared
    job = converter.ConversionJob(
        folder=folder,
        format=request.format,
        samples=None if samples is None else dict(zip(names, samples, strict=True)),
        float_io=request.float_io,
        uint8_io=request.uint8_io,
        kept=tuple(map(tracing.scope_of, source.kept)),
        bits={tracing.scope_of(name): width for name, width in source.bits.items()},
        narrow={tracing.scope_of(name): sizes for name, sizes in source.narrow.items()},
        flex=request.flex,
        custom=request.custom,
        batch=request.batch,
        loop=source.loop,
        inputs=tuple(tracing.permuted(names, ins)),
        outputs=tuple(tracing.permuted(outputs, outs)),
        structures=plan.structures,
    )
    return job, notes


def _retyped(model, samples, dtypes: dict[str, str]) -> list[np.ndarray] | None:
    """Return the samples in the dtypes of the file's inputs."""
    if samples is None:
        return None
    retyped = []
    for tensor, values in zip(graph.walk(model).input_list, samples, strict=True):
        values = values.astype(dtypes.get(tensor.name, values.dtype))
        if tensor.dtype in rewriting.BYTES and values.dtype.kind == "f":
            # The smallest and the largest number, for a scale of 1 with any examples.
            values.flat[0], values.flat[-1] = rewriting.BYTES[tensor.dtype]
        retyped.append(values)
    return retyped
