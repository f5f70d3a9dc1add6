"""`Rounding`: the worth of quantization-aware training, compared with calibration alone."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfkd.compression.choice import Drop, Scores


@dataclasses.dataclass(frozen=True)
class Rounding:
    """The worth of quantization-aware training on the validation part.

    Attributes:
        teacher: The teacher's scores, with which outputs are compared.
        trained: The scores after quantization-aware training.
        calibrated: The scores of the float student with ranges from examples (and, in 4 bits,
            weights rounded by GPTQ), not trained.
        models: The two, `trained` and `calibrated`.
        fails: Whether the file of the better one does not compute what its model does.
    """

    teacher: Scores
    trained: Scores
    calibrated: Scores
    models: dict[str, Any] = dataclasses.field(repr=False, compare=False)
    fails: bool = False

    @property
    def kept(self) -> str:
        """Which of the two goes into the int8 file: the one with the better worst output."""
        trained, calibrated = (
            Drop.of(scores, self.teacher).value for scores in (self.trained, self.calibrated)
        )
        return "calibrated" if (calibrated < trained) != self.fails else "trained"

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values; for several outputs, by name."""
        figures = {
            name: {
                "metric": score.metric,
                "trained": score.value,
                "calibrated": self.calibrated[name].value,
            }
            for name, score in self.trained.items()
        }
        outputs = figures[None] if list(figures) == [None] else {"outputs": figures}
        said = (
            f"{f'for {name!r} ' if name else ''}{'R²' if of['metric'] == 'r2' else of['metric']} "
            f"{of['trained']:.3f} after quantization-aware training and {of['calibrated']:.3f} "
            "calibrated without it"
            for name, of in figures.items()
        )
        why = ", because the other's file does not compute what its model does" * self.fails
        summary = (
            f"On the validation part the student has {', '.join(said)}: the {self.kept} one is "
            f"kept{why}."
        )
        return {**outputs, "kept": self.kept, "summary": summary}
