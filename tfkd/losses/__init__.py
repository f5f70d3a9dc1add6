"""What the student learns from the teacher: losses on outputs and losses on features.

`adaptive` has the default (`soft_loss="auto"`). `soft` compares outputs, and `weighted` adds
several such losses up. `features` compares the outputs of named layers, `pairing` finds these
layers, and `balance` weighs them. `outputs` determines what an output means and turns probabilities
back into logits.
"""

from tfkd._renamed import with_old_names
from tfkd.losses.adaptive import Balanced, default_for, resolve
from tfkd.losses.features import (
    AttentionTransfer,
    ChannelWise,
    FeatureLoss,
    Hint,
    RelationalKD,
    SimilarityPreserving,
)
from tfkd.losses.outputs import SOFT_TASKS, logits_of, task_of_loss
from tfkd.losses.outputs import option_of as option_of
from tfkd.losses.outputs import takes_numbers as takes_numbers
from tfkd.losses.pairing import pair_layers
from tfkd.losses.soft import (
    DIST,
    DKD,
    BinaryKLDivergence,
    KLDivergence,
    LogitMeanSquaredError,
    MeanSquaredError,
    SoftLoss,
    StandardizedKLDivergence,
    TeacherBounded,
    get,
)
from tfkd.losses.weighted import WeightedSum

__all__ = [
    "DIST",
    "DKD",
    "SOFT_TASKS",
    "AttentionTransfer",
    "Balanced",
    "BinaryKLDivergence",
    "ChannelWise",
    "FeatureLoss",
    "Hint",
    "KLDivergence",
    "LogitMeanSquaredError",
    "MeanSquaredError",
    "RelationalKD",
    "SimilarityPreserving",
    "SoftLoss",
    "StandardizedKLDivergence",
    "TeacherBounded",
    "WeightedSum",
    "default_for",
    "get",
    "logits_of",
    "pair_layers",
    "resolve",
    "task_of_loss",
]

__getattr__ = with_old_names(
    __name__,
    None,
    {"TASKS": f"{__name__}:SOFT_TASKS", "task_of": f"{__name__}:task_of_loss"},
)
