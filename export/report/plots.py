"""Pictures of models' costs: trade-offs, times of calls, ratios."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tfkd.escaping import printable
from tfkd.export.latency.results import Latency, Ratio
from tfkd.export.report.svg import COLOURS, GREY, INK, PAPER, Picture, blank_figure, picture
from tfkd.model import metrics

_MARKERS = "osD^vP*"
_VERDICTS = {"faster": (COLOURS[0], "o"), "slower": (COLOURS[1], "s")}

# An axis of times is logarithmic if the largest median is this many times the smallest. So that a
# tail does not flatten the hills, calls of more than this many medians are not drawn.
_WIDE_RANGE, _LONGEST_CALL = 5.0, 1.6
_LINE, _NO_BREAK = 28, "\N{NO-BREAK SPACE}"

_THIS_MACHINE = (
    "These are times of the machine named on this page, not of another, such as a phone or a "
    "microcontroller."
)


@dataclasses.dataclass(frozen=True)
class Point:
    """One model in one setting, in a trade-off.

    Attributes:
        name: The model's name.
        cost: Time or size; less is better.
        score: Score on the test split.
        cost_interval: The 95 % interval of `cost`.
        score_interval: The 95 % interval of `score`; `None` if it is not known.
        note: A remark that distinguishes it from other points of the same name.
    """

    name: str
    cost: float
    score: float
    cost_interval: tuple[float, float] | None = None
    score_interval: tuple[float, float] | None = None
    note: str = ""


def pareto_front(points: Iterable[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other point beats, the cheapest first.

    A point is beaten by one that is no worse in both and better in one; equal points do not
    beat each other.

    Args:
        points: (cost, score) pairs; less cost and more score are better.

    Example:
        >>> pareto_front([(2.0, 0.9), (1.0, 0.8), (3.0, 0.85)])
        [1, 0]
    """
    points = list(points)
    return sorted(
        (
            index
            for index, (cost, score) in enumerate(points)
            if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        ),
        key=lambda index: points[index],
    )


def setting(one: Latency | Ratio) -> str:
    """Return engine, threads and batch in words."""
    words = [one.engine, f"{one.threads}{_NO_BREAK}thread" + "s" * (one.threads > 1)]
    return ", ".join(words + ([f"batch{_NO_BREAK}{one.batch}"] if one.batch > 1 else []))


def comparable(results: Sequence[Latency]) -> tuple[str, list[Latency]]:
    """Return an axis for these times, and the times to draw: by the example if a batch is > 1.

    Only `median`, `ci95`, `p5`, `p95` and `quantiles` of the times are converted to that axis.
    """
    if all(result.batch == 1 for result in results):
        return "time of one call, µs", list(results)

    def divided(value, batch):
        if isinstance(value, (tuple, list)):
            return tuple(one / batch for one in value)
        return None if value is None else value / batch

    keys = ("median", "ci95", "p5", "p95", "quantiles")
    return "time of an example in its batch, µs", [
        dataclasses.replace(
            result, **{key: divided(getattr(result, key), result.batch) for key in keys}
        )
        for result in results
    ]


