"""Boxes of detection.py: checked, as labels for its heads, and decoded and scored as answers."""

import numpy as np

import tfkd

STRIDE = 4  # pixels a cell of the grid: the cell in the middle of an object answers for it


def check_boxes(boxes, height, width):
    """Raise for boxes (boxes, 4) that are not x1, y1, x2, y2 in pixels of their image."""
    if boxes.dtype.kind not in "iuf":
        raise tfkd.InputError(f"The boxes are {boxes.dtype}.")
    first, last = np.split(boxes.astype("float64"), 2, axis=1)
    middle = (first + last) / 2
    fits = (first < last) & (middle >= 0) & (middle < (width, height))
    if not fits.all():
        raise tfkd.InputError(
            f"The box {boxes[~fits.all(1)][0]} has no x1 < x2 and y1 < y2 with a middle in the "
            f"image of {height} x {width} pixels."
        )
    if last.max() <= 1:
        raise tfkd.InputError("The boxes seem to be fractions: multiply them by width and height.")


def targets(x, boxes, classes):
    """Return labels of both heads, and the cells in which the boxes count.

    A box is the distances of its left, top, right and bottom edges from the middle of its cell,
    in cells.
    """
    grid = (len(x), x.shape[1] // STRIDE, x.shape[2] // STRIDE)
    labels, edges = np.zeros(grid, "int32"), np.zeros((*grid, 4), "float32")
    image, which = np.nonzero(classes >= 0)
    box = boxes[image, which] / STRIDE
    column, row = ((box[:, i] + box[:, i + 2]).astype(int) // 2 for i in (0, 1))
    middle = np.stack([column, row], 1) + 0.5
    labels[image, row, column] = classes[image, which] + 1  # 0 is none
    edges[image, row, column] = np.concatenate([middle - box[:, :2], box[:, 2:] - middle], 1)
    return {"classes": labels, "boxes": edges}, (labels > 0).astype("float32")


def overlap(box, others):
    """Return intersection over union of a box and others."""
    inner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inner = inner.clip(0).prod(-1)
    sizes = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(-1)
    return inner / np.maximum(sum(sizes) - inner, 1e-9)


def decode(logits, edges, least=0.05):
    """Return boxes in pixels, classes and scores of an image; of overlapping boxes the best."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    odds = (odds / odds.sum(-1, keepdims=True))[..., 1:]
    row, column = np.nonzero(odds.max(-1) > least)
    middle = np.stack([column, row], 1) + 0.5
    edges, odds, kept = edges[row, column], odds[row, column], []
    boxes = STRIDE * np.concatenate([middle - edges[:, :2], middle + edges[:, 2:]], 1)
    for i in np.argsort(-odds.max(-1)):
        if not kept or overlap(boxes[i], boxes[kept]).max() < 0.5:
            kept.append(i)
    return boxes[kept], odds[kept].argmax(-1), odds[kept].max(-1)


def average_precision(answers, boxes, classes):
    """Return the area under precision over recall in %, over all classes together (IoU 0.5)."""
    found = []
    for logits, edges, true, label in zip(
        answers["classes"], answers["boxes"], boxes, classes, strict=True
    ):
        free = label >= 0  # each object is found once
        for box, kind, score in zip(*decode(logits, edges), strict=True):
            fits = np.where(free & (label == kind), overlap(box, true), 0)
            found.append((score, fits.max() >= 0.5))
            free[fits.argmax()] &= fits.max() < 0.5
    hits = np.array([hit for _, hit in sorted(found, key=lambda pair: -pair[0])])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return 100 * float(
        (np.maximum.accumulate(precision[::-1])[::-1] * hits).sum() / (classes >= 0).sum()
    )
