"""`Comparison`: the result of `compare`, as a table, a page and a picture with intervals."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import os
import pathlib
from typing import Any

from tfkd.comparison.search import Trial
from tfkd.errors import InputError
from tfkd.escaping import printable
from tfkd.files import write_atomically
from tfkd.tables import Printed, aligned

_BLUE, _ORANGE, _GREY = "#0b6e99", "#c2571a", "#6b757e"


@dataclasses.dataclass(frozen=True)
class Gain:
    """How much better a method is than training alone, seed by seed.

    Attributes:
        mean: Mean over the seeds; positive is better, for errors too.
        interval: Its 95 % interval by Student's distribution, `None` for a single seed.
    """

    mean: float
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Compared:
    """One method of a comparison.

    Attributes:
        name: Its name.
        settings: Its settings in words.
        validation: Score on the validation part after the last epoch, by seed.
        mean: Their mean, by which the best is chosen.
        gain: Gain over training alone on the validation part; `None` for training alone.
        test: Score on the test part by seed, for the best method and for training alone; else
            `None`.
        test_mean: Their mean, or `None`.
        test_gain: Gain over training alone on the test part, for the best method; else `None`.
        seconds: Duration of all its runs together.
    """

    name: str
    settings: str
    validation: tuple[float, ...]
    mean: float
    gain: Gain | None
    test: tuple[float, ...] | None
    test_mean: float | None
    test_gain: Gain | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Comparison(Printed):
    """The result of `compare`; print it for the table.

    Attributes:
        best: Name of the method with the best mean on the validation part; `"alone"` if none is
            better than training without a teacher.
        methods: The compared methods, training alone first.
        left_out: Name → why the method is not compared.
        metric: The metric of the scores, such as `"accuracy"` or `"rmse"`.
        higher_is_better: Whether a higher score is better.
        task: The task of the labels, one of `tfkd.model.task.TASKS`.
        seeds: The seeds of the runs.
        budget: Epochs, batch size, learning rate and optimizer of each run.
        data: Name and sizes of the data.
        teacher: The teacher's score on `"validation"` and `"test"`; `None` if it is an array.
        trials: The trials of the search, in order.
        call: Python that trains the best student of the first seed from `student`, `teacher` and
            `data`.
        student: The best method's student of the seed with the median validation score.
    """

    best: str
    methods: tuple[Compared, ...]
    left_out: dict[str, str]
    metric: str
    higher_is_better: bool
    task: str
    seeds: tuple[int, ...]
    budget: dict[str, Any]
    data: dict[str, Any]
    teacher: dict[str, float] | None
    trials: tuple[Trial, ...]
    call: str
    student: Any = dataclasses.field(repr=False, compare=False)

    def __getitem__(self, name: str) -> Compared:
        found = {one.name: one for one in self.methods}
        if name not in found:
            raise InputError(f"There is no method {name!r}; the methods are {', '.join(found)}.")
        return found[name]

    def describe(self) -> str:
        """Return a table as text: a line per method, the verdict, and the call of the best."""
        lines = aligned(self._rows(), left=2)
        return "\n".join([*lines, "", *map(printable, self._notes()), "", self.call])

    def to_json(self) -> dict:
        """Return everything but the student as plain values."""
        plain = dataclasses.asdict(dataclasses.replace(self, student=None))
        del plain["student"]
        return {"schema": "tfkd.comparison/1"} | json.loads(json.dumps(plain))

    @property
    def verdict(self) -> str:
        """Which method is best, and by how much, in one or two sentences."""
        seeds = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else "one seed"
        others = [one for one in self.methods if one.name != "alone"]
        if self.best == "alone":
            if not others:
                return "best: alone; nothing else was compared."
            nearest = max(others, key=lambda one: one.gain.mean)
            return (
                f"best: alone. No method has a better mean over {seeds} on the validation part; "
                f"the nearest is {nearest.name} ({self._points(nearest.gain.mean)})."
            )
        gain = self[self.best].test_gain
        said = (
            f"best: {self.best}, by its mean over {seeds} on the validation part. On the test part "
            f"its gain over training alone is {self._points(gain.mean)}"
        )
        if gain.interval is None:
            return f"{said}; one seed gives no interval: take more before you rely on it."
        low, high = gain.interval
        shown = "it helps" if low > 0 else "it harms" if high < 0 else "no difference is shown"
        return f"{said} (95 % interval {self._interval(gain)}): {shown}."

    @property
    def picture(self) -> str:
        """The gains over training alone with their intervals, as SVG."""
        import matplotlib

        stream = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "tfkd"}):
            self._figure().savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()

    def plot(self, path) -> None:
        """Draw the gains over training alone with their intervals.

        Args:
            path: Path of the picture to write, `.svg` or `.png`.
        """
        self._figure().savefig(path)

    def save(self, folder) -> pathlib.Path:
        """Write compare.json, compare.svg and student.keras.

        Args:
            folder: The folder; created if it does not exist. Files of these names are replaced.

        Returns:
            The folder.

        Raises:
            InputError: if the folder can't be written.
        """
        folder = pathlib.Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / ".student.keras"
            self.student.save(partial)
            os.replace(partial, folder / "student.keras")
        except OSError as error:
            raise InputError(f"Cannot write {str(folder)!r}: {error.strerror or error}.") from error
        write_atomically(folder / "compare.svg", self.picture.encode())
        write_atomically(folder / "compare.json", json.dumps(self.to_json(), indent=1).encode())
        return folder

    def _repr_html_(self) -> str:
        def shown(text):
            return html.escape(printable(text))

        def row(cells, tag):
            return "<tr>" + "".join(f"<{tag}>{shown(one)}</{tag}>" for one in cells) + "</tr>"

        header, *rows = self._rows()
        table = row(header, "th") + "".join(row(one, "td") for one in rows)
        notes = "".join(f"<p>{shown(one)}</p>" for one in self._notes())
        svg = self.picture[self.picture.index("<svg") :]
        return f"<table>{table}</table>{notes}{svg}<pre>{html.escape(self.call)}</pre>"

    def _rows(self) -> list[list[str]]:
        rows = [
            ["method", "settings", f"validation {self.metric}", "gain", "95 % interval", "test"]
        ]
        for one in self.methods:
            name = f"{one.name} *" if one.name == self.best else one.name
            gain, interval = "", ""
            if one.gain is not None:
                gain, interval = self._points(one.gain.mean, unit=""), self._interval(one.gain)
            test = "" if one.test_mean is None else self._score(one.test_mean)
            rows.append([name, one.settings, self._score(one.mean), gain, interval, test])
        if self.teacher is not None:
            scores = [self._score(self.teacher[part]) for part in ("validation", "test")]
            rows.append(["teacher", "", scores[0], "", "", scores[1]])
        return rows

    def _notes(self) -> list[str]:
        notes = [self.verdict]
        if self.trials:
            failed = sum(one.validation is None for one in self.trials)
            more = f", {failed} of which failed" if failed else ""
            notes.append(f"search: {len(self.trials)} trials with seed {self.seeds[0]}{more}")
        notes += [f"left out: {name}: {reason}" for name, reason in self.left_out.items()]
        return notes

    @property
    def _is_share(self) -> bool:
        return self.metric not in ("rmse", "mae")

    def _score(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self._is_share else f"{value:.4g}"

    def _points(self, value: float, unit: str = " points") -> str:
        return f"{100 * value:+.2f}{unit}" if self._is_share else f"{value:+.3g}"

    def _interval(self, gain: Gain) -> str:
        if gain.interval is None:
            return "–"
        return " to ".join(self._points(end, unit="") for end in gain.interval)

    def _figure(self):
        from tfkd.export.report.svg import blank_figure

        factor = 100 if self._is_share else 1
        base = self["alone"]
        sign = factor if self.higher_is_better else -factor
        shown = self.methods[1:]
        figure, axes = blank_figure(6.6, 1.5 + 0.42 * max(1, len(shown)))
        axes.axvline(0, color="#1d2329", linewidth=1.0, zorder=1)
        for row, one in enumerate(shown):
            colour = _BLUE if one.name == self.best else _GREY
            gaps = [sign * (a - b) for a, b in zip(one.validation, base.validation, strict=True)]
            axes.plot(gaps, [row] * len(gaps), "|", color=colour, alpha=0.6, markersize=9)
            _mark(axes, row, one.gain, factor, "o", colour)
            if one.test_gain is not None:
                _mark(axes, row + 0.28, one.test_gain, factor, "D", _ORANGE)
        handles = [axes.plot([], [], "o-", color=_GREY, label="validation, 95 % interval")[0]]
        handles.append(axes.plot([], [], "|", color=_GREY, label="a seed")[0])
        if self.best != "alone":
            handles.append(axes.plot([], [], "D-", color=_ORANGE, label="test, of the best")[0])
        axes.set_yticks(range(len(shown)), [one.name.replace("$", r"\$") for one in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        unit = f"{self.metric}, points" if self._is_share else self.metric
        axes.set_xlabel(f"gain over training alone ({unit}; right is better)")
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9,
                      frameon=False)  # fmt: skip
        return figure


def _mark(axes, row: float, gain: Gain, factor: float, marker: str, colour: str) -> None:
    if gain.interval is not None:
        ends = [factor * end for end in gain.interval]
        axes.plot(ends, [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot(factor * gain.mean, row, marker, color=colour, markersize=6)
