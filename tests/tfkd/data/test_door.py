"""`as_data`: every layout that it accepts, and its errors for others."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.data import (
    Data,
    Samples,
    as_data,
    load_csv,
    load_images,
    load_npz,
    representative,
    windows,
)
from tfkd.data.rows import Rows
from tfkd.errors import InputError


@pytest.fixture
def x(rng):
    return rng.normal(size=(50, 4)).astype("float32")


NUMBERS = np.arange(50) % 5


def sizes(data: Data) -> tuple[int, ...]:
    return tuple(len(part) for part in (data.train, data.validation, data.test))


def test_x_and_y_are_split_as_split_does(x):
    data, same = as_data((x, NUMBERS), seed=3), tfkd.split(x, NUMBERS, seed=3)
    assert sizes(data) == (30, 10, 10)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(data, part).x, getattr(same, part).x)
        assert np.bincount(getattr(data, part).y).tolist() == [len(getattr(data, part)) // 5] * 5
    assert as_data(data) is data


def test_values_and_rare_classes_are_split_without_shares(x):
    assert sizes(as_data((x, x[:, 0]))) == (30, 10, 10)
    assert sizes(as_data((x, np.arange(50)))) == (30, 10, 10)
    rows = as_data((x, (x > 0).astype(int)), class_names="abcd")
    assert rows.train.y.shape == (30, 4) and rows.class_names == ("a", "b", "c", "d")


def test_texts_become_class_numbers(x):
    texts = np.array(["dog", "cat"])[np.arange(50) % 2]
    data = as_data((x, texts))
    assert data.class_names == ("cat", "dog")
    data = as_data((x, list(texts)), class_names=["dog", "cat"], test=0.5)
    assert np.bincount(data.test.y).sum() == 25
    found = {tuple(row): y for row, y in zip(data.test.x, data.test.y, strict=True)}
    assert all(found.get(tuple(row), y) == y for row, y in zip(x, np.arange(50) % 2, strict=True))


def test_parts_that_are_there_stay_as_they_are(x):
    pairs = ((x, NUMBERS), (x[:10], NUMBERS[:10]))
    for given in (pairs, dict(zip(("train", "test"), pairs, strict=True))):
        data = as_data(given)
        assert sizes(data) == (45, 5, 10)
        np.testing.assert_array_equal(data.test.x, x[:10])
    data = as_data((pairs[0], Samples(*pairs[1]), pairs[1]), name="mine")
    assert sizes(data) == (50, 10, 10) and data.name == "mine"


@pytest.mark.parametrize("names", [("off", "on"), ("off", "on", "idle")])
def test_each_class_of_a_step_has_a_name(x, names):
    """Two classes of 20 steps were taken for 20 labels."""
    y = np.arange(1000).reshape(50, 20) % len(names)
    y[:, 0] = y[:, 1]  # no one-hot rows
    assert as_data((x, y), class_names=names).class_names == names
    with pytest.raises(InputError, match=f"There are 1 class_names for labels of {len(names)} cl"):
        as_data((x, y), class_names=names[:1])


def test_a_memmap_is_split_without_reading_it(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    held = np.load(tmp_path / "x.npy", mmap_mode="r")
    data, same = as_data((held, NUMBERS)), as_data((x, NUMBERS))
    assert isinstance(data.train.x, Rows) and not data.train.in_memory
    np.testing.assert_array_equal(data.train.x[:], same.train.x)
    np.testing.assert_array_equal(data.test.x[3], same.test.x[3])
    with pytest.raises(InputError, match=r"stay on disk .* read some of them"):
        np.asarray(data.train.x)


def test_the_batches_of_a_dataset_are_all_examples_once_in_a_new_order(x):
    samples = Samples(x, NUMBERS)
    batches = [(a.numpy(), b.numpy()) for a, b in samples.dataset(8)]
    assert [len(a) for a, _ in batches] == [8, 8, 8, 8, 8, 8, 2]
    np.testing.assert_array_equal(np.concatenate([a for a, _ in batches]), x)
    shuffled = samples.dataset(8, seed=1, augment=lambda x: x + 1)
    passes = [[(a.numpy(), b.numpy()) for a, b in shuffled] for _ in range(2)]
    firsts = [one[0][0] for one in passes]
    assert not np.array_equal(*firsts), "each pass has an order of its own"
    again = next(iter(samples.dataset(8, seed=1)))[0].numpy()
    np.testing.assert_array_equal(firsts[0], again + 1)
    for batches in passes:
        rows = np.concatenate([a for a, _ in batches])
        where = [int(np.flatnonzero((x + 1 == row).all(1))[0]) for row in rows]
        assert sorted(where) == list(range(50))
        np.testing.assert_array_equal(np.concatenate([b for _, b in batches]), NUMBERS[where])


def test_npz_files_have_parts_or_are_split(tmp_path, x):
    path = tmp_path / "mine.npz"
    np.savez(path, x=x, y=NUMBERS)
    assert sizes(as_data(path)) == (30, 10, 10) and as_data(str(path)).name == "mine"
    parts = {"x_train": x, "y_train": NUMBERS, "x_test": x[:9], "y_test": NUMBERS[:9]}
    np.savez(path, **parts)
    assert sizes(as_data(path, validation=0.2)) == (40, 10, 9)
    for name in ("validation", "val", "valid"):
        held_out = {f"x_{name}": x[:7], f"y_{name}": NUMBERS[:7]}
        np.savez(path, **parts, **held_out)
        data = as_data(path)
        assert sizes(data) == (50, 7, 9)
        np.testing.assert_array_equal(data.validation.x, x[:7])


def test_the_validation_part_of_several_outputs_has_a_short_name_too(tmp_path, x):
    labels = {"a": NUMBERS, "b": x[:, 0]}
    arrays = {f"y_{part}_{name}": y for part in ("train", "test") for name, y in labels.items()}
    arrays |= {f"y_val_{name}": y[:7] for name, y in labels.items()}
    np.savez(tmp_path / "d.npz", x_train=x, x_test=x, x_val=x[:7], **arrays)
    data = as_data(tmp_path / "d.npz")
    assert sizes(data) == (50, 7, 50) and set(data.validation.y) == {"a", "b"}
    np.savez(tmp_path / "d.npz", x=x, y_val=NUMBERS, y_aro=x[:, 0])
    assert set(as_data(tmp_path / "d.npz").outputs) == {"val", "aro"}


PAIRS = {"x_train": "x", "y_train": "y", "x_test": "x", "y_test": "y"}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({**PAIRS, "x_dev": "x", "y_dev": "y"}, "d.npz also holds 'x_dev' and 'y_dev', which"),
        ({**PAIRS, "x_val": "x", "y_val": "y", "x_validation": "x", "y_validation": "y"},
         "also holds 'x_val' and 'y_val', which"),
        ({"x": "x", "y": "y", "x_val": "x", "y_val": "y"}, "also holds 'x_val', which"),
    ],
)  # fmt: skip
def test_examples_that_no_part_takes_are_refused(tmp_path, x, arrays, said):
    np.savez(
        tmp_path / "d.npz", **{name: {"x": x, "y": NUMBERS}[of] for name, of in arrays.items()}
    )
    with pytest.raises(InputError, match=said):
        as_data(tmp_path / "d.npz")


def test_arrays_beside_the_data_are_left_alone(tmp_path, x):
    """Figures and ids are no parts; missing labels are not looked at here."""
    y = np.where(NUMBERS == 0, np.nan, NUMBERS)
    pair = {"x_train": x, "y_train": y, "x_test": x, "y_test": NUMBERS}
    beside = {"x_mean": x[0], "y_names": np.array(["a", "b"]), "x_test_ids": NUMBERS, "x_raw": x}
    np.savez(tmp_path / "d.npz", **pair, **beside)
    data = load_npz(tmp_path / "d.npz")
    assert sizes(data) == (45, 5, 50) and np.isnan(data.train.y).any()


def test_splits_of_npz_files_keep_the_shares_of_classes(tmp_path):
    x, y = np.arange(400.0).reshape(200, 2), np.repeat(np.arange(10), 20)
    names = np.array([f"class {i}" for i in range(10)])
    path = tmp_path / "d.npz"
    for labels in (y, names[y]):
        np.savez(path, x_train=x, y_train=labels, x_test=x, y_test=labels)
        assert np.bincount(as_data(path).validation.y).tolist() == [2] * 10
        np.savez(path, x=x, y=labels)
        for part in (as_data(path).validation, as_data(path).test):
            assert np.bincount(part.y).tolist() == [4] * 10


def test_texts_of_an_npz_file_are_numbered_by_its_own_reader_too(tmp_path, x):
    texts = np.array(["eel", "cat", "dog"])[np.arange(50) % 3]
    parts = {"x_train": x, "y_train": texts, "x_test": x[:9], "y_test": texts[:9].astype("S")}
    np.savez(tmp_path / "d.npz", **parts)
    data = load_npz(tmp_path / "d.npz")
    assert data.class_names == ("cat", "dog", "eel")
    assert data.test.y.tolist() == [2, 0, 1] * 3


def test_texts_have_no_numbers_if_the_training_part_has_no_texts(tmp_path, x):
    """They were numbered in an order of their own."""
    numbers, texts = np.arange(50) % 2, np.array(["dog", "cat"])[np.arange(50) % 2]
    np.savez(tmp_path / "d.npz", x_train=x, y_train=numbers, x_test=x, y_test=texts)
    for given in (tmp_path / "d.npz", ((x, numbers), (x, texts))):
        with pytest.raises(InputError, match="test.*: its labels are texts, but those of train"):
            as_data(given)
        data = as_data(given, class_names=("dog", "cat"))
        np.testing.assert_array_equal(data.test.y, numbers)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=texts, x_test=x, y_test=numbers)
    for given in (tmp_path / "d.npz", ((x, texts), (x, numbers))):
        with pytest.raises(InputError, match="test.*: its labels are numbers, but those of train"):
            as_data(given)
        data = as_data(given, class_names=("dog", "cat"))
        np.testing.assert_array_equal(data.test.y, numbers)
        assert data.class_names == ("dog", "cat")


def test_a_share_of_a_part_that_is_there_is_refused(tmp_path, x):
    """It was ignored: 0.3 was asked for, and something else came."""
    path, said = tmp_path / "mine.npz", "validation=0.3 does not apply: the data has its own val"
    names = ("train", "validation", "test")
    np.savez(path, **{f"{a}_{b}": {"x": x, "y": NUMBERS}[a] for a in "xy" for b in names})
    for given in (path, ((x, NUMBERS),) * 3):
        with pytest.raises(InputError, match=said):
            as_data(given, validation=0.3)
    np.savez(path, x=x, y=NUMBERS)
    assert sizes(as_data(path, validation=0.3)) == (25, 15, 10)


def test_class_weights_are_scikit_learns(x):
    from sklearn.utils.class_weight import compute_class_weight

    y = np.repeat([0, 1, 2], [30, 15, 5])
    data = as_data(((x, y), (x, y), (x, y)), class_weight="balanced")
    want = compute_class_weight("balanced", classes=np.arange(3), y=y)
    assert data.class_weight == pytest.approx(dict(enumerate(want)))
    rows = as_data(((x, np.eye(3)[y]),) * 3, class_weight="balanced")
    assert rows.class_weight == pytest.approx(data.class_weight)
    assert as_data(data, class_weight={0: 1, 1: 2, 2: 3}).class_weight == {0: 1.0, 1: 2.0, 2: 3.0}
    two = as_data(((x, y == 0),) * 3, class_weight="balanced")
    assert two.class_weight == pytest.approx({0: 50 / 40, 1: 50 / 60})


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


TABLE = "width,height,species\n1.5,2,oak\n0.5,1,fir\n\n2.5,0,fir\n"


SERIES = np.random.default_rng(2).normal(size=(60, 2)).astype("float32")


@pytest.fixture
def series(tmp_path):
    """A series of two features, with the day's name and whether a step is low or high."""
    lines = (
        f"day {i},{a!r},{b!r},{'high' if a > 0 else 'low'}"
        for i, (a, b) in enumerate(SERIES.tolist())
    )
    return written(tmp_path / "series.csv", "\n".join(["day,a,b,kind", *lines]))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"label": "b", "length": 4}, {"horizon": 1, "targets": 1}),
        ({"label": "b", "length": 4, "horizon": 3}, {"horizon": 3, "targets": 1}),
        ({"label": ["b", "a"], "length": 3, "horizon": 2, "test": 0.3},
         {"horizon": 2, "targets": [1, 0], "test": 0.3}),
        ({"label": "kind", "length": 4}, {"horizon": 0, "labels": (SERIES[:, 0] <= 0).astype(int)}),
        ({"label": "kind", "length": 4, "horizon": 2},
         {"horizon": 2, "labels": (SERIES[:, 0] <= 0).astype(int)}),
    ],
    ids=["a step", "steps", "features", "labels", "later labels"],
)  # fmt: skip
def test_a_csv_of_steps_is_cut_into_windows(series, options, wanted):
    data = as_data(series, features=["a", "b"], **options)
    expected = windows(SERIES, options["length"], **wanted)
    assert data.class_names == (("high", "low") if options["label"] == "kind" else ())
    for name, part in data.parts.items():
        np.testing.assert_allclose(part.x, expected.parts[name].x)
        np.testing.assert_allclose(part.y, expected.parts[name].y)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "b", "horizon": 2}, "horizon= needs length="),
        ({"label": "b", "length": 4, "seed": 1}, "seed= does not apply to windows"),
        ({"label": "b", "length": 0}, "length must be a whole number of at least 1"),
        ({"label": ["a", "b"], "features": ["a"], "length": 4}, "a, b some are features and some"),
        ({"label": "b", "length": 99}, "training part has fewer steps|fewer steps than a window"),
        ({"label": "c", "length": 4}, "has no column 'c'"),
        ({"label": "b"}, "needs feature columns besides"),
    ],
)
def test_windows_of_a_csv_that_can_not_be(series, options, said):
    with pytest.raises(InputError, match=said):
        as_data(series, **{"features": ["a", "b"], **options})


