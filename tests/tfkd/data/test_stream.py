"""`Stream`s are read anew for each pass, never held, and usable in every stage like arrays."""

import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import dense

import tfkd
from tfkd.compression.trainer import Trainer
from tfkd.data import Data, Samples, Stream, as_data, representative
from tfkd.data.images import ImageFiles
from tfkd.errors import InputError
from tfkd.export import to_tflite, verify
from tfkd.model.fingerprint import changes, contents

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 3))).argmax(-1)


def dataset(x=X, y=Y, batch=7):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


class Sequence(keras.utils.PyDataset):
    """Batches of 7 by number."""

    passes = 0

    def __len__(self):
        return 13

    def __getitem__(self, i):
        return X[i * 7 : i * 7 + 7], Y[i * 7 : i * 7 + 7]

    def on_epoch_end(self):
        self.passes += 1


def generator():
    yield from ((X[i : i + 7], Y[i : i + 7]) for i in range(0, 90, 7))


SOURCES = {"dataset": dataset, "sequence": Sequence, "function": lambda: generator}


@pytest.fixture(params=SOURCES)
def stream(request):
    return Stream(SOURCES[request.param]())


def test_a_stream_is_its_examples_in_batches_of_any_size(stream):
    assert len(stream) == 90 and stream.shape == (None, 4) and not stream.in_memory
    for size in (1, 7, 32, 200):
        batches = list(stream.batches(size))
        assert [len(one) for one in batches[:-1]] == [size] * (len(batches) - 1)
        np.testing.assert_array_equal(np.concatenate([one.x for one in batches]), X)
        np.testing.assert_array_equal(np.concatenate([one.y for one in batches]), Y)
    np.testing.assert_array_equal(stream.head(10).x, X[:10])
    with pytest.raises(InputError, match=r"has no arrays x and y: use its batches"):
        _ = stream.x
    (x, _), *_ = stream.dataset(16, augment=lambda x: -x)
    np.testing.assert_array_equal(x, -X[:16])


def test_labels_of_several_outputs_are_kept_by_name():
    """Whatever the stream is made of; "b" is named first, and TensorFlow sorts."""
    labels = {"b": Y, "a": X[:, :2]}

    def batches():
        for i in range(0, 90, 7):
            yield X[i : i + 7], {name: values[i : i + 7] for name, values in labels.items()}

    for source in (batches, dataset(X, labels)):
        for stream in (Stream(source), Stream(source, examples=50)):
            n = len(stream)
            assert set(stream.outputs) == {"a", "b"} and n in (50, 90)
            found = [one.y for one in stream.batches(32)]
            for name, values in labels.items():
                np.testing.assert_array_equal(
                    np.concatenate([one[name] for one in found]), values[:n]
                )
                assert stream.labels[name].max() == values[:n].max()
            drawn = stream.drawn(40, seed=3)
            rows = [int(np.flatnonzero((x == X).all(1))[0]) for x in drawn.x]
            assert len(set(rows)) == 40 and rows != sorted(rows)
            np.testing.assert_array_equal(drawn.y["b"], Y[rows])
            np.testing.assert_array_equal(drawn.y["a"], X[rows, :2])


def test_weights_are_part_of_what_a_stream_holds():
    """Else `compress` would reuse a training with other weights."""

    def found(weights=None):
        arrays = (X, Y) if weights is None else (X, Y, weights)
        return contents(Stream(tf.data.Dataset.from_tensor_slices(arrays).batch(7)))

    with pytest.raises(InputError, match="ended after 90 examples, but examples= says 100"):
        contents(Stream(dataset(), examples=100))
    ones, others = np.ones(90, "float32"), np.linspace(0.1, 2, 90, dtype="float32")
    several = [found(), found(ones), found(others)]
    assert all(a != b for a, b in itertools.combinations(several, 2))
    assert found() == contents(Stream(dataset(batch=30))) and found(others) == several[2]


def test_another_order_is_no_other_example():
    def noisy():
        for x, y in generator():
            yield x + RNG.normal(size=x.shape).astype("float32"), y

    class Rolled(Sequence):
        """Other examples after the end of an epoch."""

        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x + self.passes, y

    shuffled = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(90).batch(7)
    for source in (dataset(), Sequence(), generator, shuffled):
        assert not changes(Stream(source))
    assert not changes(Samples(X, Y))
    for source in (noisy, Rolled()):
        assert changes(Stream(source))


