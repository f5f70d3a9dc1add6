"""How sure a share or a difference is: the intervals of scores, reports and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_Z = 1.959964


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share seen in `count` trials (Wilson 1927).

    Args:
        share: In [0, 1].
        count: Number of trials.
    """
    z = _Z
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale


def by_example(values: Sequence[float], rows: Sequence[int] | None) -> np.ndarray:
    """Return numbers of elements (steps, pixels, labels) as one an example, with the same mean.

    The elements of an example are alike, so that an interval has to count examples. If examples
    have different numbers of elements, the mean is a ratio of two sums, and an example's number is
    its linear part in that ratio (Cochran 1977, "Sampling Techniques", section 6.4).

    Args:
        values: A number for each element.
        rows: The example of each element; `None` if each is an example of its own.

    Example:
        >>> by_example([1, 0, 1, 1], [0, 0, 1, 1])
        array([0.5, 1. ])
    """
    values = np.asarray(values, "float64")
    if rows is None:
        return values
    sums, counts = np.bincount(rows, values), np.bincount(rows)
    sums, counts = sums[counts > 0], counts[counts > 0]
    mean = values.mean()
    return mean + (sums - counts * mean) / counts.mean()


def paired_shares(
    one: Sequence[bool], other: Sequence[bool], rows: Sequence[int] | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares of the same examples.

    Of the examples only those count that one has right and the other wrong. Half an example is
    added to each cell of the 2×2 table, so that no such example does not mean no doubt (Agresti
    and Min 2005, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24). An example of several elements counts by its share of them, and
    half an element is added.

    Args:
        one: Whether each element is right, shape (elements,).
        other: The same by another model, in the same order.
        rows: The example of each element, as for `by_example`.

    Returns:
        The interval of the share of `one` minus that of `other`, in [-1, 1].

    Example:
        >>> low, high = paired_shares([True] * 9 + [False], [True] * 8 + [False] * 2)
        >>> f"{low:.3f} {high:.3f}"
        '-0.143 0.309'
    """
    ours, theirs = np.asarray(one, bool), np.asarray(other, bool)
    gaps = by_example(ours.astype("float64") - theirs, rows)
    count, total = len(gaps) + 2, float(gaps.sum())
    added = (len(gaps) / max(len(ours), 1)) ** 2
    centre = total / count
    squares = float(np.square(gaps).sum()) + added - total**2 / count
    spread = _Z * math.sqrt(max(squares, 0.0)) / count
    return max(centre - spread, -1.0), min(centre + spread, 1.0)


def paired_means(gaps: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean of differences, one an example (normal, paired).

    Args:
        gaps: Each example's difference, shape (examples,).

    Returns:
        The interval, `None` for fewer than two examples.
    """
    values = np.asarray(gaps, "float64")
    if len(values) < 2:
        return None
    spread = _Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    centre = float(values.mean())
    return centre - spread, centre + spread
