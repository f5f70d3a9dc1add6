"""Shortened notebooks run from top to bottom, and the stored outputs are those of a run."""

import ast
import json
import re
from typing import Any

import pytest
from floors import ROOT

import tfkd.export

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
#: What takes long is made shorter.
SHORTER = (
    (r"^EPOCHS = \d+", "EPOCHS = 4"),
    (r"^(EXAMPLES|SENTENCES), EPOCHS = \d+, \d+", r"\1, EPOCHS = 400, 4"),
    (r"RUNS = {}", 'RUNS = {"processes": 1, "min_runs": 2, "min_seconds": 0.01}'),
    (r'out="digits"', 'out="digits", student=alone'),  # the search has tests of its own
)


def cells(path):
    """Return the cells of code, without the one that installs."""
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    installs = [cell for cell in code if "install" in cell["metadata"].get("tags", [])]
    assert [cell["source"] for cell in code].index(installs[0]["source"]) == 0
    return code[1:]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, shorter = dict[str, Any](), 0
    for cell in cells(path):
        code = "".join(cell["source"])
        for long, short in SHORTER:
            code, times = re.subn(long, short, code, flags=re.M)
            shorter += times
        exec(compile(code, path.name, "exec"), names)
    assert shorter and isinstance(names["file"], tfkd.export.TFLiteModel)
    assert names["file"].integer_only


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_what_a_run_printed(path):
    for number, cell in enumerate(cells(path), 1):
        assert cell["execution_count"] == number + 1, "run the notebook as a whole, and save it"
        assert not any(output["output_type"] == "error" for output in cell["outputs"])
        ast.parse("".join(cell["source"]))
