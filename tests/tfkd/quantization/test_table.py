"""The table in the documentation is the one that the code follows."""

import pathlib

from tfkd.quantization import table

README = pathlib.Path(__file__).parents[3] / "README.md"


def test_the_readme_prints_the_table():
    text = README.read_text()
    assert table.markdown() in text, "run `python -m tfkd.quantization.table` and paste it"


def test_a_custom_class_with_a_known_name_has_no_rule():
    class Dense:
        pass

    assert table.rule_of(Dense()) is None
