"""The teacher runs once per example, and its answers reach the example they belong to."""

import gc
import os
import textwrap
import weakref

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import crossentropy, dense, predicted

from tfkd import Distiller, TeacherBatch, cache_teacher, losses
from tfkd.distillation.cache import teacher_cache
from tfkd.distillation.cache.cache_teacher import cache_answers, names_of
from tfkd.distillation.cache.examples import Opened
from tfkd.distillation.teacher_outputs import (
    TeacherOutputs,
    TopK,
    decode,
    keep_top,
    key_of,
    parse,
    spread,
)
from tfkd.errors import InputError
from tfkd.model.examples import example_keys


class Counting:
    """A teacher that counts the examples it was asked about."""

    def __init__(self, model):
        self.model, self.count = model, 0

    def __call__(self, x):
        self.count += len(x)
        return predicted(self.model, x)


@pytest.fixture
def data(rng):
    return rng.normal(size=(50, 4)).astype("float32"), rng.integers(0, 3, 50)


def compiled(student, teacher, package, eagerly=True, **kwargs):
    """Return a distiller; answers are looked up before its step, traced or not."""
    distiller = Distiller(student, teacher, soft_loss="kl", **kwargs)
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package), run_eagerly=eagerly)
    return distiller


def soft(distiller, *args, **kwargs):
    return distiller.fit(*args, verbose=0, **kwargs).history["soft_loss"]


@pytest.mark.parametrize("form", ["arrays", "dataset", "shuffled"])
def test_once_per_example_and_the_same_loss(form, data, package):
    x, y = data
    keras.utils.set_random_seed(1)
    model = dense(keras)
    package.utils.set_random_seed(2)  # the same seed gives both Kerases the same weights
    teacher = Counting(model)
    plain = compiled(student := dense(package), model, package)
    cached = compiled(
        student, teacher, package, eagerly=form == "shuffled", teacher_from_logits=True
    )
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
    done = forked.start(script).wait(120)
    assert "On a single core, a callable teacher" in done.stdout, done.stderr
    assert done.stdout.strip().endswith("trained"), done.stderr


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_cache_for_several_runs(dtype, data, package):
    x, y = data
    teacher = dense(keras)
    cache = cache_teacher(x, teacher, dtype=dtype)
    assert cache.size == 50
    assert cache.bytes_per_example == 16 + 3 * (2 if dtype == "float16" else 4)
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
    assert cache.bytes_per_example == 16 + 10 * (4 + 2) + 4
    (got,), _ = decode(cache.attach(x).answers, [100])
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
    with pytest.raises(
        InputError, match="changes the examples from pass to pass.*augment after it"
    ):
        cache_teacher(dataset.map(noise), teacher)
    distiller = compiled(dense(package), teacher, package)
    with pytest.raises(InputError, match="changes the examples from pass to pass"):
        distiller.fit(dataset.map(noise), cache_teacher=True, verbose=0)
    cache = cache_teacher(dataset, teacher)
    late = cache.attach(dataset).map(lambda t, y: (TeacherBatch(noise(t.x, y)[0], t.answers), y))
    assert np.isfinite(soft(distiller, late)[0])
    # A cache of the clean data, given for noisy data, is found out in the first epoch.
    with pytest.raises(InputError, match="changes the examples from pass to pass"):
        distiller.fit(dataset.map(noise), cache_teacher=cache, verbose=0)
    with pytest.raises(InputError, match="no answers for some examples"):
        distiller.fit(x + 1, y, cache_teacher=cache, verbose=0)


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
    for k in (0, 3, 1.0, True):
        with pytest.raises(InputError, match="top_k must be at least 1 and less than the 3"):
            cache_teacher(x, teacher, top_k=k, task="categorical")
    with pytest.raises(InputError, match="task must be 'categorical', 'binary' or 'regression'"):
        cache_teacher(x, teacher, task="classes")
    with pytest.raises(InputError, match="shard_size must be a whole number of at least 1"):
        cache_teacher(x, teacher, shard_size=0)
    with pytest.raises(InputError, match="different numbers of examples: \\[49, 50\\]"):
        cache_teacher([x, x[1:]], teacher)
    with pytest.raises(InputError, match="can't be asked twice"):
        compiled(dense(package), teacher, package).fit(
            ((x, y) for _ in range(2)), cache_teacher=True, verbose=0
        )
    broken = dense(keras)
    broken.set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    with pytest.raises(InputError, match="not all finite"):
        cache_teacher(x, broken)


