"""The trials of the search: their order, the front of size and score, which to finish first."""

from __future__ import annotations

import dataclasses
import math

from tfkd.comparison import methods
from tfkd.compression.candidates import Candidate
from tfkd.compression.finishing import Finisher
from tfkd.compression.rehearsal import Costs
from tfkd.export.report import entries
from tfkd.export.report.entries import Front

#: How far below the wanted score a student may be after the search; finishing may close the gap.
_NEAR = 0.02


@dataclasses.dataclass(frozen=True)
class Trial:
    """A candidate that was trained for a while.

    Attributes:
        candidate: The candidate.
        costs: The costs of its file.
        score: The validation score of its last epoch, of which more is better, see `Scale`.
        epochs: Epochs that it was trained for; fewer if others were ahead.
        chosen: Whether it was finished and kept.
        method: How it was taught; `None` for the recipe's loss.
        metric: What the score is made from, as `Scale.metric` gives it.
    """

    candidate: Candidate
    costs: Costs
    score: float
    epochs: int
    chosen: bool = False
    method: methods.Method | None = None
    metric: str = "accuracy"

    @property
    def name(self) -> str:
        """Name of the candidate, with 4 bits and another loss than the recipe's."""
        bits = ["4 bits"] if self.costs.bits == 4 else []
        loss = [] if self.method is None else [self.method.name]
        return ", ".join([self.candidate.name, *bits, *loss])

    @property
    def is_error(self) -> bool:
        """Whether the score is minus an error."""
        return self.metric != "accuracy"

    @property
    def said(self) -> str:
        """Name, score and size, in a few words."""
        error = f"{'error' if self.metric == 'mae' else self.metric} {0.0 - self.score:.4g}"
        score = error if self.is_error else f"{self.score:.1%}"
        return f"{self.name}, {score}, {self.costs.bytes / 1000:.1f} kB"


def front_of(trials: list[Trial]) -> Front:
    """Return the trials as the report shows them."""
    is_error = trials[0].is_error
    return Front(
        tuple(
            entries.Candidate(
                trial.name,
                trial.costs.bytes / 1000,
                0.0 - trial.score if is_error else trial.score,
                trial.chosen,
                epochs=trial.epochs,
                parameters=trial.costs.parameters,
                macs=trial.costs.macs,
                arena_bytes=trial.costs.arena,
            )
            for trial in trials
        ),
        "size, kB",
        trials[0].metric,
    )


def order_of(finisher: Finisher, trials: list[Trial]) -> list[Trial]:
    """Return the students to finish, one after the other until one meets the target.

    Without a drop the best student comes first. With a drop, the students on the front (none is
    smaller and better) come first that were trained to the end and whose score is near the wanted
    one, the smallest first. Then follow all that are larger than the first, the best first, and all
    others likewise: trials are short, the validation part is a sample, and the file of a student
    may not compute what its model computes.
    """
    longest = max(trial.epochs for trial in trials)
    through = [trial for trial in trials if trial.epochs == longest]
    through.sort(key=lambda trial: (trial.costs.bytes, -trial.score))
    front: list[Trial] = []
    for trial in through:
        if not front or trial.score > front[-1].score:
            front.append(trial)
    best, metric = front[-1].score, front[-1].metric
    if finisher.goal.drop is None:
        least = best
    elif metric == "mae":
        least = best * (1 + finisher.goal.drop + _NEAR)
    elif metric == "worst drop":
        least = min(best, -finisher.goal.drop) - _NEAR
    else:
        [teacher] = finisher.scores_of_teacher(front[0].candidate.model).values()
        least = min(best, teacher.value - finisher.goal.drop) - _NEAR
    near = [trial for trial in front if trial.score >= least]
    rest = [trial for trial in trials if trial not in near]
    rest.sort(key=lambda trial: (trial.costs.bytes <= near[0].costs.bytes, -trial.score))
    return near + rest


def spread_out(fitting: list[tuple[Candidate, Costs]]) -> list[tuple[Candidate, Costs]]:
    """Return the candidates in an order whose every beginning covers all sizes."""
    rest = sorted(fitting, key=lambda one: one[1].bytes)
    spread = [rest.pop(0)] + ([rest.pop()] if rest else [])
    while rest:
        # Next, the one whose ratio of bytes to all earlier ones is largest.
        gaps = [
            min(abs(math.log(one[1].bytes / other[1].bytes)) for other in spread) for one in rest
        ]
        spread.append(rest.pop(gaps.index(max(gaps))))
    return spread
