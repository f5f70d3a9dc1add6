"""A teacher's scores against SciPy and scikit-learn, and what `fit` reports about them."""

import tracemalloc

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from scipy import stats

import tfkd
from tfkd.distillation import lessons, validation, worth
from tfkd.errors import InputError, TeacherWarning

RNG = np.random.default_rng(0)


def lesson(task, shape, **more):
    hard = {
        "categorical": "sparse_categorical_crossentropy",
        "binary": "binary_crossentropy",
        "regression": "mse",
    }[task]
    return lessons.Lesson(
        "out", shape, task, "linear", len(shape) - 1, None, hard, 1.0, more.get("unlabeled")
    )


def noisy(y, classes, share):
    """Logits that are right for about a share of the labels."""
    logits = RNG.normal(size=(*y.shape, classes))
    wins = RNG.random(y.shape) < share
    return logits + 9 * wins[..., None] * np.eye(classes)[y]


def test_score_of_classes():
    y = RNG.choice(4, 300, p=[0.6, 0.2, 0.1, 0.1])
    logits = noisy(y, 4, 0.5)
    found = worth.score(logits, y, lesson("categorical", (None, 4)))
    said = logits.argmax(1)
    assert found.value == pytest.approx(sklearn.metrics.accuracy_score(y, said))
    kappa = (found.value - found.chance) / (1 - found.chance)
    assert kappa == pytest.approx(sklearn.metrics.cohen_kappa_score(y, said))
    hits = int((said == y).sum())
    interval = stats.binomtest(hits, 300).proportion_ci(method="wilson")
    assert found.interval == pytest.approx((interval.low, interval.high), abs=1e-4)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (p.max(1) >= low) & (p.max(1) < low + 1 / 15)
        if inside.any():
            error += abs((said == y)[inside].mean() - p.max(1)[inside].mean()) * inside.mean()
    assert found.calibration == pytest.approx(error)


@pytest.mark.parametrize("form", ["rows", "steps", "unlabeled", "axis 1"])
def test_forms_of_labels(form):
    y = RNG.integers(0, 3, (60, 5) if form in ("steps", "axis 1") else 60)
    logits = noisy(y, 3, 0.7)
    expected, given, answers = (logits.argmax(-1) == y).mean(), y, logits
    how = lesson("categorical", (None, *logits.shape[1:]))
    if form == "rows":
        given = np.eye(3)[y]
    elif form == "unlabeled":
        how = lesson("categorical", (None, 3), unlabeled=-1)
        given = np.where(np.arange(60) % 2, y, -1)
        expected = (logits.argmax(-1) == y)[1::2].mean()
    elif form == "axis 1":
        answers = np.moveaxis(logits, -1, 1)
        how = lessons.Lesson("out", (None, 3, 5), "categorical", "linear", 1, None, how.hard, 1.0)
    assert worth.score(answers, given, how).value == pytest.approx(expected)


def test_score_of_labels_and_values():
    y = (RNG.random((200, 3)) < [0.5, 0.1, 0.9]).astype("float32")
    logits = (2 * y - 1) * np.where(RNG.random((200, 3)) < 0.9, 2.0, -2.0)
    found = worth.score(logits, y, lesson("binary", (None, 3)))
    assert found.value == pytest.approx(((logits > 0) == (y > 0)).mean())
    assert found.beats_chance
    often = worth.score(np.tile([1.0, -1.0, 1.0], (200, 1)), y, lesson("binary", (None, 3)))
    assert often.value > 0.6 and often.beats_chance is False  # the more frequent answer each

    values = RNG.normal(size=(100, 2)) * [1, 5]
    answers = values + RNG.normal(size=(100, 2))
    found = worth.score(answers, values, lesson("regression", (None, 2)))
    reference = sklearn.metrics.r2_score(values, answers, multioutput="variance_weighted")
    assert (found.metric, found.value) == ("r2", pytest.approx(reference))


