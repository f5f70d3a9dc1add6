"""Reading a saved Keras model: by the Keras that wrote it, and without running what is in it."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import re
import zipfile

from tfkd import translation
from tfkd.errors import InputError
from tfkd.loading import file_check
from tfkd.model import backends
from tfkd.model.layer_kinds import SPARSIFYING

trusting = file_check.trusting
_HDF5 = (".h5", ".hdf5")
SUFFIXES = (".keras", *_HDF5)


def load_model(path, what: str = "model", *, trusted: bool = False):
    """Read a `.keras` or `.h5` file, or a tf_keras SavedModel with its Keras metadata.

    Knows quantize-aware models and what `translate` lends to the other Keras. Custom classes are
    known if the caller has registered them (`keras.saving.register_keras_serializable`). The file
    is first read as data (`loading.file_check`): unknown classes, functions and operations, code of
    Lambda layers and sizes that are not there are refused before Keras sees it.

    Args:
        path: The file or folder.
        what: What to call it in a message.
        trusted: Whether a SavedModel may hold operations that act outside the model (read or
            write files, call Python). A `.keras` or `.h5` file may never.

    Returns:
        A Keras 3 or tf_keras model, not compiled.

    Raises:
        InputError: if there is no file or folder, or none that can be read.
    """
    path = pathlib.Path(path)
    check(path, what)
    try:
        with file_check.trusting(trusted):
            config, present = _declared(path)
            load = _load_keras if _is_keras_3(path) else _load_tf_keras
            with file_check.bounded(present):
                return load(path, config)
    except MemoryError:
        raise
    except Exception as error:  # Keras, h5py and zipfile raise many types for a damaged file
        reason = _reason(error, path)
        raise InputError(f"The {what} {str(path)!r} can't be read: {reason}") from error


def check(path, what: str = "model", layers: bool = True) -> None:
    """Raise if there is nothing to read, without importing anything heavy.

    Args:
        path: The file or folder.
        what: What to call it in a message.
        layers: Whether a SavedModel must have its Keras layers; `model.export` writes none.

    Raises:
        InputError: if there is no file or folder, or none of a known kind.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"There is no {what} at {str(path)!r}.")
    if not path.is_dir():
        if path.suffix not in SUFFIXES:
            converted = (
                " A .tflite file is already converted: in Python, give it to android_bundle, "
                "micro_bundle or web_bundle of tfkd.export."
            )
            raise InputError(
                f"{str(path)!r} is not a {what}: tfkd reads {', '.join(SUFFIXES)} and SavedModel "
                f"folders.{converted if path.suffix == '.tflite' else ''}"
            )
    elif not any((path / f"saved_model.{kind}").is_file() for kind in ("pb", "pbtxt")):
        raise InputError(f"The folder {str(path)!r} holds no SavedModel.")
    elif layers and not is_keras_saved_model(path):
        raise InputError(
            f"The SavedModel {str(path)!r} has signatures but no Keras layers, as model.export "
            f"writes it; give the .keras or .h5 file of the {what}."
        )


def writer(path: pathlib.Path) -> str:
    """Return the version of Keras that wrote a file.

    Raises:
        InputError: if the file holds no model.
    """
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise InputError(
                "it holds no layers, perhaps only weights; save the whole model with model.save."
            )
        version = file.attrs["keras_version"]
        return version if isinstance(version, str) else version.decode()


def is_keras_saved_model(path) -> bool:
    """Tell whether a folder is a SavedModel from which tf_keras can rebuild its layers."""
    return (pathlib.Path(path) / "keras_metadata.pb").is_file()


def _is_keras_3(path) -> bool:
    return not path.is_dir() and writer(path).startswith("3")


def _declared(path) -> tuple[dict | None, int]:
    """Check a file by its headers only.

    Returns:
        Its configuration (`None` for a SavedModel) and the bytes of its weights.
    """
    if path.is_dir():
        return None, file_check.check_saved_model(path)
    if path.suffix == ".keras":
        return file_check.check_archive(path)
    present = file_check.check_hdf5(path)
    writer(path)
    return file_check.config_of_hdf5(path), present


