"""Translated models compute what the originals do."""

import keras
import numpy as np
import pytest
import tf_keras
from translated import assert_same, kinds, needs_current_keras, settings, shake

from tfkd import translate
from tfkd.errors import InputError, UnsupportedError
from tfkd.model import graph
from tfkd.translation import custom_objects, register

L = keras.layers


def test_nested_shared_and_merging(rng):
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, activation="relu")], name="inner")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = L.Dense(4)
    merged = L.Concatenate()([L.Add()([shared(inner(a)), shared(b)]), inner(b)])
    model = shake(keras.Model({"a": a, "b": b}, {"out": L.Dense(2)(merged)}), rng)
    x = {name: rng.normal(size=(3, 4)).astype("float32") for name in "ab"}
    translated = translate(model)
    assert len(translated.layers) == 2 + 5  # two inputs; inner and shared once each
    assert_same(model, translated, x)


def test_two_layers_of_one_name_in_two_nested_models(rng):
    def part():
        return keras.Sequential([keras.Input((4,)), L.Dense(4, name="dense")])

    model = shake(keras.Sequential([keras.Input((4,)), part(), part()]), rng)
    assert_same(model, translate(model), rng.normal(size=(3, 4)).astype("float32"))


def test_training_state_is_kept(rng):
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, kernel_regularizer="l2"), L.Dense(2)])
    model.layers[1].trainable = False
    translated = translate(model)
    assert len(translated.losses) == 1
    np.testing.assert_allclose(translated.losses[0], float(model.losses[0]), rtol=1e-6)
    assert [w.shape.as_list() for w in translated.trainable_weights] == [[4, 4], [4]]


def test_the_source_is_untouched_and_weights_are_not_shared(rng):
    model = keras.Sequential([keras.Input((4,)), L.Dense(4)])
    before = model.get_weights()
    translate(model).set_weights([np.zeros((4, 4)), np.zeros(4)])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@needs_current_keras
def test_everything_that_cannot_be_translated_is_named_at_once():
    class Custom(L.Layer):
        def call(self, x):
            return x

    x = keras.Input((4,))
    y = L.Dense(4, lora_rank=2, name="low")(Custom(name="mine")(x))
    model = keras.Model(x, keras.ops.erfinv(L.RMSNormalization()(y)))
    with pytest.raises(UnsupportedError) as error:
        translate(model)
    for part in ("'mine'", "class Custom", "register", "'low'", "lora_rank", "RMSNorm", "Erfinv"):
        assert part in str(error.value)


def test_inputs_and_outputs_keep_their_structure(rng):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b", dtype="int32", batch_size=3)
    y = L.Add(name="y")([a, keras.ops.cast(b, "float32")])
    given = {"a": rng.normal(size=(3, 4)).astype("float32"), "b": np.ones((3, 4), "int32")}
    for inputs, outputs, x in (
        ({"a": a, "b": b}, {"out": y, "again": [y, a]}, given),
        ([b, a], [y], [given["b"], given["a"]]),
        ([b, {"a": a}], (y, a), [given["b"], {"a": given["a"]}]),
    ):
        model = keras.Model(inputs, outputs, name="shapely")
        old = translate(model)
        back = translate(old, to="keras")
        assert_same(model, old, x)
        assert_same(model, back, x)
        assert (old.name, back.name) == ("shapely", "shapely")
        assert [t.name for t in back.inputs] == [t.name for t in model.inputs]
        assert [t.shape for t in back.inputs] == [t.shape for t in model.inputs]
        assert keras.tree.map_structure(lambda t: t.dtype, back.input) == (
            keras.tree.map_structure(lambda t: t.dtype, model.input)
        )


def test_a_student_trained_in_tf_keras_goes_on_in_keras_3(rng):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten()]
    )
    old = translate(model)
    x, y = rng.normal(size=(32, 8, 8, 1)).astype("float32"), np.zeros((32, 144), "float32")
    old.compile("sgd", "mse")
    old.fit(x, y, epochs=2, verbose=0)
    back = translate(old, to="keras")
    assert_same(old, back, x)
    assert np.abs(back.layers[2].moving_mean.numpy()).max() > 0
    assert [settings(layer) for layer in back.layers[1:]] == [settings(m) for m in model.layers]
    back.compile("sgd", "mse")
    before = back.evaluate(x, y, verbose=0)
    back.fit(x, y, epochs=3, verbose=0)
    assert back.evaluate(x, y, verbose=0) < before


