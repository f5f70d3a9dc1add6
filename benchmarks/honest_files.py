"""Honest model files pass all the checks that hostile ones are held against, and compute right.

The files hold every model of the tests' zoo, networks of both packages' applications, and a
registered custom layer; in both Kerases, as `.keras`, `.h5` and SavedModel. Each file is read in
the way of a teacher's file, and its outputs are compared with the model's.

    python benchmarks/honest_files.py
"""

import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tf_keras

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "data"))
import zoo

from tfkd.distillation.teachers.sources import source_of
from tfkd.model import graph

PACKAGES = {"keras": keras, "tf_keras": tf_keras}
APPLICATIONS = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50")


def models():
    """Yield pairs (name, model)."""
    for package, library in PACKAGES.items():
        for name in zoo.MODELS:
            yield f"{package} {name}", zoo.build(library, name)
        for name in APPLICATIONS:
            make = getattr(library.applications, name)
            yield f"{package} {name}", make(weights=None, input_shape=(32, 32, 3), classes=10)

        @library.saving.register_keras_serializable(f"honest_{package}")
        class Doubled(library.layers.Layer):
            def call(self, x):
                return 2 * x

        yield (
            f"{package} custom layer",
            library.Sequential([library.Input((4,)), library.layers.Dense(3), Doubled()]),
        )


def as_files(model, folder: pathlib.Path):
    """Save a model in every kind of file that its Keras writes, and yield the paths."""
    is_keras_3 = isinstance(model, keras.Model)
    for suffix in (".keras", ".h5"):
        path = folder / f"model{suffix}"
        model.save(path)
        yield path
    path = folder / "saved"
    model.export(path, verbose=False) if is_keras_3 else model.save(path)
    yield path


def own_error(model, path) -> str:
    """Return what the Keras that wrote a file raises when it reads it; empty if nothing."""
    if path.is_dir():
        return ""
    library = keras if isinstance(model, keras.Model) else tf_keras
    try:
        library.models.load_model(path, compile=False)
    except Exception as error:  # whatever it raises
        return f"{type(error).__name__}: {error}"
    return ""


def main():
    read = refused = 0
    for name, model in models():
        x = zoo.inputs_for(model, count=4)
        want = list(graph.leaves(model(x, training=False)))
        with tempfile.TemporaryDirectory() as folder:
            for path in as_files(model, pathlib.Path(folder)):
                try:
                    source = source_of(str(path), ())
                    got = source.run(list(map(tf.constant, graph.leaves(x))))
                    for a, b in zip(want, graph.leaves(got[0]), strict=True):
                        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
                    read += 1
                except Exception as error:  # counted and shown, whatever it is
                    own = own_error(model, path)
                    refused += not own
                    said = f"{type(error).__name__}: {error}" if not own else f"as Keras: {own}"
                    print(f"{name} as {path.name}: {said[:300]}", flush=True)
    print(f"{read} files read, {refused} not")
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main())
