"""`prune_channels`: a smaller dense model, without the channels that matter least."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfkd._renamed import with_old_keywords
from tfkd.errors import InputError, UnsupportedError, argument, raise_all
from tfkd.model import cost, graph
from tfkd.pruning import report
from tfkd.pruning.iterative import file_size
from tfkd.pruning.structured import blocks as residual_blocks
from tfkd.pruning.structured import dependency, importance, surgery

if TYPE_CHECKING:
    from tfkd._typing import AnyModel, Criterion, Format, Names

_METRICS = ("channels", "macs", "parameters", "bytes")


@with_old_keywords(of="metric", to="target", keep="skip")
def prune_channels(
    model: AnyModel,
    amount: float | None = None,
    *,
    metric: Literal["channels", "macs", "parameters", "bytes"] = "channels",
    target: int | None = None,
    criterion: Criterion = "l1",
    scope: Literal["global", "layer"] = "global",
    round_to: int = 8,
    skip: Names = (),
    blocks: bool = True,
    data: tuple[Any, Any] | None = None,
    loss: Any = None,
    format: Format = "int8",
    seed: int = 0,
) -> AnyModel:
    """Return a smaller model without the channels that matter least.

    Removes whole channels, filters, units and attention heads, with all that depends on them
    (`dependency`), so the result is an ordinary dense model that is faster everywhere. Choose it
    before distillation: the student starts from the teacher's weights. Train it afterwards.

    Args:
        model: A built Functional or Sequential model, Keras 3 or tf_keras; it is not changed.
        amount: The fraction to remove at least, in (0, 1): of the channels that may go (coupled
            channels count as one), or of all multiply-accumulates, parameters or bytes.
        metric: What `amount` or `target` counts: `"channels"`, `"macs"`, `"parameters"` or
            `"bytes"` (of the `.tflite` file).
        target: The multiply-accumulates, parameters or bytes that may be left, instead of `amount`.
        criterion: How channels are ranked, see `importance.scores`: `"l1"`, `"l2"`, `"bn_scale"`,
            `"taylor"`, `"random"` or a function.
        scope: `"global"` ranks all channels together, `"layer"` ranks each set of coupled layers by
            itself and removes the same fraction of each.
        round_to: The number of channels of each layer becomes a multiple of this, where the layer
            had as many: 8 suits most kernels. Heads are not rounded.
        skip: Names or paths (`backbone/conv1`) of layers that keep their channels, or regular
            expressions that match a whole name or path.
        blocks: Whether to remove whole residual blocks that add nothing for any input: those whose
            last weights are zero, as after `Slimming`.
        data: `(x, y)`, for `criterion="taylor"`.
        loss: A Keras loss, for `criterion="taylor"`.
        format: Format of the file whose bytes count, as for `to_tflite`.
        seed: For `criterion="random"`.

    Returns:
        A Functional model of the same Keras, uncompiled, with the weights that are left.
        `tfkd.pruning.describe` says which layers kept all their channels, and why.

    Raises:
        InputError: for an amount outside (0, 1), a target that can't be reached (the message
            gives the floor), a pattern that matches no layer, a criterion without data.
        UnsupportedError: for a subclassed model, or one in which nothing can be pruned.

    Example:
        >>> import keras, tfkd
        >>> layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2)]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> small = tfkd.prune_channels(model, 0.5)
        >>> [layer.units for layer in small.layers[1:]]
        [8, 2]
    """
    _check(amount, metric, target, scope, round_to)
    importance.check(criterion, data)
    walked = graph.walk(model)
    before, kept = cost.count(walked), _kept_layers(walked, skip)
    nil = []
    if blocks:
        walked, nil = residual_blocks.without_nil(walked, kept)
    found = dependency.of_graph(walked)
    ranking = _Ranking(found, _groups_of(found, kept), round_to)
    ranking.order(importance.scores(found, criterion, data, loss, seed), scope)
    if metric == "bytes":
        groups = _fewest_bytes(model, found, ranking, amount, target, format)
    else:

        def left(gone):
            if metric == "channels":
                return len(ranking.ordered) - len(gone)
            return _left(found, metric, gone)

        whole = left([]) if metric == "channels" else _known(before, metric)
        most = target if target is not None else (1 - amount) * whole
        groups = _fewest(ranking, left, most, metric)
    small = surgery.without(found, groups)
    report.keep(
        small,
        report.PruningReport(dict(found.not_pruned), tuple(block.layers for block in nil)),
    )
    return small


class _Ranking:
    """The groups in the order of their removal, and the minimum to leave of each layer."""

    def __init__(self, found: dependency.Dependencies, kept: set[int], round_to: int):
        self.found, self.round_to = found, round_to
        self.groups = np.array([group for group in found.groups if group not in kept], int)
        if not len(self.groups):
            raise UnsupportedError(
                "No channel of this model can go: "
                + (found.reasons or "all are outputs, or kept")
                + ".",
                code="nothing-to-prune",
            )
        # For each layer: the group of each channel, and the multiple to which their number rounds.
        self.layers = [
            (
                found.roots[labels],
                round_to if name != "num_heads" and len(labels) >= round_to else 1,
            )
            for sizes in found.counts.values()
            for name, labels in sizes.items()
        ]

    def order(self, scores: np.ndarray, scope: str) -> None:
        """Rank the groups with the least important first."""
        by_group = dict(zip(self.found.groups.tolist(), scores, strict=True))
        self.groups = np.array([g for g in self.groups.tolist() if np.isfinite(by_group[g])], int)
        self.score = np.full(len(self.found.roots), np.inf)
        self.score[self.groups] = [by_group[group] for group in self.groups.tolist()]
        rank = self.score
        if scope == "layer":
            rank = np.full(len(self.found.roots), np.inf)
            for together in self._coupled():
                ranked = sorted(together, key=lambda group: (self.score[group], group))
                rank[ranked] = (np.arange(len(ranked)) + 0.5) / len(ranked)
        self.ordered = self.groups[np.lexsort((self.groups, rank[self.groups]))]
        if not len(self.ordered):
            raise InputError(
                "The criterion gives no finite score to a channel that can go; use "
                f"{argument('criterion', 'l1')}."
            )

    def _coupled(self) -> list[set[int]]:
        """Return the sets of groups that share a layer, directly or through other groups."""
        sets: dict[int, set[int]] = {group: {group} for group in self.groups.tolist()}
        for layer, _ in self.layers:
            together = set().union(*(sets[group] for group in layer.tolist() if group in sets))
            sets |= dict.fromkeys(together, together)
        return list({id(one): one for one in sets.values()}.values())

    def first(self, count: int) -> list[int]:
        """Return the first groups, except those whose removal would leave a layer too little."""
        gone = np.zeros(len(self.found.roots), bool)
        gone[self.ordered[:count]] = True
        changed = True
        while changed:
            changed = False
            for layer, step in self.layers:
                left = int((~gone[layer]).sum())
                wanted = min(len(layer), max(step, -(-left // step) * step))
                if left >= wanted:
                    continue
                there = np.unique(layer[gone[layer]])
                back = list(there[np.lexsort((there, self.score[there]))])
                while left < wanted:
                    group = back.pop()
                    gone[group] = False
                    left += int((layer == group).sum())
                changed = True
        return np.flatnonzero(gone).tolist()


def _left(found: dependency.Dependencies, metric: str, groups) -> float:
    """Return the multiply-accumulates or parameters of a model without some groups."""
    gone = np.zeros(len(found.roots), bool)
    gone[list(groups)] = True
    gone = gone[found.roots]

    def shape_of(variable):
        shape = list(variable.shape)
        for axis, labels in found.axes.get(id(variable), {}).items():
            shape[axis] = int((~gone[labels]).sum())
        return tuple(shape)

    return _known(cost.count(found.graph, shape_of), metric)


def _known(measured: cost.ModelCost, metric: str) -> int:
    unknown = [f"{layer.name!r} ({layer.kind})" for layer in measured.layers if layer.macs is None]
    if metric == "macs" and unknown:
        raise UnsupportedError(
            f"The multiply-accumulates of {', '.join(unknown)} are not known; give "
            f"{argument('metric', 'channels')} or {argument('metric', 'parameters')}.",
            code="unknown-cost",
        )
    return getattr(measured, metric)


def _fewest(ranking: _Ranking, cost_of, most: float, metric: str) -> list[int]:
    """Return the fewest groups whose removal brings the cost to `most` or less."""
    everything = ranking.first(len(ranking.ordered))
    floor, most_of_all = cost_of(everything), cost_of([])
    most += 1e-6 * most_of_all  # rounding error of (1 - amount) * whole
    if floor > most:
        hint = f" Try a smaller {argument('round_to')}." if ranking.round_to > 1 else ""
        raise InputError(
            f"At most {most:,.0f} {metric} can't be reached: the least that can stay is "
            f"{floor:,.0f} of {most_of_all:,.0f}.{hint}"
        )
    low, high = 0, len(ranking.ordered)
    while low < high:
        middle = (low + high) // 2
        if cost_of(ranking.first(middle)) <= most:
            high = middle
        else:
            low = middle + 1
    return ranking.first(low)


def _fewest_bytes(model, found, ranking, amount, target, format) -> list[int]:
    """Return the fewest groups whose removal makes the file small enough.

    The search predicts a file's size from the number of parameters, and corrects the prediction
    by making files, usually two.
    """
    whole = file_size.file_bytes(model, format)
    most = target if target is not None else (1 - amount) * whole
    each = file_size.BYTES_PER_WEIGHT[format]

    def of_weights(groups):
        return each * _left(found, "parameters", groups)

    beside = whole - of_weights([])
    while True:
        groups = _fewest(
            ranking,
            lambda gone, beside=beside: beside + of_weights(gone),
            most,
            f"bytes of {format}",
        )
        actual = file_size.file_bytes(surgery.without(found, groups), format)
        if actual <= most:
            return groups
        beside = actual - of_weights(groups)


def _kept_layers(walked: graph.Graph, skip) -> list:
    """Return the layers that the user excludes from pruning."""
    layers = dict(walked.layers)
    return [layers[path] for path in walked.matching(skip, "skip")]


def _groups_of(found: dependency.Dependencies, layers) -> set[int]:
    """Return the groups that occur in the outputs of layers."""
    groups: set[int] = set()
    for layer in layers:
        inner = [getattr(layer, name, None) for name in ("forward_layer", "backward_layer")]
        for one in (layer, getattr(layer, "layer", None), *inner):
            for labels in found.counts.get(id(one), {}).values():
                groups |= set(found.roots[labels].tolist())
    return groups


def _check(amount, metric, target, scope, round_to):
    problems = []
    if metric not in _METRICS:
        problems.append(f"metric must be one of {_METRICS}, got {metric!r}")
    if scope not in ("global", "layer"):
        problems.append(f"scope must be 'global' or 'layer', got {scope!r}")
    if not isinstance(round_to, int) or round_to < 1:
        problems.append(f"round_to must be an integer of at least 1, got {round_to!r}")
    if (amount is None) == (target is None):
        problems.append("give either amount or target")
    elif target is None and not (isinstance(amount, numbers.Real) and 0 < amount < 1):
        problems.append(f"amount must lie between 0 and 1, got {amount!r}")
    elif target is not None and (
        metric == "channels" or not isinstance(target, numbers.Real) or target <= 0
    ):
        problems.append(
            "target must be a number of macs, parameters or bytes > 0, and metric one of these, "
            f"got target {target!r} and metric {metric!r}"
        )
    raise_all(problems)
