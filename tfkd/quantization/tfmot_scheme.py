"""tfkd's 8-bit scheme in the form that tfmot's own functions take.

    annotated = tfmot.quantization.keras.quantize_annotate_model(tf_keras_model)
    qat = tfmot.quantization.keras.quantize_apply(annotated, scheme=tfkd.quantization.Scheme())

`quantize_aware` does the same without the annotation, and takes more models: tfmot clones
the model four times on this way and supports neither nested models nor Keras 3.
"""

from __future__ import annotations

from typing import Any

from tfkd.model import backends, graph
from tfkd.quantization import quantizers, registry
from tfkd.quantization.rewriting import Rewriter

_tfmot = backends.tfmot()

from tensorflow_model_optimization.python.core.quantization.keras import (  # noqa: E402
    quantize_layout_transform,
    quantize_registry,
)


class Scheme(_tfmot.quantization.keras.QuantizeScheme):
    """tfkd's table as a tfmot `QuantizeScheme`.

    Layers that are not annotated stay in floating point, and those annotated with a
    `QuantizeConfig` of their own keep it.
    """

    def get_layout_transformer(self) -> Any:
        """Return the object that rewrites a model and defines how its layers are rounded."""
        return _Layout()

    def get_quantize_registry(self) -> Any:
        """Return the registry with the classes of the table."""
        return _Registry()


class _Layout(quantize_layout_transform.QuantizeLayoutTransform):
    def apply(self, model, layer_quantize_map):
        """Rewrite `model` and wrap its layers, so that tfmot has none left to wrap."""
        source = graph.walk(model)
        names = [layer.name for _, layer in source.layers]
        configs = {
            name: held["quantize_config"]
            for name, held in layer_quantize_map.items()
            if held.get("quantize_config") is not None
        }
        rewriter = Rewriter(
            source,
            registry.rule_of,
            skip=[name for name in names if name not in layer_quantize_map],
            configs=configs,
            wrap=quantizers.QuantizeWrapperV2,
        )
        return rewriter.run(), {}  # already wrapped, which tfmot accepts


class _Registry(quantize_registry.QuantizeRegistry):
    def supports(self, layer):
        """Tell whether the table contains the layer's class."""
        return registry.rule_of(layer) is not None

    def get_quantize_config(self, layer):
        """Return a configuration without effect: the layout transform does everything."""
        return quantizers.RoundedWeights([])
