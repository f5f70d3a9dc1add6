"""The page gives the golden example's answer, in headless Chromium with the real LiteRT.js.

`TFKD_NODE_MODULES` names a folder with what `tests/data/npm/package.json` asks for.
"""

import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading

import keras
import numpy as np
import pytest
import zoo

from tfkd.errors import ConversionError, InputError, UnsupportedError
from tfkd.export import TFLiteModel, to_tflite, web_bundle
from tfkd.export.web import bundle as web

MODULES = pathlib.Path(os.environ.get("TFKD_NODE_MODULES", "none"))
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
NETS = ("digits", "float32", "loop", "step", "text")
in_a_browser = pytest.mark.skipif(
    BROWSER is None or not (MODULES / "@litertjs").is_dir(),
    reason="there is no chromium, or TFKD_NODE_MODULES names no folder with @litertjs/core",
)
RAW = {"mean": [8.0], "std": [4.0]}
NAMES = [*"012345678", "<b>nine & |"]


@pytest.fixture(scope="module")
def nets(files, digits, loop, gru_step):
    """Name → file and options: images, a loop, one step of a sequence, word numbers."""

    words = keras.Input((6,), dtype="int32", name="words")
    numbers = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(words))
    text = keras.Model(words, keras.layers.Dense(3)(numbers))
    series = np.random.default_rng(0).normal(size=(5, 6, 8)).astype("float32")
    return {
        "digits": (files["int8"], {"x": digits, "class_names": NAMES, "preprocessing": RAW}),
        "float32": (files["float32"], {}),
        "loop": (loop, {"x": series}),
        "step": (gru_step, {"x": series}),
        "text": (to_tflite(text, "float32"), {"x": np.arange(6)[None]}),
    }


@pytest.fixture(scope="module")
def folders(nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    made = {
        name: web_bundle(file, folder / name, name, **more) for name, (file, more) in nets.items()
    }
    assert {name: bundle.name for name, bundle in made.items()} == {name: name for name in NETS}
    return made


@pytest.fixture(scope="module")
def address(folders):
    """Serve the pages, with LiteRT.js where `npm install` puts it."""
    root = next(iter(folders.values())).folder.parent
    for bundle in folders.values():
        (bundle.folder / "node_modules").symlink_to(MODULES.absolute())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=root)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra [browser] is missing")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, address):
    """Open a page and wait until it has answered; what it asks of another address fails."""
    contexts, asked = [], []

    def open_page(name, scheme="light", width=1280):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto(f"{address}/{name}/")
        page.locator("#answers table").first.wait_for()
        page.wait_for_function("document.getElementById('latency').textContent")
        return page

    yield open_page
    for context in contexts:
        context.close()
    strange = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert asked and not strange


def about(bundle) -> dict:
    return json.loads((bundle.folder / "model.json").read_text())


