"""`pair_layers`: which layers, in graphs made to mislead."""

import keras
import numpy as np
import pytest
from tiny_models import cnn, crossentropy

from tfkd import Distiller, losses, quantize_aware
from tfkd.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The teacher's:UserWarning")  # it is untrained


def residual(package, width=4):
    """Two stages; names that sort against the graph, and layers that are not to be taken."""
    la = package.layers
    inputs = package.Input((8, 8, 1))
    x = la.Rescaling(2.0, name="before_weights")(inputs)
    x = la.Conv2D(width, 3, padding="same", name="z")(x)
    x = la.ReLU(name="y")(x)
    gate = la.GlobalAveragePooling2D(keepdims=True, name="one_position")(x)
    x = la.Multiply(name="x")([x, la.Dense(width, "sigmoid", name="gate")(gate)])
    x = la.Dropout(0.5, name="noise")(x)
    x = la.Conv2D(width, 3, 2, padding="same", name="w")(x)
    y = la.BatchNormalization(name="v")(la.Conv2D(width, 1, name="u")(x))
    x = la.Activation("relu", name="t")(la.Add(name="s")([x, y]))
    x = la.BatchNormalization(name="linear_bn")(la.Conv2D(width, 1, name="linear")(x))
    return package.Model(inputs, la.Dense(3, name="a")(la.GlobalAveragePooling2D()(x)))


def named(pairs):
    return [(one.student_layer, one.teacher_layer) for one in pairs]


def test_the_last_activated_layer_of_each_resolution(package):
    got = losses.pair_layers(residual(package), residual(keras, 9))
    assert named(got) == [("x", "x"), ("t", "t")]
    assert all(type(one) is losses.Hint and one.weight == "auto" for one in got)
    # The activation may be in the layer, and a convolution without one is better than nothing.
    la = package.layers
    inside = package.Sequential([
        package.Input((8, 8, 1)), la.Conv2D(3, 3, padding="same", activation="relu", name="on"),
        la.Conv2D(3, 3, padding="same", name="off"), la.Conv2D(3, 3, 2, padding="same", name="end"),
        la.Flatten(), la.Dense(3),
    ])  # fmt: skip
    assert named(losses.pair_layers(inside, residual(keras))) == [("on", "x"), ("end", "t")]


def test_maps_of_outputs_are_left_to_the_soft_loss(package):
    def segments(p):
        la = p.layers
        inputs = p.Input((8, 8, 1))
        x = la.Conv2D(4, 3, padding="same", activation="relu", name="mid")(inputs)
        x = la.Conv2D(3, 1, name="logits")(x)
        return p.Model(inputs, la.Softmax(name="classes")(x))

    assert named(losses.pair_layers(segments(package), segments(keras))) == [("mid", "mid")]


def test_nested_models_and_layers_that_are_called_twice(package):
    la = package.layers
    inner = package.Sequential(
        [package.Input((8, 8, 1)), la.Conv2D(2, 3, padding="same", activation="relu", name="c")],
        name="backbone",
    )
    inputs = package.Input((8, 8, 1))
    twice = la.Conv2D(2, 3, padding="same", activation="relu", name="twice")
    x = twice(twice(inner(inputs)))
    student = package.Model(inputs, la.Dense(3)(la.GlobalAveragePooling2D()(x)))
    assert named(losses.pair_layers(student, residual(keras))) == [("backbone/c", "x")]


def test_steps_of_sequences_known_or_free(package):
    def recurrent(p, steps):
        la = p.layers
        return p.Sequential([
            p.Input((steps, 3)), la.GRU(4, return_sequences=True, name="g"), la.LSTM(4), la.Dense(3)
        ])  # fmt: skip

    for steps in (None, 5):
        pairs = losses.pair_layers(
            recurrent(package, steps), recurrent(keras, steps), losses.SimilarityPreserving, 2.0
        )
        assert named(pairs) == [("g", "g")] and pairs[0].weight == 2.0
        assert type(pairs[0]) is losses.SimilarityPreserving


def test_a_quantize_aware_student_keeps_its_pairs():
    student = quantize_aware(cnn(keras))
    pairs = losses.pair_layers(student, cnn(keras, 16))
    assert [student.get_layer(a).output.shape[1:3].as_list() for a, _ in named(pairs)] == [
        [8, 8], [4, 4]
    ]  # fmt: skip
    assert all("re_lu" in b for _, b in named(pairs))


def test_auto_in_fit(package, rng, tmp_path):
    x, y = rng.normal(size=(16, 8, 8, 1)).astype("float32"), rng.integers(0, 3, 16)
    teacher = residual(keras, 9)
    distiller = Distiller(residual(package), teacher, features="auto", soft_loss=None)
    distiller.compile("sgd", crossentropy(package))
    logs = distiller.fit(x, y, batch_size=8, verbose=0).history
    assert logs["soft_loss"][0] > 0
    assert len(distiller.trainable_weights) == len(distiller.student.trainable_weights) + 4
    distiller.save(tmp_path / "d.keras")
    again = package.models.load_model(tmp_path / "d.keras")
    again.teacher = teacher
    for a, b in zip(distiller.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_paired():
    la = keras.layers
    flat = keras.Sequential([keras.Input((4,)), la.Dense(3)])
    other = keras.Sequential([keras.Input((9, 9, 1)), la.Conv2D(2, 3, activation="relu", name="c"),
                              la.Flatten(), la.Dense(3)])  # fmt: skip
    with pytest.raises(InputError, match=r"has 8×8 \('x'\), 4×4 \('t'\), .* 7×7 \('c'\)"):
        losses.pair_layers(residual(keras), other)
    with pytest.raises(InputError, match="has none with positions"):
        losses.pair_layers(flat, residual(keras))
    with pytest.raises(InputError, match="the teacher is NoneType"):
        Distiller(residual(keras), features="auto")
    with pytest.raises(InputError, match="the teacher is str"):
        Distiller(residual(keras), "teacher.keras", features="auto")
