"""Data in the one form that the rest of tfkd takes: arrays, split three ways."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from tfkd.errors import InputError, argument, raise_all


@dataclasses.dataclass(frozen=True)
class Samples:
    """Examples and their labels.

    Attributes:
        x: Array of shape (examples, ...).
        y: Array of shape (examples,) or (examples, ...), class numbers or values.
    """

    x: np.ndarray
    y: np.ndarray

    def __post_init__(self):
        for name in ("x", "y"):
            try:
                len(getattr(self, name))
            except TypeError:
                raise InputError(
                    f"{name} must be an array of shape (examples, ...), got "
                    f"{getattr(self, name)!r:.80}."
                ) from None
        if len(self.x) != len(self.y):
            raise InputError(f"x has {len(self.x)} examples but y has {len(self.y)}.")
        if len(self.x) == 0:
            raise InputError("The data holds no examples.")

    def __len__(self):
        return len(self.x)


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set split three ways.

    Attributes:
        name: What to call it in a report.
        train: What models are fitted on.
        validation: What choices are made on.
        test: What is reported, and touched by nothing else.
        class_names: One per class, in label order; empty for regression.
    """

    name: str
    train: Samples
    validation: Samples
    test: Samples
    class_names: tuple[str, ...] = ()


def split(
    x: np.ndarray,
    y: np.ndarray,
    *,
    name: str = "data",
    test: float = 0.2,
    validation: float = 0.2,
    seed: int = 0,
    class_names: Sequence[str] = (),
    stratify: bool = True,
) -> Data:
    """Split examples three ways at random.

    Args:
        x: Array of shape (examples, ...).
        y: Array of shape (examples, ...), class numbers or values.
        name: What to call the data in a report.
        test: Fraction held out for reporting. Defaults to 0.2.
        validation: Fraction of all examples held out for choices. Defaults to 0.2.
        seed: Seed of the shuffle; the same seed gives the same split.
        class_names: One per class, in label order.
        stratify: Keep every class's share in each part; for class numbers only.

    Returns:
        A `Data`.

    Raises:
        InputError: for empty data, fractions that leave nothing to train on, or a class
            with too few examples for each part.
    """
    from sklearn.model_selection import train_test_split

    everything = Samples(np.asarray(x), np.asarray(y))
    if not (0 < test < 1 and 0 < validation < 1 and test + validation < 1):
        raise InputError(
            f"{argument('test', test)} and {argument('validation', validation)} must be fractions "
            "> 0 that leave some examples to train on."
        )
    try:
        rest_x, test_x, rest_y, test_y = train_test_split(
            everything.x,
            everything.y,
            test_size=test,
            random_state=seed,
            stratify=everything.y if stratify else None,
        )
        train_x, validation_x, train_y, validation_y = train_test_split(
            rest_x,
            rest_y,
            test_size=validation / (1 - test),
            random_state=seed,
            stratify=rest_y if stratify else None,
        )
    except ValueError as error:
        raise InputError(f"The data can't be split three ways: {error}") from error
    return Data(
        name,
        Samples(train_x, train_y),
        Samples(validation_x, validation_y),
        Samples(test_x, test_y),
        tuple(class_names),
    )


def load_digits(seed: int = 0) -> Data:
    """Return scikit-learn's 1,797 handwritten digits, 8×8 pixels, split 60/20/20.

    They ship inside scikit-learn (UCI, Alpaydin and Kaynak 1998), so nothing is downloaded.

    Args:
        seed: Seed of the split.

    Returns:
        `x` float32 of shape (n, 8, 8, 1) in [0, 1], `y` int64 class numbers 0 to 9.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    x = (digits.images[..., None] / 16.0).astype("float32")
    return split(
        x,
        digits.target,
        name="scikit-learn digits",
        seed=seed,
        class_names=[str(label) for label in digits.target_names],
    )


def load_npz(path, *, validation: float = 0.1, seed: int = 0) -> Data:
    """Read an `.npz` file with `x_train, y_train, x_test, y_test` (Keras's own layout).

    It may also hold an array `class_names` of texts, one per class in label order. Pickled
    objects in the file are refused, so reading it runs nothing.

    Args:
        path: The file.
        validation: Fraction of the training part to hold out for choices.
        seed: Seed of that split.

    Raises:
        InputError: if the file can't be read, an array is missing, or lengths differ.
    """
    from sklearn.model_selection import train_test_split

    wanted = ("x_train", "y_train", "x_test", "y_test")
    path = pathlib.Path(path)
    try:
        # Opened here: NumPy leaves a file that it can't read open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            raise_all(
                [f"{path.name} has no array {name!r}" for name in wanted if name not in archive],
                fix=f"Save it with np.savez({path.name!r}, x_train=..., y_train=..., ...).",
            )
            arrays = {name: archive[name] for name in wanted}
            names = archive["class_names"] if "class_names" in archive else np.empty(0, "U1")
    except InputError:
        raise
    except Exception as error:  # whatever NumPy or zipfile raise for a damaged file
        reason = str(error)
        if "pickle" in reason:  # NumPy's words for whatever it does not know; it advises to load it
            reason = "it is no .npz file, or holds Python objects, which are not loaded"
        raise InputError(f"Cannot read {str(path)!r} as .npz: {reason}.") from error
    raise_all(
        f"{name} in {path.name} must be an array of numbers or texts, got "
        f"{array.dtype if isinstance(array, np.ndarray) else 'bytes that are none'}"
        for name, array in {**arrays, "class_names": names}.items()
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufcSU"
    )
    if names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(
            f"class_names in {path.name} must be texts of shape (classes,), got {names.dtype} "
            f"of shape {names.shape}."
        )
    train = Samples(arrays["x_train"], arrays["y_train"])
    try:
        train_x, validation_x, train_y, validation_y = train_test_split(
            train.x, train.y, test_size=validation, random_state=seed
        )
    except ValueError as error:
        raise InputError(f"The training data can't be split: {error}") from error
    return Data(
        path.stem,
        Samples(train_x, train_y),
        Samples(validation_x, validation_y),
        Samples(arrays["x_test"], arrays["y_test"]),
        tuple(map(str, names)),
    )


def representative(samples: Samples, count: int = 200, seed: int = 0) -> np.ndarray:
    """Draw examples for int8 calibration, as evenly over the classes as they come.

    Args:
        samples: The training part; class numbers of shape (examples,) or (examples, 1) and
            one-hot rows are told apart, anything else is drawn from at random.
        count: How many at most; 100 to 500 settle the ranges.
        seed: Seed of the draw.

    Returns:
        Array of shape (count, ...).
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    labels = np.asarray(samples.y)
    if is_one_hot(labels):
        labels = labels.argmax(-1)
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        # Sorting by "how many of this class came before me" deals the classes out in turn.
        turn = np.empty(len(order), int)
        for label in np.unique(labels):
            of_class = labels[order] == label
            turn[of_class] = np.arange(of_class.sum())
        order = order[np.argsort(turn, kind="stable")]
    return np.asarray(samples.x)[np.sort(order[:count])]


def is_one_hot(y) -> bool:
    """Tell whether labels are rows of zeros with a single one: shape (examples, classes)."""
    y = np.asarray(y)
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "biuf":
        return False
    return bool(((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all())
