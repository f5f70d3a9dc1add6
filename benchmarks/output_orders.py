"""Outputs in the model's order: 2 to 4 outputs of equal shapes, every format, form and source.

    python benchmarks/output_orders.py                     # some 480 rows, twenty minutes
    python benchmarks/output_orders.py tf_keras LSTM       # rows whose description has all words

Each model has outputs whose names sort against their order and whose values identify them. It is
exported in each format and form from Keras 3, tf_keras and SavedModels of both, and run by
LiteRT's plain interpreter. A row is wrong if an output has another place than in the model, if the
signature lists another order than the file, or if `predict` gives another structure or other
values than the model does. A model that can't be exported is printed with its error.
"""

import argparse
import contextlib
import io
import itertools
import os
import pathlib
import tempfile
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tf_keras
from ai_edge_litert.interpreter import Interpreter

import tfkd
from tfkd.export import TFLiteModel, to_tflite

NAMES = ("zeta", "beta", "omega", "alpha")
FORMATS = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")
#: More than rounding to 8 bits can do, and less than the distance between two outputs.
_APART = 0.5


def model_of(package, count: int, structure: str, kind: str | None):
    """Return a model with `count` outputs whose biases are 0, 3, 6 and 9.

    Args:
        package: `keras` or `tf_keras`.
        count: 2 to 4.
        structure: `"list"`, `"dict"` or `"nested"` (a dict of one output and a list).
        kind: A recurrent layer class, or `None` for a dense layer.
    """
    package.utils.set_random_seed(0)
    layers = package.layers
    inputs = package.Input((5, 4) if kind else (6,), name="x")
    hidden = getattr(layers, kind)(6) if kind else layers.Dense(8, "relu")
    hidden = hidden(inputs)
    heads = {
        name: layers.Dense(
            3, name=name, bias_initializer=package.initializers.Constant(3.0 * place)
        )(hidden)
        for place, name in enumerate(NAMES[:count])
    }
    first, *others = heads.values()
    structures = {
        "list": list(heads.values()),
        "dict": {f"k_{name}": head for name, head in heads.items()},
        "nested": {"q": first, "b": others},
    }
    return package.Model(inputs, structures[structure])


def leaves(nested, keys=None) -> list[np.ndarray]:
    """Return arrays in order; of a dict by `keys`, or as it lists them."""
    if isinstance(nested, dict):
        return [leaf for key in keys or nested for leaf in leaves(nested[key])]
    if isinstance(nested, (list, tuple)):
        return [leaf for one in nested for leaf in leaves(one)]
    return [np.asarray(nested)]


def run(file: TFLiteModel, x, as_step: bool) -> list[np.ndarray]:
    """Return what the plain interpreter gives, in the order of the subgraph.

    Args:
        file: The file.
        x: Examples (n, ...).
        as_step: Whether a call is one time step; its states go from call to call.
    """
    interpreter = Interpreter(model_content=file.data)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    states = len(inputs) - 1 if as_step else 0

    def put(about, value):
        scale, zero = about["quantization"]
        if about["dtype"] != np.float32:
            limits = np.iinfo(about["dtype"])
            value = np.clip(np.round(value / scale) + zero, limits.min, limits.max)
        interpreter.set_tensor(about["index"], value.astype(about["dtype"]).reshape(about["shape"]))

    def get(about):
        scale, zero = about["quantization"]
        value = interpreter.get_tensor(about["index"])
        return value if about["dtype"] == np.float32 else (value.astype("float32") - zero) * scale

    answers = []
    for example in x:
        interpreter.reset_all_variables()
        kept = [np.full(s["shape"], s["quantization"][1], s["dtype"]) for s in inputs[1:]]
        for step in example if as_step else [example]:
            put(inputs[0], step)
            for about, state in zip(inputs[1:], kept, strict=True):
                interpreter.set_tensor(about["index"], state)
            interpreter.invoke()
            kept = [interpreter.get_tensor(about["index"]) for about in outputs[-states:]]
            kept = kept if states else []
        answers.append([get(about) for about in outputs[: len(outputs) - states]])
    return [np.concatenate(column) for column in zip(*answers, strict=True)]


