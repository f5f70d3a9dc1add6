"""What comes into the documentation from the code, so that it can't be out of date.

A page holds a marker:

    <!-- public names of tfkd.pruning -->    the reference of each, by mkdocstrings
    <!-- table of public names -->           one row for each, with a link
    <!-- table of layers -->                 how quantization-aware training rounds each layer
    <!-- table of folders -->                the folders in order, each with its sentence
    <!-- table of ratios -->                 what `benchmarks/run_all.py --record` has measured
    <!-- reference of commands -->           each command: its options, an example, what it prints
    <!-- picture of pruning -->              a function of pictures.py, as an inline figure
"""

from __future__ import annotations

import ast
import atexit
import functools
import importlib.util
import json
import pathlib
import re
import shutil
import statistics
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
MARKER = re.compile(r"^<!-- (public names|table|reference|picture) of ([\w. ]+) -->$", re.MULTILINE)
#: `export/` is installed as `tfkd.export`.
FOLDERS = {"tfkd": ROOT / "tfkd", "tfkd.export": ROOT / "export"}


def public_names() -> dict[str, str]:
    """Return where each public name is defined, by the shortest name it has.

    Read from the stubs and `__init__.py` files of `tfkd`, of `tfkd.export` and of the folders
    in `tfkd/`: nothing is imported. A module that is public has itself as its place.
    """
    packages = [*FOLDERS.items()]
    packages += [(f"tfkd.{p.name}", p) for p in sorted((ROOT / "tfkd").iterdir()) if p.is_dir()]
    exported = {
        f"{package}.{name}": place
        for package, folder in packages
        for name, place in _exports(package, folder)
    }
    found: dict[str, str] = {}
    for name, place in exported.items():
        while place in exported and exported[place] != place:  # `tfkd` exports what its folders do
            place = exported[place]
        if place not in found.values():
            found[name] = place
    return found


def _exports(package: str, folder: pathlib.Path):
    """Yield each public name of a package with the full name of what it is."""
    stub, module = folder / "__init__.pyi", folder / "__init__.py"
    if not module.exists():
        return
    body = ast.parse((stub if stub.exists() else module).read_text()).body
    listed = [
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    if not stub.exists() and not listed:
        return
    for node in body:
        if isinstance(node, ast.ImportFrom):
            source = ".".join(part for part in (package * bool(node.level), node.module) if part)
            for alias in node.names:
                name = alias.asname or alias.name
                if not listed or name in listed[0]:
                    yield name, f"{source}.{alias.name}"


def _is_module(place: str) -> bool:
    path = ROOT.joinpath(*place.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def _references(folder: str) -> str:
    """Return a directive of mkdocstrings for each public name that a folder defines."""
    lines = []
    for name, place in sorted(public_names().items(), key=lambda pair: pair[0].lower()):
        if not place.startswith(f"{folder}."):
            continue
        lines += [f"::: {name}", ""]
        if _is_module(place):
            lines[-1:] = ["    options:", "      members: false", ""]
    return "\n".join(lines)


def _table_of_names() -> str:
    """Return a table of the public names, each with the first sentence of its docstring."""
    import griffe  # mkdocstrings reads the code with it

    package = griffe.load("tfkd", search_paths=[installed()], try_relative_path=False)
    lines = ["| name | what it is |", "|---|---|"]
    for name, place in sorted(public_names().items(), key=lambda pair: pair[0].lower()):
        thing = package[place.removeprefix("tfkd.")]
        said = thing.docstring.value.partition("\n\n")[0] if thing.docstring else ""
        lines.append(f"| [`{name}`][{name}] | {' '.join(said.split())} |")
    return "\n".join(lines)


def _table_of_layers() -> str:
    from tfkd.quantization import table

    return table.markdown()


def _table_of_folders() -> str:
    floors = _load(ROOT / "tests" / "data" / "floors.py")
    rows = [f"| `{folder}` | {sentence} |" for folder, sentence in floors.sentences()]
    return "\n".join(["| folder or file | what it is |", "|---|---|", *rows])


#: How many runs the table of ratios shows.
_RUNS = 6


def _table_of_ratios() -> str:
    runs = json.loads((ROOT / "benchmarks" / "history.json").read_text())[-_RUNS:]
    heads = [f"{run['environment']['date'][:10]}, {run['environment']['commit']}" for run in runs]
    lines = [f"| ratio | {' | '.join(heads)} |", "|---" * (1 + len(runs)) + "|"]
    names = dict.fromkeys(name for run in runs for name in run["ratios"])
    for name in names:
        cells = []
        for run in runs:
            values = run["ratios"].get(name)
            cells.append(
                f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
                if values
                else "–"
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _load(path: pathlib.Path):
    """Return a module that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _reference_of_commands() -> str:
    """Return a section for each command: what it does, an example, its arguments."""
    from tfkd.cli import parser

    parts = []
    for name, command in parser.commands().items():
        example = (ROOT / "docs" / "transcripts" / f"{name}.txt").read_text("utf-8")
        example = re.sub(r"^\$ .{80,}$", _wrapped, example, flags=re.MULTILINE)
        parts += [f"## tfkd {name}", command.description, f"```text\n{example}```"]
        required, common, *groups = command._action_groups  # the first two are argparse's own
        tables = [("argument", [*required._group_actions, *common._group_actions])]
        for title, actions in [*tables, *((one.title, one._group_actions) for one in groups)]:
            rows = [_argument(action) for action in actions if action.dest != "help"]
            parts.append("\n".join([f"| {title} | |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _wrapped(line: re.Match) -> str:
    """Return a long command on several lines, as it may be typed."""
    first, *options = re.split(r" (?=--)", line[0])
    lines = [first]
    for option in options:
        fits = len(f"{lines[-1]} {option}") < 78
        lines[-1:] = [f"{lines[-1]} {option}"] if fits else [lines[-1], f"    {option}"]
    return " \\\n".join(lines)


def _argument(action) -> str:
    """Return the row of an argument: as it is typed, and its help."""
    words = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    words = " ".join(words) if isinstance(words, tuple) else words
    if action.nargs in ("+", "*"):
        words += "..."
    elif action.nargs == "?":
        words = f"[{words}]"
    typed = " ".join(filter(None, [*action.option_strings, words]))
    needed = " Required." if action.option_strings and action.required else ""
    return f"| `{typed}` | {action.help % vars(action)}{needed} |"


@functools.cache
def installed() -> str:
    """Return a folder that holds the package as it is installed, `tfkd.export` inside `tfkd`."""
    folder = tempfile.mkdtemp(prefix="tfkd-docs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for package, source in FOLDERS.items():
        shutil.copytree(source, pathlib.Path(folder, *package.split(".")))
    for path in pathlib.Path(folder).rglob("*.py"):  # Keras's heading is not one of mkdocstrings's
        path.write_text(re.sub(r"(?m)^( *)Example:$", r"\1Examples:", path.read_text()))
    return folder


def _generated(match: re.Match) -> str:
    kind, of = match.groups()
    if kind == "picture":
        return _load(ROOT / "docs" / "pictures.py").figure(of)
    if kind == "public names":
        return _references(of)
    return {
        "public names": _table_of_names,
        "layers": _table_of_layers,
        "folders": _table_of_folders,
        "ratios": _table_of_ratios,
        "commands": _reference_of_commands,
    }[of]()


def expand(markdown: str) -> str:
    """Return the Markdown of a page with what its markers stand for."""
    return MARKER.sub(_generated, markdown)
