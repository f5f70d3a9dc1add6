"""Folders of images, one for each class, read on demand."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfkd.data.labels import numbered
from tfkd.data.outputs import shown
from tfkd.data.rows import Rows
from tfkd.data.samples import PARTS, Data, Samples
from tfkd.data.splitting import can_stratify, cut, share_of, split
from tfkd.errors import InputError, argument

if TYPE_CHECKING:
    from tfkd._typing import PathLike

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
#: Names of the folders of parts.
_CALLED = {**{name: name for name in PARTS}, "val": "validation", "valid": "validation"}
_WANTED = (
    "a folder of images for each class, or folders train, validation and test (validation may be "
    "missing) that contain such folders"
)


def load_images(
    path: PathLike,
    size: tuple[int, int] | None = None,
    *,
    test: float | None = None,
    validation: float | None = None,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> Data:
    """Return the images of a folder, which stay on disk; `x` is `Rows` of them.

    Classes are the folders inside it, in the order of `class_names` or else in alphabetical order.
    Images are files that end in .png, .jpg, .jpeg, .bmp or .gif (its first frame). Values are
    float32 from 0 to 255, as in Keras's `image_dataset_from_directory`. All have the channels of
    the first image: gray ones are repeated for three.

    Args:
        path: A folder for each class with its images, or folders `train`, `validation` and
            `test` with such folders. `validation` may be called `val` or `valid`. Without it, that
            part is cut from `train`.
        size: Height and width that images are resized to. Defaults to the first image's, which
            all others, those of the other parts too, must then have.
        test: Fraction held out for reporting, if there are no folders of parts. Defaults to 0.2.
        validation: Fraction of all examples held out for choices, likewise; with only `train` and
            `test`, 0.1 of `train`.
        seed: Seed of the split.
        class_names: The folders' names, in the order of the class numbers.

    Raises:
        InputError: for a folder without images, parts with other classes, folders of images that no
            part reads, a share of a part that exists, or an image that can't be read, has another
            size, or is in colour after a gray one; the last three are raised when it is read.
    """
    path = pathlib.Path(path)
    by_part = _parts_of(path)
    test = share_of("test", test, 0.2, there="test" in by_part)
    otherwise = 0.1 if by_part else 0.2
    validation = share_of("validation", validation, otherwise, there="validation" in by_part)
    if not by_part:
        files, y, names = _listed(path, class_names)
        return split(
            ImageFiles.rows(files, size), y, name=path.name, test=test, validation=validation,
            seed=seed, class_names=names, stratify=can_stratify(y, min(test, validation)),
        )  # fmt: skip
    parts, names, shape = {}, None, None
    for part, folder in by_part.items():
        files, y, found = _listed(folder, class_names)
        if names not in (None, found):
            raise InputError(
                f"{part} in {str(path)!r} has the classes {', '.join(found)}, but train has "
                f"{', '.join(names)}; give each part a folder for every class."
            )
        names = found
        rows = ImageFiles.rows(files, size, shape)
        shape = rows.shape[1:]
        parts[part] = Samples(rows, y)
    if "validation" not in parts:
        y = parts["train"].y
        parts["train"], parts["validation"] = cut(
            parts["train"], validation, seed, can_stratify(y, validation), "train can't be split"
        )
    return Data(path.name, *(parts[name] for name in PARTS), names)


def _parts_of(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the folder of each part; none if the folders are those of classes.

    Raises:
        InputError: for data without a training or test part, and folders that would not be read.
    """
    if not any((path / name).is_dir() for name in PARTS):
        return {}
    folders = [one for one in sorted(path.iterdir()) if one.is_dir() and one.name[0] != "."]
    found = {_CALLED[one.name]: one for one in folders if one.name in _CALLED}
    if not {"train", "test"} <= set(found):
        raise InputError(
            f"{str(path)!r} has only {shown([one.name for one in found.values()])}; give {_WANTED}."
        )
    classes = {one.name for one in found["train"].iterdir() if one.is_dir()}
    left = [
        one.name for one in folders if one not in found.values() and _holds_classes(one, classes)
    ]
    if left:
        raise InputError(
            f"{str(path)!r} has folders of images in {shown(left)} too, which tfkd does not read: "
            "call the parts train, validation and test, and move other folders out of it."
        )
    return {part: found[part] for part in PARTS if part in found}


