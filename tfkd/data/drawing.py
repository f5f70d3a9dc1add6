"""`representative` examples, spread over the classes as evenly as possible."""

from __future__ import annotations

import numpy as np

from tfkd.data import labels as labels_
from tfkd.data.samples import Part, Samples


def representative(samples: Part, count: int = 200, seed: int = 0) -> np.ndarray:
    """Draw examples for int8 calibration, spread over the classes as evenly as possible.

    Args:
        samples: The training part; class numbers of shape (examples,) or (examples, 1) and one-hot
            rows give the classes. Anything else, also labels of several outputs, is drawn from at
            random. A `Stream` is read once, and at most `count` of its examples and a batch are
            held in memory.
        count: The largest number of examples; 100 to 500 settle the ranges.
        seed: Seed of the draw.

    Returns:
        Array of shape (count, ...).
    """
    if not isinstance(samples, Samples):
        return _from_stream(samples, count, np.random.default_rng(seed))
    order = np.random.default_rng(seed).permutation(len(samples))
    labels = samples.labels
    if labels_.are_classes(labels):
        labels = labels_.class_numbers(labels)
        # Sorting by the count of earlier examples of the same class deals the classes out in turn.
        turn = np.empty(len(order), int)
        for label in np.unique(labels):
            of_class = labels[order] == label
            turn[of_class] = np.arange(of_class.sum())
        order = order[np.argsort(turn, kind="stable")]
    return samples.at(np.sort(order[:count])).x


def _from_stream(stream: Part, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from batches into a reservoir with an equal share for each class.

    Each class keeps a random sample of its examples so far. If the reservoir is full, the class
    with the most examples gives one up (Chrysakis and Moens, 2020).
    """
    held: dict[int, list[np.ndarray]] = {}
    seen: dict[int, int] = {}
    full: set[int] = set()  # classes that once held the most places
    are_classes = labels_.are_classes(stream.labels)
    for batch in stream.batches(stream.at_once(), again=False):
        numbers = labels_.class_numbers(batch.y) if are_classes else np.zeros(len(batch), int)
        for x, label in zip(batch.x, numbers.tolist(), strict=True):
            mine = held.setdefault(label, [])
            seen[label] = seen.get(label, 0) + 1
            if sum(map(len, held.values())) < count:
                mine.append(x.copy())
                continue
            most = max(map(len, held.values()))
            full |= {one for one, rows in held.items() if len(rows) == most}
            if label not in full:
                other = held[max(held, key=lambda one: len(held[one]))]
                other.pop(int(rng.integers(len(other))))
                mine.append(x.copy())
            elif (place := int(rng.integers(seen[label]))) < len(mine):
                mine[place] = x.copy()
    return np.stack([x for label in sorted(held) for x in held[label]])
