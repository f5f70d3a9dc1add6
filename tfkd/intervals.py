"""How sure a share is: one interval for scores, reports and pictures."""

from __future__ import annotations

import math


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share seen in `count` trials (Wilson 1927).

    Args:
        share: In [0, 1].
        count: Of how many it is a share.
    """
    z = 1.959964
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale
