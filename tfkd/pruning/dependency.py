"""Which channels of a model must go together.

A channel that is taken out of a layer is missing in every layer that reads it, and where two
branches are added the channels of both must go. This finds those groups (Fang et al. 2023,
"DepGraph: Towards Any Structural Pruning"), with one idea for all layers: each number in a tensor
carries the label of the channel it belongs to, and the labels are moved as the layer moves the
numbers.

    Conv(4)  a b c d ──BN── a b c d ──┐
                                      Add: a=e b=f c=g d=h ── Flatten: a b c d a b c d ... ── Dense
    Conv(4)  e f g h ─────────────────┘                       its kernel's rows have these labels

Each axis of each weight that goes with channels has a label per slice; to prune is to take away
the slices of a group. What is not understood is left whole: its inputs and outputs are bound to
the group that stays, and it is named in `whole`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfkd import graph

# The group that everything that must stay belongs to.
_KEPT = 0
# Activations in which a channel that goes changes the others, and those in which it does not.
_MIXING = ("softmax", "log_softmax", "sparsemax")
_ELEMENTWISE = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish"),
    *("sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "tanh", "mish"),
    *("softplus", "softsign", "exponential", "log_sigmoid", "tanh_shrink", "sparse_plus"),
)
_LIBRARIES = ("keras", "tf_keras", "tensorflow", "tfkd")


@dataclasses.dataclass(frozen=True)
class Dependencies:
    """The channels of a model and how they hang together.

    Attributes:
        graph: The walk of the model.
        axes: Id of a variable → {axis: label of each slice}.
        outputs: Id of a layer → {name in its configuration, such as `filters`: labels of what
            that number counts}.
        shapes: Id of a Reshape's call → labels of its result, without the batch.
        roots: Label → group. Labels of one group go together; group 0 stays.
        whole: Names of the layers that are left whole, and why.
    """

    graph: graph.Graph
    axes: dict[int, dict[int, np.ndarray]]
    outputs: dict[int, dict[str, np.ndarray]]
    shapes: dict[int, np.ndarray]
    roots: np.ndarray
    whole: dict[str, str]

    @property
    def reasons(self) -> str:
        """What is left whole and why, in words."""
        return "; ".join(f"{name}: {why}" for name, why in self.whole.items())

    @property
    def groups(self) -> np.ndarray:
        """Numbers of the groups that may go."""
        used = [labels for axes in self.axes.values() for labels in axes.values()]
        if not used:
            return np.array([], int)
        found = np.unique(self.roots[np.concatenate(used)])
        return found[found != self.roots[_KEPT]]


def find(model) -> Dependencies:
    """Find the channels of a model that can be pruned, and their groups.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not changed.

    Returns:
        Its `Dependencies`.

    Raises:
        InputError: if it is no model, or not built.
        UnsupportedError: if it is subclassed.
    """
    return of_graph(graph.walk(model))


def of_graph(walked: graph.Graph) -> Dependencies:
    """Find the groups of a walk, as `find` does of a model."""
    return _Finder(walked).find()


class _Whole(Exception):  # noqa: N818  not an error: a decision
    """Raised by a rule that can't reason about a call."""


