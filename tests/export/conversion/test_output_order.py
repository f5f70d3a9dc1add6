"""Inputs and outputs of equal shapes come in the model's order, judged by values.

The full matrix of formats, forms, Kerases and structures (`benchmarks/output_orders.py`) takes
long; this is a part of it that holds one of each.
"""

import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from tiny_models import predicted

from tfkd.export import to_tflite, verify
from tfkd.export.tflite import schema

# Declared in another order than names and keys sort in.
NAMES = ("zeta", "beta", "omega", "alpha")
PACKAGES = {"keras": keras, "tf_keras": tf_keras}


def several(package, structure, recurrent=None):
    """Return a model whose outputs lie around 0, 3, 6 and 9 in the declared order."""
    package.utils.set_random_seed(0)
    la = package.layers
    if recurrent:
        x = package.Input((3, 4), name="series")
        hidden = getattr(la, recurrent)(4)(x)
    else:
        x = package.Input((4,), name="x")
        hidden = la.Dense(4, activation="tanh")(x)
    bias = [package.initializers.Constant(3.0 * i) for i in range(4)]
    made = [
        la.Dense(2, kernel_initializer="ones", bias_initializer=b, name=name)(0.1 * hidden)
        for name, b in zip(NAMES, bias, strict=True)
    ]
    if structure == "dict":
        made = {f"k_{name}": one for name, one in zip(NAMES, made, strict=True)}
    elif structure == "nested":
        made = {"q": made[0], "b": made[1:]}
    return package.Model(x, made)


def answers(file, x):
    """Return the outputs in the order of the plain interpreter, for one example."""
    interpreter = Interpreter(model_content=file.data)
    interpreter.allocate_tensors()
    for info, detail in zip(file.inputs, interpreter.get_input_details(), strict=True):
        data = info.name.removeprefix("step_") in ("x", "series")
        part = x.reshape(-1)[: int(np.prod(info.shape))].reshape(info.shape)
        values = part if data else np.zeros(info.shape, "float32")
        interpreter.set_tensor(detail["index"], info.quantize(values))
    interpreter.invoke()
    details = interpreter.get_output_details()
    return [
        info.dequantize(interpreter.get_tensor(detail["index"]))
        for info, detail in zip(file.outputs, details, strict=True)
    ]


@pytest.mark.parametrize(
    ("package", "structure", "recurrent", "format", "form"),
    [
        ("keras", "list", None, "float32", "auto"),
        ("keras", "nested", None, "int8", "auto"),
        ("keras", "list", "GRU", "float32", "loop"),
        ("keras", "list", "GRU", "int8", "step"),
        ("keras", "dict", "GRU", "int8", "loop"),
        ("tf_keras", "dict", None, "float16", "auto"),
        ("tf_keras", "list", None, "int16x8", "auto"),
        ("tf_keras", "nested", "LSTM", "float32", "fused"),
    ],
)
def test_outputs_of_one_shape(package, structure, recurrent, format, form, rng):
    model = several(PACKAGES[package], structure, recurrent)
    x = rng.normal(size=(100, 3, 4) if recurrent else (100, 4)).astype("float32")
    given = x if format.startswith("int") else None
    file = to_tflite(model, format, given, recurrent=form)
    levels = [int(np.round(one.mean() / 3)) for one in answers(file, x)[:4]]
    assert levels == [0, 1, 2, 3]
    signature = schema.parse(file.data).signatureDefs[0]
    named = [entry.name.decode().removeprefix("step_") for entry in signature.outputs[:4]]
    assert tuple(named) == NAMES
    assert [entry.tensorIndex for entry in signature.outputs] == list(
        schema.parse(file.data).subgraphs[0].outputs
    )
    found, due = file.predict(x[:5]), predicted(model, x[:5])
    if structure == "dict":
        assert list(found) == [f"k_{name}" for name in NAMES]
    elif structure == "nested":
        assert list(found) == ["q", "b"]
        found, due = ([one["q"], *one["b"]] for one in (found, due))
    pairs = [(found[k], due[k]) for k in (found if structure == "dict" else range(4))]
    assert all(np.abs(a - b).max() < 0.5 for a, b in pairs)


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_outputs_of_a_saved_model(structure, tmp_path, rng):
    model, x = several(keras, structure), rng.normal(size=(20, 4)).astype("float32")
    model.export(tmp_path / "saved", verbose=0)
    file = to_tflite(tmp_path / "saved")
    levels = [int(np.round(one.mean() / 3)) for one in answers(file, x)]
    # The signature of a dict has names and no order: they sort.
    by_name = [level for _, level in sorted(zip(NAMES, range(4), strict=True))]
    assert levels == ([0, 1, 2, 3] if structure == "list" else by_name)
    found, due = file.predict(x), predicted(model, x)
    assert type(found) is type(due) and len(found) == 4
    for key in due if structure == "dict" else range(4):
        np.testing.assert_allclose(found[key], due[key], atol=1e-5)
    result = verify(file, tmp_path / "saved", x)
    assert result.passed and result.max_abs_diff < 1e-5 and len(result.outputs) == 4
