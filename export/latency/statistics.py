"""The uncertainty of a measurement: bootstrap intervals that respect dependent values.

Neighbouring calls share the state of the machine, and all calls of one process share its memory
layout (Mytkowicz et al. 2009, "Producing wrong data without doing anything obviously wrong!").
Intervals that treat calls as independent are far too narrow, and so are intervals from one
process, however long it runs. So the bootstrap resamples at both levels
(Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time"): processes, and within each
of them blocks of neighbouring turns (moving blocks, Künsch 1989).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_RESAMPLES = 1000
# Approximate numbers per resample; a median needs no more.
_POINTS = 8192
_MOST_OF_A_TURN = 64


def mean(values) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of independent values with its 95 % interval, by Student's distribution.

    Args:
        values: One or more numbers, such as paired differences of several seeds. A single one
            gives no interval.
    """
    from scipy.special import stdtrit

    values = np.asarray(values, "float64")
    centre, count = float(values.mean()), len(values)
    if count < 2:
        return centre, None
    half = float(stdtrit(count - 1, 0.975) * values.std(ddof=1)) / math.sqrt(count)
    return centre, (centre - half, centre + half)


def median(times: list[list[np.ndarray]], seed: int) -> tuple[float, tuple[float, float]]:
    """Return the median of all calls with its 95 % interval.

    Args:
        times: The time of every call, as `times[process][turn]`. All processes have the same
            number of turns.
        seed: Seed of the sampling.
    """
    turns = len(times) * len(times[0])
    fewest = min(len(turn) for process in times for turn in process)
    count = int(np.clip(_POINTS // turns, 1, min(fewest, _MOST_OF_A_TURN)))
    levels = (np.arange(count) + 0.5) / count
    shapes = np.array([[np.quantile(turn, levels) for turn in process] for process in times])
    centre = float(np.median(np.concatenate([turn for process in times for turn in process])))
    samples = [np.median(shapes[drawn]) for drawn in _draws(*shapes.shape[:2], seed)]
    return centre, _interval(np.log(centre), np.log(samples), len(times))


def ratio(turns: np.ndarray, baseline: np.ndarray, seed: int) -> tuple[float, tuple[float, float]]:
    """Return how many times as long as the baseline a file takes, with the 95 % interval.

    Each turn of the file is compared with the baseline's turn beside it, so that a drift of
    the machine cancels. The result is the median of these ratios, so that a disturbance of one
    of the two does not count. For one file against itself, with another program on the second
    core, this result scattered ten times less than the quotient of the two medians.

    Args:
        turns: Median of each turn, (processes, turns).
        baseline: The same of the baseline; `baseline[p, t]` was measured next to `turns[p, t]`.
        seed: Seed of the sampling.
    """
    differences = np.log(turns) - np.log(baseline)
    centre = float(np.median(differences))
    samples = [np.median(differences[drawn]) for drawn in _draws(*turns.shape, seed)]
    return math.exp(centre), _interval(centre, np.array(samples), len(turns))


def _draws(processes: int, turns: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield indices of resamples: processes, and blocks of turns within each."""
    block = max(1, round(turns ** (1 / 3)))
    blocks = -(-turns // block)
    rng = np.random.default_rng(seed)
    for _ in range(_RESAMPLES):
        starts = rng.integers(turns - block + 1, size=(processes, blocks, 1))
        of_each = (starts + np.arange(block)).reshape(processes, -1)[:, :turns]
        yield rng.integers(processes, size=(processes, 1)), of_each


def _interval(centre: float, samples: np.ndarray, processes: int) -> tuple[float, float]:
    """Return the 95 % interval of a value, given the logarithms `centre` and `samples`.

    A few processes underestimate how much processes differ, so the interval is widened by the
    ratio of Student's distribution to the normal one.
    """
    from scipy.special import ndtri, stdtrit

    wider = stdtrit(processes - 1, 0.975) / ndtri(0.975) if processes > 1 else 1.0
    low, high = np.percentile(samples, [2.5, 97.5])
    return (
        math.exp(centre - wider * max(0.0, centre - low)),
        math.exp(centre + wider * max(0.0, high - centre)),
    )