class _Finder:
    """Walks the calls, labels the channels and binds them."""

    def __init__(self, walked: graph.Graph):
        self.graph = walked
        self.parents = [_KEPT]
        self.axes: dict[int, dict[int, np.ndarray]] = {}
        self.outputs: dict[int, dict[str, np.ndarray]] = {}
        self.shapes: dict[int, np.ndarray] = {}
        self.whole: dict[str, str] = {}
        self.labels: dict[int, np.ndarray] = {}  # tensor → labels, 1 where an axis has none

    def find(self) -> Dependencies:
        for tensor in self.graph.input_list:
            self.labels[tensor.index] = self._kept(tensor.shape)
        for call in self.graph.calls:
            inputs = [self.labels[tensor.index] for tensor in call.inputs]
            try:
                mixing = _mixes(call.layer)
                made = self._rule(call)(self, call, inputs)
                self._check_weights(call.layer)
                if mixing:
                    self._bind(made, np.array(_KEPT))
                    if not set(call.outputs) & set(self.graph.output_list):
                        self.whole.setdefault(call.name, f"its {mixing} sees all channels at once")
            except _Whole as reason:
                self.whole.setdefault(call.name, str(reason))
                for labels in (*inputs, *self._labels_of(call.layer)):
                    self._bind(labels, np.array(_KEPT))
                made = self._kept(call.outputs[0].shape)
            for tensor in call.outputs:
                same = len(tensor.shape) == len(call.outputs[0].shape)
                self.labels[tensor.index] = made if same else self._kept(tensor.shape)
                if not same:
                    self._bind(made, np.array(_KEPT))
        for tensor in self.graph.output_list:
            self._bind(self.labels[tensor.index], np.array(_KEPT))
        roots = np.array([self._root(label) for label in range(len(self.parents))])
        return Dependencies(self.graph, self.axes, self.outputs, self.shapes, roots, self.whole)

    def _rule(self, call):
        leaves = graph.leaves((call.args, call.kwargs))
        if any(np.ndim(leaf) for leaf in leaves if not isinstance(leaf, graph.Tensor)):
            return _Finder.unknown  # an array in the graph has channels that would have to go too
        kind = _library_class(call.layer)
        if kind is None or (not hasattr(kind, "add_weight") and kind.__name__ not in _OPERATIONS):
            return _Finder.unknown
        return _RULES.get(kind.__name__, _Finder.unknown)

    def _check_weights(self, layer):
        """Leave a layer whole that has more weights than its rule knows (adapters, statistics)."""
        for weight in getattr(layer, "weights", ()):
            if id(weight) not in self.axes and max(weight.shape, default=1) > 1:
                raise _Whole(f"its weight {weight.name!r} has no rule")

    # Labels and groups.

    def _new(self, count: int) -> np.ndarray:
        labels = np.arange(len(self.parents), len(self.parents) + count)
        self.parents.extend(int(label) for label in labels)
        return labels

    def _root(self, label: int) -> int:
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def _bind(self, some: np.ndarray, others: np.ndarray):
        """Put labels at the same place into one group."""
        pairs = np.stack(np.broadcast_arrays(some, others)).reshape(2, -1)
        for a, b in np.unique(pairs, axis=1).T:
            a, b = self._root(int(a)), self._root(int(b))
            self.parents[max(a, b)] = min(a, b)

    def _kept(self, shape) -> np.ndarray:
        return np.full((1,) * (len(shape) - 1), _KEPT)

    def _of(self, variable, axis: int, labels: np.ndarray):
        """Say which channel each slice of a weight belongs to."""
        if variable is None:
            return
        labels = np.broadcast_to(labels, (variable.shape[axis],))
        known = self.axes.setdefault(id(variable), {})
        if axis in known:  # a layer that is called again
            self._bind(known[axis], labels)
        else:
            known[axis] = np.array(labels)

    def _labels_of(self, layer) -> list[np.ndarray]:
        """Return what an earlier call of a layer, or half a rule, said of its weights."""
        axes = [self.axes.get(id(weight), {}) for weight in getattr(layer, "weights", ())]
        return [
            *self.outputs.get(id(layer), {}).values(),
            *(la for of in axes for la in of.values()),
        ]

    def _own(self, layer, name: str, count: int | None = None) -> np.ndarray:
        """Return the labels of what a number in a layer's configuration counts, at each call."""
        own = self.outputs.setdefault(id(layer), {})
        if name not in own:
            own[name] = self._new(getattr(layer, name) if count is None else count)
        return own[name]

    @staticmethod
    def _channels(labels: np.ndarray, size: int | None) -> np.ndarray:
        """Return the labels of the last axis, if all others agree on them."""
        if any(length != 1 for length in labels.shape[:-1]):  # of a reshape
            flat = labels.reshape(-1, labels.shape[-1])
            if (flat != flat[0]).any():
                raise _Whole("its channels are not on the last axis")
            labels = flat[0]
        if size is None:
            raise _Whole("its input has a free size")
        return np.broadcast_to(labels.reshape(-1), (size,))

    @staticmethod
    def _last(labels: np.ndarray, rank: int) -> np.ndarray:
        return labels.reshape((1,) * (rank - 2) + (-1,))

    # Rules: (finder, call, labels of the inputs) → labels of the output.

    def unknown(self, call, inputs):
        """Leave it whole."""
        raise _Whole(f"{type(call.layer).__name__} has no rule")

    def same(self, call, inputs):
        """Element by element: the labels stay where they are."""
        return inputs[0]

    def softmax(self, call, inputs):
        raise _Whole("softmax sees all channels at once")

    def rescaling(self, call, inputs):
        if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
            raise _Whole("it has a number for each channel")
        return inputs[0]

    def convolution(self, call, inputs):
        layer, tensor = call.layer, call.inputs[0]
        _check_last(layer)
        given = self._channels(inputs[0], tensor.shape[-1])
        groups = getattr(layer, "groups", 1)
        if 1 < groups == layer.filters == len(given):  # depthwise by another name
            self.outputs[id(layer)] = {"filters": given, "groups": given}
            self._of(layer.kernel, -1, given)
            self._of(layer.bias, 0, given)
            return self._last(given, len(call.outputs[0].shape))
        out = self._own(layer, "filters")
        if groups > 1:
            if layer.kernel.shape[-2] == 1:
                raise _Whole("each of its groups has one channel")
            # The same channel of every group goes, so that the groups stay alike.
            for labels in (given, out):
                rows = labels.reshape(groups, -1)
                self._bind(rows, rows[0])
            given = given[: layer.kernel.shape[-2]]
        transposed = "Transpose" in type(layer).__name__
        self._of(layer.kernel, -2 if not transposed else -1, given)
        self._of(layer.kernel, -1 if not transposed else -2, out)
        self._of(layer.bias, 0, out)
        return self._last(out, len(call.outputs[0].shape))

    def depthwise(self, call, inputs):
        layer = call.layer
        _check_last(layer)
        given = self._channels(inputs[0], call.inputs[0].shape[-1])
        out = np.repeat(given, layer.depth_multiplier)
        self._of(_depthwise_kernel(layer), -2, given)
        self._of(layer.bias, 0, out)
        return self._last(out, len(call.outputs[0].shape))

    def separable(self, call, inputs):
        layer = call.layer
        _check_last(layer)
        given = self._channels(inputs[0], call.inputs[0].shape[-1])
        out = self._own(layer, "filters")
        self._of(layer.depthwise_kernel, -2, given)
        self._of(layer.pointwise_kernel, -2, np.repeat(given, layer.depth_multiplier))
        self._of(layer.pointwise_kernel, -1, out)
        self._of(layer.bias, 0, out)
        return self._last(out, len(call.outputs[0].shape))

    def dense(self, call, inputs):
        return self._dense(call.layer, call, inputs)

    def _dense(self, layer, call, inputs):
        if getattr(layer, "lora_enabled", False):
            raise _Whole("it has low-rank adapters")
        given = self._channels(inputs[0], call.inputs[0].shape[-1])
        out = self._own(layer, "units")
        self._of(layer.kernel, 0, given)
        self._of(layer.kernel, 1, out)
        self._of(layer.bias, 0, out)
        return self._last(out, len(call.outputs[0].shape))

    def embedding(self, call, inputs):
        out = self._own(call.layer, "output_dim")
        self._of(call.layer.embeddings, 1, out)
        return self._last(out, len(call.outputs[0].shape))

    def batch_normalization(self, call, inputs):
        layer, tensor = call.layer, call.inputs[0]
        axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
        if axis not in (-1, len(tensor.shape) - 1):
            raise _Whole("it does not normalize the last axis")
        given = self._channels(inputs[0], tensor.shape[-1])
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            self._of(getattr(layer, name), 0, given)
        return inputs[0]

    def prelu(self, call, inputs):
        alpha = call.layer.alpha
        if alpha.shape[-1] > 1:
            given = self._channels(inputs[0], call.inputs[0].shape[-1])
            self._of(alpha, len(alpha.shape) - 1, given)
        return inputs[0]

    def attention(self, call, inputs):
        """Heads go by themselves (Michel et al. 2019); so do inputs and outputs."""
        layer = call.layer
        if len(call.outputs) > 1:
            raise _Whole("its scores are an output")
        given = dict(zip(("query", "value", "key"), call.args, strict=False)) | call.kwargs
        given = {name: one for name, one in given.items() if isinstance(one, graph.Tensor)}
        if getattr(layer, "_use_gate", False) or set(given) - {"query", "value", "key"}:
            raise _Whole("it has a gate, or a mask that is computed")
        projection = layer._output_dense
        if len(projection.kernel.shape) != 3:
            raise _Whole("its output has several axes")
        given.setdefault("key", given["value"])
        heads = self._own(layer, "num_heads", projection.kernel.shape[0])
        for name, tensor in given.items():
            inner = getattr(layer, f"_{name}_dense")
            labels = self._channels(self.labels[tensor.index], tensor.shape[-1])
            self._of(inner.kernel, 0, labels)
            self._of(inner.kernel, 1, heads)
            self._of(inner.bias, 0, heads)
        out = self._own(layer, "output_shape", projection.kernel.shape[-1])
        self._of(projection.kernel, 0, heads)
        self._of(projection.kernel, 2, out)
        self._of(projection.bias, 0, out)
        return self._last(out, len(call.outputs[0].shape))

    def recurrent(self, call, inputs):
        if len(inputs) > 1 or call.layer.return_state:
            raise _Whole("its state is an input or an output")
        out = self._recurrent(call.layer, call, inputs)
        return self._last(out, len(call.outputs[0].shape))

    def _recurrent(self, layer, call, inputs):
        gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}.get(type(layer).__name__)
        if gates is None:
            raise _Whole(f"{type(layer).__name__} has no rule")
        given = self._channels(inputs[0], call.inputs[0].shape[-1])
        out = self._own(layer, "units")
        of_gates = np.tile(out, gates)
        cell = layer.cell
        self._of(cell.kernel, 0, given)
        self._of(cell.kernel, 1, of_gates)
        self._of(cell.recurrent_kernel, 0, out)
        self._of(cell.recurrent_kernel, 1, of_gates)
        if cell.bias is not None:
            self._of(cell.bias, len(cell.bias.shape) - 1, of_gates)
        return out

    def bidirectional(self, call, inputs):
        layer = call.layer
        if len(inputs) > 1 or layer.forward_layer.return_state:
            raise _Whole("its state is an input or an output")
        parts = [
            self._recurrent(one, call, inputs)
            for one in (layer.forward_layer, layer.backward_layer)
        ]
        if layer.merge_mode == "concat":
            out = np.concatenate(parts)
        elif layer.merge_mode in ("sum", "mul", "ave"):
            self._bind(*parts)
            out = parts[0]
        else:
            raise _Whole("its two directions are outputs of their own")
        # Both directions are built from one configuration.
        if layer.forward_layer.units == layer.backward_layer.units:
            self._bind(*parts)
        return self._last(out, len(call.outputs[0].shape))

    def time_distributed(self, call, inputs):
        inner = call.layer.layer
        if type(inner).__name__ != "Dense":
            raise _Whole(f"TimeDistributed of {type(inner).__name__} has no rule")
        return self._dense(inner, call, inputs)

    def spatial(self, call, inputs):
        """Padding, cropping, pooling, resizing: the channels are what they were."""
        _check_last(call.layer)
        return self._last(
            self._channels(inputs[0], call.inputs[0].shape[-1]), len(call.outputs[0].shape)
        )

    def reshape(self, call, inputs):
        """Flatten, Reshape, Permute, RepeatVector: the labels move as the numbers do."""
        tensor, result = call.inputs[0], call.outputs[0]
        if None in tensor.shape[1:] or None in result.shape[1:]:
            raise _Whole("a size is free")
        if getattr(call.layer, "data_format", "channels_last") not in (None, "channels_last"):
            raise _Whole("its channels are not on the last axis")
        full = np.broadcast_to(inputs[0], tensor.shape[1:])
        kind = type(call.layer).__name__
        if kind == "Permute":
            return full.transpose([axis - 1 for axis in call.layer.dims])
        if kind == "RepeatVector":
            return full[None]
        full = full.reshape(result.shape[1:])
        if full.ndim > 1:
            # What is taken away must leave a box: a channel goes at every place of it.
            rows = full.reshape(-1, full.shape[-1])
            self._bind(rows, rows[0])
            full = self._last(rows[0], len(result.shape))
        if kind == "Reshape":
            labels = full.reshape(-1)
            self._bind(self.shapes.setdefault(id(call.layer), labels), labels)
        return full

    def merge(self, call, inputs):
        """Add, Multiply and their like: what meets goes together."""
        shapes = [tensor.shape[1:] for tensor in call.inputs]
        result = call.outputs[0].shape[1:]
        full = []
        for labels, shape in zip(inputs, shapes, strict=True):
            if len(shape) != len(result):
                raise _Whole("its inputs have different ranks")
            if shape[-1] == result[-1]:
                full.append(labels)
            else:  # one number that meets every channel belongs to none of them
                self._bind(labels, np.array(_KEPT))
        for labels in full[1:]:
            self._bind(full[0], labels)
        return np.broadcast_arrays(*full)[0]

    def concatenate(self, call, inputs):
        rank = len(call.outputs[0].shape)
        axis = call.layer.axis % rank - 1
        if axis < 0:
            raise _Whole("it joins examples")
        full = []
        for labels, tensor in zip(inputs, call.inputs, strict=True):
            shape = list(labels.shape)
            if tensor.shape[axis + 1] is None:
                raise _Whole("a size is free")
            shape[axis] = tensor.shape[axis + 1]
            full.append(np.broadcast_to(labels, shape))
        others = [max(one.shape[i] for one in full) for i in range(rank - 1)]
        full = [
            np.broadcast_to(one, [*others[:axis], one.shape[axis], *others[axis + 1 :]])
            for one in full
        ]
        joined = np.concatenate(full, axis)
        if joined.size > joined.shape[axis]:  # channels on another axis: what is joined matches
            rows = np.moveaxis(joined, axis, 0)
            self._bind(rows, rows[0])
        return joined


