"""What MkDocs asks of this repository while it builds the site: see `hooks` in mkdocs.yml.

README.md, CONTRIBUTING.md and CHANGELOG.md are pages of the site too.
"""

import pathlib
import re

import generated
import snippets
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
TOP_LEVEL = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


_CODE = re.compile(r"(<pre.*?</pre>|<code>.*?</code>)", re.DOTALL)
_FIGURE = re.compile(r"(?<=\d) (?=[%±])|(?<=±) (?=\d)")  # the spaces in "1.2 ± 0.3 %"
_OPTION = re.compile(r"--[a-z][a-z0-9-]*")
_LONG_NAME = re.compile(r"\w{32,}")


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
    """Add the pages that are files of the top level, and the notebooks as they are."""
    for name, page in TOP_LEVEL.items():
        files.append(File.generated(config, page, content=_top_level_page(name)))
    for path in sorted(ROOT.glob("examples/*.ipynb")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Expand the markers of a page, and say which names its snippets take as given."""
    return generated.expand(snippets.with_names(markdown, page.file.src_uri))


def on_page_content(html, page, config, files):
    """Keep figures and options on one line, and break long names at their underscores."""
    parts = _CODE.split(html)  # text, code, text, code, ...
    parts[0::2] = [_FIGURE.sub("&nbsp;", text) for text in parts[0::2]]
    parts[1::2] = [_inline_code(code) for code in parts[1::2]]
    return "".join(parts)


def _inline_code(code: str) -> str:
    if code.startswith("<pre"):
        return code
    code = _LONG_NAME.sub(lambda name: re.sub(r"\B_", "_<wbr>", name[0]), code)
    return _OPTION.sub(r'<span class="option">\g<0></span>', code)


def on_post_page(output, page, config):
    """Give the theme's search a name, which screen readers read."""
    return output.replace('class="md-search"', 'class="md-search" aria-label="Search"', 1)
