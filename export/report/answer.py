"""`answer_of`: the outcome of a run, as the figures and the sentence of the page's first line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfkd.export.micro import boards
from tfkd.export.report.entries import ModelEntry
from tfkd.export.report.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Answer:
    """The first line of a report; figures that were not measured are `None` and not mentioned.

    Attributes:
        name: Name of the file.
        against: The teacher's float32 file, whose bytes are compared.
        bytes: Size of the file.
        against_bytes: Size of the teacher's file.
        metric: `"accuracy"` or `"rmse"`.
        examples: Number of examples in the test split.
        difference: The file's score minus the teacher's on the test split.
        ci95: Its 95 % interval, see `tfkd.export.report.predictions.judge`.
        against_score: The teacher's score, of which a difference of errors is a part.
        taught: Score of the student with a teacher minus its score without, see `Worth`.
        taught_ci95: Its 95 % interval.
        taught_metric: `"accuracy"` or `"r2"`.
        taught_part: The part of the data that these scores are from.
        kept: `"taught"` or `"alone"`: the student that was kept.
        board: Full name of the board.
        fits: A resource each: `resource`, `needed_bytes`, `available_bytes`, `free_bytes`.
        latency_us: Median time of a call.
        machine: The machine of this measurement.
        output: The output whose score is compared, the worst of several; `None` if there is one.
    """

    name: str
    against: str | None = None
    bytes: int | None = None
    against_bytes: int | None = None
    metric: str | None = None
    examples: int | None = None
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    against_score: float | None = None
    taught: float | None = None
    taught_ci95: tuple[float, float] | None = None
    taught_metric: str | None = None
    taught_part: str | None = None
    kept: str | None = None
    board: str | None = None
    fits: tuple[dict[str, Any], ...] | None = None
    latency_us: float | None = None
    machine: str | None = None
    output: str | None = None

    def parts(self) -> list[str]:
        """Return the claims that rest on measured figures."""
        claims = (self._size(), self._score(), self._teacher(), self._board(), self._time())
        return [claim for claim in claims if claim is not None]

    def sentence(self) -> str:
        """Return the claims as a line."""
        return f"{'; '.join(self.parts())}." if self.parts() else ""

    def to_json(self) -> dict[str, Any]:
        """Return the figures and the sentence as plain values."""
        plain = {**dataclasses.asdict(self), "sentence": self.sentence()}
        if self.output is None:
            del plain["output"]
        return plain

    def _size(self) -> str | None:
        if not self.bytes or not self.against_bytes:
            return None
        ratio = self.against_bytes / self.bytes
        share = f"1/{ratio:.0f} of" if ratio >= 1.5 else f"{1 / ratio:.2f} times"
        return f"{share} the bytes of the teacher"

    def _score(self) -> str | None:
        if self.difference is None:
            return None
        of = "" if self.output is None else f" for {self.output}, the worst output"
        if self.metric == "accuracy":
            return points(self.difference, self.ci95) + of
        if not self.against_score:
            return None
        share = _scaled(1 / self.against_score, self.difference, self.ci95)
        return _with_interval(*share, f" % {self.metric.upper()}") + of

    def _teacher(self) -> str | None:
        if self.taught is None or self.kept is None:
            return None
        if self.taught_metric == "accuracy":
            gained = points(self.taught, self.taught_ci95)
        else:
            ends = self.taught_ci95
            ends = "" if ends is None else f" ({ends[0]:+.3f} to {ends[1]:+.3f})"
            gained = f"{self.taught:+.3f} of R²{ends}".replace("-", "−")
        where = f" on {self.taught_part} examples" if self.taught_part else ""
        if self.kept == "alone":
            return f"{gained} with the teacher{where}, so the student without it was kept"
        if self.taught == 0:
            return f"the teacher made no difference{where}: {gained}"
        return f"the teacher helped by {gained.removeprefix('+')}{where}"

    def _board(self) -> str | None:
        if not self.fits:
            return None
        lacking = [one for one in self.fits if one["free_bytes"] < 0]
        if lacking:
            words = {"flash": "flash", "ram": "RAM"}
            missing = " and ".join(
                f"{kilobytes(-one['free_bytes'])} of {words[one['resource']]}" for one in lacking
            )
            return f"does not fit the {self.board}: {missing} are missing"
        (ram,) = (one for one in self.fits if one["resource"] == "ram")
        return f"fits the {self.board} with {kilobytes(ram['free_bytes'])} of RAM to spare"

    def _time(self) -> str | None:
        if self.latency_us is None or self.machine is None:
            return None
        return f"{time(self.latency_us)} a call on {self.machine}"


def answer_of(
    models: Sequence[ModelEntry],
    chosen: str,
    predictions: Predictions | None,
    teaching: Mapping[str, Any] | None,
    machine: Mapping[str, Any],
    board: str | boards.Board | None,
    output: str | None = None,
) -> Answer:
    """Return the answer that a report's figures give.

    Args:
        models: The report's entries.
        chosen: Name of the file that the answer is about.
        predictions: Its answers beside the teacher's; ignored unless they are of `chosen`.
        teaching: The teacher's worth, as from `Worth.to_json`.
        machine: The machine that measured the times: `cpu`.
        board: A name in `tfkd.export.micro.boards.BOARDS`, a `Board`, or `None`.
        output: The output that `predictions` are of, if there are several.
    """
    by_name = {model.name: model for model in models}
    entry, found = by_name[chosen], {}
    teachers = {one.name for one in models if one.stage == "teacher"}
    of_teachers = (one for one in models if one.made_from in teachers and one.format == "float32")
    against = next(of_teachers, None)
    if against is not None and entry.bytes:
        found |= {"against": against.name, "bytes": entry.bytes, "against_bytes": against.bytes}
    if predictions is not None and predictions.name == chosen:
        keys = ("metric", "examples", "difference", "ci95", "against_score")
        found |= {key: getattr(predictions, key) for key in keys}
    if teaching and teaching.get("difference") is not None:
        found |= {
            "taught": teaching["difference"],
            "taught_ci95": teaching.get("ci95"),
            "taught_metric": teaching.get("metric"),
            "taught_part": teaching.get("part"),
            "kept": teaching.get("kept"),
        }
    fits = fits_of(entry, board)
    if fits is not None:
        found |= {"board": boards.find(board).name, "fits": fits}
    median = (entry.latency_us or {}).get("median")
    if median is not None and machine.get("cpu"):
        found |= {"latency_us": median, "machine": machine["cpu"]}
    return Answer(chosen, **found, output=output)


def fits_of(
    entry: ModelEntry, board: str | boards.Board | None
) -> tuple[dict[str, Any], ...] | None:
    """Return whether a file fits a board, as in `Answer.fits`; `None` if that is not known.

    Args:
        entry: The file's entry, with its bytes and its arena.
        board: A name in `tfkd.export.micro.boards.BOARDS`, a `Board`, or `None`.
    """
    known, micro = boards.find(board), entry.micro or {}
    if known is None or not known.runs_tflm or not entry.bytes or not micro.get("arena_bytes"):
        return None
    arena = micro["arena_bytes"] + (micro.get("margin_bytes") or 0)
    return tuple(
        {**dataclasses.asdict(one), "free_bytes": one.free_bytes}
        for one in boards.fits(entry.bytes, arena, board=known)
    )


def points(difference: float, interval: Sequence[float] | None) -> str:
    """Return a difference of shares in points, with its interval.

    Example:
        >>> points(-0.007, (-0.016, 0.002))
        '−0.7 points (−1.6 to +0.2)'
    """
    return _with_interval(*_scaled(1.0, difference, interval), " points")


def kilobytes(count: int) -> str:
    """Return a size in units of 1,000 bytes, like all sizes of a page.

    Example:
        >>> kilobytes(61_440)
        '61.4 kB'
    """
    return f"{count / 1000:,.1f} kB"


def time(microseconds: float) -> str:
    """Return a time with its unit.

    Example:
        >>> time(0.752), time(1.32), time(12_000.0)
        ('0.75 µs', '1.3 µs', '12 ms')
    """
    value, unit = (microseconds / 1000, "ms") if microseconds >= 1000 else (microseconds, "µs")
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{digits}f} {unit}"


def _scaled(factor, difference, interval):
    ends = None if interval is None else tuple(100 * factor * end for end in interval)
    return 100 * factor * difference, ends


def _with_interval(value: float, ends, unit: str) -> str:
    # -0.04 rounds to 0.0 at one digit, without a sign.
    def signed(number):
        text = f"{number:+.1f}"
        return "0.0" if text in ("-0.0", "+0.0") else text.replace("-", "−")

    interval = "" if ends is None else f" ({signed(ends[0])} to {signed(ends[1])})"
    return f"{signed(value)}{unit}{interval}"
