"""Keras 3 ↔ tf_keras: the same graph of the same layers in the other Keras.

    model ──walk──► Graph ──counterpart of every layer──► replay ──weights──► model

- `model`: `translate`, the whole way.
- `layers`: the counterpart of one layer, and its weights.
- `activations`: activation functions by name.
- `operations`: `keras.ops` and TensorFlow functions in one vocabulary.
- `standard`: operations as standard layers.
- `registry`: custom classes.
"""

from tfkd.translation.activations import custom_objects
from tfkd.translation.model import aliases, counterparts, other_precision, translate
from tfkd.translation.registry import pair_of, register

__all__ = [
    "aliases",
    "counterparts",
    "custom_objects",
    "other_precision",
    "pair_of",
    "register",
    "translate",
]
