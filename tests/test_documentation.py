"""The documentation checked against the code: names, arguments, paths, options."""

import ast
import contextlib
import importlib
import inspect
import pathlib
import pickle
import pkgutil
import re
import shlex

import numpy as np
import pytest
from floors import ROOT, modules

import tfkd
import tfkd.data
import tfkd.export
from tfkd.cli import parser
from tfkd.errors import InputError, UnsupportedError

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
#: Modules of packages that the documentation shows code of.
REFUSALS = {"UnsupportedError", "ConversionError"}
MODULES = ("keras", "tf_keras", "tfkd")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page, *languages):
    """Return the code blocks of a page in some languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [code for language, code in found if language in languages]


def inline(page):
    """Return what is between single backticks on a page."""
    outside = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", outside)]


def resolve(path):
    """Return what a dotted name is, or raise AttributeError."""
    parts = path.split(".")
    thing = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if inspect.ismodule(thing) and not hasattr(thing, part):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(".".join(parts[:i]))
        thing = getattr(thing, part)
    return thing


def test_the_reference_has_every_public_name_once():
    """The pages are made from the stubs; this asks the packages themselves."""
    generated = load(DOCS / "generated.py")
    pages = [page for page in (DOCS / "api").glob("*.md") if page.stem != "index"]
    text = "\n".join(generated.expand(page.read_text("utf-8")) for page in pages)
    said = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    said += re.findall(r"^# .*\{ #(tfkd\.\w+) \}$", text, re.MULTILINE)

    packages = [tfkd, tfkd.export]
    for found in pkgutil.iter_modules(tfkd.__path__):
        if found.ispkg and found.name != "export":
            packages.append(importlib.import_module(f"tfkd.{found.name}"))
    names = {}
    for package in packages:
        for name in getattr(package, "__all__", ()):
            names.setdefault(id(getattr(package, name)), set()).add(f"{package.__name__}.{name}")
    assert len(names) > 80
    for same in names.values():
        assert len(same & set(said)) == 1, f"{same}: give the folder a page in docs/api"
    assert len(said) == len(names)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_names_are_those_of_the_code(page):
    written = re.findall(r"\btfkd(?:\.[A-Za-z_]\w*)+", "\n".join(inline(page)))
    for name in written:
        if name not in ("tfkd.report", "tfkd.benchmark"):  # schemas
            resolve(name)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_paths_exist(page):
    pattern = r"(?<![\w/.-])(?:tfkd|export|tests|docs|benchmarks|examples)/[\w./-]*"
    for code in (*inline(page), *blocks(page, "bash")):
        for path in re.findall(pattern, code):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_take_the_options_shown(page, capsys):
    commands = [code for code in inline(page) if re.match(r"(tfkd|python) \S+ ", code)]
    for block in blocks(page, "bash"):
        lines = block.replace("\\\n", "").splitlines()
        commands += [line for line in lines if line.startswith(("tfkd ", "python "))]
    for command in commands:
        program, name, *words = shlex.split(command, comments=True)
        if program == "tfkd":
            with pytest.raises(SystemExit):
                parser.main([name, "--help"])
            known = capsys.readouterr().out
        elif name.endswith(".py"):
            known = (ROOT / name).read_text("utf-8")
        else:
            continue
        for option in words:
            if option.startswith("--"):
                assert re.search(rf"{option}\b", known), f"{command}: no {option}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_parser_takes_the_commands_shown(page):
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("tfkd "):
                parser.build_parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_calls_have_the_arguments_that_functions_take(page):
    for code in blocks(page, "python"):
        tree = ast.parse(code)
        places = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "tfkd":
                for alias in node.names:
                    places[alias.name] = f"{node.module}.{alias.name}"
                    resolve(places[alias.name])
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if not re.fullmatch(r"[\w.]+", name):  # a method of what another call returns
                continue
            head, dot, rest = name.partition(".")
            name = places.get(head, head) + dot + rest
            if name.split(".")[0] not in MODULES:
                continue
            signature = inspect.signature(resolve(name))
            keywords = {word.arg: None for word in node.keywords if word.arg}
            if not any(isinstance(argument, ast.Starred) for argument in node.args):
                signature.bind(*node.args, **keywords)


#: Where refusals of models are raised, and the files whose messages another error collects.
REFUSING = ("tfkd/model/graph", "tfkd/translation", "tfkd/quantization", "tfkd/pruning")
REFUSING += ("export/conversion", "export/micro", "export/runtime", "export/tflite")
COLLECTED = {
    "tfkd/quantization/rules/": "rewriting.py lists them",
    "tfkd/translation/layers.py": "model.py lists them",
    "tfkd/translation/operations.py": "model.py lists them",
    "tfkd/pruning/unstructured/weights.py": "wrapping.py lists them",
    "tfkd/pruning/unstructured/clustering.py": "wrapping.py lists them",
}


def refusals():
    """Yield each place where a model is refused: file, line, id or None."""
    for path, _, _ in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            names = [ast.unparse(node.func), *map(ast.unparse, node.args[1:2])]
            if names[0] in REFUSALS or (names[0] == "raise_all" and names[-1] in REFUSALS):
                codes = [word.value.value for word in node.keywords if word.arg == "code"]
                yield path.relative_to(ROOT).as_posix(), node.lineno, (codes or [None])[0]


def test_each_refusal_has_an_entry_in_the_error_index():
    found = list(refusals())
    page = (DOCS / "errors.md").read_text("utf-8")
    entries = re.findall(r"^### `([\w-]+)`$", page, re.M)
    assert len(entries) == len(set(entries))
    assert {code for *_, code in found if code} == set(entries)
    without = {
        f"{file}:{line}"
        for file, line, code in found
        if code is None and file.startswith(REFUSING) and not file.startswith(tuple(COLLECTED))
    }
    assert not without
    assert all(any(file.startswith(one) for file, *_ in found) for one in COLLECTED)


def test_a_refusal_points_to_its_entry():
    error = UnsupportedError("No. Do that.", code="no-rule")
    assert str(error) == "No. Do that (docs/errors.md#no-rule)."
    assert (error.code, UnsupportedError("No.").code) == ("no-rule", "")
    assert pickle.loads(pickle.dumps(error)).code == "no-rule"
    assert InputError(f"The student: {error}").code == "no-rule"


def test_each_concept_has_a_picture():
    drawn = load(DOCS / "pictures.py").PICTURES
    shown = {}
    for page in (DOCS / "concepts").glob("*.md"):
        (shown[page.stem],) = re.findall(
            r"^<!-- picture of (\w+) -->$", page.read_text("utf-8"), re.M
        )
    assert sorted(shown.values()) == sorted(drawn)


def test_what_stands_in_a_docstring_as_an_example_is_run():
    """Doctest runs what has a prompt: see `test_the_examples_in_docstrings_run`."""
    for path, _, _ in modules():
        for said in re.findall(r'"""(.*?)"""', path.read_text("utf-8"), re.S):
            assert said.count("Example:") <= said.count(">>>"), path
            assert "```" not in said, path


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 130


@pytest.mark.parametrize("command", ["tfkd demo", "pytest"])
def test_the_readme_has_the_command_that_ci_runs(command):
    assert f'command_of "{command}"' in (ROOT / ".ci/run").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert re.search(rf"^pip .* && {command}", readme, re.M)


@pytest.mark.slow
def test_the_snippet_of_the_readme_runs_as_printed(tmp_path, monkeypatch, capsys, digits):
    few = {
        part: tfkd.Samples(whole.x[:200], whole.y[:200])
        for part in ("train", "validation", "test")
        for whole in [getattr(digits, part)]
    }
    small = tfkd.Data(**few, name=digits.name)
    monkeypatch.setattr(tfkd.data, "load_digits", lambda: small)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "README.md", "python")
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    file = tfkd.export.TFLiteModel.load(pathlib.Path("student_int8.tflite"))
    assert file.integer_only
    want = scope["qat"].predict(small.test.x, verbose=0)
    assert (file.predict(small.test.x).argmax(-1) == want.argmax(-1)).mean() > 0.97
    printed = capsys.readouterr().out
    assert "same class" in printed and "µs" in printed
    assert np.isfinite(scope["distiller"].history.history["loss"]).all()


def test_each_command_has_an_example_that_its_parser_takes(capsys):
    transcripts = load(DOCS / "transcripts.py")
    named = {path.stem for path in (DOCS / "transcripts").iterdir()}
    assert named == set(parser.commands())
    for name in named:
        commands = [shlex.split(line) for line in transcripts.typed(name)]
        assert commands[0][:2] == ["tfkd", name]
        for program, *words in commands:
            if program == "tfkd":
                parser.build_parser().parse_args(words)
        assert len(transcripts.path_of(name).read_text("utf-8").splitlines()) > len(commands)


def test_the_example_of_boards_prints_what_the_page_shows(capsys):
    example = load(DOCS / "transcripts.py").path_of("boards").read_text("utf-8")
    line, _, printed = example.partition("\n")
    assert parser.main(shlex.split(line)[2:]) == 0
    assert capsys.readouterr().out == printed


def test_the_glossary_is_in_order_and_each_word_has_its_page():
    text = (DOCS / "glossary.md").read_text("utf-8")
    entries = [part.strip().split("\n\n", 1) for part in text.split("\n## ")[1:]]
    words = [word.casefold() for word, _ in entries]
    assert words == sorted(words) and len(words) >= 30
    for word, said in entries:
        linked = [page for page in re.findall(r"\]\(([\w/-]+\.md)", said) if (DOCS / page).exists()]
        assert linked and "\n\n" not in said, word


def test_a_page_says_which_names_its_snippets_take_as_given():
    snippets = load(DOCS / "snippets.py")
    code = "import os\na = [b + one for one in c]\n\n\ndef f(x):\n    return x + later + a\n\n\n"
    code += "for d in a:\n    print(d, os)\ne = f(e)\nlater = later2 = 1\nprint(later2, a)\n"
    page = f"# A page\n\nText.\n\n```python\n{code}```\n"
    assert snippets.taken_as_given(page) == ["b", "c", "later", "e"]
    unknown = {
        path.name: set(snippets.taken_as_given(path.read_text("utf-8"))) - set(snippets.explained())
        for path in DOCS.rglob("*.md")
    }
    assert not any(unknown.values()), f"without a row in {snippets.PAGE}: {unknown}"
    shown = snippets.with_names("# T\n\nText.\n\n```python\nprint(x_test, data)\n```\n", "a/b.md")
    assert shown.startswith(
        "# T\n\n*The snippets take as given: `data`, `x_test`. [What these are,"
    )
    assert "](../guides/names.md).*\n\nText." in shown
    plain = "# T\n\nText.\n\n```python\nprint(1)\n```\n"
    assert snippets.with_names(plain, "a/b.md") == plain


def test_the_reference_has_every_option():
    page = load(DOCS / "generated.py").expand("<!-- reference of commands -->")
    sections = dict(re.findall(r"^## tfkd (\w+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    assert list(sections) == list(parser.commands())
    for name, command in parser.commands().items():
        options = {text for one in command._actions for text in one.option_strings}
        assert options - {"-h", "--help"} == set(
            re.findall(r"^\| `(--[\w-]+)", sections[name], re.M)
        )