def test_csv_columns_are_features_and_labels(tmp_path):
    path = written(tmp_path / "t.csv", TABLE)
    x, y, names = load_csv(path, label="species")
    assert x.tolist() == [[1.5, 2.0], [0.5, 1.0], [2.5, 0.0]] and x.dtype == "float32"
    assert y.tolist() == [1, 0, 0] and names == ("fir", "oak")
    x, y, names = load_csv(path, label="height", features=["width"])
    assert (x.ravel().tolist(), y.tolist(), y.dtype) == ([1.5, 0.5, 2.5], [2, 1, 0], np.int64)
    several = written(tmp_path / "s.csv", "a;b;c\n1;0;1.5\n0;1;2.5\n")
    x, y, names = load_csv(several, label=["b", "a"], delimiter=";")
    assert y.tolist() == [[0, 1], [1, 0]] and x.tolist() == [[1.5], [2.5]] and names == ()
    lines = [f"{i},{i / 2},{'ab'[i % 2]}" for i in range(40)]
    data = as_data(written(tmp_path / "d.csv", "\n".join(["p,q,label", *lines])))
    assert sizes(data) == (24, 8, 8) and data.class_names == ("a", "b")


def test_class_names_number_texts_and_folders(tmp_path, folder):
    """The names were exchanged, and the numbers stayed in alphabetical order."""
    lines = [f"{i % 2},{i},{'ab'[i % 2]}" for i in range(40)]
    table = written(tmp_path / "d.csv", "\n".join(["p,q,label", *lines]))
    x, texts = np.tile([[0.0, 1.0], [1.0, 1.0]], (20, 1)), np.array(["a", "b"] * 20)
    np.savez(tmp_path / "d.npz", x=x, y=texts)
    np.savez(tmp_path / "p.npz", x_train=x, y_train=texts, x_test=x, y_test=texts)
    for given in (table, tmp_path / "d.npz", tmp_path / "p.npz", (x, texts)):
        data = as_data(given, class_names=("b", "a"))
        assert data.class_names == ("b", "a")
        for part in data.parts.values():
            np.testing.assert_array_equal(part.y, 1 - part.x[:, 0])
    data = as_data(folder, class_names=("oak", "fir"))
    assert data.class_names == ("oak", "fir")
    green = data.test.x[:4].max((1, 2))[:, 1] > 0
    np.testing.assert_array_equal(data.test.y, ~green)
    for given in (table, tmp_path / "d.npz", folder):
        with pytest.raises(InputError, match="but class_names has only"):
            as_data(given, class_names=("first", "second"))


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (TABLE.replace("0.5", "nan"), {"label": "species"}, "Line 3 of t.csv has 'nan' in column "
         "'width', which must hold numbers"),
        (TABLE.replace(",2,", ",nan,"), {"label": "species"}, "Line 2 of t.csv has 'nan' in column "
         "'height', which must hold numbers"),
        (TABLE.replace("2.5", "-inf"), {"label": "species"}, "Line 5 of t.csv has '-inf'"),
        (TABLE, {}, "has no column 'label'; its first line names 'width', 'height', 'species'"),
        (TABLE, {"label": "species", "features": ["depth"]}, "no column 'depth'"),
        (TABLE.replace("0.5", "thick"), {"label": "species"}, "Line 3 of t.csv has 'thick' in "
         "column 'width', which must hold numbers"),
        (TABLE.replace("2.5", ""), {"label": "species"}, "Line 5 of t.csv has ''"),
        (TABLE.replace("0,fir", "0"), {"label": "species"}, "Line 5 of t.csv has 2 columns, and "
         "the header has 3"),
        (TABLE.replace("oak", "7"), {"label": "species"}, "Line 3 of t.csv has 'fir' in the label "
         "column 'species'"),
        ("a,a,label\n1,2,3\n", {}, "several columns named 'a'"),
        ("a,label\n", {}, "holds no examples"),
        ("", {}, "its first line names none"),
        ("a;label\n1;2\n", {}, "or read it with load_csv(..., delimiter=';')"),
        ("label\n1\n", {}, "needs feature columns"),
    ],
)  # fmt: skip
def test_csv_that_can_not_be_read_says_where(tmp_path, text, options, said):
    path = written(tmp_path / "t.csv", text)
    with pytest.raises(InputError) as error:
        load_csv(path, **options)
    assert said in str(error.value) and len(str(error.value)) < 240


