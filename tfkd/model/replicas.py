"""Values over all replicas of a strategy: each replica computes with its part of a batch.

A sum of gradients over replicas makes up for that where examples count one by one. If a value
depends on several examples (a range, a correlation, a pull), the parts are first joined.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Types that TensorFlow's collectives accept; other values are sent as int32.
_TRAVELS = (tf.float16, tf.float32, tf.float64, tf.bfloat16, tf.int32, tf.int64)


def whole_batch(value: Any) -> Any:
    """Return a replica's examples among those of all replicas, in the replicas' order.

    Gradients reach only the replica's own examples, multiplied by the number of replicas: a loss of
    the whole batch, divided by their number like every other, has the right gradient once the
    replicas' are summed. (That of `ReplicaContext.all_gather` needs a second collective, and parts
    of equal size.)

    Args:
        value: Tensor (examples, ...), or `None`. Replicas may differ in their examples alone.

    Returns:
        Tensor (examples of all replicas, ...) of the same dtype; `value` itself if there is one
        replica.
    """
    replica = tf.distribute.get_replica_context()
    if value is None or _is_one(replica):
        return value
    value = tf.convert_to_tensor(value)
    sent = value if value.dtype in _TRAVELS else tf.cast(value, tf.int32)
    parts = tf.cast(replica.all_gather(tf.stop_gradient(sent), axis=0), value.dtype)
    counts = replica.all_gather(tf.shape(value)[:1], axis=0)
    before = tf.reduce_sum(counts[: replica.replica_id_in_sync_group])
    own = value
    if value.dtype.is_floating:
        more = tf.cast(replica.num_replicas_in_sync - 1, value.dtype)
        own += more * (value - tf.stop_gradient(value))
    whole = tf.concat([parts[:before], own, parts[before + tf.shape(value)[0] :]], axis=0)
    return tf.ensure_shape(whole, [None, *value.shape[1:]])


def least(values: Any) -> Any:
    """Return the least of each value over all replicas, without a gradient.

    Args:
        values: Float tensor of any shape, the same in each replica.
    """
    values, replica = tf.stop_gradient(values), tf.distribute.get_replica_context()
    if _is_one(replica):
        return values
    # TensorFlow reduces over replicas only by sum and mean.
    return tf.reduce_min(replica.all_gather(values[tf.newaxis], axis=0), axis=0)


def _is_one(replica) -> bool:
    """Tell whether no other replica computes a part: there is one, or the call is outside them."""
    return replica is None or replica.num_replicas_in_sync == 1
