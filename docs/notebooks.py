"""Run the notebooks, and keep what they print: `python docs/notebooks.py`, three minutes.

It needs `pip install nbclient ipykernel`. The cell that installs tfkd in Colab is left out, and so
are TensorFlow's lines on the machine, the folder in which it ran, and texts beside tables.
"""

from __future__ import annotations

import json
import pathlib
import tempfile

import nbformat
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent.parent / "examples"


def run(path: pathlib.Path) -> None:
    """Run a notebook in a folder of its own, and write it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    installs, *cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "install" in installs.metadata.tags
    source, installs.source = installs.source, ""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=1800, resources=resources).execute()
    installs.source = source
    for number, cell in enumerate(cells, 2):
        cell.execution_count = number
        cell.metadata.pop("execution", None)  # when it ran
        cell.outputs = [one for one in cell.outputs if not is_noise(one)]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
                if "text/html" in output.data:
                    output.data.pop("text/plain", None)
    text = nbformat.writes(notebook).replace(json.dumps(f"{folder}/")[1:-1], "")
    path.write_text(f"{text}\n")


def is_noise(output: nbformat.NotebookNode) -> bool:
    """Tell whether an output is TensorFlow's."""
    return output.get("name") == "stderr" or output.get("text", "").startswith("WARNING:tensorflow")


if __name__ == "__main__":
    for notebook in sorted(FOLDER.glob("*.ipynb")):
        print(notebook.name, flush=True)
        run(notebook)
