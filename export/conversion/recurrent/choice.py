"""Which form the recurrent layers of a model take in a file, and why."""

from __future__ import annotations

from collections.abc import Sequence

from tfkd.errors import UnsupportedError, argument
from tfkd.export.conversion.formats import INTEGER
from tfkd.export.conversion.recurrent import forms, step
from tfkd.model import graph
from tfkd.model.layer_kinds import kind_of
from tfkd.quantization import export_form

#: The forms that recurrent layers can take in a file; see `to_tflite`.
FORMS = ("auto", "fused", "unrolled", "loop", "step")

# What "auto" takes: for LSTMs with a fused kernel, and for everything else. Where an integer file
# is not for a microcontroller, see `pick`.
_PICKED = {"int8": ("fused", "unrolled"), "int16x8": ("unrolled",) * 2, "int4": ("loop",) * 2}
_PICKED_FLOAT = ("fused", "loop")

_REFUSED = {
    ("int16x8", "fused"): "the fused kernel has no 16-bit form in the converter",
    ("int4", "fused"): "litert-quantizer leaves the fused kernel's weights in 32 bits",
}


#: Bytes of one step written out in an integer file, by layer: operators and their scales, about;
#: weights are shared. Measured for 8 to 64 units over 32 to 150 steps: within a sixth.
STEP_BYTES = {"LSTM": 2000, "GRU": 1650, "SimpleRNN": 450}


def written_out(model) -> tuple[int, int]:
    """Return how many steps a model's recurrent layers come to when unrolled, and their bytes.

    Args:
        model: A built Keras 3 or tf_keras model; of a free length, one step is counted.
    """
    steps = size = 0
    for call in forms.recurrent_calls(graph.walk(model)):
        ways = [call.layer]
        if call.kind == "Bidirectional":
            ways = [call.layer.forward_layer, call.layer.backward_layer]
        for layer in ways:
            count = call.inputs[0].shape[1] or 1
            steps += count
            size += count * STEP_BYTES.get(kind_of(layer), max(STEP_BYTES.values()))
    return steps, size


def choose(
    model, format: str, wanted: str, narrow: Sequence[str] = ()
) -> tuple[str | None, dict[str, list[str]]]:
    """Decide on the form of a model's recurrent layers.

    Args:
        model: A built Keras 3 or tf_keras model.
        format: Of the file.
        wanted: One of `FORMS`.
        narrow: Names of layers whose weights are to have 4 bits.

    Returns:
        The form, `None` for a model without recurrent layers, and under `"auto"` which layers
        take which: `"fused"` then means where a layer has the kernel.

    Raises:
        UnsupportedError: if the form does not exist for the format or for a layer.
    """
    calls = forms.recurrent_calls(graph.walk(model))
    if not calls:
        if wanted != "auto":
            raise UnsupportedError(
                f"{argument('recurrent', wanted)}, but the model {model.name!r} has no recurrent "
                "layer (LSTM, GRU, SimpleRNN, Bidirectional).",
                code="no-recurrent-layer",
            )
        return None, {}
    if wanted != "step":
        for call in calls:
            forms.check_stateless(call)
    if wanted != "auto":
        if (format, wanted) in _REFUSED:
            others = [f for f in FORMS[1:] if (format, f) not in _REFUSED]
            raise UnsupportedError(
                f"{argument('recurrent', wanted)} can't be combined with {format}: "
                f"{_REFUSED[format, wanted]}. Take one of {others}.",
                code="recurrent-form",
            )
        for call in calls:
            if wanted == "fused" and not forms.has_kernel(call.layer):
                raise UnsupportedError(
                    f"The layer {call.name!r} ({type(call.layer).__name__}) has no fused kernel: "
                    "there is one for LSTM with tanh, sigmoid and a bias. Take 'unrolled', "
                    "'loop', 'step' or 'auto'.",
                    code="no-fused-kernel",
                )
            if wanted == "fused" and call.name in narrow:
                raise UnsupportedError(
                    f"The fused kernel has no weights of 4 bits, which {call.name!r} was trained "
                    f"for. Take {argument('recurrent', 'unrolled')}, 'loop', 'step' or 'auto'.",
                    code="no-fused-kernel",
                )
        return wanted, {}
    fused, others = _PICKED.get(format, _PICKED_FLOAT)
    takes: dict[str, list[str]] = {}
    fusible = all(call.name not in narrow for call in calls)
    for call in calls:
        plain = fusible and forms.has_kernel(call.layer) and not forms.is_special(call)
        if format == "dynamic" and plain:
            plain = _is_narrowed(call)
        takes.setdefault(fused if plain else others, []).append(call.name)
    return "fused" if "fused" in takes else others, takes


