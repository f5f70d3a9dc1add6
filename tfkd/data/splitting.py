"""`split`: examples into three parts at random; and the digits that scikit-learn ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfkd.data import labels
from tfkd.data.outputs import Labels, each
from tfkd.data.rows import Rows, taken
from tfkd.data.samples import Data, Samples
from tfkd.errors import InputError, argument


def split(
    x: np.ndarray | Rows,
    y: Labels,
    *,
    name: str = "data",
    test: float = 0.2,
    validation: float = 0.2,
    seed: int = 0,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] = (),
    stratify: bool = True,
) -> Data:
    """Split examples three ways at random.

    Args:
        x: Array of shape (examples, ...). A `numpy.memmap` or `Rows` is not read.
        y: Array of shape (examples, ...), class numbers or values; for several outputs, a dict of
            them by name.
        name: What to call the data in a report.
        test: Fraction held out for reporting. Defaults to 0.2.
        validation: Fraction of all examples held out for choices. Defaults to 0.2.
        seed: Seed of the shuffle; the same seed gives the same split.
        class_names: One per class, in label order; for several outputs, a dict by name.
        stratify: Keep every class's share in each part; for class numbers only, and not for
            several outputs.

    Returns:
        A `Data`.

    Raises:
        InputError: for empty data, fractions that leave nothing to train on, or a class
            with too few examples for each part.
    """
    everything = Samples(x if isinstance(x, Rows) else np.asanyarray(x), each(np.asarray, y))
    stratify = stratify and not everything.outputs
    if not isinstance(class_names, Mapping):
        class_names = tuple(class_names)
    if not (0 < test < 1 and 0 < validation < 1 and test + validation < 1):
        raise InputError(
            f"{argument('test', test)} and {argument('validation', validation)} must be fractions "
            "> 0 that leave some examples to train on."
        )
    what = "The data can't be split three ways"
    rest, last = cut(everything, test, seed, stratify, what)
    return Data(name, *cut(rest, validation / (1 - test), seed, stratify, what), last, class_names)


def cut(
    samples: Samples, share: float, seed: int, stratify: bool, what: str
) -> tuple[Samples, Samples]:
    """Return two parts of examples, drawn at random.

    Args:
        samples: All of them.
        share: Share of the second part, in (0, 1).
        seed: Seed of the draw.
        stratify: Whether each class has its share in both parts.
        what: Start of the error message if that is impossible.
    """
    from sklearn.model_selection import train_test_split

    try:
        parts = train_test_split(
            np.arange(len(samples)),
            test_size=share,
            random_state=seed,
            stratify=samples.y if stratify else None,
        )
    except ValueError as error:
        raise InputError(f"{what}: {error}") from error
    first, second = (
        Samples(taken(samples.x, rows), each(lambda y, r=rows: y[r], samples.y)) for rows in parts
    )
    return first, second


def share_of(part: str, given: float | None, otherwise: float, there: bool) -> float:
    """Return which share of the examples a part gets.

    Args:
        part: `"test"` or `"validation"`, which is also the name of the option.
        given: The caller's value, or `None`.
        otherwise: The share to use then.
        there: Whether the data has that part, so that nothing is cut.

    Raises:
        InputError: if a share is given for a part that the data has.
    """
    if given is not None and there:
        raise InputError(
            f"{argument(part, given)} does not apply: the data has its own {part} part. Leave it "
            "out."
        )
    return otherwise if given is None else given


def can_stratify(y: Labels, share: float) -> bool:
    """Tell whether each class has enough examples to be in each part.

    Args:
        y: Labels (examples, ...).
        share: Share of the smallest part, in (0, 1).
    """
    if not labels.are_classes(y):
        return False
    _, counts = np.unique(labels.class_numbers(y), return_counts=True)
    return bool(counts.min() * share >= 1) and counts.min() >= 5


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
