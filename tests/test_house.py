"""The house rules: allowed imports, required documentation, the cost of an import."""

import ast
import configparser
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import keras
import pytest
from floors import FLOORS, ROOT, modules

import tfkd
import tfkd.export
from tfkd.errors import MissingDependencyError, TfkdError
from tfkd.model import backends

#: Lines that a file may have, and why some have more.
_LONGEST = 400
_LONG = {
    "distillation/validation.py": "all that is checked of a pair and its data",
    "distillation/worth.py": "scores, their intervals and what is said of them",
    "distillation/teachers/teacher.py": "one class",
    "output_kind/rules.py": "a table: a rule for each layer and operation",
    "loading/file_check.py": "a table of what a file may hold, and the readers of three formats",
    "losses/soft.py": "a loss a class",
    "model/binding.py": "one class, and what makes it of a model",
    "model/graph.py": "the one walk",
    "translation/layers.py": "a table: the counterpart of each layer",
    "translation/operations.py": "a table: the vocabulary of operations",
    "pruning/iterative/spiral.py": "one function and its rounds",
    "quantization/quantizers.py": "classes that tfmot asks for",
    "cli/parser.py": "the parser",
    "cli/commands.py": "a function a command",
    "tflite/schema.py": "the reader and its checks",
    "tflite/model.py": "one class",
    "tflite/metadata.py": "one format, written and read",
    "verification/verify.py": "one function, its references and its verdict",
    "verification/layer_errors.py": "one function and its plan",
    "latency/benchmark.py": "one function and its rounds",
    "latency/litert_profiler.py": "one C interface",
    "latency/android_device.py": "one tool's output",
    "micro/evaluation.py": "one function and the rules of its margins",
    "micro/bundle.py": "one folder",
    "android/bundle.py": "one folder",
    "report/plots.py": "a picture a function",
}


MODULES = {name: (path, package) for path, name, package in modules()}


def imports(name):
    """Return the full names of tfkd's modules that one imports, anywhere in it."""
    path, package = MODULES[name]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {one if one in MODULES else base for one in names}
    return {one for one in found & set(MODULES) if one not in ("tfkd", "tfkd.export", name)}


def floor_of(name) -> str:
    """Return the folder of a module, or the module where it is a floor of its own."""
    name = name.removeprefix("tfkd.")
    if name in FLOORS:
        return name
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "export" else parts[0]


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"tfkd", "tfkd.export"}))
def test_a_file_imports_from_its_folder_and_from_above(name):
    own = floor_of(name)
    assert own in FLOORS, f"{name} has no place in the order"
    for target in imports(name):
        other = floor_of(target)
        assert FLOORS.index(other) <= FLOORS.index(own), f"{name} imports {target}"


def test_no_folder_has_a_cycle():
    graph = {name: imports(name) for name in MODULES}

    def follow(name, path):
        assert name not in path, f"cycle: {' -> '.join([*path, name])}"
        if name not in clean:
            for target in graph[name]:
                follow(target, [*path, name])
            clean.add(name)

    clean: set[str] = set()
    for name in graph:
        follow(name, [])


def test_long_files_have_a_reason():
    long = set()
    for path, name, _ in modules():
        parts = name.split(".")[2 if ".export." in name else 1 :]
        if len(path.read_text().splitlines()) > _LONGEST:
            long.add("/".join(parts) + ".py")
    assert long == set(_LONG), long ^ set(_LONG)


def test_functions_are_short():
    """80 lines beside the docstring; what only lists the parser's options may be longer."""
    for path, name, _ in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and name != "tfkd.cli.parser":
                said = ast.get_docstring(node, clean=False) or ""
                lines = node.end_lineno - node.lineno + 1 - (said.count("\n") + 1)
                assert lines <= 80, f"{path}: {node.name} has {lines} lines"


def public():
    for package in (tfkd, tfkd.export):
        for name in package.__all__:
            thing = getattr(package, name)
            if not inspect.isclass(thing) and not inspect.isfunction(thing):
                continue
            yield f"{package.__name__}.{name}", thing
            if inspect.isclass(thing):
                for attribute, value in vars(thing).items():
                    if not attribute.startswith("_") and (
                        inspect.isfunction(value) or isinstance(value, (property, classmethod))
                    ):
                        yield f"{package.__name__}.{name}.{attribute}", value