def trade_off(points: Sequence[Point], metric: str, against: str, axis: str) -> Picture | None:
    """Draw a score against its cost, and highlight the models that no other model beats.

    Args:
        points: The points to draw.
        metric: Its name, such as `"accuracy"`, in [0, 1]; for others see
            `tfkd.model.metrics.less_is_better`. For several outputs with the output's name before
            it.
        against: `"size"` or `"latency"`.
        axis: The kind of cost, with its unit.

    Returns:
        The picture, `None` if there is no point.
    """
    if not points:
        return None
    share = metric.endswith("accuracy")
    sign = -1.0 if metrics.less_is_better(metric) else 1.0
    best = pareto_front((point.cost, sign * point.score) for point in points)
    looks = styles(point.name for point in points)
    labels = short_names(looks)
    figure, axes = blank_figure(
        4.8, 3.4 + 0.09 * sum(2 + text.count("\n") for text in labels.values())
    )
    handles = {}
    for index in sorted(range(len(points)), key=lambda index: points[index].cost):
        point = points[index]
        is_first = point.name not in handles
        _draw_point(axes, point, looks[point.name], index not in best, is_first)
        colour, marker = looks[point.name]
        handles.setdefault(point.name, axes.plot([], [], marker, color=colour)[0])
    ends = [end for point in points for end in (point.cost, *(point.cost_interval or ()))]
    room = max(1.15, (max(ends) / min(ends)) ** 0.12)
    set_logarithmic(axes, min(ends) / room, max(ends) * room)
    axes.step(
        [points[index].cost for index in best],
        [points[index].score for index in best],
        where="post",
        color=GREY,
        linewidth=1.0,
        linestyle="--",
        zorder=1,
    )
    if share:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.5g}%" if value <= 1 else "")
    axes.set_xlabel(f"{axis} (logarithmic)")
    axes.set_ylabel(f"test {metric}")
    figure.legend(
        [handles[name] for name in labels],
        list(labels.values()),
        loc="outside lower center",
        ncols=2 if len(handles) > 1 else 1,
        fontsize=9,
        frameon=False,
    )
    caption = _trade_off_caption(points, metric, against)
    unit = axis.rpartition(", ")[2]
    said = "; ".join(
        f"{' '.join(filter(None, (one.name, one.note)))}: {one.cost:,.4g} {unit}, {metric} "
        + (f"{one.score:.1%}" if share else f"{one.score:.4g}")
        for one in points
    )
    title = metric.upper() if metric in ("rmse", "mae", "auc") else metric
    return picture(figure, f"{title} against {against}", caption, f"{said}.")


def _draw_point(axes, point: Point, style: tuple[str, str], beaten: bool, is_first: bool) -> None:
    """Draw a model with its intervals; filled unless another model beats it."""
    colour, marker = style
    axes.errorbar(
        point.cost,
        point.score,
        xerr=_error(point.cost, point.cost_interval),
        # Equal in all settings of a model, so draw it once.
        yerr=_error(point.score, point.score_interval) if is_first else None,
        fmt=marker,
        color=colour,
        markerfacecolor="none" if beaten else colour,
        markersize=6 if beaten else 8,
        capsize=3,
        elinewidth=1.2,
        alpha=0.5 if beaten else 1.0,
        zorder=3 if beaten else 2,
    )
    if not beaten and point.note:
        axes.annotate(
            point.note,
            (point.cost, point.score),
            (5, 4),
            textcoords="offset points",
            fontsize=8,
            color=GREY,
        )


def _trade_off_caption(points: Sequence[Point], metric: str, against: str) -> str:
    known = [
        words
        for words, interval in (
            (f"of the {metric} (Wilson)", "score_interval"),
            ("of the median time", "cost_interval"),
        )
        if any(getattr(point, interval) is not None for point in points)
    ]
    better = "down" if metrics.less_is_better(metric) else "up"
    caption = (
        f"Left and {better} is better. Filled, on the dashed line: the models that no other beats "
        "in both. Hollow: those that are beaten. "
    )
    if known:
        caption += f"Bars are the 95 % intervals {' and '.join(known)}: what lies within them may "
        caption += "be chance. "
    return caption + (_THIS_MACHINE if against == "latency" else "")


