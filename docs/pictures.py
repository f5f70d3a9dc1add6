"""The pictures of `docs/concepts/`, drawn while the site is built.

A picture of measurements reads them from the tables in `docs/results/`, so that the two can't
differ.
"""

from __future__ import annotations

import pathlib
import re

import numpy as np

from tfkd.export.micro.boards import BOARDS
from tfkd.export.report import svg

RESULTS = pathlib.Path(__file__).parent / "results"
_NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*")


def table(page: str, header: str) -> list[list[str]]:
    """Return the cells of the first table on a page of results whose header starts so."""
    text = (RESULTS / f"{page}.md").read_text("utf-8")
    start = text.index(f"\n| {header}")
    rows = re.match(r"(?:\|.*\|\n)+", text[start + 1 :])[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def numbers(cell: str) -> list[float]:
    """Return the numbers in a cell."""
    return [float(n.replace(",", "").replace("−", "-")) for n in _NUMBER.findall(cell)]


def distillation() -> svg.Picture:
    """Draw what a teacher adds, with the default loss and with Hinton's."""
    rows = [row for row in table("distillation", "task, budget | alone | default | kl |") if row[1]]
    figure, axes = svg.blank_figure(4.8, 4.6)
    for column, shift, colour, marker, label in (
        (2, -0.16, svg.COLOURS[0], "o", "default"),
        (3, 0.16, svg.COLOURS[1], "s", "KL, alpha 0.1, T 4"),
    ):
        points = [
            (place, numbers(row[column])) for place, row in enumerate(rows) if numbers(row[column])
        ]
        axes.errorbar(
            [mean for _, (mean, _) in points],
            [place + shift for place, _ in points],
            xerr=[half for _, (_, half) in points],
            fmt=marker, color=colour, markersize=4, linewidth=1.2, label=label,
        )  # fmt: skip
    axes.axvline(0, color=svg.GREY, linewidth=1)
    axes.set_yticks(range(len(rows)), [row[0].removesuffix(", short") for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("points of accuracy (values: R²) beside no teacher", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    ahead = sum(numbers(row[2])[0] > 0 for row in rows)
    return svg.picture(
        figure,
        "What a teacher adds on fourteen tasks",
        "Short trainings, the same student with and without a good teacher; bars are 95 % "
        "intervals over the seeds. From "
        "[Distillation](../results/distillation.md#the-default-fourteen-tasks).",
        f"With the default loss {ahead} of {len(rows)} tasks are better than without a "
        "teacher; with KL at temperature 4 most are worse, some by more than ten points.",
    )


def quantization() -> svg.Picture:
    """Draw three channels of weights on one grid of 4 bits, and on a grid each."""
    rng = np.random.default_rng(0)
    sizes = (1.0, 0.4, 0.1)
    weights = [size * rng.uniform(-1, 1, 12) for size in sizes]
    weights = [
        size * channel / np.abs(channel).max() for size, channel in zip(sizes, weights, strict=True)
    ]
    figure, axes, other = svg.blank_figure(4.8, 3.2, panels=2)
    errors = []
    for panel, title, ends in (
        (axes, "one scale", [max(sizes)] * 3),
        (other, "a scale per channel", sizes),
    ):
        for place, (channel, end) in enumerate(zip(weights, ends, strict=True)):
            grid = end / 7 * np.arange(-7, 8)
            panel.plot(grid, [place] * 15, "|", color=svg.GREY, markersize=14)
            rounded = np.round(channel / (end / 7)) * (end / 7)
            panel.plot(channel, [place - 0.18] * 12, ".", color=svg.COLOURS[0], markersize=4)
            panel.plot(rounded, [place + 0.18] * 12, ".", color=svg.COLOURS[1], markersize=4)
            errors.append(np.abs(rounded - channel).mean() / np.abs(channel).mean())
        panel.set_title(title, fontsize=9)
        panel.set_yticks(range(3), ["channel 1", "channel 2", "channel 3"])
    axes.invert_yaxis()
    return svg.picture(
        figure,
        "One scale, and a scale per channel",
        "Three channels of weights of different size (upper dots), the places that 4 bits "
        "have (lines), and where each weight goes (lower dots). The smallest channel is off "
        f"by {errors[2]:.0%} of its size on the left and by {errors[5]:.0%} on the right.",
        "With one scale the small channel falls on three places; with its own scale it has "
        "fifteen.",
    )


def recurrent() -> svg.Picture:
    """Draw size and time of each form of an LSTM and a GRU."""
    rows = table("recurrent", "form, int8, untrained")
    figure, axes = svg.blank_figure(4.8, 3.8)
    for kind, colour in (("LSTM", svg.COLOURS[0]), ("GRU", svg.COLOURS[1])):
        for steps, marker in (("29", "o"), ("150", "s")):
            mine = [row for row in rows if row[0].startswith(kind) and row[1] == steps]
            x, y = ([numbers(row[column])[0] for row in mine] for column in (3, 5))
            axes.plot(x, y, marker, color=colour, markersize=5, label=f"{kind}, {steps} steps")
            for row, left, up in zip(mine, x, y, strict=True):
                axes.annotate(
                    row[0].split()[1], (left, up), (4, 4), textcoords="offset points", fontsize=8
                )  # fmt: skip
    axes.loglog()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(right=1.2e6)
    axes.set_xlabel("bytes of the file", fontsize=9)
    axes.set_ylabel("µs a call, XNNPACK", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return svg.picture(
        figure,
        "What a form of the same layer costs",
        "int8, 24 units; a step file is called once a step. From [Recurrent "
        "layers](../results/recurrent.md#the-forms-of-recurrent-layers).",
        "Unrolled files are the largest by far; the fused LSTM is the smallest and the "
        "slowest; the loop lies between them.",
    )


def pruning() -> svg.Picture:
    """Draw what is left of bytes and time when channels or single weights go."""
    figure, axes = svg.blank_figure(4.8, 3.8)
    axes.plot([0, 1], [0, 1], color=svg.GREY, linewidth=1)
    page = (RESULTS / "pruning.md").read_text("utf-8")
    channels = [
        row.split(" | ") for row in re.findall(r"^\| ((?:spiral|one cut).*) \|$", page, re.M)
    ]
    macs, time = ([numbers(row[column])[0] for row in channels] for column in (2, 5))
    axes.plot(macs, time, "o", color=svg.COLOURS[0], markersize=5, label="channels: time over MACs")
    zeros = [row for row in table("pruning", "int8 file of 14,517 bytes | zeros") if row[1] != "–"]
    dense = numbers(zeros[0][2])[0]
    left = [1 - numbers(row[1])[0] / 100 for row in zeros]
    axes.plot(
        left,
        [1] * len(left),
        "s",
        color=svg.COLOURS[1],
        markersize=5,
        label="zeros: bytes of the file",
    )
    packed = [numbers(row[2])[0] / dense for row in zeros]
    axes.plot(
        left, packed, "^", color=svg.COLOURS[2], markersize=5, label="zeros: bytes after gzip"
    )
    axes.set_xlim(0, 1.05)
    axes.set_ylim(0, 1.1)
    axes.set_xlabel("part of MACs or weights that is left", fontsize=9)
    axes.set_ylabel("part of time or bytes that is left", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return svg.picture(
        figure,
        "What pruning saves",
        "On the line, half of the work would be half of the time. From "
        "[Pruning](../results/pruning.md).",
        "Files with fewer channels take 0.56 to 0.93 of the time for about half of the "
        "multiplications. Files with zeros have the same size as before, and get smaller only"
        " by compression.",
    )


def verified() -> svg.Picture:
    """Draw what a file is compared with."""
    figure, axes = svg.blank_figure(4.8, 3.4)
    axes.axis("off")
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    box = {"boxstyle": "round,pad=0.5", "facecolor": "none", "edgecolor": svg.GREY}
    for x, y, text in (
        (2.2, 9, "Keras model"), (2.2, 6, "quantize-aware\nmodel"), (2.2, 2.6, ".tflite file"),
        (7.6, 9, "labels of\nthe test split"), (7.6, 2.6, "interpreter\nthat will run it"),
    ):  # fmt: skip
        axes.text(x, y, text, ha="center", va="center", fontsize=9, bbox=box)
    for start, end, text, at in (
        ((2.2, 8.3), (2.2, 7.0), "trained with rounding", (2.5, 7.6)),
        ((2.2, 4.9), (2.2, 3.4), "verify: every output,\nsame class in 98 % or more", (2.5, 4.1)),
        ((3.7, 2.6), (5.9, 2.6), "run by", (4.5, 2.9)),
        ((7.6, 3.7), (7.6, 7.9), "score", (7.8, 5.8)),
    ):
        arrow = {"arrowstyle": "->", "color": svg.COLOURS[0], "linewidth": 1.5}
        axes.annotate("", end, start, arrowprops=arrow)
        axes.text(*at, text, fontsize=8, va="center")
    axes.text(
        2.2,
        0.8,
        "audit of the bytes: integers only,\nno Flex, scales that kernels keep",
        ha="center",
        fontsize=8,
    )
    return svg.picture(
        figure,
        "What is checked of a file",
        "Each arrow is a check with a number of its own.",
        "The file's bytes are audited; its outputs are compared with the model that it was "
        "made from; the interpreter that will run it is scored on labels.",
    )


def latency() -> svg.Picture:
    """Draw how far three ways of measuring scatter."""
    rows = table("latency", "| 7.5 µs | scatter | 0.2 ms")
    figure, axes = svg.blank_figure(4.8, 2.8)
    names = [row[0].strip("`") for row in rows]
    for column, shift, colour, label in (
        (4, -0.18, svg.COLOURS[0], "one file of 0.2 ms"),
        (8, 0.18, svg.COLOURS[1], "ratio of two files"),
    ):
        values = [numbers(row[column])[0] for row in rows]
        places = np.arange(len(rows)) + shift
        axes.barh(places, values, 0.32, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            axes.text(value + 0.4, place, f"{value:g} %", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 31)
    axes.set_xlabel("standard deviation over 12 runs, part of the mean", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return svg.picture(
        figure,
        "How much a latency scatters",
        "The same files, the same seconds of timed calls, a machine with other work. From "
        "[Latency](../results/latency.md#how-far-a-latency-can-be-relied-on).",
        "A single latency scatters by 4 to 26 per cent; the ratio of two files that take "
        "turns by 0.1 per cent, where a loop scatters by 9 and litert-benchmark by 14.",
    )


def microcontrollers() -> svg.Picture:
    """Draw nets and boards by the bytes that one needs and the other has."""
    figure, axes = svg.blank_figure(4.8, 4.0)
    nets = [row for row in table("micro", "net | bytes | arena | head") if "same" not in row[0]]
    for name, size, arena in ((row[0], *numbers(row[1]), *numbers(row[2])) for row in nets):
        axes.plot(size / 1024, arena / 1024, "o", color=svg.COLOURS[0], markersize=5)
        axes.annotate(
            name, (size / 1024, arena / 1024), (5, -3), textcoords="offset points", fontsize=8
        )
    for name in ("nucleo-l073rz", "nrf52-dk", "nano-33-ble-sense", "pico", "stm32f746g-disco"):
        board = BOARDS[name]
        flash, ram = board.flash_bytes / 1024, board.ram_bytes / 1024
        axes.plot(flash, ram, "s", color=svg.COLOURS[1], markersize=5)
        at = (-5, -11 if name == "nucleo-l073rz" else 5)
        text = {"textcoords": "offset points", "fontsize": 8, "ha": "right"}
        axes.annotate(name, (flash, ram), at, **text)
    axes.loglog()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlim(8, 3000)
    axes.set_ylim(3, 500)
    axes.set_xlabel("kB of flash: the file of a net, the whole of a board", fontsize=9)
    axes.set_ylabel("kB of RAM: the arena, the whole", fontsize=9)
    return svg.picture(
        figure,
        "What nets need and boards have",
        "A net fits a board that is above it and to its right, as far as the rest of the "
        "program leaves room. Nets from "
        "[Microcontrollers](../results/micro.md#nets-for-microcontrollers), boards from `tfkd"
        " boards`.",
        "MobileNetV1 0.25 is too large for the nucleo-l073rz in flash and in RAM; the fused "
        "LSTM fits all boards.",
    )  # fmt: skip


PICTURES = {
    one.__name__: one
    for one in (distillation, quantization, recurrent, pruning, verified, latency, microcontrollers)
}


def figure(name: str) -> str:
    """Return a picture for a page in Markdown, its caption below."""
    drawn = PICTURES[name]()
    caption = f"{drawn.title}. {drawn.caption}\n{{: .caption }}"
    return f'<figure class="picture">{drawn.svg}</figure>\n\n{caption}'
