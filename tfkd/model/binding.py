"""The one rule that binds given values to a model's inputs or outputs.

Names bind if names are given: the model's own dict keys, or the names of its layers. Otherwise the
declared order binds. Sorted names never do. Values that fit in two ways, or in none, raise an error
that names both sides.

    {"sex": y1, "species": y0}  ─┐
    [y0, y1]  (declared order)  ─┼─ Slots.bind ─► [y0, y1]  (the model's flat order)
    Slots of another model      ─┘  Slots.match ─► which of theirs each of ours is
"""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfkd.errors import InputError
from tfkd.model import graph

_WRAPPED = re.compile(r"^(quant|prune_low_magnitude|cluster)_")
_GENERATED = {"input", "input_layer", "keras_tensor", "output"}


@dataclasses.dataclass(frozen=True)
class Slot:
    """One input or output of a model.

    Attributes:
        name: Name of its layer, as Keras knows it.
        key: The model's own dict key for it, or `None`.
        given: Whether the user chose the name; Keras generates others ("dense_3").
        aliases: Further names, such as the path of a layer inside a nested model.
        shape: With the batch size; `None` where a size is free, or nothing is known.
    """

    name: str
    key: str | None = None
    given: bool = True
    aliases: frozenset[str] = frozenset()
    shape: tuple[int | None, ...] | None = None

    @property
    def label(self) -> str:
        """What a message calls it."""
        return self.name if self.key is None else self.key

    def is_called(self, name) -> bool:
        """Tell whether `name` may stand for this slot."""
        return name in (self.key, self.name) or name in self.aliases


