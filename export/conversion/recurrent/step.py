"""The step form: a recurrent model that computes one step per call, with its state outside.

    x_t, state_in_0, ... ──► step model ──► y_t, state_out_0, ...

One file runs sequences of any length, with a fraction of the unrolled form's operators. A state
has the same scale as input and as output, so that the application only copies bytes.
"""

from __future__ import annotations

import numpy as np

from tfkd.errors import InputError, UnsupportedError, argument
from tfkd.export.conversion.recurrent import forms
from tfkd.export.tflite.model import STATE_IN, STATE_OUT, STEP
from tfkd.model import backends, graph
from tfkd.model.layer_kinds import RECURRENT, remade, stateful_layers

# Layers that compute each step of a sequence independently.
_PER_STEP = frozenset(
    [
        "Activation",
        "ActivityRegularization",
        "AlphaDropout",
        "Dense",
        "Dropout",
        "ELU",
        "Embedding",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "LeakyReLU",
        "ReLU",
        "Rescaling",
        "SpatialDropout1D",
        "TimeDistributed",
    ]
)
# Likewise, if they work along the last axis only.
_ALONG_LAST = frozenset(["BatchNormalization", "LayerNormalization", "Normalization", "Softmax"])
# Likewise, if all their inputs are sequences.
_MERGES = frozenset(["Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"])

_CALIBRATION_STEPS = 500


def step_model(model, samples=None):
    """Return the step form of a recurrent model and representative data for it.

    Args:
        model: A built tf_keras model with nested models inlined.
        samples: Representative data (examples, steps, ...) per input, or `None`.

    Returns:
        A `tf_keras.Model` whose sequences keep their axis of steps, with length one; a list of
        arrays, one per input, or `None`; and the names of the outputs. `TFLiteModel.states`
        reads the names of inputs and outputs.

    Raises:
        UnsupportedError: for a layer that needs more of the sequence than one step.
    """
    from tfkd.export.conversion.recurrent.unrolled import Unrolled

    source = graph.walk(model)
    moving = _sequences(source)
    tf_keras = backends.tf_keras()
    made, states_in, states_out = {}, [], []

    def state(call, index, width):
        if (id(call), index) not in made:
            made[id(call), index] = tf_keras.Input((width,), name=f"{STATE_IN}{len(states_in)}")
            states_in.append(made[id(call), index])
        return made[id(call), index]

    def apply(call, args, kwargs):
        layer = call.layer
        if id(layer) not in made:
            if call.kind in RECURRENT:
                made[id(layer)] = Unrolled(layer, layer.name, return_state=True)
            else:
                made[id(layer)] = remade(layer)
        if call.kind not in RECURRENT:
            return made[id(layer)](*args, **kwargs)
        count = 2 if call.kind == "LSTM" else 1
        given = [state(call, i, layer.units) for i in range(count)]
        result, *new = made[id(layer)](args[0], states=given)
        states_out.extend(new)
        return [result, *new] if layer.return_state else result

    inputs = [
        tf_keras.Input((1, *t.shape[2:]), name=STEP + t.name.split("/")[-1], dtype=t.dtype)
        if t.index in moving
        else tf_keras.Input(t.shape[1:], name=t.name.split("/")[-1], dtype=t.dtype)
        for t in source.input_list
    ]
    outputs = list(graph.leaves(graph.replay(source, inputs, apply)))
    named = {}
    for tensor, value in zip(source.output_list, outputs, strict=True):
        name = tensor.name.split("/")[-1]
        named[_free(STEP + name if tensor.index in moving else name, named)] = value
    for i, value in enumerate(states_out):
        named[f"{STATE_OUT}{i}"] = forms.with_own_scale(value)
    made_model = tf_keras.Model([*inputs, *states_in], list(named.values()), name=model.name)
    for _, layer in source.layers:
        if layer.weights:
            made[id(layer)].set_weights(layer.get_weights())
    if samples is not None:
        samples = _step_samples(made_model, samples, [t.index in moving for t in source.input_list])
    return made_model, samples, list(named)


