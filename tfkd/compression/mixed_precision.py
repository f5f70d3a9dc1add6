"""`choose_bits`: which layers get 4-bit weights, so that a file of a given size loses least.

each layer alone in 4 bits ─► how far the outputs move ─► the best sets of layers ─► the file
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfkd.compression.settings import Target
from tfkd.errors import InputError, argument
from tfkd.export.conversion.recurrent import choice
from tfkd.export.conversion.to_tflite import to_tflite
from tfkd.model import graph
from tfkd.output_kind import output_kinds
from tfkd.quantization import aware, export_form, post_training
from tfkd.quantization.representative_data import representative_samples
from tfkd.tables import Printed, aligned

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, Arrays, Names, PathLike, Recurrent

# Fraction of all bytes that can be saved: sets of layers that differ by less count as equal.
_RESOLUTION = 2000
# How often to choose another set after a file that is larger than estimated.
_TRIES = 8
# Bytes of a scale and its zero point in a file.
_SCALE_BYTES = 12


@dataclasses.dataclass(frozen=True)
class LayerBits:
    """The effect of 4-bit weights on one layer.

    Attributes:
        name: The layer's name.
        weights: Number of its weights that can have 4 bits.
        saved: Bytes by which these 4 bits make the file smaller.
        loss: How far the model's outputs move when only this layer has 4 bits: for probabilities
            the Kullback-Leibler divergence in nats, for other outputs the mean squared difference
            divided by their variance; summed over the outputs.
        bits: The bits that the plan gives it, 4 or 8.
    """

    name: str
    weights: int
    saved: int
    loss: float
    bits: int


@dataclasses.dataclass(frozen=True)
class BitsPlan(Printed):
    """Which layers get 4 bits; it prints as a table.

    Attributes:
        layers: One `LayerBits` for each that can have 4 bits.
        file_bytes: Size of the int8 file with these bits, converted and measured.
        all_8: Size of the file in which every layer has 8 bits, with recurrent layers in the form
            that they take with 4.
        all_4: Size of the file in which all of `layers` have 4 bits.
        target: The requested size in bytes.
        front: (bytes, loss) of every set of layers that no other set beats in both, the largest
            file first. Both are estimates: sums of what the layers save and lose.
    """

    layers: tuple[LayerBits, ...]
    file_bytes: int
    all_8: int
    all_4: int
    target: int
    front: tuple[tuple[int, float], ...]

    @property
    def bits(self) -> dict[str, int]:
        """The argument for `quantize_aware(bits=...)`: the bits of every layer that can have 4."""
        return {layer.name: layer.bits for layer in self.layers}

    @property
    def loss(self) -> float:
        """The sum of `LayerBits.loss` over the layers with 4 bits."""
        return sum(layer.loss for layer in self.layers if layer.bits == 4)

    def describe(self) -> str:
        """Return a table as text; the layer with the least loss per saved byte comes first."""
        rows = [("layer", "weights", "bytes saved", "loss", "bits")]
        for one in sorted(self.layers, key=lambda one: one.loss / max(one.saved, 1)):
            rows.append(
                (one.name, f"{one.weights:,}", f"{one.saved:,}", f"{one.loss:.3g}", str(one.bits))
            )
        said = (
            f"{self.file_bytes:,} bytes of {self.target:,}; all in 8 bits {self.all_8:,}, "
            f"all in 4 {self.all_4:,}"
        )
        return "\n".join([*aligned(rows), said])

    def plot(self, path: PathLike) -> None:
        """Draw the loss against the bytes of the file, for the best sets of layers.

        Args:
            path: Path of the picture to write, `.svg` or `.png`.
        """
        from tfkd.export.report.svg import blank_figure

        figure, axes = blank_figure(6.6, 4.0)
        axes.plot(
            *zip(*self.front, strict=True), ".-", color="#1f6fb2", label="best sets of layers"
        )
        axes.plot([self.file_bytes], [self.loss], "*", ms=14, color="#1f6fb2", label="chosen")
        axes.axvline(self.target, color="#888888", linestyle=":", linewidth=1, label="target")
        axes.set_xlabel("bytes of the file")
        axes.set_ylabel("loss, the sum over layers")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
        figure.savefig(path)


def choose_bits(
    model: AnyModel,
    data: Arrays,
    target: Any,
    *,
    skip: Names = (),
    batch_size: int = 64,
    micro: bool = False,
    recurrent: Recurrent = "auto",
) -> BitsPlan:
    """Choose the layers whose weights get 4 bits, so that the file has at most `target` bytes.

    Rounds each layer to 4 bits by itself and compares the outputs with those of the 8-bit model; no
    labels are needed. The loss of several layers is estimated as the sum of their losses. Under
    this estimate the search finds the set of layers with the least loss, exactly except for sets
    whose bytes differ by less than 1/2000 of the possible saving (dynamic programming over the sets
    that no other set beats).

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not changed.
        data: 100 to 500 examples, as for `calibrate`.
        target: A `tfkd.Target` or a dict with only `bytes`: the size of the file, or a number below
            1 for a fraction of the int8 file's size.
        skip: As for `quantize_aware`.
        batch_size: Examples at a time.
        micro: As for `to_tflite`.
        recurrent: Likewise.

    Returns:
        A `BitsPlan`; give `plan.bits` to `quantize_aware`.

    Raises:
        InputError: for a target below the size of the file with 4 bits wherever possible (the
            message gives that size), and for other wrong arguments.
        UnsupportedError: as `quantize_aware`.
    """
    share = _bytes_of(target)
    qat, wrappers = _narrowed(model, skip)
    arrays = representative_samples(qat, data, limit=500)
    examples = graph.as_structured(graph.walk(qat), arrays)  # an iterator is read once
    post_training.calibrate(qat, examples, batch_size)

    # Default: the form for 4 bits in all layers that can have them.
    form = choice.automatic(qat, "int8", micro) or "auto" if recurrent == "auto" else recurrent
    file_size = functools.partial(
        _file_size, model, examples, skip=skip, batch_size=batch_size, micro=micro
    )
    all_8, all_4 = file_size(8, recurrent=form), file_size(4, recurrent=form)
    # Without 4 bits, a recurrent layer may get another form, which can be smaller.
    plain = all_8 if form == recurrent else file_size(8, recurrent=recurrent)
    wanted = _bytes_wanted(share, all_4, plain)

    losses = _losses(qat, wrappers, arrays, batch_size)
    saved = _bytes_saved(wrappers, all_8 - all_4)
    sets = best_sets([saved[name] for name in wrappers], [losses[name] for name in wrappers])

    chosen, size = set(), plain
    if plain > wanted:
        chosen, size = _chosen(
            sets, list(wrappers), all_8, all_4, wanted,
            functools.partial(file_size, recurrent=recurrent),
        )  # fmt: skip
    layers = [
        LayerBits(
            name,
            sum(map(_weights, of_layer)),
            saved[name],
            losses[name],
            4 if name in chosen else 8,
        )
        for name, of_layer in wrappers.items()
    ]
    reckoned = tuple((all_8 - bytes_saved, loss) for bytes_saved, loss, _ in sets)
    return BitsPlan(tuple(layers), size, all_8, all_4, wanted, reckoned)


def _file_size(model, examples, bits, *, recurrent, skip, batch_size, micro) -> int:
    """Return the bytes of a model's int8 file with given bits of its weights."""
    qat = aware.quantize_aware(model, skip=skip, bits=bits)
    post_training.calibrate(qat, examples, batch_size)
    return to_tflite(qat, "int8", examples, recurrent=recurrent, micro=micro).size