#: A weight of fewer numbers stays as it is in a dynamic-range file (the converter's own limit).
LEAST_NARROWED = 1024


def _is_narrowed(call) -> bool:
    """Tell whether the fused kernel's weights get 8 bits in a dynamic-range file.

    Either all of them do or none; the converter looks at each gate's matrix alone.
    """
    layer = getattr(call.layer, "forward_layer", call.layer)
    return layer.units * min(layer.units, call.inputs[0].shape[-1]) >= LEAST_NARROWED


# Steps up to which "auto" writes recurrence out in an integer file for a phone: some 70 kB. And
# where there is no loop: beyond the second number the converter takes minutes.
_SHORT, _LONG = 32, 512


def pick(
    model,
    format: str,
    wanted: str,
    micro: bool,
    twin: bool = False,
    narrow: Sequence[str] = (),
    left_float: bool = False,
):
    """Choose the form of recurrence, see `choose`; return it and a note.

    In integers: on a microcontroller the smallest; elsewhere, where XNNPACK has no kernel for the
    fused LSTM, steps that are written out, or a loop if they are many. Among learned ranges, what
    is `left_float` is written out: its kernel's state would be given a scale, as if it were not.
    """
    form, takes = choose(model, format, wanted, narrow)
    if not takes:
        return form, None
    costs = ""
    if format in INTEGER and not twin:
        form, takes, costs = _pick_integer(model, format, takes, micro)
    if left_float and form == "fused":
        auto, skip = argument("recurrent", "auto"), argument("skip")
        return "unrolled", f"{auto} chose the unrolled form for the layers that {skip} leaves float"
    told = "; ".join(f"{name} for {', '.join(layers)}" for name, layers in takes.items())
    return (
        form,
        f"{argument('recurrent', 'auto')} chose {told}; {costs}recurrent_forms() in Python "
        "shows what the others cost",
    )


def automatic(model, format: str, micro: bool = False, calibrated: bool = False) -> str | None:
    """Return the form that `recurrent="auto"` takes, `None` without recurrent layers.

    Args:
        model: A built Keras 3 or tf_keras model, quantize-aware or not.
        format: Of the file.
        micro: Whether it is for a microcontroller.
        calibrated: Whether representative data is given.
    """
    narrow, left_float = (), False
    if export_form.is_ours(model):
        narrow = tuple(export_form.narrow_layers(model))
        left_float = format in INTEGER and not calibrated and bool(export_form.float_layers(model))
        model = export_form.freeze(model, ranges=False)
    return pick(model, format, "auto", micro, narrow=narrow, left_float=left_float)[0]


def _pick_integer(model, format, takes, micro):
    """Return the form in an integer file, which layers take which, and what it costs.

    The times are of 8 to 64 units over 29 to 150 steps, in XNNPACK on x86-64.
    """
    every = [name for layers in takes.values() for name in layers]
    steps, size = written_out(model)
    can_loop = step.can_loop(model)
    size = f"about {float(f'{size:.2g}'):,.0f} bytes"
    if micro:
        # Their GATHER, with which the loop reads its step, has no 16 bits.
        if format == "int8" and "unrolled" in takes and can_loop:
            costs = (
                f"the smallest on a microcontroller: {steps} steps written out are {size} more; "
            )
            return "loop", {"the loop": every}, costs
        return ("fused" if "fused" in takes else "unrolled"), takes, ""
    if can_loop and steps > _SHORT:
        costs = f"{steps} steps written out are {size} more; "
        return "loop", {"the loop": every}, costs
    if "fused" in takes and steps > _LONG:
        costs = f"{steps} steps written out are {size}, and several times as fast; "
        return "fused", takes, costs
    costs = f"its {steps} steps are {size}; "
    if can_loop:
        costs += "the loop is that much smaller and takes 1 to 3 times as long; "
    if "fused" in takes:
        costs += "fused LSTMs are the smallest and take 3 to 20 times as long in XNNPACK; "
    return "unrolled", {"unrolled": every}, costs
