"""The house rules: who may import whom, what is documented, what an import costs."""

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
    "distillation/step.py": "fit, evaluate and the two steps of one class; scoring is to leave it",
    "distillation/validation.py": "all that is checked of a pair and its data",
    "distillation/worth.py": "scores, their intervals and what is said of them",
    "distillation/cache/store.py": "one format of folder, written and read",
    "distillation/teachers/teacher.py": "one class",
    "output_kind/rules.py": "a table: a rule for each layer and operation",
    "loading/file_check.py": "a table of what a file may hold, and the readers of three formats",
    "losses/soft.py": "a loss a class",
    "model/graph.py": "the one walk",
    "translation/layers.py": "a table: the counterpart of each layer",
    "translation/operations.py": "a table: the vocabulary of operations",
    "pruning/structured/rules.py": "a table: a rule for each layer",
    "pruning/iterative/spiral.py": "one function and its rounds",
    "quantization/quantizers.py": "classes that tfmot asks for",
    "cli/parser.py": "the parser",
    "cli/commands.py": "a function a command",
    "conversion/to_tflite.py": "the pipeline; the choice of recurrent forms is to leave it",
    "conversion/converter.py": "what runs in the worker, in one file that it imports",
    "conversion/recurrent/forms.py": "surgery on graphs and on bytes; to be parted",
    "tflite/schema.py": "the reader and its checks",
    "tflite/model.py": "one class",
    "tflite/metadata.py": "one format, written and read",
    "verification/verify.py": "one function, its references and its verdict",
    "verification/layer_errors.py": "one function and its plan",
    "latency/benchmark.py": "one function and its rounds",
    "latency/operators.py": "a table: the work of each operator; the profiler is to leave it",
    "latency/litert_profiler.py": "one C interface",
    "latency/android_device.py": "one tool's output",
    "micro/evaluation.py": "one function and the rules of its margins",
    "micro/bundle.py": "one folder",
    "android/bundle.py": "one folder",
    "report/report.py": "one page",
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
    """Return the folder of a module, or the module where it lies in none."""
    parts = name.removeprefix("tfkd.").split(".")
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


@pytest.mark.parametrize(("old", "new"), [("parts", "quantizers"), ("frozen", "export_form")])
def test_a_name_of_before_is_served_with_the_new_one(old, new):
    with pytest.warns(DeprecationWarning, match=f"is tfkd.quantization.{new} now"):
        module = getattr(tfkd.quantization, old)
    assert module.__name__ == f"tfkd.quantization.{new}"


def test_a_folder_that_lists_its_files_lists_them_all():
    for path, name, package in modules():
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        listed = set(re.findall(r"^(\w+)\.py  ", said, re.MULTILINE))
        if name == package and listed:
            listed |= set(re.findall(r"`(\w+)\.py`", said))
            assert listed == {one.stem for one in path.parent.glob("*.py")} - {"__init__"}, name


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
