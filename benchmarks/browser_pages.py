"""Pages for the browser of nets of each kind, run in headless Chromium with the real LiteRT.js.

    python benchmarks/browser_pages.py OUT --modules FOLDER

FOLDER is the `node_modules` of an `npm install` of `tests/data/npm/package.json`.
Prints the bytes of each file without and with real numbers at its ends, and how far the golden
example's answer is from Python's.
"""

import argparse
import functools
import http.server
import pathlib
import shutil
import sys
import threading

import keras
import numpy as np
from playwright.sync_api import sync_playwright

from tfkd import quantize_aware
from tfkd.export import to_tflite, web_bundle

sys.path.append(str(pathlib.Path(__file__).parent.parent / "tests/data"))
import zoo


def nets():
    """Yield a name, a file and data for it."""
    cases = (
        ("CNN, int8", "cnn", "int8", {}),
        ("CNN, float32", "cnn", "float32", {}),
        ("CNN, float16", "cnn", "float16", {}),
        ("CNN, dynamic", "cnn", "dynamic", {}),
        ("DS-CNN, int8", "ds_cnn", "int8", {}),
        ("words and LSTM, int8", "text", "int8", {}),
        ("LSTM, int8, WHILE loop", "lstm", "int8", {"recurrent": "loop"}),
        ("LSTM, int8, unrolled", "lstm", "int8", {"recurrent": "unrolled"}),
        ("LSTM, int16x8, unrolled", "lstm", "int16x8", {"recurrent": "unrolled"}),
        ("GRU, int8, one step", "gru", "int8", {"recurrent": "step"}),
    )
    for name, kind, form, options in cases:
        model = zoo.build(keras, kind)
        x = zoo.inputs_for(model, 128)
        samples = x if form.startswith("int") else None
        yield name, to_tflite(model, form, samples, **options), x
    model = zoo.build(keras, "ds_cnn")
    x = zoo.inputs_for(model, 128)
    student = quantize_aware(model, bits=4)
    student.compile("sgd", "mse")
    student.fit(x, np.zeros((len(x), 3), "float32"), verbose=0)
    yield "DS-CNN, 4 bits", to_tflite(student, "int8"), x


def main():
    """Make the pages, serve them, and open each."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("out", type=pathlib.Path)
    arguments.add_argument("--modules", type=pathlib.Path, required=True)
    options = arguments.parse_args()
    pages = {}
    for number, (name, file, x) in enumerate(nets()):
        folder = options.out / f"net{number}"
        bundle = web_bundle(file, folder, "net", x=x, force=True)
        if not (folder / "node_modules").exists():
            (folder / "node_modules").symlink_to(options.modules.absolute())
        pages[f"net{number}"] = name, file.size, bundle.files["net.tflite"]
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=options.out)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("| net | bytes | with real ends | golden example |")
    print("|---|---|---|---|")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"))
        for folder, (name, size, with_ends) in pages.items():
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/{folder}/")
            page.wait_for_function("document.getElementById('golden').textContent")
            told = page.evaluate("network.golden()")
            apart = f"{told['steps']} steps" if told["steps"] is not None else f"{told['real']:.1g}"
            print(f"| {name} | {size:,} | {with_ends:,} | {apart} |")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
