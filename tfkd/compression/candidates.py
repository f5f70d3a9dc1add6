"""Students to choose from if none is given, as families: students of one kind in several sizes.

    a Keras teacher                    with fewer channels, of the whole or of each layer alike; the
                                       same with fewer blocks, or behind coarser images
    images, sequences, tokens, vectors small nets in several widths (`small_nets`)

A student is made when it is asked for: a search makes few of each family.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import keras
import numpy as np

from tfkd.compression import small_nets, thinning
from tfkd.compression.outputs import names_in
from tfkd.data.outputs import shown
from tfkd.errors import InputError, UnsupportedError
from tfkd.model import backends, cost, graph
from tfkd.model.layer_kinds import kind_of
from tfkd.pruning.structured.channels import prune_channels

_Scope: TypeAlias = Literal["global", "layer"]

#: Fractions of a model's parameters that its cuts keep at most, in steps of about a third.
CUTS = (0.03, 0.045, 0.06, 0.09, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A student that could be trained.

    Attributes:
        name: Its kind and size, such as `"ds_cnn 24"` or `"teacher 0.25"`.
        model: The untrained model, or the pruned teacher.
        parameters: Number of weights.
        macs: Multiply-accumulates of one example, `None` where they are not known.
    """

    name: str
    model: Any
    parameters: int
    macs: int | None

    @property
    def kind(self) -> str:
        """The name without the size."""
        return self.name.rsplit(" ", 1)[0]


@dataclasses.dataclass(frozen=True)
class Family:
    """Students of one kind, in several sizes.

    Attributes:
        kind: The kind, such as `"ds_cnn"`.
        sizes: The sizes, from the smallest: widths, or fractions of the parameters.
        make: Function from a size to a model; `None` for a size that it has no model of.
        whole: The parameters of the model whose fractions they are; `None` for widths.
    """

    kind: str
    sizes: tuple[float, ...]
    make: Callable[[Any], Any]
    whole: int | None = None

    @functools.cached_property
    def largest(self) -> Candidate | None:
        """The largest student; `None` if there is none of any size."""
        return next(filter(None, map(self.candidate, reversed(self.sizes))), None)

    def candidate(self, size: float) -> Candidate | None:
        """Return the student of a size; `None` if there is none."""
        model = self.make(size)
        if model is None:
            return None
        measured = cost.measure(model)
        if not measured.parameters:
            return None
        if self.whole is not None:  # channels go in fours: it may keep less than was asked for
            size = measured.parameters / self.whole
        whole = self.whole is not None and size == 1
        name = self.kind if whole else f"{self.kind} {size:.3g}"
        return Candidate(name, model, measured.parameters, measured.macs)


def families(
    teacher: Any,
    x: np.ndarray,
    seed: int,
    end: Callable[[tuple[int | None, ...]], str | None] = lambda shape: None,
    keeps_masks: bool = True,
    names: Sequence[str] = (),
) -> list[Family]:
    """Return the families of students for a teacher.

    Args:
        teacher: The teacher: a Keras model, which is also cut, a list of them, a `TFLiteModel`, or
            a function of a batch.
        x: Examples of the training part, (examples, ...).
        seed: Seed of the weights of each candidate.
        end: Function from the shape of the answers to `"softmax"` or `"sigmoid"`, for a teacher
            that is no Keras model and answers in probabilities.
        keeps_masks: Whether recurrent students mask padding as the teacher does. An int8 file
            can't.
        names: Names of the outputs that have labels; empty for a single one.

    Warns:
        UserWarning: if padding is masked in the teacher and not in students.

    Raises:
        UnsupportedError: for inputs or outputs without a known kind of net if the teacher can't be
            cut either.
    """
    found = []
    if graph.has_graph(teacher):
        bound = names_in(teacher, names, missing=True)
        if names and None in bound:
            raise UnsupportedError(
                f"The teacher {teacher.name!r} has outputs without labels, which are for "
                f"{shown(names)}: give labels for each output, or a student."
            )
        found += [one for one in _of_teacher(teacher, bound) if one.largest is not None]

    def seeded(build: Callable[[int], Any], width: int) -> Any:
        keras.utils.set_random_seed(seed)  # independent of earlier draws
        return _renamed(build(width))

    try:
        nets = small_nets.kinds(teacher, x, end, keeps_masks, names)
    except UnsupportedError:
        if not found:
            raise
        nets = []  # only a part of the teacher answers like it
    found += [
        Family(kind, widths, functools.partial(seeded, build)) for kind, widths, build in nets
    ]
    if not found:
        raise UnsupportedError(
            f"tfkd has no small net for inputs of shape {np.shape(x)[1:]} ({np.asarray(x).dtype}): "
            "give a student."
        )
    return found