def test_a_missing_label_leaves_the_others_in_their_columns():
    """One of 400 labels changes a score little, whatever the columns' means and shares are."""
    how = lesson("regression", (None, 2), unlabeled=float("nan"))
    values = RNG.normal([0, 1000], size=(200, 2))
    values[0, 0] = np.nan
    means = np.tile(np.nanmean(values, 0), (200, 1))
    found = worth.score(means, values, how)
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.count == found.hits.size == 399

    tags = np.stack([np.arange(200) < 190, np.arange(200) < 10], 1).astype("float32")
    tags[:100, 0] = -1
    found = worth.score(
        np.tile([3.0, -3.0], (200, 1)), tags, lesson("binary", (None, 2), unlabeled=-1)
    )
    assert [found.value, found.chance] == pytest.approx([0.9 / 3 + 0.95 * 2 / 3] * 2)
    assert found.beats_chance is False and found.count == 300


@pytest.mark.parametrize(
    ("share", "beats"), [(0.9, True), (0.0, False)], ids=["knows", "knows nothing"]
)
def test_chance_of_imbalanced_labels(share, beats):
    y = RNG.choice(2, 400, p=[0.95, 0.05])
    found = worth.score(noisy(y, 2, share), y, lesson("categorical", (None, 2)))
    assert found.beats_chance is beats
    constant = worth.score(np.tile([3.0, 0.0], (400, 1)), y, lesson("categorical", (None, 2)))
    assert constant.value > 0.9 and constant.beats_chance is False


def test_too_little_says_nothing():
    how = lesson("categorical", (None, 3))
    few = worth.score(np.eye(3)[[0, 1, 2]], np.array([1, 2, 0]), how)
    of_one_class = worth.score(np.eye(3)[np.zeros(50, int)], np.zeros(50, int), how)
    assert few.beats_chance is None and of_one_class.beats_chance is None


def test_crossed_classes():
    y = np.tile(np.arange(5), 20)
    order = np.array([0, 3, 2, 1, 4])
    found = worth.score(noisy(y, 5, 0.95)[:, order], y, lesson("categorical", (None, 5)))
    assert found.crossed == ((1, 3), (3, 1))
    assert "1 as 3" in worth.complaint(found, "training")
    assert worth.score(noisy(y, 5, 0.7), y, lesson("categorical", (None, 5))).crossed == ()


def test_crossed_classes_are_counted_as_in_a_table():
    """Against the table of all classes by all classes, which is not made: 20,000 take 3 GB."""
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(60):
        classes = int(rng.integers(2, 6))
        y = rng.integers(0, classes, 40)
        said = np.where(rng.random(40) < 0.8, rng.permutation(classes)[y], y)
        table = np.zeros((classes, classes))
        np.add.at(table, (y, said), 1)
        mostly, seen = table.argmax(1), table.sum(1)
        clear = (seen >= 3) & (table.max(1) > 0.6 * seen) & (mostly != np.arange(classes))
        moved = {int(c): int(mostly[c]) for c in np.flatnonzero(clear)}
        want = tuple(moved.items()) if set(moved) == set(moved.values()) else ()
        score = worth.score(np.eye(classes)[said] * 5, y, lesson("categorical", (None, classes)))
        assert score.crossed == want
        assert score.chance == pytest.approx(table.sum(0) @ table.sum(1) / 40**2)
        found.add(len(want))
    assert len(found) > 2
    answers, y = rng.normal(size=(20, 20_000)).astype("float32"), rng.integers(0, 20_000, 20)
    tracemalloc.start()
    worth.score(answers, y, lesson("categorical", (None, 20_000)))
    assert tracemalloc.get_traced_memory()[1] < 10 * answers.nbytes
    tracemalloc.stop()


def test_difference_is_paired():
    y = RNG.integers(0, 4, 400)
    one, other = noisy(y, 4, 0.9), noisy(y, 4, 0.6)
    how = lesson("categorical", (None, 4))
    gap, (low, high) = worth.difference(worth.score(one, y, how), worth.score(other, y, how))
    hits = [(logits.argmax(1) == y).astype(float) for logits in (one, other)]
    interval = stats.ttest_rel(*hits).confidence_interval(0.95)
    assert gap == pytest.approx(hits[0].mean() - hits[1].mean())
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=5e-3)


def test_equal_answers_leave_doubt():
    """The interval of two models that agree on 50 examples was "0.000 to 0.000"."""
    y = RNG.integers(0, 4, 50)
    score = worth.score(noisy(y, 4, 0.9), y, lesson("categorical", (None, 4)))
    gap, (low, high) = worth.difference(score, score)
    assert gap == 0 and high == -low == pytest.approx(1.959964 / 52)


