"""`.npz` files of arrays, read without unpickling anything."""

from __future__ import annotations

import functools
import pathlib
import warnings
from typing import Any

import numpy as np

from tfkd.data.outputs import each, listed
from tfkd.data.samples import Data, Samples
from tfkd.data.splitting import can_stratify, cut, share_of, split
from tfkd.errors import InputError, raise_all

_WANTED = ("x_train", "y_train", "x_test", "y_test")
_WHOLE = ("x", "y")
_VALIDATION = ("x_validation", "y_validation")
#: Arrays that may exist per output, with the output's name appended.
_BY_OUTPUT = ("y", "class_names")


def load_npz(path, *, validation: float | None = None, seed: int = 0) -> Data:
    """Read an `.npz` file with `x_train, y_train, x_test, y_test` (Keras's own layout).

    It may also hold `x_validation, y_validation`, and an array `class_names` of texts, one per
    class in label order. A file with only `x, y` is split 60/20/20. Labels of several outputs are
    one array each, with the output's name as a suffix: `y_train_kind`, `y_test_kind` (or `y_kind`),
    and `class_names_kind`. Pickled objects are refused, so reading a file runs nothing.

    Args:
        path: The file.
        validation: Fraction of the training part to hold out for choices, if the file has no
            validation part. Defaults to 0.1. With only `x, y` it is a fraction of all examples and
            defaults to 0.2.
        seed: Seed of that split.

    Raises:
        InputError: if the file can't be read, an array is missing, or lengths differ.
    """
    path = pathlib.Path(path)
    arrays = _arrays_of(path)
    names = arrays.pop("class_names", None)
    texts = () if names is None else each(functools.partial(_class_names, path), names)
    if set(arrays) == set(_WHOLE):
        x, y = (arrays[name] for name in _WHOLE)
        share = share_of("validation", validation, 0.2, there=False)
        return split(
            x, y, name=path.stem, validation=share, seed=seed, class_names=texts,
            stratify=can_stratify(y, min(share, 0.2)),
        )  # fmt: skip
    train = Samples(arrays["x_train"], arrays["y_train"])
    share = share_of("validation", validation, 0.1, there=_VALIDATION[0] in arrays)
    lone = [name for name in _VALIDATION if name in arrays]
    if len(lone) == 1:
        raise InputError(f"{path.name} has only {lone[0]}; save x_validation and y_validation.")
    if lone:
        held_out = Samples(*(arrays[name] for name in _VALIDATION))
    else:
        train, held_out = cut(train, share, seed, False, "The training data can't be split")
    test = Samples(arrays["x_test"], arrays["y_test"])
    return Data(path.stem, train, held_out, test, texts)


def _arrays_of(path: pathlib.Path) -> dict[str, Any]:
    """Return the arrays of a file by name.

    Raises:
        InputError: if the file can't be read, or an array is missing or not an array.
    """
    try:
        # Opened here, since NumPy doesn't close a file that it can't read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            wanted = _WANTED
            if not any(name in archive for name in _WANTED) and any(n in archive for n in _WHOLE):
                wanted = _WHOLE
            more = ("class_names", *(() if wanted is _WHOLE else _VALIDATION))
            found = ((name, _read(archive, name)) for name in (*wanted, *more))
            arrays = {name: values for name, values in found if values is not None}
            raise_all(
                [f"{path.name} has no array {name!r}" for name in wanted if name not in arrays],
                fix=f"Save it with np.savez({path.name!r}, x_train=..., y_train=..., ...), or with "
                "only the arrays x and y; for several outputs, save an array for each, "
                "y_train_NAME=..., y_test_NAME=....",
            )
    except InputError:
        raise
    except Exception as error:  # whatever NumPy or zipfile raise for a damaged file
        reason = str(error)
        if "pickle" in reason:  # NumPy's message for any unknown format
            reason = "it is not an .npz file, or holds Python objects, which tfkd does not load"
        raise InputError(f"Cannot read {str(path)!r} as .npz: {reason}.") from error
    raise_all(
        f"{name} in {path.name} must be an array of numbers or texts, got "
        f"{array.dtype if isinstance(array, np.ndarray) else 'bytes that are not an array'}"
        for name, values in arrays.items()
        for array in listed(values)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufcSU"
    )
    return arrays


def _read(archive, name: str) -> Any:
    """Return an array of a file, or a dict by output; `None` if the file has none."""
    front = f"{name}_"
    others = {front, *_WANTED, *_VALIDATION}
    several = [one for one in archive.files if one.startswith(front) and one not in others]
    by_output = name.startswith(_BY_OUTPUT)
    if name in archive:
        if by_output and several:
            warnings.warn(
                f"{name!r} is read, and not {' or '.join(map(repr, several))}: labels of several "
                f"outputs have no array {name!r} beside theirs.",
                stacklevel=6,
            )
        return archive[name]
    if not by_output:
        return None
    return {one.removeprefix(front): archive[one] for one in several} or None


def _class_names(path: pathlib.Path, names: np.ndarray) -> tuple[str, ...]:
    """Return the class names in an array."""
    if names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(
            f"class_names in {path.name} must be texts of shape (classes,), got {names.dtype} "
            f"of shape {names.shape}."
        )
    return tuple(map(str, names))
