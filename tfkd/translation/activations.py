"""Activation functions by name: the same, renamed, or lent from the other Keras.

Keras 3 has more of them than tf_keras, and `hard_sigmoid` is not the same function in
both: relu6(x + 3) / 6 in Keras 3, clip(0.2 x + 0.5, 0, 1) in tf_keras. A function that the target
lacks is registered with it under the package `tfkd`.
"""

from __future__ import annotations

import functools

from tfkd.model import backends

# Keras 3's name → tf_keras's name of the same function.
_RENAMED = {"silu": "swish"}

# Names of another function in the target → the target's name of our function.
_LENT = {
    "tf_keras": {"hard_sigmoid": "keras3_hard_sigmoid"},
    "keras": {"hard_sigmoid": "keras2_hard_sigmoid"},
}


def counterpart(name: str, to: str):
    """Return the counterpart of an activation in the other Keras.

    Args:
        name: The built-in activation's name in the Keras it comes from, or the name under
            which it was lent to that Keras.
        to: `"keras"` or `"tf_keras"`.

    Returns:
        A name that the target knows, or a function registered with it.
    """
    package = backends.package(to)
    source = {"keras": "tf_keras", "tf_keras": "keras"}[to]
    for original, lent in _LENT[source].items():
        if name == lent:
            return original
    renamed = _RENAMED if to == "tf_keras" else {new: old for old, new in _RENAMED.items()}
    name = renamed.get(name, name)
    if name not in _LENT[to] and hasattr(package.activations, name):
        return name
    return _stand_in(name, to)


def is_lent(name: str) -> bool:
    """Tell whether a function of this name may be one of ours in tf_keras or Keras 3."""
    lent = {new for names in _LENT.values() for new in names.values()}
    return name in lent or name in _missing_in_tf_keras()


def custom_objects() -> dict[str, object]:
    """Return the functions that translated models may use, and register them.

    Choose it to load a saved model that was translated, in a process that has translated
    nothing yet: `tf_keras.models.load_model(path, custom_objects=custom_objects())`.

    Returns:
        Name → function.

    Example:
        >>> "hard_silu" in custom_objects()
        True
    """
    lent = [_stand_in(name, "tf_keras") for name in _missing_in_tf_keras()]
    lent += [_stand_in("hard_sigmoid", to) for to in _LENT]
    return {function.__name__: function for function in lent}


@functools.cache
def _missing_in_tf_keras() -> frozenset[str]:
    names = vars(backends.keras().activations)
    functions = (n for n, f in names.items() if callable(f) and f.__name__ == n)
    known = {*vars(backends.tf_keras().activations), *_RENAMED, "get"}
    return frozenset(functions) - known


@functools.cache
def _stand_in(name: str, to: str):
    """Make the target's substitute for a function that it lacks."""
    if to == "tf_keras":
        original = getattr(backends.keras().activations, name)
        register = backends.tf_keras().saving.register_keras_serializable

        # Keras 3's functions work on TensorFlow's tensors, in a model of either Keras.
        def function(x):
            return original(x)

    else:
        ops = backends.keras().ops
        register = backends.keras().saving.register_keras_serializable

        def function(x):
            return ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    function.__name__ = function.__qualname__ = _LENT[to].get(name, name)
    return register(package="tfkd", name=function.__name__)(function)
