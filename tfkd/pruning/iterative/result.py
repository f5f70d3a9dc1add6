"""The result of `spiral`: its rounds, the alternatives, a table and a picture."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tfkd._renamed import with_old_keywords
from tfkd.escaping import printable
from tfkd.tables import Printed, aligned

if TYPE_CHECKING:
    from tfkd._typing import PathLike

#: Metrics that can have a target, with their names in tables.
MEASURES = {
    "macs": "MACs",
    "parameters": "parameters",
    "bytes": "bytes",
    "latency": "latency",
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """The costs and scores of a model.

    Attributes:
        parameters: Number of weights.
        macs: Multiply-accumulates for one example, `None` where they are not known.
        bytes: Size of its `.tflite` file; `None` if no files were requested.
        latency: Median time of a call of that file divided by that of the original's file, measured
            in one run; `None` if it was not measured.
        latency_us: That median time itself, in µs.
        validation: Score on the validation part, by which choices are made.
        test: Score on the test part; `None` for rounds, which it must not guide.
    """

    parameters: int
    macs: int | None
    bytes: int | None = None
    latency: float | None = None
    latency_us: float | None = None
    validation: float | None = None
    test: float | None = None


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of the spiral.

    Attributes:
        number: From 1.
        step: The fraction that the round should remove, at least.
        measured: The student after it was pruned and distilled.
        kept: Whether the spiral went on from it.
        before: Its validation score after pruning, before distillation.
        seconds: What the round took.
        other: Validation score of the same pruned student trained the other way. The first
            round is made with and without the teacher, later ones as the better of the two.
        taught: Whether the student learned from the teacher.
    """

    number: int
    step: float
    measured: Measured
    kept: bool
    before: float
    seconds: float
    other: float | None = None
    taught: bool = True


@dataclasses.dataclass(frozen=True)
class Spiral(Printed):
    """The result of `spiral`.

    Attributes:
        model: The student that is left, a model of the original's Keras.
        original: Costs and scores of the given model.
        final: Costs and scores of the student.
        rounds: The rounds in order, including those that were stepped back from.
        metric: What the scores are: `"accuracy"`, `"auc"` or `"rmse"`.
        target: The requested target, as absolute numbers.
        floor: The worst validation score that was allowed, or `None`.
        reached: Whether the target was met, and the floor held.
        stopped: Why it ended, in words.
        epochs: Epochs of all rounds together, steps back included.
        alternatives: Name → `Measured` of the alternatives, trained for the same number of epochs.
        models: Name → model of each alternative.
    """

    model: Any
    original: Measured
    final: Measured
    rounds: tuple[Round, ...]
    metric: str
    target: dict[str, float]
    floor: float | None
    reached: bool
    stopped: str
    epochs: int
    alternatives: dict[str, Measured] = dataclasses.field(default_factory=dict)
    models: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict:
        """Return everything but the models as plain values."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("model", "models")
        }
        return {"schema": "tfkd.spiral/1"} | {name: _plain(one) for name, one in plain.items()}

    def describe(self) -> str:
        """Return a table as text: the original, a line per round, the alternatives."""
        points = [("original", "", self.original)]
        for one in self.rounds:
            points.append((f"round {one.number}", "" if one.kept else "back", one.measured))
        points.append(("final", "", self.final))
        points += [(name.replace("_", " "), "", one) for name, one in self.alternatives.items()]
        names = [name for name in MEASURES if any(getattr(p, name) is not None for *_, p in points)]
        header = ["", "", *(MEASURES[name] for name in names), "validation", "test"]
        rows = [header]
        for label, note, point in points:
            costs = [_cost(getattr(point, name), getattr(self.original, name)) for name in names]
            scores = [_score(point.validation), _score(point.test)]
            rows.append([label, note, *costs, *scores])
        lines = [*aligned(rows, left=2), printable(f"{self.metric}; {self.stopped}")]
        first = self.rounds[0] if self.rounds else None
        if first is not None and first.other is not None:
            better = "with" if first.taught else "without"
            lines.append(
                f"round 1 on validation: {first.measured.validation:.4f} {better} the teacher, "
                f"{first.other:.4f} "
                + ("without it" if first.taught else "with it")
                + f"; all rounds were trained {better} it"
            )
        return "\n".join(lines)

    @with_old_keywords(of="cost")
    def plot(self, path: PathLike, cost: str | None = None) -> None:
        """Draw the validation score against what a model costs.

        Args:
            path: Path of the picture to write, `.svg` or `.png`.
            cost: `"macs"`, `"parameters"`, `"bytes"` or `"latency"`; defaults to the first that has
                a target, then `"macs"` or `"parameters"`.
        """
        from tfkd.export.report.svg import blank_figure

        cost = cost or next(iter(self.target), "macs" if self.original.macs else "parameters")

        def place(point):
            value, whole = getattr(point, cost), getattr(self.original, cost)
            return None if value is None else value / (whole or 1)

        figure, axes = blank_figure(6.6, 4.0)

        def draw(points, *style, **more):
            known = [(place(one), one.validation) for one in points]
            known = [point for point in known if None not in point]
            if known:
                axes.plot(*zip(*known, strict=True), *style, **more)

        kept = [self.original, *(one.measured for one in self.rounds if one.kept)]
        draw(kept, "o-", color="#1f6fb2", label="spiral")
        back = [one.measured for one in self.rounds if not one.kept]
        draw(back, "x", color="#b03a2e", label="stepped back from")
        draw([self.final], "*", ms=14, color="#1f6fb2")
        for i, (name, one) in enumerate(self.alternatives.items()):
            label, marker = name.replace("_", " "), "s^Dv"[i % 4]
            draw([one], marker, color=f"C{i + 1}", label=label)
        if self.floor is not None:
            axes.axhline(self.floor, color="#888888", linestyle="--", linewidth=1, label="floor")
        if cost in self.target and getattr(self.original, cost) is not None:
            wanted = self.target[cost]
            if cost != "latency" or wanted >= 1:
                wanted /= getattr(self.original, "latency_us" if cost == "latency" else cost)
            axes.axvline(wanted, color="#888888", linestyle=":", linewidth=1, label="target")
        axes.set_xlabel(f"{MEASURES[cost]}, as a part of the original's")
        axes.set_ylabel(f"{self.metric} on the validation part")
        axes.set_xlim(left=0)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
        figure.savefig(path)


def _plain(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _cost(value, whole) -> str:
    if value is None:
        return "–"
    part = f"{value / whole:.2f}" if whole else ""
    return part if value < 10 else f"{value:,.0f} ({part})"


def _score(value) -> str:
    return "–" if value is None else f"{value:.4f}"
