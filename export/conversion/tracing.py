"""A model as the SavedModel that the converter reads: one signature, static shapes, plain names."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re

import numpy as np

from tfkd.errors import InputError, UnsupportedError, argument
from tfkd.escaping import identifiers
from tfkd.loading import signatures
from tfkd.model import backends, graph
from tfkd.quantization import rewriting
from tfkd.quantization.rules import moves
from tfkd.translation import operations


def save_model(
    model,
    folder: str,
    batch: int | None,
    outputs=None,
    dtypes=None,
    shapes=None,
    free: bool = False,
) -> tuple[list[str], list[str]]:
    """Trace a Keras model and write it as a SavedModel.

    Args:
        model: A built Keras 3 or tf_keras model.
        folder: Where to write; an empty folder.
        batch: Examples a call, or `None` to leave it free.
        outputs: Names of the outputs, if they differ from the names of the layers.
        dtypes: Dtypes of inputs by name, where they differ from the model's.
        shapes: One per input, with numbers for sizes that are free in the model.
        free: Whether sizes without such a number may stay free.

    Returns:
        The names of the inputs and of the outputs in the signature, in the graph's order.

    Raises:
        InputError: if a size other than the batch is free and may not be, or for layer names that
            TensorFlow does not accept in a graph.
    """
    import tensorflow as tf

    source = graph.walk(model)
    _check_names(source)
    sizes = filled([tensor.shape for tensor in source.input_list], shapes)
    names = identifiers([tensor.name for tensor in source.input_list])
    output_names = identifiers(outputs) if outputs else names_of_outputs(model, source)
    if not free:
        names_of = [tensor.name for tensor in source.input_list]
        _check_static(model.name, list(zip(names_of, sizes, strict=True)))
    specs = [
        tf.TensorSpec((batch, *size[1:]), (dtypes or {}).get(t.name, t.dtype), name=name)
        for name, t, size in zip(names, source.input_list, sizes, strict=True)
    ]

    def apply(call, args, kwargs):
        # Keras 3 would number the names, and a numbered name may be that of another layer.
        with tf.name_scope(scope_of(call.name) + "/"):
            return graph.call_layer(call, args, kwargs, training=False)

    def forward(*tensors):
        outputs = list(graph.leaves(graph.replay(source, tensors, apply)))
        return dict(zip(output_names, outputs, strict=True))

    module = tf.Module()
    # tf_keras variables are TensorFlow's own; a Keras 3 variable has one as `value`.
    module.weights = [w if isinstance(w, tf.Variable) else w.value for w in model.variables]
    module.forward = tf.function(forward, input_signature=specs, autograph=False)
    try:
        with _tensorflow_argmax():
            _write(module, folder)
    except AssertionError:  # a resource that is not a weight of the model
        raise UnsupportedError(
            _untracked_state_message(source, module), code="untracked-state"
        ) from None
    return names, output_names


def names_of_outputs(model, source: graph.Graph) -> list[str]:
    """Return the names of a model's outputs in a file: of the layers, or models, that make them."""
    names = [tensor.name for tensor in source.output_list]
    called = getattr(model, "output_names", None) or []
    if len(called) == len(names):
        makers = map(source.producer, source.output_list)
        nested = [maker is not None and "/" in maker.name for maker in makers]
        names = [a if inside else b for inside, a, b in zip(nested, called, names, strict=True)]
    return identifiers(names)


@contextlib.contextmanager
def _tensorflow_argmax():
    """Replace Keras 3's argmax and argmin by TensorFlow's.

    Keras 3's own versions distinguish -0.0 from 0.0 by bits, for which TFLite has no operator.
    """
    import tensorflow as tf

    def of(function):
        def places(x, axis=None, keepdims=False):
            x = tf.convert_to_tensor(x)
            whole = tf.reshape(x, [-1]) if axis is None else x
            found = function(whole, 0 if axis is None else axis, output_type=tf.int32)
            if not keepdims:
                return found
            if axis is None:
                return tf.reshape(found, [1] * len(x.shape))
            return tf.expand_dims(found, axis)

        return places

    module = backends.keras().src.backend.numpy
    own = {name: getattr(module, name) for name in ("argmax", "argmin")}
    for name in own:
        setattr(module, name, of(getattr(tf.math, name)))
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(module, name, function)