@pytest.fixture
def folder(tmp_path):
    """Images of one colour: `fir` is red, `oak` is green, of a brightness of its own each."""
    for channel, name in enumerate(("fir", "oak")):
        for i in range(10):
            pixels = np.zeros((6, 8, 3), "uint8")
            pixels[..., channel] = 100 + i
            path = tmp_path / "images" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(path, pixels, scale=False)
    return tmp_path / "images"


def test_a_folder_of_images_is_read_in_batches(folder):
    data = as_data(folder)
    assert sizes(data) == (12, 4, 4) and data.class_names == ("fir", "oak")
    assert data.train.x.shape == (12, 6, 8, 3) and data.train.x.dtype == "float32"
    seen = []
    for part in (data.train, data.validation, data.test):
        assert np.bincount(part.y).tolist() == [len(part) // 2] * 2
        for images, labels in part.dataset(5):
            colour = images.numpy().max((1, 2))
            np.testing.assert_array_equal(colour.argmax(-1), labels)
            seen += [
                (int(label), int(one.max())) for label, one in zip(labels, colour, strict=True)
            ]
    assert sorted(seen) == [(label, 100 + i) for label in (0, 1) for i in range(10)]
    assert load_images(folder, size=(3, 4)).test.x[:2].shape == (2, 3, 4, 3)


def test_folders_of_parts(folder, tmp_path):
    for part in ("train", "test"):
        (tmp_path / "parts" / part).mkdir(parents=True)
        for name in ("fir", "oak"):
            (tmp_path / "parts" / part / name).symlink_to(folder / name)
    data = as_data(tmp_path / "parts", validation=0.2)
    assert sizes(data) == (16, 4, 20)
    assert sizes(as_data(tmp_path / "parts")) == (18, 2, 20), "0.1 of train, as of other data"
    with pytest.raises(InputError, match="test=0.3 does not apply: the data has its own test"):
        as_data(tmp_path / "parts", test=0.3)
    (tmp_path / "parts" / "test" / "oak").unlink()
    with pytest.raises(InputError, match="test in .* has the classes fir, but train has fir, oak"):
        as_data(tmp_path / "parts")


def saved(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.utils.save_img(path, pixels, scale=False)


GRAY, WIDE = np.full((6, 8, 1), 100, "uint8"), np.full((6, 16, 1), 100, "uint8")
RED = np.stack([GRAY[..., 0], *[np.zeros((6, 8), "uint8")] * 2], -1)


def in_parts(folder, **images):
    for part, pixels in images.items():
        for name in ("fir", "oak"):
            for i in range(10):
                saved(folder / part / name / f"{i}.png", pixels)
    return folder


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_a_folder_of_the_validation_part(tmp_path, name):
    data = as_data(in_parts(tmp_path, train=GRAY, test=GRAY, **{name: GRAY}))
    assert sizes(data) == (20, 20, 20)


def test_folders_that_no_part_takes_are_refused(tmp_path):
    """Classes may be called so, and what holds no images is no part."""
    (tmp_path / "a" / "notes").mkdir(parents=True)
    saved(tmp_path / "a" / "predict" / "unknown" / "0.png", GRAY)
    assert sizes(as_data(in_parts(tmp_path / "a", train=GRAY, test=GRAY))) == (18, 2, 20)
    with pytest.raises(InputError, match="has folders of images in 'dev' too, which tfkd does not"):
        as_data(in_parts(tmp_path / "a", dev=GRAY))
    with pytest.raises(InputError, match="b' has only 'train' and 'val'; give a folder of images"):
        as_data(in_parts(tmp_path / "b", train=GRAY, val=GRAY))
    for i in range(10):
        for name in ("valid", "invalid"):
            saved(tmp_path / "c" / name / f"{i}.png", GRAY)
    assert as_data(tmp_path / "c").class_names == ("invalid", "valid")


def test_all_parts_have_the_shape_of_the_training_images(tmp_path):
    data = as_data(in_parts(tmp_path / "a", train=RED, test=GRAY))
    assert {part.shape for part in data.parts.values()} == {(None, 6, 8, 3)}
    np.testing.assert_array_equal(data.test.x[0], np.repeat(GRAY, 3, -1))
    in_parts(tmp_path / "b", train=GRAY, test=GRAY)
    saved(tmp_path / "b" / "test" / "fir" / "0.png", np.repeat(GRAY, 3, -1))  # gray, saved as RGB
    data = as_data(tmp_path / "b")
    np.testing.assert_array_equal(data.test.x[0], GRAY)
    with pytest.raises(InputError, match=r"0\.png' is in colour, but the first image is gray"):
        as_data(in_parts(tmp_path / "c", train=GRAY, test=RED))
    with pytest.raises(InputError, match=r"0\.png' has 6 × 16 pixels, and .* 6 × 8: give size="):
        as_data(in_parts(tmp_path / "d", train=GRAY, test=WIDE))
    data = as_data(tmp_path / "d", size=(6, 8))
    assert data.test.x[:].shape == (20, 6, 8, 1)


def test_colour_is_not_lost_to_a_first_image_without(tmp_path):
    for i in range(10):
        saved(tmp_path / "fir" / f"{i}.png", RED if i else GRAY)
        saved(tmp_path / "oak" / f"{i}.png", RED)
    data = as_data(tmp_path)
    with pytest.raises(InputError, match="is in colour, but the first image is gray"):
        [part.x[:] for part in data.parts.values()]


def test_bad_images_are_named(folder):
    keras.utils.save_img(folder / "fir" / "9.png", np.zeros((5, 5, 3), "uint8"), scale=False)
    data = as_data(folder)
    with pytest.raises(InputError, match=r"9\.png' has 5 × 5 pixels, and .* 6 × 8: give size="):
        [part.x[:] for part in (data.train, data.validation, data.test)]
    (folder / "fir" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"Cannot read .*0\.png' as an image"):
        as_data(folder)
    (folder / "elm").mkdir()
    with pytest.raises(InputError, match="elm' holds no images"):
        as_data(folder)


def test_windows_of_parts_share_no_step():
    steps = np.arange(100.0)
    data = windows(steps, length=5, horizon=2, stride=1)
    parts = [data.train, data.validation, data.test]
    held = [set(np.r_[part.x.ravel(), part.y.ravel()]) for part in parts]
    assert not held[0] & held[1] and not held[1] & held[2] and not held[0] & held[2]
    assert [min(one) for one in held] == [0, 60, 80] and max(held[2]) == 99
    for part in parts:
        np.testing.assert_array_equal(part.y, part.x[:, -1] + [1, 2])
    assert data.train.x.shape == (54, 5, 1) and windows(steps, 5, stride=3).train.x[1, 0, 0] == 3


def test_windows_forecast_features_or_are_labelled():
    series = np.stack([np.arange(50.0), -np.arange(50.0)], 1)
    assert windows(series, 3).train.y[0].tolist() == [3.0, -3.0]
    assert windows(series, 3, 2).train.y[0].tolist() == [[3.0, -3.0], [4.0, -4.0]]
    assert windows(series, 3, 2, targets=1).train.y[0].tolist() == [-3.0, -4.0]
    data = windows(series, 3, 0, labels=np.array(["up", "down"])[np.arange(50) % 2])
    assert data.class_names == ("down", "up")
    np.testing.assert_array_equal(data.test.y, 1 - data.test.x[:, -1, 0] % 2)
    two = windows([series, series + 1000], 3, 1)
    assert len(two.train) == 2 * len(windows(series, 3).train)
    assert all(np.ptp(window[:, 0]) == 2 for window in two.train.x), "a window is of one series"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.arange(9.0), 5), "part has fewer steps than a window"),
        ((np.arange(9.0), 0), "length must be a whole number of at least 1"),
        ((np.zeros((9, 2, 2)), 2), r"of shape \(steps,\) or \(steps, features\)"),
        ((np.arange(90.0), 5, 0), "horizon must be a whole number of at least 1"),
    ],
)
def test_windows_that_can_not_be(arguments, said):
    with pytest.raises(InputError, match=said):
        windows(*arguments)
    with pytest.raises(InputError, match="targets names feature 3"):
        windows(np.arange(90.0), 5, targets=3)
    with pytest.raises(InputError, match="90 steps but 80 labels"):
        windows(np.arange(90.0), 5, 0, labels=np.zeros(80))


