"""The error of every tensor of a quantized file, against its float twin.

Both files come from one SavedModel, so the converter gave their tensors the same names. They
run side by side in the worker, with reference kernels, which leave every intermediate result
in place. A third file, made from the float one, runs every operation on the inputs that the
operation has in the quantized file, and so shows the error that the operation adds by itself:

    file ─────────────► its tensors ┬───────────────────► relative_error (against the twin)
                                    ▼ as inputs           added (against the forced twin)
    float twin ───────► tensors     forced twin ► tensors

The growth of the relative error from op to op would not show it: a mean over positions
doubles the relative error of a biased signal and loses nothing. Errors are relative to each
channel's own variation. Otherwise a channel that is far wider than the others, the usual reason
why a layer suffers from 8 bits, would hide their loss. The measurement is that of
TensorFlow's `QuantizationDebugger`, on the file that ships instead of an instrumented one.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from tfkd.errors import InputError, WorkerError, argument
from tfkd.escaping import printable
from tfkd.export.conversion import tracing
from tfkd.export.conversion.narrowing import widened
from tfkd.export.runtime.interpreter import call_interpreter, open_interpreter
from tfkd.export.tflite import schema, writer
from tfkd.export.tflite.model import TFLiteModel
from tfkd.tables import Printed, aligned

_SECONDS = 900.0
# The operations that hold a layer's weights, by the end of a tensor's path.
_WEIGHTED = re.compile(r"(conv|depthwise|matmul|einsum|tensordot)[^/]*$", re.IGNORECASE)
# Operations that only change how a number is stored; only one of the files has them.
_CASTS = ("QUANTIZE", "DEQUANTIZE")
# Operations whose results the interpreter does not keep.
_LOOPS = ("WHILE", "IF")
# Fractions of clipped values and of the error from which a layer counts as the cause.
_CLIPPED, _MOST = 0.01, 0.5


@dataclasses.dataclass(frozen=True)
class LayerError:
    """The error of one tensor of a file against its float twin.

    Attributes:
        layer: The tensor's Keras layer; `None` if its name doesn't show it.
        op: The operation that computes it; `"INPUT"` for an input.
        tensor: Its name in the file.
        scale: Real value of one integer step; `None` for a float tensor.
        saturated: Share of values that lie more than a step outside the integer range.
        rmse: Root of the mean squared difference, in the tensor's unit.
        relative_error: The part of the signal that is lost, from 0 to 1: `√(e² / (e² + s²))`
            of each channel (last axis) with the error's root mean square e and the float
            values' standard deviation s, squares averaged over the channels in proportion
            to s. For small and even errors it is `rmse` / s. `None` if the values don't vary.
        rounding: The same for the error of rounding to `scale` alone (a step / √12).
        added: The same for the error that the op makes by itself: its result against the result
            of the float op on the same inputs. For an input, the error of rounding it.
        inputs: Names of the measured tensors that it is computed from.
        weight_bits: Bits of the weights that the operation reads; `None` without weights.
    """

    layer: str | None
    op: str
    tensor: str
    scale: float | None
    saturated: float
    rmse: float
    relative_error: float | None
    rounding: float | None
    added: float | None
    inputs: tuple[str, ...]
    weight_bits: int | None = None


@dataclasses.dataclass(frozen=True)
class LayerErrors(Printed, Sequence):
    """A table of `LayerError`, in the order of the graph.

    Attributes:
        rows: One per tensor that both files have.
        matched: Number of operations' results that were found in both files.
        tensors: Number of operations' results in the float twin.
        samples: Number of examples that were run.
    """

    rows: tuple[LayerError, ...]
    matched: int
    tensors: int
    samples: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]

    def by_layer(self) -> dict[str, float]:
        """Return each layer's own error: the root of the sum of squares of its rows' `added`.

        Returns:
            Layer (the tensor, if the layer is not known) → relative error, in the graph's order.
        """
        squares: dict[str, float] = {}
        for row in self.rows:
            key = row.layer or row.tensor
            squares[key] = squares.get(key, 0.0) + (row.added or 0.0) ** 2
        return {layer: math.sqrt(square) for layer, square in squares.items()}

    @property
    def worst(self) -> str | None:
        """The layer that adds the largest error; `None` if no layer adds any."""
        added = self.by_layer()
        layer = max(added, key=added.get, default=None)
        return layer if layer is not None and added[layer] > 0 else None

    def suggestion(self) -> str:
        """Return a sentence that names the layer that loses most, and what to do about it."""
        added, layer = self.by_layer(), self.worst
        if layer is None:
            return "No layer adds an error."
        total = sum(added.values())
        share = "most of the error" if added[layer] > _MOST * total else "the largest error"
        finding = f"{printable(layer)} adds {share} ({added[layer]:.2g} of {total:.2g})"
        rows = [row for row in self.rows if (row.layer or row.tensor) == layer]
        row = max(rows, key=lambda row: row.added or 0.0)
        if row.saturated > _CLIPPED:
            return (
                f"{finding}: {row.saturated:.0%} of its values are clipped; give "
                f"{argument('representative_data', alone=True)}, or for a quantize-aware model "
                "training data, that looks like these examples."
            )
        if row.op == "INPUT" and row.scale is not None:
            return (
                f"{finding}: one integer step is {row.scale:.3g}; scale the input so that its "
                "examples fill its range."
            )
        if all(one.scale is None for one in self.rows):
            return f"{finding}."  # already float
        if row.layer is None:
            return f"{finding}; its name does not show which Keras layer it is."
        skip, why = [layer], ""
        if None not in (row.rounding, row.scale) and row.rounding**2 > _MOST * row.added**2:
            # The next layer rounds its result as coarsely, unless that is float, too.
            names = {other.tensor for other in rows}
            readers = [one.layer for one in self.rows if one.layer and names & set(one.inputs)]
            skip += dict.fromkeys(reader for reader in readers if reader != layer)
            why = (
                f": a step of its output is {row.scale:.3g}, too coarse for the channels with "
                "small values"
            )
        listed = list(map(printable, skip))
        return (
            f"{finding}{why}; leave it float with "
            f"{argument('skip', listed, of='to_tflite')} or train with "
            f"{argument('skip', listed, of='quantize_aware')}."
        )

    def describe(self, suggest: bool = True) -> str:
        """Return the table as text, the number of matches and, if wanted, the suggestion."""

        def number(value):
            return "–" if value is None else f"{value:.3g}"

        head = ("layer", "op", "scale", "clipped", "rmse", "relative", "added")
        cells = [head] + [
            (
                row.layer or printable(row.tensor)[-40:],
                row.op,
                number(row.scale),
                f"{row.saturated:.1%}",
                number(row.rmse),
                number(row.relative_error),
                number(row.added),
            )
            for row in self.rows
        ]
        found = f"{self.matched} of {self.tensors} results compared on {self.samples} examples."
        lines = [*aligned(cells, left=2), found]
        return "\n".join([*lines, self.suggestion()] if suggest else lines)

    def to_json(self) -> dict:
        """Return the table, the worst layer and the suggestion as plain values."""
        return {
            **dataclasses.asdict(self),
            "worst": self.worst,
            "suggestion": self.suggestion(),
        }


def layer_errors(
    file: TFLiteModel,
    reference: TFLiteModel,
    x,
    names: Sequence[str] | Mapping[str, str],
    *,
    samples: int = 32,
) -> LayerErrors:
    """Compare every intermediate result of a file with its float twin's.

    Args:
        file: An int8 file, or one of any other numbers.
        reference: The float32 file of the same model in the same lowering.
        x: Examples: an array of shape (n, ...), or a list (the file's order) or dict (by
            input name) of them.
        names: The Keras layers' names in the order of their calls, `backbone/conv1` for a layer
            inside a nested model; or a mapping from these names to the names to report.
        samples: Maximum number of examples to run.

    Returns:
        A table with a row per tensor in the order of the graph, the inputs first.

    Raises:
        InputError: if `x` does not fit, the files have other inputs, nothing in them matches,
            or one of them takes one step a call.
        ConversionError: if an interpreter refuses a file.
        WorkerError: if an interpreter dies on a file.
    """
    for role, one in (("file", file), ("reference", reference)):
        if not isinstance(one, TFLiteModel):
            raise InputError(f"The {role} must be a TFLiteModel, got {type(one).__name__}.")
        if one.states:
            raise InputError(f"The {role} takes one step per call; give files of whole sequences.")
    if not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples must be an integer of at least 1, got {samples!r}.")
    feeds, places = _input_tensors(file, reference, x, samples)
    ours, theirs = _Plan(file), _Plan(reference)
    matched = _matched(ours, theirs)
    if not matched:
        raise InputError(
            "No result of the file was found in the reference: give two files that were converted "
            "from the same model in the same way."
        )
    mine, its = list(ours.inputs.values()), list(theirs.inputs.values())
    fed = {mine[i]: its[place] for i, place in enumerate(places)}
    pairs = {
        mine: its
        for mine, its in {**fed, **matched}.items()
        if theirs.dtype(its) == "float32" and ours.is_real(mine)
    }
    sums = call_interpreter(
        _run,
        (widened(file), reference.data),
        _forced(theirs, reference.data, set(pairs.values())),
        feeds,
        file.inputs[0].shape[0],
        [(mine, *ours.quantization(mine), its) for mine, its in pairs.items()],
        timeout=_SECONDS,
    )
    if set(sums) != set(pairs) or any(
        count < 1 or channels.ndim != 2 or len(channels) != 4
        for count, _, channels in sums.values()
    ):
        raise WorkerError("The child process gave no valid answer: no sums of these tensors.")
    shown = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    scopes = {tracing.scope_of(name): to_show for name, to_show in shown.items()}
    # The lowering builds one flat model, without the names of nested models.
    ends = Counter(scope.split("/")[-1] for scope in scopes)
    flat = {scope.split("/")[-1]: to_show for scope, to_show in scopes.items()}
    scopes |= {end: flat[end] for end, count in ends.items() if count == 1 and end not in scopes}
    sources = ours.sources(pairs)
    rows: dict[int, LayerError] = {}
    for mine in sorted(pairs, key=ours.position):
        layer = _layer_name(scopes, ours, mine, theirs, pairs[mine])
        rows[mine] = _row(ours, mine, layer, sums[mine], [rows[i] for i in sources[mine]])
    return LayerErrors(
        rows=tuple(rows.values()),
        matched=sum(mine in matched for mine in pairs),
        tensors=sum(theirs.dtype(i) == "float32" for i in theirs.results),
        samples=len(feeds[0][0]),
    )


def _input_tensors(file, reference, x, samples) -> tuple[list[list[np.ndarray]], list[int]]:
    """Return the input tensors of both files, and the reference's index for each of ours."""
    slots, theirs = file._slots("inputs"), reference._slots("inputs")
    places = slots.match(theirs) if len(slots) == len(theirs) else [None]
    shapes = [
        [(info.name, info.shape) for info in one._visible("inputs")] for one in (file, reference)
    ]
    if None in places or any(
        shapes[0][mine][1] != shapes[1][its][1] for mine, its in enumerate(places)
    ):
        raise InputError(
            f"The file takes {dict(shapes[0])}, but the reference takes {dict(shapes[1])}; give "
            "files of one model."
        )
    first = [np.asarray(one)[:samples] for one in slots.bind(x, "x", extra=True, arrays=True)]
    turned = [first[places.index(its)] for its in range(len(places))]
    return [file.input_arrays(first), reference.input_arrays(turned)], places


