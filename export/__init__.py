"""From a trained Keras model to a `.tflite` file that is verified and benchmarked.

Installed as `tfkd.export`. What this package does changes the representation of a model,
never its weights.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
