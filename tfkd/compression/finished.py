"""`Finished`: a student with its files, and whether they meet a target."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from typing import Any

from tfkd.compression.choice import Drop, Teaching
from tfkd.compression.recipe import Recipe
from tfkd.compression.rehearsal import Costs, Goal
from tfkd.compression.rounding import Rounding
from tfkd.distillation.distiller import Distiller
from tfkd.export.tflite.model import TFLiteModel


@dataclasses.dataclass
class Finished:
    """A student with its files.

    Attributes:
        models: `baseline`, `student` and, for an int8 file, `student_qat`.
        files: `student_FORMAT` → file.
        worth: The worth of the teacher.
        rounding: The worth of quantization-aware training; `None` without an int8 file.
        costs: The costs of the main file.
        drop: How much worse that file is than the teacher on the validation part.
        verified: Whether that file computes the same there as its model.
        scorer: A `Distiller` that scores teacher, models and files alike.
        histories: Its training curves by stage.
        recipe: The recipe of its training: epochs as the budget left them, bits, and the loss.
    """

    models: dict[str, Any]
    files: dict[str, TFLiteModel]
    worth: Teaching
    rounding: Rounding | None
    costs: Costs
    drop: Drop
    verified: bool
    scorer: Distiller
    histories: dict[str, dict[str, list[float]]]
    recipe: Recipe

    def meets(self, goal: Goal) -> bool:
        """Tell whether target and board are met, with the drop's standard error to spare."""
        worst = self.drop.value + self.drop.error
        return goal.allows(worst) and self.verified and not goal.unmet(self.costs)

    def is_better(self, other: Finished) -> bool:
        """Tell whether it loses less than another; a file that is not its model comes last."""
        return (self.verified, -self.drop.value) > (other.verified, -other.drop.value)


def is_saved(model: Any, path: pathlib.Path) -> bool:
    """Save a model; tell whether Keras can.

    Warns:
        UserWarning: if it can't, as for a layer without a `get_config`.
    """
    try:
        model.save(path)
    except (NotImplementedError, TypeError, ValueError) as error:
        path.unlink(missing_ok=True)
        said = " ".join(str(error).strip().split("\n\n")[0].split())
        warnings.warn(
            f"There is no {path.name}, because Keras can't save the model: {said}", stacklevel=2
        )
        return False
    return True
