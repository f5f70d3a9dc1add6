"""Names from files stay in their line and cell, whatever they contain."""

import re

import pytest

from tfkd import escaping, tables
from tfkd.errors import ConversionError, InputError, WorkerError, raise_all

NASTY = "\x1b[2J\r\n\u202e\u2066\x9b\x00\ud800|`*/<script>[red]$x$\\"


def is_tame(text: str) -> bool:
    """Tell whether a terminal shows a text as it is, in one line."""
    return all(c.isprintable() for c in text)


def test_what_can_be_printed_stays_and_the_rest_is_written_out():
    assert escaping.printable("conv2d/größe–日本 ×") == "conv2d/größe–日本 ×"
    assert escaping.printable("1\xa0thread\u3000x") == "1\xa0thread\u3000x"
    assert escaping.printable("a\x1b[2J\n\u202e\ud800") == r"a\x1b[2J\n\u202e\ud800"
    assert escaping.printable(escaping.printable(NASTY)) == escaping.printable(NASTY)
    assert is_tame(escaping.printable(NASTY))


def test_lines_stay_lines():
    assert escaping.in_lines(["a\nb", "c\u2028d"]).split("\n") == [r"a\nb", r"c\u2028d"]


@pytest.mark.parametrize("name", ["a|b", "`", "x\n| y |", "a``b", " a", "", NASTY])
def test_no_name_leaves_its_cell_or_its_code(name):
    for text in (escaping.as_code(name), escaping.in_markdown(name)):
        assert is_tame(text)
        assert not re.search(r"(?<!\\)(\\\\)*\|", text)
        assert "<script" not in text.replace(r"\<script", "")
        assert "*/" not in text.replace(r"\*", "")
    code = escaping.as_code(name)
    assert code.startswith("<code>") and "`" not in code


def test_plain_names_are_plain_code():
    assert escaping.as_code("serving_default:0") == "`serving_default:0`"
    assert escaping.as_code("<b>*x*") == "`<b>*x*`"  # code shows it as it is


def test_an_aligned_table_has_one_line_a_row():
    lines = tables.aligned([("layer", "n"), (NASTY, "1"), ("b", "22")])
    assert len(lines) == 3 and all(map(is_tame, lines))
    assert len(set(map(len, lines))) == 1


@pytest.mark.parametrize("kind", [InputError, ConversionError, WorkerError])
def test_errors_are_one_line_and_keep_what_they_were_given(kind):
    error = kind(f"no output {NASTY}")
    assert is_tame(str(error)) and error.args == (f"no output {NASTY}",)
    with pytest.raises(kind) as caught:
        raise_all([f"a {NASTY}", "b"], kind)
    assert is_tame(str(caught.value))
    assert str(error).startswith(r"no output \x1b[2J\r\n\u202e")