@dataclasses.dataclass(frozen=True)
class Slots:
    """The inputs or the outputs of a model, in its flat order.

    Attributes:
        owner: What to call the model in a message, for example `"student 'net'"`.
        kind: `"input"` or `"output"`.
        entries: The slots in the order in which Keras flattens the model's structure.
        ordered: Whether a list can be bound by its order. False for a dict whose keys were declared
            in another order than Keras flattens them in: there a list could mean either order.
        parts: If the model's structure is a list with a list or dict in it: the slot, or the slots,
            of each of its elements.
    """

    owner: str
    kind: str
    entries: tuple[Slot, ...]
    ordered: bool = True
    parts: tuple[Slot | Slots, ...] = ()

    def __len__(self):
        return len(self.entries)

    @property
    def labels(self) -> list[str]:
        """What messages call the slots."""
        return [slot.label for slot in self.entries]

    def bind(
        self,
        given,
        what: str,
        *,
        missing: bool = False,
        extra: bool = False,
        arrays: bool = False,
        unstructured=(),
    ) -> list[Any]:
        """Return the given value for each slot, in the flat order.

        Args:
            given: A dict by the model's keys or by layer names, a list or tuple in the
                declared order, or the value itself if there is one slot. The dict is nested if the
                model's own keys are.
            what: What the values are, for the message: `"labels"`, `"sample_weight"`.
            missing: Whether a dict may leave slots out; they get `None`.
            extra: Whether a dict may hold keys of no slot; they are left out.
            arrays: Whether each value is an array. Then a list of one number is an array of
                one example, and not a list of one value.
            unstructured: Types of lists or dicts that are one value, not a structure.

        Raises:
            InputError: for another number of values, or for names that are unknown, missing or fit
                in two ways.
        """
        count = len(self.entries)
        if isinstance(given, Mapping) and not isinstance(given, tuple(unstructured)):
            return self._by_name(self._with_paths(given, what), what, missing, extra)
        several = isinstance(given, (list, tuple)) and not isinstance(given, tuple(unstructured))
        if several and self.is_nested(given):
            how = {"missing": missing, "extra": extra, "arrays": arrays}
            pairs = zip(self.parts, given, strict=True)
            return [one for part, each in pairs for one in _bind_part(part, each, what, how)]
        if count == 1:
            alone = several and len(given) == 1 and not (arrays and _is_number(given[0]))
            return [given[0]] if alone else [given]
        if not several or len(given) != count:
            got = f"{len(given)} values" if several else f"one ({type(given).__name__})"
            raise InputError(
                f"The {self.owner} has {count} {self.kind}s ({self._listed}), but {what} holds "
                f"{got}: give a list of {count} in that order, or a dict with these names."
            )
        if not self.ordered:
            raise InputError(
                f"The {self.owner} names its {self.kind}s ({self._listed}), and {what} is a list, "
                "whose order could be the declared or the sorted one: give a dict with these "
                "names."
            )
        return list(given)

    def is_nested(self, given) -> bool:
        """Tell whether a value has the lists and dicts of the model's own structure.

        Args:
            given: As in `bind`. A dict may lack keys, and `None` may stand for any part.
        """
        if not self.parts or not isinstance(given, (list, tuple)) or len(given) != len(self.parts):
            return False
        return all(
            isinstance(part, Slot)
            or one is None
            or isinstance(one, Mapping)
            or part.is_nested(one)
            or (not part.parts and isinstance(one, (list, tuple)) and len(one) == len(part))
            for part, one in zip(self.parts, given, strict=True)
        )

    def packed(self, values: list):
        """Return a value for each slot in a structure that binds to them again.

        Args:
            values: Values in the flat order.
        """
        if len(self) == 1:
            return values[0]
        if self.ordered:
            return list(values)
        if not self.parts:
            return dict(zip(self.labels, values, strict=True))
        it = iter(values)
        return [
            next(it) if isinstance(part, Slot) else part.packed([next(it) for _ in part.entries])
            for part in self.parts
        ]

    def match(self, theirs: Slots) -> list[int | None]:
        """Return the slot of another model for each of ours; `None` where it has none.

        Names bind if the user chose them; the order binds if Keras generated the names and the
        numbers of slots are equal.

        Args:
            theirs: The other model's slots; it may have more than we do.

        Raises:
            InputError: where names and order disagree and the names are generated, some
                names are shared and others not, or the numbers differ.
        """
        if len(self) == len(theirs) == 1:
            return [0]
        found = [self._same_as(slot, theirs) for slot in self.entries]
        sides = f"{self.owner}: {self._listed}; {theirs.owner}: {theirs._listed}"
        named = [i for i in found if i is not None]
        if len(set(named)) < len(named):
            raise InputError(f"Two {self.kind}s match the same one by name ({sides}); rename them.")
        if len(named) == len(self):
            generated = [not slot.given for slot in self.entries]
            if named != list(range(len(self))) and any(generated) and len(self) == len(theirs):
                raise InputError(
                    f"The {self.kind}s have the same generated names in another order ({sides}); "
                    f"name the layers, or give both models dicts of {self.kind}s."
                )
            return found
        if any(self.entries[i].given for i, j in enumerate(found) if j is not None):
            return self._with_nameless(found, theirs)
        if len(self) == len(theirs) and self.ordered and theirs.ordered:
            return list(range(len(self)))
        if len(self) == len(theirs):
            raise InputError(
                f"The {self.kind}s have different names ({sides}), and the order of a dict does "
                "not pair them; use the same names in both."
            )
        return [None] * len(self)

    def _with_nameless(self, found: list[int | None], theirs: Slots) -> list[int | None]:
        """Match values without a name beside dicts, in the order of the lists."""
        if not (self.parts and theirs.parts):
            return found
        ours = [i for i, j in enumerate(found) if j is None]
        others = [j for j in range(len(theirs)) if j not in found]
        slots = [self.entries[i] for i in ours] + [theirs.entries[j] for j in others]
        if len(ours) != len(others) or any(slot.given for slot in slots):
            return found
        rest = dict(zip(ours, others, strict=True))
        return [rest.get(i, j) for i, j in enumerate(found)]

    @property
    def _listed(self) -> str:
        return ", ".join(map(repr, self.labels))

    @staticmethod
    def _same_as(slot: Slot, theirs: Slots) -> int | None:
        """Return the only one of their slots that shares a name with our slot."""
        for ours in (slot.key, slot.name, *sorted(slot.aliases)):
            for theirs_of in (
                lambda other: {other.key},
                lambda other: {other.name},
                lambda other: other.aliases,
            ):
                if ours is None:
                    continue
                fits = [i for i, other in enumerate(theirs.entries) if ours in theirs_of(other)]
                if len(fits) == 1:
                    return fits[0]
        return None

    def _with_paths(self, given: Mapping, what: str) -> dict:
        """Flatten nested dicts into one, by the paths of the model's own keys."""
        keys = [slot.key for slot in self.entries if slot.key is not None]

        def visit(part, before):
            for name, value in part.items():
                path = f"{before}/{name}" if before else name
                deeper = any(key.startswith(f"{path}/") for key in keys)
                if deeper and isinstance(value, (list, tuple)):
                    value = {str(i): one for i, one in enumerate(value)}
                if deeper and isinstance(value, Mapping):
                    yield from visit(value, path)
                else:
                    yield path, value

        pairs = list(visit(given, ""))
        if len(dict(pairs)) < len(pairs):
            raise InputError(
                f"{what} has the names {self._shown(name for name, _ in pairs)}: give each once."
            )
        return dict(pairs)

    def _by_name(self, given, what, missing, extra) -> list[Any]:
        for names in (
            [slot.key for slot in self.entries],
            [slot.name for slot in self.entries],
        ):
            # All by the model's own keys, as in Keras, or else all by the names of layers.
            known = [name for name in names if name is not None and name in given]
            whole = len(known) == len(given) if not extra else len(known) == len(self)
            if whole and len(set(known)) == len(known) and known:
                found = [given.get(name) if name is not None else None for name in names]
                self._refuse_missing([name in given for name in names], given, what, missing)
                return found
        fits = [[name for name in given if slot.is_called(name)] for slot in self.entries]
        used = [name for names in fits for name in names]
        unknown = [name for name in given if name not in used]
        if any(len(names) > 1 for names in fits) or len(set(used)) < len(used):
            raise InputError(
                f"{what} has the names {self._shown(given)}, which match the {self.kind}s of the "
                f"{self.owner} ({self._listed}) in more than one way: give one name for each."
            )
        if unknown and not extra:
            raise InputError(
                f"{what} has the unknown names {self._shown(unknown)}; the {self.kind}s of the "
                f"{self.owner} are {self._listed}."
            )
        self._refuse_missing([bool(names) for names in fits], given, what, missing)
        return [given[names[0]] if names else None for names in fits]

    def _refuse_missing(self, present, given, what, missing):
        absent = [slot.label for slot, here in zip(self.entries, present, strict=True) if not here]
        if absent and not missing:
            raise InputError(
                f"{what} lacks {self._shown(absent)}; it has {self._shown(given)}, and the "
                f"{self.kind}s of the {self.owner} are {self._listed}."
            )

    @staticmethod
    def _shown(names: Iterable) -> str:
        return ", ".join(repr(name) for name in names) or "none"


