"""What the student is told of the teacher: losses on answers and losses on features.

`soft` compares outputs, `features` compares what named layers give, `outputs` tells what
an output means and turns probabilities back into logits.
"""

from tfkd.losses.features import (
    AttentionTransfer,
    FeatureLoss,
    Hint,
    SimilarityPreserving,
)
from tfkd.losses.outputs import TASKS, logits_of, option_of, task_of
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
    default_for,
    get,
)

__all__ = [
    "DIST",
    "DKD",
    "TASKS",
    "AttentionTransfer",
    "BinaryKLDivergence",
    "FeatureLoss",
    "Hint",
    "KLDivergence",
    "LogitMeanSquaredError",
    "MeanSquaredError",
    "SimilarityPreserving",
    "SoftLoss",
    "StandardizedKLDivergence",
    "TeacherBounded",
    "default_for",
    "get",
    "logits_of",
    "option_of",
    "task_of",
]
