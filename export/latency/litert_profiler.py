"""LiteRT's profiler, which only its C library has; call these functions in a worker only.

`Interpreter` has no profiler in Python. The "compiled model" in the wheel's `libLiteRt` has one,
around the same kernels, and `run` calls it through C (litert/c/litert_compiled_model.h and
litert_profiler.h in google-ai-edge/LiteRT). The functions there, and the memory that they touch,
change between releases, so `run` accepts only the releases that were tested.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import functools
import importlib.metadata
import math
import pathlib
import time

import numpy as np

from tfkd.errors import ConversionError, MissingDependencyError, UnsupportedError, WorkerError
from tfkd.export.runtime import native_stderr

#: Releases of ai-edge-litert whose C functions are known.
RELEASES = ("2.1.6", "2.2.0", "2.3.0")
#: Kernels: XNNPACK's, or TensorFlow Lite's own that are optimized for the processor. The plain
#: ones (`"reference"` elsewhere) are not available: since 2.2 LiteRT accepts that option but
#: still runs the optimized kernels.
ENGINES = ("xnnpack", "builtin")
#: Operators that run other graphs; their time is that of the graphs.
CONTROL = ("WHILE", "IF", "CALL", "CALL_ONCE")

_WARM_UP_SECONDS, _SECONDS = 0.2, 1.0
_LEAST_RUNS, _MOST_RUNS, _BLOCK = 10, 2000, 20
# Fraction of runs that count, fastest first: other load disturbed the rest.
_KEPT = 0.8

_handle, _size, _pointer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
_FUNCTIONS = {
    "CreateEnvironment": (ctypes.c_int, _pointer, _pointer),
    "CreateModelFromBuffer": (_handle, _pointer, _size, _pointer),
    "GetModelSignature": (_handle, _size, _pointer),
    "GetNumSignatureInputs": (_handle, _pointer),
    "GetNumSignatureOutputs": (_handle, _pointer),
    "GetSignatureInputTensorByIndex": (_handle, _size, _pointer),
    "GetSignatureOutputTensorByIndex": (_handle, _size, _pointer),
    "GetTensorIndex": (_handle, _pointer),
    "GetRankedTensorType": (_handle, _pointer),
    "CreateOptions": (_pointer,),
    "SetOptionsHardwareAccelerators": (_handle, ctypes.c_int),
    "CreateOpaqueOptions": (ctypes.c_char_p, _pointer, _pointer, _pointer),
    "AddOpaqueOptions": (_handle, _handle),
    "CreateCompiledModel": (_handle, _handle, _handle, _pointer),
    "GetCompiledModelInputBufferRequirements": (_handle, _size, _size, _pointer),
    "GetCompiledModelOutputBufferRequirements": (_handle, _size, _size, _pointer),
    "CreateManagedTensorBufferFromRequirements": (_handle, _pointer, _handle, _pointer),
    "GetTensorBufferPackedSize": (_handle, _pointer),
    "LockTensorBuffer": (_handle, _pointer, ctypes.c_int),
    "UnlockTensorBuffer": (_handle,),
    "RunCompiledModel": (_handle, _size, _size, _pointer, _size, _pointer),
    "CompiledModelGetProfiler": (_handle, _pointer),
    "StartProfiler": (_handle,),
    "StopProfiler": (_handle,),
    "GetNumProfilerEvents": (_handle, _pointer),
    "GetProfilerEvents": (_handle, ctypes.c_int, _pointer),
}
_UNSUPPORTED, _CPU, _WRITE = 5, 1, 1
# A tensor's type and shape: 72 bytes in the releases above.
_TYPE_BYTES = 256
# The library's callback to free a buffer, which here belongs to Python.
_keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda address: None)

_EVENT = np.dtype(
    [
        ("tag", np.uint64),  # the address of a string
        ("kind", np.int32),
        ("start_us", np.uint64),
        ("us", np.uint64),
        ("memory", np.uint64, 6),
        ("index", np.uint64),
        ("graph", np.uint64),
        ("source", np.int32),
    ],
    align=True,
)
# Kinds of event: of the runtime itself, of an operator, of a delegate's operator.
_RUNTIME, _OPERATOR, _DELEGATE = 1, 2, 8
_KINDS = [1 << bit for bit in range(9)]
_LONGEST_TAG = 200


@dataclasses.dataclass(frozen=True)
class Step:
    """The profiler's report about one operator.

    Attributes:
        graph: Index of the operator's graph.
        tag: The operator, or the delegate's name for an operator of the delegate.
        index: Its place in that graph; `None` for an operator of a delegate.
        calls: How often a run calls it: more than once in a loop.
        us: Microseconds of a run, all calls together.
    """

    graph: int
    tag: str
    index: int | None
    calls: int
    us: float


@dataclasses.dataclass(frozen=True)
class Trace:
    """The times of a file that was run with the profiler.

    Attributes:
        release: The release of ai-edge-litert.
        runs: Number of runs with the profiler, and of runs without.
        total_us: Microseconds of a whole call without the profiler.
        steps: The operators in the order in which they run.
    """

    release: str
    runs: int
    total_us: float
    steps: tuple[Step, ...]


def run(data, infos, indices, signature, arrays, engine, threads, runs) -> Trace:
    """Run a file with and without the profiler, in turns.

    Args:
        data: The file's bytes.
        infos: `TensorInfo` of each input.
        indices: Indices of these inputs among the tensors of the main graph.
        signature: Index of the signature that runs the main graph.
        arrays: One array per input, or `None` for random numbers.
        engine: One of `ENGINES`.
        threads: How many the kernels may use.
        runs: Runs with the profiler, and as many without; `None` for as many as take about a
            second.

    Raises:
        MissingDependencyError: for a release that has no profiler or is not known.
        UnsupportedError: if the library does not read such files.
        ConversionError: if the library refuses the file.
        WorkerError: if the profiler's report can't be times.
    """
    library = _Library()
    if arrays is None:
        rng = np.random.default_rng(0)
        arrays = [info.quantize(rng.random(info.shape, np.float32)) for info in infos]
    with _refusal(engine):
        model = _Model(library, data, signature, engine, threads)
        model.feed(dict(zip(indices, arrays, strict=True)))
        return _measured(model, runs)


class _RefusalError(Exception):
    def __init__(self, name, status):
        super().__init__(f"LiteRt{name} returned {status}")
        self.status = status


@contextlib.contextmanager
def _refusal(engine):
    """Turn a refusal into an error that quotes the library, which only prints to stderr."""
    with native_stderr.captured() as said:
        try:
            yield
        except _RefusalError as refused:
            words = [line.split("ERROR: ", 1)[1] for line in said() if "ERROR: " in line]
            reason = "; ".join([*words, str(refused)])
            kind = UnsupportedError if refused.status == _UNSUPPORTED else ConversionError
            raise kind(f"LiteRT's profiler ({engine}) refuses this file: {reason}.") from None


class _Library:
    """The C functions; a call raises if the function returns anything but zero."""

    def __init__(self):
        import ai_edge_litert

        try:
            self.release = importlib.metadata.version("ai-edge-litert")
        except importlib.metadata.PackageNotFoundError:
            self.release = "of an unknown release"
        folder = pathlib.Path(ai_edge_litert.__file__).parent
        found = [path for end in ("so", "dylib", "dll") for path in folder.glob(f"libLiteRt.{end}")]
        if self.release not in RELEASES or not found:
            raise self._missing()
        try:
            library = ctypes.CDLL(str(found[0]))
            self.functions = {name: getattr(library, f"LiteRt{name}") for name in _FUNCTIONS}
        except (OSError, AttributeError) as error:
            raise self._missing(f" ({error})") from None
        for name, function in self.functions.items():
            function.argtypes, function.restype = _FUNCTIONS[name], ctypes.c_int

    def _missing(self, why: str = "") -> MissingDependencyError:
        return MissingDependencyError(
            f"ai-edge-litert {self.release} reports no time per operator here{why}; the releases "
            f"{', '.join(RELEASES)} do: pip install 'ai-edge-litert=={RELEASES[-1]}'. `benchmark` "
            "times whole calls with any release."
        )

    def __call__(self, name, *arguments):
        status = self.functions[name](*arguments)
        if status:
            raise _RefusalError(name, status)

    def made(self, name, *arguments):
        """Call a function whose last argument is the place for a handle, and return the handle."""
        handle = ctypes.c_void_p()
        self(name, *arguments, ctypes.byref(handle))
        return handle

    def number(self, name, *arguments) -> int:
        """Call a function whose last argument is the place for a number of 32 or 64 bits."""
        return self.made(name, *arguments).value or 0


class _Model:
    """A file in LiteRT, compiled for the processor, with buffers for one call."""

    def __init__(self, library, data, signature, engine, threads):
        self.library = library
        environment = library.made("CreateEnvironment", 0, None)
        self.memory = (ctypes.c_ubyte * len(data)).from_buffer_copy(data)
        hidden = _unread(data)
        for place in hidden:
            self.memory[place] = bytes(place.stop - place.start)
        model = library.made("CreateModelFromBuffer", environment, self.memory, len(data))
        for place in hidden:
            self.memory[place] = data[place]
        options = library.made("CreateOptions")
        library("SetOptionsHardwareAccelerators", options, _CPU)
        self.texts = {
            b"runtime_options_string": b"enable_profiling = true\n",
            b"xnnpack": f'kernel_mode = "{engine}"\nnum_threads = {threads}\n'.encode(),
        }
        for name, text in self.texts.items():
            part = library.made("CreateOpaqueOptions", name, text, _keep)
            library("AddOpaqueOptions", options, part)
        compiled = library.made("CreateCompiledModel", environment, model, options)
        self.profiler = library.made("CompiledModelGetProfiler", compiled)
        entry = library.made("GetModelSignature", model, signature)
        self.indices = []

        def buffers(kind):
            handles = []
            for i in range(library.number(f"GetNumSignature{kind}s", entry)):
                tensor = library.made(f"GetSignature{kind}TensorByIndex", entry, i)
                if kind == "Input":
                    self.indices.append(library.number("GetTensorIndex", tensor))
                kept = ctypes.create_string_buffer(_TYPE_BYTES)
                library("GetRankedTensorType", tensor, kept)
                needs = library.made(
                    f"GetCompiledModel{kind}BufferRequirements", compiled, signature, i
                )
                made = "CreateManagedTensorBufferFromRequirements"
                handles.append(library.made(made, environment, kept, needs).value)
            return (ctypes.c_void_p * len(handles))(*handles)

        self.inputs, outputs = buffers("Input"), buffers("Output")
        self._run = functools.partial(
            library.functions["RunCompiledModel"],
            *(compiled, _size(signature)),
            *(_size(len(self.inputs)), self.inputs, _size(len(outputs)), outputs),
        )

    def feed(self, arrays: dict[int, np.ndarray]):
        """Write the inputs, given by tensor index."""
        if set(self.indices) != set(arrays):
            raise UnsupportedError(
                "The inputs of the file's signature differ from those of its graph, which LiteRT's "
                "profiler can't run."
            )
        for buffer, index in zip(self.inputs, self.indices, strict=True):
            array = np.ascontiguousarray(arrays[index])
            size = self.library.number("GetTensorBufferPackedSize", buffer)
            if size != array.nbytes:
                raise ConversionError(
                    f"LiteRT reserves {size} bytes for an input that takes {array.nbytes}."
                )
            address = ctypes.c_void_p()
            self.library("LockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
            self.library("UnlockTensorBuffer", buffer)

    def call(self) -> float:
        """Run once; return the microseconds."""
        start = time.perf_counter_ns()
        status = self._run()
        end = time.perf_counter_ns()
        if status:
            raise _RefusalError("RunCompiledModel", status)
        return (end - start) / 1e3

    def events(self) -> np.ndarray:
        """Return the profiler's events since its start."""
        count = self.library.number("GetNumProfilerEvents", self.profiler)
        # Twice the space, in case an event is larger than known.
        events = np.zeros(2 * count + 1, _EVENT)
        self.library("GetProfilerEvents", self.profiler, count, events.ctypes.data)
        events = events[:count]
        if not count or not np.isin(events["kind"], _KINDS).all():
            raise impossible_report(
                f"{count} events of kinds {sorted(set(events['kind'].tolist()))[:8]}"
            )
        return events