def test_a_number_of_examples_cuts_each_pass():
    endless = Stream(dataset().repeat(), examples=100)
    assert len(endless) == 100
    rows = np.concatenate([one.x for one in endless.batches(32)])
    np.testing.assert_array_equal(rows, np.concatenate([X, X])[:100])
    np.testing.assert_array_equal(endless.labels[:90], Y)
    with pytest.raises(InputError, match="ended after 90 examples, but examples= says 95"):
        list(Stream(dataset(), examples=95).batches(32))


def test_what_a_source_says_is_not_counted():
    counted = []

    def noted(x, y):
        counted.append(1)
        return x, y

    source = dataset(X[:84], Y[:84]).map(
        lambda x, y: tf.numpy_function(noted, [x, y], [x.dtype, y.dtype])
    )
    source = source.map(lambda x, y: (tf.ensure_shape(x, (7, 4)), tf.ensure_shape(y, (7,))))
    stream = Stream(source)
    counted.clear()
    assert len(stream) == 84
    assert len(counted) <= 14, "no more than the labels that are looked at"


def test_labels_show_the_largest_class_wherever_it_is():
    y = np.zeros(5000, int)
    y[[3000, 4000]] = -1, 9
    stream = Stream(dataset(np.zeros((5000, 1), "float32"), y))
    assert stream.labels.min() == -1 and stream.labels.max() == 9 and len(stream.labels) < 1100


def test_the_examples_drawn_are_random_and_even_over_classes():
    y = np.repeat([0, 1, 2], [900, 60, 40])
    x = np.arange(1000, dtype="float32")[:, None]
    stream = Stream(dataset(x, y))
    rows = representative(stream, 90).ravel().astype(int)
    assert len(set(rows)) == 90 and np.bincount(y[rows]).tolist() == [30, 30, 30]
    assert rows[y[rows] == 0].mean() == pytest.approx(450, abs=150)
    everything = representative(stream, 5000)
    assert sorted(everything.ravel()) == list(range(1000))
    drawn = np.concatenate([stream.drawn(50, seed).x.ravel() for seed in range(40)])
    assert drawn.mean() == pytest.approx(499.5, abs=4 * 289 / np.sqrt(2000))
    assert len(np.unique(stream.drawn(50, 1).x)) == 50


def net(seed=0):
    keras.utils.set_random_seed(seed)
    return dense(keras, 3)


@pytest.fixture
def both():
    """The same data as arrays and as streams."""
    arrays = tfkd.split(X, Y)
    parts = {name: dataset(part.x, part.y) for name, part in arrays.parts.items()}
    return arrays, as_data(parts)


