"""An integer loop: the step file as the body of a WHILE, which no converter can produce.

    main    x (1, n, ...) ──► WHILE(t, x, state, ...) ──► operators after the last step ──► y
    cond    t < n
    body    GATHER(x, t) ──► one step ──► state;   t + 1

Embeddings are looked up before the loop, for all steps: TensorFlow Lite for Microcontrollers has
no GATHER for the indices themselves.

The step file is already calibrated, with data from `step.step_model`; this module calibrates
nothing. States have the same scale before and after a step, so the loop passes them on unchanged.
The file is a little larger than the step file for any number of steps, and keeps no state between
calls.
"""

from __future__ import annotations

import copy

import numpy as np

from tfkd.errors import UnsupportedError, argument
from tfkd.export.tflite import schema as flatbuffer
from tfkd.export.tflite import writer
from tfkd.export.tflite.model import STATE_IN, STATE_OUT, STEP, TFLiteModel


def looped(file: TFLiteModel, steps: int, float_io: bool = False) -> bytes:
    """Return the file that runs a step file over a sequence of a fixed length.

    Args:
        file: A step file.
        steps: The number of steps in the sequence.
        float_io: Whether inputs and outputs become float32.

    Returns:
        A `.tflite` file with the inputs and outputs of the model, without the states.

    Raises:
        UnsupportedError: if the model returns an output at every step.
    """
    return _Loop(file, steps, float_io).file()


