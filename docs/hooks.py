"""What MkDocs asks of this repository while it builds the site: see `hooks` in mkdocs.yml.

README.md, CONTRIBUTING.md and CHANGELOG.md are pages of the site too.
"""

import pathlib
import re

import generated
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
TOP_LEVEL = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


#: Inline code, and in it an option of the command line.
_INLINE_CODE = re.compile(r"<code>[^<]*</code>")
_OPTION = re.compile(r"--[a-z][a-z0-9-]*")


def _top_level_page(name: str) -> str:
    """Return a file of the top level with its links as they are from inside `docs/`."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for other, page in TOP_LEVEL.items():
        text = text.replace(f"]({other}", f"]({page}")
    return text


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config):
    """Tell mkdocstrings where the package is."""
    generated.installed.cache_clear()  # `mkdocs serve` comes here after every edit
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [generated.installed()]
    return config


def on_files(files, config):
    """Add the pages that are files of the top level."""
    for name, page in TOP_LEVEL.items():
        files.append(File.generated(config, page, content=_top_level_page(name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Expand the markers of a page."""
    return generated.expand(markdown)


def on_page_content(html, page, config, files):
    """Mark command-line options in text: browsers break a line after the two hyphens."""

    def mark(code):
        return _OPTION.sub(r'<span class="option">\g<0></span>', code[0])

    return _INLINE_CODE.sub(mark, html)