def _bytes_wanted(share: float, all_4: int, plain: int) -> int:
    """Return the bytes that the file may have.

    Args:
        share: Bytes, or below 1 a fraction of `plain`.
        all_4: Bytes of the file with 4 bits in all layers that can have them.
        plain: Bytes of the file with 8 bits in all layers.

    Raises:
        InputError: for fewer bytes than either file has.
    """
    wanted = math.floor(share * plain if share < 1 else share)
    if wanted < min(all_4, plain):
        raise InputError(
            f"{argument('target')} is {wanted:,} bytes, but the file takes {all_4:,} with 4 bits "
            f"in all layers that can have them, and {plain:,} with 8 bits: give at least the "
            "smaller, or prune first."
        )
    return wanted


def _bytes_saved(wrappers: Mapping[str, list], total: int) -> dict[str, int]:
    """Return the bytes that 4 bits save in each layer, from those that they save in total."""
    saved = {name: _saved(of_layer) for name, of_layer in wrappers.items()}
    # A flatbuffer's padding counts in the total, not layer by layer.
    scale = total / max(sum(saved.values()), 1)
    return {name: round(scale * value) for name, value in saved.items()}


def _narrowed(model, skip) -> tuple[Any, dict[str, list]]:
    """Return the model with 4 bits in all layers that can have them, and the wrappers by name."""
    rewriter, _ = aware.rewriter_of(model, skip, None, None, bits=4)
    qat = rewriter.run()
    names = {inner: name for name, origin in rewriter.origins.items() for inner in origin.layers}
    wrappers: dict[str, list] = {}
    for wrapper in export_form.narrow_wrappers(qat):
        wrappers.setdefault(names[wrapper.layer.name], []).append(wrapper)
    if not wrappers:
        raise InputError(f"No layer of {model.name!r} can have weights of 4 bits.")
    return qat, wrappers


