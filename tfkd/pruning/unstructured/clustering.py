"""`cluster_weights`: a model that trains with a few different values in each kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfkd.errors import InputError, UnsupportedError, raise_all
from tfkd.model import backends
from tfkd.model.layer_kinds import kind_of
from tfkd.pruning.unstructured.wrapping import carried_back, is_frozen, wrapped

if TYPE_CHECKING:
    import tf_keras

    from tfkd._typing import AnyModel, Names

_INITS = {
    "kmeans++": "KMEANS_PLUS_PLUS",
    "density": "DENSITY_BASED",
    "linear": "LINEAR",
    "random": "RANDOM",
}


def cluster_weights(
    model: AnyModel, clusters: int = 16, *, skip: Names = (), init: str = "kmeans++"
) -> tf_keras.Model:
    """Return a copy of a model in which each kernel has a few different values.

    Choose it for a smaller download or flash image where zeros cost too much accuracy: few
    different values compress too. They make nothing faster. tfmot's wrappers train the values and
    the assignment of weights to them (Han et al. 2016, https://arxiv.org/abs/1510.00149). Train the
    result, then `strip_clustering`; and for int8 `quantize_aware(stripped, preserve="clusters")`.
    The int8 file rounds each output channel with a scale of its own, so that each channel, not each
    kernel, then has at most `clusters` values.

    Args:
        model: A built and trained Functional or Sequential model, Keras 3 or tf_keras; it is
            not changed. A Keras 3 model is translated first (see `translate`).
        clusters: Maximum number of different values in each kernel; at least 2, or 3 for a kernel
            with zeros.
        skip: Names or paths (`backbone/conv1`) of layers to leave as they are, or regular
            expressions that match a whole name or path.
        init: Where the values start: `"kmeans++"`, `"density"` (equally many weights each),
            `"linear"` (evenly spaced) or `"random"`.

    Returns:
        A `tf_keras.Model`, uncompiled. `tfkd.pruning.describe` says which layers are not
        clustered, and why.

    Raises:
        InputError: for fewer than two clusters, an unknown init, or a pattern that matches no
            layer.
        UnsupportedError: for a subclassed model, one in which nothing can be clustered, or two
            clusters and a kernel with zeros.

    Example:
        >>> import keras, numpy as np, tfkd
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> clustered = tfkd.cluster_weights(model, 4)
        >>> len(np.unique(tfkd.strip_clustering(clustered, model).get_weights()[0])) <= 4
        True
    """
    problems = []
    if type(clusters) is not int or clusters < 2:
        problems.append(f"clusters must be an integer of at least 2, got {clusters!r}")
    if init not in _INITS:
        problems.append(f"init must be one of {tuple(_INITS)}, got {init!r}")
    raise_all(problems)
    tfmot = backends.tfmot()
    centroids = tfmot.clustering.keras.CentroidInitialization[_INITS[init]]
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_registry import (
        ClusteringRegistry,
    )

    from tfkd.pruning.unstructured import tfmot_layers

    def rule(layer, calls):
        if not ClusteringRegistry.supports(layer) or kind_of(layer) == "MultiHeadAttention":
            return None
        found = ClusteringRegistry.make_clusterable(layer).get_clusterable_weights()
        if not layer.trainable or is_frozen(layer, [weight for _, weight in found]):
            return "it is frozen"
        if not found:
            return f"tfmot leaves the kernels of {type(layer).__name__} as they are"
        least = min(int(np.prod(weight.shape)) for _, weight in found)
        if least <= clusters:
            return f"it has a kernel of {least} weights"
        whole = [int(np.count_nonzero(weight)) for _, weight in found]
        sizes = [int(np.prod(weight.shape)) for _, weight in found]
        pruned = whole != sizes and min(whole) > 0
        if pruned and min(whole) < clusters:
            return f"it has a kernel of {min(whole)} weights that are not zero"
        if pruned and clusters == 2:
            raise UnsupportedError("has zeros, which take one cluster: give at least 3 clusters")
        recurrent = hasattr(layer, "cell") or kind_of(layer) == "Bidirectional"
        wrapper = tfmot_layers.ClusterWeightsRNN if recurrent else tfmot_layers.ClusterWeights
        return wrapper(layer, clusters, centroids, preserve_sparsity=pruned, name=layer.name)

    return wrapped(model, skip, rule)


def strip_clustering(clustered: tf_keras.Model, model: AnyModel) -> AnyModel:
    """Return a copy of a model with the few values that `cluster_weights` led to.

    Args:
        clustered: A model made by `cluster_weights(model)`, trained since.
        model: The model it was made from, Keras 3 or tf_keras; it is not changed.

    Returns:
        A model of the same class, structure and Keras as `model`.

    Raises:
        InputError: if `clustered` was not made from such a model.
    """
    if not any(hasattr(layer, "cluster_centroids") for layer in clustered.layers):
        raise InputError(f"The model {clustered.name!r} does not come from cluster_weights.")
    return carried_back(clustered, model, unwrapped)


def unwrapped(layer):
    """Return a layer like the one in a wrapper, with clustered weights; others as they are."""
    if not hasattr(layer, "cluster_centroids"):
        return layer
    layer.update_clustered_weights_associations()  # as every forward pass does
    values = layer.layer.get_weights()
    # tfmot has replaced the clustered variables by tensors.
    for position, name in sorted(layer.position_original_weights.items()):
        values.insert(position, np.asarray(layer.get_weight_from_layer(name)))
    plain = type(layer.layer).from_config(layer.layer.get_config())
    plain.build(layer.build_input_shape)
    plain.set_weights(values)
    return plain
