"""Fingerprints: whether two examples, models or settings are the same, in any process.

example_keys(x)      an example of a batch, by its bytes
fingerprint(value)   a model, a function, a setting: whatever decides a result
identity(value)      the same, readable, for settings that are kept in a folder
trainee(model)       a model with what acts in its training alone
contents(part)       the examples of a part of the data
changes(part)        whether another pass has other examples
"""

from __future__ import annotations

import copyreg
import enum
import functools
import io
import logging
import os
import pathlib
import struct
import types
import weakref
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import tensorflow as tf

from tfkd import hashing
from tfkd.data import Part, Samples, Stream
from tfkd.errors import InputError
from tfkd.model import code, layers
from tfkd.model.examples import example_keys, keys_at_once

__all__ = ["example_keys", "fingerprint", "identity"]


def fingerprint(value) -> str:
    """Return a hash of everything in a value that decides a result.

    Two values with the same fingerprint compute the same, in this process or another. Values
    that have no such fingerprint are refused.

    Args:
        value: Plain values, containers, paths (as text), arrays, tensors, variables, dtypes,
            classes, objects; functions, with their bytecode, defaults, closure and the
            globals that they read; Keras 3 and tf_keras layers and models, with graph,
            configuration, constants and weights. Names that Keras gives by counting
            (`dense_3`) don't matter.

    Returns:
        64 hexadecimal digits of blake2b.

    Raises:
        InputError: for objects without a value of their own: a lock, an open file, a generator, a
            dataset, a tensor of a graph, a model without weights.
    """
    return _Hasher(value).digest(value).hex()


def identity(value):
    """Return values that identify a setting and that JSON can hold.

    Args:
        value: As for `fingerprint`.

    Returns:
        None, numbers, text and paths as they are, containers of these likewise, anything else as
        `[kind, digest]`.

    Raises:
        InputError: as `fingerprint`.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value) in (list, tuple):
        return [identity(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): identity(one) for name, one in value.items()}
    return [_kind(value), fingerprint(value)]


def trainee(model) -> list:
    """Return a value that identifies a model that will be trained, for `fingerprint`.

    `fingerprint(model)` is about what a model computes. Its training also depends on which layers
    are frozen, and on regularizers, constraints and seeds.

    Args:
        model: A model of either Keras, or a function that makes one.
    """
    return [model, layers.training_parts(model) if layers.is_operation(model) else None]


def contents(part: Part):
    """Return a value that identifies the examples of a part, for `fingerprint` and `identity`.

    Examples that are not in memory are read once, and their order does not matter: a stream may be
    shuffled.
    """
    if isinstance(part, Samples) and part.in_memory:
        return [part.x, part.y]
    total, count = np.zeros(2, np.uint64), 0
    for row in part.rows(part.at_once()):
        total += keys_at_once(row).view(np.uint64).sum(0)
        count += len(row[0])
    return [count, *map(int, total)]


def changes(part: Part) -> bool:
    """Tell whether another pass over a part has other examples, and not only another order.

    The examples at the start of a stream are looked for in another pass, which ends where all of
    them are found: soon, unless the stream is shuffled.
    """
    if not isinstance(part, Stream):
        return False
    size = part.at_once()
    wanted = _separate_keys(part.head(size).x)
    getattr(part.source, "on_epoch_end", lambda: None)()  # a PyDataset may augment there
    for x, *_ in part.rows(size):
        wanted -= _separate_keys(x)
        if not wanted:
            return False
    return True


def _separate_keys(x) -> set[bytes]:
    return {key.tobytes() for key in keys_at_once(x)}


def _kind(value) -> str:
    """Return the name of a value's kind for messages and files."""
    function = getattr(value, "func", value)  # of a functools.partial
    return getattr(function, "__qualname__", None) or type(value).__name__


_FIXED = (tf.dtypes.DType, tf.TensorShape, tf.TypeSpec, np.dtype, np.ufunc)
_BUILT_IN = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


