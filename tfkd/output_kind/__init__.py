"""What a model's outputs are: logits, probabilities or values, followed through the graph.

An output that ends in a softmax is easy. One that averages softmaxes, slices them or moves
their axes still holds probabilities; one that adds them to logits holds neither.

    graph ──a rule per call──► Kind of every tensor ──► OutputKind of every output

- `kinds`: the values that are followed, and their arithmetic.
- `rules`: what each layer and operation does to them.
- `following`: the walk over a graph, and what is asked of it.
"""

from tfkd.output_kind.following import (
    OutputKind,
    activation_behind,
    output_activations,
    output_kinds,
)

__all__ = ["OutputKind", "activation_behind", "output_activations", "output_kinds"]
