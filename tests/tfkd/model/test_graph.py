"""The walk over Functional and Sequential graphs of both Keras flavours."""

import numpy as np
import pytest

from tfkd.errors import InputError, UnsupportedError
from tfkd.model import graph


def nested(package):
    layers = package.layers
    inner = package.Sequential([package.Input((4,)), layers.Dense(4, name="a")], name="inner")
    x = package.Input((4,), name="x")
    shared = layers.Dense(4, name="shared")
    return package.Model(x, layers.Add(name="sum")([shared(inner(x)), shared(x)]), name="outer")


def test_nested_models_are_inlined_and_shared_layers_stay_shared(package):
    walked = graph.walk(nested(package))
    assert walked.name == "outer"
    assert sorted(c.name for c in walked.calls) == ["inner/a", "shared", "shared", "sum"]
    assert len(walked.layers) == 3
    assert walked.calls[-1].name == "sum"
    assert [t.name for t in walked.input_list] == ["x"]


def test_producers_and_consumers_of_tensors(package):
    x = package.Input((4,), name="x")
    doubled = package.layers.Add(name="doubled")([x, x])
    model = package.Model(x, [doubled, package.layers.Dense(2, name="out")(doubled)])
    walked = graph.walk(model)
    assert walked.package is package
    add, dense = walked.calls
    (given,), (middle, last) = walked.input_list, walked.output_list
    assert walked.producer(given) is None
    assert walked.producer(middle) is add and walked.producer(last) is dense
    assert walked.consumers(given) == [add, add]
    assert walked.consumers(middle) == [dense] and walked.consumers(last) == []


def test_every_call_comes_after_what_it_needs(package):
    walked = graph.walk(nested(package))
    known = set(walked.input_list)
    for call in walked.calls:
        assert set(call.inputs) <= known
        known |= set(call.outputs)
    assert set(walked.output_list) <= known


def test_replay_with_the_same_layers_is_the_model(package, rng):
    model = nested(package)
    x = rng.normal(size=(3, 4)).astype("float32")
    got = graph.replay(graph.walk(model), [x], lambda call, args, kw: call.layer(*args, **kw))
    np.testing.assert_allclose(got, model(x), rtol=1e-6)


def test_dict_inputs_keep_their_structure(package):
    a, b = package.Input((2,), name="a"), package.Input((3,), name="b")
    out = package.layers.Concatenate()([b, a])
    walked = graph.walk(package.Model({"b": b, "a": a}, {"out": out}))
    assert {key: t.name for key, t in walked.inputs.items()} == {"a": "a", "b": "b"}
    assert list(walked.outputs) == ["out"]


def test_what_has_no_graph_is_refused_with_the_way_out(package):
    class Subclassed(package.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedError, match="subclassed .* Functional API"):
        graph.walk(Subclassed())
    with pytest.raises(InputError, match="not built; give it an Input layer"):
        graph.walk(package.Sequential([package.layers.Dense(2)]))
    with pytest.raises(InputError, match="Expected a Keras 3 or tf_keras model, got int"):
        graph.walk(3)


def test_a_call_that_only_checks_its_arguments_is_no_call_of_its_own(package):
    """KerasHub's models have one, which refuses strings."""

    class PipelineModel(package.Model):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    i = package.Input((4,))
    outputs = package.layers.Dense(2)(i)
    assert not graph.has_graph(PipelineModel(i, outputs))  # of somebody else
    PipelineModel.__module__ = "keras_hub.src.utils.pipeline_model"
    assert graph.has_graph(PipelineModel(i, outputs))

    class Own(PipelineModel):
        def call(self, inputs):
            return 2 * super().call(inputs)

    Own.__module__ = "keras_hub.src.models.own"
    assert not graph.has_graph(Own(i, outputs))