def test_trainable_is_copied_inside_wrappers_too():
    inner = L.Dense(3)
    x = keras.Input((5, 2))
    both = L.Bidirectional(L.LSTM(3, return_sequences=True))
    model = keras.Model(x, L.TimeDistributed(inner)(both(x)))
    both.forward_layer.trainable = inner.trainable = False
    old = translate(model)
    assert len(old.trainable_weights) == len(model.trainable_weights) == 3
    assert len(translate(old, to="keras").trainable_weights) == 3


@pytest.mark.parametrize("to", ["keras", "tf_keras"])
def test_a_model_of_the_wanted_keras_is_copied(to, rng):
    package = {"keras": keras, "tf_keras": tf_keras}[to]
    layers = package.layers

    @package.saving.register_keras_serializable("tests", name=f"Twice_{to}")
    class Twice(layers.Layer):
        def call(self, x):
            return x + x

    x = package.Input((6, 4))
    inner = package.Sequential([package.Input((6, 4)), layers.Conv1D(3, 2, name="in")])
    y = layers.Bidirectional(layers.GRU(2))(Twice()(inner(x)) * 3)
    model = shake(package.Model(x, layers.Lambda(lambda v: v - 1)(y)), rng)
    copied = translate(model, to=to)
    assert kinds(copied) == ["Conv1D", "Twice", "Rescaling", "Bidirectional", "Lambda"]
    assert not {id(layer) for layer in copied.layers} & {id(layer) for layer in model.layers}
    assert_same(model, copied, rng.normal(size=(2, 6, 4)).astype("float32"))


def test_training_belongs_to_who_calls_the_model():
    """Keras 3 records `training=False` of its own accord; dropout must still drop."""
    x = keras.Input((200,))
    model = keras.Model(x, L.Dropout(0.5)(x))
    assert not graph.walk(model).calls[0].kwargs
    ones = np.ones((1, 200), "float32")
    for translated in (translate(model), translate(translate(model), to="keras")):
        assert 0 < np.mean(translated(ones, training=True) == 0) < 1
        assert np.all(translated(ones) == 1)
    x = keras.Input((4, 4, 1))
    flip = keras.Model(x, L.RandomFlip(seed=1)(x))
    image = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(translate(flip)(image, training=False), image)


def test_training_that_a_tf_keras_model_fixes_is_kept_or_told(rng):
    layers = tf_keras.layers
    inner = tf_keras.Sequential([tf_keras.Input((4,)), layers.BatchNormalization()])
    x = tf_keras.Input((4,))
    model = tf_keras.Model(x, inner(x, training=False))
    given = rng.normal(3.0, size=(8, 4)).astype("float32")
    np.testing.assert_allclose(translate(model)(given, training=True), model(given), rtol=1e-6)
    with pytest.raises(UnsupportedError, match="training=False"):
        translate(model, to="keras")
    inner.trainable = False  # then Keras 3 keeps its statistics as well
    new = translate(model, to="keras")
    np.testing.assert_allclose(new(given, training=True), model(given), rtol=1e-6)


def test_activations_of_keras_3_are_lent_and_survive_a_file(tmp_path, rng):
    x = keras.Input((6, 4))
    y = L.Bidirectional(L.GRU(3, recurrent_activation="hard_sigmoid", return_sequences=True))(x)
    y = L.Activation("hard_silu", name="swish")(L.Dense(3, activation="relu6")(y))
    model = shake(keras.Model(x, y), rng)
    old = translate(model)
    assert old.get_layer("swish").activation.__name__ == "hard_silu"
    given = rng.normal(scale=4.0, size=(2, 6, 4)).astype("float32")
    old.save(tmp_path / "old.keras")
    loaded = tf_keras.models.load_model(tmp_path / "old.keras", custom_objects=custom_objects())
    for other in (old, loaded, translate(loaded, to="keras")):
        assert_same(model, other, given)
    back = translate(loaded, to="keras")
    assert [settings(m) for m in back.layers[1:]] == [settings(m) for m in model.layers[1:]]


