"""Keras 3 ↔ tf_keras: the same graph of the same layers in the other Keras.

    model ──walk──► Graph ──counterpart of every layer──► replay ──weights──► model

- `model`: `translate`, the whole way.
- `layers`: the counterpart of one layer, and its weights.
- `activations`: activation functions by name.
- `operations`: `keras.ops` and TensorFlow functions in one vocabulary.
- `standard`: operations as standard layers.
- `registry`: custom classes.
- `copies`: the same model again, in its own Keras.
- `frozen`: what does not train because of the model around it.
"""

from tfkd.translation.activations import custom_objects as custom_objects
from tfkd.translation.frozen import check_frozen as check_frozen
from tfkd.translation.model import aliases as aliases
from tfkd.translation.model import counterparts as counterparts
from tfkd.translation.model import other_precision as other_precision
from tfkd.translation.model import translate
from tfkd.translation.registry import pair_of as pair_of
from tfkd.translation.registry import register

__all__ = ["register", "translate"]
