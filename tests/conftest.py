"""Models that are trained once per session and shared, since training and conversion are slow."""

import gc
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# For tiny models a second thread costs more than it gains, also in processes that tests start.
# The threads of NumPy and scikit-learn spin while they wait.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import pytest
import tf_keras
from quick_benchmark import QUICK
from tiny_models import cnn, crossentropy

from tfkd import Distiller, quantize_aware
from tfkd.data import load_digits
from tfkd.export import benchmark, to_tflite

# Traces create many long-lived objects: garbage collection took 5 % of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)

# Only the tests in export/latency need real timings, and they set their own defaults.
benchmark.__kwdefaults__ |= QUICK

#: Files that train and convert almost nothing. Their tests are marked `fast` if they use no
#: trained model.
FAST = (
    "export/latency/test_results.py",
    "export/report/test_outcome_plots.py",
    "export/report/test_plots.py",
    "export/report/test_predictions.py",
    "export/runtime/test_answers.py",
    "export/test_constructors.py",
    "export/test_names.py",
    "tfkd/data/test_data.py",
    "tfkd/data/test_door.py",
    "tfkd/losses/test_adaptive.py",
    "tfkd/losses/test_outputs.py",
    "tfkd/losses/test_weighted.py",
    "tfkd/model/test_cost.py",
    "tfkd/model/test_feature_extractor.py",
    "tfkd/model/test_graph.py",
    "tfkd/model/test_metrics.py",
    "tfkd/quantization/test_table.py",
    "tfkd/test_escaping.py",
    "tfkd/test_files.py",
    "tfkd/test_tables.py",
    "tfkd/translation/test_translation_operations.py",
)

#: Files that take minutes. They run first: a last one would run beside an idle worker.
LONG = (
    "test_examples.py",
    "test_notebooks.py",
    "test_documented_code.py",
    "tfkd/compression/test_pipeline.py",
    "tfkd/distillation/test_several_machines.py",
    "tfkd/distillation/test_replicas.py",
    "tfkd/comparison/test_study.py",
)


def pytest_configure(config):
    """Keep pytest-xdist, if used, from sorting files by their number of tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Mark the fast tests, a minute in total, and run the long files first."""
    folder = pathlib.Path(__file__).parent
    files, long = ([folder / name for name in names] for names in (FAST, LONG))
    if missing := [str(file) for file in (*files, *long) if not file.exists()]:
        raise pytest.UsageError(f"tests/conftest.py names files that moved: {missing}")
    places = {file: place for place, file in enumerate(long)}
    items.sort(key=lambda item: places.get(item.path, len(long)))
    for item in items:
        if item.path in files and not {"student", "teacher", "qat"} & set(item.fixturenames):
            item.add_marker(pytest.mark.fast)


def seeded():
    """Reseed Python, NumPy, TensorFlow and both Keras flavours.

    It uses two seeds: with one, the same net in both flavours would get the same weights.
    """
    tf_keras.utils.set_random_seed(1)
    keras.utils.set_random_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    """Seed shared fixtures, so that they are equal whichever test uses them first."""
    if fixturedef.scope != "function":
        seeded()
    return (yield)


@pytest.fixture(autouse=True)
def _seeded():
    """Seed each test, so that it does not depend on the tests before."""
    seeded()


@pytest.fixture(params=["keras", "tf_keras"])
def package(request):
    """Both Keras flavours in turn."""
    return {"keras": keras, "tf_keras": tf_keras}[request.param]


@pytest.fixture(scope="session")
def digits():
    """The digits, split three ways."""
    return load_digits(seed=0)


@pytest.fixture(scope="session")
def teacher(digits):
    """A trained Keras 3 teacher; its test accuracy is above 95 %."""
    keras.utils.set_random_seed(1)
    model = cnn(keras, width=16, name="teacher")
    model.compile(keras.optimizers.Adam(5e-3), crossentropy(keras))
    model.fit(digits.train.x, digits.train.y, epochs=12, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="session")
def student(digits, teacher):
    """A distilled Keras 3 student."""
    keras.utils.set_random_seed(2)
    model = cnn(keras)
    distiller = Distiller(model, teacher, soft_loss="kl")
    distiller.compile(keras.optimizers.Adam(5e-3), crossentropy(keras))
    distiller.fit(digits.train.x, digits.train.y, epochs=12, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="session")
def qat(digits, teacher, student):
    """The student after quantization-aware training under the teacher."""
    tf_keras.utils.set_random_seed(3)
    model = quantize_aware(student)
    distiller = Distiller(model, teacher, soft_loss="kl")
    distiller.compile(tf_keras.optimizers.Adam(5e-4), crossentropy(tf_keras))
    distiller.fit(digits.train.x, digits.train.y, epochs=3, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="session")
def files(digits, student, qat):
    """The student in every format; `int8` from QAT, `int8_ptq` calibrated after training."""
    return {
        "float32": to_tflite(student, "float32"),
        "float16": to_tflite(student, "float16"),
        "dynamic": to_tflite(student, "dynamic"),
        "int8": to_tflite(qat, "int8"),
        "int8_ptq": to_tflite(student, "int8", digits.train.x[:200]),
    }


@pytest.fixture
def rng():
    """A seeded NumPy generator."""
    return np.random.default_rng(0)


@pytest.fixture
def batch(rng):
    """Thirty-two examples of four numbers, and class numbers out of three."""
    return rng.normal(size=(32, 4)).astype("float32"), rng.integers(0, 3, 32)
