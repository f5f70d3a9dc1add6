"""`as_data`: whatever holds examples and labels → a `Data`, or the layout that is wanted."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tfkd.data import labels as labels_
from tfkd.data.batches import kind_of
from tfkd.data.csv_table import load_csv, windows_of_csv
from tfkd.data.images import load_images
from tfkd.data.npz import load_npz
from tfkd.data.outputs import names_of, no_class_weights, spelled
from tfkd.data.rows import Rows
from tfkd.data.samples import PARTS, Data, Part, Samples
from tfkd.data.splitting import can_stratify, cut, share_of, split
from tfkd.data.stream import Stream
from tfkd.errors import InputError, argument

if TYPE_CHECKING:
    from tfkd._typing import PathLike

#: The forms of data that `as_data` accepts.
AnyData: TypeAlias = "Data | PathLike | Sequence[Any] | Mapping[str, Any]"

_WANTED = (
    "Give a tfkd.Data, (x, y), ((x_train, y_train), (x_test, y_test)), a dict of the parts train, "
    "validation and test (each (x, y) or a dataset of such batches), or the path of an .npz file, "
    "a .csv file or a folder of images; y may be {output: labels, ...}."
)
#: The options that apply to each form of data; others are refused.
_OPTIONS = {
    "arrays": ("test", "validation", "seed"),
    "parts": ("validation", "seed"),
    ".npz": ("validation", "seed"),
    ".csv": ("test", "validation", "seed", "label", "features", "length", "horizon"),
    "folder": ("test", "validation", "seed", "size"),
    "data": (),
}


def as_data(
    given: AnyData,
    *,
    name: str | None = None,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] = (),
    class_weight: Mapping[int, float] | str | None = None,
    test: float | None = None,
    validation: float | None = None,
    seed: int | None = None,
    label: str | Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    length: int | None = None,
    horizon: int | None = None,
) -> Data:
    """Return examples and labels, in any supported form, as a `Data`.

    `compress`, `spiral` and `compare` call it on their `data`; call it yourself to set its options.
    Splits keep the share of each class, if every class has enough examples.

    Args:
        given: One of

            - a `Data`;
            - `(x, y)`: arrays (examples, ...) of the same length, split three ways. `x` may be a
              `numpy.memmap`, which is not copied. Labels may be texts; for a model with several
              outputs they are a dict of arrays by the outputs' names;
            - `((x_train, y_train), (x_test, y_test))`, as `keras.datasets` returns it;
            - a dict or tuple of the parts `train`, `validation` and `test`, each a `Samples`,
              `(x, y)`, or a `Stream` or the source of one: a `tf.data.Dataset` or `PyDataset` of
              batches (x, y), or a function that returns a new generator of them. A dict of arrays
              may lack `validation`, which is then cut from `train`;
            - the path of an `.npz` file (see `load_npz`), of a `.csv` file with a header (see
              `load_csv`), or of a folder with a folder of images for each class (see
              `load_images`).
        name: What to call the data in a report. Defaults to the file's name.
        class_names: One per class, in label order; texts and folders are numbered in this order.
            For several outputs, a dict by name. Defaults to the names in the data.
        class_weight: Weight of an example of each class in the hard loss, by class number, or
            `"balanced"`, with which all classes count the same; for one output only.
        test: Fraction held out for reporting. Defaults to 0.2.
        validation: Fraction held out for choices. Defaults to 0.2, or to 0.1 of the training part
            if the data has a test part.
        seed: Seed of the split. Defaults to 0.
        label: For a CSV file, the column or columns of labels. Defaults to `"label"`.
        features: For a CSV file, the columns of features. Defaults to all others.
        size: For images, the height and width to resize them to.
        length: For a CSV file whose lines are the steps of a series in time order: the steps in a
            window. Windows are split by time. `label` names columns among `features` to forecast,
            or the column with the label of each step.
        horizon: The steps to forecast, 1 by default; with labels of steps, the number of steps from
            the end of the window to the labelled one, 0 by default.

    Raises:
        InputError: for anything else, labels that are none, and options that don't apply. The
            message says in one or two sentences what is accepted.

    Example:
        >>> x, y = np.zeros((10, 4)), ["cat", "dog"] * 5
        >>> data = as_data((x, y), class_weight="balanced")
        >>> len(data.train), data.class_names, data.train.y.dtype.kind
        (6, ('cat', 'dog'), 'i')
    """
    options = {
        "test": test, "validation": validation, "seed": seed, "label": label,
        "features": features, "size": size, "length": length, "horizon": horizon,
    }  # fmt: skip
    options = {key: value for key, value in options.items() if value is not None}
    if isinstance(given, Data):
        _check_options("data", options)
        data = given
    elif isinstance(given, (str, os.PathLike)):
        data = _of_path(pathlib.Path(given), _kept(class_names), options)
    else:
        data = _of_arrays(given, _kept(class_names), options)
    changes: dict[str, Any] = {} if name is None else {"name": name}
    if class_names:
        changes["class_names"] = _kept(class_names)
    if class_weight is not None:
        if data.outputs:
            raise InputError(no_class_weights(data.outputs))
        changes["class_weight"] = _class_weight(data.train, class_weight)
    return dataclasses.replace(data, **changes) if changes else data


def _kept(class_names) -> Any:
    """Return class names in the form that a `Data` holds."""
    if not isinstance(class_names, Mapping):
        return tuple(class_names)
    return {output: tuple(names) for output, names in class_names.items()}


def _class_weight(train: Part, given) -> dict[int, float] | None:
    if isinstance(train, Stream) and given == "balanced":
        raise InputError(
            f"{argument('class_weight', 'balanced')} needs all labels in advance, and a stream "
            "does not have them: give the weights as a dict of class → weight."
        )
    return labels_.weights(train.labels, given)


def _check_options(kind: str, options: Mapping) -> None:
    """Raise for an option that would be ignored."""
    for key in options:
        if key not in _OPTIONS[kind]:
            raise InputError(
                f"{argument(key)} does not apply to data given as {_GIVEN_AS[kind]}: leave it out."
            )


_GIVEN_AS = {
    "arrays": "(x, y)",
    "parts": "parts",
    ".npz": "an .npz file",
    ".csv": "a .csv file",
    "folder": "a folder of images",
    "data": "a tfkd.Data",
}


def _of_path(path: pathlib.Path, class_names: tuple[str, ...], options: dict) -> Data:
    """Read a file or a folder; `class_names` gives the numbers of text labels or subfolders."""
    if path.is_dir():
        _check_options("folder", options)
        return load_images(path, class_names=class_names, **options)
    if not path.exists():
        raise InputError(f"There is no file or folder {str(path)!r}.")
    kind = path.suffix.lower()
    if kind not in (".npz", ".csv"):
        raise InputError(f"{path.name!r} is not an .npz file, a .csv file or a folder of images.")
    _check_options(kind, options)
    if kind == ".npz":
        data = load_npz(path, class_names=class_names, **options)
        return _of_parts(data.parts, data.name, data.class_names, {})
    if "length" in options:
        if "seed" in options:
            raise InputError(
                f"{argument('seed')} does not apply to windows, which are split by time: leave it "
                "out."
            )
        return windows_of_csv(path, class_names=class_names, **options)
    if "horizon" in options:
        raise InputError(
            f"{argument('horizon')} needs {argument('length')}, the steps in a window."
        )
    columns = {key: options.pop(key) for key in ("label", "features") if key in options}
    x, y, names = load_csv(path, **columns, class_names=class_names)
    return _split(x, y, path.stem, names, options)


def _of_arrays(given, class_names, options: dict) -> Data:
    """Return data from arrays in Python."""
    if isinstance(given, Mapping):
        if not {"train", "test"} <= set(given) <= set(PARTS):
            raise InputError(
                f"A dict with {', '.join(map(repr, given))} is not valid data. {_WANTED}"
            )
        return _of_parts(given, "data", class_names, options)
    stream = "Stream" if isinstance(given, Stream) else kind_of(given)
    if stream is not None:
        raise InputError(
            f"A {stream} is one part, and three are needed: give a dict of train, validation and "
            "test, such as {'train': dataset.skip(20), 'validation': dataset.take(10), ...}."
        )
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        what = f"A {type(given).__name__}"
        if isinstance(given, (tuple, list)):
            what += f" of {len(given)} is"
        elif hasattr(given, "shape"):
            what += f" of shape {tuple(given.shape)} without labels is"
        else:
            what += " is"
        raise InputError(f"{what} not valid data. {_WANTED}")
    if all(_is_part(part) for part in given):
        names = PARTS if len(given) == 3 else ("train", "test")
        return _of_parts(dict(zip(names, given, strict=True)), "data", class_names, options)
    if len(given) == 3:
        raise InputError(
            f"A tuple of three must be the parts (train, validation, test), each (x, y)."
            f"{_about_weights(given) or f' {_WANTED}'}"
        )
    _check_options("arrays", options)
    return _split(*_checked(*given, class_names), options)


def _about_weights(given) -> str:
    """Return a sentence for (x, y, weights), where weights of examples go; empty for others."""
    if not isinstance(given, (tuple, list)) or len(given) != 3 or not hasattr(given[0], "shape"):
        return ""
    try:
        weights = np.asarray(given[2])
    except ValueError:
        return ""
    if weights.dtype.kind not in "biuf" or weights.shape != np.shape(given[0])[:1]:
        return ""
    return (
        " Weights of examples go into the batches (x, y, weights) of a tfkd.Stream, the training "
        f"part, and weights of classes into {argument('class_weight')}."
    )


def _split(x, y, *rest) -> Data:
    name, names, options = ("data", *rest) if len(rest) == 2 else rest
    least = min(options.get("test", 0.2), options.get("validation", 0.2))
    return split(x, y, name=name, class_names=names, stratify=can_stratify(y, least), **options)


def _is_part(part) -> bool:
    return isinstance(part, Part) or _is_pair(part) or kind_of(part) is not None


def _is_pair(part) -> bool:
    return isinstance(part, (tuple, list)) and len(part) == 2 and hasattr(part[0], "shape")


def _of_parts(given: Mapping, name: str, class_names, options: dict) -> Data:
    """Return data from given parts."""
    _check_options("parts", options)
    parts, names = {}, class_names
    for part in PARTS:
        if part not in given:
            continue
        try:
            parts[part], found = _part(given[part], names)
            y = given[part][1] if _is_pair(given[part]) else None
            labels_.check_kind(part, y, found, names, bool(class_names))
        except InputError as error:
            raise InputError(f"{part}: {error}") from None
        names = found
    share = share_of("validation", options.get("validation"), 0.1, "validation" in parts)
    if "validation" not in parts:
        if not isinstance(parts["train"], Samples):
            raise InputError(
                "A stream can't be split: give validation too, such as dataset.take(10)."
            )
        if not 0 < share < 1:
            raise InputError(f"{argument('validation', share)} must be a fraction > 0 and < 1.")
        stratify = can_stratify(parts["train"].y, share)
        parts["train"], parts["validation"] = cut(
            parts["train"], share, options.get("seed", 0), stratify, "train can't be split"
        )
    shapes = {part: samples.shape[1:] for part, samples in parts.items()}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{shape} in {part}" for part, shape in shapes.items())
        raise InputError(f"Examples have the shapes {shown}: give all parts the same shape.")
    return Data(name, *(parts[part] for part in PARTS), names)


def _part(given, class_names) -> tuple[Part, tuple[str, ...]]:
    """Return a part in the form for training, and the names of the classes."""
    if isinstance(given, Samples):
        given = (given.x, given.y)
    if _is_pair(given):
        x, y, names = _checked(*given, class_names)
        return Samples(x, y), names
    if isinstance(given, Stream) or kind_of(given) is not None:
        return given if isinstance(given, Stream) else Stream(given), class_names
    raise InputError(
        f"it must be (x, y) or a stream of such batches, got {type(given).__name__}."
        f"{_about_weights(given)}"
    )


def _checked(x, y, class_names) -> tuple[Any, np.ndarray, tuple[str, ...]]:
    """Return examples and labels as arrays, and the names of the classes.

    Raises:
        InputError: for anything else, naming the expected layout.
    """
    if isinstance(x, Mapping) or _are_several(x, len(y) if hasattr(y, "shape") else None):
        raise InputError(
            "x holds several arrays, but the models trained here have one input: train models with "
            "several inputs in a Distiller."
        )
    if _are_several(y, len(x)):
        raise InputError(
            f"y holds {len(y)} arrays without names: give the labels of several outputs as a dict, "
            "{'name of the output': labels, ...}."
        )
    if not isinstance(x, Rows):
        try:
            x = np.asanyarray(x)
        except ValueError as error:
            raise InputError(
                f"x is not an array ({error}): pad its examples to one shape."
            ) from None
        if x.dtype.kind not in "biufc" or x.ndim == 0:
            raise InputError(
                f"x has dtype {x.dtype} and shape {x.shape}; give numbers of shape "
                "(examples, ...), such as (1000, 28, 28, 1) for images or (1000, 50, 6) for series."
            )
    y, names = labels_.numbers_of(y, class_names)
    for name, labels in spelled(y):
        if len(x) != len(labels):
            order = ", in this order" if x.ndim < labels.ndim else ""
            raise InputError(
                f"x has {len(x)} examples and {name} {len(labels)} labels: give (x, y) with a "
                f"label for each example{order}."
            )
    if names_of(y):
        return x, y, names
    if x.ndim == 1 and y.ndim > 1 and x.dtype.kind in "biu":
        raise InputError(
            f"x of shape {x.shape} looks like labels and y of shape {y.shape} like examples: give "
            "(x, y), the examples first."
        )
    return x, y, names


def _are_several(values, examples: int | None = None) -> bool:
    """Tell whether a list holds several arrays rather than the rows of one.

    Args:
        values: The list.
        examples: The number of rows expected; arrays of this length are not rows.
    """
    if not isinstance(values, (tuple, list)) or not values or not hasattr(values[0], "shape"):
        return False
    if np.ndim(values[0]) == 0:
        return False
    shapes = {np.shape(one) for one in values}
    lengths = {len(one) for one in values if np.ndim(one)}
    return len(shapes) > 1 or (len(values) != examples and lengths == {examples})
