"""Users' own quantization rules: trained, exported, checked."""

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import projection

import tfkd
from tfkd.export import to_tflite
from tfkd.quantization import Value, register
from tfkd.quantization.rules import primitives


def as_layers(net, layer, x):
    """The right rule: a dense layer and a factor per channel, each rounded."""
    kernel, gain = layer.get_weights()

    def dense():
        made = net.copy(net.layers.Dense, layer.name, units=layer.units, use_bias=False)
        made.build(layer.get_input_shape_at(0))
        made.set_weights([kernel])
        return made

    product = net.weighted(dense, [("kernel", (1,), None)], "product")
    value = Value(product(net.rounded(x)), f"{layer.name}_product", "linear")
    tensor = primitives.depthwise(net, value, gain, None, trainable=True)
    net.keep_weights(
        [product.layer.name, f"{layer.name}_affine"], lambda one, two: [*one, two[0].reshape(-1)]
    )
    net.note("rewritten", "as a dense layer and a factor per unit")
    return Value(tensor, layer.name, "sum")


def model_of(package, layer_class):
    layers = package.layers
    inputs = package.Input((8,), name="x")
    x = layer_class(6, name="own")(layers.Dense(12, activation="relu", name="before")(inputs))
    return package.Model(inputs, layers.Dense(3, name="head")(layers.ReLU()(x)))


def known(package, rule=as_layers):
    """Return the class of a package, its rule registered, its counterpart too."""
    classes = projection(keras), projection(tf_keras)
    tfkd.translation.register(*classes)
    own = classes[package is tf_keras]
    register(own, rule)
    return own


def test_the_file_computes_what_is_trained(package, rng):
    package.utils.set_random_seed(0)
    model = model_of(package, known(package))
    model.get_layer("own").gain.assign(np.linspace(0.5, 2.0, 6))
    x = rng.normal(size=(256, 8)).astype("float32")
    qat = tfkd.quantize_aware(model)
    qat.compile("sgd", "mse")
    qat.fit(x, np.zeros((256, 3)), epochs=1, verbose=0)
    tfkd.quantization.calibrate(qat, x)  # no value is clipped
    file = to_tflite(qat, "int8")
    assert file.integer_only
    step = file.outputs[0].scale
    got, want = file.predict(x), qat.predict(x, verbose=0)
    off = np.abs(got - want) / step
    assert off.max() <= 2.001 and (off > 1.001).mean() < 0.01  # three operations, one after another
    assert len(np.unique(got)) > 50
    stripped = tfkd.strip_quantization(qat, model)
    before, after = model.get_layer("own").get_weights(), stripped.get_layer("own").get_weights()
    assert [w.shape for w in before] == [w.shape for w in after]
    assert all(0 < np.abs(a - b).max() < 0.5 for a, b in zip(before, after, strict=True))
    np.testing.assert_allclose(stripped(x), want, atol=0.1)


def test_a_rule_for_one_keras_serves_the_class_of_the_other():
    classes = projection(keras), projection(tf_keras)
    register(classes[0], as_layers)  # before its counterpart is known
    tfkd.translation.register(*classes)
    for package, own in zip((keras, tf_keras), classes, strict=True):
        report = tfkd.quantization.describe(tfkd.quantize_aware(model_of(package, own)))
        assert [layer.how for layer in report.layers if layer.name == "own"] == ["rewritten"]
    with pytest.raises(tfkd.InputError, match="already has a quantization rule"):
        register(classes[1], as_layers)


def test_a_subclass_has_the_rule_unless_it_computes_something_else():
    own = known(tf_keras)

    class Named(own):
        pass

    class Doubled(own):
        def call(self, x):
            return 2.0 * super().call(x)

    tfkd.quantize_aware(model_of(tf_keras, Named))
    with pytest.raises(tfkd.UnsupportedError, match="'own' .* has no rule for 8 bits"):
        tfkd.quantize_aware(model_of(tf_keras, Doubled))


def test_a_rule_may_refuse():
    def refuse(net, layer, x):
        raise tfkd.UnsupportedError("has a gain, which is not rounded yet")

    with pytest.raises(tfkd.UnsupportedError, match=r"'own' \(Projection\): has a gain"):
        tfkd.quantize_aware(model_of(tf_keras, known(tf_keras, refuse)))


def _wrong_rules():
    def nothing(net, layer, x):
        as_layers(net, layer, x)

    def tensor(net, layer, x):
        return net.copy()(net.rounded(x))

    def two(net, layer, x):
        return [as_layers(net, layer, x)] * 2

    def other_shape(net, layer, x):
        return Value(net.rounded(x), layer.name)

    def loses_weights(net, layer, x):
        dense = net.layers.Dense(6, name=net.name("new"))
        return Value(dense(net.rounded(x)), layer.name)

    def no_such_weight(net, layer, x):
        wrapped = net.weighted(net.copy, [("weight", (1,), None)])
        return Value(wrapped(net.rounded(x)), layer.name)

    def fails(net, layer, x):
        return layer.kernels

    return {
        nothing: r"must return a tfkd\.quantization\.Value.* got None",
        tensor: r"must return a tfkd\.quantization\.Value",
        two: "returned 2 values, but the layer has 1 outputs",
        other_shape: r"shape \(None, 12\) .* for an output of shape \(None, 6\)",
        loses_weights: "does not say where the layer's weights are",
        no_such_weight: "failed with AttributeError: .*weight",
        fails: "failed with AttributeError: .*kernels",
    }


@pytest.mark.parametrize("rule", list(_wrong_rules()), ids=lambda rule: rule.__name__)
def test_a_wrong_rule_is_an_error_that_says_what_is_wrong(rule):
    match = {one.__name__: match for one, match in _wrong_rules().items()}[rule.__name__]
    with pytest.raises(tfkd.InputError, match=match) as caught:
        tfkd.quantize_aware(model_of(tf_keras, known(tf_keras, rule)))
    assert str(caught.value).startswith("The quantization rule of Projection, at the layer 'own',")


def test_a_second_rule_replaces_the_first_only_where_that_is_said():
    own = known(tf_keras)
    with pytest.raises(
        tfkd.InputError, match="Projection already has a quantization rule; .* replace=True"
    ):
        register(own, as_layers)
    register(own, as_layers, replace=True)
    with pytest.raises(tfkd.InputError, match="Dense already has a quantization rule"):
        register(tf_keras.layers.Dense, as_layers)


@pytest.mark.parametrize("given", ["Projection", projection, None])
def test_what_is_registered_is_a_layer_class(given):
    with pytest.raises(tfkd.InputError, match="layer_class must be a subclass of tf_keras"):
        register(given, as_layers)


def test_what_is_registered_is_a_function():
    with pytest.raises(tfkd.InputError, match="rule must be a function"):
        register(projection(keras), "rule")
