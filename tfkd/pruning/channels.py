"""`prune_channels`: a smaller dense model, without the channels that matter least."""

from __future__ import annotations

import re

import numpy as np

from tfkd import cost
from tfkd.errors import InputError, UnsupportedError, raise_all
from tfkd.pruning import criteria, dependency, surgery

_OF = ("channels", "macs", "parameters")


def prune_channels(
    model,
    amount: float | None = None,
    *,
    of: str = "channels",
    to: int | None = None,
    criterion="l1",
    scope: str = "global",
    round_to: int = 1,
    keep=(),
    data=None,
    loss=None,
    seed: int = 0,
):
    """Return a smaller model without the channels that matter least.

    Whole channels, filters and units go, with all that hangs on them (`dependency`), so the
    result is an ordinary dense model that is faster everywhere. Choose it before distillation:
    the student starts from the teacher's weights. Train it afterwards.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not changed.
        amount: Which part goes, in (0, 1): of the channels that may go, or of all
            multiply-accumulates or parameters.
        of: `"channels"`, `"macs"` or `"parameters"`, what `amount` or `to` counts.
        to: Multiply-accumulates or parameters that may be left, in the place of `amount`.
        criterion: By what channels are ranked, see `criteria.scores`.
        scope: `"global"` ranks all channels together, `"layer"` each set of coupled layers by
            itself and takes the same part of each.
        round_to: What the number of channels of each layer is a multiple of, where it had as
            many. 8 suits most kernels.
        keep: Names, or regular expressions that match whole names, of layers whose channels
            stay.
        data: `(x, y)`, for `criterion="taylor"`.
        loss: A Keras loss, likewise.
        seed: For `criterion="random"`.

    Returns:
        A Functional model of the same Keras, uncompiled, with the weights that are left.
        `tfkd_whole` holds the layers that were left whole, by name, and why.

    Raises:
        InputError: for an amount outside (0, 1), a target that can't be reached (the floor is
            told), a pattern that matches no layer, a criterion without data.
        UnsupportedError: for a subclassed model, or one in which nothing can be pruned.

    Example:
        >>> import keras, tfkd
        >>> layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2)]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> small = tfkd.prune_channels(model, 0.5)
        >>> [layer.units for layer in small.layers[1:]]
        [8, 2]
    """
    _check(amount, of, to, scope, round_to)
    criteria.check(criterion, data)
    found = dependency.find(model)
    ranking = _Ranking(found, _kept_by(found, keep), round_to)
    ranking.order(criteria.scores(found, criterion, data, loss, seed), scope)
    whole = _Cost(model, found)
    if of == "channels":
        groups = ranking.first(round(amount * len(ranking.groups)))
    else:
        most = to if to is not None else (1 - amount) * whole.of(of, [])
        groups = _fewest(ranking, lambda gone: whole.of(of, gone), most, of)
    small = surgery.without(found, groups)
    small.tfkd_whole = dict(found.whole)
    return small


