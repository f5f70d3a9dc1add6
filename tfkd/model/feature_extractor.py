"""One forward pass that returns a model's outputs and the outputs of named layers.

No sub-model is built and no layer is called symbolically, so the caller's graph does not change. A
model that runs its graph is replayed, call by call. A model with a `call` of its own is called, and
the outputs of its named layers are recorded.
"""

from __future__ import annotations

import contextlib

from tfkd.errors import InputError, UnsupportedError
from tfkd.model import binding, graph

_ARRANGING = ("Reshape", "Flatten", "Permute", "Identity")


class Tap:
    """A model, and the layers whose outputs to return.

    Args:
        model: A Keras 3 or tf_keras model; it needs a graph only if layers are named.
        layers: Names or paths (`backbone/conv4`) of layers, of nested models too.
        role: What the model is, for error messages.

    Attributes:
        inputs: The model's inputs, or `None` for a model without a graph, which takes a
            batch as it is.

    Raises:
        InputError: for an unknown layer (naming the nearest ones), or one that is called
            more than once or has several outputs.
        UnsupportedError: if layers are wanted of a model without a graph.
    """

    def __init__(self, model, layers=(), role="model"):
        self.model, self.names = model, tuple(dict.fromkeys(layers))
        self.inputs = None
        self.graph = self._walked()
        if self.graph is not None and not graph.overrides_call(model):
            self.inputs = binding.inputs_of(self.graph, role)
        self._wanted = {name: self.graph.call_named(name, role) for name in self.names}
        self._arranging = self._arranging_calls()

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of each wanted feature, batch included."""
        return {name: call.outputs[0].shape for name, call in self._wanted.items()}

    def __call__(self, x, training: bool):
        """Run the model once.

        Args:
            x: A batch: a dict by the names of the model's inputs (further keys are
                ignored), a list in their order, or a tensor.
            training: Passed to every layer that accepts it.

        Returns:
            The outputs, and a dict from layer name to feature.

        Raises:
            InputError: for inputs that can't be bound, or a layer that the model's own
                `call` never runs or runs more than once.
        """
        if self.inputs is not None:
            return self.run(self.inputs.bind(x, "x", extra=True), training)
        if not self.names:
            return self.model(x, training=training), {}
        with self._listening() as heard:
            outputs = self.model(x, training=training)
        for name, values in heard.items():
            if len(values) != 1:
                raise InputError(
                    f"The layer {name!r} runs {len(values)} times in {self.model.name!r}'s own "
                    "`call`; name one that runs once."
                )
        return outputs, {name: values[0] for name, values in heard.items()}

    def run(self, flat: list, training: bool):
        """Run the model once on its inputs in flat order; returns the same as a call."""
        if not self.names and not self._arranging:
            return self.model(graph.as_structured(self.graph, flat), training=training), {}
        features = {}
        wanted = {call.outputs[0].index: name for name, call in self._wanted.items()}

        def apply(call, args, kwargs):
            result = graph.call_layer(call, args, kwargs, training)
            logits = getattr(args[0], "_keras_logits", None) if args else None
            if logits is not None and call.name in self._arranging:
                result._keras_logits = graph.call_layer(call, (logits, *args[1:]), kwargs, training)
            for tensor, value in zip(call.outputs, graph.leaves(result), strict=True):
                if tensor.index in wanted:
                    features[wanted[tensor.index]] = value
            return result

        return graph.replay(self.graph, flat, apply), features

    def _arranging_calls(self) -> set[str]:
        """Return the calls at the model's end that only rearrange a squashing layer's output.

        Keras attaches the logits to the output of its softmax and sigmoid; these calls lose them.
        """
        found: set[str] = set()
        if self.inputs is None:
            return found
        for tensor in self.graph.output_list:
            call = self.graph.producer(tensor)
            while call is not None and call.kind in _ARRANGING:
                found.add(call.name)
                call = self.graph.producer(call.inputs[0])
        return found

    def _walked(self) -> graph.Graph | None:
        if self.names:
            return graph.walk(self.model, ignore_call=True)
        try:
            return graph.walk(self.model, ignore_call=True)
        except (InputError, UnsupportedError):
            return None

    @contextlib.contextmanager
    def _listening(self):
        """Collect the outputs of the wanted layers while the model runs."""
        heard = {name: [] for name in self._wanted}

        def listened(name, call):
            def listening(*args, **kwargs):
                result = call(*args, **kwargs)
                heard[name].append(result)
                return result

            return listening

        layers = {name: call.layer for name, call in self._wanted.items()}
        try:
            for name, layer in layers.items():
                # Bypasses the layer's __setattr__, which would track it.
                object.__setattr__(layer, "call", listened(name, layer.call))
            yield heard
        finally:
            for layer in layers.values():
                with contextlib.suppress(AttributeError):
                    object.__delattr__(layer, "call")