@pytest.mark.parametrize("how", ["True", "a cache", "attached", "no cache"])
def test_a_dataset_is_opened_once_more_than_by_keras(how, data, package):
    x, y = data
    opened = []

    def examples():
        opened.append(0)
        for one, label in zip(x, y, strict=True):
            opened[-1] += 1
            yield one, label

    specs = (tf.TensorSpec((4,)), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(examples, output_signature=specs).batch(10)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(5))
    teacher, cached = dense(keras), how == "True"
    if how in ("a cache", "attached"):
        cached = cache_teacher(x, teacher)
    if how == "attached":
        dataset, cached = cached.attach(dataset), False
    distiller = compiled(dense(package), None if how == "attached" else teacher, package)
    got = soft(distiller, dataset, epochs=2, cache_teacher=cached)
    assert len(opened) == 3 and opened[1:] == [50, 50]
    assert distiller.teacher_scores[0].count == 50
    other = compiled(distiller.student, teacher, package)
    assert got == pytest.approx(soft(other, x, y, batch_size=10, epochs=2), rel=5e-3)


def test_a_cache_is_freed_with_the_dataset_that_it_was_attached_to(data):
    x, y = data
    cache = cache_teacher(x, dense(keras))
    gone = weakref.ref(cache)
    dataset = cache.attach(tf.data.Dataset.from_tensor_slices((x, y)).batch(10))
    iterator = iter(dataset.map(lambda taught, y: (taught, y)).prefetch(1))
    del cache, dataset
    gc.collect()
    assert len(list(iterator)) == 5  # not while it is read
    del iterator
    gc.collect()
    assert gone() is None


def test_what_a_cache_holds_can_not_be_written_to(data):
    x, _ = data
    cache = cache_teacher(x, dense(keras))
    (answers,) = cache.attach(x).answers.values()
    with pytest.raises(ValueError, match="read-only"):
        answers *= 0


def test_what_is_looked_at_is_gone_through_too():
    read = []
    dataset = tf.data.Dataset.range(12).batch(2)
    dataset = dataset.map(
        lambda x: tf.numpy_function(lambda x: (read.append(1), x)[1], [x], x.dtype)
    )
    look = Opened(dataset, 5)
    firsts = [one.numpy().tolist() for one in look.first(2)]
    assert firsts == [[0, 1], [2, 3]]
    both = look.changed(lambda x: -x)
    assert np.concatenate(list(look)).tolist() == list(range(12)) and len(read) == 6
    # Three elements have five examples; no more are kept.
    assert np.concatenate(list(both.first(9))).tolist() == [0, -1, -2, -3, -4, -5]
    assert len(read) == 6 and list(look) and len(look._first) == 3


# -- The right answer for the right example


def answers_of(taught):
    """Return the first output, whatever it is called."""
    return np.asarray(decode(taught.answers, [None] * len(names_of(taught.answers)))[0][0])


@pytest.mark.parametrize(
    "x",
    [
        np.eye(1000, dtype="float32"),
        np.unique(np.random.default_rng(0).integers(0, 2, (600, 64)), axis=0).astype("float64"),
        np.arange(64000, dtype="int64").reshape(1000, 64) // 64,
    ],
    ids=["one-hot", "0/1 float64", "integers"],
)
def test_each_example_gets_its_own_answer(x):
    model = dense(keras, inputs=x.shape[1])
    cache = cache_teacher(x, model, dtype="float32")
    want = predicted(model, x)
    np.testing.assert_allclose(answers_of(cache.attach(x)), want, rtol=1e-4, atol=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices((x, want)).shuffle(1000).batch(77)
    for taught, answer in cache.attach(dataset):
        np.testing.assert_allclose(answers_of(taught), answer, rtol=1e-4, atol=1e-5)


def test_examples_with_one_key_are_found_and_never_answered_for_each_other(data, monkeypatch):
    x, _ = data

    def weak(x):
        return tf.stack([tf.zeros_like(keys := example_keys(x)[:, 1]), keys], 1)

    monkeypatch.setattr(teacher_cache, "keys_at_once", lambda x: weak(x).numpy())
    monkeypatch.setattr(teacher_cache, "example_keys", weak)
    with pytest.raises(InputError, match="Two different examples .* have the same 64-bit key"):
        cache_teacher(x, dense(keras))
    one = cache_teacher(x[:1], dense(keras))
    with pytest.raises(InputError, match="no answers for some examples"):
        one.attach(x[1:2])
    assert one.covers(x[:1]) and not one.covers(x[1:2])
    found = one.attach(tf.data.Dataset.from_tensor_slices(x).batch(1))
    assert len(list(found.take(1))) == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="no answers for some examples"):
        list(found)