def call_times(results: Sequence[Latency]) -> Picture | None:
    """Draw the distribution of the times of single calls, a row per model and setting.

    Args:
        results: The results to draw; results without a median are left out.

    Returns:
        The picture, `None` if there is nothing to draw.
    """
    axis, results = comparable([result for result in results if result.median])
    if not results:
        return None
    names = short_names(result.name for result in results)
    figure, axes, right = _row_figure(results, names, panels=2)
    looks = styles(result.name for result in results)
    for row, result in enumerate(results):
        colour, _ = looks[result.name]
        if result.p5 is not None and result.p95 is not None:
            axes.plot([result.p5, result.p95], [row, row], color=colour, linewidth=1.2)
        if result.ci95 is not None:
            axes.plot(result.ci95, [row, row], color=colour, linewidth=5, solid_capstyle="butt")
        axes.plot(result.median, row, "o", color=PAPER, markeredgecolor=colour, markersize=4.5)
    low, longest = (choose(result.median for result in results) for choose in (min, max))
    high = max(result.p95 or result.median for result in results)
    if longest / low > _WIDE_RANGE:
        set_logarithmic(axes, low / 1.4, 1.2 * high)
        axis += " (logarithmic)"
    else:
        axes.set_xlim(0, 1.06 * high)
    axes.set_xlabel(axis)
    _beside(axes, [f"{one.median:,.{digits(one.median)}f}" for one in results])
    caption = (
        "Left: the circle is the median of all calls, with its number, the thick line its 95 % "
        "interval, the thin one reaches from the 5th to the 95th percentile. "
    )
    spreads = {
        row: np.array(result.quantiles) / result.median
        for row, result in enumerate(results)
        if result.quantiles is not None
    }
    if spreads:
        caption += _draw_hills(right, spreads, [looks[one.name][0] for one in results], results)
    else:
        right.remove()
    said = "; ".join(f"{one.name}, {setting(one)}: {one.median:,.4g}" for one in results)
    said = f"Medians, {axis.removesuffix(' (logarithmic)')}: {said}."
    return picture(figure, "Times of single calls", caption + _THIS_MACHINE, said)


def _draw_hills(axes, spreads: dict[int, np.ndarray], colours, results) -> str:
    """Draw a density for each row of percentiles over their median, and return the caption."""
    low = min(spread[0] for spread in spreads.values())
    high = min(max(spread[-2] for spread in spreads.values()), _LONGEST_CALL)
    low, high = min(low, 0.98), max(high, 1.02)
    axes.set_xlim(low, high)
    axes.locator_params(axis="x", nbins=4)
    axes.axvline(1.0, color=GREY, linewidth=0.8)
    for row, spread in spreads.items():
        places, heights = density(spread, low, high, results[row].runs)
        top = row + 0.3 - 0.85 * heights
        axes.fill_between(places, row + 0.3, top, color=colours[row], alpha=0.4, linewidth=0)
        axes.plot(places, top, color=colours[row], linewidth=0.8)
    axes.set_xlabel("time over the row's median")
    beyond = max(int(np.sum(spread > high)) for spread in spreads.values())
    caption = "Right: where the single calls lie, in units of their row's median. "
    if beyond:
        caption += (
            f"That axis ends at {high:.2f}: up to {beyond} % of a row's calls took longer and are "
            "not drawn. "
        )
    return caption


def ratios(compared: Sequence[Ratio], title: str) -> Picture | None:
    """Draw each model's time in units of its baseline's.

    Args:
        compared: The ratios to draw, a row each.
        title: Title of the picture.

    Returns:
        The picture, `None` if there is nothing to draw.
    """
    if not compared:
        return None
    names = short_names([one for ratio in compared for one in (ratio.name, ratio.against)])
    same = len({ratio.against for ratio in compared}) == 1
    further = () if same else [f"over {names[ratio.against]}" for ratio in compared]
    figure, axes = _row_figure(compared, names, further)
    ends = [1.0, *(end for ratio in compared for end in (ratio.ratio, *ratio.ci95))]
    room = max(1.02, (max(ends) / min(ends)) ** 0.06)
    set_logarithmic(axes, min(ends) / room, max(ends) * room)
    axes.axvline(1.0, color=INK, linewidth=1.0, zorder=1)
    for row, ratio in enumerate(compared):
        colour, marker = _VERDICTS.get(ratio.verdict, (GREY, "D"))
        axes.plot(ratio.ci95, [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(ratio.ratio, row, marker, color=colour, markersize=6)
    _beside(axes, [ratio.in_words for ratio in compared])
    what = f"time over that of {names[compared[0].against]}" if same else "ratio of times"
    axes.set_xlabel(f"{what} (logarithmic)")
    caption = (
        "Left of 1 is faster. The line through each mark is the 95 % interval; where it holds 1, "
        "or the ratio is within 1 % of it, no difference was seen. " + _THIS_MACHINE
    )
    said = "; ".join(f"{one.name}, {setting(one)}: {one.in_words}" for one in compared)
    return picture(figure, title, caption, f"{said}.")


def digits(time: float | None) -> int:
    """Return the number of digits to show after the point of a time in microseconds."""
    return 2 if time is not None and time < 100 else 1


def _row_figure(things, names: dict[str, str], further: Sequence[str] = (), panels: int = 1):
    """Return a figure with a labelled row for each `Latency` or `Ratio`, from the top."""
    several = len({setting(thing) for thing in things}) > 1
    texts = [names[thing.name] + f"\n{setting(thing)}" * several for thing in things]
    if further:
        texts = [f"{text}\n{line}" for text, line in zip(texts, further, strict=True)]
    most = 1 + max(text.count("\n") for text in texts)
    figure, *found = blank_figure(6.6, 0.8 + len(things) * (0.2 + 0.15 * most), panels)
    found[0].set_yticks(range(len(things)), texts)
    found[0].set_ylim(len(things) - 0.5, -0.7)
    for axes in found:
        axes.tick_params(axis="y", length=0)
    return figure, *found


def _beside(axes, texts: Sequence[str]) -> None:
    """Write a text to the right of each row."""
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(texts)), texts, fontsize=9)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)


