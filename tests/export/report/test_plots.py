"""The pictures draw their data, and state what they leave out."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from tfkd.escaping import printable
from tfkd.export.latency.results import Latency, Ratio
from tfkd.export.report import outcome_plots, plots, svg
from tfkd.export.report.entries import Candidate, Front
from tfkd.export.report.plots import Point, pareto_front


@pytest.fixture
def drawn(monkeypatch):
    """The figures behind the pictures, as they are made."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **more: figures.append(self) or save(self, *a, **more)
    )
    return figures


def latency(name="a", median=100.0, threads=1, batch=1, spread=0.02, tail=1.1, **more):
    levels = np.linspace(1 - spread, 1 + spread, 101)
    levels[99:] = tail
    quantiles = tuple(float(value) for value in median * levels)
    told = {"ci95": (0.99 * median, 1.02 * median), "quantiles": quantiles}
    told |= {"p5": quantiles[5], "p95": quantiles[95], **more}
    return Latency(
        *(name, "xnnpack", threads, batch, 500, median, median, 1.0, quantiles[0], quantiles[-1]),
        **told,
    )


def lines(axes, colour):
    """Return the x values of each line of that colour."""
    return [list(line.get_xdata()) for line in axes.get_lines() if line.get_color() == colour]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([(1.0, 0.5)], [0]),
        ([(2.0, 0.9), (1.0, 0.8), (3.0, 0.85)], [1, 0]),
        ([(1.0, 0.9), (1.0, 0.8)], [0]),  # as cheap, and worse
        ([(2.0, 0.9), (1.0, 0.9)], [1]),  # as good, and dearer
        ([(1.0, 0.9), (1.0, 0.9), (2.0, 0.9)], [0, 1]),  # equal points stand beside each other
        ([(1.0, -3.5), (2.0, -3.0), (3.0, -3.2)], [0, 1]),
    ],
)
def test_the_front(points, expected):
    assert pareto_front(points) == expected


def test_the_front_beats_all_others_and_none_of_its_own(rng):
    points = [tuple(point) for point in rng.integers(0, 12, (60, 2))]
    best = pareto_front(points)

    def beats(one, other):
        return one != other and one[0] <= other[0] and one[1] >= other[1]

    for one, other in itertools.permutations(best, 2):
        assert not beats(points[one], points[other])
    for index in set(range(len(points))) - set(best):
        assert any(beats(points[one], points[index]) for one in best)
    assert 0 < len(best) < len(points)


def test_a_trade_off_shows_intervals_and_the_front(drawn):
    points = [
        Point("dear", 400.0, 0.99, (390.0, 420.0), (0.97, 0.995)),
        Point("beaten", 500.0, 0.95, (450.0, 520.0), (0.92, 0.97)),
        Point("cheap", 50.0, 0.96, (48.0, 51.0), (0.93, 0.98)),
    ]
    picture = plots.trade_off(points, "accuracy", "latency", "time of one call, µs")
    (axes,) = drawn[0].axes
    bars = {
        tuple(tuple(float(value) for value in end) for end in segment)
        for bar in axes.containers
        for collection in bar[2]
        for segment in collection.get_segments()
    }
    for point in points:
        low, high = point.cost_interval
        assert ((low, point.score), (high, point.score)) in bars
        low, high = point.score_interval
        assert any(end[0] == (point.cost, pytest.approx(low)) for end in bars)
        assert any(end[1] == (point.cost, pytest.approx(high)) for end in bars)
        assert axes.get_xlim()[0] < point.cost_interval[0]
        assert axes.get_xlim()[1] > point.cost_interval[1]
    assert lines(axes, svg.GREY) == [[50.0, 400.0]]
    faces = {bar[0].get_xdata()[0]: bar[0].get_markerfacecolor() for bar in axes.containers}
    assert faces[500.0] == "none" and "none" not in (faces[50.0], faces[400.0])
    assert axes.get_xlabel() == "time of one call, µs (logarithmic)"
    assert picture.title == "Accuracy against latency"
    assert "not of another" in picture.caption


def test_the_interval_of_a_score_is_drawn_once_a_model(drawn):
    points = [
        Point("a", cost, 0.9, None, (0.85, 0.93), note)
        for cost, note in ((30.0, "1 thread"), (20.0, "2 threads"))
    ]
    plots.trade_off(points, "accuracy", "latency", "time of one call, µs")
    (axes,) = drawn[0].axes
    assert [len(bar[2]) for bar in axes.containers] == [1, 0]
    assert axes.containers[0][0].get_xdata() == [20.0]
    assert [text.get_text() for text in axes.texts] == ["2 threads"]  # the other is beaten
    assert len(drawn[0].legends[0].get_texts()) == 1