@pytest.mark.parametrize("task", ["categorical", "binary", "regression"])
def test_elements_of_an_example_are_not_independent(task):
    """Whole sequences are right or wrong: 95 % of the intervals were those of 40 times as many."""
    rng, (examples, steps) = np.random.default_rng(0), (50, 40)
    how = lesson(task, (None, steps, 3) if task == "categorical" else (None, steps))
    holds, harmed = [], []
    for _ in range(200):
        right = rng.random((2, examples, 1)) < 0.7  # the true difference is 0
        if task == "regression":
            y = rng.normal(size=(examples, steps))
            said = y + np.where(right, 0.1, 1.0) * rng.normal(size=(2, examples, 1))
        else:
            y = rng.integers(0, 2, (examples, steps))
            said = np.where(right, y, 1 - y)
            said = 4 * np.eye(3)[said] if task == "categorical" else 8.0 * said - 4
        one, other = (worth.score(answers, y, how) for answers in said)
        low, high = worth.difference(one, other)[1]
        holds.append(low <= 0 <= high)
        harmed.append(worth.Worth(one, one, other).harms)
    assert np.mean(holds) >= 0.91 and np.mean(harmed) <= 0.06
    gap, (low, high) = worth.difference(one, one)
    assert gap == 0 and low == -high and (high > 0) == (task != "regression")


def test_masked_elements_leave_their_examples():
    y = RNG.integers(0, 3, (30, 8))
    mask = np.arange(8) < RNG.integers(1, 9, 30)[:, None]
    how = lesson("categorical", (None, 8, 3))
    logits = [noisy(y, 3, share) for share in (0.9, 0.6)]
    one, other = (worth.score(some, y, how, mask) for some in logits)
    gaps = [(some.argmax(-1) == y).astype(float) for some in logits]
    gaps = ((gaps[0] - gaps[1]) * mask).sum(1)
    ratio = gaps.sum() / mask.sum()
    linear = ratio + (gaps - mask.sum(1) * ratio) / mask.sum(1).mean()
    spread = 1.96 * linear.std(ddof=1) / np.sqrt(30)
    gap, interval = worth.difference(one, other)
    assert gap == pytest.approx(ratio)
    assert interval == pytest.approx((ratio - spread, ratio + spread), abs=0.03)


@pytest.mark.parametrize("task", ["categorical", "regression"])
def test_one_label_gives_no_interval(task, recwarn):
    how = lesson(task, (None, 3))
    y = np.array([1]) if task == "categorical" else np.ones((1, 1))
    answers = np.eye(3)[[1]] if task == "categorical" else np.zeros((1, 1))
    one = worth.score(answers, y, how)
    assert worth.difference(one, one) == (0.0, None)
    assert "no interval" in worth.conclusion(one, one, one, "validation")
    assert "worse" not in worth.conclusion(one, one, one, "validation")
    found = worth.Worth(one, one, one)
    assert not found.harms and found.to_json()["ci95"] is None and "no interval" in str(found)
    assert not recwarn.list


# --- in fit -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    x = RNG.normal(size=(240, 6)).astype("float32")
    return x, (x[:, :3].argmax(1)).astype("int32")


@pytest.fixture(scope="module")
def knowing():
    """A teacher that knows the rule: the largest of the first three inputs."""
    return dense(3, 5 * np.eye(6, 3, dtype="float32"))


def dense(units, kernel=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(units)])
    if kernel is not None:
        model.set_weights([kernel, np.zeros(units, "float32")])
    return model


def compiled(teacher, **more):
    distiller = tfkd.Distiller(dense(3), teacher, **more)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss, run_eagerly=True)
    return distiller


def test_a_good_teacher_is_scored(data, knowing, capsys, recwarn):
    x, y = data
    distiller = compiled(knowing)
    distiller.fit(x[:60], y[:60], validation_data=(x[60:], y[60:]), batch_size=60, verbose=2)
    (teacher,), (student,) = distiller.teacher_scores, distiller.student_scores
    assert teacher.value == 1.0 and teacher.count == 180
    assert student.value == np.mean(keras.ops.argmax(distiller.student(x[60:]), 1) == y[60:])
    said = capsys.readouterr().out
    assert "Teacher on validation examples: accuracy 1.000" in said
    assert "Student on validation examples" in said and "baseline=" in said
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


