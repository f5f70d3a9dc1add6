"""Small nets of known kinds for a teacher's kind of input, in several widths.

    images (height, width, channels)   depthwise-separable, residual and inverted-residual nets
    sequences (steps, features)        Conv1D, GRU and LSTM
    token numbers (steps,)             the same behind an embedding
    vectors (features,)                dense layers

Token numbers are inputs that the teacher looks up as a whole. Where it looks up some columns only,
nets take all as amounts, which needs an input in floating point.

A net ends as the teacher does, in logits or in a softmax or sigmoid, so that a file's answers have
the same meaning as the teacher's.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfkd.compression import tokens as tokens_
from tfkd.compression.outputs import names_in
from tfkd.data.outputs import shown
from tfkd.distillation.teachers.sources import FunctionSource, source_of
from tfkd.errors import InputError, UnsupportedError
from tfkd.export.tflite.model import TFLiteModel
from tfkd.model import backends, binding, graph
from tfkd.model.layer_kinds import kind_of
from tfkd.output_kind import output_activations

# With the usual thirty steps per epoch, validation would lag behind at Keras's 0.99.
_MOMENTUM = 0.9
# Kinds of nets, or their ends, that skip masked steps.
_MASKED = ("gru", "lstm")


@dataclasses.dataclass(frozen=True)
class _Head:
    """One output of a student.

    Attributes:
        units: Units of its last layer.
        activation: `None` for logits and values, `"softmax"` or `"sigmoid"`.
    """

    units: int
    activation: str | None

    def __call__(self, x, name: str):
        x = keras.layers.Dense(self.units, name=name)(x)
        if self.activation is not None:
            end = name.replace("head", self.activation)
            x = keras.layers.Activation(self.activation, name=end)(x)
        return x


@dataclasses.dataclass(frozen=True)
class _End:
    """How a student ends.

    Attributes:
        heads: The outputs by the names of their labels; `None` is the key of a single one.
        each_step: Whether each step of a sequence has its own answer.
    """

    heads: dict[str | None, _Head]
    each_step: bool

    @classmethod
    def of(cls, teacher: Any, x: np.ndarray, end: Callable, names: Sequence[str]) -> _End:
        """Return the end of a teacher's students."""
        first = _first(teacher)
        if names:
            return cls._of_several(first, names)
        activation = None
        if backends.flavour(first) is not None:
            shape = first.output_shape
            activation = output_activations(first)[0] if isinstance(shape, tuple) else None
        else:
            answers = _answers(first, x[:2])
            shape = None if answers is None else np.asarray(answers).shape
            activation = end(shape) if shape and len(shape) > 1 else None
        if not isinstance(shape, tuple) or not all(isinstance(n, (int, type(None))) for n in shape):
            raise UnsupportedError(
                "The labels are one array, and tfkd has no student with several outputs for them; "
                "give a student."
            )
        if len(shape) == 1:
            raise InputError(
                "The teacher gives a number for each example, of shape (examples,): make it "
                "(examples, 1), as predict(x)[:, None] does."
            )
        if len(shape) not in (2, 3) or shape[-1] is None:
            raise UnsupportedError(
                f"tfkd has no student for answers of shape (examples, "
                f"{', '.join(map(str, shape[1:]))}); give a student."
            )
        return cls({None: _Head(shape[-1], _kept(activation))}, len(shape) == 3)

    @classmethod
    def _of_several(cls, teacher: Any, names: Sequence[str]) -> _End:
        """Return the end of students with an output for each of several labels."""
        if not graph.has_graph(teacher):
            raise UnsupportedError(
                f"The labels are for {shown(names)}, but the teacher has no graph that shows which "
                "outputs they belong to; give a student."
            )
        bound, activations = names_in(teacher, names), output_activations(teacher)
        shapes = [slot.shape for slot in binding.outputs_of(teacher).entries]
        heads: dict[str | None, _Head] = {}
        for name, shape, activation in zip(bound, shapes, activations, strict=True):
            if len(shape) != 2 or shape[-1] is None:
                raise UnsupportedError(
                    f"tfkd has no student for answers of shape (examples, "
                    f"{', '.join(map(str, shape[1:]))}), as {name!r} has; give a student."
                )
            heads[name] = _Head(shape[-1], _kept(activation))
        return cls(heads, False)

    def __call__(self, x):
        if None in self.heads:
            return self.heads[None](x, "head")
        ends = enumerate(self.heads.items())
        return {name: head(x, f"head_{number}") for number, (name, head) in ends}