def test_data_of_another_kind_is_refused_by_name(data):
    x, _ = data
    cache = cache_teacher(x, dense(keras))
    assert cache.signature == [["", "float32", [4]]]
    message = "made from float32 of shape .batch, 4., but this data is float64 of shape .batch, 4."
    double = x.astype("float64")
    for other in (double, tf.data.Dataset.from_tensor_slices(double).batch(5)):
        with pytest.raises(InputError, match=message):
            cache.attach(other)
    with pytest.raises(InputError, match="this data is image: float32"):
        cache.attach({"image": x})
    with pytest.raises(InputError, match="this data is float32 of shape .batch, 3."):
        cache.covers(x[:, :3]) or cache.attach(x[:, :3])


def net_of_two(package=keras, activation="softmax"):
    inputs = package.Input((4,))
    layer = package.layers.Dense
    return package.Model(
        inputs,
        [layer(6, activation, name="zebra")(inputs), layer(5, activation, name="ape")(inputs)],
    )


def test_a_cache_says_what_it_holds(data):
    x, _ = data
    cache = cache_teacher(x, net_of_two(), features=["ape"])
    assert cache.outputs == ["zebra", "ape"] and cache.shapes == [(None, 6), (None, 5)]
    assert cache.tasks == ["categorical"] * 2 and cache.features == ["ape"]
    assert cache.dtypes == {"zebra": "float16", "ape": "float16"}
    assert len(cache.teacher) == 64 and "50 examples, outputs zebra, ape" in repr(cache)
    assert cache_teacher(x, dense(keras)).tasks == [None]
    answers = cache.attach(x).answers
    assert list(answers) == ["0:zebra", "1:ape", "feature:ape"]
    ((taught, _),) = cache.attach(tf.data.Dataset.from_tensor_slices((x, x)).batch(50))
    assert names_of(taught.answers) == ["zebra", "ape"]  # tf.data sorts keys, not outputs


@pytest.mark.parametrize(
    "name", ["a:b", "0:x", "output1", "feature:q", "%3A", ":", "50%", "top", ""]
)
def test_names_may_hold_any_character(name):
    given = TeacherOutputs(["output0", name], [1, TopK(2, 3, 4)], {name: 5, "b/c": 6})
    answers = given.encode()
    assert len(answers) == 6
    assert TeacherOutputs.read(dict(sorted(answers.items()))) == given
    assert parse(key_of(3, name, "top")) == (3, name, "top")
    eleven = TeacherOutputs([f"h{i}" for i in range(11)], list(range(11))).encode()
    assert names_of(dict(sorted(eleven.items()))) == [f"h{i}" for i in range(11)]
    assert names_of(TeacherOutputs(["a", "b"], [None, 1]).encode()) == ["b"]


# -- How finely they are kept


def test_float16_where_it_is_fine_enough(rng):
    x = rng.normal(size=(300, 4)).astype("float32")
    model = dense(keras)

    def dtypes(**kwargs):
        return set(cache_teacher(x, model, **kwargs).dtypes.values())

    assert dtypes() == {"float16"} == dtypes(task="categorical")
    assert dtypes(task="regression") == {"float32"} == dtypes(dtype="float32")
    assert dtypes(task="regression", dtype="float16") == {"float16"}
    kernel = np.array(model.get_weights()[0])
    model.set_weights([kernel, np.array([0, 0, 1013.25])])  # one value of three is coarse
    assert dtypes() == {"float32"} and dtypes(dtype="float16") == {"float16"}
    model.set_weights([kernel * 1e5, np.zeros(3)])
    assert dtypes() == {"float32"} == dtypes(task="categorical")
    with pytest.raises(InputError, match="exceed 65,504.*dtype='float32'"):
        dtypes(dtype="float16")
    # The first shard is fine, the next is not: the whole is float32.
    part = cache_teacher(
        np.concatenate([x, x + 30000]), dense(keras, kernel_initializer="ones"), shard_size=300
    )
    want = np.concatenate([x, x + 30000]).sum(1)
    assert part.dtypes == {"d": "float32"}
    found = answers_of(part.attach(np.concatenate([x, x + 30000])))[:, 0]
    np.testing.assert_allclose(found, want, rtol=2e-3, atol=2e-3)


