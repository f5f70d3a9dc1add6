"""How many epochs a budget leaves: some batches of each stage are timed first."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from tfkd.compression.recipe import Recipe, in_order
from tfkd.compression.trainer import Trainer
from tfkd.data import Data
from tfkd.errors import InputError
from tfkd.quantization import quantize_aware
from tfkd.translation.copies import copy_of

# Epochs of each stage that a budget must allow.
_LEAST_EPOCHS = 3
_EPOCHS = ("epochs", "qat_epochs")
# Number of timed batches.
_TIMED = 16
# Share of the budget that the least training may take after the search has used the rest.
_GRACE = 0.1
# Training's share of the remaining budget; the rest is for files and report.
_FOR_TRAINING = 0.8


def paced(finisher: Any, student: Any, recipe: Recipe) -> Recipe:
    """Return the recipe with as many epochs as the budget leaves.

    Args:
        finisher: The `Finisher`, which holds data, task, clock and stages.
        student: A float model of either Keras; it is not changed.
        recipe: The requested recipe.

    Raises:
        InputError: if the budget leaves too few epochs. Where the search has used it up, they may
            still take a tenth of it.
    """
    if finisher.clock.seconds is None:
        return recipe
    rounds = "int8" in recipe.formats
    inputs = finisher.keys.of(
        student,
        training=finisher.keys.trained_by(recipe),
        rounding=(recipe.qat_epochs, in_order(recipe.widths[0])) if rounds else None,
        budget=finisher.clock.seconds,
    )

    def enough() -> dict[str, Any]:
        found = timed(finisher, student, recipe)
        least = {name: min(_LEAST_EPOCHS, getattr(recipe, name)) for name in _EPOCHS}
        if found["least_seconds"] > max(found["left"], _GRACE * finisher.clock.seconds):
            raise InputError(  # and keep nothing: the next identical call has more time
                f"The budget of {finisher.clock.seconds:,.0f} s is too short: {_LEAST_EPOCHS} "
                f"epochs of each stage and the files take {found['least_seconds']:,.1f} s, but "
                f"only {max(found['left'], 0):,.1f} s are left. Give more."
            )
        return found | {name: max(found[name], least[name]) for name in _EPOCHS}

    paced = finisher.stages.once("pace", inputs, enough)
    return dataclasses.replace(recipe, epochs=paced["epochs"], qat_epochs=paced["qat_epochs"])


def timed(finisher: Any, student: Any, recipe: Recipe) -> dict[str, Any]:
    """Time some batches of each stage; return the epochs that fit."""
    data = finisher.trainer.data
    count = min(len(data.train), _TIMED * recipe.batch_size)
    few = data.train.head(count)
    taught = ("taught",) if finisher.trainer.changes_examples else ()
    seconds = {}
    for stage in ("alone", *taught, *(("qat",) if "int8" in recipe.formats else ())):
        ticks: list[float] = []
        timer = Trainer(
            Data("pace", few, few, few),
            dataclasses.replace(recipe, epochs=3, patience=None, callbacks=None),
            progress=lambda stage, done, total, ticks=ticks: ticks.append(time.monotonic()),
            task=finisher.trainer.given_task,
        )
        model = copy_of(student)
        if stage == "qat":
            model = quantize_aware(model, bits=recipe.widths[0])
        timer.fit(stage, model, finisher.distiller if stage == "taught" else None, validate=False)
        seconds[stage] = (ticks[-1] - ticks[-2]) * len(data.train) / count
    # The teacher answers examples that change in every step, and others once, now.
    asking = max(seconds["taught"] - seconds["alone"], 0.0) if taught else 0.0
    if not taught:
        finisher.answers(student)
    an_epoch = 2 * seconds["alone"] + asking
    a_qat_epoch = seconds["qat"] + asking if "qat" in seconds else 0.0
    planned = recipe.epochs * an_epoch + recipe.qat_epochs * a_qat_epoch
    left = _FOR_TRAINING * finisher.clock.left
    part = min(1.0, left / max(planned, 1e-9))
    return {
        "epochs": int(part * recipe.epochs),
        "qat_epochs": int(part * recipe.qat_epochs),
        "least_seconds": _LEAST_EPOCHS * (an_epoch + a_qat_epoch) / _FOR_TRAINING,
        "left": finisher.clock.left,
    }
