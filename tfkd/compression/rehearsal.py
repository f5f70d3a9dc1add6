"""`rehearse`: what every later stage would refuse, and what the files cost, before training.

An untrained copy of the student goes the whole way to its files. Bytes, operators and arena do not
depend on the weights, so a refusal here replaces one after hours of training.

    student ─► copy ─► quantize_aware ─► files ─► TensorFlow Lite for Microcontrollers ─► Costs
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfkd.compression.recipe import Recipe
from tfkd.compression.settings import Target
from tfkd.distillation.worth import Score
from tfkd.errors import (
    InputError,
    MissingDependencyError,
    TfkdError,
    UnsupportedError,
    WorkerError,
    argument,
)
from tfkd.export.conversion.to_tflite import to_tflite
from tfkd.export.latency import benchmark
from tfkd.export.micro import boards, evaluation
from tfkd.export.tflite.model import TFLiteModel
from tfkd.intervals import by_example
from tfkd.model import binding, cost
from tfkd.quantization import calibrate, export_form, quantize_aware, without_rule
from tfkd.quantization.rules import kernels
from tfkd.translation.copies import copy_of

#: Number of trial examples; for an untrained model their values do not matter.
EXAMPLES = 32
#: Largest rounding error in differences of scores and in percentages.
_ROUNDING = 1e-9
#: Added to squared errors, so that a perfect teacher's errors can divide.
_TINY = 1e-100


@dataclasses.dataclass(frozen=True)
class Costs:
    """The costs of the smallest of a student's files.

    Attributes:
        bytes: Size of the int8 file, or of the file in the last format if int8 is not among them.
        parameters: Number of weights.
        macs: Multiply-accumulates of one example, `None` where they are not known.
        arena: Bytes of RAM on TensorFlow Lite for Microcontrollers with a margin for other kernels;
            `None` if it was not requested.
        latency: Median time of a call in µs on this machine; `None` if it was not requested.
        bits: Bits of the weights in an int8 file, as for `quantize_aware`.
    """

    bytes: int
    parameters: int
    macs: int | None
    arena: int | None = None
    latency: float | None = None
    bits: int | Mapping[str, int] = 8

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Goal:
    """A target in numbers, and the board.

    Attributes:
        limits: The limits by name; fractions of the original's values as absolute numbers.
        drop: How much worse the score may become; `None` for no limit.
        board: The board that the file has to fit on, or `None`.
    """

    limits: dict[str, float]
    drop: float | None
    board: boards.Board | None

    @property
    def is_asked(self) -> bool:
        """Whether there is any requirement; a phone has no flash to fit into."""
        limited = self.board is not None and self.board.runs_tflm
        return limited or bool(self.limits) or self.drop is not None

    @property
    def needs_arena(self) -> bool:
        """Whether the file has to run on TensorFlow Lite for Microcontrollers."""
        micro = self.board is not None and self.board.runs_tflm
        return micro or "arena" in self.limits

    def unmet(self, costs: Costs) -> list[str]:
        """Return a line for each limit that is exceeded, or that unknown MACs may exceed.

        Arena and latency are left out where they are not measured yet.
        """
        found = [
            f"{name}: {'not known' if value is None else _shown(value)}, and the target is "
            f"{_shown(limit)}"
            for name, limit in self.limits.items()
            for value in [getattr(costs, name)]
            if (name == "macs" if value is None else value > limit)
        ]
        return found + [
            f"{verdict.describe()} on the {self.board.name}"
            for verdict in self.verdicts(costs)
            if not verdict.fits
        ]

    def allows(self, drop: float) -> bool:
        """Tell whether a drop is allowed: 0.97 - 0.96, which is computed as more than 0.01, is."""
        return self.drop is None or drop <= self.drop + _ROUNDING

    def is_too_large(self, costs: Costs) -> bool:
        """Tell whether the file has more bytes than the target or the board's flash."""
        flash = any(one.resource == "flash" and not one.fits for one in self.verdicts(costs))
        return flash or costs.bytes > self.limits.get("bytes", costs.bytes)

    def verdicts(self, costs: Costs) -> list[boards.Verdict]:
        """Return whether flash and RAM of the board are enough."""
        if self.board is None or not self.board.runs_tflm or costs.arena is None:
            return []
        return boards.fits(costs.bytes, costs.arena, board=self.board)