def _load_keras(path, config):
    keras = backends.keras()
    from keras.src.saving import serialization_lib

    if _mentions(path, b"tfkd>"):
        translation.custom_objects()  # registers the classes that came from tf_keras
    file_check.check_config(config, keras)
    # Before 3.11 `load_model` does not pass safe_mode on to the reader of .h5 files.
    with serialization_lib.SafeModeScope(safe_mode=True):
        return keras.models.load_model(path, compile=False)


def _load_tf_keras(path, config):
    tf_keras = backends.tf_keras()
    from tf_keras.src.saving import serialization_lib

    objects = translation.custom_objects()
    with contextlib.ExitStack() as stack:
        if _mentions(path, b"Quantize"):
            from tfkd.quantization import quantizers  # noqa: F401  registers its classes

            stack.enter_context(backends.tfmot().quantization.keras.quantize_scope())
        # Without this, tf_keras runs the code of Lambda layers in .h5 files and SavedModels.
        stack.enter_context(serialization_lib.SafeModeScope(safe_mode=True))
        stack.enter_context(tf_keras.saving.custom_object_scope(objects))
        if path.is_dir():
            file_check.check_metadata(path, tf_keras)
        else:
            file_check.check_config(config, tf_keras)
        source = path
        if path.suffix in _HDF5 and _mentions(path, b'"class_name": "function"'):
            source = stack.enter_context(_functions_by_name(path))
        return tf_keras.models.load_model(source, compile=False, custom_objects=objects)


@contextlib.contextmanager
def _functions_by_name(path):
    """Open an .h5 file in memory, with registered activations in a form that tf_keras reads.

    tf_keras writes them as objects of the class "function", which its reader does not know.
    """
    import h5py

    def named(part):
        if part.get("class_name") == "function" and isinstance(part.get("config"), str):
            return part["config"]
        return part

    with h5py.File(io.BytesIO(path.read_bytes()), "r+") as file:
        config = json.loads(file.attrs["model_config"], object_hook=named)
        file.attrs["model_config"] = json.dumps(config)
        yield file


def _mentions(path, word: bytes) -> bool:
    """Tell whether a model's configuration contains a word."""
    if path.is_dir():
        return word in (path / "keras_metadata.pb").read_bytes()
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return word in archive.read("config.json")
    import h5py

    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config", b"")
        return word in (config.encode() if isinstance(config, str) else bytes(config))


def _reason(error: Exception, path) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, InputError) and not isinstance(error, file_check.UnregisteredError):
        return text
    if "safe_mode" in text:
        return file_check.LAMBDA
    with contextlib.suppress(Exception):  # a damaged file gives no more information
        archive = path.suffix == ".keras" and not _is_keras_3(path)
        tfmots = archive and not _mentions(path, b"tfkd>QuantizeLayer")
        if tfmots and _mentions(path, b"QuantizeLayer"):
            return _QUANTIZE_AWARE
        if isinstance(error, file_check.UnregisteredError):
            missing = error.name
        else:  # a registered class that needs another one
            missing = _UNREGISTERED.search(text)
            missing = missing and missing[1]
        if missing and missing.split(">")[-1] in SPARSIFYING:
            return (
                "it holds the wrappers of prune_weights or cluster_weights; save what "
                "strip_pruning or strip_clustering returns."
            )
        if missing:
            package = "keras" if _is_keras_3(path) else "tf_keras"
            return (
                f"it uses the class {missing!r}, which is not registered; "
                f"{file_check.registering(package)}."
            )
    # The end of Keras's message, after a configuration of many lines.
    text = text.rsplit("Exception encountered: ")[-1]
    return text[:300] or type(error).__name__


_QUANTIZE_AWARE = (
    "tf_keras can't load a model with tfmot's own schemes from a .keras file; save it as .h5."
)
# In Keras 3's files and in .h5 files of tf_keras.
_UNREGISTERED = re.compile(r"(?:Could not locate class|Unknown (?:layer|object)[^']*) '([\w>.]+)'")
