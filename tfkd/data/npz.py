"""`.npz` files of arrays, read without unpickling anything."""

from __future__ import annotations

import functools
import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfkd.data import labels
from tfkd.data.outputs import each, listed, shown
from tfkd.data.samples import PARTS, Data, Samples
from tfkd.data.splitting import can_stratify, cut, share_of, split
from tfkd.errors import InputError, raise_all

_WANTED = ("x_train", "y_train", "x_test", "y_test")
_WHOLE = ("x", "y")
_VALIDATION = ("x_validation", "y_validation")
#: The short names of the validation part, in `x_val`, `y_val_kind`.
_SHORT = re.compile(r"(?<=^[xy]_)val(id)?(?=_|$)")
#: Arrays that may exist per output, with the output's name appended.
_BY_OUTPUT = ("y", "class_names")


def load_npz(
    path,
    *,
    validation: float | None = None,
    seed: int = 0,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] = (),
) -> Data:
    """Read an `.npz` file with `x_train, y_train, x_test, y_test` (Keras's own layout).

    It may also hold `x_validation, y_validation` (or `x_val, y_val`), and an array `class_names` of
    texts, one per class in label order. A file with only `x, y` is split 60/20/20. Labels of
    several outputs are one array each, with the output's name as a suffix: `y_train_kind`,
    `y_test_kind` (or `y_kind`), and `class_names_kind`. Splits keep the share of each class, if
    every class has enough examples. Pickled objects are refused, so reading a file runs nothing.

    Args:
        path: The file.
        validation: Fraction of the training part to hold out for choices, if the file has no
            validation part. Defaults to 0.1. With only `x, y` it is a fraction of all examples and
            defaults to 0.2.
        seed: Seed of that split.
        class_names: One per class, in label order; labels that are texts are numbered in this
            order. For several outputs, a dict by name. Defaults to the names in the file, or to
            those in the training part in alphabetical order.

    Raises:
        InputError: if the file can't be read, an array is missing or not known, or lengths differ.
    """
    path = pathlib.Path(path)
    arrays = _arrays_of(path)
    of_file = arrays.pop("class_names", None)
    names: Any = class_names.tolist() if isinstance(class_names, np.ndarray) else class_names
    if not names and of_file is not None:
        names = each(functools.partial(_class_names, path), of_file)
    if set(arrays) == set(_WHOLE):
        y, names = _numbered(arrays["y"], names)
        share = share_of("validation", validation, 0.2, there=False)
        return split(
            arrays["x"], y, name=path.stem, validation=share, seed=seed, class_names=names,
            stratify=can_stratify(y, min(share, 0.2)),
        )  # fmt: skip
    share = share_of("validation", validation, 0.1, there=_VALIDATION[0] in arrays)
    lone = [name for name in _VALIDATION if name in arrays]
    if len(lone) == 1:
        raise InputError(f"{path.name} has only {lone[0]}; save x_validation and y_validation.")
    parts, are_given = {}, bool(names)
    for part in PARTS if lone else ("train", "test"):
        try:
            y, found = _numbered(arrays[f"y_{part}"], names)
            labels.check_kind(part, arrays[f"y_{part}"], found, names, are_given)
            parts[part] = Samples(arrays[f"x_{part}"], y)
        except InputError as error:
            raise InputError(f"{part} in {path.name}: {error}") from None
        names = found
    if not lone:
        stratify = can_stratify(parts["train"].y, share)
        parts["train"], parts["validation"] = cut(
            parts["train"], share, seed, stratify, "The training data can't be split"
        )
    return Data(path.stem, *(parts[part] for part in PARTS), names)


def _arrays_of(path: pathlib.Path) -> dict[str, Any]:
    """Return the arrays of a file by name; those of several outputs in a dict by output.

    Raises:
        InputError: if the file can't be read, or an array is missing, not known or not an array.
    """
    try:
        # Opened here, since NumPy doesn't close a file that it can't read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            members = _members(path, archive.files)
            arrays = {name: each(archive.__getitem__, one) for name, one in members.items()}
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


def _members(path: pathlib.Path, files: Sequence[str]) -> dict[str, Any]:
    """Return which arrays of a file to read, by what they are; in a dict by output for several.

    Args:
        path: The file, for messages.
        files: The names of all its arrays.

    Raises:
        InputError: for an array that is missing, and for examples or labels that nothing reads.
    """
    whole = not set(files) & set(_WANTED) and bool(set(files) & set(_WHOLE))
    wanted = _WHOLE if whole else _WANTED
    known = {name if whole else _SHORT.sub("validation", name): name for name in files}
    members: dict[str, Any] = {}
    beside: dict[str, dict] = {}
    for name in (*wanted, "class_names", *(() if whole else _VALIDATION)):
        front = f"{name}_"
        others = {front, *_WANTED, *_VALIDATION}
        several = {
            one.removeprefix(front): member
            for one, member in known.items()
            if name.startswith(_BY_OUTPUT) and one.startswith(front) and one not in others
        }
        if name in known:
            members[name], beside[name] = known[name], several
        elif several:
            members[name] = several
    raise_all(
        [f"{path.name} has no array {name!r}" for name in wanted if name not in members],
        fix=f"Save it with np.savez({path.name!r}, x_train=..., y_train=..., ...), or with "
        "only the arrays x and y; for several outputs, save an array for each, "
        "y_train_NAME=..., y_test_NAME=....",
    )
    read = {one for some in (*members.values(), *beside.values()) for one in listed(some)}
    left = _other_parts(files, read)
    if left:
        raise InputError(
            f"{path.name} also holds {shown(left)}, which tfkd does not read: name the parts "
            "x_train, x_validation and x_test (y_train, ...), and leave other arrays out."
        )
    for name, more in beside.items():
        if more:
            warnings.warn(
                f"{name!r} is read, and not {' or '.join(map(repr, more.values()))}: labels of "
                f"several outputs have no array {name!r} beside theirs.",
                stacklevel=4,
            )
    return members


def _other_parts(files: Sequence[str], read: set[str]) -> list[str]:
    """Return the arrays of parts under names that nothing reads: examples that have labels.

    Other arrays, such as `x_mean`, `y_names` or `x_test_ids`, may be beside the data.
    """

    def labels_of(part: str) -> list[str]:
        return [name for name in files if name == f"y_{part}" or name.startswith(f"y_{part}_")]

    left = []
    for name in files:
        if name.startswith("x_") and name not in read and labels_of(name[2:]):
            left += [name, *(one for one in labels_of(name[2:]) if one not in read)]
    return left


def _numbered(y: Any, names: Any) -> tuple[Any, Any]:
    """Return labels and names of classes; texts get their numbers, other labels stay."""
    if labels.are_texts(y):
        return labels.numbers_of(y, names)
    return y, names


def _class_names(path: pathlib.Path, names: np.ndarray) -> tuple[str, ...]:
    """Return the class names in an array."""
    if names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(
            f"class_names in {path.name} must be texts of shape (classes,), got {names.dtype} "
            f"of shape {names.shape}."
        )
    return tuple(map(str, names))
