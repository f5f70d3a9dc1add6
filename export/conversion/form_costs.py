"""What each form of a model's recurrent layers costs, measured on its files."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from tfkd.errors import ConversionError, InputError, TfkdError, UnsupportedError
from tfkd.export.conversion.recurrent import choice
from tfkd.export.conversion.to_tflite import to_tflite
from tfkd.export.micro import evaluation as micro_runtime
from tfkd.export.runtime import interpreter
from tfkd.export.tflite.model import TFLiteModel
from tfkd.loading import models

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, Format, PathLike

_SECONDS = 900.0


@dataclasses.dataclass(frozen=True)
class RecurrentForm:
    """The costs of one form of a model's recurrent layers, measured on the file.

    Attributes:
        form: `"fused"`, `"unrolled"`, `"loop"` or `"step"`.
        picked: Whether `recurrent="auto"` takes it.
        ops: Operators in the file. This and all figures below are `None` for a form that can't be
            made.
        bytes: Size of the file.
        activation_bytes: Peak size of the live activations, less than any arena.
        arena_bytes: Least arena of TensorFlow Lite for Microcontrollers on this 64-bit host;
            `None` if it is not installed or does not run the file.
        latency_us: Median of a call in XNNPACK with one thread on this machine, in microseconds,
            measured with the forms in turns. A call of a step file is one step.
        keeps_state: Whether the file must be reset before each sequence.
        error: Why the form can't be made, else `None`.
    """

    form: str
    picked: bool
    ops: int | None = None
    bytes: int | None = None
    activation_bytes: int | None = None
    arena_bytes: int | None = None
    keeps_state: bool | None = None
    error: str | None = None
    latency_us: float | None = None


def recurrent_forms(
    model: AnyModel | PathLike,
    format: Format = "int8",
    representative_data: Any = None,
    **options: Any,
) -> list[RecurrentForm]:
    """Make a model's file in each form of its recurrent layers and compare the costs.

    Args:
        model: As for `to_tflite`.
        format: As for `to_tflite`.
        representative_data: As for `to_tflite`; not an iterator, since it is read several times.
        **options: As for `to_tflite`.

    Returns:
        A `RecurrentForm` for each form; empty for a model without recurrent layers.

    Raises:
        InputError: as `to_tflite`, for what no form can take.
    """
    if isinstance(model, (str, os.PathLike)):
        model = models.load_model(model)
    micro, calibrated = options.get("micro", False), representative_data is not None
    picked = choice.automatic(model, format, micro, calibrated)
    if picked is None:
        return []
    rows, files = [], {}
    errors: list[TfkdError] = []
    for form in choice.FORMS[1:]:
        try:
            file = to_tflite(model, format, representative_data, recurrent=form, **options)
        except (InputError, UnsupportedError, ConversionError) as error:
            errors.append(error)
            rows.append(RecurrentForm(form, form == picked, error=str(error)))
            continue
        files[form] = file.data
        rows.append(
            RecurrentForm(
                form,
                form == picked,
                sum(file.ops.values()),
                file.size,
                file.activation_bytes,
                _arena(file),
                file.keeps_state,
            )
        )
    if not files and all(isinstance(error, InputError) for error in errors):
        raise errors[0]
    timed = interpreter.call_interpreter(interpreter.time_in_turns, files, timeout=_SECONDS)
    return [dataclasses.replace(row, latency_us=timed.get(row.form)) for row in rows]


def _arena(file: TFLiteModel) -> int | None:
    if not micro_runtime.is_installed():
        return None
    try:
        return micro_runtime.least_arena(file)
    except ConversionError:
        return None