def set_logarithmic(axes: Any, low: float, high: float) -> None:
    """Give the x axis a logarithmic scale with plain numbers at a few round places."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.minorticks_off()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    for steps in ((1,), (1, 3), (1, 2, 5)):
        places = [step * 10.0**decade for decade in decades for step in steps]
        places = [place for place in places if low <= place <= high]
        if len(places) >= 3:
            break
    else:
        places = [p for p in MaxNLocator(5).tick_values(low, high) if low <= p <= high]
    axes.set_xticks(places, [f"{place:,.10g}" for place in places])


def density(
    spread: np.ndarray, low: float, high: float, runs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return places and heights of the density that percentiles describe, the highest 1.

    The width is Silverman's for that many calls, but not below what the eye can see.
    """
    levels = (np.arange(1000) + 0.5) / 10
    values = np.interp(levels, np.linspace(0, 100, len(spread)), spread)
    quarter, three_quarters = np.interp([25, 75], levels, values)
    width = 0.9 * min(values.std(), (three_quarters - quarter) / 1.34) * max(runs, 1) ** -0.2
    width = max(width, 0.004 * (high - low))
    places = np.linspace(low, high, 400)
    heights = np.exp(-0.5 * ((places[:, None] - values) / width) ** 2).sum(1)
    return places, heights / heights.max()


def _error(value, interval):
    """Return the distances of an interval's ends from a value, in matplotlib's form."""
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]


def styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return a colour and a marker for each name, in the order of the names."""
    return dict(
        zip(
            dict.fromkeys(names),
            zip(itertools.cycle(COLOURS), itertools.cycle(_MARKERS), strict=False),
            strict=False,
        )
    )


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return a label for each name: at most two lines, which show where long names differ."""

    def shortened(name):
        name = printable(name)
        head, tail = _LINE * 2 // 3, _LINE * 4 // 3 - 1
        return name if len(name) <= 2 * _LINE else f"{name[:head]}…{name[-tail:]}"

    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(shortened(name), []).append(name)
    texts = {}
    for short, group in alike.items():
        same = itertools.takewhile(
            lambda letters: len(set(letters)) == 1, zip(*group, strict=False)
        )
        shared = sum(1 for _ in same) - _LINE // 4
        for name in group:
            text = short if len(group) == 1 else shortened("…" + name[max(0, shared) :])
            texts[name] = _in_two(text).replace("$", r"\$")  # else matplotlib reads it as a formula
    return texts


def _in_two(text: str) -> str:
    """Return a text in lines of at most `_LINE` + 2 letters, broken between words if possible."""
    if len(text) <= _LINE:
        return text
    least = max(1, len(text) - _LINE - 2)
    ends = [found.end() for found in re.finditer(r"[\s_/.,:-]", text)]
    ends = [end for end in ends if least <= end <= _LINE]
    at = min(ends, key=lambda end: abs(end - len(text) / 2), default=_LINE)
    return f"{text[:at]}\n{text[at:]}"
