"""`Dominated`: Optuna ends a trial that one of at most its size beats. Imported when used."""

from __future__ import annotations

import math

import optuna

#: The attribute of a trial with the bytes of its file.
BYTES = "bytes"


class Dominated(optuna.pruners.BasePruner):
    """Ends a trial at a quarter or half of its epochs if one of at most its size scores as high.

    Successive halving keeps the best part of all trials. Here the small candidates are worse but
    wanted: each is compared only with candidates that cost no more, so that the front of size and
    score continues.

    Args:
        epochs: Epochs of a whole trial.
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
            and other.state is not optuna.trial.TrialState.FAIL  # its weights became NaN
            and other.user_attrs[BYTES] <= trial.user_attrs[BYTES]
            and other.intermediate_values.get(step, -math.inf) >= trial.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
        )
