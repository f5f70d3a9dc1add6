"""A worker writes only data: the requested result, or one error."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import typing

import numpy as np
import pytest

from tfkd.errors import ConversionError, InputError, WorkerError
from tfkd.export.runtime import answers
from tfkd.loading.file_check import UnregisteredError


@dataclasses.dataclass(frozen=True)
class Step:
    name: str
    us: float


class Told(typing.TypedDict):
    steps: tuple[Step, ...]
    memory: int | None


def there_and_back(value, function=None):
    return answers.decode(bytearray(answers.encode(value)), function)


def returning(annotation):
    """Return a function that says that it returns this."""
    function = lambda: None  # noqa: E731  what it is called does not matter
    function.__annotations__ = {"return": annotation}
    return function


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, -3, 2**64 - 1, 1.5, "a\n\ud800\x1b", b"", b"\x00TFL3", [], ()),
        [1, (2, "x"), [b"y"], {"k": None, 3: (4.0,)}],
    ],
)
def test_plain_values_travel(value):
    assert there_and_back(value) == value


@pytest.mark.parametrize(
    "array",
    [
        *(np.arange(6, dtype=t).reshape(2, 3) for t in ("i1", "u8", "f2", "f4", "f8", "c8", ">i4")),
        *(np.zeros((0, 3), "f4"), np.array(2.5), np.array([[True], [False]])),
        *(np.array(["a", "bc"]), np.array([b"x", b"yz"]), np.arange(12.0).reshape(3, 4).T),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_travel_and_can_be_written(array):
    before, got, after = there_and_back((b"odd", array, b"!"))
    assert (before, after) == (b"odd", b"!")
    assert got.dtype == array.dtype and got.flags.writeable and got.flags.aligned
    np.testing.assert_array_equal(got, array)


def test_numbers_of_numpy_become_pythons():
    values = there_and_back([np.float32(0.5), np.int8(-1), np.bool_(True)])
    assert list(map(type, values)) == [float, int, bool]


@pytest.mark.parametrize(
    "value", [{1}, object(), 1j, math.nan, np.array([{}]), np.zeros(2, "M8[s]"), len]
)
def test_what_is_no_data_does_not_travel(value):
    with pytest.raises(TypeError, match="can't be sent as data"):
        answers.encode(value)


def test_errors_travel_as_what_they_are():
    worker = WorkerError("died", signal=11, out_of_memory=True, details="Traceback")
    for error in (InputError("bad"), ConversionError("refused"), worker):
        with pytest.raises(type(error), match=str(error)) as got:
            answers.decode(bytearray(answers.encode_error(error)))
        assert vars(got.value) == vars(error)
    # One of a kind that only some modules know is of the next kind that all know.
    with pytest.raises(InputError, match="not registered"):
        answers.decode(bytearray(answers.encode_error(UnregisteredError("A", "keras"))))


@pytest.mark.parametrize(
    ("annotation", "value", "got"),
    [
        (tuple[Step, ...], (Step("a", 1.0), Step("b", 2)), (Step("a", 1.0), Step("b", 2.0))),
        (Told, {"steps": (), "memory": 5}, {"steps": (), "memory": 5}),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (list[np.ndarray], [], []),
        (tuple[bytes, list[str]], (b"x", ["y"]), (b"x", ["y"])),
        (None, None, None),
        (typing.Any, [1], [1]),
    ],
)
def test_an_answer_is_what_the_function_says_that_it_returns(annotation, value, got):
    assert there_and_back(value, returning(annotation)) == got


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Step, {"name": "a"}),
        (Step, {"name": "a", "us": 1.0, "more": 1}),
        (Step, {"name": b"a", "us": 1.0}),
        (Told, {"steps": ({"name": "a", "us": "long"},), "memory": None}),
        (float, True),
        (int, 1.0),
        (int | None, "1"),
        (list[np.ndarray], [1]),
        (list[np.ndarray], (np.zeros(1),)),
        (tuple[int, int], (1,)),
        (tuple[int, int], (1, 2, 3)),
        (dict[str, float], {1: 1.0}),
        (None, 0),
        (bytes, "text"),
    ],
)
def test_another_answer_is_none(annotation, value):
    with pytest.raises(ValueError, match="in place of"):
        there_and_back(value, returning(annotation))


def message(text: str, blob: bytes = b"") -> bytearray:
    return bytearray(struct.pack("<Q", len(text)) + text.encode() + blob)


@pytest.mark.parametrize(
    "told",
    [
        *(1, None, [], {"ok": 1, "error": {}}, {}),
        {"dict": [["ok", {"array": ["|O", [1]]}]]},
        {"dict": [["ok", {"array": ["<f4,<i4", [1]]}]]},
        {"dict": [["ok", {"array": ["<f4", [-1]]}]]},
        {"dict": [["ok", {"array": ["<f4", [2**40, 2**40]]}]]},
        {"dict": [["ok", {"array": ["<f4", [0, 2**70]]}]]},
        {"dict": [["ok", {"array": ["<f4", [1.0]]}]]},
        {"dict": [["ok", {"array": ["<U4294967295", [1]]}]]},
        {"dict": [["ok", {"bytes": -8}]]},
        {"dict": [["ok", {"bytes": True}]]},
        {"dict": [["ok", {"bytes": 10**9}]]},
        {"dict": [["ok", {"module.Class": []}]]},
        {"dict": [["ok", {"tuple": "abc"}]]},
        {"dict": [["ok", {}]]},
        {"dict": [["ok", 2**64]]},
        {"dict": [["ok", math.nan]]},
        {"dict": [["ok", [-math.inf]]]},
        {"dict": [["ok", {"dict": [[[], 1]]}]]},
        {"dict": [["error", {"dict": [["kind", "SystemExit"], ["text", "x"]]}]]},
        {"dict": [["error", {"dict": [["kind", "InputError"], ["text", 5]]}]]},
        {"dict": [["error", {"dict": [["kind", "InputError"], ["text", "x"], ["y", 1]]}]]},
        {"dict": [["error", "os.system"]]},
    ],
    ids=lambda told: json.dumps(told)[:60],
)
def test_what_no_worker_writes_is_refused(told):
    with pytest.raises((ValueError, TypeError)):
        answers.decode(message(json.dumps(told)))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x01", struct.pack("<Q", 2**63), struct.pack("<Q", 50) + b"{}"),
        message("[" * 100_000),
        message('{"dict": [["ok", ' + "9" * 5000 + "]]}"),
        message('{"dict": [["ok", 1]]}', b"more"),
        message("\xff"),
    ],
    ids=range(8),
)
def test_bytes_that_are_no_answer_are_refused(data):
    with pytest.raises((ValueError, struct.error, RecursionError)):
        answers.decode(bytearray(data))


def test_any_damage_is_a_value_or_an_error_and_takes_no_memory():
    whole = answers.encode((np.arange(100.0), [b"x" * 50, "text"], {"a": 1}))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            data[place] = rng.integers(256)
        try:
            answers.decode(data)
        except MemoryError:
            raise
        except Exception:  # the worker makes one error of all of them
            pass