def test_cached_regression_is_exact(data, package):
    x, _ = data
    model = dense(keras, units=1)
    model.layers[0].bias.assign([1013.25])
    student = dense(package, units=1)
    student.set_weights([model.get_weights()[0], np.array([1013.26])])
    distiller = Distiller(student, model, alpha=0.0, soft_loss="mse")
    distiller.compile(package.optimizers.SGD(0.0), "mse", run_eagerly=True)
    target = predicted(model, x)
    assert soft(distiller, x, target, cache_teacher=True)[0] == pytest.approx(1e-4, rel=0.05)


# -- The largest k


def test_the_largest_k_are_for_softmax_only(data):
    x, _ = data
    for teacher, task, kind in [
        (dense(keras, 6, "sigmoid"), None, "binary"),
        (dense(keras, 6), "binary", "binary"),
        (dense(keras, 6), "regression", "regression"),
        (dense(keras, 6), None, "unknown"),
    ]:
        with pytest.raises(InputError, match=f"this teacher's are: {kind}.*task='categorical'"):
            cache_teacher(x, teacher, top_k=3, task=task)
    cache = cache_teacher(x, net_of_two(), top_k=4, dtype="float16")
    assert cache.bytes_per_example == 16 + 2 * (4 * 4 + 2)


@pytest.mark.parametrize("shape", [(7, 30), (3, 5, 30), (2, 3, 4, 30), (1, 70000)])
def test_spreading_the_largest_k(rng, shape):
    logits = rng.normal(size=shape).astype("float32") * 3
    kept = keep_top(tf.constant(logits), 4)
    found = spread(kept, shape[-1]).numpy()
    want = tf.nn.log_softmax(logits).numpy()
    largest = want >= np.sort(want, -1)[..., -4:-3]
    np.testing.assert_allclose(found[largest], want[largest], atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, rtol=1e-4)
    rest = found[~largest].reshape(*shape[:-1], -1)
    assert np.ptp(rest, -1).max() < 1e-5
    np.testing.assert_array_equal(tf.function(spread)(kept, shape[-1]), found)


# -- All kinds of data


def sequence(package, x, y):
    base = package.utils.PyDataset if package is keras else package.utils.Sequence

    class Batches(base):
        epochs = 0

        def __len__(self):
            return 5

        def __getitem__(self, i):
            return x[i * 10 : i * 10 + 10], y[i * 10 : i * 10 + 10]

        def on_epoch_end(self):
            self.epochs += 1

    return Batches()


def test_sequences_of_either_keras(data, package):
    x, y = data
    given = sequence(package, x, y)
    teacher = Counting(dense(keras))
    cache = cache_teacher(given, teacher.model)
    assert cache.size == 50
    attached = cache.attach(given)
    assert isinstance(attached, type(given).__mro__[1]) and len(attached) == 5
    np.testing.assert_allclose(
        answers_of(attached[2][0]), predicted(teacher.model, x[20:30]), atol=2e-3
    )
    distiller = compiled(dense(package), teacher, package, teacher_from_logits=True)
    want = soft(compiled(distiller.student, teacher.model, package), x, y, batch_size=10, epochs=2)
    got = soft(distiller, given, cache_teacher=True, epochs=2)
    assert got == pytest.approx(want, rel=2e-3) and teacher.count == 50
    assert given.epochs >= 1
    with pytest.raises(InputError, match="changes the examples from pass to pass"):
        cache.attach(sequence(package, x + 1, y))[0]


