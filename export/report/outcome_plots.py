"""Pictures of training and answers: training curves, candidates, errors, layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfkd.export.report.plots import pareto_front, set_logarithmic, short_names
from tfkd.export.report.svg import COLOURS, GREY, Picture, blank_figure, picture
from tfkd.model import metrics

if TYPE_CHECKING:
    from tfkd.export.report.entries import Front, Layer
    from tfkd.export.report.predictions import Errors

# Candidates for a curve: the first recorded one is drawn.
_RECORDED = {
    "val_accuracy": "validation accuracy",
    "val_mae": "validation mean absolute error",
    "val_loss": "validation loss",
}
_MOST_LAYERS = 20


def training(
    histories: dict[str, dict[str, list[float]]],
    goes_on_from: Mapping[str, str] | None = None,
    title: str = "Training",
) -> Picture | None:
    """Draw the accuracy, or else the error, on the validation split after each epoch.

    Args:
        histories: Model name → metric → a value per epoch.
        goes_on_from: Model → the model whose weights its training started from; its curve starts
            at the end of that model's curve.
        title: Title of the picture.

    Returns:
        The picture, `None` if no model has such a metric.
    """
    kept = [key for key in _RECORDED if any(history.get(key) for history in histories.values())]
    if not kept:
        return None
    key = kept[0]
    curves = {name: history[key] for name, history in histories.items() if history.get(key)}
    joins = {
        name: before
        for name, before in (goes_on_from or {}).items()
        if name in curves and before in curves
    }
    figure, axes = blank_figure(4.8, 3.6)
    labels = short_names(curves)
    for (name, values), colour in zip(curves.items(), itertools.cycle(COLOURS), strict=False):
        start, values = _start(name, joins, curves), list(values)
        if name in joins:
            axes.axvline(start, color=GREY, linewidth=0.8, linestyle=":")
            start, values = start - 1, [curves[joins[name]][-1], *values]
        epochs = range(start + 1, start + 1 + len(values))
        axes.plot(epochs, values, color=colour, label=labels[name], linewidth=1.5)
    is_share = key == "val_accuracy"
    # The first epochs of a new model are too far from the differences that matter.
    if is_share:
        axes.set_ylim(bottom=max(0.0, min(max(v) for v in curves.values()) - 0.2))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if value <= 1 else "")
    else:
        largest = max(max(v) for v in curves.values())
        axes.set_ylim(0.0, 1.05 * min(largest, 3 * max(min(v) for v in curves.values())) or 1.0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(_RECORDED[key])
    axes.legend(fontsize=9, frameon=False)
    caption = f"{_RECORDED[key].capitalize()} after each epoch; the last epoch is reported. "
    if joins:
        caption += "A dotted line is where a stage goes on from the weights of the one before it."
    last = "; ".join(
        f"{name}: {values[-1]:{'.1%' if is_share else '.4g'}} after {len(values)}"
        for name, values in curves.items()
    )
    return picture(figure, title, caption, f"{_RECORDED[key]}, last epoch: {last} epochs.")


def _start(name: str, joins: Mapping[str, str], curves) -> int:
    """Return the epoch after which a model's own training began."""
    seen, start = {name}, 0
    while name in joins and joins[name] not in seen:
        name = joins[name]
        seen.add(name)
        start += len(curves[name])
    return start


def front(candidates: Front) -> Picture | None:
    """Draw the candidates of a search: their costs and scores, and the chosen one."""
    points = candidates.candidates
    if not points:
        return None
    share = candidates.metric == "accuracy"
    sign = -1.0 if metrics.less_is_better(candidates.metric) else 1.0
    best = pareto_front((one.cost, sign * one.score) for one in points)
    figure, axes = blank_figure(4.8, 3.6)
    beaten = [one for index, one in enumerate(points) if index not in best]
    unbeaten = [points[index] for index in best]
    for some, style in (
        (beaten, {"marker": "o", "facecolors": "none", "edgecolors": GREY}),
        (unbeaten, {"marker": "o", "color": COLOURS[0], "zorder": 3}),
        (
            [one for one in points if one.chosen],
            {"marker": "*", "color": COLOURS[1], "s": 140, "zorder": 4},
        ),
    ):
        axes.scatter([one.cost for one in some], [one.score for one in some], **style)
    axes.step(
        [one.cost for one in unbeaten],
        [one.score for one in unbeaten],
        where="post",
        color=GREY,
        linewidth=1.0,
        linestyle="--",
    )
    costs = [one.cost for one in points]
    if min(costs) > 0 and max(costs) / min(costs) > 3:
        set_logarithmic(axes, min(costs) / 1.15, max(costs) * 1.15)
    if share:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.5g}%" if value <= 1 else "")
    score = f"{candidates.part} {candidates.metric}"
    labels = short_names([candidates.unit, score])
    axes.set_xlabel(labels[candidates.unit])
    axes.set_ylabel(labels[score])
    better = "down" if metrics.less_is_better(candidates.metric) else "up"
    caption = (
        f"Left and {better} is better. Filled: candidates that no other beats in both; hollow: "
        "those that are beaten. The star was chosen."
    )
    said = ", ".join(f"{one.name}: {one.cost:,.4g} and {one.score:.4g}" for one in unbeaten)
    return picture(figure, "Candidates", caption, f"Not beaten, {candidates.unit}: {said}.")


def errors(of: Errors, name: str, against: str) -> Picture:
    """Draw how the errors of a file and of its teacher are distributed."""
    figure, axes = blank_figure(4.8, 3.2)
    labels = short_names([name, against])
    for label, counts, colour in (
        (name, of.counts, COLOURS[0]),
        (against, of.against_counts, COLOURS[1]),
    ):
        fill = label == name
        axes.stairs(counts, of.edges, color=colour, label=labels[label], linewidth=1.5, zorder=3)
        if fill:
            axes.stairs(counts, of.edges, color=colour, fill=True, alpha=0.25)
    axes.axvline(0.0, color=GREY, linewidth=0.8)
    axes.set_xlabel("answer − label")
    axes.set_ylabel("values")
    axes.legend(fontsize=9, frameon=False)
    peak = int(np.argmax(of.counts))
    said = (
        f"{name} has most of its errors, {of.counts[peak]:,} of {sum(of.counts):,}, from "
        f"{of.edges[peak]:.3g} to {of.edges[peak + 1]:.3g}."
    )
    caption = (
        "How far the answers are off, on the test split. Narrow and around 0 is better. The "
        "outermost bins hold what is farther out, too."
    )
    return picture(figure, "Errors", caption, said)


def layers(rows: Sequence[Layer]) -> Picture | None:
    """Draw the error that each layer of a file adds; if there are many, only the largest ones."""
    known = [row for row in rows if row.added is not None]
    worst = sorted(known, key=lambda row: -row.added)[:_MOST_LAYERS]
    shown = [row for row in known if row in worst]
    if not shown or not any(row.added for row in shown):
        return None
    names = short_names(row.name for row in shown)
    figure, axes = blank_figure(4.8, 0.9 + 0.3 * len(shown))
    axes.barh(range(len(shown)), [row.added for row in shown], color=COLOURS[0], height=0.6)
    axes.set_yticks(range(len(shown)), [names[row.name] for row in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("share of the signal that the layer loses")
    caption = "The error that each layer adds by itself to what its float twin computes. "
    if len(shown) < len(known):
        caption += f"The {len(shown)} of {len(known)} layers that add most. "
    said = ", ".join(f"{row.name} {row.added:.2%}" for row in worst[:5])
    return picture(figure, "Error added by layer", caption, f"Most is added by {said}.")