@pytest.mark.parametrize("kind", ["constant", "crossed", "worse than chance"])
def test_a_useless_teacher_is_a_warning(data, kind):
    x, y = data
    kernel = 5 * np.eye(6, 3, dtype="float32")
    kernel = {"constant": 0 * kernel, "crossed": kernel[:, [1, 0, 2]], "worse than chance": -kernel}
    teacher = dense(3, kernel[kind])
    match = {"crossed": "labels 0 as 1, 1 as 0"}.get(kind, "no better than chance")
    with pytest.warns(TeacherWarning, match=match):
        compiled(teacher).fit(x, y, batch_size=120, verbose=0)


def test_a_teacher_behind_the_baseline_is_a_warning(data, knowing, capsys):
    x, y = data
    weak = dense(3, 5 * np.eye(6, 3, dtype="float32") + RNG.normal(size=(6, 3)).astype("f") * 3)
    distiller = compiled(weak)
    with pytest.warns(UserWarning, match=r"trained without it scores 1.000 there"):
        distiller.fit(x, y, batch_size=240, verbose=2, baseline=knowing)
    assert "made the student worse" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["sigmoid", "logits"])
def test_a_baseline_is_read_as_its_own_outputs_say(data, given):
    x, _ = data
    y = (x[:, 0] > 0).astype("float32")
    teacher = dense(1, 5 * np.eye(6, 1, dtype="float32"))
    baseline = teacher
    if given == "sigmoid":
        baseline = keras.Sequential([teacher, keras.layers.Activation("sigmoid")])
        baseline.build((None, 6))
    distiller = tfkd.Distiller(dense(1), teacher)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    distiller.compile("adam", loss, run_eagerly=True)
    distiller.fit(x, y, batch_size=240, verbose=0, baseline=baseline)
    assert [one.value for one in distiller._untracked.scores.baseline] == [1.0]
    assert distiller.score(x, y, baseline)[0].value == 1.0


@pytest.mark.parametrize("baseline", [dense(5), "no/such.keras", 3])
def test_a_baseline_that_is_none_is_refused_before_training(data, knowing, baseline):
    x, y = data
    distiller = compiled(knowing)
    before = distiller.student.get_weights()
    with pytest.raises(InputError, match="does not have the student's outputs"):
        distiller.fit(x, y, batch_size=240, verbose=0, baseline=baseline)
    np.testing.assert_array_equal(before[0], distiller.student.get_weights()[0])


def forms(x, y, answers):
    yield "arrays beside", answers, (x, y), {}
    yield "dataset", None, (tf.data.Dataset.from_tensor_slices((x, y)).batch(32),), {}
    yield "cached", None, (x, y), {"cache_teacher": True}
    split = {"validation_data": tf.data.Dataset.from_tensor_slices((x, y)).batch(32)}
    yield "validation data set", None, (x, y), split


@pytest.mark.parametrize("index", range(4))
def test_every_form_of_data_is_scored(data, knowing, index):
    x, y = data
    _, teacher, given, more = list(forms(x, y, knowing(x).numpy()))[index]
    distiller = compiled(knowing if teacher is None else teacher, teacher_from_logits=True)
    distiller.fit(*given, verbose=0, **more)
    assert distiller.teacher_scores[0].value == 1.0
    assert distiller.teacher_scores[0].count == 240


def test_sorted_arrays_are_sampled_throughout(knowing):
    x = RNG.normal(size=(3000, 6)).astype("float32")
    x = x[np.argsort(x[:, :3].argmax(1))]
    distiller = compiled(knowing)
    distiller.fit(x, x[:, :3].argmax(1), batch_size=3000, verbose=0)
    assert distiller.teacher_scores[0].chance == pytest.approx(1 / 3, abs=0.05)
    assert distiller.teacher_scores[0].count == worth.EXAMPLES


def test_the_teacher_is_asked_about_no_more_than_that(data, knowing):
    x, y = data
    asked = []

    def teacher(batch):
        asked.append(len(batch))
        return np.asarray(batch) @ (5 * np.eye(6, 3, dtype="float32"))

    many, labels = np.tile(x, (5, 1)), np.tile(y, 5)
    distiller = compiled(teacher, teacher_from_logits=True)
    distiller.fit(many, labels, validation_data=(x, y), batch_size=600, verbose=0)
    assert sum(asked) <= 1200 + 240 + 4  # the epoch, the sample, the look at the first examples