def _bind_part(part: Slot | Slots, given, what: str, how: dict) -> list[Any]:
    """Return the values for one element of a list; `None` for each if it is left out."""
    if isinstance(part, Slot):
        return [given]
    if given is None and how["missing"]:
        return [None] * len(part)
    return part.bind(given, what, **how)


def as_array(values: Any, what: str) -> np.ndarray:
    """Return values as an array.

    Args:
        values: An array, or lists of numbers.
        what: What they are for, in the error: `"input 'image'"`.

    Raises:
        InputError: for rows of different lengths.
    """
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(
            f"The data for {what} is not an array: its rows have different lengths. Pad them to "
            "one length."
        ) from error


def inputs_of(model, owner: str = "model") -> Slots:
    """Return the inputs of a Keras model that has a graph.

    Args:
        model: A Keras 3 or tf_keras model, or its `graph.Graph`.
        owner: `"student"`, `"teacher"` or `"model"`, for messages.

    Raises:
        InputError, UnsupportedError: as `graph.walk` does.
    """
    walked = model if isinstance(model, graph.Graph) else graph.walk(model)
    return _slots(walked, walked.inputs, "input", owner, None)


def outputs_of(model, owner: str = "model", walked: graph.Graph | None = None) -> Slots:
    """Return the outputs of a Keras model that has a graph, named as Keras names them.

    Args:
        model: A Keras 3 or tf_keras model.
        owner: `"student"`, `"teacher"` or `"model"`, for messages.
        walked: What `graph.walk` makes of it, if that is known.

    Raises:
        InputError, UnsupportedError: as `graph.walk` does.
    """
    walked = walked or graph.walk(model)
    names = getattr(model, "output_names", None)
    return _slots(walked, walked.outputs, "output", owner, names)


def slots_of_values(structure, kind: str, owner: str) -> Slots:
    """Return the slots of nested values, which a model without a graph takes or returns.

    Args:
        structure: A tensor or array, or a list, tuple or dict of them.
        kind: `"input"` or `"output"`.
        owner: What to call the model in a message.
    """
    paths, values = _paths(structure), list(graph.leaves(structure))
    entries = [
        Slot(
            name=f"{kind}_{i}" if path is None else path,
            key=path,
            # Keras's export names the outputs of a list output_0, output_1.
            given=path is not None and not _is_generated(path, None),
            shape=(None, *tuple(value.shape)[1:]) if hasattr(value, "shape") else None,
        )
        for i, (path, value) in enumerate(zip(paths, values, strict=True))
    ]
    return _arranged(owner, kind, entries, structure)