def test_padded_batches_keep_their_own_lengths(rng, package):
    x = rng.random((12, 9, 3)).astype("float32")
    lengths = rng.integers(1, 10, 12)

    def examples_of():
        return ((x[i, : lengths[i]], i) for i in range(12))

    specs = (tf.TensorSpec((None, 3)), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(examples_of, output_signature=specs)
    dataset = dataset.padded_batch(5, ((None, 3), ()))
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.SimpleRNN(4, return_sequences=True), layers.Dense(6)]
    )
    for settings in ({}, {"top_k": 5, "task": "categorical"}):
        cache = cache_teacher(dataset, model, dtype="float32", **settings)
        assert cache.shapes == [(None, None, 6)] and cache.signature == [["", "float32", [None, 3]]]
        attached = cache.attach(dataset.shuffle(5))
        for taught, _ in attached:
            want = tf.nn.log_softmax(model(taught.x)).numpy()
            (found,), _ = decode(taught.answers, [6])
            assert found.shape == want.shape
            np.testing.assert_allclose(tf.nn.log_softmax(found), want, atol=1e-4)
        (first, _), *_ = list(dataset)
        assert cache.covers(first) and decode(cache.attach(first).answers, [6])[0][0].shape[1] < 10
    with pytest.raises(InputError, match="no answers for some examples"):
        cache.attach(x[:, :9])  # of lengths that no batch had


@pytest.mark.parametrize("form", ["arrays", "dataset", "sequence"])
def test_attached_answers_are_checked_for_features_and_scored(form, data, package):
    x, y = data
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
    forms = {"arrays": (x, y), "dataset": (dataset,), "sequence": (sequence(package, x, y),)}
    given, *labels = forms[form]
    held = cache_teacher(x, dense(keras, activation="softmax"))

    def fitted(distiller, cache, **kwargs):
        distiller.fit(cache.attach(given), *labels, verbose=0, **kwargs)

    with pytest.raises(InputError, match="no features of 'd'"):
        fitted(compiled(dense(package), None, package, features=[losses.Hint("d", "d")]), held)
    # The answers of a function need not be those of the distiller's teacher: they are scored.
    true = {row.tobytes(): label for row, label in zip(x, y, strict=True)}

    def knows(x):
        return [np.eye(3, dtype="float32")[[true[row.tobytes()] for row in np.asarray(x)]]], {}

    distiller = compiled(dense(package), dense(keras), package)
    known = cache_answers(x, knows, False, ["categorical"], [(None, 3)])
    fitted(distiller, known, validation_data=(x, y))
    assert distiller.teacher_scores[0].value == 1.0


def test_a_cache_of_a_distiller_knows_its_teacher(data, package):
    x, y = data
    teacher = dense(keras)
    distiller = compiled(dense(package), teacher, package)
    held = distiller.cache_teacher(x)
    assert held.teacher == cache_teacher(x, teacher).teacher
    assert np.isfinite(soft(distiller, x, y, cache_teacher=held)[0])
    teacher.set_weights([2 * weight for weight in teacher.get_weights()])
    with pytest.raises(InputError, match="of the same teacher before it changed"):
        distiller.fit(x, y, cache_teacher=held, verbose=0)
    counting = compiled(dense(package), Counting(teacher), package, teacher_from_logits=True)
    held = counting.cache_teacher(x)  # it changes with every call
    assert held.teacher is None and np.isfinite(soft(counting, x, y, cache_teacher=held)[0])


def test_teacher_inputs_are_applied(data):
    x, _ = data
    model = dense(keras, inputs=2)
    cache = cache_teacher(x, model, teacher_inputs=lambda batch: batch[:, :2], dtype="float32")
    want = predicted(model, x[:, :2])
    np.testing.assert_allclose(answers_of(cache.attach(x)), want, atol=1e-6)
    other = cache_teacher(x, model, teacher_inputs=lambda batch: batch[:, 2:])
    assert other.teacher != cache.teacher


def test_the_time_does_not_grow_with_the_square(rng):
    import time

    def ask(x):
        return [x], {}

    seconds = []
    for rows in (40_000, 320_000):
        x = rng.normal(size=(rows, 2)).astype("float32")
        start = time.process_time()
        cache_answers(x, ask, False, ["regression"], [(None, 2)])
        seconds.append(time.process_time() - start)
    assert seconds[1] < 24 * seconds[0]  # 8 times the work; the square is 64 times
