"""Figures in one style, and as inline SVG whose colours are the page's: light, dark or printed."""

from __future__ import annotations

import dataclasses
import html
import io
import re
import warnings

from tfkd.escaping import printable
from tfkd.hashing import digest

#: Distinguishable for the colour-blind and in print; the markers repeat in another rhythm.
COLOURS = ("#0b6e99", "#c2571a", "#3c7a3b", "#7b3f98", "#8c6d1f", "#9c2a4a")
GREY, INK, GRID, PAPER = "#6b757e", "#1d2329", "#e4e4e4", "#ffffff"

# A page defines these variables once per scheme; the colours above are the light ones.
_VARIABLES = {
    **{colour: f"var(--c{number})" for number, colour in enumerate(COLOURS, 1)},
    **{GREY: "var(--soft)", GRID: "var(--grid)", PAPER: "var(--paper)"},
    **{INK: "var(--ink)", "#000000": "var(--ink)"},
}
_COLOUR = re.compile("|".join(_VARIABLES))
_FONT = re.compile(r"(font: [^;\"]*?px|font-family:) [^;\"]*")
_ID, _USE = re.compile(r"( id=\")([^\"]*)(\")"), re.compile(r"((?:url\(|href=\")#)([^)\"]*)")
_ELEMENT = '<svg role="img" aria-label="{}" {}>{}</svg>'


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image and its description.

    Attributes:
        title: A few words.
        caption: How to read it, in plain sentences.
        alternative: Its content in words, for readers who can't see it.
        svg: An `<svg>` element for the inside of a page. Its colours are the page's variables
            `--ink`, `--soft`, `--grid`, `--paper` and `--c1` to `--c6`.
        is_wide: Whether it takes the page's whole width.
    """

    title: str
    caption: str
    alternative: str
    svg: str
    is_wide: bool = False


def blank_figure(width: float, height: float, panels: int = 1):
    """Return a figure of a size in inches, and its empty panels, in the style of all pictures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    found = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9)
    return figure, *found


def picture(figure, title: str, caption: str, alternative: str) -> Picture:
    """Return a figure as a picture, with ids that no other picture on the page has."""
    import matplotlib

    title = title[0].upper() + title[1:]
    buffer = io.StringIO()
    # Text stays text, with the page's font and colour, so that a search finds it.
    style = {"svg.hashsalt": "tfkd", "svg.fonttype": "none"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A name in letters that only the reader's font has.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    label = html.escape(printable(f"{title}. {alternative}"))
    svg = _inline(buffer.getvalue(), label)
    return Picture(title, caption, alternative, svg, figure.get_size_inches()[0] > 6)


def _inline(source: str, label: str) -> str:
    """Return the drawing of an SVG file as an element of a page."""
    opening = re.search(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", source)
    body = source[opening.end() : source.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    own = "p" + digest((label + body).encode(), 4).hex()
    tags = re.findall(r"<[^<>]*>", body)  # the text between them is the user's
    used = {name for tag in tags for _, name in _USE.findall(tag)}
    body = re.sub(r"<[^<>]*>", lambda tag: _own(tag[0], own, used), body)
    return _ELEMENT.format(label, opening[1], body)


def _own(tag: str, own: str, used: set[str]) -> str:
    """Return a tag with the page's colours and font, and with ids unique to this picture."""
    tag = _COLOUR.sub(lambda found: _VARIABLES[found[0]], tag)
    tag = _USE.sub(rf"\g<1>{own}-\g<2>", _FONT.sub(r"\1 var(--plot-font)", tag))
    return _ID.sub(lambda m: f"{m[1]}{own}-{m[2]}{m[3]}" if m[2] in used else "", tag)