def _shown(value: float) -> str:
    """Return a number with up to two decimals, since a call may take a few µs."""
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def drop_of(score: Score, teacher: Score) -> float:
    """Return how much worse a score is: in accuracy, or as a fraction of the teacher's RMSE."""
    if score.metric != "r2":
        return teacher.value - score.value
    # From the errors themselves, which also exist for equal labels.
    ratio = (float(score.hits.mean()) + _TINY) / (float(teacher.hits.mean()) + _TINY)
    return math.sqrt(ratio) - 1


def drop_error(score: Score, teacher: Score) -> float:
    """Return the standard error of `drop_of` for two models scored on the same examples.

    For an accuracy, one more differing element is counted: if the models differ on none of 50
    examples, they may still differ on some of the next 50.
    """
    ours, theirs = np.asarray(score.hits, float), np.asarray(teacher.hits, float)
    if score.metric != "r2":
        gaps = by_example(ours - theirs, score.rows)
        count = len(gaps)
        differ = (np.square(gaps).sum() + np.square(count / len(ours))) / count
        return math.sqrt(max(differ - np.square(gaps.mean()), 0.0) / count)
    # Standard error of the logarithm of the ratio of mean squares, by the delta method.
    relative = ours / (ours.mean() + _TINY) - theirs / (theirs.mean() + _TINY)
    relative = by_example(relative, score.rows)
    return (drop_of(score, teacher) + 1) / 2 * float(relative.std()) / math.sqrt(len(relative))


def goal_of(target: Target, board: str | boards.Board | None, teacher: cost.ModelCost | None):
    """Return a target in numbers.

    Args:
        target: The requested target; numbers below 1 are fractions of the teacher's values.
        board: A name in `BOARDS`, or a `Board`.
        teacher: The teacher's costs; `None` if it is no Keras model.

    Raises:
        InputError: for an unknown board, and for a fraction of an unknown value.

    Warns:
        UserWarning: for a board without limits if there is no other requirement.
    """
    found = boards.find(board, "a target of bytes (its flash) and arena (its RAM)")
    whole = {"macs": None, "parameters": None, "bytes": None}
    if teacher is not None:
        whole = {
            "macs": teacher.macs,
            "parameters": teacher.parameters,
            "bytes": teacher.float32_bytes,
        }
    limits = dict(target.costs)
    for name, value in limits.items():
        if value < 1:
            if whole.get(name) is None:
                raise InputError(
                    f"The target of {name} is {value:g}, a fraction of the teacher's, which is not "
                    "known: give a number of at least 1."
                )
            limits[name] = value * whole[name]
    goal = Goal(limits, target.drop, found)
    if found is not None and not goal.is_asked:
        warnings.warn(
            f"{found.name!r} sets no limit by itself, because it keeps files in a file system. "
            "Give a target, such as a drop, bytes or a latency.",
            stacklevel=3,
        )
    if goal.needs_arena and not evaluation.is_installed():
        raise MissingDependencyError(
            "A board or a target of arena needs TensorFlow Lite for Microcontrollers, which "
            "measures the arena: pip install 'tfkd[micro]' (Linux, x86-64), or give bytes alone."
        )
    return goal


def main_format(recipe: Recipe) -> str:
    """Return the format whose file a target is about: int8, or the last one."""
    return "int8" if "int8" in recipe.formats else recipe.formats[-1]


def rehearse(student: Any, examples: Any, recipe: Recipe, goal: Goal, formats=None) -> Costs:
    """Take an untrained copy of a student the whole way, and return what its file costs.

    If the file is too large, fewer bits are tried; if all files are too large, the costs of the
    smallest are returned.

    Args:
        student: A float model of either Keras; it is not changed.
        examples: Some arrays of `x`.
        recipe: Formats and bits.
        goal: Decides whether to try the microcontroller too.
        formats: The formats to make. Defaults to the recipe's.

    Raises:
        TfkdError: if a stage refuses the student; the message names the stage. Also for a target
            of MACs that are not known.
    """
    formats = recipe.formats if formats is None else formats
    _check_macs(student, goal)
    student = _stirred(student)
    found: list[Costs] = []
    for bits in recipe.widths if main_format(recipe) == "int8" else recipe.widths[:1]:
        try:
            found.append(_costs(student, examples, recipe, bits, goal, formats))
        except TfkdError:
            if not found:
                raise
            continue  # the stage refuses fewer bits
        if not goal.is_too_large(found[-1]):
            return found[-1]
    return min(found, key=lambda costs: costs.bytes)


