"""Types in public signatures, for type checkers and editors; nothing reads them at runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf
    import tf_keras

PathLike: TypeAlias = "str | os.PathLike[str]"
#: A model of either Keras.
AnyModel: TypeAlias = "keras.Model | tf_keras.Model"


class TFLiteFile(Protocol):
    """A `tfkd.export.TFLiteModel`, which this file may not import."""

    @property
    def data(self) -> bytes:
        """The bytes of the file."""

    def input_arrays(self, x: Any) -> list[np.ndarray]:
        """Return the arrays that the file takes."""


#: Any teacher that `Distiller` accepts.
AnyTeacher: TypeAlias = (
    "AnyModel | PathLike | TFLiteFile | Callable[..., Any] | np.ndarray | Sequence[Any] "
    "| Mapping[str, Any]"
)
#: Examples: an array, several by place or by name, or a pipeline of these.
Arrays: TypeAlias = "np.ndarray | tf.data.Dataset | Sequence[Any] | Mapping[str, Any]"
#: Names of layers, paths in nested models, or regular expressions.
Names: TypeAlias = "str | Sequence[str]"
Shape: TypeAlias = "tuple[int | None, ...]"

Format: TypeAlias = Literal["float32", "float16", "dynamic", "int8", "int16x8", "int4"]
Recurrent: TypeAlias = Literal["auto", "fused", "unrolled", "loop", "step"]
Criterion: TypeAlias = (
    'Literal["l1", "l2", "bn_scale", "taylor", "random"] | Callable[..., np.ndarray]'
)


class TrainingOptions(TypedDict, total=False):
    """The attributes of `Training`, as keywords."""

    epochs: int
    learning_rate: float
    batch_size: int
    optimizer: Literal["adam", "sgd"]
    augment: Callable[[Any], Any] | None
    seed: int


class SpiralOptions(TrainingOptions, total=False):
    """Keyword arguments of `spiral` beside its named ones."""

    max_drop: float | None


class ModelOptions(TypedDict, total=False):
    """Keyword arguments of every Keras model."""

    name: str
    dtype: Any
    trainable: bool