def test_of_errors_less_is_better(drawn):
    points = [Point("a", 10.0, 2.0), Point("b", 20.0, 3.0), Point("c", 30.0, 1.0)]
    picture = plots.trade_off(points, "rmse", "size", "size, kB")
    assert lines(drawn[0].axes[0], svg.GREY) == [[10.0, 30.0]]
    assert "Left and down is better" in picture.caption
    assert "interval" not in picture.caption and "times" not in picture.caption


@pytest.mark.parametrize("metric", ["auc", "out auc", "f1"])
def test_of_other_scores_more_is_better(drawn, metric):
    points = [Point("worse", 90.0, 0.6), Point("better", 20.0, 0.9)]
    picture = plots.trade_off(points, metric, "size", "size, kB")
    faces = {
        bar[0].get_xdata()[0]: bar[0].get_markerfacecolor() for bar in drawn[0].axes[0].containers
    }
    assert faces[90.0] == "none" != faces[20.0]
    assert "Left and up is better" in picture.caption
    found = outcome_plots.front(
        Front((Candidate("worse", 90.0, 0.6), Candidate("better", 20.0, 0.9)), "size, kB", metric)
    )
    assert "Left and up is better" in found.caption
    assert "better: 20" in found.alternative and "worse" not in found.alternative


def test_what_is_empty_is_not_drawn():
    assert plots.trade_off([], "accuracy", "size", "size, kB") is None
    assert plots.call_times([]) is None
    assert plots.call_times([dataclasses.replace(latency(), median=None)]) is None
    assert plots.ratios([], "x") is None
    assert outcome_plots.training({"a": {"loss": [1.0]}}) is None


def test_call_times_draw_median_interval_and_percentiles(drawn):
    results = [latency("a", 100.0), latency("b", 150.0, ci95=None, quantiles=None)]
    plots.call_times(results)
    times, hills = drawn[0].axes[:2]
    assert [text.get_text() for text in times.get_yticklabels()] == ["a", "b"]
    first, second = (svg.COLOURS[row] for row in (0, 1))
    assert lines(times, first) == [[results[0].p5, results[0].p95], [99.0, 102.0]]
    assert lines(times, second) == [[results[1].p5, results[1].p95]]
    assert lines(times, svg.PAPER) == [[100.0], [150.0]]
    assert times.get_xlim()[0] == 0 and times.get_xscale() == "linear"
    assert len(lines(hills, first)) == 1 and lines(hills, second) == []


def test_times_far_apart_are_on_a_logarithmic_axis(drawn):
    plots.call_times([latency("a", 10.0), latency("b", 400.0)])
    times = drawn[0].axes[0]
    assert times.get_xscale() == "log" and "logarithmic" in times.get_xlabel()
    low, high = times.get_xlim()
    assert low < 9.8 and high > 408.0


def test_a_heavy_tail_is_cut_and_told(drawn):
    quantiles = (*np.linspace(98, 102, 96), 130.0, 170.0, 200.0, 400.0, 2000.0)
    picture = plots.call_times([latency("a", quantiles=quantiles), latency("b", tail=1.02)])
    hills = drawn[0].axes[1]
    assert hills.get_xlim() == (0.98, 1.6)
    # Of the percentiles, 170, 200, 400 and 2000 µs are above 160.
    assert "ends at 1.60: up to 4 % of a row's calls took longer" in picture.caption
    whole = plots.call_times([latency("b", tail=1.02)])
    assert "took longer" not in whole.caption


def test_times_of_batches_are_by_the_example():
    axis, (one, eight) = plots.comparable([latency("a"), latency("b", 400.0, batch=8)])
    assert "example" in axis and one == latency("a")
    assert (eight.median, eight.ci95) == (50.0, (49.5, 51.0))
    assert eight.quantiles == pytest.approx(latency(median=50.0).quantiles)
    assert plots.comparable([latency("a")]) == ("time of one call, µs", [latency("a")])


def test_a_hill_has_the_modes_of_the_calls():
    calls = np.sort(np.r_[np.random.default_rng(0).normal(1.0, 0.01, 3000), np.full(1000, 1.2)])
    places, heights = plots.density(np.percentile(calls, range(101)), 0.9, 1.3, 4000)
    inner = heights[1:-1]
    peaks = places[1:-1][(inner > heights[:-2]) & (inner > heights[2:]) & (inner > 0.1)]
    assert peaks == pytest.approx([1.0, 1.2], abs=0.01)
    assert heights.max() == 1.0


