"""tfmot's wrappers of pruned and clustered layers, with additions.

Importing this module imports tfmot: do it inside functions only.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfkd.model import backends
from tfkd.model.layer_kinds import kind_of
from tfkd.pruning.unstructured.wrapping import called

tf_keras = backends.tf_keras()
tfmot = backends.tfmot()

from tensorflow_model_optimization.python.core.clustering.keras import (  # noqa: E402
    cluster_wrapper,
)
from tensorflow_model_optimization.python.core.keras import utils  # noqa: E402
from tensorflow_model_optimization.python.core.sparsity.keras import (  # noqa: E402
    prune_registry,
    pruning_wrapper,
)

_register = tf_keras.utils.register_keras_serializable(package="tfkd")


def kernels(layer) -> list | None:
    """Return the weights of a tf_keras layer that tfmot prunes, or `None` without a rule."""
    if hasattr(layer, "get_prunable_weights"):  # a user's layer, made for tfmot
        return layer.get_prunable_weights()
    return _known_kernels(layer)


def _known_kernels(layer) -> list | None:
    registry = prune_registry.PruneRegistry
    if registry.supports(layer):
        return registry.make_prunable(layer).get_prunable_weights()
    inner = {
        "TimeDistributed": ("layer",),
        "Bidirectional": ("forward_layer", "backward_layer"),
    }.get(kind_of(layer), ())
    found = [kernels(getattr(layer, name)) for name in inner]
    return None if not found or None in found else [weight for one in found for weight in one]


@_register
class PruneLowMagnitude(pruning_wrapper.PruneLowMagnitude):
    """A layer whose kernels are masked, which counts its own steps.

    tfmot's raises in `fit` unless a callback has set its count to 0, forgets an m:n pattern
    when it is saved, has a name of its own instead of the layer's, and calls its layer so that
    activity regularizers are lost. tfmot's own callback may be used too.

    Args:
        layer: The layer.
        calls: How often it is called in a step; `pruning_step` counts calls.
        **kwargs: As for tfmot's.
    """

    def __init__(self, layer, calls=1, **kwargs):
        if not hasattr(layer, "get_prunable_weights"):
            layer.get_prunable_weights = functools.partial(_known_kernels, layer)
        super().__init__(layer, **kwargs)
        self._name = layer.name
        self.calls = calls

    def build(self, input_shape):
        """Make the masks, and begin to count."""
        super().build(input_shape)
        self.pruning_step.assign(0)

    def add_weight(self, name=None, *args, **kwargs):
        """Make a variable under a name that no other one has."""
        # .h5 files need distinct names for the masks of a recurrent layer's two kernels.
        same = sum(f"/{name}" in weight.name for weight in self._non_trainable_weights)
        return super().add_weight(f"{name}_{same}" if same else name, *args, **kwargs)

    def call(self, inputs, *args, training=None, **kwargs):
        """Mask the kernels, by new masks where it is time for them, and call the layer."""
        if training is None:
            training = tf_keras.backend.learning_phase()

        def renew():
            self.pruning_step.assign_add(1)
            return self.pruning_obj.conditional_mask_update()

        if self.trainable:  # layers frozen meanwhile keep their zeros
            utils.smart_cond(training, renew, lambda: None)
        self.pruning_obj.weight_mask_op()
        return called(self.layer, inputs, args, kwargs)

    def compute_mask(self, inputs, mask=None):
        """Return the mask that the layer passes on."""
        return self.layer.compute_mask(inputs, mask)

    def get_config(self):
        """Return the configuration for a saved file."""
        own = {"calls": self.calls, "sparsity_m_by_n": self.sparsity_m_by_n}
        return {**super().get_config(), **own}


class _Clustered:
    """A layer whose kernels have few distinct values and keep their zeros.

    tfmot's own wrapper does not save the zeros in a file, trains frozen layers, and does not pass
    `training` on.
    """

    def build(self, input_shape):
        super().build(input_shape)
        for name in self.sparsity_masks:
            weight = self.original_clusterable_weights[name]
            mask = self.add_weight(f"sparsity_{name}", weight.shape, trainable=False)
            mask.assign(np.asarray(weight) != 0)
            self.sparsity_masks[name] = mask

    def update_clustered_weights_associations(self):
        for name in self.sparsity_masks:
            # After loading a file, the values differ from those of `build`.
            self.zero_idx[name] = tf.argmin(tf.abs(self.cluster_centroids[name]), axis=-1)
        super().update_clustered_weights_associations()

    @property
    def trainable_weights(self):
        return super().trainable_weights if self.trainable else []

    @property
    def non_trainable_weights(self):
        frozen = [] if self.trainable else self._trainable_weights
        return super().non_trainable_weights + frozen

    def call(self, inputs, *args, training=None, **kwargs):
        self.update_clustered_weights_associations()
        return called(self.layer, inputs, args, kwargs)

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)


@_register
class ClusterWeights(_Clustered, cluster_wrapper.ClusterWeights):
    """A layer with clustered kernels."""


@_register
class ClusterWeightsRNN(_Clustered, cluster_wrapper.ClusterWeightsRNN):
    """A recurrent layer with clustered kernels."""
