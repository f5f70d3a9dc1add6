"""`Scale`: how students of a search are compared, by one number of which more is better.

one output        accuracy, or minus the mean absolute error
several outputs   minus the drop of the worst one against the teacher
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfkd.compression.choice import Scores
from tfkd.compression.outputs import curves_by_name
from tfkd.compression.trainer import Trainer

#: Added to errors, so that those of a perfect teacher can divide.
_TINY = 1e-12


class Scale:
    """Turns the metrics of an epoch into the number that students are compared by.

    Args:
        trainer: The trainer, with the data.
        scores_of_teacher: Returns the teacher's scores on the validation part, for a student.
    """

    def __init__(self, trainer: Trainer, scores_of_teacher: Callable[[Any], Scores]):
        self._trainer, self._scores_of_teacher = trainer, scores_of_teacher
        self._teacher: Scores | None = None

    def metric(self, student: Any) -> str:
        """Return what the number is made from: `"accuracy"`, `"mae"` or `"worst drop"`.

        The last two are errors: the number is minus their value.
        """
        task = self._trainer.task(student)
        if isinstance(task, Mapping):
            return "worst drop"
        return "mae" if task == "regression" else "accuracy"

    def score(self, student: Any, logs: Mapping[str, float]) -> float:
        """Return the number for an epoch.

        Args:
            student: The model that is trained: the student, or the one in its place.
            logs: The epoch's metrics, with those of the validation part.
        """
        names = self._trainer.data.outputs
        if not names:
            metric = next(name for name in logs if name.endswith(("val_accuracy", "val_mae")))
            return float(logs[metric]) * (-1 if metric.endswith("val_mae") else 1)
        if self._teacher is None:
            self._teacher = self._scores_of_teacher(student)
        found = curves_by_name({name: [value] for name, value in logs.items()}, student, names)
        drops = []
        for name, score in self._teacher.items():
            if score.metric == "r2":
                teacher = float(np.sqrt(score.hits).mean()) + _TINY  # the hits are squared errors
                drops.append(float(found[f"val_{name}_mae"][0]) / teacher - 1)
            else:
                drops.append(score.value - float(found[f"val_{name}_accuracy"][0]))
        return -max(drops)
