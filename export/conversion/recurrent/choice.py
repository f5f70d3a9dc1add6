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

# The choices of "auto": for LSTMs with a fused kernel, and for all other layers. For an integer
# file that is not for a microcontroller, see `pick`.
_PICKED = {"int8": ("fused", "unrolled"), "int16x8": ("unrolled",) * 2, "int4": ("loop",) * 2}
_PICKED_FLOAT = ("fused", "loop")

_REFUSED = {
    ("int16x8", "fused"): "the fused kernel has no 16-bit form in the converter",
    ("int4", "fused"): "litert-quantizer leaves the fused kernel's weights in 32 bits",
}


#: Approximate bytes of one unrolled step in an integer file, by layer: operators and their scales.
#: Steps share the weights. Within a sixth of files measured with 8 to 64 units, 32 to 150 steps.
STEP_BYTES = {"LSTM": 2000, "GRU": 1650, "SimpleRNN": 450}


def written_out(model) -> tuple[int, int]:
    """Return the number of steps in a model's unrolled recurrent layers, and their bytes.

    Args:
        model: A built Keras 3 or tf_keras model. A layer of free length counts as one step.
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
    """Choose the form of a model's recurrent layers.

    Args:
        model: A built Keras 3 or tf_keras model.
        format: Of the file.
        wanted: One of `FORMS`.
        narrow: Names of the layers that get weights of 4 bits.

    Returns:
        The form, or `None` for a model without recurrent layers; and with `"auto"`, form → names of
        its layers. The form `"fused"` then applies only to layers that have the kernel.

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
                f"{_REFUSED[format, wanted]}. Use one of {others}.",
                code="recurrent-form",
            )
        for call in calls:
            if wanted == "fused" and not forms.has_kernel(call.layer):
                raise UnsupportedError(
                    f"The layer {call.name!r} ({type(call.layer).__name__}) has no fused kernel: "
                    "there is one for LSTM with tanh, sigmoid and a bias. Use 'unrolled', "
                    "'loop', 'step' or 'auto'.",
                    code="no-fused-kernel",
                )
            if wanted == "fused" and call.name in narrow:
                raise UnsupportedError(
                    f"The fused kernel has no weights of 4 bits, which {call.name!r} was trained "
                    f"for. Use {argument('recurrent', 'unrolled')}, 'loop', 'step' or 'auto'.",
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


#: The converter leaves a weight with fewer numbers unquantized in a dynamic-range file.
LEAST_NARROWED = 1024


def _is_narrowed(call) -> bool:
    """Tell whether the fused kernel's weights get 8 bits in a dynamic-range file.

    All of them do, or none: the converter checks the size of each gate's matrix separately.
    """
    layer = getattr(call.layer, "forward_layer", call.layer)
    return layer.units * min(layer.units, call.inputs[0].shape[-1]) >= LEAST_NARROWED


# "auto" unrolls up to `_SHORT` steps in an integer file for a phone: some 70 kB. Without a loop
# it unrolls up to `_LONG`: beyond that the converter takes minutes.
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
    """Choose the form of recurrence as `choose` does, and return it with a note.

    An integer file for a microcontroller gets the smallest form. Elsewhere XNNPACK has no kernel
    for the fused LSTM: steps are unrolled, or looped if there are many. A model with learned ranges
    and layers `left_float` is unrolled: else the state of a fused float layer would get a scale.
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
    """Return the form that `recurrent="auto"` chooses; `None` without recurrent layers.

    Args:
        model: A built Keras 3 or tf_keras model, quantize-aware or not.
        format: Of the file.
        micro: Whether the file is for a microcontroller.
        calibrated: Whether representative data is given.
    """
    narrow, left_float = (), False
    if export_form.is_ours(model):
        narrow = tuple(export_form.narrow_layers(model))
        left_float = format in INTEGER and not calibrated and bool(export_form.float_layers(model))
        model = export_form.freeze(model, ranges=False)
    return pick(model, format, "auto", micro, narrow=narrow, left_float=left_float)[0]


def _pick_integer(model, format, takes, micro):
    """Return the form in an integer file, its layers, and a note on its cost.

    The times were measured with 8 to 64 units over 29 to 150 steps, in XNNPACK on x86-64.
    """
    every = [name for layers in takes.values() for name in layers]
    steps, size = written_out(model)
    can_loop = step.can_loop(model)
    size = f"about {float(f'{size:.2g}'):,.0f} bytes"
    if micro:
        # The loop reads its step by a GATHER, which microcontrollers lack in 16 bits.
        if format == "int8" and "unrolled" in takes and can_loop:
            costs = f"the smallest on a microcontroller: {steps} unrolled steps take {size} more; "
            return "loop", {"the loop": every}, costs
        return ("fused" if "fused" in takes else "unrolled"), takes, ""
    if can_loop and steps > _SHORT:
        costs = f"{steps} unrolled steps take {size} more; "
        return "loop", {"the loop": every}, costs
    if "fused" in takes and steps > _LONG:
        costs = f"{steps} unrolled steps take {size}, and are several times as fast; "
        return "fused", takes, costs
    costs = f"its {steps} steps take {size}; "
    if can_loop:
        costs += "the loop is that much smaller and takes 1 to 3 times as long; "
    if "fused" in takes:
        costs += "fused LSTMs are the smallest and take 3 to 20 times as long in XNNPACK; "
    return "unrolled", {"unrolled": every}, costs
