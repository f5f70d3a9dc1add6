"""`Dominated`: Optuna ends a trial that one no larger beats. Imported when it is used."""

from __future__ import annotations

import math

import optuna

#: The attribute of a trial that holds the bytes of its file.
BYTES = "bytes"


class Dominated(optuna.pruners.BasePruner):
    """Ends a trial at a quarter or half of its epochs where one that is no larger scores as high.

    Successive halving keeps the best part of all. Here the small ones are worse and wanted: each is
    compared with those that cost no more, so that what goes on is the front of size and score.

    Args:
        epochs: Of a whole trial.
    """

    def __init__(self, epochs: int):
        self._rungs = {math.ceil(epochs / 4), math.ceil(epochs / 2)}

    def prune(self, study: optuna.study.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Tell Optuna whether the trial ends."""
        step = trial.last_step
        if step not in self._rungs:
            return False
        return any(
            other.number != trial.number
            and other.user_attrs[BYTES] <= trial.user_attrs[BYTES]
            and other.intermediate_values.get(step, -math.inf) >= trial.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
        )