@pytest.mark.parametrize("weights", [None, {0: 1.0, 1: 2.0, 2: 0.5}])
def test_training_on_a_stream_is_training_on_arrays_in_its_order(both, weights):
    arrays, streams = (as_data(one, class_weight=weights) for one in both)
    training = tfkd.Training(epochs=2, learning_rate=1e-2, batch_size=8)
    on_stream, plain = net(), net()
    Trainer(streams, training).fit("student", on_stream)
    trainer = Trainer(arrays, training)
    trainer.compile(plain, plain, 14)
    how = {} if weights is None else {"class_weight": weights}
    plain.fit(
        arrays.train.x, arrays.train.y, batch_size=8, epochs=2, shuffle=False, verbose=0, **how
    )
    for ours, theirs in zip(on_stream.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_augmented_arrays_are_shuffled_as_a_buffer_of_all_would(both):
    arrays, seen = both[0], []
    training = tfkd.Training(
        epochs=2, learning_rate=1e-3, batch_size=8, seed=3, augment=lambda x: x
    )
    keras.utils.set_random_seed(3)
    whole = tf.data.Dataset.from_tensor_slices((arrays.train.x, arrays.train.y))
    want = [x.numpy() for x, _ in whole.shuffle(54, seed=3).batch(8)]
    keras.utils.set_random_seed(3)
    seen = [x.numpy() for x, _ in Trainer(arrays, training)._batches(None, training)["x"]]
    for ours, theirs in zip(seen, want, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_is_verified_on_a_stream_as_on_arrays(both, monkeypatch):
    from tfkd.export.verification import verify as module

    monkeypatch.setattr(module, "_MOST", 8)
    model, (arrays, streams) = net(), both
    file = to_tflite(model, "float16")
    want = verify(file, model, arrays.test.x, arrays.test.y)
    for given in (streams, streams.test, dataset(arrays.test.x, arrays.test.y), arrays):
        found = verify(file, model, given)
        assert found.samples == 18 and found.argmax_agreement == want.argmax_agreement
        assert found.metrics == pytest.approx(want.metrics)
        assert found.model_metrics == pytest.approx(want.model_metrics)
        assert found.max_abs_diff == pytest.approx(want.max_abs_diff, abs=1e-6)
        assert found.outputs[0].relative_diff == pytest.approx(want.outputs[0].relative_diff, 1e-2)
    with pytest.raises(InputError, match="contains its labels"):
        verify(file, model, streams.test, arrays.test.y)


def test_an_int8_file_is_calibrated_on_all_of_a_stream(monkeypatch):
    far = np.where(np.arange(900)[:, None] >= 800, 50.0, 1.0) * RNG.normal(size=(900, 4))
    stream = Stream(dataset(far.astype("float32"), (np.arange(900) >= 800).astype(int)))
    file = to_tflite(net(), "int8", stream)
    assert file.inputs[0].scale > 0.2, "the last examples have the widest range"


@pytest.mark.slow
def test_compress_takes_streams(both, tmp_path):
    arrays, streams = both
    teacher = net(1)
    Trainer(arrays, tfkd.Training(epochs=20, learning_rate=1e-2)).fit("teacher", teacher)
    recipe = tfkd.Recipe(epochs=1, qat_epochs=1, batch_size=8)
    made = tfkd.compress(teacher, streams, student=net(2), out=tmp_path / "s", recipe=recipe)
    assert made.report.data["train"] == 54 and made.report.data["test"] == 18
    by_name = {entry.name: entry for entry in made.report.models}
    right = (teacher.predict(arrays.test.x, verbose=0).argmax(-1) == arrays.test.y).mean()
    assert by_name["teacher"].metrics["accuracy"] == pytest.approx(right)
    assert made.report.teaching["examples"] == 18


@pytest.mark.slow
def test_spiral_and_compare_take_streams(both, tmp_path):
    _, streams = both
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    how = {"epochs": 1, "format": None, "criterion": "taylor", "folder": tmp_path / "spiral"}
    small = tfkd.spiral(model, streams, target={"macs": 0.5}, **how)
    assert small.final.macs <= small.original.macs / 2
    again = tfkd.spiral(model, streams, target={"macs": 0.5}, **how)
    assert again.to_json() == small.to_json()
    how = {"seeds": 1, "budget": 1, "teacher_from_logits": True}
    methods = ["kl", "label_smoothing"]
    found = tfkd.compare(model, net(1), streams, methods=methods, folder=tmp_path / "c", **how)
    assert [one.name for one in found.methods] == ["alone", "kl", "label_smoothing"]
    assert "data.train.dataset(32, seed=0)" in found.call
    with pytest.raises(InputError, match="an answer for each row of training arrays"):
        tfkd.compare(model, np.zeros((54, 3), "float32"), streams, methods=["kl"], **how)


@pytest.mark.slow
def test_a_part_that_augments_itself_is_taught_in_every_step(both, tmp_path):
    """A cache had no answers for the second pass, after the student alone was trained."""
    arrays, _ = both

    def noisy():
        for batch in arrays.train.batches(8):
            noise = RNG.normal(scale=0.1, size=batch.x.shape).astype("float32")
            yield batch.x + noise, batch.y

    parts = {"train": Stream(noisy), "validation": arrays.validation, "test": arrays.test}
    data, teacher = as_data(parts), net(1)

    def told(function, *args, **kwargs):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = function(*args, **kwargs)
        said = "The training part yields other examples in each pass: the teacher runs in every"
        assert sum(str(one.message).startswith(said) for one in caught) == 1
        return result

    recipe = tfkd.Recipe(epochs=2, batch_size=8, formats=("float32",))
    how = {"student": net(2), "out": tmp_path / "s", "recipe": recipe}
    assert set(told(tfkd.compress, teacher, data, **how).files) == {"float32"}
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    how = {"target": {"macs": 0.5}, "epochs": 2, "format": None}
    assert told(tfkd.spiral, model, data, **how).rounds
    how = {"methods": ["kl"], "seeds": 1, "budget": 2, "teacher_from_logits": True}
    found = told(tfkd.compare, model, teacher, data, **how)
    assert not found.left_out and "cache_teacher" not in found.call


@pytest.mark.slow
def test_images_on_disk_go_the_whole_way(tmp_path):
    for name, level in (("dark", 20), ("light", 220)):
        (tmp_path / "d" / name).mkdir(parents=True)
        for i in range(15):
            image = np.full((4, 4, 1), level + i, "uint8")
            keras.utils.save_img(tmp_path / "d" / name / f"{i}.png", image, scale=False)
    keras.utils.set_random_seed(0)

    def model():
        layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
        return keras.Sequential([keras.Input((4, 4, 1)), *layers])

    recipe = tfkd.Recipe(epochs=1, qat_epochs=1, batch_size=8)
    out = tmp_path / "out"
    made = tfkd.compress(model(), tmp_path / "d", student=model(), out=out, recipe=recipe)
    counts = {"train": 18, "validation": 6, "test": 6}
    assert made.report.data == {"name": "d", **counts, "class_names": ["dark", "light"]}


def odd():
    yield X[:7], Y[:7]
    yield X[:7, :3], Y[:7]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (generator(), "A generator is used up after one pass, and several are needed: give the"),
        (dataset().repeat(), "The tf.data.Dataset is endless: say how many examples"),
        (dataset().unbatch(), r"yields single examples, not batches: give dataset.batch\(32\)"),
        (dataset().map(lambda x, y: x), "yields x without labels"),
        (dataset().map(lambda x, y: {"a": x}), "yields dicts of a"),
        (dataset().map(lambda x, y: ((x, x), y)), "with several arrays each"),
        (dataset(Y.astype("U"), Y), "x of the stream has dtype object"),
        (dataset(X, Y * np.nan), "y of the stream holds NaN"),
        (dataset(X, {"a": Y, "b": Y * np.nan}), r"y\['b'\] of the stream holds NaN"),
        (dataset(X, {"a": Y}), "y names one output, 'a': give its array without"),
        (dataset(X, {"a": Y, "b": {"c": Y}}), "for several outputs, y is a dict"),
        (dataset().map(lambda x, y: (x, (y, y))), "for several outputs, y is a dict"),
        (dataset().map(lambda x, y: (x, y[:2])), "with different numbers of examples"),
        (dataset().take(0), "The stream is empty"),
        (lambda: iter(()), "The stream is empty, or was used up"),
        (lambda: [({"a": X}, Y)], r"x as a dict of 'a', but a stream has one input"),
        (lambda: [(X[:2], (Y[:2], Y[2:4]))], "labels as a tuple of arrays: give one array, or"),
        (dataset(np.where(X[5, 2] == X, np.inf, X)), "x of the stream holds NaN .* in example 5,"),
        (lambda: [(X * np.nan, Y)], "x of the stream holds NaN"),
        (lambda: [(X, {"a": Y, "b": Y}, {"a": Y, "b": Y})], "weights as a dict of 'a', 'b': give"),
        (tf.data.Dataset.from_tensors((X, Y, {"a": Y})), "weights as a dict of 'a': give one arr"),
        (lambda: [X], r"The stream yields x without labels \(ndarray\)"),
        (X, "A stream can't be made from ndarray"),
    ],
)  # fmt: skip
def test_what_is_no_stream_is_refused_in_a_line(source, said):
    with pytest.raises(InputError, match=said) as error:
        Stream(source)
    assert len(str(error.value)) < 260 and "\n" not in str(error.value)