def _check_macs(student: Any, goal: Goal) -> None:
    """Raise for a target of MACs if those of a layer are not known."""
    layers = cost.measure(student).layers if "macs" in goal.limits else ()
    unknown = dict.fromkeys(f"{one.name} ({one.kind})" for one in layers if one.macs is None)
    if unknown:
        raise InputError(
            f"The target limits macs, but those of {', '.join(unknown)} are not known: limit "
            "parameters, bytes or latency instead, or replace these layers."
        )


def _costs(student, examples, recipe: Recipe, bits, goal: Goal, formats) -> Costs:
    main, costs = main_format(recipe), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about ranges from little data and without training
        for format in formats:
            with _named(f"The {format} file"):
                model = student if format != "int8" else _ranged(student, examples, bits)
                file = file_of(model, format, examples, goal.needs_arena)
            if format == main:
                costs = costs_of(file, model, goal, bits, recipe.threads)
    assert costs is not None
    return costs


def file_of(model: Any, format: str, examples: Any, micro: bool) -> TFLiteModel:
    """Return the file of a model, with ranges from examples where training gave none.

    These are the recurrent layers, which have another form on a microcontroller. In an int8 file
    the free sizes of a model's input are those of the data.
    """
    if format != "int8":
        return to_tflite(model, format)
    shapes = _fixed(model, examples)
    if export_form.needs_calibration(model):
        return to_tflite(model, format, examples, micro=micro, shapes=shapes)
    return to_tflite(model, format, shapes=shapes)


def _fixed(model: Any, examples: Any) -> dict[str, tuple[int, ...]] | None:
    """Return the shape of a model's input if it has free sizes: all examples have one shape."""
    [slot] = binding.inputs_of(model).entries
    if None not in slot.shape[1:]:
        return None
    return {slot.label: (1, *np.shape(examples)[1:])}


def costs_of(file: TFLiteModel, model: Any, goal: Goal, bits: Any = 8, threads: int = 1) -> Costs:
    """Return the costs of a file, with its arena and latency if the goal needs them."""
    costs, arena, latency = cost.measure(model), None, None
    if goal.needs_arena:
        with _named("TensorFlow Lite for Microcontrollers refuses the file"):
            arena = evaluation.least_arena(file) + evaluation.margin_for(file)
    if "latency" in goal.limits:
        [timed] = benchmark.benchmark({"file": file}, threads=threads, processes=1, min_seconds=0.2)
        latency = timed.median
    return Costs(file.size, costs.parameters, costs.macs, arena, latency, bits)


def _stirred(student):
    """Return a copy without constant weights, since the converter drops biases of zero."""
    copy, random = copy_of(student), np.random.default_rng(0)
    stirred = []
    for values in copy.get_weights():
        if values.dtype.kind == "f" and values.size and (values == values.flat[0]).all():
            values = values + random.uniform(0.01, 0.02, values.shape).astype(values.dtype)
        stirred.append(values)
    copy.set_weights(stirred)
    return copy


def _ranged(student, examples, bits):
    """Return an untrained quantize-aware copy with ranges."""
    with _named("Quantization-aware training, which an int8 file needs, refuses the student"):
        try:
            return calibrate(quantize_aware(student, bits=bits), examples)
        except UnsupportedError as error:
            raise UnsupportedError(_for_a_recipe(str(error))) from error


def _for_a_recipe(message: str) -> str:
    """Return a message of `quantize_aware` whose way out is one that a recipe has."""
    formats = argument("formats", alone=True)
    instead = f"Replace these layers, or leave 'int8' out of {formats}"
    for advice in (without_rule.way_out(), without_rule.no_loops()):
        message = message.replace(advice.removesuffix("."), instead)
    return message.replace(kernels.OWN_INPUT, "")


@contextlib.contextmanager
def _named(stage: str) -> Iterator[None]:
    """Name the stage in the errors that it raises."""
    try:
        yield
    except MissingDependencyError:
        raise
    except WorkerError as error:
        raise error.because(stage) from error
    except TfkdError as error:
        raise type(error)(f"{stage}: {error}") from error
