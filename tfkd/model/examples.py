"""Keys of examples: a hash of their bytes, and a second hash to check it by."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfkd import hashing
from tfkd.errors import InputError

_SALT = b"tfkd:2nd"  # prefix of every row of the check: eight bytes


@tf.autograph.experimental.do_not_convert
def example_keys(x):
    """Return a key and an independent check for each example of a batch.

    Each is a 64-bit farmhash of the example's bytes, mixed with every leaf's shape, dtype
    and place in the structure; eager, in a `tf.function` and in `tf.data` alike. Examples
    that differ in a single bit (also 0.0 and -0.0) have other keys.

    Args:
        x: A batch: arrays or dense tensors of shape (batch, ...), of any dtype, strings
            included, or nested lists, tuples and dicts of them.

    Returns:
        An int64 tensor of shape (batch, 2): the key and the check.

    Raises:
        InputError: for ragged or sparse tensors, leaves without a batch dimension, or data
            that TensorFlow has no dtype for.
    """
    return _keys_of([(place, dense(leaf, place)) for place, leaf in places(x)])


def keys_at_once(x) -> np.ndarray:
    """Return `example_keys(x)` as an array, by one graph in the place of many operations."""
    found = [(place, dense(leaf, place)) for place, leaf in places(x)]
    kinds = tuple((place, tensor.dtype, tensor.shape.rank) for place, tensor in found)
    return _graph_of(kinds)(*(tensor for _, tensor in found)).numpy()


@functools.lru_cache(64)
def _graph_of(kinds):
    specs = [tf.TensorSpec([None] * rank, dtype) for _, dtype, rank in kinds]

    def keys(*tensors):
        names = [place for place, _, _ in kinds]
        return _keys_of(list(zip(names, tensors, strict=True)))

    return tf.function(keys, autograph=False).get_concrete_function(*specs)


def _keys_of(tensors: list[tuple[str, tf.Tensor]]):
    keys, checks = [], []
    for place, tensor in tensors:
        shape = tf.shape(tensor, tf.int64)
        flat = tf.reshape(tensor, tf.stack([shape[0], tf.reduce_prod(shape[1:])]))
        head = hashing.digest(f"{place} {tensor.dtype.name}".encode(), size=8)
        sizes = tf.reshape(tf.bitcast(shape[1:], tf.uint8), [-1])
        front = _for_each_row(tf.concat([_bytes_of(head), sizes], 0), shape[0])
        if tensor.dtype == tf.string:
            # TensorFlow doesn't hash a row without strings: each row gets one more.
            flat = tf.concat([flat, tf.fill(tf.stack([shape[0], 1]), "")], 1)
            salted = tf.strings.join([tf.constant(_SALT), flat])
        else:
            flat = _as_bytes(flat)
            salted = tf.concat([_for_each_row(_bytes_of(_SALT), shape[0]), flat], 1)
        keys += [front, _hash(flat)]
        checks += [front, _hash(salted)]
    if not keys:
        raise InputError("There is no array in the data: give x of shape (examples, ...).")
    both = [_hash(tf.concat(parts, 1)) for parts in (keys, checks)]
    return tf.stack([tf.bitcast(one, tf.int64) for one in both], 1)


def signature(x) -> list[list]:
    """Return place, dtype and shape without the batch of each leaf, as JSON holds them.

    Args:
        x: A batch as in `example_keys`, or the element spec of a dataset.
    """
    found = []
    for place, leaf in places(x):
        leaf = leaf if isinstance(leaf, tf.TypeSpec) else dense(leaf, place)
        shape = getattr(leaf, "shape", None)
        sizes = None if shape is None or shape.rank is None else list(shape.as_list()[1:])
        found.append([place, leaf.dtype.name, sizes])
    return found


def show_signature(found: list[list]) -> str:
    """Return a signature as a message shows it."""
    rows = []
    for place, dtype, sizes in found:
        shape = "?" if sizes is None else ", ".join("?" if s is None else str(s) for s in sizes)
        rows.append(f"{f'{place}: ' if place else ''}{dtype} of shape (batch, {shape})")
    return "; ".join(rows).replace(", )", ",)")


def matches(held: list, given: list) -> bool:
    """Tell whether inputs of one signature can be those of another; `None` fits any size."""
    if [one[:2] for one in held] != [one[:2] for one in given]:
        return False
    for (*_, ours), (*_, theirs) in zip(held, given, strict=True):
        if ours is None or theirs is None:
            continue
        if len(ours) != len(theirs):
            return False
        if any(a != b and None not in (a, b) for a, b in zip(ours, theirs, strict=True)):
            return False
    return True


def places(structure, at: str = "") -> list[tuple[str, object]]:
    """Return every leaf with its place, such as `image` or `0/1`; dicts by sorted key."""
    if isinstance(structure, dict):
        inner = [(str(key), structure[key]) for key in sorted(structure, key=str)]
    elif isinstance(structure, (list, tuple)):
        inner = [(str(i), value) for i, value in enumerate(structure)]
    else:
        return [(at, structure)]
    found = []
    for name, value in inner:
        found += places(value, f"{at}/{name}" if at else name)
    return found


def dense(leaf, place: str = "") -> tf.Tensor:
    """Return a leaf as a dense tensor with a batch dimension.

    Raises:
        InputError: for ragged, sparse and other data that is none.
    """
    name = f"The input {place!r}" if place else "The input"
    if isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)) or hasattr(leaf, "tocsr"):
        raise InputError(
            f"{name} is a {type(leaf).__name__}, but tfkd identifies examples by their dense "
            "bytes. Make it dense first, with .to_tensor(), tf.sparse.to_dense() or .toarray()."
        )
    try:
        tensor = leaf if tf.is_tensor(leaf) else tf.convert_to_tensor(np.asarray(leaf))
        tensor = tf.convert_to_tensor(tensor)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} can't be read as an array ({type(leaf).__name__}): {error}"
        ) from error
    if tensor.shape.rank == 0:
        raise InputError(f"{name} is a single value; give an array of shape (examples, ...).")
    return tensor


def _as_bytes(flat):
    """Return (batch, bytes) of (batch, values)."""
    if flat.dtype.name in ("bool", "int4", "uint4"):
        flat = tf.cast(flat, tf.uint8)
    size = flat.dtype.size
    shape = tf.shape(flat, tf.int64)
    return tf.reshape(tf.bitcast(flat, tf.uint8), tf.stack([shape[0], shape[1] * size]))


def _bytes_of(text: bytes):
    return tf.constant(np.frombuffer(text, np.uint8))


def _for_each_row(row, rows):
    return tf.broadcast_to(row, tf.stack([rows, tf.size(row, tf.int64)]))


def _hash(rows):
    """Return farmhash64 of each row, as eight bytes: (batch, 8)."""
    return tf.ensure_shape(tf.raw_ops.Fingerprint(data=rows, method="farmhash64"), (None, 8))