def test_labels_of_several_outputs_keep_their_names_and_rows(tmp_path):
    x = np.arange(50.0).reshape(50, 1)
    given = {"kind": np.array(["b", "a"])[np.arange(50) % 2], "row": x[:, 0]}
    arrays = {"x": x, **{f"y_{name}": labels for name, labels in given.items()}}
    np.savez(tmp_path / "whole.npz", **arrays)
    np.savez(
        tmp_path / "parts.npz",
        x_train=x[:40], y_train_kind=np.arange(40) % 2, y_train_row=x[:40, 0],
        x_test=x[40:], y_test_row=x[40:, 0], y_test_kind=np.arange(10) % 2,
        class_names_kind=["b", "a"],
    )  # fmt: skip
    in_parts = {"train": (x[:40], {"kind": given["kind"][:40], "row": x[:40, 0]})}
    in_parts["test"] = (x[40:], {"row": x[40:, 0], "kind": given["kind"][40:]})
    names = {"kind": ("b", "a")}
    for data in (
        as_data((x, given), class_names=names),
        as_data(tmp_path / "whole.npz", class_names=names),
        as_data(tmp_path / "parts.npz"),
        as_data(in_parts, class_names=names),
        as_data((memmapped(x, tmp_path), given), class_names=names),
    ):
        assert data.class_names == names and set(data.outputs) == {"kind", "row"}
        for part in data.parts.values():
            for few in (part.head(5), *part.batches(7), part.drawn(3)):
                np.testing.assert_array_equal(few.x[:, 0], few.y["row"])
                np.testing.assert_array_equal(few.x[:, 0] % 2, few.y["kind"])
            for inputs, labels in part.dataset(8, seed=1):
                np.testing.assert_array_equal(inputs[:, 0], labels["row"])
            answers, labels = part.answered(lambda rows: {"double": 2 * rows[:, 0]})
            np.testing.assert_array_equal(answers["double"], 2 * labels["row"])
        assert len(representative(data.train)) == len(data.train)
    assert as_data((x, given)).class_names == {"kind": ("a", "b")}


