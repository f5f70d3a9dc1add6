"""The worker's answers: data, and never code.

A hostile `.tflite` file may take over the process that runs it, and can then write anything in its
name. So an answer is a line of JSON that describes the values, followed by the bytes of its
arrays, and it must match the return annotation of the called function:

    length of the JSON (8 bytes) | JSON | bytes of the first array, of the second, ...
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
import types
import typing
from typing import Any

import numpy as np

from tfkd import errors
from tfkd.errors import TfkdError, WorkerError
from tfkd.typed import as_type

_LENGTH = struct.Struct("<Q")
#: Most bytes of JSON: large values travel as arrays and bytes.
_MOST_JSON = 16 << 20
_MOST_TEXT = 20_000  # of an error
_DTYPE = re.compile(r"[<>|]?[biufcSU]\d{1,9}")
# Aligns arrays that are views of an answer.
_ALIGNED = 16
_KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, TfkdError)
}


def encode(value: Any) -> bytes:
    """Pack a function's result, in the worker.

    Args:
        value: `None`, bool, int, finite float, str, bytes, an array of numbers or texts, or a
            list, tuple, dict or data class of these.

    Raises:
        TypeError: for anything else.
    """
    return _packed({"ok": value})


def encode_error(error: TfkdError) -> bytes:
    """Pack an error, in the worker."""
    told = {
        "kind": next(kind.__name__ for kind in type(error).__mro__ if kind in _KINDS.values()),
        "text": str(error)[:_MOST_TEXT],
    }
    if isinstance(error, WorkerError):
        told |= {"signal": error.signal, "timed_out": error.timed_out}
        told |= {"out_of_memory": error.out_of_memory}
        told |= {"details": error.details[-_MOST_TEXT:]}
    return _packed({"error": told})


def decode(data: bytearray, function=None) -> Any:
    """Return the result of a call.

    Args:
        data: The bytes that the worker wrote. Arrays are views of them.
        function: The function that was called. If it has a return annotation, the answer must
            match it, and data classes are made from it.

    Raises:
        TfkdError: if the function raised one; it is raised again.
        ValueError: for bytes that no worker of ours writes.
    """
    answer = _unpacked(data)
    if set(answer) == {"error"}:
        raise _error(**answer["error"])
    if set(answer) != {"ok"}:
        raise ValueError("it is neither a value nor an error")
    if not isinstance(function, types.FunctionType):
        return answer["ok"]
    wanted = typing.get_type_hints(function).get("return", Any)
    return as_type(answer["ok"], wanted)


def _packed(value) -> bytes:
    parts: list[bytes] = []

    def told(value):
        if isinstance(value, np.generic) and value.dtype.kind in "biufSU":
            value = value.item()
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (bytes, bytearray)):
            parts.append(bytes(value))
            return {"bytes": len(value)}
        if isinstance(value, np.ndarray) and _DTYPE.fullmatch(value.dtype.str):
            parts.append(np.ascontiguousarray(value).tobytes())
            return {"array": [value.dtype.str, list(value.shape)]}
        if isinstance(value, list):
            return [told(one) for one in value]
        if isinstance(value, tuple):
            return {"tuple": [told(one) for one in value]}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        if isinstance(value, dict):
            return {"dict": [[told(key), told(one)] for key, one in value.items()]}
        raise TypeError(f"a {type(value).__name__} can't be sent as data")

    try:
        text = json.dumps(told(value), allow_nan=False).encode()
    except ValueError:
        raise TypeError("a float that is NaN or infinite can't be sent as data") from None
    if len(text) > _MOST_JSON:
        raise TypeError(f"an answer of {len(text):,} bytes beside its arrays")
    chunks = [_LENGTH.pack(len(text)), text]
    size = len(chunks[0]) + len(text)
    for part in parts:
        chunks += [bytes(-size % _ALIGNED), part]
        size += len(chunks[-2]) + len(part)
    return b"".join(chunks)


def _unpacked(data: bytearray) -> dict:
    """Return a packed value; arrays can't exceed the bytes of the answer."""
    view = memoryview(data)
    (length,) = _LENGTH.unpack(view[: _LENGTH.size])
    place = _LENGTH.size + length
    if length > _MOST_JSON or place > len(view):
        raise ValueError(f"its head would have {length:,} bytes")

    def taken(size):
        nonlocal place
        start = place + -place % _ALIGNED
        if not 0 <= size <= len(view) - start:
            raise ValueError(f"{size:,} announced bytes are missing")
        place = start + size
        return view[start:place]

    def value(told):
        if told is None or isinstance(told, (bool, str)):
            return told
        if isinstance(told, float):
            if not math.isfinite(told):
                raise ValueError("it holds NaN or an infinite number")
            return told
        if isinstance(told, int):
            if not -(2**63) <= told < 2**64:
                raise ValueError("it holds a number of more than 64 bits")
            return told
        if isinstance(told, list):
            return [value(one) for one in told]
        ((kind, told),) = told.items()
        if kind == "tuple" and isinstance(told, list):
            return tuple(value(one) for one in told)
        if kind == "dict":
            return {value(key): value(one) for key, one in told}
        if kind == "bytes" and type(told) is int:
            return bytes(taken(told))
        if kind == "array":
            return array(*told)
        raise ValueError(f"it holds a {kind[:40]!r}")

    def array(dtype, shape):
        if not _DTYPE.fullmatch(dtype) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"it holds an array of {dtype[:40]!r} {str(shape)[:80]}")
        dtype = np.dtype(dtype)
        held = taken(math.prod(shape) * dtype.itemsize)
        return np.ndarray(tuple(shape), dtype, held)

    found = value(json.loads(bytes(view[_LENGTH.size : place])))
    if not isinstance(found, dict):
        raise ValueError("it is not an answer")
    if place != len(view):
        raise ValueError(f"{len(view) - place:,} bytes follow that its head does not announce")
    return found


def _error(kind, text, signal=None, timed_out=False, out_of_memory=False, details="") -> TfkdError:
    if kind not in _KINDS or not isinstance(text, str) or not isinstance(details, str):
        raise ValueError("it holds an unknown error")
    if _KINDS[kind] is not WorkerError:
        return _KINDS[kind](text)
    known = (signal is None or type(signal) is int) and type(timed_out) is bool
    if not known or type(out_of_memory) is not bool:
        raise ValueError("it holds an unknown error")
    return WorkerError(
        text, signal=signal, timed_out=timed_out, out_of_memory=out_of_memory, details=details
    )
