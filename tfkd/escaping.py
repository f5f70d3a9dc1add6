"""How names from files are shown: tensors, layers, classes, signatures, operators.

A name may hold anything: codes that clear the terminal, line ends that forge a line of their
own, marks that turn the direction of writing, the syntax of Markdown. Whatever prints one, prints
it through these functions; HTML is escaped by its own, on top.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

_MARKDOWN = re.compile(r"([\\`*<>|\[\]#~])")


def printable(text: str) -> str:
    r"""Return a text in one line, what can't be printed as in a Python literal.

    Example:
        >>> printable("dense\x1b[2J\n1")
        'dense\\x1b[2J\\n1'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or _is_space(c) else repr(c)[1:-1] for c in text)


def _is_space(c: str) -> bool:
    return unicodedata.category(c) == "Zs"  # spaces within a line, such as the no-break space


def in_lines(texts: Iterable[str]) -> str:
    """Return texts as lines, each of which stays one."""
    return "\n".join(map(printable, texts))


def in_markdown(text: str) -> str:
    r"""Return a text as Markdown shows it, in a table too.

    Example:
        >>> in_markdown("a|b <script>")
        'a\\|b \\<script\\>'
    """
    return _MARKDOWN.sub(r"\\\1", printable(text))


def as_code(text: str) -> str:
    """Return Markdown that shows a text as code, in a table too.

    Example:
        >>> as_code("dense/kernel")
        '`dense/kernel`'
    """
    text = printable(text)
    if text.strip() == text and text and not set("`|") & set(text):
        return f"`{text}`"
    coded = re.sub(r"[^\w ]|_", lambda match: f"&#{ord(match[0])};", text)
    return f"<code>{coded}</code>"


def identifiers(names: list[str]) -> list[str]:
    """Make names that are distinct and safe in every language that will read them."""
    taken: list[str] = []
    for name in names:
        safe = re.sub(r"\W", "_", name.split("/")[-1]) or "tensor"
        safe = f"t_{safe}" if safe[0].isdigit() or keyword.iskeyword(safe) else safe
        candidate, number = safe, 1
        while candidate in taken:
            number += 1
            candidate = f"{safe}_{number}"
        taken.append(candidate)
    return taken
