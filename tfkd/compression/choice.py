"""Which of two students to keep: the one whose worst output loses less against the teacher.

A target's `drop` has to hold for every output, so a model is as good as its worst one. Choices use
the same figure: with the teacher or without it, trained quantization-aware or calibrated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

from tfkd.compression.rehearsal import drop_error, drop_of
from tfkd.distillation.worth import Score, Worth
from tfkd.tables import Printed

#: A score for each output by its name; `None` is the key of a single output.
Scores: TypeAlias = "Mapping[str | None, Score]"


@dataclasses.dataclass(frozen=True)
class Drop(Printed):
    """How much worse than the teacher a model's worst output is.

    Attributes:
        output: Its name; `None` where the model has one.
        value: The drop in accuracy, or as a fraction of the teacher's RMSE.
        metric: `"accuracy"` or `"rmse"`.
        each: The value of each output by name.
        error: The standard error of `value`; for several outputs, how far the worst drop may lie
            above it, given their errors.
    """

    output: str | None
    value: float
    metric: str
    each: Mapping[str | None, float]
    error: float = 0.0

    @classmethod
    def of(cls, scores: Scores, teacher: Scores) -> Drop:
        """Return the drop of a model's scores against its teacher's."""
        each = {name: drop_of(score, teacher[name]) for name, score in scores.items()}
        worst = max(each, key=lambda name: each[name])
        high = max(each[name] + drop_error(scores[name], teacher[name]) for name in each)
        metric = teacher[worst].metric
        return cls(
            worst, each[worst], "rmse" if metric == "r2" else metric, each, high - each[worst]
        )

    def describe(self) -> str:
        """Return the drop in a few words, with the output's name if there are several."""
        percent = round(100 * self.value, 1)
        words = f"{0.0 - percent:+.1f} points beside the teacher"  # no "-0.0"
        if self.metric == "rmse":
            side = "higher" if percent > 0 else "lower"
            words = f"an RMSE {abs(percent):.1f} % {side} than the teacher's"
        return words if self.output is None else f"{words} ({self.output!r}, its worst output)"


@dataclasses.dataclass(frozen=True)
class Teaching:
    """The worth of the teacher for each output, and which student was kept for it.

    Attributes:
        outputs: The same student with and without the teacher, by output.
    """

    outputs: Mapping[str | None, Worth]

    @classmethod
    def of(cls, teacher: Scores, alone: Scores, taught: Scores) -> Teaching:
        """Return the `Teaching` for scores of teacher and students on the validation part."""
        return cls({name: Worth(teacher[name], alone[name], taught[name]) for name in teacher})

    @property
    def teacher(self) -> Scores:
        """The teacher's scores."""
        return {name: worth.teacher for name, worth in self.outputs.items()}

    @property
    def helps(self) -> bool:
        """Whether the taught student is at least as good as the other, by its worst output."""
        if len(self.outputs) == 1:
            return next(iter(self.outputs.values())).helps
        return self._drop("taught").value <= self._drop("alone").value

    @property
    def harms(self) -> bool:
        """Whether the teacher makes an output worse by more than the interval of the difference."""
        return any(worth.harms for worth in self.outputs.values())

    def _drop(self, student: str) -> Drop:
        scores = {name: getattr(worth, student) for name, worth in self.outputs.items()}
        return Drop.of(scores, self.teacher)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values; for several outputs, by name."""
        if list(self.outputs) == [None]:
            return self.outputs[None].to_json()
        return {
            "part": "validation",
            "kept": "taught" if self.helps else "alone",
            "drops": {name: dict(self._drop(name).each) for name in ("taught", "alone")},
            "outputs": {name: worth.figures() for name, worth in self.outputs.items()},
            "summary": str(self),
        }

    def __str__(self):
        if list(self.outputs) == [None]:
            return str(self.outputs[None])
        lines = [f"{name}: {worth.compared()}" for name, worth in self.outputs.items()]
        how, other = ("with", "without") if self.helps else ("without", "with")
        kept, left = (self._drop(name) for name in ("taught", "alone")[:: 1 if self.helps else -1])
        return (
            f"{'. '.join(lines)}. The student trained {how} the teacher was kept: "
            f"{kept.describe()}; {other} it {left.describe()}."
        )