@pytest.mark.parametrize(
    ("name", "thing"), list(public()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_everything_public_is_documented(name, thing):
    doc = inspect.getdoc(thing.fget if isinstance(thing, property) else thing)
    assert doc and len(doc.split()) >= 3, f"{name} has no docstring"
    if inspect.isfunction(thing) and "." not in name.removeprefix("tfkd.").removeprefix("export."):
        arguments = list(inspect.signature(thing).parameters)
        missing = [a for a in arguments if f"{a}:" not in doc]
        assert not missing, f"{name} does not say what {missing} are"


def called(thing):
    """Call something without what it needs; return what it says to that."""
    try:
        thing()
    except (TypeError, TfkdError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("package", [tfkd, tfkd.export], ids=lambda package: package.__name__)
def test_a_public_name_is_itself_whatever_was_imported_before(package):
    for module in MODULES:
        if module != "tfkd.__main__":
            importlib.import_module(module)
    for name in package.__all__:
        scope: dict = {}
        exec(f"from {package.__name__} import {name}", scope)
        thing = scope[name]
        if inspect.ismodule(thing):
            assert thing.__name__ == f"{package.__name__}.{name}" and thing.__file__
            # A room of its own; no function hides behind a module of its name.
            assert pathlib.Path(thing.__file__).name == "__init__.py", name
            continue
        assert thing.__name__ == name
        assert "not callable" not in called(thing), name


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_says_what_it_is(name):
    path, _ = MODULES[name]
    assert ast.get_docstring(ast.parse(path.read_text())), path


#: Idioms of another language; what to write instead: "unknown", "is in", "notes about".
_FOREIGN = re.compile(
    r"\b(can't|cannot|could not|is|are|was|were|be) told\b(?! apart)|\bwhat it is made of\b"
    r"|\bstands? (beside|behind|in|on|at|there|alone)\b|\bto say of\b|\bsays? nothing of\b"
)


def test_the_prose_is_plain_english():
    texts = [path for path, _, _ in modules()]
    texts += [path for path in (ROOT / "export").rglob("templates/*") if path.is_file()]
    texts += [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]
    foreign = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in texts
        for found in _FOREIGN.finditer(" ".join(path.read_text(encoding="utf-8").split()))
    ]
    assert not foreign, "\n".join(foreign)


@pytest.mark.parametrize(("old", "new"), [("parts", "quantizers"), ("frozen", "export_form")])
def test_a_name_of_before_is_served_with_the_new_one(old, new):
    importlib.import_module(
        f"tfkd.quantization.{new}"
    )  # the first import of tfmot warns of other things
    with pytest.warns(DeprecationWarning, match=f"is now tfkd.quantization.{new}"):
        module = getattr(tfkd.quantization, old)
    assert module.__name__ == f"tfkd.quantization.{new}"


def test_a_folder_that_lists_its_files_lists_them_all():
    for path, name, package in modules():
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        listed = set(re.findall(r"^(\w+)\.py  ", said, re.MULTILINE))
        if name == package and listed:
            listed |= set(re.findall(r"`(\w+)\.py`", said))
            assert listed == {one.stem for one in path.parent.glob("*.py")} - {"__init__"}, name


#: Modules that compare the names of the classes of other things than layers.
_NO_LAYERS = {
    "tfkd.export.conversion.recurrent.loop": "options of operators",
    "tfkd.export.micro.bundle": "what a user gave",
    "tfkd.export.tflite.schema": "options of operators",
    "tfkd.losses.features": "losses of keras.distillation",
    "tfkd.losses.soft": "losses of keras.distillation",
    "tfkd.model.fingerprint": "the values of a class's attributes",
    "tfkd.model.layers": "metrics",
    "tfkd.translation.layers": "regularizers and constraints",
    "tfkd.translation.model": "tensors",
    "tfkd.translation.operations": "operations by the names that Keras derives",
}


def test_the_kind_of_a_layer_is_asked_of_layer_kinds():
    """The name of its class takes a user's class for a library's, and misses subclasses."""
    found = set()
    for name, (path, _) in MODULES.items():
        tree = ast.parse(path.read_text())
        for parent in ast.walk(tree):
            for node in ast.iter_child_nodes(parent):
                is_name = re.fullmatch(r"type\(.*\)\.__name__", ast.unparse(node), re.DOTALL)
                if is_name and _decides(parent):
                    found.add(name)
    assert found == set(_NO_LAYERS), found ^ set(_NO_LAYERS)


def _decides(parent):
    """Tell whether something is compared or looked up there, and not only shown."""
    if isinstance(parent, ast.Call):
        return isinstance(parent.func, ast.Attribute) and parent.func.attr == "get"
    if isinstance(parent, ast.Assign):
        return ast.unparse(parent.targets[0]) in ("kind", "kinds")
    return isinstance(parent, (ast.Compare, ast.Attribute, ast.SetComp))


def test_every_package_is_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path, _ in MODULES.values()}
    names = {".".join(folder.parts).replace("export", "tfkd.export", 1) for folder in folders}
    assert listed == names


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_tfkd_imports_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'tf_keras', 'matplotlib', 'sklearn', 'rich', 'numpy'}"
    assert python(f"import tfkd, tfkd.export, sys; print({heavy} & set(sys.modules))") == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import tensorflow as tf; tf.keras.layers.Dense;"])