def _kept(activation: str | None) -> str | None:
    """Return a teacher's activation if its students end in it too."""
    return activation if activation in ("softmax", "sigmoid") else None


def _first(teacher: Any) -> Any:
    """Return the first of several teachers, or the only one."""
    return teacher[0] if isinstance(teacher, (list, tuple)) else teacher


def _answers(teacher: Any, x: np.ndarray) -> Any:
    """Return the answers of a teacher that is not a Keras model; `None` for several outputs."""
    source = source_of(teacher, ())
    if isinstance(source, FunctionSource):
        found, _ = source(x if source.inputs is None else [x], None)
    else:
        found = teacher.predict(x) if isinstance(teacher, TFLiteModel) else source.answers(x)
    answers = list(graph.leaves(found))
    return answers[0] if len(answers) == 1 else None


def kinds(
    teacher: Any, x: Any, end_of: Callable, keeps_masks: bool, names: Sequence[str]
) -> list[tuple[str, tuple[int, ...], Callable[[int], Any]]]:
    """Return name, widths and builder of each kind of net for a teacher's inputs and outputs.

    Args:
        teacher: As for `candidates.families`.
        x: Some examples, (examples, ...).
        end_of: Function from the shape of the answers to `"softmax"`, `"sigmoid"` or `None`, for a
            teacher that is no Keras model.
        keeps_masks: Whether recurrent nets mask padding as the teacher does.
        names: Names of the outputs that have labels; empty for a single one.

    Raises:
        UnsupportedError: for outputs that no known net has.
    """
    end, x, first = _End.of(teacher, x, end_of, names), np.asarray(x), _first(teacher)
    layers = [call.layer for call in graph.walk(first).calls] if graph.has_graph(first) else []
    # Whole numbers are token indices if the teacher looks them up, and quantities otherwise.
    tables = tokens_.tables(first)
    whole = bool(tables)
    if not whole and _looks_up_columns(first, layers):
        return []
    mask = next((one.mask_value for one in layers if kind_of(one) == "Masking"), None)
    masked = mask is not None or any(table.mask_zero for table in tables)
    shape = x.shape[1:]
    if len(shape) == 3 and not end.each_step:
        nets = [("ds_cnn", _ds_cnn), ("resnet", _resnet), ("mobile", _mobile)]
        widths = (8, 12, 16, 24, 32, 48, 64, 96)
    elif len(shape) == 2 and not whole:
        nets = [("conv1d", _conv1d), ("gru", _gru), ("lstm", _lstm)]
        widths = (8, 12, 16, 24, 32, 48, 64, 96)
    elif len(shape) == 1 and whole:
        # A few examples don't contain all tokens; the teacher's table does.
        tokens = max(table.input_dim for table in tables)
        nets = [
            ("embedding and conv1d", _tokens(_conv1d, tokens)),
            ("embedding and gru", _tokens(_gru, tokens, masked and keeps_masks)),
            ("embedding and lstm", _tokens(_lstm, tokens, masked and keeps_masks)),
        ]
        widths = (8, 16, 24, 32, 48, 64)
    elif len(shape) == 1 and not end.each_step:
        nets, widths = [("dense", _dense)], (8, 16, 24, 32, 48, 64, 96, 128)
    else:
        return []
    dtype = "int32" if whole else "float32"
    if masked and not keeps_masks:
        warnings.warn(
            "The teacher masks padding. An int8 file carries no mask, so students read padding "
            "like the rest; without int8 in formats, recurrent students mask it, too.",
            stacklevel=2,
        )

    def builder(kind, build):
        def made(width: int):
            inputs = keras.Input(shape, dtype=dtype, name="input")
            start = inputs
            if mask is not None and keeps_masks and kind in _MASKED:
                start = keras.layers.Masking(mask)(inputs)
            start = start if whole else _standardized(start, x, mask)
            name = f"{kind.replace(' ', '_')}_{width}"
            return keras.Model(inputs, end(build(start, width, end.each_step)), name=name)

        return made

    return [(kind, widths, builder(kind, build)) for kind, build in nets]


def _looks_up_columns(teacher: Any, layers: Sequence[Any]) -> bool:
    """Tell whether some columns of a teacher's whole numbers are tokens, and others may be none."""
    if not any(kind_of(layer) == "Embedding" for layer in layers):
        return False
    return not any("float" in tensor.dtype for tensor in graph.walk(teacher).input_list)