def data_shapes(model) -> tuple[list[tuple[int | None, ...]], bool]:
    """Return the shapes of representative data for the step form.

    Args:
        model: A built Keras 3 or tf_keras model.

    Returns:
        One shape per input, and whether `whole_sequences` must read the data. It must for a
        model that keeps its state or takes a single step: such a model does not tell how many
        steps a sequence has, so that any number is valid.
    """
    source = graph.walk(model)
    moving, inputs = _sequence_inputs(source), source.input_list
    short = any(t.shape[1] == 1 for t in inputs if t.index in moving)
    if not short and not _is_stateful(source):
        return [tensor.shape for tensor in inputs], False
    shapes = [(None, None, *t.shape[2:]) if t.index in moving else t.shape for t in inputs]
    return shapes, True


def whole_sequences(model, samples, drawn: bool) -> tuple[list[np.ndarray], str | None]:
    """Return representative data for a single-step or stateful model as whole sequences.

    For a stateful model, examples with the length of its input continue one another as in
    `predict`: row i of a batch continues row i of the batch before.

    Args:
        model: A built Keras 3 or tf_keras model.
        samples: The data as read, one array per input.
        drawn: Whether the examples were drawn at random, so that none continues another.

    Returns:
        One array (sequences, steps, ...) per input, and a note about them.

    Raises:
        InputError: if the data does not show which values the states take.
    """
    source = graph.walk(model)
    moving, inputs = _sequence_inputs(source), source.input_list
    places = [i for i, tensor in enumerate(inputs) if tensor.index in moving]
    wanted = (
        "give whole sequences (examples, steps, ...) as "
        f"{argument('representative_data', alone=True)}: single steps and zero states do not show "
        "the ranges of the states"
    )
    steps = samples[places[0]].shape[1]
    if not _is_stateful(source) or inputs[places[0]].shape[1] != steps:
        if steps < 2:
            raise InputError(
                f"The step form of {model.name!r} keeps its state from call to call: {wanted}."
            )
        return samples, None
    if drawn or len(places) < len(inputs):
        why = "the examples were drawn at random" if drawn else "it has other inputs too"
        raise InputError(
            f"The model {model.name!r} keeps its state from call to call, and {why}: {wanted}."
        )
    batch = inputs[places[0]].shape[0] or 1
    calls = len(samples[0]) // batch
    if calls * steps < 2:
        raise InputError(f"The model {model.name!r} keeps its state from call to call: {wanted}.")
    sequences = []
    for values in samples:
        by_call = values[: calls * batch].reshape(calls, batch, *values.shape[1:])
        by_row = np.moveaxis(by_call, 0, 1)
        sequences.append(by_row.reshape(batch, calls * steps, *values.shape[2:]))
    return sequences, (
        f"calibrated on the data as {batch} x {calls * steps} steps in a row, because the model "
        "keeps its state from call to call; give sequences (examples, steps, ...) if it is reset "
        "in between"
    )


def _is_stateful(source) -> bool:
    return any(stateful_layers(call.layer) for call in forms.recurrent_calls(source))


def can_loop(model) -> bool:
    """Tell whether a model has a step form and no output at every step."""
    source = graph.walk(model)
    try:
        moving = _sequences(source)
    except UnsupportedError:
        return False
    return not any(tensor.index in moving for tensor in source.output_list)


def length(model) -> int | None:
    """Return the number of steps of a model's sequences; `None` if it is free."""
    source = graph.walk(model)
    moving = _sequence_inputs(source)
    return next(t.shape[1] for t in source.input_list if t.index in moving)


def _free(name, taken):
    while name in taken:
        name += "_"
    return name


def _sequences(source) -> set[int]:
    """Return the tensors with an axis of steps; raise if a layer mixes steps."""
    moving = _sequence_inputs(source)
    for call in source.calls:
        kind, layer = call.kind, call.layer
        along = [tensor for tensor in call.inputs if tensor.index in moving]
        if kind in RECURRENT:
            _check_recurrent(call, kind)
            if not along:
                raise UnsupportedError(
                    f"The layer {call.name!r} ({kind}) reads what another recurrent layer returns "
                    "after its last step, so the model has no step form; use "
                    f"{argument('recurrent', 'unrolled')} or 'fused'.",
                    code="no-step-form",
                )
            if layer.return_sequences:
                moving.add(call.outputs[0].index)
            continue
        if not along:
            continue
        if not _is_per_step(call, kind, len(along)):
            raise UnsupportedError(
                f"The layer {call.name!r} ({kind}) needs more of the sequence than one step, so "
                "the model has no step form. Before the last recurrent layer, use only layers that "
                "process each step on its own (Dense, activations, normalization, Embedding).",
                code="no-step-form",
            )
        moving.update(tensor.index for tensor in call.outputs)
    _check_lengths(source)
    return moving


