"""The examples run, and do what the README says of them."""

import importlib.util
import pathlib

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_distil_and_export(tmp_path, capsys):
    result = load("distil_and_export").main(tmp_path / "m.tflite", epochs=6)
    assert result.passed and result.metrics["accuracy"] > 0.85
    assert "integer only" in capsys.readouterr().out
    assert (tmp_path / "m.tflite").stat().st_size > 1000


@pytest.mark.slow
def test_prune_and_distil(tmp_path, capsys):
    found = load("prune_and_distil").main(tmp_path / "here", epochs=6, format=None, step=0.5)
    assert found.reached and found.final.macs < 0.25 * found.original.macs
    assert "one shot" in capsys.readouterr().out
    assert {"student.keras", "spiral.svg"} <= {p.name for p in (tmp_path / "here").iterdir()}


def test_own_layers(capsys):
    small, lost, file, steps = load("own_layers").main()
    assert small.get_layer("own").units == 16 and lost < 1e-5
    assert file.integer_only and steps <= 1.001
    assert "32 units, 16 left" in capsys.readouterr().out