class _Plan:
    """The main subgraph of a file: which operation computes a tensor, and from which tensors."""

    def __init__(self, file):
        model = file._parsed
        kinds = schema.op_names(model)
        self.graph, self.model = model.subgraphs[0], model
        self.ops = [(kinds[op.opcodeIndex], op) for op in self.graph.operators]
        self.inputs = {
            info.name: int(i) for info, i in zip(file.inputs, self.graph.inputs, strict=True)
        }
        self.outputs = {
            int(i): info.name for info, i in zip(file.outputs, self.graph.outputs, strict=True)
        }
        self.made_by = {
            int(i): (number, slot)
            for number, (_, op) in enumerate(self.ops)
            for slot, i in enumerate(op.outputs)
        }
        self.results = [i for i in self.made_by if self.kind(i) not in _CASTS + _LOOPS]
        self.names = [schema.name_of(tensor) for tensor in self.graph.tensors]
        often = Counter(self.names)
        self.names = [
            name if often[name] == 1 else f"{name}#{i}" for i, name in enumerate(self.names)
        ]

    def kind(self, i: int) -> str:
        return self.ops[self.made_by[i][0]][0] if i in self.made_by else "INPUT"

    def dtype(self, i: int) -> str:
        return schema.dtype_of(self.graph.tensors[i])

    def position(self, i: int) -> tuple[int, int]:
        return self.made_by.get(i, (-1, i))

    def quantization(self, i: int) -> tuple[float | None, int]:
        info = schema.tensor_info(self.graph.tensors[i], None)
        return info.scale, info.zero_point or 0

    def is_real(self, i: int) -> bool:
        """Return whether a tensor's numbers represent real values."""
        return self.dtype(i).startswith("float") or self.quantization(i)[0] is not None

    def signature(self, i: int):
        """Return the properties that two tensors must share to count as the same result."""
        number, slot = self.made_by[i]
        kind, op = self.ops[number]
        fused = getattr(op.builtinOptions, "fusedActivationFunction", 0)
        return kind, slot, fused, tuple(int(n) for n in self.graph.tensors[i].shape)

    def read_by(self, i: int) -> list[int]:
        """Return the tensors that the maker of a tensor reads."""
        inputs = self.ops[self.made_by[i][0]][1].inputs
        return [int(j) for j in ([] if inputs is None else inputs) if j >= 0]

    def weight_bits(self, i: int) -> int | None:
        """Return the bits of the weights that the maker of a tensor reads."""
        for j in self.read_by(i) if i in self.made_by else ():
            tensor, dtype = self.graph.tensors[j], self.dtype(j)
            # Sizes, axes and margins are constants of 32 or 64 bits.
            is_weight = dtype in ("int4", "int8", "float16", "float32")
            rank = len(schema.shape_of(tensor))
            if is_weight and rank > 1 and schema.is_constant(tensor, self.model):
                return int(re.sub(r"\D", "", dtype))
        return None

    def sources(self, measured) -> dict[int, list[int]]:
        """Return for each result the nearest measured tensors that it is computed from."""
        origins = {i: {i} for i in self.inputs.values() if i in measured}
        found: dict[int, list[int]] = {i: [] for i in origins}
        for i in self.made_by:  # in the order of the operations
            union = set().union(*(origins.get(j, set()) for j in self.read_by(i)))
            found[i] = sorted(union, key=self.position)
            origins[i] = {i} if i in measured else union
        return found


