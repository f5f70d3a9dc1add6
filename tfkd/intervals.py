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


def paired_shares(one: Sequence[bool], other: Sequence[bool]) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares of the same examples.

    Of the examples only those count that one has right and the other wrong. Half an example is
    added to each cell of the 2×2 table, so that no such example does not mean no doubt (Agresti
    and Min 2005, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24).

    Args:
        one: Whether each example is right, shape (examples,).
        other: The same by another model, in the same order.

    Returns:
        The interval of the share of `one` minus that of `other`, in [-1, 1].

    Example:
        >>> low, high = paired_shares([True] * 9 + [False], [True] * 8 + [False] * 2)
        >>> f"{low:.3f} {high:.3f}"
        '-0.143 0.309'
    """
    ours, theirs = np.asarray(one, bool), np.asarray(other, bool)
    won, lost = int((ours & ~theirs).sum()) + 0.5, int((~ours & theirs).sum()) + 0.5
    count = len(ours) + 2
    centre = (won - lost) / count
    spread = _Z * math.sqrt(max(won + lost - (won - lost) ** 2 / count, 0.0)) / count
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