def same(found, wanted) -> bool:
    """Tell whether each array is nearest to the one in its place."""
    return len(found) == len(wanted) and all(
        a.shape == b.shape and np.abs(a - b).mean() < _APART
        for a, b in zip(found, wanted, strict=True)
    )


def faults(file: TFLiteModel, model, x, as_step: bool, declared) -> list[str]:
    """Return what is in another order than the model's.

    `declared` has the keys of the outputs in the order of the source, where they are a dict.
    """
    said = model.predict(x, verbose=0)
    found = []
    if not same(run(file, x, as_step), leaves(said, declared)):
        found.append("values")
    names = [entry.name.decode() for entry in file._parsed.signatureDefs[0].outputs]
    if names != [output.name for output in file.outputs]:
        found.append("signature")
    predicted = file.predict(x)
    keys = sorted(said) if isinstance(said, dict) else None
    if isinstance(said, dict) != isinstance(predicted, dict):
        found.append("structure")
    elif not as_step and not same(leaves(predicted, keys), leaves(said, keys)):
        found.append("predict")
    return found


def sources(package, model, folder: pathlib.Path) -> Iterator[tuple[str, object]]:
    """Yield what `to_tflite` takes, with its name: the model and its SavedModels."""
    yield package.__name__, model
    if package is tf_keras:
        model.save(folder / "saved")
        yield "tf_keras.save", folder / "saved"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # "Saved artifact at ..."
            model.export(folder / "exported")
    except Exception as error:
        print(f"no export: {type(error).__name__}: {str(error)[:100]}")
        return
    yield f"{package.__name__}.export", folder / "exported"


def rows(words) -> Iterator[tuple]:
    """Yield (description, source, model, inputs, format, form, declared keys)."""
    rng = np.random.default_rng(0)
    flat, series = (rng.normal(size=(64, *s)).astype("float32") for s in ((6,), (5, 4)))
    for kind, package, count, structure in itertools.product(
        (None, "LSTM", "GRU"), (keras, tf_keras), (4, 2, 3), ("list", "dict", "nested")
    ):
        if kind and count != 4 and structure != "list":
            continue
        model, x = model_of(package, count, structure, kind), series if kind else flat
        with tempfile.TemporaryDirectory() as folder:
            for name, source in sources(package, model, pathlib.Path(folder)):
                traced = kind and not name.endswith(("keras", "save"))
                forms = ["auto"] if traced or not kind else ["unrolled", "loop", "step"]
                forms = ["fused", *forms] if kind == "LSTM" and not traced else forms
                keys = list(model.output) if isinstance(model.output, dict) else None
                keys = sorted(keys) if keys and name.endswith("export") else keys
                for format, form in itertools.product(FORMATS, forms):
                    text = f"{name} {count} {structure} {kind} {format} {form}"
                    if set(words) <= set(text.split()):
                        yield text, source, model, x, format, form, keys


def main() -> int:
    """Print a line per row; return 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="such as keras tf_keras.save 4 dict LSTM int8")
    wrong = refused = right = 0
    for text, source, model, x, format, form, keys in rows(parser.parse_args().words):
        data = x if format.startswith("int") else None
        try:
            file = to_tflite(source, format, data, recurrent=form)
        except tfkd.TfkdError as error:
            refused += 1
            print(f"refused  {text}: {str(error).splitlines()[0][:120]}", flush=True)
            continue
        found = faults(file, model, x[:8], form == "step", keys)
        wrong, right = wrong + bool(found), right + (not found)
        print(f"{'WRONG' if found else 'ok':8} {text} {' '.join(found)}", flush=True)
    print(f"{right} right, {wrong} wrong, {refused} refused")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