def test_an_unchanged_teacher_is_not_scored_twice(data, knowing, monkeypatch):
    x, y = data
    asked = []
    scores = worth.Sample.scores

    def counted(sample, answers_of, who):
        asked.append(who)
        return scores(sample, answers_of, who)

    monkeypatch.setattr(worth.Sample, "scores", counted)
    teacher = keras.models.clone_model(knowing)
    teacher.set_weights(knowing.get_weights())
    distiller = compiled(teacher)
    for _ in range(2):
        distiller.fit(x, y, batch_size=240, verbose=0)
    assert asked == ["teacher", "student", "student"]
    assert distiller.teacher_scores[0].value == 1.0
    teacher.set_weights(
        [kernel[:, [1, 0, 2]] for kernel in knowing.get_weights()[:1]] + [0 * y[:3]]
    )
    with pytest.warns(TeacherWarning, match="labels 0 as 1, 1 as 0"):
        distiller.fit(x, y, batch_size=240, verbose=0)
    distiller.fit(x[:100], y[:100], batch_size=240, verbose=0, baseline=knowing)
    assert asked[3:] == ["teacher", "student", "teacher", "baseline", "student"]


def test_without_labels_or_teacher_nothing_is_scored(data, knowing):
    x, _ = data
    distiller = tfkd.Distiller(dense(3), knowing, soft_loss="kl")
    distiller.compile("adam", None, run_eagerly=True)
    distiller.fit(x, verbose=0, batch_size=240)
    assert distiller.teacher_scores is None


# --- no score is needed for training -------------------------------------------------------


def test_a_teacher_that_cannot_be_asked_for_a_score_still_teaches(data):
    x, y = data
    known = {row.tobytes() for row in x[:60]}

    def teacher(batch):
        assert all(row.tobytes() in known for row in np.asarray(batch)), "another example"
        return np.eye(3, dtype="float32")[np.asarray(batch)[:, :3].argmax(1)]

    distiller = compiled(teacher, teacher_from_logits=True)
    with pytest.warns(TeacherWarning, match="could not be scored .*another example"):
        distiller.fit(x[:60], y[:60], validation_data=(x[60:], y[60:]), verbose=0)
    assert distiller.teacher_scores is None and distiller.student_scores is None


def test_a_student_that_breaks_ends_without_a_score(data, knowing):
    x, y = data
    distiller = compiled(knowing)
    broken = [np.full((6, 3), np.nan), np.zeros(3)]
    breaks = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: distiller.student.set_weights(broken)
    )
    with (
        pytest.warns(UserWarning, match="weights hold NaN"),
        pytest.warns(TeacherWarning, match="The student gives NaN"),
    ):
        distiller.fit(x, y, verbose=0, batch_size=240, callbacks=[breaks])
    assert distiller.teacher_scores[0].value == 1.0 and distiller.student_scores is None


