"""A model as the SavedModel that the converter reads: one signature, static shapes, plain names."""

from __future__ import annotations

import contextlib
import itertools
import keyword
import re

import numpy as np

from tfkd import backends, graph
from tfkd.errors import InputError
from tfkd.model import signatures


def save_model(model, folder: str, batch: int | None, outputs=None) -> tuple[list[str], list[str]]:
    """Trace a Keras model and write it as a SavedModel.

    Args:
        model: A built Keras 3 or tf_keras model.
        folder: Where to write; an empty folder.
        batch: Examples a call, or `None` to leave it free.
        outputs: Names of the outputs, where they are not those of the layers.

    Returns:
        The names of the inputs and of the outputs in the signature, in the graph's order.

    Raises:
        InputError: if an input's size is free beyond the batch.
    """
    import tensorflow as tf

    source = graph.walk(model)
    names = identifiers([tensor.name for tensor in source.input_list])
    output_names = identifiers(outputs or [tensor.name for tensor in source.output_list])
    _check_static(model.name, [(t.name, t.shape) for t in source.input_list])
    specs = [
        tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in zip(names, source.input_list, strict=True)
    ]

    def apply(call, args, kwargs):
        # Keras 3 would number the names, and a number may be part of another layer's name.
        with tf.name_scope(scope_of(call.name) + "/"):
            return graph.call_layer(call, args, kwargs, training=False)

    def forward(*tensors):
        outputs = list(graph.leaves(graph.replay(source, tensors, apply)))
        return dict(zip(output_names, outputs, strict=True))

    module = tf.Module()
    # tf_keras variables are TensorFlow's own; a Keras 3 one holds it as `value`.
    module.weights = [w if isinstance(w, tf.Variable) else w.value for w in model.variables]
    module.forward = tf.function(forward, input_signature=specs, autograph=False)
    with _plain_places():
        tf.saved_model.save(module, folder, signatures=module.forward)
    return names, output_names


@contextlib.contextmanager
def _plain_places():
    """Let Keras 3's argmax and argmin be TensorFlow's.

    Its own tell -0.0 from 0.0 by bits, for which TFLite has no operator.
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


class SavedSignature:
    """A SavedModel without layers: its default signature is all that is known of it.

    Args:
        path: The folder.

    Raises:
        InputError: if it can't be read or has no `serving_default` signature.
    """

    def __init__(self, path):
        import tensorflow as tf

        self.name = str(path)
        try:
            self.loaded = tf.saved_model.load(self.name)
            self.function = self.loaded.signatures["serving_default"]
        except Exception as error:  # whatever a damaged folder makes TensorFlow raise
            raise InputError(
                f"{self.name!r} is no SavedModel with a 'serving_default' signature: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error
        #: What data is bound to; in the declared order where the folder tells it.
        self.slots = signatures.inputs_of(self.loaded, self.function, f"model {self.name!r}")
        if self.slots is None:
            raise InputError(f"The signature of {self.name!r} takes no inputs by name.")
        self.inputs = self.slots.labels
        self.outputs = signatures.outputs_of(self.function, self.name, "model").labels
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

    def save(self, folder: str, batch: int | None) -> tuple[list[str], list[str]]:
        """Write it again for a given batch; see `save_model`."""
        import tensorflow as tf

        _check_static(self.name, [(name, shape) for name, shape, _ in self.tensors])
        names = identifiers(self.inputs)
        specs = [
            tf.TensorSpec((batch, *self.specs[n].shape[1:]), self.specs[n].dtype, name=safe)
            for n, safe in zip(self.inputs, names, strict=True)
        ]

        def forward(*tensors):
            return self.function(**dict(zip(self.inputs, tensors, strict=True)))

        module = tf.Module()
        module.loaded = self.loaded
        module.forward = tf.function(forward, input_signature=specs, autograph=False)
        tf.saved_model.save(module, folder, signatures=module.forward)
        return names, self.outputs


def declared_order(structure) -> list[int]:
    """Return the places in flat order of a structure's leaves, in the declared order.

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
    """Return names with the first of them in another order.

    Args:
        names: The names; a step model has more than the model it was made of.
        places: Of the first ones, the place of each.
    """
    return [*(names[place] for place in places), *names[len(places) :]]


def scope_of(layer: str) -> str:
    """Return the beginning of the names of a layer's tensors in a file.

    Args:
        layer: Its path in the graph, `backbone/conv1`.
    """
    safe = re.sub(r"[^A-Za-z0-9_./>-]", "_", layer)
    return safe if safe[0].isalnum() else f"layer{safe}"


def _check_static(name, inputs):
    free = [f"{input_name} {shape}" for input_name, shape in inputs if None in shape[1:]]
    if free:
        raise InputError(
            f"The model {name!r} has inputs of free size ({', '.join(free)}); a .tflite file is "
            "static: rebuild the model with a fixed Input shape, or, for a recurrent model over "
            "a sequence of any length, take recurrent='step'."
        )


def identifiers(names: list[str]) -> list[str]:
    """Make names that are distinct and safe in every language that will read them."""
    taken: list[str] = []
    for name in names:
        safe = re.sub(r"\W", "_", name.split("/")[-1]) or "tensor"
        safe = f"t_{safe}" if safe[0].isdigit() or keyword.iskeyword(safe) else safe
        candidate, number = safe, 1
        while candidate in taken:
            number += 1
            candidate = f"{safe}_{number}"
        taken.append(candidate)
    return taken
