"""What the files of candidates cost, and which of them meet the target, before any training."""

from __future__ import annotations

import itertools
from typing import Any

from tfkd.compression.candidates import Candidate, Family, families
from tfkd.compression.finishing import Finisher
from tfkd.compression.missed import Missed
from tfkd.compression.recipe import in_order
from tfkd.compression.rehearsal import Costs, main_format, rehearse
from tfkd.errors import (
    InputError,
    MissingDependencyError,
    TfkdError,
    UnsupportedError,
    WorkerError,
    of_a_worker,
)
from tfkd.model.fingerprint import fingerprint

#: Largest share of a budget for it; one candidate of each kind is costed in any case.
_SHARE = 0.2


def affordable(finisher: Finisher) -> list[tuple[Candidate, Costs]]:
    """Return the candidates to train: some of each family whose files meet the target.

    Raises:
        TfkdError: if every kind is refused for the data or the teacher: the reason of the first.
        InputError: if no candidate meets the target; the message gives the smallest.
    """
    recipe, data = finisher.recipe, finisher.trainer.data
    x, keeps_masks = data.train.head(256).x, "int8" not in recipe.formats
    several = families(finisher.teacher, x, recipe.seed, finisher.end_of, keeps_masks, data.outputs)
    missed = Missed()
    for family in several:
        try:
            finisher.check(family.largest.model)
        except TfkdError as error:
            missed.refused[family.kind] = error
    if len(missed.refused) == len(several):  # the data does not fit, and not a student
        raise next(iter(missed.refused.values()))
    several = [one for one in several if one.kind not in missed.refused]
    quota = -(-recipe.candidates // len(several))
    found = list[list[tuple[Candidate, Costs]]]()
    for done, family in enumerate(several):
        finisher.progress("candidates", done, len(several))
        found.append(_of_a_family(finisher, family, x[:32], quota, missed))
    finisher.progress("candidates", len(several), len(several))
    dealt = [one for row in itertools.zip_longest(*found) for one in row if one is not None]
    if not dealt:
        raise InputError(missed.in_words(finisher.goal))
    # Two ways to cut the teacher may end in one student.
    different: dict[str, tuple[Candidate, Costs]] = {}
    for candidate, costs in dealt:
        different.setdefault(fingerprint(candidate.model.get_weights()), (candidate, costs))
    return list(different.values())[: recipe.candidates]


def _of_a_family(
    finisher: Finisher, family: Family, x, quota: int, missed: Missed
) -> list[tuple[Candidate, Costs]]:
    """Return the largest student that meets the target, then smaller ones far from the others."""
    fitting: dict[int, tuple[Candidate, Costs]] = {}
    tried, met = set[int](), dict[int, bool]()

    def meets(at: int) -> bool:
        """Cost the student of a size; tell whether larger ones may meet the target too."""
        tried.add(at)
        candidate = family.candidate(family.sizes[at])
        if candidate is None:
            return True
        if candidate.parameters not in met:  # channels go in fours, so two sizes may be one
            costs = _costs_within(finisher, candidate, x, missed)
            if costs is not None:
                fitting[at] = candidate, costs
            met[candidate.parameters] = costs is not None
        return met[candidate.parameters]

    def is_over() -> bool:
        late = bool(fitting) and finisher.clock.is_past(_SHARE)
        return late or family.kind in missed.refused

    low, high = 0, len(family.sizes)
    at = high - 1
    while low < high and not is_over():
        low, high = (at + 1, high) if meets(at) else (low, at)
        at = (low + high) // 2
    chosen = [max(fitting)] if fitting else []
    while chosen and len(chosen) < quota:
        rest = [at for at in range(chosen[0]) if at not in chosen]
        rest = [at for at in rest if at in fitting or (at not in tried and not is_over())]
        if not rest:
            break
        at = max(rest, key=lambda at: min(abs(at - one) for one in (-1, *chosen)))
        if at not in fitting:
            meets(at)
        if at in fitting:
            chosen.append(at)
    return [fitting[at] for at in chosen]


def _costs_within(finisher: Finisher, candidate: Candidate, x, missed: Missed) -> Costs | None:
    """Return the costs of a candidate's file if it meets the target and is below the teacher."""
    recipe = finisher.recipe
    if candidate.parameters >= finisher.teacher_parameters:
        missed.larger = True
        return None
    inputs = finisher.keys.of(
        candidate.model,
        goal=finisher.goal.limits,
        board=finisher.goal.needs_arena,
        flash=finisher.goal.board and finisher.goal.board.flash_bytes,
        format=main_format(recipe),
        bits=in_order(recipe.bits),
        threads=recipe.threads,
    )
    try:
        kept = finisher.stages.once(
            f"costs of {candidate.name}", inputs, lambda: _costs(finisher, candidate, x)
        )
    except WorkerError as error:  # nothing is kept: the next run may succeed
        kept = {"refused": str(error)}
    if isinstance(kept.get("refused"), str):
        missed.refused[candidate.kind] = UnsupportedError(kept["refused"])
        return None
    costs = Costs(**kept)
    problems = finisher.goal.unmet(costs)
    if costs.bytes >= finisher.teacher_bytes:
        problems.append(
            f"bytes: {costs.bytes:,}, but the teacher's file has {finisher.teacher_bytes:,}"
        )
    if problems:
        missed.problems.append((costs, problems))
        return None
    return costs


def _costs(finisher: Finisher, candidate: Candidate, x) -> dict[str, Any]:
    try:
        formats = (main_format(finisher.recipe),)
        return rehearse(candidate.model, x, finisher.recipe, finisher.goal, formats).to_json()
    except MissingDependencyError:
        raise
    except TfkdError as error:
        if of_a_worker(error):
            raise WorkerError(str(error)) from error
        return {"refused": str(error)}
