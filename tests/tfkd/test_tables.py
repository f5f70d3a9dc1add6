"""Results print themselves."""

import ast
import dataclasses
import inspect
import pathlib

import pytest

import tfkd
import tfkd.export
from tfkd.tables import Printed, aligned

#: What a call hands back and prints no table: settings, parts of a result, data.
SILENT = {"Data", "Samples", "Recipe", "Latency", "Ratio", "ModelEntry", "RecurrentForm"}
SILENT |= {"Stream", "LayerReport", "Training", "Target", "Call", "Value"}


def test_a_result_prints_its_table_and_is_plain_values():
    @dataclasses.dataclass(frozen=True)
    class Count(Printed):
        name: str
        count: int

        def describe(self):
            return "\n".join(aligned([("name", "count"), (self.name, str(self.count))]))

    count = Count("<a>", 3)
    assert str(count) == "name  count\n<a>       3"
    assert count._repr_html_() == "<pre>name  count\n&lt;a&gt;       3</pre>"
    assert count.to_json() == {"name": "<a>", "count": 3}
    assert repr(count).endswith("Count(name='<a>', count=3)")


def test_columns_start_or_end_at_the_same_place():
    rows = [("a", "b", "c"), ("wide", "9", "remark"), ("\x1b", "10", "")]
    assert aligned(rows) == ["a      b       c", "wide   9  remark", "\\x1b  10"]
    assert aligned(rows, left=3) == ["a     b   c", "wide  9   remark", "\\x1b  10"]
    assert aligned(rows, left=(0, 2)) == ["a      b  c", "wide   9  remark", "\\x1b  10"]


@pytest.mark.parametrize("package", [tfkd, tfkd.export, tfkd.pruning, tfkd.quantization])
def test_every_public_data_class_prints_itself_or_is_no_result(package):
    for name in set(package.__all__) - SILENT:
        thing = getattr(package, name)
        if inspect.isclass(thing) and dataclasses.is_dataclass(thing):
            assert issubclass(thing, Printed), name


def test_every_class_with_a_description_prints_it():
    root = pathlib.Path(tfkd.__file__).parent.parent
    for path in (*(root / "tfkd").rglob("*.py"), *(root / "export").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name not in ("Printed", "Bundles"):
                methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                assert "describe" not in methods or "Printed" in bases, f"{path}: {node.name}"