class _Ranking:
    """The groups in the order in which they go, and what must be left of each layer."""

    def __init__(self, found: dependency.Dependencies, kept: set[int], round_to: int):
        self.found, self.round_to = found, round_to
        self.groups = np.array([group for group in found.groups if group not in kept], int)
        if not len(self.groups):
            raise UnsupportedError(
                "No channel of this model can go: " + (_told(found.whole) or "all are kept") + "."
            )
        # Of each layer, the group of each of its channels.
        self.layers = [found.roots[labels] for labels in found.outputs.values()]

    def order(self, scores: np.ndarray, scope: str) -> None:
        """Rank the groups, the least important first."""
        by_group = dict(zip(self.found.groups.tolist(), scores, strict=True))
        self.score = {group: by_group[group] for group in self.groups.tolist()}
        self.groups = np.array([g for g in self.groups.tolist() if np.isfinite(self.score[g])], int)
        rank = self.score
        if scope == "layer":
            rank = {}
            for together in self._coupled():
                ranked = sorted(together, key=lambda group: (self.score[group], group))
                rank |= {g: (i + 0.5) / len(ranked) for i, g in enumerate(ranked)}
        self.ordered = sorted(self.groups.tolist(), key=lambda group: (rank[group], group))

    def _coupled(self) -> list[set[int]]:
        """Return the sets of groups that meet in a layer, directly or by way of others."""
        sets: list[set[int]] = [{group} for group in self.groups.tolist()]
        for layer in self.layers:
            here = set(layer.tolist())
            touched = [one for one in sets if one & here]
            if touched:
                sets = [one for one in sets if not one & here] + [set().union(*touched)]
        return sets

    def first(self, count: int) -> list[int]:
        """Return the first groups, without those that would leave a layer too little."""
        gone = set(self.ordered[:count])
        changed = True
        while changed:
            changed = False
            for layer in self.layers:
                left = int(np.isin(layer, list(gone), invert=True).sum())
                step = self.round_to if len(layer) >= self.round_to else 1
                wanted = min(len(layer), max(step, -(-left // step) * step))
                back = sorted(gone & set(layer.tolist()), key=lambda g: (self.score[g], g))
                while left < wanted:
                    group = back.pop()
                    gone.remove(group)
                    left += int((layer == group).sum())
                    changed = True
        return sorted(gone)


class _Cost:
    """What a model costs without some groups, before it is built."""

    def __init__(self, model, found: dependency.Dependencies):
        self.found = found
        self.calls = cost.measure(model).layers

    def of(self, what: str, groups) -> float:
        """Return multiply-accumulates or parameters."""
        gone = np.zeros(len(self.found.roots), bool)
        gone[list(groups)] = True
        gone = gone[self.found.roots]
        total, seen = 0.0, set()
        for call, measured in zip(self.found.graph.calls, self.calls, strict=True):
            weights = getattr(call.layer, "weights", ())
            sizes = [(self._size(w, gone), int(np.prod(w.shape)), w.shape) for w in weights]
            if what == "parameters":
                if id(call.layer) not in seen:
                    total += sum(size for size, _, _ in sizes)
                seen.add(id(call.layer))
                continue
            if measured.macs is None:
                raise UnsupportedError(
                    f"The multiply-accumulates of {measured.name!r} ({measured.kind}) are not "
                    "known; give of='channels' or of='parameters'."
                )
            bias = getattr(getattr(call.layer, "cell", None), "bias", None)  # a GRU's has two rows
            kernels = [
                (size, before)
                for weight, (size, before, shape) in zip(weights, sizes, strict=True)
                if len(shape) > 1 and weight is not bias
            ]
            if measured.macs:
                before = sum(one for _, one in kernels)
                total += measured.macs * sum(size for size, _ in kernels) / before
        return total

    def _size(self, variable, gone) -> int:
        shape = list(variable.shape)
        for axis, labels in self.found.axes.get(id(variable), {}).items():
            shape[axis] = int((~gone[labels]).sum())
        return int(np.prod(shape))


def _fewest(ranking: _Ranking, cost_of, most: float, of: str) -> list[int]:
    """Return the fewest groups without which the cost is at most `most`."""
    everything = ranking.first(len(ranking.ordered))
    floor, most_of_all = cost_of(everything), cost_of([])
    if floor > most:
        raise InputError(
            f"At most {most:,.0f} {of} can't be reached: with the least that each layer must have "
            f"there are {floor:,.0f} of {most_of_all:,.0f}."
        )
    low, high = 0, len(ranking.ordered)
    while low < high:
        middle = (low + high) // 2
        if cost_of(ranking.first(middle)) <= most:
            high = middle
        else:
            low = middle + 1
    return ranking.first(low)


def _kept_by(found: dependency.Dependencies, keep) -> set[int]:
    """Return the groups in the outputs of the layers that the user keeps."""
    patterns = [keep] if isinstance(keep, str) else list(keep)
    kept: set[int] = set()
    for pattern in patterns:
        layers = [(name, one) for name, one in found.graph.layers if re.fullmatch(pattern, name)]
        if not layers:
            raise InputError(
                f"keep has {pattern!r}, and no layer is called that; there are "
                f"{', '.join(name for name, _ in found.graph.layers)}."
            )
        for _, layer in layers:
            inner = [getattr(layer, name, None) for name in ("forward_layer", "backward_layer")]
            for one in (layer, getattr(layer, "layer", None), *inner):
                labels = found.outputs.get(id(one))
                if labels is not None:
                    kept |= set(found.roots[labels].tolist())
    return kept


def _told(whole: dict[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in whole.items())


def _check(amount, of, to, scope, round_to):
    problems = []
    if of not in _OF:
        problems.append(f"of must be one of {_OF}, got {of!r}")
    if scope not in ("global", "layer"):
        problems.append(f"scope must be 'global' or 'layer', got {scope!r}")
    if not isinstance(round_to, int) or round_to < 1:
        problems.append(f"round_to must be an integer of at least 1, got {round_to!r}")
    if (amount is None) == (to is None):
        problems.append("give either amount or to")
    elif to is None and not (isinstance(amount, (int, float)) and 0 < amount < 1):
        problems.append(f"amount must lie between 0 and 1, got {amount!r}")
    elif to is not None and (of == "channels" or not to > 0):
        problems.append(f"to is a number of macs or parameters > 0, got {to!r} of {of}")
    raise_all(problems)
