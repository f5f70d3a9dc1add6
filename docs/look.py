"""Look at pages of the site in headless Chromium, narrow and wide, light and dark.

    mkdocs build --site-dir SITE
    python docs/look.py SITE [--shots FOLDER]

It prints what axe-core finds and where a page is wider than the screen, and ends in 1 for what is
serious. It needs the extra `browser`, and chromium on the path.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import itertools
import pathlib
import shutil
import sys
import threading

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

PAGES = (
    *("", "start/", "questions/", "guides/student/", "guides/android/", "concepts/distillation/"),
    *("results/quantization/", "results/limits/", "command-line/", "errors/", "coming-from/tfmot/"),
    *("api/distillation/", "results/history/", "results/compress/", "results/examples/"),
    *("glossary/", "guides/names/", "guides/several-outputs/", "compressing/", "on-the-device/"),
)
SERIOUS = ("serious", "critical")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, *args):
        """Log no request."""


def looked_at(page, address: str) -> list[str]:
    """Return what is wrong with a page, a line each."""
    page.goto(address)
    page.wait_for_load_state("load")
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    found = [f"{wider} pixels wider than the screen"] if wider > 0 else []
    for one in Axe().run(page).response["violations"]:
        if one["impact"] in SERIOUS:
            found.append(f"{one['id']} in {len(one['nodes'])}, such as {one['nodes'][0]['html']}")
    return found


def main() -> int:
    """Look at all pages; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=pathlib.Path)
    parser.add_argument("--shots", type=pathlib.Path, help="where to put pictures of the pages")
    options = parser.parse_args()
    handler = functools.partial(Quiet, directory=options.site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    problems = 0
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"))
        for scheme, width in itertools.product(("light", "dark"), (400, 1280)):
            page = browser.new_page(
                color_scheme=scheme, viewport={"width": width, "height": 900},
                reduced_motion="reduce",
            )  # fmt: skip
            for name in PAGES:
                found = looked_at(page, f"http://127.0.0.1:{server.server_port}/{name}")
                problems += len(found)
                for line in found:
                    print(f"{name or 'home'}, {scheme}, {width}: {line}")
                if options.shots:
                    title = name.strip("/").replace("/", "-") or "home"
                    page.screenshot(path=options.shots / f"{title}-{scheme}-{width}.png")
        browser.close()
    print(f"{len(PAGES)} pages in two widths and two schemes: {problems} problems")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
