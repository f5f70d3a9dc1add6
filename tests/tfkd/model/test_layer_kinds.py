"""The kinds of layers: subclasses, namesakes and overrides."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfkd
from tfkd.errors import UnsupportedError
from tfkd.model import cost, graph
from tfkd.model.layer_kinds import kind_of, remade, stateful_layers


def _subclasses(layers):
    """Return classes of a user's own, and the kind of each."""

    class Plain(layers.Dense):
        """Only its settings are other."""

        extra = 1

        def __init__(self, units=3, **kwargs):
            super().__init__(units, **{**kwargs, "activation": "tanh"})

        def get_config(self):
            return {k: v for k, v in super().get_config().items() if k != "activation"}

        def helper(self):
            return 1

    class Call(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2.0

    class Build(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)

    class Standardized(layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, kernel * 2.0)

    class Normalized(layers.Dense):
        @property
        def kernel(self):
            return 1.0

    class Doubles:
        def call(self, inputs):
            return inputs * 2.0

    class Mixed(Doubles, layers.Dense):
        pass

    class Dense(layers.Layer):
        """A namesake."""

        def call(self, inputs):
            return inputs * 2.0

    def patched():
        layer = layers.Dense(3)
        layer.call = lambda inputs: inputs
        return layer

    return {
        "library": (lambda: layers.Dense(3), "Dense"),
        "plain": (Plain, "Dense"),
        "call": (lambda: Call(3), None),
        "build": (lambda: Build(3), None),
        "a method that call uses": (lambda: Standardized(3, 3), None),
        "a property that call reads": (lambda: Normalized.__new__(Normalized), None),
        "mixed in": (lambda: Mixed(3), None),
        "namesake": (Dense, None),
        "patched": (patched, None),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("library", "plain", "call", "build", "a method that call uses"),
        *("a property that call reads", "mixed in", "namesake", "patched"),
    ],
)
def test_the_kind_is_the_class_whose_computation_runs(package, case):
    make, kind = _subclasses(package.layers)[case]
    assert kind_of(make()) == kind


def test_a_build_of_its_own_can_be_left_out_of_account(package):
    make, _ = _subclasses(package.layers)["build"]
    assert kind_of(make(), any_weights=True) == "Dense"


def test_every_standard_layer_is_of_its_own_kind(package):
    layers = package.layers
    arguments = {"Bidirectional": (layers.LSTM(2),), "TimeDistributed": (layers.Dense(2),)}
    for name, given in {
        **dict.fromkeys(("Dense", "LSTM", "GRU", "SimpleRNN", "Dropout"), (0.5,)),
        **dict.fromkeys(("Conv1D", "Conv2D", "SeparableConv2D", "Conv2DTranspose"), (3, 3)),
        **dict.fromkeys(("BatchNormalization", "LayerNormalization", "Add", "ReLU"), ()),
        **arguments,
        "Embedding": (4, 3),
        "MultiHeadAttention": (2, 3),
    }.items():
        given = (2,) if name in ("Dense", "LSTM", "GRU", "SimpleRNN") else given
        assert kind_of(getattr(layers, name)(*given)) == name


def test_operations_of_tf_keras_are_of_their_own_kinds():
    x = tf_keras.Input((4,))
    walked = graph.walk(tf_keras.Model(x, tf.nn.relu(x * 2.0)[:, :2]))
    assert [call.kind for call in walked.calls] == ["TFOpLambda", "TFOpLambda", "SlicingOpLambda"]


def _model(package, layer):
    return package.Sequential([package.Input((8,)), layer, package.layers.Dense(4)])


def test_a_subclass_is_translated_as_its_base_with_the_settings_in_use(package, rng):
    make, _ = _subclasses(package.layers)["plain"]
    model = _model(package, make())  # which hides its activation from its configuration
    to = {"keras": "tf_keras", "tf_keras": "keras"}[package.__name__]
    x = rng.normal(size=(5, 8)).astype("float32")
    translated = tfkd.translate(model, to)
    np.testing.assert_allclose(translated(x), model(x), atol=1e-6)
    assert [call.kind for call in graph.walk(translated).calls] == ["Dense", "Dense"]


