"""A teacher that takes only batches of one size, asked about batches of any size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfkd.model import binding


def size_of(inputs: binding.Slots | None) -> int | None:
    """Return the batch size that a model is built for; `None` where it takes any.

    Args:
        inputs: Its inputs, if they are known.
    """
    sizes = {slot.shape[0] for slot in inputs.entries if slot.shape} if inputs is not None else ()
    return next(iter(sizes)) if len(sizes) == 1 else None


def in_batches(run: Callable, x: list, size: int):
    """Run a model in batches of its own size; the last one is filled up with repeated examples.

    Args:
        run: Function from a list of tensors of `size` rows to nested tensors of as many rows.
        x: A tensor per input, of any number of rows.
        size: The batch size that the model is built for.
    """
    if not all(isinstance(leaf, (np.ndarray, tf.Tensor)) for leaf in x):
        return run(x)
    x = [tf.convert_to_tensor(leaf) for leaf in x]
    if x[0].shape[0] == size:
        return run(x)
    count = tf.shape(x[0])[0]
    times = (count + size - 1) // size
    rows = tf.range(times * size) % tf.maximum(count, 1)
    parts = [_as_batches(tf.gather(leaf, rows), size) for leaf in x]

    def once(leaves):
        outputs = run(list(leaves))
        # Keras keeps the logits of a softmax as an attribute, which a loop would lose.
        flat = tf.nest.flatten(outputs)
        kept = {i: one._keras_logits for i, one in enumerate(flat) if hasattr(one, "_keras_logits")}
        return outputs, kept

    if tf.executing_eagerly() and count > 0:
        each = [once([part[i] for part in parts]) for i in range(times)]
        outputs, kept = tf.nest.map_structure(lambda *found: tf.concat(found, 0)[:count], *each)
    else:
        # One trace for any number of examples, which also shows the signature of the outputs.
        specs = [tf.TensorSpec(part.shape[1:], part.dtype) for part in parts]
        traced = tf.function(once, autograph=False).get_concrete_function(specs)
        given = traced.structured_outputs
        flat = tf.map_fn(
            lambda leaves: tf.nest.flatten(traced(leaves)),
            parts,
            fn_output_signature=[
                tf.TensorSpec(one.shape, one.dtype) for one in tf.nest.flatten(given)
            ],
        )
        outputs, kept = tf.nest.pack_sequence_as(given, [_as_rows(one)[:count] for one in flat])
    flat = tf.nest.flatten(outputs)
    for i, logits in kept.items():
        flat[i]._keras_logits = logits
    return outputs


def _as_batches(leaf, size: int):
    """Return rows (examples, ...) as batches (batches, size, ...)."""
    parts = tf.reshape(leaf, tf.concat([[-1, size], tf.shape(leaf)[1:]], axis=0))
    return tf.ensure_shape(parts, (None, size, *leaf.shape[1:]))


def _as_rows(leaf):
    """Return batches (batches, size, ...) as rows (examples, ...)."""
    rows = tf.reshape(leaf, tf.concat([[-1], tf.shape(leaf)[2:]], axis=0))
    return tf.ensure_shape(rows, (None, *leaf.shape[2:]))
