"""What a function or a class computes, as values that can be hashed.

Code in installed libraries (the standard library, site-packages, tfkd itself) is identified by
its qualified name; a user's own by its bytecode and everything that the bytecode reads.
"""

from __future__ import annotations

import dis
import functools
import pathlib
import site
import sys
import sysconfig
import types

import keras
import numpy as np
import tensorflow as tf

_EMPTY = "tfkd: an empty cell"
_NO_CELL = types.CellType()
# What Python, ABCMeta and dataclasses write into a class; it decides nothing.
_WRITTEN_BY_PYTHON = {
    "__module__", "__qualname__", "__dict__", "__weakref__", "__doc__", "__annotations__",
    "__annotate__", "__annotate_func__", "__annotations_cache__", "__firstlineno__",
    "__static_attributes__", "__abstractmethods__", "_abc_impl", "__orig_bases__",
    "__parameters__", "__dataclass_fields__", "__dataclass_params__", "__match_args__",
    "__classcell__", "__type_params__",
}  # fmt: skip


def library_name(thing) -> str | None:
    """Return `module.qualname` of what an installed library defines.

    Args:
        thing: A function, method descriptor or class.

    Returns:
        The name, or `None` for a user's own code, and for a function without a name of its own.
    """
    module = getattr(thing, "__module__", None)
    if module is None:
        owner = getattr(thing, "__objclass__", None)  # a method of a built-in class
        module = getattr(owner, "__module__", None)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not isinstance(module, str) or not name or not is_library(module):
        return None
    # An inner function depends on its closure, and a user's function may have any name.
    inner = isinstance(thing, types.FunctionType) and "<" in name
    if inner or not in_library(getattr(getattr(thing, "__code__", None), "co_filename", __file__)):
        return None
    return f"{module}.{name}"


#: Folders of installed packages, including those of the base environment.
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@functools.cache
def is_library(module: str) -> bool:
    """Tell whether a module belongs to Python, an installed package or tfkd."""
    root = module.split(".")[0]
    if root == "tfkd" or root in sys.stdlib_module_names or root in sys.builtin_module_names:
        return True
    found = sys.modules.get(module) or sys.modules.get(root)
    file = getattr(found, "__file__", None)
    return file is not None and in_library(file)


@functools.cache
def in_library(file: str) -> bool:
    """Tell whether a source file belongs to Python, an installed package or tfkd."""
    if file.startswith("<__array_function__"):  # NumPy's dispatchers
        return True
    path = pathlib.Path(file).absolute()
    if file.startswith("<frozen") or not _INSTALLED.isdisjoint(path.parts):
        return True
    return any(path.is_relative_to(root) for root in _roots())


@functools.cache
def _roots() -> tuple[pathlib.Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_path(name) for name in names]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    found.append(pathlib.Path(__file__).parent.parent)
    # In any other folder, as after `pip install --target`.
    found += [pathlib.Path(one.__file__).parent for one in (keras, np, tf)]
    return tuple(pathlib.Path(one).absolute() for one in found if one)


def code_parts(code: types.CodeType) -> list:
    """Return what a code object does: no names of files, no line numbers."""
    return [
        code.co_code,
        list(code.co_consts),
        [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars],
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
        getattr(code, "co_exceptiontable", b""),
    ]


def function_parts(function: types.FunctionType) -> dict:
    """Return what a function computes with: code, defaults, closure and globals."""
    code = function.__code__
    cells = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            cells[name] = cell.cell_contents
        except ValueError:
            cells[name] = _EMPTY
    return {
        "code": code,
        "defaults": function.__defaults__,
        "kwdefaults": function.__kwdefaults__,
        "closure": cells,
        # The globals of library code are the library's.
        "globals": {} if in_library(code.co_filename) else _read(code, function.__globals__),
    }


def _read(code: types.CodeType, names: dict) -> dict:
    """Return the values of the globals that code and its inner functions read.

    For a user's module, return the attributes that the code reads, or else the module's whole text.
    """
    found = {}
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "NOP")]
    for i, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            _add_module(found, f"import {step.argval}", sys.modules.get(step.argval), [])
        if step.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or step.argval not in names:
            continue
        value = names[step.argval]
        if isinstance(value, types.ModuleType):
            path = []
            for following in steps[i + 1 :]:
                if following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                path.append(following.argval)
            _add_module(found, step.argval, value, path)
        else:
            found[step.argval] = value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.update(_read(constant, names))
    return found


def _add_module(found: dict, name: str, module, path: list[str]) -> None:
    """Add the attributes read from a module by `module.a.b`."""
    if module is None or is_library(module.__name__):
        found[name] = module
        return
    value = module
    for part in path:
        if not isinstance(value, types.ModuleType) or is_library(value.__name__):
            break
        name, value = f"{name}.{part}", getattr(value, part, None)
    file = getattr(value, "__file__", None) if isinstance(value, types.ModuleType) else None
    if file is not None and not is_library(value.__name__) and pathlib.Path(file).is_file():
        value = pathlib.Path(file).read_bytes()
    found[name] = value


def class_parts(kind: type) -> dict:
    """Return what a user's class is made of: its bases, functions and values."""
    held = {name: v for name, v in vars(kind).items() if name not in _WRITTEN_BY_PYTHON}
    slots = (types.MemberDescriptorType, types.GetSetDescriptorType)
    held = {name: name if isinstance(v, slots) else v for name, v in held.items()}
    return {"name": kind.__qualname__, "bases": list(kind.__bases__), "held": held}


@functools.cache
def names_set_by(kind: type) -> frozenset[str]:
    """Return the attributes that a library class's own methods set: its bookkeeping."""
    found: set[str] = set()
    todo = [getattr(v, "__func__", getattr(v, "fget", v)) for v in vars(kind).values()]
    seen = set()
    while todo:
        value = todo.pop()
        if isinstance(value, types.FunctionType):  # a decorator keeps the function in its closure
            todo += [value.__code__, getattr(value, "__wrapped__", None)]
            todo += [cell.cell_contents for cell in value.__closure__ or () if cell != _NO_CELL]
        elif isinstance(value, types.CodeType) and value not in seen:
            seen.add(value)
            steps = dis.get_instructions(value)
            found |= {step.argval for step in steps if step.opname == "STORE_ATTR"}
            todo += value.co_consts
    return frozenset(found)
