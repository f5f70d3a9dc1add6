"""Which class of one Keras corresponds to which class of the other, if their names differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tfkd._renamed import with_old_keywords
from tfkd.errors import InputError, argument
from tfkd.model import backends


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two classes that correspond to each other.

    Attributes:
        classes: Flavour (`"keras"`, `"tf_keras"`) → class.
        makers: Flavour → function from a layer of the other flavour to an unbuilt layer of
            this one, or `None` if the class is made from the same configuration.
    """

    classes: dict[str, type]
    makers: dict[str, Callable | None]


_pairs: dict[type, Pair] = {}


@with_old_keywords(overwrite="replace")
def register(
    keras_class: type,
    tf_keras_class: type,
    to_tf_keras: Callable[[Any], Any] | None = None,
    to_keras: Callable[[Any], Any] | None = None,
    *,
    replace: bool = False,
) -> None:
    """Tell `translate` how to translate a custom layer.

    Choose it when a model uses a layer class of your own: write the class for the other
    Keras too and register the two. Weights are copied in the order of `get_weights()`, so
    both classes must create them in the same order and shapes.

    Args:
        keras_class: A subclass of `keras.layers.Layer` (Keras 3).
        tf_keras_class: The subclass of `tf_keras.layers.Layer` that computes the same.
        to_tf_keras: Function from a layer of `keras_class` to a new, unbuilt layer of
            `tf_keras_class`. Defaults to `tf_keras_class.from_config(layer.get_config())`.
        to_keras: The same the other way.
        replace: Whether to replace an earlier registration of either class. Defaults to `False`.

    Raises:
        InputError: if a class is not a layer of its Keras, or is registered already and `replace`
            is false.

    Example:
        >>> import keras, tf_keras
        >>> from tfkd.translation import register, translate
        >>> class Double(keras.layers.Layer):
        ...     def call(self, x):
        ...         return x + x
        >>> class OldDouble(tf_keras.layers.Layer):
        ...     def call(self, x):
        ...         return x + x
        >>> register(Double, OldDouble)
        >>> model = keras.Sequential([keras.Input((4,)), Double()])
        >>> type(translate(model).layers[-1]).__name__
        'OldDouble'
    """
    classes = {"keras": keras_class, "tf_keras": tf_keras_class}
    for flavour, given in classes.items():
        base = backends.package(flavour).layers.Layer
        if not isinstance(given, type) or not issubclass(given, base):
            raise InputError(
                f"{flavour}_class must be a subclass of {flavour}.layers.Layer, got {given!r}."
            )
    taken = [given.__name__ for given in classes.values() if given in _pairs]
    if taken and not replace:
        raise InputError(
            f"{' and '.join(taken)} is registered already; pass {argument('replace', True)} to "
            "replace it."
        )
    for given in classes.values():
        for old in _pairs[given].classes.values() if given in _pairs else ():
            _pairs.pop(old, None)
    pair = Pair(classes, {"keras": to_keras, "tf_keras": to_tf_keras})
    _pairs.update(dict.fromkeys(classes.values(), pair))


def pair_of(layer_class: type) -> tuple[type, ...]:
    """Return a class and its counterpart in the other Keras, if that is known."""
    pair = _pairs.get(layer_class)
    return (layer_class,) if pair is None else tuple(pair.classes.values())


def registered(layer) -> Pair | None:
    """Return the pair that the layer's own class is registered in."""
    return _pairs.get(type(layer))
