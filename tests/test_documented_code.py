"""Every block of Python in the documentation runs: a page from top to bottom, in its own folder.

What a page takes as given (a student, a teacher, data) is prepared here, as small as it can be. The
README's snippet is run by `test_documentation.py`, as it is printed.
"""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from floors import ROOT

import tfkd
from tfkd.export import to_tflite
from tfkd.model import backends

PAGES = sorted((ROOT / "docs").rglob("*.md"))
#: A block of Python, and above it why it is not run.
BLOCK = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n)?```python\n(.*?)^```$", re.M | re.S)
#: What takes long is made shorter.
SHORTER = (
    (r"epochs=\d+", "epochs=1"),
    (r"seeds=\d+", "seeds=1"),
    (r"budget=20,", "budget=1,"),
    (r"steps=400", "steps=3"),
    (r"threads=\(1, 2\)", "threads=(1, 2), min_runs=2, min_seconds=0.01, processes=1"),
    (r'"/shared/', '"shared/'),
)
#: How many blocks may stay without a run. A new one needs a reason that a reader understands.
MOST_NOT_RUN = 8


def blocks(page):
    """Return a page's blocks with the reasons not to run them."""
    return [(code, reason) for reason, code in BLOCK.findall(page.read_text("utf-8"))]


def net(first, second):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            layers.Conv2D(16, 3, padding="same", activation="relu", name=first),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name=second),
            layers.Flatten(),
            layers.Dense(10, name="head"),
        ]
    )


@pytest.fixture(scope="module")
def given(digits):
    """What pages take as given."""
    parts = {
        name: tfkd.Samples(part.x[:96], part.y[:96])
        for name in ("train", "validation", "test")
        for part in [getattr(digits, name)]
    }
    data = tfkd.Data(**parts, name="digits")
    (x_train, y_train), (x_val, y_val) = [(p.x, p.y) for p in (data.train, data.validation)]
    keras.utils.set_random_seed(0)  # whatever ran before
    trained = net("block1_conv", "conv2")
    trained.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trained.fit(x_train, y_train, batch_size=16, epochs=10, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((x_train, y_train))
    return {
        "trained": trained.get_weights(),
        **{"data": data, "x_train": x_train, "y_train": y_train, "x": x_train, "y": y_train},
        **{"x_val": x_val, "y_val": y_val, "x_test": data.test.x, "y_test": data.test.y},
        **{"dataset": dataset.batch(32), "train_dataset": dataset.batch(32)},
        "validation_dataset": dataset.batch(32),
        **{"examples": dataset, "workers": 1, "index": 0, "batch_of_all_workers": 32, "steps": 3},
        "series": np.sin(np.arange(1200, dtype="float32")).reshape(400, 3),
        "activity": np.arange(400) % 3,
    }


@pytest.fixture
def scope(given, tmp_path, monkeypatch):
    """What pages take as given, with models and files that they may change."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    student, teacher = net("block1_conv", "conv2"), net("block1_conv", "block4")
    for model in (student, teacher):
        model.set_weights(given["trained"])
    teacher.save("teacher.keras")
    data = given["data"]
    arrays = {f"{k}_{p}": getattr(getattr(data, p), k) for k in "xy" for p in ("train", "test")}
    np.savez("digits.npz", **arrays)
    rows = [f"{i},{i % 7},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "plants.csv").write_text("\n".join(["height,width,species", *rows]))
    steps = [f"{i},{i % 24},{i % 168}" for i in range(800)]
    (tmp_path / "hourly.csv").write_text("\n".join(["hour,load,oil", *steps]))
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            keras.utils.save_img(
                tmp_path / "photos" / name / f"{i}.png", np.full((9, 9, 3), 20 * i)
            )
    np.save("features.npy", given["x_train"])
    np.save("labels.npy", given["y_train"])
    backends.tfmot()  # as tfkd imports it, which leaves the environment as it was
    return {
        **given,
        "student": student,
        "teacher": teacher,
        "keras_3_student": student,
        "tf_keras_student": tfkd.translate(student),
        "make_student": lambda: net("conv1", "conv2"),
        "answers": lambda images: np.zeros((len(images), 10), "float32"),  # a PyTorch model's
    }


RUN = [page for page in PAGES if any(not reason for _, reason in blocks(page))]


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")  # TensorFlow's converter
@pytest.mark.parametrize("page", RUN, ids=[page.relative_to(ROOT).as_posix() for page in RUN])
def test_the_python_of_a_page_runs(page, scope, request):
    if page.stem == "latency":
        scope["float32"] = to_tflite(scope["student"], "float32")
        scope["int8"] = to_tflite(scope["student"], "int8", scope["x_train"])
    for code, reason in blocks(page):
        if not reason:
            for pattern, instead in SHORTER:
                code = re.sub(pattern, instead, code)
            exec(compile(code, page.name, "exec"), scope)


def test_few_blocks_are_not_run():
    reasons = [reason for page in PAGES for _, reason in blocks(page) if reason]
    assert len(reasons) <= MOST_NOT_RUN
    said = sum(page.read_text("utf-8").count("<!-- not run") for page in PAGES)
    assert said == len(reasons), "a reason stands directly above its block"