def _standardized(inputs, x: np.ndarray, mask: float | None = None):
    """Return the inputs, shifted and scaled if they are far from a range where nets train well.

    The pixels of an image have one mean and one deviation, and so have the steps of a sequence for
    each channel. In a vector each column has its own. Steps that are masked do not count.
    """
    x = np.asarray(x[:2048], "float64")
    if x.ndim == 4:
        x = x.reshape(-1, 1)
    x = x.reshape(-1, x.shape[-1])
    if mask is not None:
        x = x[(x != mask).any(-1)]
    if not len(x):
        return inputs
    mean, std = x.mean(0), x.std(0)
    if (abs(mean) <= 2).all() and (std <= 5).all() and std.max() >= 0.05:
        return inputs
    scale = 1 / np.where(std > 1e-6, std, 1.0)  # a constant column is only shifted
    scale, offset = ([float(one) for one in values] for values in (scale, -mean * scale))
    if len(scale) == 1:
        [scale], [offset] = scale, offset
    return keras.layers.Rescaling(scale, offset, name="standardized")(inputs)


def _normalized(x, activation: str | None = "relu"):
    x = keras.layers.BatchNormalization(momentum=_MOMENTUM)(x)
    return x if activation is None else keras.layers.ReLU()(x)


def _conv(x, filters: int, size: int = 3, strides: int = 1, activation: str | None = "relu"):
    layer = keras.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)
    return _normalized(layer(x), activation)


def _depthwise(x, strides: int = 1):
    layer = keras.layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)
    return _normalized(layer(x))


def _halvings(x) -> int:
    """Return how often a map can be halved and keep about 4 places per side."""
    side = min(x.shape[1], x.shape[2])
    return int(np.clip(np.floor(np.log2(max(side, 1) / 4)), 0, 4))


def _ds_cnn(x, width: int, _):
    """Build a depthwise-separable net (Zhang et al. 2017, https://arxiv.org/abs/1711.07128)."""
    halvings = _halvings(x)
    x = _conv(x, width, strides=2 if halvings else 1)
    for block in range(4):
        x = _depthwise(x, strides=2 if 0 < block < halvings else 1)
        x = _conv(x, width * (2 if block > 1 else 1), size=1)
    return keras.layers.GlobalAveragePooling2D()(x)


def _resnet(x, width: int, _):
    """Build three residual blocks, as MLPerf Tiny's ResNet-8 (https://arxiv.org/abs/2106.07597)."""
    x = _conv(x, width)
    for block in range(min(3, 1 + _halvings(x))):
        strides, filters = (2 if block else 1), width * 2**block
        y = _conv(_conv(x, filters, strides=strides), filters, activation=None)
        if block:
            x = keras.layers.Conv2D(filters, 1, strides, padding="same")(x)
        x = keras.layers.ReLU()(keras.layers.Add()([x, y]))
    return keras.layers.GlobalAveragePooling2D()(x)


def _mobile(x, width: int, _):
    """Build inverted residual blocks (Sandler et al. 2018, https://arxiv.org/abs/1801.04381)."""
    halvings = _halvings(x)
    x = _conv(x, width, strides=2 if halvings > 1 else 1)
    for block in range(4):
        strides = 2 if block < halvings - 1 else 1
        filters = width if block < 2 else width * 3 // 2
        y = _depthwise(_conv(x, 3 * x.shape[-1], size=1), strides)
        y = _conv(y, filters, size=1, activation=None)
        x = keras.layers.Add()([x, y]) if y.shape == x.shape else y
    return keras.layers.GlobalAveragePooling2D()(_conv(x, 2 * filters, size=1))


def _conv1d(x, width: int, each_step: bool):
    for block in range(3):
        strides = 1 if each_step or (x.shape[1] or 0) < 16 else 2
        filters = width * (2 if block else 1)
        x = keras.layers.Conv1D(filters, 5, strides, padding="same", use_bias=False)(x)
        x = _normalized(x)
    return x if each_step else keras.layers.GlobalAveragePooling1D()(x)


def _gru(x, width: int, each_step: bool):
    return keras.layers.GRU(width, return_sequences=each_step)(x)


def _lstm(x, width: int, each_step: bool):
    return keras.layers.LSTM(width, return_sequences=each_step)(x)


def _tokens(build, tokens: int, masked: bool = False):
    def made(x, width: int, each_step: bool):
        x = keras.layers.Embedding(tokens, max(4, width // 2), mask_zero=masked)(x)
        return build(x, width, each_step)

    return made


def _dense(x, width: int, _):
    for units in (width, max(8, width // 2)):
        x = keras.layers.Dense(units, activation="relu")(x)
    return x