def named(names: Iterable[str], kind: str, owner: str, *, ordered: bool, shapes=None) -> Slots:
    """Return slots with known names, and perhaps a known order.

    Args:
        names: Names of the slots.
        kind: `"input"` or `"output"`.
        owner: What to call the model in a message.
        ordered: Whether `names` come in the declared order.
        shapes: Shape of each, batch included, if known.
    """
    names = list(names)
    shapes = shapes or [None] * len(names)
    entries = [
        Slot(name, given=not _is_generated(name, None), shape=shape)
        for name, shape in zip(names, shapes, strict=True)
    ]
    return Slots(owner, kind, tuple(entries), ordered)


def _slots(walked: graph.Graph, structure, kind, owner, names) -> Slots:
    tensors, keys = list(graph.leaves(structure)), _paths(structure)
    if names is None or len(names) != len(tensors):
        names = [tensor.name.split("/")[-1] for tensor in tensors]
    elif any(key is not None for key in keys) and sorted(map(str, keys)) == sorted(names):
        # Keras 3 accepts the keys as names; the layers' names work, too.
        names = [tensor.name.split("/")[-1] for tensor in tensors]
    entries = []
    for tensor, key, name in zip(tensors, keys, names, strict=True):
        call = walked.producer(tensor)
        last = tensor.name.split("/")[-1]
        further = {tensor.name, last, _WRAPPED.sub("", last), _WRAPPED.sub("", name)} - {name, key}
        generated = _is_generated(_WRAPPED.sub("", name), None if call is None else call.layer)
        entries.append(Slot(name, key, key is not None or not generated, frozenset(further),
                            tuple(tensor.shape)))  # fmt: skip
    return _arranged(f"{owner} {walked.name!r}", kind, entries, structure)


def _arranged(owner: str, kind: str, entries, structure) -> Slots:
    """Return slots arranged in the lists and dicts of a model's own structure."""
    parts: list[Slot | Slots] = []
    if isinstance(structure, (list, tuple)) and any(map(_is_nested, structure)):
        it = iter(entries)
        for part in structure:
            # Keys within the part: if several dicts share keys, those of the model have numbers.
            few = [dataclasses.replace(next(it), key=key) for key in _paths(part)]
            parts.append(_arranged(owner, kind, few, part) if _is_nested(part) else few[0])
    return Slots(owner, kind, tuple(entries), _is_ordered(structure), tuple(parts))


def _is_nested(structure) -> bool:
    return isinstance(structure, (Mapping, list, tuple))


def _paths(structure, numbered: bool = False) -> list[str | None]:
    """Return the dict key of each leaf, in flat order; `None` for a leaf in a list.

    Args:
        structure: Tensors in lists and dicts.
        numbered: Whether to prefix keys of dicts in lists with their number in the list; keys
            that would be equal always get one.
    """

    def visit(part, path, keyed):
        if isinstance(part, Mapping):
            for key in sorted(part):
                yield from visit(part[key], [*path, str(key)], True)
        elif isinstance(part, (list, tuple)):
            for i, value in enumerate(part):
                yield from visit(value, [*path, str(i)] if keyed or numbered else path, keyed)
        else:
            yield "/".join(path) if keyed else None

    found = list(visit(structure, [], False))
    keys = [path for path in found if path is not None]
    return found if numbered or len(set(keys)) == len(keys) else _paths(structure, True)


def _is_number(value) -> bool:
    """Tell whether a value is a single number or word, not an array of examples."""
    return isinstance(value, (numbers.Number, str, bytes)) or getattr(value, "shape", None) == ()


def _is_ordered(structure) -> bool:
    """Tell whether the declared order equals the flat order."""
    if isinstance(structure, Mapping):
        return list(structure) == sorted(structure) and all(map(_is_ordered, structure.values()))
    if isinstance(structure, (list, tuple)):
        return all(map(_is_ordered, structure))
    return True


def _is_generated(name: str, layer) -> bool:
    """Tell whether Keras made up the name of a layer."""
    base = re.sub(r"_\d+$", "", name)
    if base in _GENERATED or base.startswith("tf."):
        return True
    kinds = set() if layer is None else {layer, getattr(layer, "layer", layer)}
    return base in {_snake(type(one).__name__) for one in kinds}


def _snake(name: str) -> str:
    """Return a class's name in the form in which Keras uses it for layer names."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