def _check_lengths(source) -> None:
    """Raise if a model's sequences differ in length: a call takes a step of each."""
    moving = _sequence_inputs(source)
    sizes = {t.name: t.shape[1] for t in source.input_list if t.index in moving}
    if len(set(sizes.values()) - {None}) > 1:
        found = ", ".join(f"{name!r} has {size}" for name, size in sizes.items())
        raise UnsupportedError(
            f"The sequences of {source.name!r} differ in their number of steps ({found}), so it "
            f"has no step form; use {argument('recurrent', 'unrolled')} or 'fused'.",
            code="no-step-form",
        )


def _sequence_inputs(source) -> set[int]:
    """Return the inputs from which the sequences of recurrent layers are computed."""
    found, waiting = set(), [call.inputs[0] for call in forms.recurrent_calls(source)]
    seen = set()
    while waiting:
        tensor = waiting.pop()
        if tensor.index in seen:
            continue
        seen.add(tensor.index)
        call = source.producer(tensor)
        if call is None:
            found.add(tensor.index)
        else:
            waiting.extend(call.inputs)
    return found


def _check_recurrent(call, kind):
    what, layer = f"The layer {call.name!r} ({kind})", call.layer
    if kind == "Bidirectional" or layer.go_backwards:
        raise UnsupportedError(
            f"{what} reads the sequence from its end, so the model has no step form; use "
            f"{argument('recurrent', 'unrolled')} or 'fused', or a layer that reads forwards.",
            code="no-step-form",
        )
    if call.inputs[0].masked:
        raise UnsupportedError(
            f"{what} receives a mask (mask_zero=True or Masking), which the step form does not "
            "support; train without it, and feed no padding.",
            code="recurrent-mask",
        )
    if len(call.inputs) > 1:
        raise UnsupportedError(
            f"{what} starts from states that are computed elsewhere, which the step form does not "
            "support; train it without initial_state.",
            code="initial-state",
        )


def _is_per_step(call, kind: str, along: int) -> bool:
    if kind in _PER_STEP:
        return True
    if kind in _ALONG_LAST:
        axis = call.layer.axis
        axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
        last = len(call.inputs[0].shape) - 1
        return all(one in (-1, last) for one in axes)
    if kind in _MERGES:
        axis = getattr(call.layer, "axis", -1)
        last = len(call.inputs[0].shape) - 1
        return along == len(call.inputs) and (kind != "Concatenate" or axis in (-1, last))
    return False


def _step_samples(model, samples, moving: list[bool]) -> list[np.ndarray]:
    """Run the sequences step by step, and draw samples from the inputs of all steps.

    The samples include the smallest and the largest value of every state, final states included:
    a state is output and input, and its range has to hold both.
    """
    import tensorflow as tf

    count = len(samples[0])
    lengths = {x.shape[1] for x, moves in zip(samples, moving, strict=True) if moves}
    if len(lengths) > 1:
        raise InputError(
            f"The sequences in {argument('representative_data', alone=True)} have "
            f"{sorted(lengths)} steps: give all sequences of an example the same number, because a "
            "call takes a step of each."
        )
    (steps,) = lengths
    widths = [tensor.shape[-1] for tensor in model.inputs[len(samples) :]]
    states = [np.zeros((count, width), "float32") for width in widths]
    rows = [[] for _ in model.inputs]
    run = tf.function(lambda feed: model(feed, training=False))
    for step in range(steps + 1):
        at = min(step, steps - 1)
        feed = [x[:, at : at + 1] if moves else x for x, moves in zip(samples, moving, strict=True)]
        for kept, value in zip(rows, [*feed, *states], strict=True):
            kept.append(value)
        if step < steps:
            results = [value.numpy() for value in run([*map(tf.constant, [*feed, *states])])]
            states = results[len(results) - len(states) :]
    flat = [np.concatenate(values) for values in rows]
    chosen = np.random.default_rng(0).permutation(len(flat[0]))[:_CALIBRATION_STEPS]
    extremes = [
        pick
        for values in flat
        for pick in (
            int(values.reshape(len(values), -1).max(1).argmax()),
            int(values.reshape(len(values), -1).min(1).argmin()),
        )
    ]
    chosen = np.unique([*chosen, *extremes])
    return [values[chosen] for values in flat]