def memmapped(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


X, Y = np.zeros((50, 4), "float32"), NUMBERS
ONE = tf.data.Dataset.from_tensor_slices((X, {"kind": Y})).batch(8)
TWO = tf.data.Dataset.from_tensor_slices((X, {"a": Y, "b": Y})).batch(8)


def uneven():
    yield X, {"a": Y, "b": Y[:3]}


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (None, {}, "A NoneType is not valid data. Give a tfkd.Data, (x, y)"),
        (X, {}, "A ndarray of shape (50, 4) without labels is not valid data"),
        ((X,), {}, "A tuple of 1 is not valid data"),
        ({"x": X, "y": Y}, {}, "A dict with 'x', 'y' is not valid data"),
        ((X, Y, Y[:-1]), {}, "must be the parts (train, validation, test), each (x, y). Give a"),
        ((X, Y, list(Y / 2)), {}, "Weights of examples go into the batches (x, y, weights) of a"),
        ({"train": (X, Y, Y), "test": (X, Y)}, {}, "got tuple. Weights of examples go into the"),
        ((X, Y[:40]), {}, "x has 50 examples and y 40 labels"),
        ((Y, X), {}, "the examples first"),
        ((X, Y * np.nan), {}, "NaN or infinite labels in 50 of 50 rows, the first in row 0"),
        ((X, [None] * 50), {}, "y has dtype object"),
        ((X, [[1], [1, 2]] * 25), {}, "y is not an array"),
        (([[1], [1, 2]], [0, 1]), {}, "pad its examples to one shape"),
        ((np.array(["a"] * 50), Y), {}, "x has dtype <U1"),
        (({"a": X}, Y), {}, "have one input: train models with several inputs"),
        ((X, [Y, np.zeros((50, 2))]), {}, "y holds 2 arrays without names: give the labels of"),
        ((X, [Y, Y, Y]), {}, "as a dict, {'name of the output': labels, ...}"),
        ((X, {"kind": Y}), {}, "y names one output, 'kind': give its array without"),
        ((X, {}), {}, "y is an empty dict"),
        ((X, {"kind": Y, 1: Y}), {}, "A dict of labels must have output names as keys, got 1"),
        ((X, {"kind": Y, "bright": Y[:40]}), {}, "50 examples and y['bright'] 40 labels"),
        ((X, {"kind": Y, "bright": Y * np.nan}), {}, "the output 'bright': y holds NaN"),
        (({"train": (X, {"a": Y, "b": Y}), "test": (X, {"a": Y, "c": Y})}), {}, "for 'a' and 'c'"),
        (
            ({"train": (X, {"a": Y, "b": Y}), "test": (X, Y)}),
            {},
            "test part has labels for one output",
        ),
        ((X, {"a": Y, "b": Y}), {"class_weight": "balanced"}, "class_weight= is for one output"),
        ((X, {"a": Y, "b": Y}), {"class_names": "abcde"}, "a dict of output → names"),
        ((X, {"a": Y, "b": Y}), {"class_names": {"c": "xy"}}, "class_names has names for 'c'"),
        ((X, {"a": Y, "b": Y}), {"class_names": {"b": "xy"}}, "2 class_names of 'b' for labels"),
        ((X, Y), {"class_names": {"a": "xy"}}, "but y is one array"),
        (dict.fromkeys(("train", "validation", "test"), ONE), {}, "y names one output, 'kind'"),
        ({"train": TWO, "validation": TWO, "test": (X, Y)}, {}, "test part has labels for one"),
        (dict.fromkeys(("train", "validation", "test"), uneven), {}, "with different numbers of"),
        ((X[:0], Y[:0]), {}, "holds no examples"),
        ((X, Y), {"class_names": "abc"}, "3 class_names for labels of 5 classes"),
        ((X, Y), {"class_names": "abcda"}, "class_names has 'a' 2 times"),
        ((X, np.array(["b", "c"] * 25)), {"class_names": "ab"}, "'c', but class_names has only"),
        ((X, Y), {"class_weight": {0: 1.0}}, "lacks the classes [1, 2, 3, 4]"),
        ((X, Y), {"class_weight": dict.fromkeys(range(5), -1)}, "a number above 0"),
        ((X, X[:, 0]), {"class_weight": "balanced"}, "for class numbers or one-hot rows"),
        ((X, Y), {"label": "y"}, "label= does not apply to data given as (x, y)"),
        ((X, Y), {"test": 2}, "must be fractions"),
        (((X, Y), (X[:, :2], Y)), {}, "have the shapes (4,) in train"),
        (
            {"train": (X, Y), "test": X},
            {},
            "test: it must be (x, y) or a stream of such batches, got ndarray",
        ),
        ("nowhere.npz", {}, "There is no file or folder 'nowhere.npz'"),
        (([X, X], Y), {}, "x holds several arrays"),
        (__file__, {}, "is not an .npz file, a .csv file or a folder"),
    ],
)
def test_a_wrong_layout_is_answered_with_the_right_one(given, options, said):
    with pytest.raises(InputError) as error:
        as_data(given, **options)
    text = str(error.value)
    assert said in text and len(text) < 330 and "\n" not in text


def test_half_a_validation_part_of_a_file_is_not_left_out_in_silence(tmp_path):
    path, labels = tmp_path / "half.npz", np.arange(4) % 2
    x = np.zeros((4, 2))
    whole = {"x_train": x, "y_train": labels, "x_test": x, "y_test": labels}
    for name, values in (("x_validation", x), ("y_validation", labels)):
        np.savez(path, **whole, **{name: values})
        with pytest.raises(InputError, match=f"has only {name}; save x_validation and y_valida"):
            as_data(path)
