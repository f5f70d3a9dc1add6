"""The folders of tfkd in the order of their allowed imports.

python tests/data/floors.py    # prints them, each with its sentence
"""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent.parent

# A file imports from its own folder and from what is above it here, so imports go one way.
FLOORS = (
    # what everything may use
    *(
        "_version",
        "_typing",
        "escaping",
        "intervals",
        "typed",
        "errors",
        "_renamed",
        "tables",
        "files",
        "hashing",
    ),
    *("sealed", "data", "export.templating"),
    # one way to read a model, to change it, to load it
    *("model", "translation", "output_kind", "losses", "export.runtime", "export.tflite"),
    *("quantization", "loading"),
    # learning, and the way to a file that is checked, timed and reported
    *("distillation", "export.micro", "export.conversion", "export.verification"),
    *("export.latency", "export.android", "export.web", "export.report"),
    # the whole way, and the commands that start it
    *("compression.settings", "compression.twin", "compression.loss", "compression.parts"),
    *("compression.stages", "compression.outputs", "compression.tokens", "compression.trainer"),
    *("pruning", "comparison", "compression", "cli", "__main__"),
)


def modules():
    """Yield (path, full name, the package that its relative imports start from)."""
    for folder, package in ((ROOT / "tfkd", "tfkd"), (ROOT / "export", "tfkd.export")):
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            parts = parts[:-1] if is_package else parts
            yield path, ".".join(parts), ".".join(parts if is_package else parts[:-1])


def sentences():
    """Yield each folder (or file) in order, with the first sentence of its docstring."""
    paths = {name: path for path, name, _ in modules()}
    for floor in FLOORS:
        path = paths[f"tfkd.{floor}"]
        said = ast.get_docstring(ast.parse(path.read_text())).partition("\n")[0]
        yield floor + ("/" if path.name == "__init__.py" else ".py"), said


if __name__ == "__main__":
    for folder, sentence in sentences():
        print(f"{folder:22} {sentence}")