def _matched(ours: _Plan, theirs: _Plan) -> dict[int, int]:
    """Pair the results of two files: index in one file → index in the other.

    Pairing goes by name; then by the name without the number that the converter appends to taken
    names, if that leaves one pair; then by position, if both files have the same operations in the
    same order and the pairs found by name have equal positions.
    """
    pairs: dict[int, int] = {}
    for form in (lambda name: name, lambda name: re.sub(r"\d+(?=;|$)", "", name)):
        sides = []
        for plan, taken in ((ours, set(pairs)), (theirs, set(pairs.values()))):
            keys: dict = {}
            for i in plan.results:
                if i not in taken:
                    keys.setdefault((form(plan.names[i]), plan.signature(i)), []).append(i)
            sides.append({key: found[0] for key, found in keys.items() if len(found) == 1})
        pairs |= {i: sides[1][key] for key, i in sides[0].items() if key in sides[1]}
    lists = [[plan.signature(i) for i in plan.results] for plan in (ours, theirs)]
    by_position = dict(zip(ours.results, theirs.results, strict=False))
    if lists[0] == lists[1] and all(by_position[i] == j for i, j in pairs.items()):
        return by_position
    return pairs


def _forced(plan: _Plan, data: bytes, measured: set[int]) -> tuple[bytes, dict[int, int]]:
    """Convert a float file into one whose operations all read inputs of the graph.

    Args:
        plan: Plan of the file.
        data: The file.
        measured: The tensors that inputs replace.

    Returns:
        The file, and tensor → the input that replaces it for its readers. Results keep their
        numbers and are outputs.
    """
    model = schema.parse(data)
    graph = model.subgraphs[0]
    given: dict[int, int] = {}
    for op in graph.operators:
        inputs = [int(i) for i in ([] if op.inputs is None else op.inputs)]
        for place, i in enumerate(inputs):
            if i in measured and i not in given:
                given[i] = len(graph.tensors)
                graph.tensors.append(copy.copy(graph.tensors[i]))
                graph.tensors[-1].name = b"given/%d" % i
            inputs[place] = given.get(i, i)
        op.inputs = inputs
    left = [int(i) for i in graph.inputs if int(i) not in measured]
    graph.inputs = [*left, *given.values()]
    graph.outputs = [i for i in plan.made_by if i in measured]
    model.signatureDefs = None
    return writer.pack(model), given


