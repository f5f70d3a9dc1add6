"""The one walk over the graph of a Functional or Sequential model.

`walk` turns a Keras 3 or tf_keras model into a `Graph`: a flat list of layer calls in
an order in which they can be run again, nested models inlined. Translation, cost, pruning and the
rewrites for quantization read only this form, and no other internals of Keras.

    model ──walk──► Graph(inputs, calls, outputs) ──replay──► the same graph of other layers
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from tfkd.errors import InputError, UnsupportedError, argument
from tfkd.model import backends
from tfkd.model.layer_kinds import kind_of


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A symbolic tensor of a graph.

    Attributes:
        index: Its number; equal numbers are the same tensor.
        name: For an input, the name of its input layer, otherwise of the call it comes from.
        shape: With the batch dimension; `None` where a size is free.
        dtype: As a string, for example `"float32"`.
        masked: Whether Keras passes a mask on with it; `None` if only a run shows it: after a
            nested model that gets a mask.
    """

    index: int
    name: str
    shape: tuple[int | None, ...]
    dtype: str
    masked: bool | None = False


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of one layer.

    A layer that is shared appears in several calls with the same `layer`.

    Attributes:
        layer: The Keras layer (or Keras 3 operation) that is called.
        name: Path of the layer, `backbone/conv1` for one inside a nested model.
        args: Positional arguments; every symbolic tensor in them is a `Tensor`.
        kwargs: Keyword arguments, likewise.
        outputs: What the call returns, flattened.
    """

    layer: Any
    name: str
    args: tuple
    kwargs: dict[str, Any]
    outputs: tuple[Tensor, ...]

    @property
    def kind(self) -> str | None:
        """The kind of the layer, such as `"Dense"`; `None` for a user's own class."""
        return kind_of(self.layer)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Every tensor among the arguments, in order."""
        return tuple(leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor))


@dataclasses.dataclass(frozen=True)
class Graph:
    """A model as a flat list of layer calls, each after the calls it depends on.

    Attributes:
        name: The model's name.
        flavour: `"keras"` or `"tf_keras"`.
        inputs: The inputs in the model's own structure (a tensor, list or dict).
        outputs: The outputs, likewise.
        calls: The calls in an order that can be run.
    """

    name: str
    flavour: str
    inputs: Any
    outputs: Any
    calls: tuple[Call, ...]

    @property
    def package(self):
        """The Keras of the layers: the module `keras` or `tf_keras`."""
        return backends.package(self.flavour)

    @property
    def input_list(self) -> list[Tensor]:
        """The inputs, flattened."""
        return list(leaves(self.inputs))

    @property
    def output_list(self) -> list[Tensor]:
        """The outputs, flattened."""
        return list(leaves(self.outputs))

    @property
    def layers(self) -> list[tuple[str, Any]]:
        """Every distinct layer with the name of its first call."""
        seen: dict[int, tuple[str, Any]] = {}
        for call in self.calls:
            seen.setdefault(id(call.layer), (call.name, call.layer))
        return list(seen.values())

    def matching(self, patterns, argument: str) -> list[str]:
        """Return the paths of the layers that the user named; the function `matching` says how."""
        names = {path: {path, layer.name} for path, layer in self.layers}
        return matching(names, patterns, argument)

    def call_named(self, name: str, owner: str) -> Call:
        """Return the one call of the layer with a path or a name, which has one output.

        Args:
            name: The path of the layer, or its name where no layer has that path.
            owner: The model's role, for a message: `"student"`, `"model"`.

        Raises:
            InputError: if there is no such layer (naming the nearest), or it is called several
                times or has several outputs.
        """
        calls = [call for call in self.calls if call.name == name]
        calls = calls or [call for call in self.calls if call.layer.name == name]
        if not calls:
            raise InputError(
                f"The {owner} {self.name!r} has no layer {name!r}; the nearest are "
                f"{_nearest(name, [call.name for call in self.calls])}."
            )
        if len(calls) > 1 or len(calls[0].outputs) > 1:
            paths = ", ".join(repr(call.name) for call in calls)
            raise InputError(
                f"The {owner}'s layer {name!r} has several outputs or is called several times "
                f"({paths}); name one that is called once."
            )
        return calls[0]

    def producer(self, tensor: Tensor) -> Call | None:
        """Return the call that makes `tensor`, or `None` for an input."""
        return self._producers.get(tensor.index)

    def consumers(self, tensor: Tensor) -> list[Call]:
        """Return the calls that read `tensor`, in order; one that reads it twice, twice."""
        return self._consumers.get(tensor.index, [])

    @functools.cached_property
    def _producers(self) -> dict[int, Call]:
        return {tensor.index: call for call in self.calls for tensor in call.outputs}

    @functools.cached_property
    def _consumers(self) -> dict[int, list[Call]]:
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            for tensor in call.inputs:
                found.setdefault(tensor.index, []).append(call)
        return found


def walk(model, ignore_call: bool = False) -> Graph:
    """Read the graph of a model, nested models inlined.

    A nested model with a `call` of its own is one call, since it need not run its graph.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras.
        ignore_call: Whether to read the graph of a model that has its own `call`, too: for
            the names and shapes of its layers, not for what it computes.

    Returns:
        The `Graph`.

    Raises:
        InputError: if `model` is no Keras model, or a Sequential that is not built.
        UnsupportedError: if it, or a model in it, is subclassed and so has no graph, or if it
            has a graph and a `call` of its own, which may do something else.
    """
    flavour = backends.flavour(model)
    if flavour is None:
        raise InputError(f"Expected a Keras 3 or tf_keras model, got {type(model).__name__}.")
    return _Walker(flavour).graph(model, ignore_call)


def replay(graph: Graph, inputs, apply: Callable[[Call, tuple, dict], Any]):
    """Run a graph's calls on other tensors with other layers.

    Args:
        graph: The graph to run.
        inputs: Flat list of tensors that stand for `graph.input_list`.
        apply: `apply(call, args, kwargs)` returns the outputs of one call; `args` and
            `kwargs` are the call's own with tensors filled in.

    Returns:
        The outputs in the graph's own structure.
    """
    values = {tensor.index: value for tensor, value in zip(graph.input_list, inputs, strict=True)}

    def fill(leaf):
        return values[leaf.index] if isinstance(leaf, Tensor) else leaf

    for call in graph.calls:
        result = apply(call, map_structure(fill, call.args), map_structure(fill, call.kwargs))
        for tensor, value in zip(call.outputs, leaves(result), strict=True):
            values[tensor.index] = value
    return map_structure(fill, graph.outputs)


def call_layer(call: Call, args, kwargs, training: bool):
    """Make a call with its own layer, in training or not, unless the graph fixes that.

    Args:
        call: The call to make.
        args: Its positional arguments, tensors filled in.
        kwargs: Its keyword arguments, likewise.
        training: Passed to a layer that takes it.
    """
    layer = call.layer
    if getattr(layer, "_call_has_training_arg", getattr(layer, "_expects_training_arg", False)):
        kwargs = {"training": training, **kwargs}
    return layer(*args, **kwargs)


def rebuild(graph: Graph, package, apply: Callable[[Call, tuple, dict], Any]):
    """Build a model of the same inputs and outputs from other layers.

    Args:
        graph: The graph to rebuild.
        package: The Keras to build it in: the module `keras` or `tf_keras`.
        apply: As in `replay`, on symbolic tensors of that package.

    Returns:
        A Functional model with the graph's name, input names and structures.
    """
    inputs = symbolic_inputs(graph, package)
    outputs = replay(graph, inputs, apply)
    return package.Model(as_structured(graph, inputs), outputs, name=graph.name)


def symbolic_inputs(graph: Graph, package) -> list:
    """Return an `Input` of a Keras for each of the graph's, flat."""
    return [
        package.Input(t.shape[1:], batch_size=t.shape[0], dtype=t.dtype, name=t.name)
        for t in graph.input_list
    ]