def _renamed(model: keras.Model) -> keras.Model:
    """Return the model with names that don't depend on earlier models, since its file has them."""
    numbers = {layer.name: number for number, layer in enumerate(model.layers)}

    def renamed(layer):
        fixed = layer.name == "input" or layer.name.startswith("head")
        if fixed or layer.name not in numbers:  # or an operation
            return layer
        config = layer.get_config()
        config["name"] = f"{kind_of(layer).lower()}_{numbers[layer.name]}"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=renamed)
    copy.set_weights(model.get_weights())
    return copy


def _of_teacher(teacher: Any, names: Sequence[str | None]) -> list[Family]:
    """Return the teacher, and the teacher of less depth and of less resolution, in several sizes.

    The smaller ones have fewer channels: the least important of all layers are gone, or as large a
    part of each layer.

    Args:
        teacher: The teacher, a Keras model with a graph.
        names: The names of its outputs in the labels, in its flat order.
    """

    def family(kind: str, model: Any, sizes: tuple[float, ...], scope: _Scope = "global") -> Family:
        def make(part: float) -> Any:
            cut = model if part == 1 else _cut(model, part, scope)
            return None if cut is None else _as_student(cut, names)

        return Family(kind, sizes, make, cost.measure(model).parameters)

    found = [family("teacher", teacher, CUTS)]
    alike = family("teacher (each layer)", teacher, CUTS, "layer")
    if any(_shapes(alike.make(part)) != _shapes(found[0].make(part)) for part in CUTS[::3]):
        found.append(alike)  # of one layer with channels, both are the same
    blocks = thinning.depth(teacher)
    left = (blocks + 1) // 2 if blocks > 1 else 0
    ways = {
        f"{left} of {blocks} blocks": lambda: thinning.shallower(teacher, left),
        "half the resolution": lambda: thinning.coarser(teacher, 2),
    }
    for name, thinned in ways.items():
        try:
            model = thinned()
        except UnsupportedError:  # a layer that can't be built again
            continue
        if model is not None:
            found.append(family(f"teacher ({name})", model, (*CUTS, 1.0)))
    return found


def _shapes(model: Any) -> list[tuple[int, ...]]:
    return [] if model is None else [tuple(one.shape) for one in model.weights]


def _cut(model: Any, part: float, scope: _Scope) -> Any:
    """Return a model with a fraction of its parameters; `None` if its channels allow none."""
    target = int(part * cost.measure(model).parameters)
    try:
        return prune_channels(model, metric="parameters", target=target, scope=scope, round_to=4)
    except (InputError, UnsupportedError):  # below its floor, or without removable channels
        return None


def _as_student(model: Any, names: Sequence[str | None]) -> Any:
    """Return a part of the teacher as a student: all of it learns, and labels name its outputs.

    A model in a model was taken apart for it, and outputs may have lost their names.
    """
    model.trainable = True  # layers that were frozen for the teacher, too
    if tuple(names) == (None,):
        return model
    outputs = dict(zip(names, model.outputs, strict=True))
    return backends.package_of(model).Model(model.inputs[0], outputs, name=model.name)
