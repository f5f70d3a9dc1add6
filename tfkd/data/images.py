"""Folders of images, one for each class, read on demand."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfkd.data.labels import numbered
from tfkd.data.rows import Rows
from tfkd.data.samples import PARTS, Data, Samples
from tfkd.data.splitting import can_stratify, cut, share_of, split
from tfkd.errors import InputError, argument

if TYPE_CHECKING:
    from tfkd._typing import PathLike

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
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
    float32 from 0 to 255, as in Keras's `image_dataset_from_directory`.

    Args:
        path: A folder for each class with its images, or folders `train`, `validation` and
            `test` with such folders. Without a `validation` folder, that part is cut from `train`.
        size: Height and width that images are resized to. Defaults to the first image's, which
            all others must then have.
        test: Fraction held out for reporting, if there are no folders of parts. Defaults to 0.2.
        validation: Fraction of all examples held out for choices, likewise; with only `train` and
            `test`, 0.1 of `train`.
        seed: Seed of the split.
        class_names: The folders' names, in the order of the class numbers.

    Raises:
        InputError: for a folder without images, parts with other classes, a share of a part that
            exists, or an image that can't be read or has another size; the last two are raised when
            the image is read.
    """
    path = pathlib.Path(path)
    by_part = {name: path / name for name in PARTS if (path / name).is_dir()}
    test = share_of("test", test, 0.2, there="test" in by_part)
    otherwise = 0.1 if by_part else 0.2
    validation = share_of("validation", validation, otherwise, there="validation" in by_part)
    if not by_part:
        files, y, names = _listed(path, class_names)
        return split(
            ImageFiles.rows(files, size), y, name=path.name, test=test, validation=validation,
            seed=seed, class_names=names, stratify=can_stratify(y, min(test, validation)),
        )  # fmt: skip
    if not {"train", "test"} <= set(by_part):
        raise InputError(
            f"{str(path)!r} has only the folder {next(iter(by_part))!r}; give {_WANTED}."
        )
    parts, names, source = {}, None, None
    for part, folder in by_part.items():
        files, y, found = _listed(folder, class_names)
        if names not in (None, found):
            raise InputError(
                f"{part} in {str(path)!r} has the classes {', '.join(found)}, but train has "
                f"{', '.join(names)}; give each part a folder for every class."
            )
        names = found
        rows = ImageFiles.rows(files, size or (source and source.shape[1:3]))
        source = source or rows
        parts[part] = Samples(rows, y)
    if "validation" not in parts:
        y = parts["train"].y
        parts["train"], parts["validation"] = cut(
            parts["train"], validation, seed, can_stratify(y, validation), "train can't be split"
        )
    return Data(path.name, *(parts[name] for name in PARTS), names)


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
    def rows(cls, files: list[str], size=None) -> Rows:
        """Return all images as `Rows`, with the number of channels of the first image."""
        shape = _decoded(files[0]).shape
        size = None if size is None else tuple(map(int, size))
        return Rows(cls(files, size, (*(size or shape[:2]), shape[2])))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, rows) -> np.ndarray:
        return np.stack([self._read(str(path)) for path in self.files[rows]])

    def _read(self, path: str) -> np.ndarray:
        import tensorflow as tf

        image = _decoded(path, self.shape[-1])
        if self.size is not None:
            return tf.image.resize(image, self.size).numpy()
        if image.shape != self.shape[1:]:
            raise InputError(
                f"{path!r} has {image.shape[0]} × {image.shape[1]} pixels, and the first image "
                f"has {self.shape[1]} × {self.shape[2]}: give "
                f"{argument('size', like='(height, width)')} to resize all of them."
            )
        return image.numpy().astype("float32")


def _decoded(path: str, channels: int = 0):
    """Return an image as a uint8 tensor of shape (height, width, channels)."""
    import tensorflow as tf

    try:
        content = tf.io.read_file(path)
        image = tf.io.decode_image(content, channels=channels, expand_animations=False)
        return image[..., :3] if channels == 0 and image.shape[-1] == 4 else image
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise InputError(f"Cannot read {path!r} as an image: {reason}.") from None