def test_tf_keras_and_the_environment_stay_the_users(before):
    out = python(
        f"{before}\n"
        "import os, keras, tfkd\n"
        "tfkd.quantize_aware(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))\n"
        "import tensorflow as tf\n"
        "print(tf.keras.Model is keras.Model, os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    assert out == "True None"


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import tensorflow_model_optimization"])
def test_a_user_who_chose_legacy_keras_keeps_it(before):
    out = python(
        "import os; os.environ['TF_USE_LEGACY_KERAS'] = '1'\n"
        "import tensorflow as tf, tf_keras, tfkd\n"
        f"{before}\n"
        "model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])\n"
        "tfkd.quantize_aware(model)\n"
        "print(tf.keras.Model is tf_keras.Model, os.environ['TF_USE_LEGACY_KERAS'])"
    )
    assert out == "True 1"


@pytest.mark.slow
def test_a_user_who_imported_tfmot_first_keeps_what_that_did():
    out = python(
        "import os, tensorflow_model_optimization, tensorflow as tf\n"
        "before = tf.keras.Model, os.environ.get('TF_USE_LEGACY_KERAS')\n"
        "import keras, tfkd\n"
        "tfkd.quantize_aware(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))\n"
        "print((tf.keras.Model, os.environ.get('TF_USE_LEGACY_KERAS')) == before)"
    )
    assert out == "True"


def test_another_backend_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(MissingDependencyError, match="TensorFlow backend, but .* 'jax'"):
        backends.keras()


@pytest.mark.slow
def test_the_examples_in_docstrings_run():
    import doctest

    ran = 0
    for name in set(MODULES) - {"tfkd.__main__"}:
        result = doctest.testmod(
            importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL
        )
        assert result.failed == 0, name
        ran += result.attempted
    assert ran >= 15


#: What is done in one way: a pattern, and the files that may hold it, the first of them the way.
_ONE_WAY = {
    "flatbuffers are written": (r"flatbuffers\.Builder|\.Finish\(", ["tflite/writer.py"]),
    "bytes are hashed": (r"\bhashlib\b", ["hashing.py"]),
    "native stderr is read": (
        r"os\.dup2?\(\w+\.fileno\(\), 2\)|os\.dup\(2\)",
        ["runtime/native_stderr.py"],
    ),
    "SavedModels are opened": (
        r"saved_model\.load\(",
        # The second is timed; it opens what tfkd itself has written.
        ["loading/signatures.py", "latency/timed_calls.py"],
    ),
    "templates are filled in": (r"jinja2\.Environment\(", ["templating.py"]),
    "columns are aligned": (r"\.[lr]just\(", ["tables.py"]),
    "a nearest name is looked for": (r"get_close_matches", ["model/graph.py"]),
    "a flavour becomes a package": (
        r"backends\.(keras|tf_keras)\(\) if|else backends\.(keras|tf_keras)\(\)|[\"']: backends\.",
        [],
    ),
    "producers of tensors are listed": (
        r"\{(tensor\.index|int\(\w+\)): \w+ for \w+ in [\w.]+ for \w+ in \w+\.outputs",
        ["model/graph.py", "tflite/schema.py"],
    ),
    "assertions speak in our words": (r"tfkd says:", ["distillation/assertions.py"]),
    "outputs without names get one": (r"f['\"]output\{", []),
}


def without_docstrings(path) -> str:
    """Return a file's code, docstrings and comments left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            body[0] = ast.Pass()
    return ast.unparse(tree)


@pytest.fixture(scope="module")
def code():
    return {
        str(path.relative_to(ROOT)).partition("/")[2]: without_docstrings(path)
        for path, _ in MODULES.values()
    }


@pytest.mark.parametrize("what", _ONE_WAY)
def test_there_is_one_way(what, code):
    pattern, allowed = _ONE_WAY[what]
    found = {name for name, text in code.items() if re.search(pattern, text)}
    assert found <= set(allowed), f"{what} in another way, too: {found - set(allowed)}"
    assert found >= set(allowed), "the pattern finds nothing any more"


def test_classes_are_made_at_the_top_of_a_module():
    """Not inside functions, in order to import late: a module of its own can be imported late."""
    found = set()
    for path, _ in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                inner = [one for one in ast.walk(node) if isinstance(one, ast.ClassDef)]
                found |= {f"{path.name}: {one.name}" for one in inner}
    assert found == set()