def _library_class(layer) -> type | None:
    """Return the library's class that says what a layer does; `None` if the user's own does."""
    for kind in type(layer).__mro__:
        if kind.__module__.split(".")[0] in _LIBRARIES:
            return kind
        if {"call", "build", "__call__"} & set(vars(kind)):
            return None
    return None


def _mixes(layer) -> str | None:
    """Return the activation of a layer that mixes channels, if one does.

    Raises:
        _Whole: if it has one that is not known.
    """
    inner = [getattr(layer, n, None) for n in ("layer", "forward_layer", "backward_layer")]
    for one in (layer, *inner):
        for attribute in ("activation", "recurrent_activation"):
            function = getattr(one, attribute, None)
            if function is None:
                continue
            name = getattr(function, "__name__", type(function).__name__)
            if name in _MIXING:
                return name
            library = getattr(function, "__module__", "").split(".")[0] in _LIBRARIES
            if name not in _ELEMENTWISE or not library:
                raise _Whole(f"its activation {name} is not known to treat each channel by itself")
    return None


def _check_last(layer):
    if getattr(layer, "data_format", "channels_last") not in (None, "channels_last"):
        raise _Whole("its channels are not on the last axis")


def _depthwise_kernel(layer) -> Any:
    # Keras 3 keeps it as `kernel`; tf_keras names it in full.
    kernel = getattr(layer, "depthwise_kernel", None)
    return layer.kernel if kernel is None else kernel