class _Loop:
    def __init__(self, file, steps, float_io):
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.steps, self.float_io = schema, steps, float_io
        self.model = flatbuffer.parse(file.data)
        self.source = self.model.subgraphs[0]
        inputs = dict(zip((i.name for i in file.inputs), map(int, self.source.inputs), strict=True))
        outputs = dict(
            zip((o.name for o in file.outputs), map(int, self.source.outputs), strict=True)
        )
        self.moving = {n: i for n, i in inputs.items() if n.startswith(STEP)}
        self.states = [(inputs[a], outputs[b]) for a, b in file.states]
        self.fixed = {n: i for n, i in inputs.items() if not n.startswith((STEP, STATE_IN))}
        self.results = {n: i for n, i in outputs.items() if not n.startswith(STATE_OUT)}
        stacked = [n for n in self.results if n.startswith(STEP)]
        if stacked:
            raise UnsupportedError(
                f"The model returns the output {stacked[0].removeprefix(STEP)!r} at every step, "
                f"which {argument('recurrent', 'loop')} can't do in integers; use 'unrolled' or "
                "'step'.",
                code="output-at-every-step",
            )
        self.indices: dict[str, int] = {}
        self.codes = {name: i for i, name in enumerate(flatbuffer.op_names(self.model))}
        self._part()

    def _part(self):
        """Split the operators into those of a step and those after the last step."""
        made_by = flatbuffer.producers(self.source)
        needed, waiting = set(), [out for _, out in self.states]
        while waiting:
            op = made_by.get(waiting.pop())
            if op is None or id(op) in needed:
                continue
            needed.add(id(op))
            waiting += [int(i) for i in op.inputs if i >= 0]
        self._look_up_first(needed)
        self.body = [op for op in self.source.operators if id(op) in needed]
        before = {id(op) for op in self.looked_up}
        self.after = [op for op in self.source.operators if id(op) not in needed | before]
        known = {int(i) for op in self.after for i in op.outputs} | set(self.fixed.values())
        read = [int(i) for op in self.after for i in op.inputs if i >= 0]
        read += self.results.values()
        constant = {i for i in read if self._is_constant(i)}
        self.carried = list(dict.fromkeys(i for i in read if i not in known | constant))
        # Fixed inputs that a step reads are loop variables, too.
        used = {int(i) for op in self.body for i in op.inputs}
        self.around = [i for i in self.fixed.values() if i in used]

    def _look_up_first(self, needed: set[int]):
        """Move lookups of a sequence of indices from the steps to before the loop."""
        self.looked_up = []
        for name, i in list(self.moving.items()):
            readers = [op for op in self.source.operators if i in op.inputs]
            if not readers or not all(self._is_lookup(op, i) for op in readers):
                continue
            self.looked_up += readers
            self.indices[name] = self.moving.pop(name)
            for op in readers:
                self.moving[f"{name}/{len(self.moving)}"] = int(op.outputs[0])
        needed -= {id(op) for op in self.looked_up}

    def _is_lookup(self, op, i: int) -> bool:
        """Tell whether an operator looks up a step of a sequence in a constant table."""
        shape = self.source.tensors[op.outputs[0]].shape
        return (
            op.opcodeIndex == self.codes.get("GATHER")
            and int(op.inputs[1]) == i
            and self._is_constant(int(op.inputs[0]))
            and op.builtinOptions.axis == 0
            and len(shape) > 2
            and list(shape[:2]) == list(self.source.tensors[i].shape[:2])
        )

    def _is_constant(self, i) -> bool:
        return flatbuffer.is_constant(self.source.tensors[i], self.model)

    def file(self) -> bytes:
        main, cond, body = (_Graph(self, name) for name in ("main", "condition", "body"))
        whole = {i: self._sequence(i) for i in self.moving.values()}
        indices = {i: main.add(self._sequence(i)) for i in self.indices.values()}

        def variables(graph):
            """Add the loop's variables to a graph: the step number, and all tensors passed on."""
            return {
                "t": graph.add(self._tensor("t", [1], "INT32")),
                **{("x", i): graph.add(copy.copy(whole[i])) for i in whole},
                **{("f", i): graph.use(i) for i in self.around},
                **{("s", i): graph.use(i) for i, _ in self.states},
                **{("c", i): graph.add(self._named(i, "carried")) for i in self.carried},
            }

        at = variables(cond)
        limit = cond.constant("steps", np.array([self.steps], np.int32))
        less = cond.add(self._tensor("more", [1], "BOOL"))
        cond.call("LESS", [at["t"], limit], [less], self.schema.LessOptionsT())
        cond.ends(at.values(), [less])

        at = variables(body)
        for i in whole:
            gather = self.schema.GatherOptionsT()
            gather.axis = 1
            body.call("GATHER", [at["x", i], at["t"]], [body.use(i)], gather)
        for op in self.body:
            body.copy(op)
        one = body.constant("one", np.array([1], np.int32))
        later = body.add(self._tensor("later", [1], "INT32"))
        body.call("ADD", [at["t"], one], [later], self.schema.AddOptionsT())
        new = {**at, "t": later}
        new.update({("s", i): body.use(out) for i, out in self.states})
        new.update({("c", i): body.use(i) for i in self.carried})
        body.ends(at.values(), new.values())

        start = {
            "t": main.constant("start", np.zeros(1, np.int32)),
            **{("x", i): main.add(copy.copy(whole[i])) for i in whole},
            **{("f", i): main.use(i) for i in self.around},
            **{("s", i): main.initial(i) for i, _ in self.states},
            **{("c", i): main.initial(i) for i in self.carried},
        }
        for op in self.looked_up:
            table, i = map(int, op.inputs)
            made = start["x", int(op.outputs[0])]
            main.call("GATHER", [main.use(table), indices[i]], [made], op.builtinOptions)
        ends = {key: main.add(copy.copy(main.graph.tensors[index])) for key, index in start.items()}
        for index in ends.values():
            main.graph.tensors[index].buffer = 0
            main.graph.tensors[index].name = f"last/{main.graph.tensors[index].name}"
        options = self.schema.WhileOptionsT()
        options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
        main.call("WHILE", list(start.values()), list(ends.values()), options)
        main.index.update({i: ends["c", i] for i in self.carried})
        for op in self.after:
            main.copy(op)
        given = {n.removeprefix(STEP): indices[i] for n, i in self.indices.items()}
        looked_up = {int(op.outputs[0]) for op in self.looked_up}
        given |= {
            n.removeprefix(STEP): start["x", i]
            for n, i in self.moving.items()
            if i not in looked_up
        }
        given.update({n: main.use(i) for n, i in self.fixed.items()})
        made = {n: main.use(i) for n, i in self.results.items()}
        if self.float_io:
            given, made = self._in_float(main, given, made)
        main.ends(given.values(), made.values())
        self.model.subgraphs = [main.graph, cond.graph, body.graph]
        self._sign(given, made)
        return writer.pack(self.model)

    def _in_float(self, main, given, made):
        """Insert QUANTIZE after float inputs and DEQUANTIZE before float outputs."""
        first, last = {}, {}
        for name, index in given.items():
            if flatbuffer.scale_of(main.graph.tensors[index]) is None:  # indices, as of words
                first[name] = index
                continue
            first[name] = main.add(self._as_float(main.graph.tensors[index], f"{name}/float"))
            options = self.schema.QuantizeOptionsT()
            main.call("QUANTIZE", [first[name]], [index], options)
            main.graph.operators.insert(0, main.graph.operators.pop())
        for name, index in made.items():
            last[name] = main.add(self._as_float(main.graph.tensors[index], f"{name}/float"))
            main.call("DEQUANTIZE", [index], [last[name]], self.schema.DequantizeOptionsT())
        return first, last

    def _as_float(self, tensor, name):
        return self._tensor(name, tensor.shape, "FLOAT32")

    def _sign(self, given, made):
        (signature,) = self.model.signatureDefs
        signature.subgraphIndex = 0
        for which, names in (("inputs", given), ("outputs", made)):
            entries = []
            for name, index in names.items():
                entry = self.schema.TensorMapT()
                entry.name, entry.tensorIndex = name, index
                entries.append(entry)
            setattr(signature, which, entries)

    def _tensor(self, name, shape, kind):
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape = name, np.array(shape, np.int32)
        tensor.type, tensor.buffer = getattr(self.schema.TensorType, kind), 0
        return tensor

    def _named(self, i, name):
        tensor = copy.copy(self.source.tensors[i])
        tensor.name = f"{name}/{flatbuffer.name_of(tensor)}"
        return tensor

    def _sequence(self, i):
        """Return the whole sequence's tensor for the input of a step."""
        tensor = copy.copy(self.source.tensors[i])
        shape = np.array(tensor.shape)
        shape[1] = self.steps
        tensor.shape, tensor.shapeSignature = shape, None
        return tensor

    def code(self, name: str) -> int:
        """Return the index of an operator's code, and add the code if it is new."""
        if name not in self.codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode = getattr(self.schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = _VERSIONS.get(name, 1)
            self.codes[name] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self.codes[name]


# GATHER supports 8 bits since version 2, and 16 bits since version 4.
_VERSIONS = {"GATHER": 4}


class _Graph:
    """A subgraph under construction; `use` copies a tensor of the step file into it once."""

    def __init__(self, loop: _Loop, name: str):
        self.loop, self.index = loop, {}
        self.graph = loop.schema.SubGraphT()
        self.graph.name, self.graph.tensors, self.graph.operators = name, [], []

    def add(self, tensor) -> int:
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def use(self, i: int) -> int:
        if i not in self.index:
            self.index[i] = self.add(copy.copy(self.loop.source.tensors[i]))
        return self.index[i]

    def constant(self, name: str, values: np.ndarray, like=None) -> int:
        buffer = self.loop.schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.loop.model.buffers.append(buffer)
        kind = {"int32": "INT32"}.get(values.dtype.name)
        tensor = (
            copy.copy(like) if like is not None else self.loop._tensor(name, values.shape, kind)
        )
        tensor.name, tensor.buffer = name, len(self.loop.model.buffers) - 1
        return self.add(tensor)

    def initial(self, i: int) -> int:
        """Add a state's initial value: the integer that represents zero, or 0.0."""
        like = self.loop.source.tensors[i]
        info = flatbuffer.tensor_info(like, None)
        zeros = np.full(info.shape, info.zero_point or 0, info.dtype)
        return self.constant(f"initial/{info.name}", zeros, like)

    def call(self, name, inputs, outputs, options):
        op = self.loop.schema.OperatorT()
        op.opcodeIndex = self.loop.code(name)
        op.inputs, op.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        kind = type(options).__name__.removesuffix("T")
        op.builtinOptionsType = getattr(self.loop.schema.BuiltinOptions, kind)
        op.builtinOptions = options
        self.graph.operators.append(op)

    def copy(self, op):
        new = copy.copy(op)
        new.inputs = np.array([self.use(int(i)) if i >= 0 else -1 for i in op.inputs], np.int32)
        new.outputs = np.array([self.use(int(i)) for i in op.outputs], np.int32)
        self.graph.operators.append(new)

    def ends(self, inputs, outputs):
        self.graph.inputs = np.array(list(inputs), np.int32)
        self.graph.outputs = np.array(list(outputs), np.int32)
