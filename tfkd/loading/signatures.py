"""A SavedModel's default signature: the names of its inputs and outputs, and their order.

A signature has names and no order: TensorFlow sorts them. The declared order is in the metadata
that Keras writes beside it, or in numbered names (`output_0`, `output_1`). If neither has it, a
list can't be bound.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Mapping

from tfkd.errors import InputError, argument
from tfkd.escaping import in_lines
from tfkd.loading import file_check
from tfkd.model import binding, graph
from tfkd.tables import Printed

_NUMBERED = re.compile(r"^(?P<base>.*?)_?(?P<number>\d*)$", re.DOTALL)

_DEFAULT = "serving_default"


def opened(path, what: str, key: str | None = None, choose: str = ""):
    """Load a SavedModel, checked before, for one of its signatures.

    Args:
        path: The folder.
        what: What to call it in a message.
        key: Key of the signature. Defaults to `serving_default`, or the only one there is.
        choose: What to do where there are several others, for a message.
            Defaults to giving `signature` one of them.

    Returns:
        The object that TensorFlow loaded (it keeps the signature's variables alive), the signature,
        and its key.

    Raises:
        InputError: if it can't be read, may act outside the model, or has no such signature.
    """
    import tensorflow as tf

    file_check.check_signature(path, what)
    name = str(path)
    try:
        loaded = tf.saved_model.load(name)
        known = list(loaded.signatures)
    except Exception as error:  # TensorFlow raises many types for a damaged folder
        raise InputError(
            f"{name!r} is not a SavedModel with a {_DEFAULT!r} signature: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    if key is None:
        key = known[0] if len(known) == 1 else _DEFAULT
    if key not in known:
        choose = choose or f"set {argument('signature')} to one of them"
        raise InputError(
            f"{name!r} has no signature {key!r}; "
            + (
                f"there are {', '.join(map(repr, known))}: {choose}."
                if known
                else "it has no signatures, so tfkd does not know what to call."
            )
        )
    return loaded, loaded.signatures[key], key


def inputs_of(loaded, function, owner: str) -> binding.Slots | None:
    """Return the inputs of a signature in the declared order.

    Args:
        loaded: What `tf.saved_model.load` returned.
        function: Its signature.
        owner: What to call it in a message.

    Returns:
        The inputs, or `None` for a signature that does not take all of them by keyword.
    """
    signature = getattr(function, "structured_input_signature", None)
    if not signature or signature[0] or not signature[1]:
        return None
    specs = signature[1]
    names, ordered = _declared_inputs(loaded, specs)
    shapes = [tuple(specs[name].shape) for name in names]
    return binding.named(names, "input", owner, ordered=ordered, shapes=shapes)


def outputs_of(function, path, owner: str) -> binding.Slots | None:
    """Return the outputs of a signature in the declared order; `None` if they have no names.

    Args:
        function: The signature.
        path: The folder of the SavedModel, or `None`.
        owner: What to call it in a message.
    """
    results = getattr(function, "structured_outputs", None)
    if not isinstance(results, Mapping):
        return None
    names, ordered = in_order(results)
    if path is not None:  # tf_keras names outputs by their layers, whose numbers give no order
        declared = _declared_outputs(pathlib.Path(path)) or []
        if set(declared) == set(names):
            names, ordered = declared, True
    shapes = [tuple(results[name].shape) for name in names]
    return binding.named(names, "output", owner, ordered=ordered, shapes=shapes)


@dataclasses.dataclass(frozen=True)
class Signatures(Printed):
    """The signatures of a SavedModel.

    Attributes:
        signatures: Key → inputs and outputs, each by name as text, for example
            `"float32[None, 28, 28]"`.
    """

    signatures: dict[str, dict[str, dict[str, str]]]

    def describe(self) -> str:
        """Return the signatures and their inputs and outputs as text."""
        lines = []
        for key, ends in self.signatures.items():
            lines.append(f"signature {key!r}")
            for kind, entries in ends.items():
                lines += [f"  {kind[:-1]:6} {name} {text}" for name, text in entries.items()]
        return in_lines(lines) or "no signatures"

    def to_json(self) -> dict:
        """Return them as plain values."""
        return dataclasses.asdict(self)


def listed(path) -> Signatures:
    """Read the signatures of a SavedModel, without loading what is in it.

    Args:
        path: The folder.

    Raises:
        InputError: if it can't be read.
    """
    from tensorflow.python.framework import dtypes
    from tensorflow.python.saved_model import loader_impl

    def shown(entries):
        return {
            name: f"{dtypes.as_dtype(entries[name].dtype).name}"
            f"{[None if d.size < 0 else d.size for d in entries[name].tensor_shape.dim]}"
            for name in sorted(entries)
        }

    try:
        saved = loader_impl.parse_saved_model(str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"The SavedModel {str(path)!r} can't be read: {error}") from error
    found = {}
    for graph_def in saved.meta_graphs:
        for key, entry in sorted(graph_def.signature_def.items()):
            if not key.startswith("__"):  # one of TensorFlow's own
                found[key] = {"inputs": shown(entry.inputs), "outputs": shown(entry.outputs)}
    return Signatures(found)


def _declared_inputs(loaded, specs: Mapping) -> tuple[list[str], bool]:
    """Return the names of the inputs, and whether they are in the declared order."""
    # The functions that Keras's `export` and tf_keras's `save` write take the model's structure.
    for endpoint in ("serve", "__call__"):
        for concrete in getattr(getattr(loaded, endpoint, None), "concrete_functions", []):
            taken = concrete.structured_input_signature[0][:1]
            declared = [leaf.name for leaf in graph.leaves(taken) if hasattr(leaf, "name")]
            if set(declared) == set(specs):
                return declared, not isinstance(taken[0], Mapping) or len(declared) == 1
    return in_order(specs)


def _declared_outputs(path: pathlib.Path) -> list[str] | None:
    """Return the output layers of a tf_keras SavedModel in the order of its configuration."""
    file = path / "keras_metadata.pb"
    if not file.is_file():
        return None
    from tf_keras.protobuf import saved_metadata_pb2

    try:
        metadata = saved_metadata_pb2.SavedMetadata.FromString(file.read_bytes())
        root = next(node for node in metadata.nodes if node.node_path == "root")
        layers = json.loads(root.metadata)["config"]["output_layers"]
        return [layer[0] for layer in layers] if isinstance(layers, list) else None
    except (StopIteration, KeyError, TypeError, ValueError, IndexError):
        return None


def in_order(names: Iterable[str]) -> tuple[list[str], bool]:
    """Return names in the order of their numbers, and whether the numbers define an order.

    They do if the names are one word with numbers that count up: `output_0`, `output_1`.

    Args:
        names: The names, in any order.
    """
    names = list(names)
    if _counts_up(names):
        return sorted(names, key=_number), True
    return sorted(names), len(names) == 1  # TensorFlow returns them in random order


def _counts_up(names: list[str]) -> bool:
    numbers = sorted(map(_number, names))
    one_word = len({_NUMBERED.match(name)["base"] for name in names}) == 1
    return one_word and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _number(name: str) -> int:
    return int(_NUMBERED.match(name)["number"] or 0)
