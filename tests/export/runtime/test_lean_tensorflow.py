"""The child's TensorFlow is all of TensorFlow, imported sooner."""

import json
import subprocess
import sys

import pytest

from tfkd.export.conversion import converter
from tfkd.export.conversion import to_tflite as conversion
from tfkd.export.runtime import lean_tensorflow
from tfkd.export.runtime import worker as sandbox

_NAMES = """
import json, types
found = {}
for name in dir(tf):
    part = getattr(tf, name)
    if isinstance(part, types.ModuleType) and name[0] != "_":
        found[name] = [part.__file__, sorted(n for n in dir(part) if n[0] != "_")]
print(json.dumps(found))
"""


def names(start: str) -> dict:
    script = start + _NAMES
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return json.loads(done.stdout or done.stderr)


def test_nothing_is_missing():
    lean = names("from tfkd.export.runtime import lean_tensorflow; tf = lean_tensorflow.load()")
    assert len(lean) > 30
    assert lean == names("import tensorflow as tf")


def test_a_new_worker_imports_it_without_keras_before_it_is_asked():
    with sandbox.Worker() as worker:
        worker.start(lean_tensorflow.load)
        modules = worker.call(eval, "list(__import__('sys').modules)")
        assert "tensorflow.lite.python.lite" in modules
        assert not {"keras", "tf_keras", "sklearn", "matplotlib"} & set(modules)


def test_it_is_the_same_module_where_it_is_imported():
    import tensorflow

    assert lean_tensorflow.load() is tensorflow


def test_the_shared_worker_is_prepared_once(monkeypatch):
    worker = sandbox.Worker()
    monkeypatch.setattr(sandbox, "_shared", worker)
    with worker:
        converter.prepare()
        assert worker.alive
        child = worker._process
        converter.prepare()
        assert worker._process is child


def test_to_tflite_prepares_it_before_it_reads_the_model(monkeypatch):
    worker = sandbox.Worker()
    monkeypatch.setattr(sandbox, "_shared", worker)

    def read(*_):
        raise LookupError(worker.alive)

    monkeypatch.setattr(conversion, "plan", read)
    with worker, pytest.raises(LookupError, match="True"):
        conversion.to_tflite(None)
