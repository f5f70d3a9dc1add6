"""What the Python of a page takes as given: names that it uses and nothing on it defines.

The hook puts them into the page's first line, with a link to the page that explains them.
"""

from __future__ import annotations

import ast
import builtins
import pathlib
import posixpath
import re
import symtable

#: The page that has a table of the names, from the folder of the documentation.
PAGE = "guides/names.md"
BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"\A# .*\n")


def explained() -> list[str]:
    """Return the names in the first column of the page's table, in its order."""
    text = (pathlib.Path(__file__).parent / PAGE).read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def taken_as_given(markdown: str) -> list[str]:
    """Return the names that the blocks of a page use before they define them.

    Blocks that are not run are left out.
    """
    known, given = set(dir(builtins)), []
    for not_run, code in BLOCK.findall(markdown):
        for statement in [] if not_run else ast.parse(code).body:
            used, made = _names(statement)
            given += [name for name in used if name not in known and name not in given]
            known |= made
    return given


def _names(statement: ast.stmt) -> tuple[list[str], set[str]]:
    """Return the names that a statement reads from outside, and those that it makes."""
    table = symtable.symtable(ast.unparse(statement), "snippet", "exec")
    made = {one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported()}
    value = getattr(statement, "value", None)
    if made and isinstance(value, ast.expr):  # `x = f(x)` reads x, a loop over x does not
        table = symtable.symtable(ast.unparse(value), "snippet", "exec")
        return _read(table, set()), made
    return _read(table, made), made


def _read(table: symtable.SymbolTable, made: set[str]) -> list[str]:
    tables, read = [table], set()
    while tables:
        one = tables.pop()
        tables += one.get_children()
        read |= {
            symbol.get_name()
            for symbol in one.get_symbols()
            if symbol.is_referenced() and (symbol.is_global() or one is table)
        }
    return sorted(read - made)


def with_names(markdown: str, path: str) -> str:
    """Return a page with a line on the names that its snippets take as given, if there are any.

    Args:
        markdown: The page, its title first.
        path: Of the page, from the folder of the documentation.
    """
    taken = [] if path == PAGE else taken_as_given(markdown)
    given = [name for name in explained() if name in taken]
    if not given or not _TITLE.match(markdown):
        return markdown
    link = posixpath.relpath(PAGE, posixpath.dirname(path) or ".")
    names = ", ".join(f"`{name}`" for name in given)
    line = (
        f"*The snippets take as given: {names}. [What these are, and how to load yours]({link}).*"
    )
    return _TITLE.sub(lambda title: f"{title[0]}\n{line}\n", markdown, count=1)
