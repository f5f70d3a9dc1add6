"""The teacher runs once per example, and its answers reach the example they belong to."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import crossentropy, dense

from tfkd import Distiller, Taught, cache_teacher, losses
from tfkd.errors import InputError


class Counting:
    """A teacher that counts the examples it was asked about."""

    def __init__(self, model):
        self.model, self.count = model, 0

    def __call__(self, x):
        self.count += len(x)
        return self.model.predict(x, verbose=0)


@pytest.fixture
def data(rng):
    return rng.normal(size=(50, 4)).astype("float32"), rng.integers(0, 3, 50)


def compiled(student, teacher, package, **kwargs):
    distiller = Distiller(student, teacher, **kwargs)
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package))
    return distiller


def soft(distiller, *args, **kwargs):
    return distiller.fit(*args, verbose=0, **kwargs).history["soft_loss"]


@pytest.mark.parametrize("form", ["arrays", "dataset", "shuffled"])
def test_once_per_example_and_the_same_loss(form, data, package):
    x, y = data
    model = dense(keras)
    teacher = Counting(model)
    plain = compiled(student := dense(package), model, package)
    cached = compiled(student, teacher, package, teacher_from_logits=True)
    arguments = (x, y)
    if form != "arrays":
        dataset = tf.data.Dataset.from_tensor_slices((x, y))
        dataset = (
            dataset.shuffle(50, reshuffle_each_iteration=True) if form == "shuffled" else dataset
        )
        arguments = (dataset.batch(10),)
    kwargs = {"batch_size": 10} if form == "arrays" else {}
    want = soft(plain, *arguments, epochs=3, **kwargs)
    got = soft(cached, *arguments, epochs=3, cache_teacher=True, **kwargs)
    assert got == pytest.approx(want, rel=2e-3)  # float16
    assert teacher.count == 50


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can't be chosen")
def test_a_callable_that_runs_tensorflow_does_not_hang_on_one_core(tmp_path):
    script = textwrap.dedent("""
        import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import keras, numpy as np, tfkd
        def dense():
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model = dense()
        teacher = lambda x: model.predict(x, verbose=0)
        distiller = tfkd.Distiller(dense(), teacher, teacher_from_logits=True)
        distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        data = np.ones((8, 4), "float32"), np.zeros(8, int)
        try:
            distiller.fit(*data, verbose=0)
        except tfkd.InputError as error:
            print(error)
        distiller.fit(*data, cache_teacher=True, verbose=0)
        print("trained")
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert "On a single core a callable teacher" in done.stdout, done.stderr
    assert done.stdout.strip().endswith("trained"), done.stderr


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_cache_for_several_runs(dtype, data, package):
    x, y = data
    teacher = dense(keras)
    cache = cache_teacher(x, teacher, dtype=dtype)
    assert cache.size == 50
    assert cache.bytes_per_example == 8 + 3 * (2 if dtype == "float16" else 4)
    distiller = compiled(dense(package), teacher, package)
    want = soft(distiller, x, y, batch_size=50)
    tolerance = 5e-3 if dtype == "float16" else 1e-5
    assert soft(distiller, x, y, batch_size=50, cache_teacher=cache) == pytest.approx(
        want, rel=tolerance
    )
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(50).batch(7)
    got = soft(distiller, dataset, cache_teacher=cache)
    assert got == pytest.approx(soft(distiller, dataset), rel=tolerance)


def test_probabilities_are_kept_as_logits(data, package):
    x, y = data
    teacher = dense(keras, activation="softmax")
    distiller = compiled(dense(package), teacher, package)
    want = soft(distiller, x, y, batch_size=50)
    cache = cache_teacher(x, teacher, dtype="float32")
    got = soft(distiller, x, y, batch_size=50, cache_teacher=cache)
    assert got == pytest.approx(want, rel=1e-4)


def test_features_are_kept_too(data, package):
    x, y = data
    teacher = dense(keras)
    distiller = compiled(dense(package), teacher, package, features=[losses.Hint("d", "d")])
    want = soft(distiller, x, y, batch_size=50)
    assert soft(distiller, x, y, batch_size=50, cache_teacher=True) == pytest.approx(want, rel=5e-3)
    cache = cache_teacher(x, teacher, dtype="float32", features=["d"])
    got = soft(distiller, x, y, batch_size=50, cache_teacher=cache)
    assert got == pytest.approx(want, rel=1e-5)


def test_the_largest_k_and_the_mass_of_the_rest(rng):
    x = rng.normal(size=(40, 4)).astype("float32")
    teacher = dense(keras, units=100)
    cache = cache_teacher(x, teacher, top_k=10, dtype="float32", task="categorical")
    assert cache.bytes_per_example == 8 + 10 * (4 + 2) + 4
    from tfkd.cache import decode

    (got,), _ = decode(cache.attach(x).answers, 1, [(None, 100)])
    want = tf.nn.log_softmax(teacher(x)).numpy()
    got = got.numpy()
    np.testing.assert_allclose(np.exp(got).sum(-1), 1, rtol=1e-4)
    top = np.argsort(want, -1)[:, -10:]
    np.testing.assert_allclose(
        np.take_along_axis(got, top, -1), np.take_along_axis(want, top, -1), rtol=1e-4, atol=1e-4
    )
    rest = np.sort(got, -1)[:, :90]
    assert np.ptp(rest, axis=-1).max() < 1e-5  # spread evenly