def test_ratios_are_drawn_around_one(drawn):
    compared = [
        Ratio("b", "xnnpack", 1, 1, "a", "a", 0.5, (0.48, 0.53)),
        Ratio("c", "xnnpack", 1, 1, "a", "a", 1.3, (1.2, 1.4)),
        Ratio("d", "xnnpack", 1, 1, "a", "a", 1.0, (0.97, 1.04)),
    ]
    picture = plots.ratios(compared, "x")
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "time over that of a (logarithmic)"
    assert [1.0, 1.0] in [list(line.get_xdata()) for line in axes.get_lines()]
    # Blue is faster, orange slower, grey neither.
    for ratio, colour in zip(compared, (*svg.COLOURS[:2], svg.GREY), strict=True):
        assert lines(axes, colour) == [list(ratio.ci95), [ratio.ratio]]
        assert axes.get_xlim()[0] < ratio.ci95[0] and ratio.ci95[1] < axes.get_xlim()[1]
    beside = drawn[0].axes[0].child_axes[0].get_yticklabels()
    assert [text.get_text() for text in beside] == [
        *("2× as fast", "1.3× as long", "no difference seen"),
    ]
    assert "95 % interval" in picture.caption


def test_ratios_to_several_say_to_which(drawn):
    compared = [
        Ratio("b", "xnnpack", threads, 1, "b", against, 0.5, (0.4, 0.6))
        for threads, against in ((2, "itself, 1 thread"), (1, "itself, reference"))
    ]
    plots.ratios(compared, "x")
    assert drawn[0].axes[0].get_xlim()[1] > 1.0  # where all are faster the line at 1 shows too
    texts = [text.get_text().split("\n") for text in drawn[0].axes[0].get_yticklabels()]
    assert [text[-1] for text in texts] == ["over itself, 1 thread", "over itself, reference"]
    assert texts[0][:2] == ["b", "xnnpack, 2\N{NO-BREAK SPACE}threads"]


def test_a_figure_grows_with_its_rows(drawn):
    def height(rows):
        plots.call_times([latency(f"m{row // 4}", threads=1 + row % 4) for row in range(rows)])
        return drawn[-1].get_size_inches()[1]

    # A row has two lines of 9 points, and room for the hill.
    assert (height(16) - height(2)) / 14 == pytest.approx(height(3) - height(2))
    assert height(3) - height(2) > 2 * 1.3 * 9 / 72


@pytest.mark.parametrize(("low", "high"), [(0.97, 1.04), (0.4, 2.1), (3.0, 900.0), (0.01, 5e6)])
def test_a_logarithmic_axis_has_a_few_plain_numbers(low, high):
    _, axes = svg.blank_figure(4, 3)
    plots.set_logarithmic(axes, low, high)
    texts = [text.get_text() for text in axes.get_xticklabels()]
    assert 3 <= len(texts) <= 9
    for text, place in zip(texts, axes.get_xticks(), strict=True):
        assert re.fullmatch(r"[\d,.]{1,9}", text) and float(text.replace(",", "")) == place
        assert low <= place <= high


def test_long_names_are_short_and_told_apart():
    path = "/home/someone/experiments/run-%d/models/exported/student_int8_per_channel.tflite"
    names = [path % 1, path % 2, "short", "x" * 300, "a $formula$"]
    labels = plots.short_names(names)
    assert list(labels) == names and len(set(labels.values())) == len(names)
    for text in labels.values():
        assert text.count("\n") <= 1 and max(map(len, text.split("\n"))) <= 30
    assert "run-1" in labels[names[0]] and labels["short"] == "short"
    assert labels["a $formula$"] == r"a \$formula\$"


def test_odd_names_are_drawn(drawn):
    names = ["_hidden", "$x$", "<&>", "\\frac{", "a\nb", "模型", "long " * 11]
    plots.trade_off([Point(n, 1.0 + i, 0.5) for i, n in enumerate(names)], "accuracy", "size", "kB")
    legend = drawn[0].legends[0]
    texts = [text.get_text().replace(r"\$", "$") for text in legend.get_texts()]
    shown = [printable(name) for name in names]
    assert texts[:-1] == shown[:-1] and texts[-1].replace("\n", "") == names[-1]
    plots.call_times([latency(name) for name in names])
