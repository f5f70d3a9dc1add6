"""The kind of a model's outputs: logits, probabilities or values, followed through the graph.

An output that ends in a softmax is easy. An output that averages softmaxes, slices them or moves
their axes still holds probabilities; an output that adds them to logits holds neither.

    graph ──a rule per call──► Kind of every tensor ──► OutputKind of every output

- `kinds`: the values that are followed, and their arithmetic.
- `rules`: what each layer and operation does to them.
- `following`: the walk over a graph, and the questions it answers.
"""

from tfkd.output_kind.following import (
    OutputKind,
    activation_behind,
    output_activations,
    output_kinds,
)

__all__ = ["OutputKind", "activation_behind", "output_activations", "output_kinds"]