def _untracked_state_message(source, module) -> str:
    """Return an error message on the layers with a table or a state that no file can hold."""
    tracked = {id(variable.handle) for variable in module.weights}
    found = {}
    for resource, inside in module.forward.get_concrete_function().graph.captures:
        if resource.dtype.name != "resource" or id(resource) in tracked:
            continue
        for op in inside.consumers():
            for call in source.calls:
                if op.name.startswith(scope_of(call.name) + "/"):
                    found[call.name] = call.layer
    stateful = [name for name, layer in found.items() if getattr(layer, "stateful", False)]
    if stateful:
        return (
            f"The layers {', '.join(map(repr, stateful))} keep their state between batches "
            "(stateful=True), which a .tflite file can't do here; build the model with "
            "stateful=False."
        )
    named = [f"{name!r} ({type(layer).__name__})" for name, layer in found.items()]
    return (
        f"The model {source.name!r} has a table or a variable that is not one of its weights "
        f"({', '.join(named) or 'no layer has it'}), which a .tflite file can't hold here. Look "
        "words and numbers up in the application, and convert the part of the model that "
        "starts at the indices."
    )


# Layers and operations that move numbers without changing them.
_MOVING = frozenset({
    "Concatenate", "Cropping1D", "ExpandDims", "Flatten", "GetItem", "Identity", "Permute",
    "RepeatVector", "Reshape", "SlicingOpLambda", "Squeeze", "Transpose",
})  # fmt: skip


def integer_dtypes(model) -> dict[str, str]:
    """Return an integer file's dtypes for inputs whose dtype in the model has no kernel.

    Bytes that the model converts to numbers become int8 numbers of scale 1. Indices that the
    model takes as float32 become int32.

    Args:
        model: A built Keras 3 or tf_keras model.

    Returns:
        Name of each such input → `"float32"` (which the converter quantizes) or `"int32"`.

    Raises:
        UnsupportedError: for indices that are computed in floating point.
    """
    source = graph.walk(model)
    found = {source.input_list[i].name: "int32" for i in _index_inputs(source)}
    for tensor in source.input_list:
        if tensor.dtype in rewriting.BYTES and _becomes_a_number(source, tensor):
            found[tensor.name] = "float32"
    return found


def _becomes_a_number(source, tensor) -> bool:
    """Return whether all readers of a tensor of bytes convert them to numbers."""

    def makes_numbers(call) -> bool:
        kind = call.kind
        if moves.keeps_grid(call.layer) or kind in moves.IN_TRAINING:
            return all(_becomes_a_number(source, output) for output in call.outputs)
        if operations.name_of(call.layer) == "cast":
            (made,) = call.outputs
            return "float" in made.dtype or _becomes_a_number(source, made)
        return kind in ("Rescaling", "Normalization", *moves.AUGMENTING)

    if tensor in source.output_list:
        return False
    return all(map(makes_numbers, source.consumers(tensor)))


def _index_inputs(source) -> set[int]:
    """Return the places of float inputs with whole numbers: the indices of embeddings.

    Float is Keras's default for an `Input` before an `Embedding`, and 8 bits can't hold indices.
    """
    outputs = {tensor.index for tensor in source.output_list}

    def is_index(tensor) -> bool:
        calls = source.consumers(tensor)
        return bool(calls) and tensor.index not in outputs and all(map(takes_index, calls))

    def takes_index(call) -> bool:
        if _makes_whole(call):
            return True
        return call.kind in _MOVING and all(map(is_index, call.outputs))

    found = {t.index for t in source.input_list if t.dtype.startswith("float") and is_index(t)}
    places = {i for i, tensor in enumerate(source.input_list) if tensor.index in found}
    for call in source.calls:
        if call.kind in _MOVING and found >= {t.index for t in call.inputs}:
            found |= {tensor.index for tensor in call.outputs}
        computed = [t for t in call.inputs if t.dtype.startswith("float") and t.index not in found]
        if _makes_whole(call) and computed:
            raise UnsupportedError(
                f"The layer {call.name!r} ({type(call.layer).__name__}) reads whole numbers from "
                f"{computed[0].name!r}, which is floating point and has other readers, too: "
                "an integer file rounds it to 8 or 16 bits. Give the indices an Input of their "
                "own, with dtype='int32', or use a float format.",
                code="indices-in-float",
            )
    return places


def _makes_whole(call) -> bool:
    """Tell whether a call truncates its input to whole numbers."""
    if call.kind == "Embedding":
        return True
    is_cast = operations.name_of(call.layer) == "cast"
    return is_cast and any(tensor.dtype.startswith(("int", "uint")) for tensor in call.outputs)