def as_structured(graph: Graph, inputs: list):
    """Return a flat list of inputs in the graph's own structure."""
    fed = {t.index: value for t, value in zip(graph.input_list, inputs, strict=True)}
    return map_structure(lambda tensor: fed[tensor.index], graph.inputs)


def entries_of(shape) -> int | None:
    """Return how many entries a tensor of a shape has; `None` where a size is free."""
    return None if None in shape else math.prod(shape)


def map_structure(function, structure):
    """Apply `function` to every leaf of nested tuples, lists and dicts."""
    if isinstance(structure, dict):
        return {key: map_structure(function, value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        mapped = (map_structure(function, value) for value in structure)
        named = hasattr(structure, "_fields")
        return type(structure)(*mapped) if named else type(structure)(mapped)
    return function(structure)


def leaves(structure) -> Iterator[Any]:
    """Yield the leaves; dicts by sorted key, as Keras flattens them."""
    if isinstance(structure, dict):
        for key in sorted(structure):
            yield from leaves(structure[key])
    elif isinstance(structure, (list, tuple)):
        for value in structure:
            yield from leaves(value)
    else:
        yield structure


class _Walker:
    """Numbers tensors and collects calls while models are inlined."""

    def __init__(self, flavour: str):
        self.flavour = flavour
        self.package = backends.package(flavour)
        self.calls: list[Call] = []
        self.count = 0

    def graph(self, model, ignore_call: bool) -> Graph:
        self._check(model, model.name, ignore_call)
        name, model = model.name, _functional(model)
        # Users see and feed by a leading InputLayer's name, not by the tensor's.
        inputs = map_structure(
            lambda tensor: self._tensor(tensor, tensor._keras_history[0].name),
            _structure(model, "inputs"),
        )
        values = dict(zip(_ids(_structure(model, "inputs")), leaves(inputs), strict=True))
        outputs = self._inline(model, values, "")
        return Graph(name, self.flavour, inputs, outputs, self._alive(outputs))

    def _alive(self, outputs) -> tuple[Call, ...]:
        """Return the calls without operations that only computed masks, which Keras recomputes."""
        needed = {tensor.index for tensor in leaves(outputs)}
        alive = []
        for call in reversed(self.calls):
            is_layer = isinstance(call.layer, self.package.layers.Layer)
            if is_layer or not needed.isdisjoint(tensor.index for tensor in call.outputs):
                needed.update(tensor.index for tensor in call.inputs)
                alive.append(call)
        return tuple(reversed(alive))

    def _inline(self, model, values: dict[int, Tensor], prefix: str, training=None):
        """Add a model's calls.

        Args:
            model: A Functional model.
            values: Ids of its input tensors → ours.
            prefix: The prefix of its layers' paths.
            training: The `training` argument of the model's call, if it is fixed for its layers.
        """

        def ours(leaf):
            return values.get(id(leaf), leaf)

        entered = bool(prefix) and any(tensor.masked is not False for tensor in values.values())
        for node in _nodes(model):
            layer, args, kwargs, outputs = _parts(node)
            name = prefix + layer.name
            args, kwargs = map_structure(ours, args), map_structure(ours, dict(kwargs))
            if training is not None and getattr(layer, "_expects_training_arg", False):
                kwargs.setdefault("training", training)
            if isinstance(layer, self.package.Model) and not overrides_call(layer):
                self._check(layer, name)
                inner = _functional(layer)
                bound = kwargs.pop("training", None)
                given = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
                inner_inputs = _ids(_structure(inner, "inputs"))
                result = self._inline(
                    inner, dict(zip(inner_inputs, given, strict=True)), name + "/", bound
                )
                made = list(leaves(result))
            else:
                made = [self._tensor(tensor, name) for tensor in outputs]
                call = Call(layer, name, args, kwargs, tuple(made))
                if self._hides_masks(call, entered):
                    made = [dataclasses.replace(tensor, masked=None) for tensor in made]
                    call = dataclasses.replace(call, outputs=tuple(made))
                self.calls.append(call)
            values.update(zip(map(id, outputs), made, strict=True))
        return map_structure(ours, _structure(model, "outputs"))

    def _hides_masks(self, call: Call, entered: bool) -> bool:
        """Tell whether a call's outputs may have masks that are not in the graph.

        Args:
            call: The call.
            entered: Whether a mask enters the nested model that contains the call.
        """
        is_layer = isinstance(call.layer, self.package.layers.Layer)
        return is_layer and (entered or any(tensor.masked is None for tensor in call.inputs))

    def _tensor(self, symbolic, name: str) -> Tensor:
        self.count += 1
        dtype = symbolic.dtype
        return Tensor(
            self.count - 1,
            name,
            tuple(symbolic.shape),
            getattr(dtype, "name", None) or str(dtype),
            getattr(symbolic, "_keras_mask", None) is not None,
        )

    def _check(self, model, name: str, ignore_call: bool = False):
        if not isinstance(model, self.package.Model):
            raise InputError(f"Expected a model, got the layer {name!r} ({type(model).__name__}).")
        if isinstance(model, self.package.Sequential):
            if not model.built or _functional(model) is None:
                raise InputError(
                    f"The Sequential model {name!r} is not built; give it an Input layer or call "
                    "model.build(input_shape) first."
                )
        elif not hasattr(model, "_nodes_by_depth"):
            raise UnsupportedError(
                f"The model {name!r} ({type(model).__name__}) is subclassed and has no graph to "
                "walk; rebuild it with the Functional API, for example "
                f"`inputs = {self._called}.Input(shape); {self._called}.Model(inputs, "
                "model.call(inputs))`.",
                code="no-graph",
            )
        if overrides_call(model) and not ignore_call:
            raise UnsupportedError(
                f"The model {name!r} ({type(model).__name__}) has a graph and a `call` of its own, "
                "which may compute something else; rebuild it with the Functional API, for example "
                f"`inputs = {self._called}.Input(shape); {self._called}.Model(inputs, "
                "model.call(inputs))`.",
                code="no-graph",
            )

    @property
    def _called(self) -> str:
        return self.package.__name__


def overrides_call(model) -> bool:
    """Tell whether a Functional or Sequential model has a `call` that is not Keras's."""
    if not hasattr(model, "_nodes_by_depth") and not hasattr(model, "_functional"):
        return False
    if "call" in vars(model):
        return True
    for name in ("call", "__call__"):
        owners = [kind for kind in type(model).__mro__ if name in vars(kind)]
        home, kind = owners[0].__module__.split(".")[0], owners[0].__name__
        if (home, kind, name) in _ONLY_CHECKS:
            home = owners[1].__module__.split(".")[0]
        if home not in ("keras", "tf_keras"):
            return True
    return False


#: Methods of KerasHub, also under its old names, that check their arguments and pass them on.
_ONLY_CHECKS = {(home, "PipelineModel", "__call__") for home in ("keras_hub", "keras_nlp")}


def has_graph(model) -> bool:
    """Tell whether `walk` can read something: a built model of either Keras that runs its graph."""
    try:
        walk(model)
    except (InputError, UnsupportedError):
        return False
    return True


def _functional(model):
    """Return the Functional model inside a Sequential one (Keras 3), or the model itself."""
    if hasattr(model, "_nodes_by_depth"):
        return model
    return getattr(model, "_functional", None)


def _structure(model, which: str):
    """Return a Functional model's inputs or outputs in its own structure."""
    for attribute in (f"_{which}_struct", f"_nested_{which}"):
        if hasattr(model, attribute):
            return getattr(model, attribute)
    return getattr(model, which)


def _ids(structure) -> list[int]:
    return [id(leaf) for leaf in leaves(structure)]


def _nodes(model):
    """Yield a Functional model's nodes, inputs left out, producers first."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def _parts(node):
    """Return (layer, args, kwargs, flat outputs) of a node of either Keras."""
    if hasattr(node, "operation"):
        arguments = node.arguments
        kwargs = {
            key: value
            for key, value in arguments.kwargs.items()
            if not _is_implicit(key, value, node)
        }
        return node.operation, arguments.args, kwargs, list(node.outputs)
    layer, args = node.layer, node.call_args
    kwargs = {k: v for k, v in node.call_kwargs.items() if v is not None}
    with_state = args and isinstance(args[0], list) and len(args[0]) > 1
    if with_state and getattr(layer, "_num_constants", None) == 0:
        # A recurrent layer of tf_keras puts its initial state after its input.
        (first, *state), *rest = args
        args, kwargs = (first, *rest), {**kwargs, "initial_state": state}
    return layer, args, kwargs, list(leaves(node.outputs))


def _is_implicit(name: str, value, node) -> bool:
    """Tell whether Keras 3, not the author, added an argument to a call.

    Keras records the masks that it passes on. It also records `training`, given or default, which
    has no effect: the value of the model's call, `True` in `fit`, replaces it.
    """
    if value is None:
        return True
    if name == "training":
        return getattr(node.operation, "_call_has_training_arg", False)
    if name != "mask" and (not name.endswith("_mask") or name == "attention_mask"):
        return False
    own = [getattr(tensor, "_keras_mask", None) for tensor in node.arguments.keras_tensors]
    known = {id(mask) for mask in own if mask is not None}
    given = [mask for mask in leaves(value) if mask is not None]
    return all(id(mask) in known and len(_mask_sources(mask)) == 1 for mask in given)


def _mask_sources(mask) -> set[int]:
    """Return the masks that a merging layer combined.

    Keras 3 joins several by "or", tf_keras by "and", so the graph has to contain the mask.
    """
    operation, index = mask._keras_history[:2]
    if kind_of(operation) != "LogicalOr":
        return {id(mask)}
    joined = operation._inbound_nodes[index].arguments.keras_tensors
    return set().union(*map(_mask_sources, joined))


def matching(names: dict[str, set[str]], patterns, keyword: str) -> list[str]:
    """Return the layers that the user names with an argument such as `skip=`.

    Args:
        names: Name of a layer → the names that it answers to.
        patterns: A name, a regular expression that matches a whole name, or several of these.
        keyword: The user's argument, for the message.

    Raises:
        InputError: for text that is no regular expression, or matches no layer.
    """
    found = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            if not isinstance(pattern, str):
                raise TypeError("it must be text")
            known = {
                name
                for name, aliases in names.items()
                if pattern in aliases or any(re.fullmatch(pattern, alias) for alias in aliases)
            }
        except (re.error, TypeError) as error:
            raise InputError(
                f"{argument(keyword)} {pattern!r} is not a regular expression: {error}."
            ) from None
        if not known:
            every = [alias for one in names.values() for alias in sorted(one)]
            near = f"the nearest names are {_nearest(pattern, every)}"
            if any(alias.startswith(f"{pattern}/") for alias in every):
                near = f"{pattern + '/.*'!r} matches the layers of the nested model"
            raise InputError(f"{argument(keyword)} {pattern!r} matches no layer; {near}.")
        found += sorted(known)
    return found


def _nearest(name: str, known: list[str]) -> str:
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, 3, 0.3) or known[:3]
    return ", ".join(map(repr, near))