def _run(files, forced, feeds, batch, pairs) -> dict[int, tuple[int, int, np.ndarray]]:
    """Run the files and accumulate the sums for the statistics, in the worker.

    Args:
        files: The bytes of the file and of its reference.
        forced: See `_forced`.
        feeds: For each of `files`, its input arrays (examples, ...).
        batch: Examples per call of the files.
        pairs: (tensor, scale or `None`, zero point, tensor of the reference).

    Returns:
        Tensor → (count of values, count of clipped ones, array (4, channels): sum and sum of
        squares of the float values, sum of squares of the error and of the error added).
    """
    data, given = forced
    keep = {"experimental_preserve_all_tensors": True}
    ours, theirs = (open_interpreter(one, "reference", 1, **keep) for one in files)
    alone = open_interpreter(data, "reference", 1)
    fed = [detail["index"] for detail in theirs.get_input_details()]
    free = {detail["index"] for detail in alone.get_input_details()}
    made = {detail["index"] for detail in alone.get_output_details()}
    sums = {}
    count = len(feeds[0][0])
    for start in range(0, count, batch):
        rows = np.arange(start, start + batch) % count  # fills up the last batch
        for interpreter, arrays in zip((ours, theirs), feeds, strict=True):
            for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
                interpreter.set_tensor(detail["index"], array[rows])
            interpreter.reset_all_variables()
            interpreter.invoke()
        for index, array in zip(fed, feeds[1], strict=True):
            if index in free:
                alone.set_tensor(index, array[rows])
        for mine, scale, zero, its in pairs:
            if its in given:
                alone.set_tensor(given[its], _real(ours.get_tensor(mine), scale, zero))
        alone.reset_all_variables()
        alone.invoke()
        for mine, scale, zero, its in pairs:
            got, want = ours.get_tensor(mine), theirs.get_tensor(its).astype(np.float64)
            low, high = _range(got.dtype, scale, zero)
            clipped = np.abs(want - np.clip(want, low, high))
            real, due = _real(got, scale, zero), want
            if its in made:
                # Values out of range only due to other operations' errors are not lost here.
                bounds = np.minimum(low, want), np.maximum(high, want)
                due = np.clip(alone.get_tensor(its), *bounds)
            squares = [np.square(values) for values in (want, real - want, real - due)]
            channels = np.stack([want, *squares])
            channels = channels.reshape(4, -1, want.shape[-1] if want.ndim else 1).sum(1)
            size, beyond, total = sums.get(mine, (0, 0, np.zeros_like(channels)))
            beyond += np.count_nonzero(clipped > (scale or 0.0))
            sums[mine] = size + want.size, beyond, total + channels
    return sums