def _named(rule, *names):
    return dict.fromkeys(names, rule)


# Operations of Keras 3 that do what the layers of these names do.
_ACTIVATIONS = (
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Gelu", "Silu", "Sigmoid", "Tanh"),
    *("HardSigmoid", "HardSilu", "HardTanh", "Softplus", "Softsign", "Abs", "Negative"),
)
_OPERATIONS = {"Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate", "Softmax"}
_OPERATIONS |= set(_ACTIVATIONS)
_RULES = {
    **_named(_Finder.depthwise, "DepthwiseConv1D", "DepthwiseConv2D"),
    **_named(_Finder.separable, "SeparableConv1D", "SeparableConv2D"),
    **_named(
        _Finder.convolution,
        *("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    ),
    **_named(_Finder.dense, "Dense"),
    **_named(_Finder.embedding, "Embedding"),
    **_named(_Finder.batch_normalization, "BatchNormalization"),
    **_named(_Finder.prelu, "PReLU"),
    **_named(_Finder.attention, "MultiHeadAttention"),
    **_named(_Finder.recurrent, "LSTM", "GRU", "SimpleRNN"),
    **_named(_Finder.bidirectional, "Bidirectional"),
    **_named(_Finder.time_distributed, "TimeDistributed"),
    **_named(
        _Finder.spatial,
        *(f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)),
        *(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
        *(f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
        "Resizing",
    ),
    **_named(_Finder.reshape, "Flatten", "Reshape", "Permute", "RepeatVector"),
    **_named(_Finder.merge, "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"),
    **_named(_Finder.concatenate, "Concatenate"),
    **_named(
        _Finder.same,
        *("ReLU", "LeakyReLU", "ELU", "Dropout", "SpatialDropout1D", "SpatialDropout2D"),
        *("SpatialDropout3D", "GaussianNoise", "GaussianDropout", "ActivityRegularization"),
        *("Identity", "AlphaDropout", "Activation"),
        *_ACTIVATIONS,
    ),
    **_named(_Finder.softmax, "Softmax"),
    **_named(_Finder.rescaling, "Rescaling"),
}
