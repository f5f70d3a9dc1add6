"""Splits, `.npz` files and representative samples."""

import io
import zipfile

import numpy as np
import pytest

from tfkd.data import Samples, is_one_hot, load_digits, load_npz, representative, split
from tfkd.errors import InputError


def _saved(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_digits_are_split_three_ways_without_overlap(digits):
    parts = [digits.train, digits.validation, digits.test]
    assert [len(part) for part in parts] == [1077, 360, 360]
    rows = np.concatenate([part.x.reshape(len(part), -1) for part in parts])
    assert len(np.unique(rows, axis=0)) == len(rows) == 1797
    assert digits.train.x.min() == 0.0 and digits.train.x.max() == 1.0
    for part in parts:
        assert np.bincount(part.y).min() / len(part) == pytest.approx(0.1, abs=0.01)


def test_a_seed_repeats_and_another_differs(digits):
    np.testing.assert_array_equal(load_digits(0).test.x, digits.test.x)
    assert not np.array_equal(load_digits(1).test.y, digits.test.y)


def test_split_refuses_what_it_cannot_split():
    with pytest.raises(InputError, match="fractions"):
        split(np.zeros(10), np.zeros(10, int), test=0.7, validation=0.5)
    with pytest.raises(InputError, match="can't be split three ways"):
        split(np.zeros(3), np.arange(3))
    with pytest.raises(InputError, match="x has 3 examples but y has 2"):
        split(np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="no examples"):
        Samples(np.zeros(0), np.zeros(0))


def test_npz_round_trip(tmp_path):
    path = tmp_path / "d.npz"
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20)
    np.savez(path, x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    data = load_npz(path, validation=0.25)
    assert (len(data.train), len(data.validation), len(data.test)) == (15, 5, 5)
    np.testing.assert_array_equal(np.sort(np.r_[data.train.y, data.validation.y]), y)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half a zip"])
def test_npz_that_is_none(tmp_path, content):
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"Cannot read .*d\.npz"):
        load_npz(path)


def complaint_of(path) -> str:
    try:
        load_npz(path)
    except InputError as error:
        return str(error)
    return ""


def test_any_damage_to_an_npz_is_one_error_or_none(tmp_path):
    path, rng = tmp_path / "d.npz", np.random.default_rng(0)
    names, y = np.array(["a", "b", "c"]), np.arange(30) % 3
    x = np.zeros((30, 4), "f")
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y, class_names=names)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        data = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.2 else whole)
        for place in rng.integers(0, max(1, len(data)), rng.integers(1, 6)):
            data[place : place + 1] = bytes([rng.integers(256)])
        path.write_bytes(data)
        told = complaint_of(path)
        assert "\n" not in told
        refused += bool(told)
    assert refused > 200


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test", "class_names"])
@pytest.mark.parametrize(
    "member",
    [b"", b"no array", b"\x93NUMPY\x01\x00\x0a\x00__import__", _saved(np.zeros(30, "f4,i4"))],
    ids=["empty", "bytes", "code", "records"],
)
def test_npz_members_that_are_no_arrays(tmp_path, name, member):
    x, path = np.zeros((30, 4), "f"), tmp_path / "d.npz"
    arrays = {"x_train": x, "y_train": x, "x_test": x, "y_test": x}
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays.items():
            archive.writestr(f"{key}.npy", member if key == name else _saved(array))
        if name == "class_names":
            archive.writestr("class_names.npy", member)
    with pytest.raises(InputError, match=r"d\.npz"):
        load_npz(path)


def test_npz_with_arrays_missing_or_pickled(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x_train=np.zeros(2))
    with pytest.raises(InputError, match="no array 'y_train'; .* no array 'y_test'"):
        load_npz(path)
    objects = np.array([{}], dtype=object)
    np.savez(path, x_train=objects, y_train=objects, x_test=objects, y_test=objects)
    with pytest.raises(InputError, match="Cannot read"):
        load_npz(path)


def test_representative_samples_are_dealt_evenly_over_classes():
    y = np.repeat([0, 1, 2], [900, 60, 40])
    drawn = representative(Samples(np.arange(1000), y), count=90, seed=3)
    assert np.bincount(y[drawn]).tolist() == [30, 30, 30]
    for labels in (y[:, None], np.eye(3, dtype="float32")[y]):
        again = representative(Samples(np.arange(1000), labels), count=90, seed=3)
        np.testing.assert_array_equal(again, drawn)
    everything = representative(Samples(np.arange(1000), y), count=5000)
    assert len(everything) == 1000


def test_one_hot_rows_are_told_from_other_labels():
    assert is_one_hot(np.eye(4)) and is_one_hot(np.eye(4, dtype=bool))
    for other in (np.arange(4), np.ones((4, 1)), np.eye(4) * 0.9, np.ones((4, 2)), [["a", "b"]]):
        assert not is_one_hot(other)


def test_labels_of_one_output_beside_those_of_several_are_named(tmp_path):
    x, y = np.zeros((30, 4), "f"), np.arange(30) % 3
    np.savez(tmp_path / "d.npz", x=x, y=y, y_kind=y)
    with pytest.warns(UserWarning, match="'y' is read, and not 'y_kind': labels"):
        assert not load_npz(tmp_path / "d.npz").outputs
