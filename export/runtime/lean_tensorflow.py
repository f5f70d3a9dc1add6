"""TensorFlow in the child, without the parts of it that a converter never reads.

Two thirds of the time of `import tensorflow` are Keras, which brings scikit-learn and Matplotlib,
modules that only list other modules' names, and Python's collector looking for garbage.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType

_LISTS = "tensorflow._api.v2."


def load() -> ModuleType:
    """Import TensorFlow as a child needs it, if it is not imported yet; return it.

    A part that is left out, such as `tf.keras` or `tf.io`, is imported on first access. Only
    `import tensorflow.keras`, as a statement, fails.
    """
    if "tensorflow" in sys.modules or "keras" in sys.modules:
        return importlib.import_module("tensorflow")
    collects = gc.isenabled()
    gc.disable()
    sys.meta_path.insert(0, _Late)
    sys.modules["keras"] = None  # type: ignore[assignment]  as if it were not installed
    try:
        return importlib.import_module("tensorflow")
    finally:
        sys.modules.pop("keras", None)
        sys.meta_path.remove(_Late)
        if collects:
            gc.enable()


class _Late:
    """Finds modules that only list names, and imports each when one of its names is read."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if not name.startswith(_LISTS):
            return None
        # Its imports may set `tf.lite` to TensorFlow's folder of that name, so read it now.
        first = name.removeprefix(_LISTS).split(".")[0]
        if os.path.isdir(os.path.join(os.path.dirname(sys.modules["tensorflow"].__file__), first)):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec
