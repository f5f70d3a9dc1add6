"""Where the heavy packages are imported: late, and without side effects on the user.

Importing `tensorflow_model_optimization` sets `TF_USE_LEGACY_KERAS=1` and, where
`tf.keras` was not touched before, makes it tf_keras for the whole process. `tfmot()`
below lets `tf.keras` resolve under the user's own environment first and puts the
environment back afterwards.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

from tfkd.errors import InputError, MissingDependencyError, argument
from tfkd.model.layer_kinds import QUANTIZING, WITH_VOCABULARY, kind_of

_LEGACY_SWITCH = "TF_USE_LEGACY_KERAS"
_lock = threading.Lock()


def keras():
    """Return the `keras` package (Keras 3), checked to run on TensorFlow.

    Raises:
        MissingDependencyError: if Keras 2 is installed under that name or another
            backend than TensorFlow is configured.
    """
    import keras

    if not keras.__version__.startswith("3."):
        raise MissingDependencyError(
            f"tfkd needs Keras 3, but `import keras` gives {keras.__version__}; "
            "install it with `pip install 'keras>=3.12.1,<4'`."
        )
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise MissingDependencyError(
            f"tfkd needs Keras on the TensorFlow backend, but the backend is {backend!r}; "
            "set KERAS_BACKEND=tensorflow before Keras is imported."
        )
    return keras


def tf_keras():
    """Return the `tf_keras` package (Keras 2, which tfmot works on).

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import tf_keras
    except ImportError as error:
        raise MissingDependencyError(
            f"tf_keras could not be imported ({error}); install the release that matches "
            "TensorFlow's, for example `pip install 'tf_keras==2.21.*'`."
        ) from error
    return tf_keras


def layer_classes() -> tuple[type, ...]:
    """Return the class `Layer` of each Keras that is imported."""
    imported = (sys.modules.get(name) for name in ("keras", "tf_keras"))
    return tuple(package.layers.Layer for package in imported if package is not None)


def tfmot():
    """Return `tensorflow_model_optimization`, leaving the process as it was.

    Neither `TF_USE_LEGACY_KERAS` nor the meaning of `tf.keras` changes.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    if "tensorflow_model_optimization" in sys.modules:
        return sys.modules["tensorflow_model_optimization"]
    tf_keras()
    with _lock, _environment_kept(_LEGACY_SWITCH):
        import tensorflow as tf

        # `tf.keras` chooses its Keras at the first attribute access, by the environment
        # variables of that moment: access it before importing tfmot.
        tf.keras.Model  # noqa: B018
        try:
            import tensorflow_model_optimization
        except ImportError as error:
            raise MissingDependencyError(
                f"tensorflow-model-optimization could not be imported ({error}); install it "
                "with `pip install tensorflow-model-optimization`."
            ) from error
    return tensorflow_model_optimization


@contextlib.contextmanager
def _environment_kept(name: str):
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def check_flavour(student: str, **objects) -> None:
    """Raise if an optimizer or a loss is an object of the Keras that the student is not.

    Args:
        student: `"keras"` or `"tf_keras"`.
        **objects: What to look at, by the argument's name; names, functions and
            structures of them pass.

    Raises:
        InputError: naming the argument and the package to take it from.
    """
    other = _OTHER[student]
    for name, value in objects.items():
        for one in _flattened(value):
            if _belongs_to(one, other):
                raise InputError(
                    f"{argument(name)} is a {other} object ({type(one).__name__}), but the "
                    f"student is a {student} model; pass its name, or {student}'s own class."
                )


def check_callbacks(student: str, callbacks) -> None:
    """Raise if a callback is of the Keras that the student is not.

    Args:
        student: `"keras"` or `"tf_keras"`.
        callbacks: As `fit` takes them.

    Raises:
        InputError: naming the callback and the package to take it from.
    """
    other = _OTHER[student]
    for one in _flattened(callbacks):
        # The callbacks of tfkd work with both.
        if _belongs_to(one, other) and not type(one).__module__.startswith("tfkd."):
            raise InputError(
                f"The callback {type(one).__name__} is from {other}, but the student is a "
                f"{student} model; use {student}.callbacks.{type(one).__name__} (a callback of "
                f"your own derives from {student}.callbacks.Callback)."
            )


def has_callback(callbacks, name: str) -> bool:
    """Tell whether a callback of that class, or derived from it, is among `fit`'s."""
    return any(
        name in {kind.__name__ for kind in type(one).__mro__} for one in _flattened(callbacks)
    )


_OTHER = {"keras": "tf_keras", "tf_keras": "keras"}


def _belongs_to(thing, package: str) -> bool:
    """Tell whether an object's class derives from a class of a Keras."""
    kinds = type(thing).__mro__
    return any(kind.__module__.split(".")[0] == package for kind in kinds)


def _flattened(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _flattened(one)
    elif value is not None:
        yield value


def is_quantize_aware(model) -> bool:
    """Tell whether a model has tfmot's layers: made by `quantize_aware`, or by tfmot."""
    kinds = {kind_of(layer) for layer in getattr(model, "layers", ())}
    return bool(kinds & {*QUANTIZING, "QuantizeLayer"})


def package(flavour: str):
    """Return the Keras of a flavour: the module `keras` or `tf_keras`."""
    return {"keras": keras, "tf_keras": tf_keras}[flavour]()


def package_of(model):
    """Return the Keras that a model or layer belongs to: the module `keras` or `tf_keras`.

    Raises:
        InputError: if it belongs to neither.
    """
    found = flavour(model)
    if found is None:
        raise InputError(f"Expected a Keras 3 or tf_keras model, got {type(model).__name__}.")
    return package(found)


def flavour(model) -> str | None:
    """Say which Keras a model or layer belongs to.

    Neither package is imported to answer: an object can only belong to one that is.

    Returns:
        `"keras"` (Keras 3), `"tf_keras"`, or `None` for anything else.
    """
    for name in ("keras", "tf_keras"):
        package = sys.modules.get(name)
        if package is not None and isinstance(model, package.layers.Layer):
            return name
    return None


def variables_of(layer) -> list:
    """Return the weights of a layer, model or operation, except those of lookups.

    In tf_keras the vocabulary that `adapt` learned is a weight of a lookup, which has no shape.
    """
    inside = getattr(layer, "_flatten_layers", list)()
    lookups = [one for one in inside if kind_of(one) in WITH_VOCABULARY]
    theirs = {id(weight) for lookup in lookups for weight in lookup.weights}
    return [weight for weight in getattr(layer, "weights", ()) if id(weight) not in theirs]


def weights_in_order(layer) -> list:
    """Return the weights of a layer in an order that what is frozen in it does not change.

    Keras 3's own is such; tf_keras puts the trainable weights first.
    """
    if flavour(layer) == "keras":
        return layer.weights
    every = [one._trainable_weights + one._non_trainable_weights for one in layer._flatten_layers()]
    return [variable for some in every for variable in some]
