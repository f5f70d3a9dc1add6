"""The pages in a real browser: narrow, wide, light, dark, printed, by keyboard, and by axe."""

import pathlib
import shutil

import numpy as np
import pytest
from report_pages import TEACHING

from tfkd.export import ModelEntry, Report, write_report
from tfkd.export.latency.results import Benchmark, Latency, Ratio
from tfkd.export.report.benchmark_page import write_benchmark_page
from tfkd.export.report.predictions import judge

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="the extra [browser] is not installed"
)
playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium on the path"),
    pytest.mark.slow,
]

SIZES = [(scheme, width) for scheme in ("light", "dark") for width in (400, 1280)]
NAMES = ("<b>&", "with_a_long_name_of_several_words", "模型", "x" * 90)


def measured():
    quantiles = tuple(np.linspace(90, 110, 101))
    results = [
        Latency(
            *(name, "xnnpack", 1, 1, 500, 100.0, 100.0, 1.0, 90.0, 110.0),
            ci95=(99.0, 101.0), p5=91.0, p95=109.0, quantiles=quantiles, model_bytes=9_000,
        )
        for name in NAMES
    ]  # fmt: skip
    ratio = Ratio(NAMES[1], "xnnpack", 1, 1, NAMES[0], NAMES[0], 0.4975, (0.48, 0.51))
    return Benchmark(tuple(results), (ratio,), machine={"cpu": "x"}, warnings=("It was busy.",))


@pytest.fixture(scope="module")
def pages(made, tmp_path_factory):
    """Classes, values and a benchmark alone: name → address."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    y = rng.normal(size=(80, 1))
    values = [y + rng.normal(0, scale, y.shape) for scale in (0.2, 0.1)]
    entries = [
        ModelEntry(name, "export", "float32", bytes=9_000, metrics={"rmse": 0.2}) for name in NAMES
    ]
    curves = {NAMES[1]: {"val_mae": [0.9, 0.5]}, NAMES[2]: {"val_mae": [0.4]}}
    regression = Report(
        "regression",
        {"name": "<values>", "test": 80, "class_names": ["x" * 200, "y_" * 100]},
        tuple(entries),
        curves,
        benchmark=measured(),
        teaching=TEACHING,
        predictions=judge(NAMES[1], values[0], NAMES[0], values[1], y, task="regression"),
    )
    paths = {}
    for name, report in (("classes", made), ("values", regression)):
        (folder / name).mkdir()
        paths[name] = write_report(report, folder / name)[1]
    scores = dict.fromkeys(NAMES, 0.9)
    paths["benchmark"] = write_benchmark_page(measured(), folder / "b.html", scores, 80)
    return {name: pathlib.Path(path).as_uri() for name, path in paths.items()}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, pages):
    """Open a page by its name, of a scheme and a width; what it fetches or complains of fails."""
    contexts, asked = [], []

    def open_page(name, scheme="light", width=1280):
        contexts.append(
            browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        )
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: pytest.fail(message.text))
        page.goto(pages[name])
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert {url for url in asked if not url.startswith("data:image/png")} <= set(pages.values())


@pytest.mark.parametrize(("scheme", "width"), SIZES)
@pytest.mark.parametrize("name", ["classes", "values", "benchmark"])
def test_axe_finds_nothing(opened, name, scheme, width):
    page = opened(name, scheme, width)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    found = axe.Axe().run(page)
    assert found.response["passes"], "axe ran nothing"
    assert not found.violations_count, found.generate_report()
    # It can't see what is behind a text that is scrolled away or in a picture.
    assert {one["id"] for one in found.response["incomplete"]} <= {"color-contrast"}


@pytest.mark.parametrize("width", [320, 400, 1280])
@pytest.mark.parametrize("name", ["classes", "values", "benchmark"])
def test_nothing_sticks_out_and_no_name_is_broken_inside(opened, name, width):
    page = opened(name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Each piece between two places to break is in one line.
    broken = page.evaluate("""() => {
        const found = [];
        for (const cell of document.querySelectorAll("th, td, dt, .answer li")) {
            for (const node of cell.childNodes) {
                if (node.nodeType !== 3) continue;
                for (const word of node.data.matchAll(/\\S+/g)) {
                    const range = document.createRange();
                    range.setStart(node, word.index);
                    range.setEnd(node, word.index + word[0].length);
                    const lines = new Set([...range.getClientRects()].map(one => one.top));
                    if (lines.size > 1 && !word[0].match(/[-–/]/)) found.push(word[0]);
                }
            }
        }
        return found;
    }""")
    assert broken == []


@pytest.mark.parametrize("name", ["classes", "values", "benchmark"])
def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened, name):
    page = opened(name, width=400)
    wanted = page.evaluate("""() => {
        const all = document.querySelectorAll("a[href], summary, [tabindex='0']");
        const shown = [...all].filter(
            one => !one.matches("details:not([open]) :not(summary)")
        );
        shown.forEach((one, i) => { one.dataset.stop = i });
        return shown.length;
    }""")
    stops = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        stop, outline = page.evaluate(
            "[document.activeElement].map(one => [one.dataset.stop, "
            "getComputedStyle(one).outlineStyle])[0]"
        )
        stops.append(stop)
        assert outline == "solid"
    assert stops == [str(i) for i in range(wanted)]
    if name == "classes":
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.querySelector('details').open")


def luminance(colour):
    red, green, blue = (int(part) / 255 for part in colour[4:-1].split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_scheme_is_the_readers_and_paper_is_white(opened):
    shown = {}
    for scheme in ("light", "dark"):
        page = opened("classes", scheme)
        colours = """() => [getComputedStyle(document.body).backgroundColor,
            getComputedStyle(document.body).color,
            getComputedStyle(document.querySelector("svg text")).fill]"""
        shown[scheme] = [luminance(one) for one in page.evaluate(colours)]
        page.emulate_media(media="print")
        paper, *_ = page.evaluate(colours)
        assert luminance(paper) == 1.0
    assert shown["light"][0] == 1.0 and max(shown["light"][1:]) < 0.2
    assert shown["dark"][0] < 0.2 and min(shown["dark"][1:]) > 0.8


def test_what_a_screen_reader_gets(opened):
    """The first line as a list, pictures with their words, tables with captions and headers."""
    page = opened("classes")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    main = page.get_by_role("main")
    assert main.get_by_role("listitem").first.inner_text().startswith("1/")
    assert page.get_by_role("heading", level=1).count() == 1
    pictures = page.locator("svg[role=img]").all()
    assert len(pictures) >= 6
    for picture in pictures:
        title, _, words = picture.get_attribute("aria-label").partition(". ")
        assert title and len(words) > 20
    tables = page.get_by_role("table").all()
    assert len(tables) == page.locator("table").count() >= 7
    for table in tables:
        assert table.locator("caption").inner_text()
        assert table.get_by_role("columnheader").count() > 1
        assert table.get_by_role("rowheader").count() >= 1
    assert page.get_by_role("navigation").get_by_role("link").count() >= 8
    for link in page.get_by_role("navigation").get_by_role("link").all():
        assert page.locator(link.get_attribute("href")).count() == 1
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