def test_a_subclass_costs_and_quantizes_as_its_base(package, rng):
    make, _ = _subclasses(package.layers)["plain"]
    model = _model(package, make())
    assert cost.measure(model).macs == 8 * 3 + 3 * 4
    qat = tfkd.quantize_aware(model)
    report = tfkd.quantization.describe(qat)
    assert [layer.how for layer in report.layers] == ["int8", "int8"]
    x = rng.normal(size=(64, 8)).astype("float32")
    np.testing.assert_allclose(tfkd.quantization.calibrate(qat, x)(x), model(x), atol=0.05)


@pytest.mark.parametrize("case", ["call", "build", "mixed in", "namesake"])
def test_a_kind_of_its_own_is_refused_or_left_as_it_is(package, case):
    make, _ = _subclasses(package.layers)[case]
    model = _model(package, make())
    has_kernel = case != "namesake"
    assert cost.measure(model).macs == (None if has_kernel else 8 * 4)
    with pytest.raises(tfkd.UnsupportedError, match="Call|Build|Mixed|Dense"):
        tfkd.quantize_aware(model)
    with pytest.raises(tfkd.UnsupportedError, match="No channel of this model can go"):
        tfkd.prune_channels(model, 0.5, round_to=1)


def test_wrappers_cost_what_is_in_them(package):
    model = _model(package, package.layers.Dense(5, name="wide"))
    for wrapped in (
        tfkd.prune_weights(model, schedule="constant"),
        tfkd.cluster_weights(model, 3),
        tfkd.quantize_aware(model, skip="wide"),
    ):
        assert cost.measure(wrapped).macs == 8 * 5 + 5 * 4
        assert cost.measure(wrapped).parameters == 9 * 5 + 6 * 4


def test_a_layer_is_of_its_kind_after_a_saved_model_was_written(tmp_path):
    model = tfkd.quantize_aware(
        tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2)])
    )
    before = [kind_of(layer) for layer in model.layers]
    model.save(tmp_path / "saved", save_format="tf")
    assert any("call" in vars(layer) for layer in model.layers)  # what tf_keras leaves behind
    assert [kind_of(layer) for layer in model.layers] == before and None not in before


def test_stateful_layers_are_found_in_wrappers_and_nested_models(package):
    layers = package.layers
    memory = layers.GRU(3, stateful=True, return_sequences=True, name="memory")
    x = package.Input(batch_shape=(2, 5, 3))
    nested = package.Model(x, memory(x), name="nested")
    both = layers.Bidirectional(layers.LSTM(4, stateful=True), name="both")
    plain = layers.LSTM(4, name="plain")
    y = package.Input(batch_shape=(2, 5, 3))
    model = package.Model(y, layers.Add()([both(nested(y)), layers.Dense(8)(plain(y))]))
    inner = {both.forward_layer.name, both.backward_layer.name}
    assert {one.name for one in stateful_layers(model)} == {"memory", "both", *inner}
    assert stateful_layers(plain) == []


def relu(x):
    """A user's own function with the name of a built-in one."""
    return x * 2.0


@pytest.mark.parametrize("kind", ["namesake", "lambda", "layer"])
def test_a_layer_is_made_again_with_its_own_activation(kind, package, rng):
    layers = package.layers
    own = {"namesake": relu, "lambda": lambda x: x * 2.0, "layer": layers.LeakyReLU(0.1)}[kind]
    x = rng.normal(size=(2, 5, 4)).astype("float32")
    for layer in (
        layers.Dense(3, activation=own),
        layers.TimeDistributed(layers.Dense(3, activation=own)),
        layers.GRU(3, activation=own),
    ):
        want = np.asarray(layer(x))
        copy = remade(layer, name="again")
        copy.build(x.shape)
        copy.set_weights(layer.get_weights())
        assert copy.name == "again"
        np.testing.assert_allclose(np.asarray(copy(x)), want, rtol=1e-6)


def test_a_layer_that_keras_can_not_make_again_is_named(package):
    class Cell(package.layers.SimpleRNNCell):
        """A class that Keras does not know by its name."""

    cell = Cell(2)
    with pytest.raises(UnsupportedError, match=r"'loop' \(RNN\) can't be copied: Keras refused"):
        remade(package.layers.RNN(cell, name="loop"))
