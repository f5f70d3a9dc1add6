"""From a trained Keras model to a `.tflite` file that is verified and benchmarked.

Installed as `tfkd.export`. This package changes the representation of a model, never its
weights.
"""

import lazy_loader

from tfkd._renamed import with_old_names

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_old_names(
    __name__,
    __getattr__,
    {
        "Proof": f"{__name__}.micro.evaluation:MicroEvaluation",
        "prove": f"{__name__}.micro.evaluation:evaluate_on_tflm",
    },
)