def _bytes_of(target) -> float:
    target = Target.of(target)
    if set(target.costs) != {"bytes"} or target.drop is not None:
        raise InputError(
            f"{argument('target')} must be a tfkd.Target or a dict with bytes alone, got "
            f"{target!r}."
        )
    return target.bytes


def _chosen(sets, names, all_8, all_4, wanted, file_size) -> tuple[set[str], int]:
    """Return the set of layers with the least loss whose file is small enough, and its bytes.

    Args:
        sets: The result of `best_sets`.
        names: Names of the layers, by place.
        all_8: Bytes of the file with 8 bits in all layers.
        all_4: Bytes of the file with 4 bits wherever possible.
        wanted: The most that the file may have.
        file_size: Function from the bits by layer to the bytes of the file.
    """
    needed = all_8 - wanted
    for _ in range(_TRIES):
        able = [(loss, places) for saved, loss, places in sets if saved >= needed]
        if not able:
            break
        _, places = min(able, key=lambda one: one[0])
        chosen = {names[place] for place in places}
        # In the form for these bits: another one if the recurrent layers keep 8 bits.
        size = file_size({name: 4 if name in chosen else 8 for name in names})
        if size <= wanted:
            return chosen, size
        needed += size - wanted
    return set(names), all_4


def _losses(qat, wrappers: Mapping[str, list], arrays, batch_size) -> dict[str, float]:
    """Return how much the outputs change if only one layer is rounded to 4 bits, for each layer."""
    kinds = output_kinds(qat)

    batches = post_training.in_batches(arrays, batch_size)

    def outputs():
        made = post_training.tensor_values(qat, qat.outputs, batches)
        return [np.concatenate(values).astype(np.float64) for values in zip(*made, strict=True)]

    quantizers = {
        name: [quantizer for one in of_layer for _, quantizer, _ in one._weight_vars]
        for name, of_layer in wrappers.items()
    }
    for several in quantizers.values():
        for quantizer in several:
            quantizer.bits = 8
    whole, losses = outputs(), {}
    for name, several in quantizers.items():
        for quantizer in several:
            quantizer.bits = 4
        moved = outputs()
        losses[name] = sum(map(divergence, whole, moved, kinds))
        for quantizer in several:
            quantizer.bits = 8
    return losses


def divergence(wanted, got, kind) -> float:
    """Return how far an output is from another.

    Args:
        wanted: (examples, ...).
        got: Likewise.
        kind: Its `OutputKind`.

    Returns:
        For probabilities, the mean Kullback-Leibler divergence in nats of what sums to one; for
        other outputs, the mean squared difference divided by the variance.
    """
    least = 1e-7
    if kind.activation == "softmax":
        axis = -1 if kind.class_axis is None else kind.class_axis
        terms = wanted * (np.log(wanted + least) - np.log(got + least))
        return max(float(terms.sum(axis).mean()), 0.0)
    if kind.activation == "sigmoid":
        terms = sum(
            p * (np.log(p + least) - np.log(q + least))
            for p, q in ((wanted, got), (1 - wanted, 1 - got))
        )
        return max(float(terms.mean()), 0.0)
    return float(((wanted - got) ** 2).mean() / max(wanted.var(), 1e-12))


def best_sets(saved, losses) -> list[tuple[int, float, tuple[int, ...]]]:
    """Return the sets of layers that no other one beats: none saves as much and loses less.

    Args:
        saved: Bytes that each layer saves.
        losses: What it loses, at least 0.

    Returns:
        (bytes saved, loss, places of the layers) of each set, the one that saves least first.
    """
    grain = max(sum(saved) / _RESOLUTION, 1.0)
    sets: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for place, (size, loss) in enumerate(zip(saved, losses, strict=True)):
        more = [(have + size, cost + loss, (*of, place)) for have, cost, of in sets]
        kept: list[tuple[int, float, tuple[int, ...]]] = []
        # The set that saves most comes first; each later one must lose less.
        for one in sorted([*sets, *more], key=lambda one: (-one[0], one[1])):
            if not kept or one[1] < kept[-1][1]:
                if kept and int(kept[-1][0] / grain) == int(one[0] / grain):
                    kept.pop()
                kept.append(one)
        sets = kept[::-1]
    return sets


def _saved(wrappers) -> int:
    """Return the approximate bytes that 4 bits save in the file."""
    total = 0
    for wrapper in wrappers:
        total += _weights(wrapper) // 2
        for kernel, quantizer, _ in wrapper._weight_vars:
            if not quantizer.channels and quantizer.columns is None:
                total += _SCALE_BYTES * (kernel.shape[-1] - 1)
    return total


def _weights(wrapper) -> int:
    return sum(math.prod(kernel.shape) for kernel, *_ in wrapper._weight_vars)