class SavedSignature:
    """A SavedModel without layers, which is known only by a signature.

    Args:
        path: The folder.
        key: The signature's key. Defaults to `serving_default`, or to the only signature.

    Raises:
        InputError: if the SavedModel can't be read or has no such signature.
    """

    def __init__(self, path, key: str | None = None):
        self.name = str(path)
        self.loaded, self.function, key = signatures.opened(path, "model", key)
        #: The slots that data binds to, in the declared order if the folder states it.
        self.slots = signatures.inputs_of(self.loaded, self.function, f"model {self.name!r}")
        if self.slots is None:
            raise InputError(f"The signature of {self.name!r} has no named inputs.")
        self.inputs = self.slots.labels
        path = self.name if key == "serving_default" else None  # Keras has written its order
        self.output_slots = signatures.outputs_of(self.function, path, "model")
        self.outputs = self.output_slots.labels
        #: The structure of the outputs: a dict if their order is unknown.
        self.structure = None if self.output_slots.ordered else dict.fromkeys(self.outputs)
        self.specs = self.function.structured_input_signature[1]

    def check_finite(self):
        """Raise if a variable holds NaN or infinite values."""
        for variable in self.function.variables:
            if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all():
                raise InputError(f"The variable {variable.name!r} of {self.name!r} is not finite.")

    @property
    def tensors(self) -> list[tuple[str, tuple, str]]:
        """Name, shape and dtype of every input."""
        return [(n, tuple(self.specs[n].shape), self.specs[n].dtype.name) for n in self.inputs]

    def save(
        self, folder: str, batch: int | None, shapes=None, free: bool = False
    ) -> tuple[list[str], list[str]]:
        """Write the SavedModel again for a given batch; see `save_model`."""
        import tensorflow as tf

        sizes = filled([shape for _, shape, _ in self.tensors], shapes)
        if not free:
            _check_static(self.name, list(zip(self.inputs, sizes, strict=True)))
        names = identifiers(self.inputs)
        specs = [
            tf.TensorSpec((batch, *size[1:]), self.specs[n].dtype, name=safe)
            for n, safe, size in zip(self.inputs, names, sizes, strict=True)
        ]

        def forward(*tensors):
            return self.function(**dict(zip(self.inputs, tensors, strict=True)))

        module = tf.Module()
        module.loaded = self.loaded
        module.forward = tf.function(forward, input_signature=specs, autograph=False)
        _write(module, folder)
        return names, self.outputs


def _write(module, folder: str) -> None:
    """Write a module as a SavedModel without logging its path, since the folder is temporary."""
    import tensorflow as tf

    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.WARNING)  # a notebook shows INFO
    try:
        tf.saved_model.save(module, folder, signatures=module.forward)
    finally:
        logger.setLevel(before)


def declared_order(structure) -> list[int]:
    """Return each leaf's place in Keras's flat order, with the leaves in the declared order.

    Args:
        structure: Nested tuples, lists and dicts. Keras flattens a dict by its sorted keys.
    """
    count = itertools.count()

    def visit(part):
        if isinstance(part, dict):
            places = {key: visit(part[key]) for key in sorted(part)}
            return [place for key in part for place in places[key]]
        if isinstance(part, (list, tuple)):
            return [place for value in part for place in visit(value)]
        return [next(count)]

    return visit(structure)


def permuted(names: list[str], places: list[int]) -> list[str]:
    """Return names with the first ones in another order.

    Args:
        names: The names; a step model has more than the model that it was made from.
        places: Indices of the first names, in the new order.
    """
    return [*(names[place] for place in places), *names[len(places) :]]


def _check_names(source) -> None:
    names = {call.layer.name for call in source.calls}
    strange = sorted(name for name in names if not _SCOPE.fullmatch(name))
    if strange:
        raise InputError(
            f"The model {source.name!r} has layers with names that TensorFlow graphs do not "
            f"accept: {', '.join(map(repr, strange[:3]))}; rename them with letters, digits, "
            "'_', '.' and '-'."
        )


_SCOPE = re.compile(r"[A-Za-z0-9_.\\/>-]*")


def scope_of(layer: str) -> str:
    """Return the beginning of the names of a layer's tensors in a file.

    Args:
        layer: Its path in the graph, `backbone/conv1`.
    """
    safe = re.sub(r"[^A-Za-z0-9_./>-]", "_", layer)
    return safe if safe[0].isalnum() else f"layer{safe}"


def filled(shapes, fixed) -> list[tuple]:
    """Return shapes whose free sizes are filled in from other shapes.

    Args:
        shapes: One per input; for a step there are more than in `fixed`, since states are inputs.
        fixed: One per input, or `None`.
    """
    shapes = [tuple(shape) for shape in shapes]
    for i, other in enumerate(fixed or ()):
        shapes[i] = tuple(b if a is None else a for a, b in zip(shapes[i], other, strict=True))
    return shapes


def _check_static(name, inputs):
    free = [f"{input_name} {shape}" for input_name, shape in inputs if None in shape[1:]]
    if free:
        raise InputError(
            f"The model {name!r} has inputs of free size ({', '.join(free)}), but this file "
            f"needs fixed sizes: give {argument('shapes', like='{name: shape}')}, or "
            f"{argument('recurrent', 'step')} for a recurrent model over a sequence of any length. "
            "Float files for phones may keep free sizes."
        )