def _unread(data: bytes) -> list[slice]:
    """Find the fields that keep LiteRT from reading a file that it could run.

    LiteRT's own reader refuses variable tensors, the "intermediates" of quantized LSTMs, and free
    sizes. Its interpreter is then created from the same bytes and needs the first two, so they
    are hidden only while the reader runs.
    """
    from ai_edge_litert import schema_py_generated as schema

    # By the schema: Tensor's is_variable and shape_signature, Operator's intermediates.
    variable, free, intermediates = 14, 18, 20
    root, found = schema.Model.GetRootAs(data, 0), []

    def length(table, field):
        place = table._tab.Offset(field)
        if place:
            start = table._tab.Vector(place) - 4  # the place of a list's length
            found.append(slice(start, start + 4))

    for graph in map(root.Subgraphs, range(root.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            place = tensor._tab.Offset(variable)
            if place:
                found.append(slice(tensor._tab.Pos + place, tensor._tab.Pos + place + 1))
            length(tensor, free)
        for op in map(graph.Operators, range(graph.OperatorsLength())):
            length(op, intermediates)
    return found


def _measured(model: _Model, runs: int | None) -> Trace:
    """Run in blocks without and with the profiler, after a warm-up."""
    library, profiler = model.library, model.profiler
    end = time.perf_counter() + _WARM_UP_SECONDS
    model.call()
    while time.perf_counter() < end:
        model.call()
    layout, whole, parts = None, [], []

    def profiled():
        nonlocal layout
        library("StartProfiler", profiler)
        wall_us = model.call()
        events = model.events()
        if layout is None:
            layout = _Layout(events)
        return layout.times(events, wall_us)

    if runs is None:
        start = time.perf_counter()
        profiled()
        runs = int(_SECONDS / (time.perf_counter() - start))
        runs = min(max(runs, _LEAST_RUNS), _MOST_RUNS)
    while len(parts) < runs:
        block = min(_BLOCK, runs - len(parts))
        library("StopProfiler", profiler)
        model.call()
        whole += [model.call() for _ in range(block)]
        parts += [profiled() for _ in range(block)]
    kept = math.ceil(_KEPT * runs)
    fastest = np.argsort([part.sum() for part in parts], kind="stable")[:kept]
    times = np.mean([parts[i] for i in fastest], axis=0)
    steps = zip(layout.contents, layout.calls, times.tolist(), strict=True)
    return Trace(
        release=library.release,
        runs=runs,
        total_us=float(np.sort(whole)[:kept].mean()),
        steps=tuple(Step(*content, calls, us) for content, calls, us in steps),
    )


class _Layout:
    """The step of each event, which is the same in every run."""

    def __init__(self, events):
        self.key = self._key(events)
        self.contents: list[tuple[int, str, int | None]] = []
        self.calls: list[int] = []
        # A loop calls its graph repeatedly, and the runtime reports each call.
        places, known = collections.Counter(), {}
        self.numbers = np.full(len(events), -1)
        for i, (event, kind, index, graph) in enumerate(
            zip(*(events[name].tolist() for name in ("tag", "kind", "index", "graph")), strict=True)
        ):
            if kind not in (_RUNTIME, _OPERATOR, _DELEGATE):
                continue
            tag = _text(event)
            if kind == _RUNTIME:
                places[graph] = 0 if tag == "Invoke" else places[graph]
            elif not (kind == _OPERATOR and tag in CONTROL):
                content = (graph, tag, index if kind == _OPERATOR else None)
                number = known.setdefault((graph, places[graph]), len(self.contents))
                places[graph] += 1
                if number == len(self.contents):
                    self.contents.append(content)
                    self.calls.append(0)
                if self.contents[number] != content:
                    raise impossible_report(f"{content} instead of {self.contents[number]}")
                self.calls[number] += 1
                self.numbers[i] = number
        self.used = self.numbers >= 0

    @staticmethod
    def _key(events):
        return [events[name].tobytes() for name in ("kind", "index", "graph")]

    def times(self, events, wall_us) -> np.ndarray:
        """Return each step's microseconds in a run."""
        if self._key(events) != self.key:
            raise impossible_report("other operators than in the first run")
        us = events["us"][self.used]
        # Each is in whole microseconds; by rounding up, their sum can be too long by that.
        if us.sum() > wall_us + len(us):
            raise impossible_report(f"operators of {us.sum()} µs in a call of {wall_us:.0f} µs")
        return np.bincount(self.numbers[self.used], us, len(self.contents))


def _text(address: int) -> str:
    tag = ctypes.string_at(address) if address else b""
    if not 0 < len(tag) <= _LONGEST_TAG or not tag.isascii() or not tag.decode().isprintable():
        raise impossible_report(f"an event called {tag[:20]!r}")
    return tag.decode()


def impossible_report(what: str) -> WorkerError:
    """Return the error for a report that a working profiler can't give."""
    return WorkerError(
        f"LiteRT's profiler reported {what}, which is impossible; `benchmark` times whole calls."
    )
