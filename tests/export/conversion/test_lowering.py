"""A model before conversion: translated once, names followed, the caller's model unchanged."""

import numpy as np
import pytest

from tfkd import translation
from tfkd.export.conversion import tracing
from tfkd.export.conversion.lowering import lower
from tfkd.export.conversion.plan import plan
from tfkd.export.conversion.request import Request

FORMS = ["auto", "fused", "unrolled", "loop", "step"]


@pytest.fixture
def model(package):
    layers = package.layers
    inner = package.Sequential([package.Input((6, 4)), layers.Dense(4, name="dense")], name="inner")
    recurrent = layers.LSTM(3, name="lstm")
    recurrent.trainable = False
    i = package.Input((6, 4))
    return package.Model(i, layers.Dense(2, name="head")(recurrent(inner(i))))


def request(form, **settings):
    defaults = {"float_io": False, "skip": (), "bits": {}, "micro": False}
    return Request("int8", 1, form, **defaults | settings, flex=False, custom=False)


@pytest.mark.parametrize("form", FORMS)
def test_a_model_is_translated_once_and_the_callers_stays(model, form, rng, monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        return counterparts(*args, **kwargs)

    counterparts = translation.counterparts
    monkeypatch.setattr(translation, "counterparts", counted)
    x = rng.normal(size=(20, 6, 4)).astype("float32")
    weights, want = model.get_weights(), np.asarray(model(x))
    source = lower(plan(model, request(form), x))
    assert len(calls) == 1
    assert not model.get_layer("lstm").trainable
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    if form not in ("loop", "step"):
        np.testing.assert_allclose(source.model(x), want, atol=1e-5)


@pytest.mark.parametrize("form", ["auto", "step"])
def test_layers_that_are_left_float_are_found_again(model, form, rng):
    x = rng.normal(size=(20, 6, 4)).astype("float32")
    source = lower(plan(model, request(form, skip=("inner/dense", "head")), x))
    assert [source.scopes[tracing.scope_of(name)] for name in source.kept] == [
        "inner/dense",
        "head",
    ]
