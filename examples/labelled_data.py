"""What several examples ask of their data before they train: numbers in x, class numbers in y."""

import numpy as np

import tfkd
from tfkd.data import load_digits

LAYOUT = """Expected: an .npz file with x (examples, ...) and y (examples,), class numbers or names:
np.savez("mine.npz", x=np.random.rand(500, 64), y=np.random.randint(0, 10, 500))"""


def read_npz(path, *names):
    """Return some arrays of an .npz file."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return [file[name] for name in names]
    except Exception as error:  # whatever NumPy or zipfile raise for another or a damaged file
        names = ", ".join(names)
        raise tfkd.InputError(f"{path} can't be read as .npz with {names}: {error}.") from None


def check_numbers(x):
    """Raise for examples that hold texts, NaN or infinite values."""
    if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
        raise tfkd.InputError(
            f"x ({x.dtype}) must hold finite numbers only: leave out or fill in what has none."
        )


def count_classes(train, *others, least=2):
    """Return how many classes there are; labels must be 0, 1, ..., all in the training part."""
    seen, every = np.unique(train), np.unique(np.concatenate([train, *others]))
    if len(seen) < least or not np.array_equal(every, np.arange(len(seen))):
        seen, every = (", ".join(map(str, labels[:9])) for labels in (seen, every))
        raise tfkd.InputError(
            f"The classes are {every}, in the training part {seen or 'none'}: number {least} or "
            "more from 0, without gaps, with training examples of each."
        )
    return len(seen)


def parts_of(data):
    """Return (x, class numbers) of training, validation and test, in memory, and the classes."""
    parts = []
    for part in (data.train, data.validation, data.test):
        part = part.at(slice(None))  # images of a folder are read here
        y = np.asarray(part.y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1 or y.dtype.kind not in "biuf" or (y != y.astype("int64")).any():
            raise tfkd.InputError(f"The labels are {y.dtype} of shape {y.shape}.")
        check_numbers(part.x)
        parts.append((part.x, y.astype("int64")))
    return parts, count_classes(*(y for _, y in parts))


def scaled(train, *others):
    """Return arrays in [0, 1] by the least and the greatest value of the first, as float32."""
    least, most = float(train.min()), float(train.max())
    span = max(most - least, 1e-9)
    return [((x.astype("float64") - least) / span).astype("float32") for x in (train, *others)]


def scaled_parts(data=None):
    """Return three parts of (x in [0, 1], class numbers), and how many classes there are."""
    parts, classes = parts_of(tfkd.as_data(data or load_digits()))
    x, y = zip(*parts, strict=True)
    return list(zip(scaled(*x), y, strict=True)), classes
