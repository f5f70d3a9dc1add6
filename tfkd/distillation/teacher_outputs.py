"""A teacher's answers for a batch, and how a cache passes them on beside the inputs.

The form is one flat dict, because `tf.data` takes dicts apart and sorts their keys. So each key
describes its own value:

    output0                   the first output, where it has no name
    0:species                 the first output, called "species"
    0:species:top             its k largest log-probabilities, (batch, ..., k)
    0:species:indices         their classes, (batch, ..., k)
    0:species:rest            log of the mass of all others, (batch, ...)
    feature:conv2             the output of the teacher's layer "conv2"

Data that a cache was attached to has two more fields in the keys of outputs: the task, and the
fingerprint of the teacher, both empty where unknown.

    0:species::binary:9f3c    the first output, logits of yes or no of the teacher 9f3c

A colon or per cent sign inside a name is written as %3A or %25.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

_FEATURE, _OUTPUT = "feature", "output"
_PARTS = ("top", "indices", "rest")


class TopK(NamedTuple):
    """The k largest log-probabilities of a categorical output.

    Attributes:
        top: Log-probabilities, float, (batch, ..., k).
        indices: Their classes, integers, (batch, ..., k).
        rest: Log of the mass of the other classes, float, (batch, ...).
    """

    top: Any
    indices: Any
    rest: Any


@dataclasses.dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's answers for a batch.

    Attributes:
        names: The outputs' names in declared order; `output0`, `output1` ... where they
            have none.
        values: Per output logits or values of shape (batch, ...), or `TopK`; `None` for an
            output that wasn't asked, which is left out of what is encoded.
        features: Layer name → tensor of shape (batch, ...).
    """

    names: list[str]
    values: list[Any]
    features: dict[str, Any] = dataclasses.field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        """Return the flat dict that goes through `tf.data`."""
        answers = {}
        for i, (name, value) in enumerate(zip(self.names, self.values, strict=True)):
            if isinstance(value, TopK):
                parts = zip(_PARTS, value, strict=True)
                answers.update({key_of(i, name, part): one for part, one in parts})
            elif value is not None:
                answers[key_of(i, name)] = value
        return answers | {f"{_FEATURE}:{_quoted(n)}": one for n, one in self.features.items()}

    @classmethod
    def read(cls, answers: Mapping[str, Any]) -> TeacherOutputs:
        """Return the answers that `encode` wrote, outputs in declared order."""
        heads: dict[int, tuple[str, dict]] = {}
        features = {}
        for key, value in answers.items():
            index, name, part = parse(key)
            if index is None:
                features[name] = value
            else:
                heads.setdefault(index, (name, {}))[1][part] = value
        names, values = [], []
        for index in sorted(heads):
            name, parts = heads[index]
            names.append(name)
            values.append(parts[""] if "" in parts else TopK(*(parts[one] for one in _PARTS)))
        return cls(names, values, features)


def unnamed(count: int) -> list[str]:
    """Return names for outputs that have none."""
    return [f"{_OUTPUT}{i}" for i in range(count)]


def key_of(index: int, name: str, part: str = "") -> str:
    """Return the key of an output, or of a part of it: `"top"`, `"indices"` or `"rest"`."""
    head = name if name == f"{_OUTPUT}{index}" else f"{index}:{_quoted(name)}"
    return f"{head}:{part}" if part else head


def parse(key: str) -> tuple[int | None, str, str]:
    """Return index, name and part of an output's key; the index of a feature is `None`."""
    first, *rest = key.split(":")
    if first == _FEATURE:
        return None, _unquoted(rest[0]), ""
    if first.startswith(_OUTPUT):
        return int(first.removeprefix(_OUTPUT)), first, rest[0] if rest else ""
    return int(first), _unquoted(rest[0]), rest[1] if len(rest) > 1 else ""


def names_of(answers: Mapping[str, Any]) -> list[str]:
    """Return the names of the outputs in encoded answers, in declared order."""
    return TeacherOutputs.read(answers).names


def decode(answers: Mapping[str, Any], classes: Sequence[int | None]):
    """Return the teacher's answers.

    Args:
        answers: What `TeacherOutputs.encode` gave.
        classes: Number of classes per output; read where only the largest k were kept.

    Returns:
        A list of float32 tensors in declared order, logits or values, each of shape
        (batch, ...), and a dict from layer name to float32 feature.
    """
    given = TeacherOutputs.read(answers)
    values = [
        spread(value, count) if isinstance(value, TopK) else tf.cast(value, tf.float32)
        for value, count in zip(given.values, classes, strict=True)
    ]
    return values, {name: tf.cast(one, tf.float32) for name, one in given.features.items()}


def keep_top(logits, k: int) -> TopK:
    """Keep the k largest log-probabilities of (batch, ..., classes) and the mass of the rest."""
    log_p = tf.nn.log_softmax(logits)
    top, indices = tf.math.top_k(log_p, k)
    kind = tf.uint16 if logits.shape[-1] < 2**16 else tf.int32
    rest = tf.math.log1p(-tf.minimum(tf.reduce_sum(tf.exp(top), -1), 1.0 - 1e-7))
    return TopK(top, tf.cast(indices, kind), rest)


def spread(kept: TopK, classes: int):
    """Return log-probabilities (batch, ..., classes): the k kept, the rest's mass evenly.

    The classes of an example are different ones, as `keep_top` gives them.
    """
    k = kept.indices.shape[-1]
    top = tf.reshape(tf.cast(kept.top, tf.float32), [-1, k])
    indices = tf.reshape(tf.cast(kept.indices, tf.int32), [-1, k])
    each = tf.cast(kept.rest, tf.float32) - np.log(classes - k)
    # The result of one operation, so that the scatter writes into it without a copy.
    filled = tf.tile(tf.reshape(each, [-1, 1]), [1, classes])
    rows = tf.broadcast_to(tf.range(tf.shape(top)[0])[:, None], tf.shape(top))
    filled = tf.tensor_scatter_nd_update(filled, tf.stack([rows, indices], -1), top)
    result = tf.reshape(filled, tf.concat([tf.shape(each), [classes]], 0))
    result.set_shape((*each.shape, classes))
    return result


def _quoted(name: str) -> str:
    return name.replace("%", "%25").replace(":", "%3A")


def _unquoted(name: str) -> str:
    return name.replace("%3A", ":").replace("%25", "%")