def test_the_hard_sigmoid_of_tf_keras_is_lent_to_keras_3(tmp_path, rng):
    x = tf_keras.Input((4,))
    model = tf_keras.Model(x, tf_keras.layers.Activation("hard_sigmoid")(x))
    given = rng.normal(scale=4.0, size=(9, 4)).astype("float32")
    new = translate(model, to="keras")
    assert_same(model, new, given)
    new.save(tmp_path / "new.keras")
    assert_same(model, keras.models.load_model(tmp_path / "new.keras"), given)
    assert translate(new).layers[-1].activation is tf_keras.activations.hard_sigmoid


class Scaled(L.Layer):
    def __init__(self, by, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[-1:], name="shift")

    def call(self, x):
        return x * self.by + self.shift

    def get_config(self):
        return {**super().get_config(), "by": self.by}


class ScaledOld(tf_keras.layers.Layer):
    def __init__(self, by, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[-1:], name="shift")

    def call(self, x):
        return x * self.by + self.shift

    def get_config(self):
        return {**super().get_config(), "by": self.by}


class Halved(ScaledOld):
    pass


def test_custom_layers_by_class_and_by_functions(rng):
    x = keras.Input((4,))
    model = shake(keras.Model(x, Scaled(3.0, name="mine")(x)), rng)
    given = rng.normal(size=(2, 4)).astype("float32")
    with pytest.raises(UnsupportedError, match=r"class Scaled .* tfkd\.translation\.register"):
        translate(model)
    register(Scaled, ScaledOld)
    old = translate(model)
    back = translate(old, to="keras")
    assert kinds(old) == ["ScaledOld"]
    assert settings(back.layers[-1]) == settings(model.layers[-1])
    assert_same(model, old, given)
    assert_same(model, back, given)

    with pytest.raises(InputError, match="Scaled is registered already; pass replace=True"):
        register(Scaled, Halved)
    register(
        Scaled,
        Halved,
        to_tf_keras=lambda layer: Halved(layer.by),
        to_keras=lambda layer: Scaled(layer.by),
        replace=True,
    )
    with pytest.warns(
        DeprecationWarning, match=r"register\(overwrite=\.\.\.\) is now replace=\.\.\."
    ):
        register(
            Scaled,
            Halved,
            lambda layer: Halved(layer.by),
            lambda layer: Scaled(layer.by),
            overwrite=True,
        )
    old = translate(model)
    assert (kinds(old), old.layers[-1].name) == (["Halved"], "mine")
    assert_same(model, translate(old, to="keras"), given)
    replaced = tf_keras.Sequential([tf_keras.Input((4,)), ScaledOld(1.0)])
    with pytest.raises(UnsupportedError, match="class ScaledOld"):
        translate(replaced, to="keras")


def test_register_wants_a_class_of_each():
    with pytest.raises(InputError, match="tf_keras_class must be a subclass of tf_keras"):
        register(Scaled, Scaled)
    with pytest.raises(InputError, match="keras_class must be a subclass of keras.layers.Layer"):
        register("Scaled", ScaledOld)


def test_weights_that_do_not_fit_are_told():
    class Weightless(tf_keras.layers.Layer):
        def call(self, x):
            return x

    class Weighty(Scaled):
        pass

    register(Weighty, Weightless, to_tf_keras=lambda layer: Weightless())
    x = keras.Input((4,))
    with pytest.raises(UnsupportedError, match=r"'odd': its weights have the shapes \[\(4,\)\]"):
        translate(keras.Model(x, Weighty(1.0, name="odd")(x)))


def test_bad_input_is_told():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(InputError, match="to must be 'tf_keras' or 'keras', got 'torch'"):
        translate(keras.Sequential([keras.Input((4,))]), to="torch")
    with pytest.raises(InputError, match="Expected a Keras 3 or tf_keras model, got NoneType"):
        translate(None)
    with pytest.raises(InputError, match="is not built"):
        translate(keras.Sequential([L.Dense(2)]))
    with pytest.raises(UnsupportedError, match="subclassed .* Functional API"):
        translate(Subclassed())
    sparse = keras.Input((4,), sparse=True, name="x")
    with pytest.raises(UnsupportedError, match="input 'x' is sparse"):
        translate(keras.Model(sparse, L.Dense(2)(sparse)))
    ragged = tf_keras.Input((None, 4), ragged=True)
    with pytest.raises(UnsupportedError, match="is ragged"):
        translate(tf_keras.Model(ragged, tf_keras.layers.Dense(2)(ragged)), to="keras")
