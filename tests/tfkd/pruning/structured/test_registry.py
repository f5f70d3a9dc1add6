"""Users' own pruning rules are used, checked, and refused if wrong."""

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import projection

import tfkd
from tfkd.pruning import NotPrunable, describe, register


def follow(channels, call, inputs):
    """The right rule."""
    units = channels.counted(call.layer, "units")
    channels.slices(call.layer.kernel, 0, channels.of_input(call))
    channels.slices(call.layer.kernel, 1, units)
    channels.slices(call.layer.gain, 0, units)
    return channels.as_output(call, units)


def model_of(package, layer_class, units=16):
    layers = package.layers
    inputs = package.Input((8,), name="x")
    x = layers.Dense(12, activation="relu", name="before")(inputs)
    x = layer_class(units, name="own")(x)
    return package.Model(inputs, layers.Dense(3, name="head")(x))


def without_rows(model, name, rows):
    """Make units of a layer dead: what they make, and what reads them, is zero."""
    for weight in model.get_layer(name).weights:
        values = weight.numpy()
        values[..., rows] = 0.0
        weight.assign(values)


def test_dead_channels_of_an_own_layer_go_without_a_trace(package, rng):
    own = projection(package)
    model = model_of(package, own)
    with pytest.raises(tfkd.UnsupportedError, match="own: Projection has no rule"):
        tfkd.prune_channels(model, 0.5, round_to=1)
    register(own, follow)
    without_rows(model, "own", slice(0, 8))
    without_rows(model, "before", slice(0, 6))
    head, kernel = model.get_layer("head").kernel, model.get_layer("own").kernel
    head.assign(np.where(np.arange(16)[:, None] < 8, 0.0, head.numpy()))
    kernel.assign(np.where(np.arange(12)[:, None] < 6, 0.0, kernel.numpy()))
    small = tfkd.prune_channels(model, 0.5, round_to=1)
    assert (small.get_layer("before").units, small.get_layer("own").units) == (6, 8)
    assert type(small.get_layer("own")) is own and describe(small).not_pruned == {}
    x = rng.normal(size=(32, 8)).astype("float32")
    np.testing.assert_allclose(small(x), model(x), atol=1e-6)


def test_a_subclass_has_the_rule_unless_it_computes_something_else(package):
    own = projection(package)
    register(own, follow)

    class Named(own):
        pass

    class Doubled(own):
        def call(self, x):
            return 2.0 * super().call(x)

    assert (
        tfkd.prune_channels(model_of(package, Named), 0.5, round_to=1).get_layer("own").units < 16
    )
    with pytest.raises(tfkd.UnsupportedError, match="own: Doubled has no rule"):
        tfkd.prune_channels(model_of(package, Doubled), 0.5)


def test_a_rule_may_leave_its_layer_whole(package):
    own = projection(package)

    def decline(channels, call, inputs):
        channels.slices(call.layer.kernel, 0, channels.of_input(call))
        raise NotPrunable("its units are counted elsewhere")

    register(own, decline)
    inputs = package.Input((8,))
    x = package.layers.Dense(16, name="free")(own(16, name="own")(inputs))
    model = package.Model(inputs, package.layers.Dense(3)(x))
    small = tfkd.prune_channels(model, 0.5)
    assert describe(small).not_pruned == {"own": "its units are counted elsewhere"}
    assert (small.get_layer("own").units, small.get_layer("free").units) == (16, 8)


def test_the_report_is_kept_beside_the_model(package):
    own = projection(package)
    with pytest.raises(tfkd.InputError, match="does not come from prune_channels"):
        describe(model_of(package, own))
    register(own, follow)
    small = tfkd.prune_channels(model_of(package, own), 0.5, round_to=1, skip="own")
    assert not [name for name in vars(small) if name in ("tfkd_blocks", "tfkd_report")]
    with pytest.warns(DeprecationWarning, match=r"tfkd_whole is tfkd\.pruning\.describe\(model\)"):
        assert small.tfkd_whole == {} and list(small.tfkd_whole) == []
    assert str(describe(small)) == "Every layer that can be pruned was."


