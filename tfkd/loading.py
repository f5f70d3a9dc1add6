"""Reading a saved Keras model: by the Keras that wrote it, and without running what is in it."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import zipfile

from tfkd import backends, translation
from tfkd.errors import InputError

SUFFIXES = (".keras", ".h5", ".hdf5")


def load_model(path, what: str = "model"):
    """Read a `.keras` or `.h5` file, or a tf_keras SavedModel with its Keras metadata.

    Quantize-aware models and what `translate` lends to the other Keras are known here; custom
    classes are where the caller has registered them (`keras.saving.register_keras_serializable`).
    Lambda layers hold code and are refused, in every kind of file.

    Args:
        path: The file or folder.
        what: What to call it in a message.

    Returns:
        A Keras 3 or tf_keras model, not compiled.

    Raises:
        InputError: if there is nothing, or nothing that can be read.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"There is no {what} at {str(path)!r}.")
    if not (path.is_dir() or path.suffix in SUFFIXES):
        raise InputError(f"{str(path)!r} is no {what}: known are {', '.join(SUFFIXES)}.")
    try:
        if not path.is_dir() and writer(path).startswith("3"):
            return backends.keras().models.load_model(path, compile=False)
        return _load_tf_keras(path)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes Keras, h5py or zipfile raise
        raise InputError(f"The {what} {str(path)!r} can't be read: {_reason(error)}") from error


def writer(path: pathlib.Path) -> str:
    """Return the version of Keras that wrote a file."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json"))["keras_version"]
    import h5py

    with h5py.File(path, "r") as file:
        version = file.attrs["keras_version"]
        return version if isinstance(version, str) else version.decode()


def is_keras_saved_model(path) -> bool:
    """Tell whether a folder is a SavedModel from which tf_keras can rebuild its layers."""
    return (pathlib.Path(path) / "keras_metadata.pb").is_file()


def _load_tf_keras(path):
    tf_keras = backends.tf_keras()
    from tf_keras.src.saving import serialization_lib

    objects = translation.custom_objects()
    with contextlib.ExitStack() as stack:
        if _mentions(path, b"Quantize"):
            from tfkd.quantization import parts  # noqa: F401  registers its classes

            stack.enter_context(backends.tfmot().quantization.keras.quantize_scope())
        # Without it tf_keras runs the code of Lambda layers in .h5 files and SavedModels.
        stack.enter_context(serialization_lib.SafeModeScope(safe_mode=True))
        return tf_keras.models.load_model(path, compile=False, custom_objects=objects)


def _mentions(path, word: bytes) -> bool:
    """Tell whether a model's configuration holds a word."""
    if path.is_dir():
        return word in (path / "keras_metadata.pb").read_bytes()
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return word in archive.read("config.json")
    import h5py

    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config", b"")
        return word in (config.encode() if isinstance(config, str) else bytes(config))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    missing = re.search(
        r"(?:Could not locate class|Unknown (?:layer|object)[^']*) '([\w>.]+)'", text
    )
    if missing:
        return (
            f"it uses the class {missing.group(1)!r}, which is not registered; import the module "
            "that defines it and decorate it with "
            "@keras.saving.register_keras_serializable() before loading."
        )
    return text[:300] or type(error).__name__
