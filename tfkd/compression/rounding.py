"""`Rounding`: what quantization-aware training was worth, beside calibration alone."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Rounding:
    """What quantization-aware training was worth on the validation part.

    Attributes:
        metric: `"accuracy"` or `"r2"`.
        trained: The score after it.
        calibrated: The score of the float student with ranges from examples (and, in 4 bits,
            weights rounded by GPTQ), not trained.
        models: The two, `trained` and `calibrated`.
        fails: Whether the file of the one with the higher score is not its model.
    """

    metric: str
    trained: float
    calibrated: float
    models: dict[str, Any] = dataclasses.field(repr=False, compare=False)
    fails: bool = False

    @property
    def kept(self) -> str:
        """Which of the two goes into the int8 file."""
        return "calibrated" if (self.calibrated > self.trained) != self.fails else "trained"

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        figures = {name: getattr(self, name) for name in ("metric", "trained", "calibrated")}
        metric = "R²" if self.metric == "r2" else self.metric
        why = ", since the other's file does not compute what its model does" * self.fails
        summary = (
            f"On the validation part the student has {metric} {self.trained:.3f} after "
            f"quantization-aware training and {self.calibrated:.3f} calibrated without it: the "
            f"{self.kept} one is kept{why}."
        )
        return {**figures, "kept": self.kept, "summary": summary}
