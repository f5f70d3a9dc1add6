"""The house rules: who may import whom, what is documented, what an import costs."""

import ast
import configparser
import importlib
import inspect
import pathlib
import subprocess
import sys

import keras
import pytest
import tfkd.export

import tfkd
from tfkd import backends
from tfkd.errors import MissingDependencyError, TfkdError

ROOT = pathlib.Path(__file__).parent.parent

# A file imports only from above it in its own list (DESIGN's order, and what was added).
TFKD = [
    "_version",
    "_typing",
    "escaping",
    "errors",
    "files",
    "typed",
    "sealed",
    "tables",
    "intervals",
    "backends",
    "graph",
    "cost",
    "translation",
    "outputs",
    "model",
    "data",
    "losses",
    "taps",
    "quantization",
    "loading",
    "teachers",
    "teacher_outputs",
    "cache_data",
    "cache_store",
    "teacher_cache",
    "cache",
    "lessons",
    "validation",
    "worth",
    "objective",
    "step",
    "distiller",
    "callbacks",
    "training",
    "pruning",
    "comparison",
    "compression",
    "demo",
    "console",
    "bundling",
    "commands",
    "cli",
    "__main__",
]
EXPORT = [
    "answers",
    "sandbox",
    "metrics",
    "flatbuffer",
    "repacking",
    "structures",
    "interpreter",
    "tracing",
    "artifact",
    "model_metadata",
    "micro",
    "micro_ops",
    "firmware",
    "boards",
    "vela",
    "training_ranges",
    "calibration",
    "recurrent",
    "streaming",
    "looping",
    "converter",
    "autopsy",
    "conversion",
    "litert_profiler",
    "operators",
    "layer_errors",
    "references",
    "verification",
    "machine",
    "uncertainty",
    "timings",
    "stopwatch",
    "subjects",
    "latency",
    "adb",
    "kotlin",
    "android",
    "pictures",
    "report",
]
EXPORT_MAY_IMPORT = {
    "_typing",
    "escaping",
    "typed",
    "errors",
    "files",
    "tables",
    "intervals",
    "graph",
    "outputs",
    "model",
    "cost",
    "translation",
    "data",
    "quantization",
    "loading",
    "backends",
    "_version",
}
# `teachers` opens `.tflite` teachers, with the one class that opens such files; `pruning` asks how
# many bytes a file has and how long it takes; `comparison` scores, and draws intervals;
# `quantization` calibrates with what `to_tflite` takes, which is read there.
MAY_IMPORT_EXPORT = {
    *("pruning", "comparison", "compression", "bundling", "commands", "teachers"),
    "quantization",
}


def modules():
    for folder, package in ((ROOT / "tfkd", "tfkd"), (ROOT / "export", "tfkd.export")):
        for path in sorted(folder.rglob("*.py")):
            parts = list(path.relative_to(folder).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            yield path, package, ".".join(parts)


MODULES = list(modules())


def imports(path, package):
    """Yield the full names of tfkd's modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package + (f".{node.module}" if node.module else "")
            names = [base] if node.module else [f"{base}.{a.name}" for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
            if node.module in ("tfkd", "tfkd.export"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name == "tfkd" or name.startswith("tfkd."))


@pytest.mark.parametrize(("path", "package", "module"), MODULES, ids=lambda v: str(v)[-30:])
def test_a_file_imports_only_from_above_it(path, package, module):
    room = module.split(".")[0]
    for name in imports(path, package):
        inside_export = name.startswith("tfkd.export")
        target = name.removeprefix("tfkd.export.").removeprefix("tfkd.").split(".")[0]
        if package == "tfkd" and inside_export:
            assert room in MAY_IMPORT_EXPORT, f"{path.name} imports {name}"
        elif package == "tfkd" and room:
            assert room in TFKD, f"{path} has no place in the order"
            if target != room:
                assert TFKD.index(target) < TFKD.index(room), f"{path.name} imports {name}"
        elif package == "tfkd.export" and not inside_export:
            assert target in EXPORT_MAY_IMPORT, f"{path.name} imports {name}"
        elif package == "tfkd.export" and room:
            assert EXPORT.index(target) < EXPORT.index(room), f"{path.name} imports {name}"


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
    for _, home, module in MODULES:
        if module != "__main__":
            importlib.import_module(f"{home}.{module}".rstrip("."))
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


@pytest.mark.parametrize(("path", "package", "module"), MODULES, ids=lambda v: str(v)[-30:])
def test_every_module_says_what_it_is(path, package, module):
    assert ast.get_docstring(ast.parse(path.read_text())), path


def test_every_package_is_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path, _, _ in MODULES}
    names = {".".join(folder.parts).replace("export", "tfkd.export", 1) for folder in folders}
    assert listed == names


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_tfkd_imports_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'tf_keras', 'matplotlib', 'sklearn', 'rich', 'numpy'}"
    assert python(f"import tfkd, tfkd.export, sys; print({heavy} & set(sys.modules))") == "set()"


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


def test_the_examples_in_docstrings_run():
    import doctest

    ran = 0
    for _, package, module in MODULES:
        name = f"{package}.{module}".rstrip(".")
        if name == "tfkd.__main__":
            continue
        result = doctest.testmod(
            importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL
        )
        assert result.failed == 0, name
        ran += result.attempted
    assert ran >= 15