def test_faults_that_show_later_are_told_as_ours():
    with pytest.raises(
        InputError, match=r"has x float32 of shape \(None, 3\) .* but the first one"
    ):
        list(Stream(odd).batches(5))
    used = generator()
    with pytest.raises(InputError, match="used up by another pass"):
        [list(Stream(lambda: used).batches(32)) for _ in range(8)]
    shuffled = Stream(dataset().shuffle(13))
    list(shuffled.batches(32, again=False))
    with pytest.raises(InputError, match="shuffle only the training part"):
        [list(shuffled.batches(32)) for _ in range(8)]


def broken():
    yield X[:7], Y[:7]
    raise KeyError("no more")


def test_a_source_that_fails_is_one_line(tmp_path):
    """Also in the training, where TensorFlow would say it in a page."""
    with pytest.raises(
        InputError, match=r"The source of the stream failed \(KeyError: 'no more'\)"
    ):
        list(Stream(broken).batches(32))
    with pytest.raises(InputError, match=r"source of the stream failed \(ZeroDivisionError"):
        Stream(lambda: iter([1 / 0]))
    files = [str(tmp_path / f"{i}.png") for i in range(9)]
    for i, file in enumerate(files):
        image = np.zeros((5 if i == 8 else 4, 4, 1), "uint8")
        keras.utils.save_img(file, image, scale=False)
    images = Samples(ImageFiles.rows(files), np.arange(9) % 3)
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    flat = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    training = tfkd.Training(epochs=1, learning_rate=1e-3, batch_size=4)
    for train, said, model in (
        (Stream(broken, examples=90), "source of the stream failed", net()),
        (images, "has 5 × 4 pixels", flat),
    ):
        data = Data("d", train, train, train)
        with pytest.raises(InputError, match=said) as error:
            Trainer(data, training).fit("student", model, validate=False)
        assert "\n" not in str(error.value)


