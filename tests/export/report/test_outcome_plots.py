"""Curves, candidates, errors and layers are drawn as given; pictures do not affect each other."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from tfkd.export.report import outcome_plots, svg
from tfkd.export.report.entries import Candidate, Front, Layer
from tfkd.export.report.predictions import Errors


@pytest.fixture
def drawn(monkeypatch):
    """The figures behind the pictures, as they are made."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **more: figures.append(self) or save(self, *a, **more)
    )
    return figures


def curves(axes):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def test_curves_go_on_where_the_stage_before_ended(drawn):
    histories = {
        "student": {"val_accuracy": [0.5, 0.8, 0.9]},
        "pruned": {"val_accuracy": [0.7, 0.85]},
        "qat": {"val_accuracy": [0.88]},
        "teacher": {"val_accuracy": [0.6, 0.95]},
        "untold": {"loss": [1.0]},
    }
    joined = {"pruned": "student", "qat": "pruned", "teacher": "missing"}
    picture = outcome_plots.training(histories, joined)
    assert curves(drawn[0].axes[0]) == {
        "student": ([1, 2, 3], [0.5, 0.8, 0.9]),
        "pruned": ([3, 4, 5], [0.9, 0.7, 0.85]),
        "qat": ([5, 6], [0.85, 0.88]),
        "teacher": ([1, 2], [0.6, 0.95]),
    }
    assert "qat: 88.0% after 1" in picture.alternative and "dotted" in picture.caption
    outcome_plots.training({"a": {"val_accuracy": [0.5]}}, {"a": "a"})  # no endless walk
    assert curves(drawn[1].axes[0])["a"][1][-1] == 0.5


def test_without_an_accuracy_the_error_is_drawn(drawn):
    picture = outcome_plots.training({"a": {"val_mae": [2.0, 0.5], "val_loss": [9.0, 1.0]}})
    axes = drawn[0].axes[0]
    assert curves(axes) == {"a": ([1, 2], [2.0, 0.5])}
    assert axes.get_ylabel() == "validation mean absolute error"
    assert "dotted" not in picture.caption


@pytest.mark.parametrize(("metric", "best"), [("accuracy", [10.0, 30.0]), ("rmse", [10.0, 20.0])])
def test_the_front_is_what_no_other_beats(drawn, metric, best):
    some = (
        Candidate("a", 10.0, 0.6),
        Candidate("b", 20.0, 0.5, chosen=True),
        Candidate("c", 30.0, 0.9),
    )
    picture = outcome_plots.front(Front(some, "size, kB", metric))
    beaten, unbeaten, chosen = (
        sorted(part.get_offsets()[:, 0].tolist()) for part in drawn[0].axes[0].collections
    )
    assert unbeaten == best and beaten == sorted({10.0, 20.0, 30.0} - set(best))
    assert chosen == [20.0]
    assert drawn[0].axes[0].get_ylabel() == f"validation {metric}"
    assert "a: 10 and 0.6" in picture.alternative
    assert outcome_plots.front(Front((), "size, kB", metric)) is None


def test_errors_are_the_counts(drawn):
    edges = tuple(np.linspace(-2, 2, 5))
    picture = outcome_plots.errors(Errors(edges, (1, 7, 2, 0), (0, 5, 5, 0)), "file", "teacher")
    steps = [patch.get_data() for patch in drawn[0].axes[0].patches]
    assert [list(step.values) for step in steps] == [[1, 7, 2, 0], [1, 7, 2, 0], [0, 5, 5, 0]]
    assert all(tuple(step.edges) == edges for step in steps)
    assert "7 of 10, from -1 to 0" in picture.alternative


def test_of_many_layers_those_that_add_most(drawn):
    rows = [Layer(f"layer_{i}", 8, added, 0.1) for i, added in enumerate(np.arange(30) / 100)]
    rows.append(Layer("constant", None, None, None))
    picture = outcome_plots.layers(rows)
    bars = [bar.get_width() for bar in drawn[0].axes[0].patches]
    assert bars == pytest.approx(list(np.arange(10, 30) / 100))  # in the file's order
    assert "20 of 30 layers" in picture.caption and "layer_29 29.00%" in picture.alternative
    assert outcome_plots.layers([Layer("a", 8, None, None), Layer("b", 8, 0.0, 0.0)]) is None


HOSTILE = '"><script>alert(1)</script>--> id="x" style="fill: #0b6e99" url(#y) \x1b'


def test_a_picture_is_part_of_a_page_and_keeps_to_itself():
    def made(colour):
        figure, axes = svg.blank_figure(4, 3)
        axes.plot([1, 2], [3, 4], "o-", color=colour)
        axes.set_title(svg.printable(HOSTILE).replace("$", r"\$"))
        return svg.picture(figure, HOSTILE, "caption", HOSTILE).svg

    one, other = made(svg.COLOURS[0]), made(svg.COLOURS[1])
    for drawing in (one, other):
        assert drawing.startswith('<svg role="img" aria-label="')
        assert "<script" not in drawing and "\x1b" not in drawing and "<!" not in drawing
        tags = " ".join(re.findall(r"<[^<>]*>", drawing)[1:])  # the first one holds the words
        ids = re.findall(r' id="([^"]*)"', tags)
        used = re.findall(r'(?:url\(|href=")#([^")]*)', tags)
        assert len(ids) == len(set(ids)) and set(ids) == set(used) and ids
    of = [set(re.findall(r' id="(p\w+-[^"]*)"', drawing)) for drawing in (one, other)]
    assert not of[0] & of[1]
    # Of the page's colours; what the user wrote is untouched.
    tags = " ".join(re.findall(r"<[^<>]*>", one)[1:])
    assert "var(--c1)" in tags and "var(--ink)" in tags and "#" not in re.sub(r"\(#|\"#", "", tags)
    assert 'style="fill: #0b6e99" url(#y)' in one.replace("&quot;", '"')
