"""Helpers of the translation tests: weights that show mistakes, and comparisons."""

import keras
import numpy as np
import pytest

CURRENT_KERAS = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 12)
needs_current_keras = pytest.mark.skipif(
    not CURRENT_KERAS, reason="uses or compares what came to Keras after 3.8"
)


def shake(model, rng):
    """Give every weight a value that a wrong order or a lost statistic would show."""
    for weight in model.weights:
        if "float" in str(getattr(weight.dtype, "name", weight.dtype)):
            low = 0.5 if "variance" in weight.name or "gamma" in weight.name else -0.5
            weight.assign(rng.uniform(low, low + 1.0, weight.shape))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def outputs(model, x):
    return [np.asarray(y, "float64") for y in keras.tree.flatten(model(x, training=False))]


def assert_same(model, translated, x, tolerance=1e-6):
    """Check structure and values; the tolerance is in units of the largest output."""
    want, got = model(x, training=False), translated(x, training=False)
    assert type(want) is type(got)
    for a, b in zip(outputs(model, x), outputs(translated, x), strict=True):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * max(1.0, np.abs(a).max()))


def settings(layer):
    """A layer's class and configuration, but for what tf_keras has no place for.

    Keras 3.8 writes some settings otherwise before and after building: the class alone.
    """
    return type(layer).__name__, _essence(layer.get_config()) if CURRENT_KERAS else None


def _essence(config):
    if isinstance(config, dict):
        if config.get("class_name") == "__numpy__":
            return config["config"]["value"]
        kept = {k: v for k, v in config.items() if not k.endswith("_initializer") and k != "seed"}
        return {key: _essence(value) for key, value in kept.items()}
    return [_essence(item) for item in config] if isinstance(config, (list, tuple)) else config


def kinds(model):
    """The classes of a model's layers, inputs left out."""
    return [type(layer).__name__ for layer in model.layers if "Input" not in type(layer).__name__]
