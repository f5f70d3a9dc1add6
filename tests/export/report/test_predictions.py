"""A file's answers and its teacher's, against scikit-learn, a bootstrap and hand counts."""

import base64
import io

import numpy as np
import pytest
from sklearn import metrics

from tfkd.errors import InputError
from tfkd.export.report.predictions import judge
from tfkd.intervals import paired_means, paired_shares
from tfkd.model.metrics import score

NAMES = ["cat", "dog", "<b>"]


def logits(classes, count=3):
    return np.eye(count, dtype="float32")[np.asarray(classes)] * 4 - 1


@pytest.fixture
def classified(rng):
    """Labels, and answers of a teacher and of a file that are wrong now and then."""
    y = rng.integers(0, 3, 300)
    teacher = np.where(rng.random(300) < 0.1, rng.integers(0, 3, 300), y)
    file = np.where(rng.random(300) < 0.15, rng.integers(0, 3, 300), teacher)
    return y, teacher, file


def test_classes_against_scikit_learn(classified):
    y, teacher, file = classified
    found = judge(
        *("file", logits(file), "teacher", logits(teacher), y),
        task="categorical",
        activation="linear",
        class_names=NAMES,
    )
    assert np.array_equal(found.confusion, metrics.confusion_matrix(y, file))
    precision, recall, f1, labelled = metrics.precision_recall_fscore_support(y, file)
    against = metrics.recall_score(y, teacher, average=None)
    assert [one.name for one in found.classes] == NAMES
    for i, one in enumerate(found.classes):
        assert (one.precision, one.recall, one.f1) == pytest.approx(
            (precision[i], recall[i], f1[i])
        )
        assert (one.labelled, one.against_recall) == (labelled[i], pytest.approx(against[i]))
    assert found.score == score(logits(file), y)["accuracy"] == np.mean(file == y)
    assert found.difference == pytest.approx(np.mean(file == y) - np.mean(teacher == y))
    assert found.ci95 == paired_shares(file == y, teacher == y)
    assert found.lost == np.sum((teacher == y) & (file != y))
    assert found.won == np.sum((teacher != y) & (file == y))
    assert found.other == np.sum((teacher != y) & (file != y) & (file != teacher))
    assert found.difference * 300 == pytest.approx(found.won - found.lost)


def test_the_examples_that_changed_are_those(classified):
    y, teacher, file = classified
    found = judge(
        *("file", logits(file), "teacher", logits(teacher), y),
        task="categorical",
        class_names=NAMES[:2],
    )
    assert len(found.changed) == min(12, found.lost + found.won + found.other)
    names = [*NAMES[:2], "2"]  # a missing name is the number
    for one in found.changed:
        i = one.index
        assert (one.label, one.against_answer, one.answer) == (
            *(names[y[i]], names[teacher[i]], names[file[i]]),
        )
        assert one.answer != one.against_answer and one.image is None and one.position == ()
    lost = [one.answer != one.label == one.against_answer for one in found.changed]
    assert lost == sorted(lost, reverse=True) and any(lost)


def test_steps_count_by_their_example(rng):
    y = rng.integers(0, 3, (40, 5))
    teacher = np.where(rng.random(y.shape) < 0.1, 0, y)
    file = np.where(rng.random(y.shape) < 0.2, 1, y)
    found = judge("f", logits(file), "t", logits(teacher), y, task="categorical")
    gaps = (file == y).mean(1) - (teacher == y).mean(1)
    spread = 1.959964 * gaps.std(ddof=1) / np.sqrt(40)
    assert found.ci95 == pytest.approx((gaps.mean() - spread, gaps.mean() + spread))
    assert np.sum(found.confusion) == 200
    one = found.changed[0]
    assert len(one.position) == 1 and one.label == str(y[(one.index, *one.position)])


@pytest.mark.parametrize("hot", [True, False])
def test_labels_as_rows_are_the_same(classified, hot):
    y, teacher, file = classified
    rows = np.eye(3)[y] if hot else y[:, None]
    given = [
        judge("f", logits(file), "t", logits(teacher), labels, task="categorical")
        for labels in (y, rows)
    ]
    assert given[0] == given[1]


def test_a_single_output_is_yes_or_no_by_its_activation(rng):
    y = rng.integers(0, 2, 50)
    said = np.where(rng.random(50) < 0.3, 1 - y, y)
    found = judge(
        *("f", (said * 2.0 - 1)[:, None], "t", np.where(y, 0.6, 0.4)[:, None], y),
        task="binary",
        activation="linear",
        against_activation="sigmoid",
    )
    assert found.against_score == 1.0 and found.score == np.mean(said == y)
    assert np.array_equal(found.confusion, metrics.confusion_matrix(y, said))
    unknown = judge("f", said[:, None], "t", said[:, None], y, task="binary")
    assert unknown is None  # which answers mean yes is not known


def test_several_labels_count_each_by_itself(rng):
    y = rng.integers(0, 2, (60, 4))
    said = np.where(rng.random(y.shape) < 0.2, 1 - y, y)
    known = {"activation": "sigmoid", "against_activation": "sigmoid"}
    found = judge("f", said * 0.8, "t", y * 0.8, y, task="multilabel", **known)
    recall = metrics.recall_score(y, said, average=None)
    assert [one.recall for one in found.classes] == pytest.approx(list(recall))
    assert found.confusion is None and found.lost == np.sum(said != y) and found.won == 0