def _wrong_rules():
    def nothing(channels, call, inputs):
        follow(channels, call, inputs)

    def flat(channels, call, inputs):
        follow(channels, call, inputs)
        return np.zeros((2, 16), int)

    def real(channels, call, inputs):
        return follow(channels, call, inputs) * 1.0

    def unheard_of(channels, call, inputs):
        return follow(channels, call, inputs) + 10_000

    def unconnected(channels, call, inputs):
        follow(channels, call, inputs)
        return channels.as_output(call, channels.new(16))

    def two(channels, call, inputs):
        return [follow(channels, call, inputs)] * 2

    def no_gain(channels, call, inputs):
        units = channels.counted(call.layer, "units")
        channels.slices(call.layer.kernel, 0, channels.of_input(call))
        channels.slices(call.layer.kernel, 1, units)
        return channels.as_output(call, units)

    def other_axis(channels, call, inputs):
        channels.slices(call.layer.kernel, 0, channels.counted(call.layer, "units"))

    def third_axis(channels, call, inputs):
        channels.slices(call.layer.kernel, 2, channels.of_input(call))

    def other_name(channels, call, inputs):
        follow(channels, call, inputs)
        return channels.as_output(call, channels.counted(call.layer, "filters", 16))

    def fails(channels, call, inputs):
        return call.layer.kernels

    return {
        nothing: "must return an array of integers, .* got None",
        flat: r"labels of shape \(2, 16\) for an output of shape \(None, 16\)",
        real: "array of integers, .* got dtype float64",
        unheard_of: "labels that occur neither in its inputs",
        unconnected: "labels that occur neither in its inputs",
        two: "2 arrays of labels, but the layer has 1 outputs",
        no_gain: r"leaves out the weights '.*gain.*' of shape \(16,\)",
        other_axis: r"axis 0 of the weight '.*' of shape \(12, 16\) takes 12 labels",
        third_axis: r"of shape \(12, 16\) has no axis 2",
        other_name: "counts 16 channels by 'filters', for which .* has None",
        fails: "failed with AttributeError",
    }


@pytest.mark.parametrize("rule", list(_wrong_rules()), ids=lambda rule: rule.__name__)
def test_a_wrong_rule_is_an_error_that_says_what_is_wrong(rule):
    own = projection(keras)
    register(own, rule)
    match = {one.__name__: match for one, match in _wrong_rules().items()}[rule.__name__]
    with pytest.raises(tfkd.InputError, match=match) as caught:
        tfkd.prune_channels(model_of(keras, own), 0.5)
    assert str(caught.value).startswith("The pruning rule of Projection, at the layer 'own',")


def test_a_rule_that_forgets_an_axis_does_not_pass(package):
    own = projection(package)

    def forgets(channels, call, inputs):
        units = channels.counted(call.layer, "units")
        channels.slices(call.layer.kernel, 0, channels.of_input(call))
        channels.slices(call.layer.gain, 0, units)
        return channels.as_output(call, units)

    register(own, forgets)
    with pytest.raises(tfkd.UnsupportedError, match="'own' .* has weights of the shapes"):
        tfkd.prune_channels(model_of(package, own), 0.5, round_to=1)


def test_a_rule_that_mixes_up_its_output_does_not_pass(package):
    own = projection(package)

    def keeps(channels, call, inputs):
        units = follow(channels, call, inputs)
        return np.where(np.arange(16) < 8, units, 0)

    register(own, keeps)
    model = model_of(package, own)
    without_rows(model, "own", slice(8, 16))  # of which the rule says that they stay
    with pytest.raises(tfkd.UnsupportedError, match="'own' .* returns an output of shape"):
        tfkd.prune_channels(model, 0.5, round_to=1)


def test_a_weight_without_channels_is_said_to_be_whole(package, rng):
    own = projection(package)

    class Mixer(own):
        """Mixes its inputs first: they stay."""

        def build(self, input_shape):
            super().build(input_shape)
            self.mix = self.add_weight(shape=(input_shape[-1],) * 2, name="mix")

        def call(self, x):
            return super().call(x @ self.mix)

    def mix(channels, call, inputs):
        channels.keep(inputs[0])
        channels.whole(call.layer.mix)
        return follow(channels, call, inputs)

    register(Mixer, mix)
    small = tfkd.prune_channels(model_of(package, Mixer), 0.5)
    assert (small.get_layer("before").units, small.get_layer("own").units) == (12, 8)
    assert small(rng.normal(size=(2, 8)).astype("float32")).shape == (2, 3)


def test_a_second_rule_replaces_the_first_only_where_that_is_said():
    own = projection(tf_keras)
    register(own, follow)
    with pytest.raises(
        tfkd.InputError, match="Projection already has a pruning rule; .* replace=True"
    ):
        register(own, follow)
    register(own, follow, replace=True)
    with pytest.raises(tfkd.InputError, match="Dense already has a pruning rule"):
        register(keras.layers.Dense, follow)


@pytest.mark.parametrize("given", ["Projection", keras.Model, projection, None])
def test_what_is_registered_is_a_layer_class_and_a_function(given):
    if given is keras.Model:
        with pytest.raises(tfkd.InputError, match="rule must be a function"):
            register(projection(keras), "rule")
        return
    with pytest.raises(tfkd.InputError, match="layer_class must be a subclass of keras"):
        register(given, follow)