# Calls the page's functions with its golden example, on an answer that is exactly Python's.
NODE = r"""
const fs = require("fs"), folder = process.argv[1];
const createElement = (name) => ({
  name, children: [], setAttribute() {}, append(...more) { this.children.push(...more); },
});
const source = fs.readFileSync(folder + "/page.js", "utf8").replace(/\nstart\(\);\s*$/, "\n");
const page = new Function("document", source + "\nreturn { Network, table };")({ createElement });
const about = JSON.parse(fs.readFileSync(folder + "/model.json", "utf8"));
const network = Object.create(page.Network.prototype);
Object.assign(network, { about, call: async () => about.golden.outputs });
const [output] = about.outputs;
const rows = page.table(output, about.golden.outputs[output.name]).children[2].children;
network.golden().then(({ same }) => console.log(JSON.stringify({
  same, rows: rows.map(({ children: [head, value] }) => [head.children[0], value.children[0]]),
})));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
@pytest.mark.parametrize("shape", [(5, 3), (224, 224, 4)])
def test_steps_and_pixels_have_a_class_each(tmp_path, shape):
    """Also where there are more values than a call in JavaScript takes arguments."""
    names = [*"abcd"[: shape[-1]]]
    inputs = keras.Input((*shape[:-1], 2))
    model = keras.Model(inputs, keras.layers.Dense(shape[-1], "softmax", name="label")(inputs))
    bundle = web_bundle(to_tflite(model), tmp_path / "page", "places", names)
    done = subprocess.run(
        ["node", "-e", NODE, str(bundle.folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    want = np.reshape(about(bundle)["golden"]["outputs"]["label"], (-1, shape[-1]))[:10]
    assert told["same"]
    assert [head for head, _ in told["rows"]] == [
        f"{i}: {names[best]}" for i, best in enumerate(want.argmax(-1))
    ]
    values = [float(value) for _, value in told["rows"]]
    np.testing.assert_allclose(values, want.max(-1), rtol=1e-3)


@in_a_browser
@pytest.mark.parametrize("name", NETS)
def test_the_golden_example_is_equal_in_the_browser(opened, folders, nets, name):
    page = opened(name)
    said = page.inner_text("#golden")
    assert "the same answer here as in Python" in said, said
    told = page.evaluate("network.golden()")
    assert told["same"]
    if name in ("float32", "text"):
        assert told["real"] < 1e-5 and told["steps"] is None
    else:
        assert told["steps"] == 0
    assert "ms a call" in page.inner_text("#latency")
    # It would say otherwise: an answer that is two steps away.
    output = about(folders[name])["outputs"][0]["name"]
    page.evaluate(f"network.about.golden.outputs[{json.dumps(output)}][0] += 2")
    assert not page.evaluate("network.golden()")["same"]


@in_a_browser
def test_raw_numbers_give_what_python_gives_for_them(opened, files, digits):
    page = opened("digits")
    x = digits.test.x[:4]
    want = files["int8"].predict(x, engine="xnnpack")
    for raw, answer in zip((x * 4 + 8).reshape(4, -1).tolist(), want, strict=True):
        page.fill("textarea", ", ".join(map(str, raw)))
        page.evaluate("document.getElementById('answers').replaceChildren()")
        page.get_by_role("button", name="Run").click()
        page.locator("#answers table").wait_for()
        rows = page.locator("#answers tbody tr").all()
        shown = {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}
        assert {key.strip(): float(value) for key, value in shown.items()} == pytest.approx(
            dict(zip(NAMES, answer.tolist(), strict=True)), rel=1e-3
        )
        assert rows[0].locator("th").inner_text().strip() == NAMES[answer.argmax()]


@in_a_browser
def test_a_sequence_of_steps_ends_where_pythons_does(opened, nets):
    file, options = nets["step"]
    page, x = opened("step"), options["x"][:1]
    page.get_by_role("button", name="Start a new").click()
    (field,) = page.locator("textarea").all()
    for step in x[0]:
        field.fill(" ".join(map(str, step.tolist())))
        page.evaluate("document.getElementById('answers').replaceChildren()")
        page.get_by_role("button", name="Run").click()
        page.locator("#answers table").wait_for()
    values = [float(text) for text in page.locator("#answers td").all_inner_texts()]
    np.testing.assert_allclose(values, file.predict(x)[0].reshape(-1), rtol=1e-3)


@in_a_browser
def test_an_image_and_a_drawing(opened, tmp_path):
    from matplotlib import image

    white = np.zeros((40, 60, 3))
    white[:, 30:] = 1.0
    image.imsave(tmp_path / "half.png", white)
    page = opened("digits")
    page.set_input_files("input[type=file]", tmp_path / "half.png")
    page.wait_for_function("document.querySelector('textarea').value.split(' ')[7] === '12'")
    rows = np.float32(page.input_value("textarea").split()).reshape(8, 8)
    assert (rows[:, :3] == 8).all() and (rows[:, 5:] == 12).all()
    page.get_by_role("button", name="Clear").click()
    assert set(page.input_value("textarea").split()) == {"8"}
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 10)
    page.mouse.up()
    drawn = np.float32(page.input_value("textarea").split()).reshape(8, 8)
    assert drawn[:, 3:5].min() > 8.5 and (drawn[:, [0, 7]] == 8).all()


@in_a_browser
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("digits", "1 2 three", "pixels: three is no number."),
        ("digits", "1 2", "pixels takes 64 numbers, got 2."),
        ("text", "1 2 3 4 5.5 6", "takes int32, got 5.5."),
    ],
)
def test_bad_numbers_are_one_line(opened, name, text, message):
    page = opened(name)
    page.fill("textarea", text)
    page.get_by_role("button", name="Run").click()
    page.wait_for_function("document.getElementById('status').className === 'bad'")
    assert page.inner_text("#status").endswith(message)
    page.fill("textarea", "")


@in_a_browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_axe_finds_nothing_and_nothing_sticks_out(opened, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened("digits", scheme, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = axe.Axe().run(page)
    assert found.response["passes"] and not found.violations_count, found.generate_report()


@in_a_browser
def test_the_keyboard_reaches_everything(opened):
    page = opened("digits", width=400)
    stops = []
    for _ in range(6):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.tagName + document.activeElement.type"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert stops == [
        *("INPUTfile", "INPUTnumber", "INPUTnumber", "BUTTONbutton"),
        *("TEXTAREAtextarea", "BUTTONsubmit"),
    ]


@in_a_browser
def test_what_is_missing_is_one_line(browser, folders, address):
    page = browser.new_page()
    page.goto((folders["digits"].folder / "index.html").as_uri())
    page.wait_for_function("document.getElementById('status').className === 'bad'")
    assert "python -m http.server" in page.inner_text("#status")
    page.route("**/node_modules/**", lambda route: route.abort())
    page.goto(f"{address}/digits/")
    page.wait_for_function("document.getElementById('status').className === 'bad'")
    assert "npm install" in page.inner_text("#status")
    page.close()


def test_what_the_folder_holds(folders, files, digits):
    bundle = folders["digits"]
    names = {"index.html", "page.js", "model.json", "package.json", "README.md", "digits.tflite"}
    assert set(bundle.files) == names == set(bundle.to_json()["files"])
    for name, size in bundle.files.items():
        assert (bundle.folder / name).stat().st_size == size
    told, image = about(bundle), files["int8"].inputs[0]
    (pixels,), (logits,) = told["inputs"], told["outputs"]
    assert (pixels["scale"], pixels["zero_point"]) == (image.scale, image.zero_point)
    assert (pixels["mean"], pixels["std"], pixels["image"]) == ([8.0], [4.0], True)
    assert pixels["range"] == [8.0, 12.0] and logits["labels"] == NAMES
    golden = told["golden"]["inputs"]["pixels"]
    assert golden == image.quantize(digits.test.x[0]).reshape(-1).tolist()
    assert json.loads((bundle.folder / "package.json").read_text())["dependencies"] == {
        "@litertjs/core": web.LITERTJS
    }
    npm = pathlib.Path(__file__).parents[2] / "data/npm/package.json"
    assert json.loads(npm.read_text())["dependencies"]["@litertjs/core"] == web.LITERTJS
    readme = (bundle.folder / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in names - {"README.md"})
    assert "## Not tried" in readme and "npm install" in bundle.describe()
    assert not TFLiteModel.load(bundle.folder / "digits.tflite").integer_only
    assert about(folders["float32"])["inputs"][0]["range"] == [0.0, 1.0]
    assert not about(folders["text"])["inputs"][0]["image"]


def test_what_a_browser_can_not_run_is_told(files, digits, tmp_path, monkeypatch):
    out = tmp_path / "out"
    fused = to_tflite(zoo.build(keras, "lstm"), "float32")
    with pytest.raises(UnsupportedError, match="convert with recurrent='loop', recurrent='unroll"):
        web_bundle(fused, out, "net")
    with pytest.raises(InputError, match="try 'my_model'"):
        web_bundle(files["int8"], out, "my-model")
    with pytest.raises(InputError, match="gives 10 values, got 2"):
        web_bundle(files["int8"], out, "net", ["a", "b"])
    odd = TFLiteModel(files["int8"].data)
    monkeypatch.setitem(odd.__dict__, "custom_ops", ("Mine",))
    with pytest.raises(UnsupportedError, match="needs Mine, which LiteRT.js does not have"):
        web_bundle(odd, out, "net")
    with monkeypatch.context() as patch:
        patch.setattr(web, "with_float_ends", lambda _: files["float32"])
        with pytest.raises(ConversionError, match="not give the same answer as the file without"):
            web_bundle(files["int8"], out, "net", x=digits)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        web_bundle(files["int8"], tmp_path, "net")
    assert not out.exists() and (tmp_path / "mine.txt").exists()