def test_a_student_of_one_batch_size_is_not_scored(data, knowing):
    x, y = data
    student = keras.Sequential([keras.Input((6,), batch_size=24), keras.layers.Dense(3)])
    distiller = tfkd.Distiller(student, keras.Sequential([keras.Input((6,)), knowing.layers[-1]]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss, run_eagerly=True)
    distiller.fit(x, y, batch_size=24, verbose=0)
    assert distiller.teacher_scores is None


def test_inputs_reach_student_and_teacher_as_in_a_step(data, knowing):
    """float32 out of float64, `student_inputs`, names out of order, and no more than a batch."""
    x, y = data
    sizes = []

    def halves(batch):
        sizes.append(len(batch["all"]))
        return [batch["all"][:, :3] * tf.constant(1.0), batch["all"][:, 3:]]

    named = {name: keras.Input((3,), name=name) for name in "ab"}
    out = keras.layers.Dense(3)(keras.layers.Concatenate()([named["a"], named["b"]]))
    distiller = tfkd.Distiller(
        keras.Model(named, out), knowing, student_inputs=halves, teacher_inputs=lambda b: b["all"]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss, run_eagerly=True)
    distiller.fit({"all": x.astype("float64")}, y, batch_size=80, verbose=0)
    assert distiller.student_scores[0].count == 240
    assert max(sizes) == 80


def test_ragged_examples_are_scored():
    rows = tf.ragged.constant([[1.0] * (1 + i % 3) for i in range(30)])
    data = tf.data.Dataset.from_tensor_slices((rows, np.arange(30) % 3)).batch(30)

    class Counting(keras.Model):
        def call(self, x, training=None):
            return 9.0 * tf.one_hot(tf.cast(tf.reduce_sum(x, 1), tf.int32) - 1, 3)

    class Learning(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x, training=None):
            return self.dense(tf.reduce_sum(x, 1)[:, None])

    distiller = tfkd.Distiller(Learning(), Counting(), from_logits=True, teacher_from_logits=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss, run_eagerly=True)
    distiller.fit(data, verbose=0)
    assert (distiller.teacher_scores[0].value, distiller.teacher_scores[0].count) == (1.0, 30)


@pytest.mark.parametrize("unlabeled", [None, -1])
def test_padding_does_not_count(unlabeled):
    """The teacher is right wherever there is a token, and wrong in the padding."""
    tokens = RNG.integers(1, 4, (40, 5))
    tokens[:, 3:] = 0
    y = np.where(tokens == 0, 2, tokens - 1)
    if unlabeled is not None:
        y[:, 0] = unlabeled

    def model(table):
        embedding = keras.layers.Embedding(4, 3, mask_zero=True)
        made = keras.Sequential([keras.Input((5,), dtype="int32"), embedding])
        embedding.set_weights([table])
        return made

    teacher = model(9 * np.eye(3, dtype="float32")[[0, 0, 1, 2]])
    student = model(np.zeros((4, 3), "float32"))
    distiller = tfkd.Distiller(
        student, teacher, unlabeled=unlabeled, from_logits=True, teacher_from_logits=True
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss, run_eagerly=True)
    distiller.fit(tokens, y, batch_size=40, verbose=0)
    assert distiller.teacher_scores[0].value == 1.0
    assert distiller.teacher_scores[0].count == (120 if unlabeled is None else 80)


def test_a_score_takes_no_more_memory_than_it_may(monkeypatch):
    """Of pictures, few are asked about; of answers too large by themselves, none."""
    how = lesson("categorical", (None, 8, 8, 10))
    x, y = np.zeros((50, 8, 8, 3), "float32"), np.zeros((50, 8, 8), int)
    sample = worth.Sample(x, [y], (how,), "training")
    assert sample.cut() is sample
    for numbers, expected in ((8 * 8 * 10 * 7, 7), (8 * 8 * 10 - 1, None)):
        monkeypatch.setattr(worth, "NUMBERS", numbers)
        few = sample.cut()
        assert (few and (len(few.x), len(few.labels[0]))) == (expected and (expected, expected))
    rows = worth.Sample(x, [np.zeros((50, 8, 8, 10))], (how,), "training")
    monkeypatch.setattr(worth, "NUMBERS", 8 * 8 * 10 * 7)
    assert len(rows.cut().x) == 7
    monkeypatch.setattr(validation, "_BYTES", 8 * 8 * 3 * 4 * 5)
    for data in ((x, y), (tf.data.Dataset.from_tensor_slices((x, y)).batch(3), None)):
        assert len(validation.labelled_sample(*data, 256)[0]) == 5


def test_equal_values_say_nothing():
    found = worth.score(RNG.normal(size=(50, 1)), np.ones((50, 1)), lesson("regression", (None, 1)))
    assert found.beats_chance is None


@pytest.mark.parametrize("form", ["arrays", "stream"])
def test_a_label_that_is_no_class_is_refused(data, knowing, form):
    """It was left out, and the score was of the other examples."""
    x, y = data[0], data[1].copy()
    y[100] = 7
    given = (x, y) if form == "arrays" else (tfkd.Stream(lambda: iter([(x, y)])),)
    with pytest.raises(InputError, match=r"go up to 7, but the output .* has 3 .*row 100: 7"):
        compiled(knowing).score(*given)


@pytest.mark.parametrize("wrong", ["input", "label"])
def test_what_the_step_tells_itself_is_left_to_it(data, knowing, wrong):
    x, y = (array.copy() for array in data)
    if wrong == "input":
        x[100] = np.nan
    else:
        y[100] = 7
    rows = tf.data.Dataset.from_tensor_slices((x, y)).batch(60)
    distiller = compiled(knowing)
    with pytest.raises(InputError, match=r"These are not finite: inputs|labels go"):
        distiller.fit(rows, verbose=0)
    assert distiller.teacher_scores[0].value == 1.0 and distiller.teacher_scores[0].count == 239