class _Hasher:
    """Hashes one value; hashes equal parts once, and ends at cycles.

    Attributes:
        root: The name of the whole value in messages.
    """

    def __init__(self, root):
        self.root = _kind(root)
        self._done: dict[int, tuple[Any, bytes]] = {}  # the value keeps its id
        self._open: dict[int, int] = {}
        self._reaches = 0

    def digest(self, value) -> bytes:
        """Return 32 bytes that represent a value."""
        plain = _plain(value)
        if plain is not None:
            return hashing.digest_of([type(value).__name__.encode(), plain])
        if id(value) in self._done:
            return self._done[id(value)][1]
        depth = len(self._open)
        if id(value) in self._open:  # a function that calls itself, an object that holds itself
            self._reaches = min(self._reaches, self._open[id(value)])
            return hashing.digest_of([b"circle", str(depth - self._open[id(value)]).encode()])
        outer, self._reaches = self._reaches, depth
        self._open[id(value)] = depth
        try:
            found = self._composed(value)
        except RecursionError:
            raise self._refusal(value, "it is nested too deeply") from None
        finally:
            del self._open[id(value)]
        if self._reaches >= depth:  # it has no reference to an enclosing value
            self._done[id(value)] = (value, found)
        self._reaches = min(outer, self._reaches)
        return found

    def _composed(self, value) -> bytes:
        tag, parts = self._parts(value)
        if isinstance(parts, bytes):
            return hashing.digest_of([tag.encode(), parts])
        if isinstance(parts, Mapping):
            pairs = (self.digest(name) + self.digest(one) for name, one in parts.items())
            return hashing.digest_of([tag.encode(), *sorted(pairs)])
        if isinstance(parts, Set):
            return hashing.digest_of([tag.encode(), *sorted(map(self.digest, parts))])
        return hashing.digest_of([tag.encode(), *map(self.digest, parts)])

    def _parts(self, value) -> tuple[str, Any]:
        """Return a name for the kind of a value, and its bytes or its parts."""
        if isinstance(value, (list, tuple, Mapping, Set)):
            named = type(value) in (list, tuple, dict, set, frozenset)
            return type(value).__name__ if named else f"a {type(value).__qualname__}", value
        if isinstance(value, enum.Enum):
            return "enum", [type(value).__qualname__, value.name, value.value]
        if isinstance(value, _FIXED):
            return "fixed", [type(value).__name__, repr(value)]
        if isinstance(value, types.ModuleType):
            return "module", value.__name__.encode()
        if isinstance(value, types.CodeType):
            return "code", code.code_parts(value)
        if isinstance(value, type):
            name = code.library_name(value)
            return ("class", name.encode()) if name else ("class", code.class_parts(value))
        if layers.is_operation(value):
            return "layer", layers.layer_parts(value, self.digest)
        if all(hasattr(value, name) for name in ("dtype", "shape")):
            return "array", self._array(value)
        function = self._function(value)
        return function if function is not None else self._object(value)

    def _function(self, value) -> tuple[str, Any] | None:
        if isinstance(value, functools.partial):
            return "partial", [value.func, value.args, value.keywords]
        if isinstance(value, types.FunctionType):
            name = code.library_name(value)
            return ("named", name.encode()) if name else ("function", code.function_parts(value))
        if isinstance(value, types.MethodType):
            return "method", [value.__func__, value.__self__]
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            bound = owner is not None and not isinstance(owner, types.ModuleType)
            return "builtin", [value.__module__, value.__qualname__, owner if bound else None]
        if isinstance(value, _BUILT_IN):
            return "builtin", [value.__objclass__, value.__name__]
        if isinstance(value, (staticmethod, classmethod)):
            return type(value).__name__, [value.__func__]
        if isinstance(value, property):
            return "property", [value.fget, value.fset, value.fdel]
        if isinstance(value, functools.cached_property):
            return "property", [value.func]
        if isinstance(value, functools._lru_cache_wrapper):
            return "cached", [value.__wrapped__]
        if hasattr(value, "python_function"):  # tf.function
            return "tf.function", [value.python_function, getattr(value, "input_signature", None)]
        if hasattr(value, "graph") and hasattr(value, "captured_inputs"):
            raise self._refusal(value, "a loaded function has no name; give the path of its file")
        return None

    def _object(self, value) -> tuple[str, Any]:
        if isinstance(value, logging.Logger):
            return "logger", value.name.encode()
        if isinstance(value, weakref.ReferenceType):
            return "weak", [value()]
        kind = type(value)
        if isinstance(value, (tf.data.Dataset, io.IOBase)):
            raise self._refusal(value, "it has no value of its own")
        config = getattr(value, "get_config", None)
        if callable(config) and code.library_name(kind) is not None:
            settings = {n: v for n, v in layers.settings_of(value).items() if n != "name"}
            held = layers.functions_in(value) | {"config": layers.clean(settings)}
            return "configured", [kind, held]
        held = dict(vars(value)) if hasattr(value, "__dict__") else {}
        slots = [name for one in kind.__mro__ for name in _slots(one) if hasattr(value, name)]
        if held or slots or (hasattr(value, "__dict__") and kind.__reduce__ is object.__reduce__):
            return "object", [kind, held | {name: getattr(value, name) for name in slots}]
        try:
            reduce = copyreg.dispatch_table.get(kind, lambda one: one.__reduce_ex__(2))
            found = reduce(value)
            return "reduced", found.encode() if isinstance(found, str) else [*found]
        except Exception as error:  # whatever the value's class raises, as ctypes does for pointers
            raise self._refusal(value, str(error)) from None

    def _array(self, value) -> list:
        try:
            array = np.asarray(value)
        except Exception as error:
            raise self._refusal(value, "it has no value outside its graph") from error
        head = [array.dtype.str, getattr(value.dtype, "name", str(value.dtype)), array.shape]
        if array.dtype.hasobject:
            return [*head, array.reshape(-1).tolist()]
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return [*head, hashing.digest(data.data)]

    def _refusal(self, value, why: str) -> InputError:
        what = f"{_kind(value)!r} ({type(value).__module__}.{type(value).__qualname__})"
        inside = f" in {self.root!r}" if self.root != _kind(value) else ""
        return InputError(
            f"{what}{inside} could not be recognized in another process: {why}. Use plain "
            "values, arrays, models and functions of these, or keep no results in a folder."
        )


def _plain(value) -> bytes | None:
    """Return the bytes of a value without parts."""
    if value is None or value is Ellipsis or value is NotImplemented:
        return repr(value).encode()
    kind = type(value)
    if kind in (bool, int):
        return str(value).encode()
    if kind is float:
        return struct.pack("<d", value)
    if kind is complex:
        return struct.pack("<dd", value.real, value.imag)
    if kind is str:
        return value.encode("utf-8", "surrogatepass")
    if kind in (bytes, bytearray):
        return bytes(value)
    if isinstance(value, pathlib.PurePath):
        return os.fspath(value).encode()
    return None


def _slots(kind: type) -> list[str]:
    found = vars(kind).get("__slots__", ())
    found = (found,) if isinstance(found, str) else found
    return [name for name in found if name not in ("__dict__", "__weakref__")]