def _real(values, scale, zero) -> np.ndarray:
    if scale is None:
        return values.astype(np.float32)
    return ((values.astype(np.float32) - zero) * scale).astype(np.float32)


def _range(dtype, scale, zero) -> tuple[float, float]:
    """Return the least and the largest real value of a tensor."""
    if scale is None:
        return -np.inf, np.inf
    limits = np.iinfo(dtype)
    return (limits.min - zero) * scale, (limits.max - zero) * scale


def _layer_name(scopes, ours: _Plan, mine: int, theirs: _Plan, its: int) -> str | None:
    """Return the name to report for a tensor's layer; an input has its own name."""
    if mine not in ours.made_by:
        return next(name for name, i in ours.inputs.items() if i == mine)
    # Weights have the name of their layer even if a result, such as an output, does not.
    constants = [
        theirs.names[i]
        for i in theirs.read_by(its)
        if schema.is_constant(theirs.graph.tensors[i], theirs.model)
    ]
    for name in (ours.names[mine], theirs.names[its], *constants):
        paths = name.split(";")
        weighted = [path for path in paths if _WEIGHTED.search(path)]
        scope = schema.layer_in(";".join(weighted + paths), scopes)
        if scope is not None:
            return scope
    by_output = dict(zip(tracing.identifiers(list(scopes)), scopes.values(), strict=True))
    return by_output.get(ours.outputs.get(mine))


def _row(plan, i, layer, sums, read: list[LayerError]) -> LayerError:
    count, clipped, (total, squares, errors, added) = sums
    scale = plan.quantization(i)[0]
    size = count / len(total)
    mean_square = squares / size
    variance = mean_square - (total / size) ** 2
    # A constant's variance from rounding counts as zero.
    std = np.sqrt(np.where(variance > 1e-12 * mean_square, variance, 0.0))

    def relative(square):
        if not std.any():
            return None
        share = square / (square + np.where(std > 0, std**2, np.inf))
        return float(np.sqrt(np.average(share, weights=std)))

    return LayerError(
        layer=layer,
        op=plan.kind(i),
        tensor=plan.names[i],
        scale=scale,
        saturated=clipped / count,
        rmse=math.sqrt(errors.sum() / count),
        relative_error=relative(errors / size),
        rounding=relative(np.full_like(std, (scale or 0.0) ** 2 / 12)),
        added=relative(added / size),
        inputs=tuple(one.tensor for one in read),
        weight_bits=plan.weight_bits(i),
    )