def _holds_classes(folder: pathlib.Path, classes: set[str]) -> bool:
    """Tell whether a folder has folders with images that are called as classes are."""
    return any(
        one.suffix.lower() in _SUFFIXES and one.parent.name in classes for one in folder.glob("*/*")
    )


def _listed(folder: pathlib.Path, class_names=()) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Return the files of all classes, their class numbers and the classes' names."""
    classes = sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] != ".")
    files, y = [], []
    for number, one in enumerate(classes):
        found = sorted(str(f) for f in one.rglob("*") if f.suffix.lower() in _SUFFIXES)
        if not found:
            raise InputError(f"{str(one)!r} holds no images ({', '.join(_SUFFIXES)}).")
        files += found
        y += [number] * len(found)
    if not files:
        raise InputError(f"{str(folder)!r} holds no folders with images; give {_WANTED}.")
    named = np.array([one.name for one in classes])
    return files, *numbered(named[y], class_names)


class ImageFiles:
    """Images as an array (files, height, width, channels) of float32 that is read by rows.

    Args:
        files: Their paths.
        size: Height and width that each is resized to, or `None` to take them as they are.
        shape: Shape of an image as it is read.
    """

    dtype = np.dtype("float32")

    def __init__(self, files: list[str], size, shape: tuple[int, int, int]):
        self.files, self.size = np.array(files), size
        self.shape = (len(files), *shape)

    @classmethod
    def rows(cls, files: list[str], size=None, shape=None) -> Rows:
        """Return all images as `Rows`.

        Args:
            files: Their paths.
            size: Height and width that each is resized to, or `None` to take them as they are.
            shape: Shape of an image. Defaults to that of the first one.

        Raises:
            InputError: for a first image that can't be read or does not fit.
        """
        size = None if size is None else tuple(map(int, size))
        if shape is None:
            first = _decoded(files[0]).shape
            shape = (*(size or first[:2]), first[2])
        images = cls(files, size, shape)
        images._read(files[0])
        return Rows(images)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, rows) -> np.ndarray:
        return np.stack([self._read(str(path)) for path in self.files[rows]])

    def _read(self, path: str) -> np.ndarray:
        import tensorflow as tf

        image = _with_channels(path, _decoded(path), self.shape[-1])
        if self.size is not None:
            return tf.image.resize(image, self.size).numpy()
        if image.shape != self.shape[1:]:
            raise InputError(
                f"{path!r} has {image.shape[0]} × {image.shape[1]} pixels, and the first image "
                f"has {self.shape[1]} × {self.shape[2]}: give "
                f"{argument('size', like='(height, width)')} to resize all of them."
            )
        return image.astype("float32")


def _with_channels(path: str, image, channels: int):
    """Return an image with one channel or three."""
    if image.shape[-1] < channels:
        return np.repeat(image, channels, -1)
    if image.shape[-1] > channels and (image != image[..., :1]).any():
        raise InputError(
            f"{path!r} is in colour, but the first image is gray, and the others get its channels: "
            "save the first one in colour, or this one in gray."
        )
    return image[..., :channels]


def _decoded(path: str) -> np.ndarray:
    """Return an image as uint8 of shape (height, width, channels), 1 or 3, without transparency."""
    import tensorflow as tf

    try:
        content = tf.io.read_file(path)
        image = tf.io.decode_image(content, expand_animations=False).numpy()
        return image[..., : 3 if image.shape[-1] > 2 else 1]  # a second or fourth is transparency
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise InputError(f"Cannot read {path!r} as an image: {reason}.") from None
