"""A saved model: checked as data, then read by the Keras that wrote it.

file_check.py   checks of what a file declares, before any Keras or TensorFlow loads it
models.py       `load_model`, `check`
signatures.py   inputs and outputs of a SavedModel, by name and in order
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
