"""One forward pass that yields a model's outputs and what named layers gave on the way.

No sub-model is built and no layer is called symbolically, so the caller's graph stays as
it was: the calls of `graph.walk` are simply made on the batch, in order.
"""

from __future__ import annotations

import difflib

from tfkd import graph
from tfkd.errors import InputError


class Tap:
    """A model together with the layers whose outputs are wanted.

    Args:
        model: A Keras 3 or tf_keras model; it needs a graph only where layers are named.
        layers: Names or paths (`backbone/conv4`) of layers, of nested models too.
        role: What the model is, for error messages.

    Raises:
        InputError: for an unknown layer (naming the nearest ones), or one that is called
            more than once or has several outputs.
        UnsupportedError: if layers are wanted of a model without a graph.
    """

    def __init__(self, model, layers=(), role="model"):
        self.model, self.names = model, tuple(dict.fromkeys(layers))
        self.graph = graph.walk(model) if self.names else None
        self._wanted = {name: self._find(name, role) for name in self.names}

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of each wanted feature, batch included."""
        return {name: tensor.shape for name, tensor in self._wanted.items()}

    def __call__(self, x, training: bool):
        """Run the model once.

        Args:
            x: A batch in the model's own input structure.
            training: Passed to every layer that takes it.

        Returns:
            The outputs, and a dict from layer name to feature.
        """
        if self.graph is None:
            return self.model(x, training=training), {}
        features = {}
        wanted = {tensor.index: name for name, tensor in self._wanted.items()}

        def apply(call, args, kwargs):
            result = graph.call_layer(call, args, kwargs, training)
            for tensor, value in zip(call.outputs, graph.leaves(result), strict=True):
                if tensor.index in wanted:
                    features[wanted[tensor.index]] = value
            return result

        outputs = graph.replay(self.graph, self._inputs(x), apply)
        return outputs, features

    def _inputs(self, x):
        """Return the batch as a flat list in the graph's order; dicts by input name."""
        tensors = self.graph.input_list
        if isinstance(x, dict):
            return [x[tensor.name] for tensor in tensors]
        flat = list(graph.leaves(x))
        if len(flat) != len(tensors):
            raise InputError(
                f"The model {self.model.name!r} takes {len(tensors)} inputs, got {len(flat)}."
            )
        return flat

    def _find(self, name, role):
        calls = [c for c in self.graph.calls if name in (c.name, c.layer.name)]
        exact = [c for c in calls if c.name == name]
        calls = exact or calls
        if not calls:
            known = [call.name for call in self.graph.calls]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
            raise InputError(
                f"The {role} {self.model.name!r} has no layer {name!r}; the nearest are "
                f"{', '.join(map(repr, near))}."
            )
        if len(calls) > 1 or len(calls[0].outputs) > 1:
            paths = ", ".join(repr(call.name) for call in calls)
            raise InputError(
                f"The {role}'s layer {name!r} has several outputs or is called several times "
                f"({paths}); name one that is called once."
            )
        return calls[0].outputs[0]