def test_augmenting_before_the_cache_is_refused_and_after_it_works(data, package):
    x, y = data
    teacher = dense(keras)

    def noise(x, y):
        # Not tf.random: with a global seed set, that repeats itself from pass to pass.
        random = np.random.default_rng().normal
        added = tf.numpy_function(lambda a: random(size=a.shape).astype("float32"), [x], tf.float32)
        return x + tf.ensure_shape(added, x.shape), y

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
    with pytest.raises(InputError, match="changes them from pass to pass.*augment after it"):
        cache_teacher(dataset.map(noise), teacher)
    distiller = compiled(dense(package), teacher, package)
    with pytest.raises(InputError, match="changes them from pass to pass"):
        distiller.fit(dataset.map(noise), cache_teacher=True, verbose=0)
    cache = cache_teacher(dataset, teacher)
    late = cache.attach(dataset).map(lambda t, y: (Taught(noise(t.x, y)[0], t.answers), y))
    assert np.isfinite(soft(distiller, late)[0])
    # A cache of the clean data, given for noisy data, is found out in the first epoch.
    with pytest.raises(InputError, match="changes them from pass to pass"):
        distiller.fit(dataset.map(noise), cache_teacher=cache, verbose=0)
    with pytest.raises(InputError, match="never asked about some examples"):
        distiller.fit(x + 1, y, cache_teacher=cache, verbose=0)


def test_on_disk_and_again_without_the_teacher_running(data, tmp_path):
    x, _ = data
    teacher = dense(keras)
    first = cache_teacher(x, teacher, tmp_path / "c")
    seen = []
    again = cache_teacher(x, teacher, tmp_path / "c", progress=seen.append)
    assert seen == []  # read, not asked
    for name, array in first._arrays.items():
        np.testing.assert_array_equal(array, again._arrays[name])
    assert json.loads((tmp_path / "c" / "manifest.json").read_text())["complete"]


def test_a_stale_cache_is_refused(data, tmp_path):
    x, _ = data
    teacher = dense(keras)
    cache_teacher(x, teacher, tmp_path / "c")
    with pytest.raises(InputError, match="made with another teacher"):
        cache_teacher(x, dense(keras), tmp_path / "c")
    with pytest.raises(InputError, match="of other data"):
        cache_teacher(x + 1, teacher, tmp_path / "c")
    with pytest.raises(InputError, match="of other data"):
        cache_teacher(x[:20], teacher, tmp_path / "c")
    with pytest.raises(InputError, match="made with another dtype"):
        cache_teacher(x, teacher, tmp_path / "c", dtype="float32")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    with pytest.raises(InputError, match="holds no cache"):
        cache_teacher(x, teacher, tmp_path / "mine")


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    script = textwrap.dedent("""
        import sys, os, keras, numpy as np
        from tfkd import cache_teacher
        keras.utils.set_random_seed(0)
        teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        x = np.random.default_rng(0).normal(size=(20000, 4)).astype("float32")
        def progress(done):
            if done >= int(sys.argv[2]):
                os.kill(os.getpid(), 9)
        cache = cache_teacher(x, teacher, sys.argv[1], progress=progress)
        print(cache.size, np.abs(cache.attach(x).answers["output0"] - teacher(x)).max() < 0.01)
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "c")]
    killed = subprocess.run([*command, "10000"], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    shards = sorted(os.listdir(tmp_path / "c"))
    assert "shard-00001.npz" in shards
    stamp = os.stat(tmp_path / "c" / "shard-00000.npz").st_mtime_ns
    done = subprocess.run([*command, "1000000"], capture_output=True, text=True)
    assert done.stdout.split() == ["20000", "True"], done.stderr
    assert os.stat(tmp_path / "c" / "shard-00000.npz").st_mtime_ns == stamp


def test_bad_input(data, package):
    x, y = data
    teacher = dense(keras)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(10)
    with pytest.raises(InputError, match="infinite; cache it before"):
        cache_teacher(dataset.repeat(), teacher)
    with pytest.raises(InputError, match="no examples"):
        cache_teacher(x[:0], teacher)
    with pytest.raises(InputError, match="dtype must be"):
        cache_teacher(x, teacher, dtype="int8")
    with pytest.raises(InputError, match="top_k must be at least 1 and less than the 3"):
        cache_teacher(x, teacher, top_k=3)
    with pytest.raises(InputError, match="can't be asked twice"):
        compiled(dense(package), teacher, package).fit(
            ((x, y) for _ in range(2)), cache_teacher=True, verbose=0
        )
    broken = dense(keras)
    broken.set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    with pytest.raises(InputError, match="not all finite"):
        cache_teacher(x, broken)


def test_keys_tell_examples_apart_and_repeat():
    from tfkd.cache import _keys_of

    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (4000, 8, 8, 1)).astype("uint8")
    unique = len(np.unique(x.reshape(4000, -1), axis=0))
    keys = np.asarray(_keys_of(x))
    assert len(np.unique(keys)) == unique
    np.testing.assert_array_equal(keys[:7], _keys_of(x[:7]))
    graph = tf.function(_keys_of)(tf.constant(x[:7]))
    np.testing.assert_array_equal(keys[:7], graph)
    changed = x[:1].copy()
    changed[0, 3, 3, 0] ^= 1
    assert np.asarray(_keys_of(changed))[0] != keys[0]
    parts = {"a": x[:3], "b": np.array(["u", "v", "w"])}
    assert len(np.unique(_keys_of(parts))) == 3