def test_counting_for_long_says_so(monkeypatch):
    monkeypatch.setattr("tfkd.data.stream._LONG", 0.0)
    with pytest.warns(UserWarning, match=r"Counting the examples of a stream: 7 so far.*examples="):
        assert len(Stream(dataset())) == 90


def test_a_label_that_is_no_class_ends_the_training_in_a_line(both):
    bad = Stream(dataset(X, np.where(np.arange(90) == 80, 7, Y)), examples=90)
    bad.__dict__["_seen"] = (90, Y)  # it did not show among those that were looked at
    data = Data("d", bad, both[1].validation, both[1].test)
    with pytest.raises(InputError, match="labels hold 7, but for outputs of 3 classes they run"):
        Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-3)).fit("student", net())
    with pytest.raises(InputError, match="class numbers run from 0 to 2, got 0 to 7"):
        Trainer(as_data((X, Y + 5 * (Y == 2))), tfkd.Training(epochs=1, learning_rate=1e-3)).fit(
            "student", net()
        )


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (dataset(), {}, "A tf.data.Dataset is one part, and three are needed: give a dict"),
        (generator, {}, "A function is one part"),
        ({"train": dataset(), "test": dataset()}, {}, "A stream can't be split"),
        ((dataset(), dataset(), (X, Y)), {"class_weight": "balanced"}, "needs all labels"),
        (
            (dataset().map(lambda x, y: (x, y, y)), dataset(), dataset()),
            {"class_weight": {0: 1, 1: 2, 2: 3}},
            "The stream already has weights: leave class_weight= out",
        ),
    ],
)
def test_the_door_refuses_streams_that_are_no_data(given, options, said):
    with pytest.raises(InputError, match=said):
        as_data(given, **options)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.where(np.arange(90) == 80, 9, Y), "In the validation part: .* got 0 to 9"),
        (np.eye(3)[Y].repeat(2, 1), "In the validation part: "),
    ],
)
def test_labels_of_a_stream_that_is_scored_are_checked_before_training(labels, said):
    train = tfkd.Samples(X, Y)
    data = Data("d", train, Stream(dataset(X, labels)), train)
    with pytest.raises(InputError, match=said):
        Trainer(data, tfkd.Training(epochs=1, learning_rate=0.1)).check(dense(keras))


def checked_in(part, stream):
    """Do the checks before training with a stream as one part; it must hold X and Y."""
    parts = dict.fromkeys(("train", "validation", "test"), tfkd.Samples(X, Y)) | {part: stream}
    Trainer(Data("d", **parts), tfkd.Training(epochs=1, learning_rate=0.1)).check(net())


@pytest.mark.parametrize("examples", [None, 90])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_weights_of_a_part_that_is_scored_are_refused_before_training(part, examples, monkeypatch):
    """They were dropped in silence: half of the labels may be wrong with a weight of 0."""
    monkeypatch.setattr("tfkd.data.stream._LOOKED_AT", 7)
    weights = np.ones((90, 2), "float32")  # of two elements

    def batches():
        yield from (tuple(a[i : i + 7] for a in (X, Y, weights)) for i in range(0, 90, 7))

    checked_in(part, Stream(batches, examples))
    assert len(list(Stream(batches, examples).batches(32))) == 3, "all are 1"
    weights[80, 1] = 0.5
    said = (
        rf"weights of the {part} part are not all 1 \(example 80, .* 0.5\).* leave out .* \(x, y\)"
    )
    with pytest.raises(InputError, match=said):
        checked_in(part, Stream(batches, examples))
    checked_in("train", Stream(batches, examples))
    stream = Stream(batches, examples)
    list(stream.batches(32, again=False))
    with pytest.raises(InputError, match="weights of the stream are not all 1"):
        list(stream.batches(32))


