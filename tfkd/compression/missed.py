"""`Missed`: why candidates of a search were left out, and what to do if all were."""

from __future__ import annotations

import dataclasses

from tfkd.compression.rehearsal import Costs, Goal
from tfkd.errors import TfkdError


@dataclasses.dataclass
class Missed:
    """Why candidates were left out.

    Attributes:
        problems: Costs of candidates, and the limits that they exceed.
        refused: Kind → the error of a stage that refuses it.
        larger: Whether any had as many parameters as the teacher.
    """

    problems: list[tuple[Costs, list[str]]] = dataclasses.field(default_factory=list)
    refused: dict[str, TfkdError] = dataclasses.field(default_factory=dict)
    larger: bool = False

    def in_words(self, goal: Goal) -> str:
        """Return which limits of a goal, or of the teacher's file, the smallest of them misses."""
        if not self.problems:
            if not self.refused and self.larger:
                return (
                    "Every student that was tried has at least as many parameters as the teacher; "
                    "give a student."
                )
            return f"No student that was tried can be exported{self._reasons()}"
        _, problems = min(self.problems, key=lambda one: (one[0].bytes, one[0].arena or 0))
        if not goal.is_asked:
            return (
                "No student that was tried is smaller than the teacher; the smallest: "
                f"{'; '.join(problems)}. Give a smaller student."
            )
        return (
            "No student that was tried meets the target; the smallest misses it: "
            f"{'; '.join(problems)}. Relax the target, or give a smaller student."
        )

    def _reasons(self) -> str:
        """Return the end of a sentence: each reason once, with the kinds that it holds for."""
        kinds: dict[str, list[str]] = {}
        for kind, why in self.refused.items():
            kinds.setdefault(str(why).removesuffix("."), []).append(kind)
        if len(kinds) == 1:
            return f": {next(iter(kinds))}. Or give a student."
        several = "; ".join(f"{', '.join(names)}: {why}" for why, names in kinds.items())
        return f" ({several}); give a student."