def test_the_interval_of_errors_is_that_of_a_bootstrap(rng):
    y = rng.normal(size=(400, 1))
    teacher = y + rng.normal(0, 0.3, y.shape)
    file = teacher + rng.normal(0, 0.2, y.shape)
    found = judge("f", file, "t", teacher, y, task="regression")

    def rmse(values, rows):
        return np.sqrt(np.square(values - y)[rows].mean())

    rows = [rng.integers(0, 400, 400) for _ in range(2000)]
    gaps = [rmse(file, some) - rmse(teacher, some) for some in rows]
    assert found.metric == "rmse" and found.score == pytest.approx(rmse(file, slice(None)))
    assert found.ci95 == pytest.approx(tuple(np.percentile(gaps, [2.5, 97.5])), abs=0.006)
    assert sum(found.ci95) / 2 == pytest.approx(found.difference)
    errors = found.errors
    assert sum(errors.counts) == sum(errors.against_counts) == 400
    assert len(errors.edges) == len(errors.counts) + 1 and errors.edges[0] < 0 < errors.edges[-1]
    inner = [np.sum((file - y >= a) & (file - y < b)) for a, b in zip(
        errors.edges[1:-2], errors.edges[2:-1], strict=True
    )]  # fmt: skip
    assert list(errors.counts[1:-1]) == inner
    gaps = [abs(one.answer - one.against_answer) for one in found.changed]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] == np.abs(file - teacher).max()


def test_equal_and_perfect_answers_have_no_false_certainty():
    y = np.arange(20.0)[:, None]
    perfect = judge("f", y, "t", y, y, task="regression")
    assert perfect.ci95 is None and perfect.difference == 0.0
    assert sum(perfect.errors.counts) == 20
    y = np.arange(20) % 3
    low, high = judge("f", logits(y), "t", logits(y), y, task="categorical").ci95
    assert low == -high and 0.05 < high < 0.15


@pytest.mark.parametrize("shares", [(0.9, 0.05, 0.03), (0.6, 0.2, 0.1), (0.98, 0.01, 0.01)])
def test_the_paired_interval_holds_the_truth_as_often_as_it_says(rng, shares):
    """Both right, one alone right, the other alone: drawn 60 at a time."""
    truth, inside = shares[1] - shares[2], 0
    for _ in range(1000):
        both = rng.choice(4, 60, p=[*shares, 1 - sum(shares)])
        low, high = paired_shares(both <= 1, (both == 0) | (both == 2))
        inside += low <= truth <= high
    assert inside >= 930


def test_the_paired_interval_of_a_published_table():
    # Agresti, Categorical Data Analysis, approval of the prime minister: 794, 150, 86, 570. The
    # plain interval is 0.040 ± 0.019; half an answer a cell moves it by less than a tenth of it.
    first = np.repeat([True, True, False, False], [794, 150, 86, 570])
    second = np.repeat([True, False, True, False], [794, 150, 86, 570])
    assert paired_shares(first, second) == pytest.approx((0.0213, 0.0587), abs=3e-4)
    assert paired_means([0.5]) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_pngs_of_the_examples(rng, channels):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    x = rng.integers(0, 256, (3, 200, 120, channels)).astype("float32")
    x[0, 0, 0], x[0, 3, 3] = 0, 255
    y = np.array([0, 1, 2])
    found = judge("f", logits([1, 1, 2]), "t", logits(y), y, task="categorical", x=x)
    (one,) = found.changed
    head, data = one.image.split(",")
    assert head == "data:image/png;base64"
    drawn = np.asarray(image.open(io.BytesIO(base64.b64decode(data))))
    assert max(drawn.shape[:2]) <= 96
    assert np.array_equal(drawn.reshape(67, 40, channels), x[0, ::3, ::3])
    assert "image" not in found.to_json()["changed"][0]


@pytest.mark.parametrize(
    "x",
    [np.zeros((2, 8, 8, 2)), np.zeros((2, 8)), {"a": np.zeros((2, 8, 8, 1))}, None],
    ids=["two channels", "a row", "a dict", "none"],
)
def test_what_is_no_image_is_not_drawn(x):
    found = judge(
        "f", logits([1, 1]), "t", logits([0, 1]), np.array([0, 1]), task="categorical", x=x
    )
    assert found.changed[0].image is None


def test_a_last_axis_of_one_is_no_difference():
    y = np.array([0.0, 2.0, 5.0])
    found = judge("f", y[:, None] + 1, "t", y + 2, y, task="regression")
    assert (found.score, found.against_score) == (1.0, 2.0)


def test_answers_of_different_shapes_are_refused():
    with pytest.raises(InputError, match="same examples"):
        judge("f", logits([1, 1]), "t", logits([0]), np.array([0, 1]), task="categorical")
    assert judge("f", logits([1]), "t", logits([0]), np.array([1]), task="anomaly") is None