def test_weights_of_a_counted_part_take_no_further_pass(monkeypatch):
    monkeypatch.setattr(Stream, "at_once", lambda self, *_: 7)
    passes = []

    def batches():
        for i in range(0, 90, 7):
            yield X[i : i + 7], Y[i : i + 7], np.ones(len(Y[i : i + 7]))
        passes.append(1)

    stream = Stream(batches)
    for _ in range(2):
        checked_in("test", stream)
        assert len(passes) == 1


def noisy(scale):
    """Return a source whose examples vary from pass to pass."""
    return lambda: ((x + scale * RNG.normal(size=x.shape), y) for x, y in generator())


class Reordered(Sequence):
    """Shuffled behind each pass, as many are."""

    rows = np.arange(90)

    def __getitem__(self, i):
        return X[self.rows[i * 7 : i * 7 + 7]], Y[self.rows[i * 7 : i * 7 + 7]]

    def on_epoch_end(self):
        self.rows = RNG.permutation(90)


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize(
    ("source", "what"),
    [
        (lambda: dataset().shuffle(13), "Labels"),
        (lambda: dataset(X, Y * 0).unbatch().shuffle(90).batch(7), "Examples"),
        (lambda: noisy(0.1), "Examples"),
        (Reordered, "Labels"),
    ],
    ids=["shuffled", "only the examples differ", "augmented", "PyDataset"],
)
def test_a_part_in_another_order_is_refused_before_training(part, source, what):
    for examples in (None, 90):
        stream = Stream(source(), examples)
        with pytest.raises(InputError, match=f"{what} of the {part} part differ when .* shuffle"):
            checked_in(part, stream)


def test_a_part_that_differs_by_rounding_or_later_passes_the_first_look(monkeypatch):
    monkeypatch.setattr(Stream, "at_once", lambda self, *_: 20)
    checked_in("test", Stream(noisy(1e-5)))
    passes = itertools.count()

    def late():
        yield X[:60], Y[:60]
        yield X[60:], np.roll(Y[60:], next(passes))

    stream = Stream(late)
    checked_in("test", stream)
    with pytest.raises(InputError, match="The test part yielded other labels, or another order"):
        [list(stream.batches(32)) for _ in range(3)]


@pytest.mark.parametrize("source", ["dataset", "function"])
@pytest.mark.parametrize("examples", [None, 1400])
def test_an_example_that_is_no_number_is_named_with_its_part_and_batch(source, examples):
    """The teacher was blamed, after the training."""
    x = np.zeros((1400, 4), "float32")
    x[[1396, 1398], 2] = np.nan, np.inf
    y = np.arange(1400) % 3

    def batches():
        yield from ((x[i : i + 10], y[i : i + 10]) for i in range(0, 1400, 10))

    stream = Stream({"dataset": dataset(x, y, 10), "function": batches}[source], examples)
    said = "^x of the validation part holds NaN .* first in example 1396, which is in batch 139 if"
    if examples is not None:  # it is not read to the end before
        checked_in("validation", stream)
    with pytest.raises(InputError, match=said):
        checked_in("validation", stream) if examples is None else list(stream.batches(32))


def test_a_label_that_is_no_number_is_named_after_training():
    """A dataset that says its length is not read to the end before."""
    labels = np.where(np.arange(1400) == 1390, np.nan, 1.0).astype("float32")
    x = np.zeros((1400, 4), "float32")
    stream = Stream(tf.data.Dataset.from_tensor_slices((x, labels)).batch(10, drop_remainder=True))
    few = tfkd.Samples(x[:20], np.linspace(0, 1, 20, dtype="float32"))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    trainer = Trainer(Data("d", stream, few, few), tfkd.Training(epochs=1, learning_rate=0.1))
    with pytest.raises(InputError, match=r"y holds NaN or infinite values in 1 of 1400 training"):
        trainer.fit("student", model)


def test_parts_may_be_of_several_kinds():
    data = as_data((dataset(), Sequence(), (X[:9], Y[:9])))
    assert isinstance(data.train, Stream) and isinstance(data.test, Samples)
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 90, 9)
