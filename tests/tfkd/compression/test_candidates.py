"""Candidates fit the kind of input, are smaller than the teacher, and end like it."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from tfkd.compression.candidates import families
from tfkd.compression.outputs import activations_of
from tfkd.errors import InputError, UnsupportedError
from tfkd.model import cost
from tfkd.output_kind import output_activations

layers = keras.layers
RANDOM = np.random.default_rng(0)


def cnn(end="linear"):
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            *(layers.Conv2D(n, 3, padding="same", activation="relu") for n in (16, 32, 64)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation=end),
        ]
    )


def recurrent(*before, input_shape=(20, 4), steps=False, **options):
    return keras.Sequential(
        [
            keras.Input(input_shape, **options),
            *before,
            layers.LSTM(32, return_sequences=steps),
            layers.Dense(3),
        ]
    )


def found(teacher, x, count=100, **options):
    """Return the students of all families that are smaller than the teacher."""
    most = cost.measure(teacher).parameters if hasattr(teacher, "count_params") else np.inf
    several = families(teacher, x, 0, **options)
    made = (family.candidate(size) for family in several for size in family.sizes)
    smaller = (one for one in made if one is not None and one.parameters < most)
    return list(itertools.islice(smaller, count))


def numbers(*shape):
    return RANDOM.normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("teacher", "x", "kinds"),
    [
        (cnn(), numbers(8, 16, 16, 3), {"teacher", "ds_cnn", "resnet", "mobile"}),
        (recurrent(), numbers(8, 20, 4), {"teacher", "conv1d", "gru", "lstm"}),
        (
            recurrent(layers.Embedding(50, 32), input_shape=(20,), dtype="int32"),
            RANDOM.integers(0, 50, (8, 20)),
            {"embedding and conv1d", "embedding and gru", "embedding and lstm"},
        ),
        (
            keras.Sequential([keras.Input((12,)), layers.Dense(200), layers.Dense(2)]),
            numbers(8, 12),
            {"teacher", "dense"},
        ),
    ],
    ids=["images", "sequences", "tokens", "vectors"],
)
def test_they_are_of_the_kind_of_the_input(teacher, x, kinds):
    whole = cost.measure(teacher)
    answers = teacher(x[:2]).shape
    made = found(teacher, x)
    assert {one.kind for one in made} >= kinds
    for one in made:
        assert 0 < one.parameters < whole.parameters
        assert one.model(x[:2]).shape == answers


@pytest.mark.parametrize("end", ["linear", "softmax"])
def test_they_end_as_the_teacher(end):
    for one in found(cnn(end), numbers(8, 16, 16, 3)):
        assert output_activations(one.model) == [end]


def test_each_step_has_its_answer():
    teacher, x = recurrent(steps=True), numbers(8, 20, 4)
    assert {one.model(x).shape for one in found(teacher, x)} == {(8, 20, 3)}


def test_padding_stays_masked():
    teacher, x = recurrent(layers.Masking(-1.0)), numbers(8, 20, 4)
    for one in found(teacher, x):
        if one.kind in ("gru", "lstm"):
            x[:, 12:] = -1.0
            states = one.model.layers[-2]
            assert one.model.layers[1].mask_value == -1.0
            np.testing.assert_allclose(states(one.model.layers[1](x)), states(x[:, :12]), atol=1e-5)


def words():
    table = layers.Embedding(50, 32, mask_zero=True)
    return recurrent(table, input_shape=(20,), dtype="int32")


def test_padding_of_tokens_stays_masked():
    x = RANDOM.integers(1, 50, (8, 20))
    x[:, 12:] = 0
    for one in found(words(), x):
        table, states = one.model.layers[1], one.model.layers[-2]
        assert table.mask_zero is (one.kind != "embedding and conv1d")
        if one.kind.endswith(("gru", "lstm")):
            np.testing.assert_allclose(states(table(x)), states(table(x[:, :12])), atol=1e-5)


def test_where_no_file_carries_a_mask_it_is_said():
    x = RANDOM.integers(1, 50, (8, 20))
    with pytest.warns(UserWarning, match="An int8 file carries no mask"):
        made = found(words(), x, keeps_masks=False)
    kinds = {one.kind: one.model.layers[1].mask_zero for one in made if "teacher" not in one.kind}
    assert set(kinds) >= {"embedding and gru"} and not any(kinds.values())


def test_tokens_are_those_of_the_teacher_not_of_a_few_examples():
    teacher = recurrent(layers.Embedding(50, 32), input_shape=(20,), dtype="int32")
    for one in found(teacher, RANDOM.integers(0, 9, (8, 20))):
        if "teacher" not in one.kind:
            assert one.model.layers[1].input_dim == 50


def test_whole_numbers_are_amounts_where_nothing_looks_them_up():
    teacher = keras.Sequential([keras.Input((6,)), layers.Dense(300), layers.Dense(2)])
    assert "dense" in {one.kind for one in found(teacher, RANDOM.integers(0, 9, (8, 6)))}


@pytest.mark.parametrize(("dtype", "nets"), [("float32", {"dense"}), ("int32", set())])
def test_a_column_that_is_looked_up_makes_no_tokens_of_the_others(dtype, nets):
    inputs = keras.Input((4,), dtype=dtype)
    table = layers.Flatten()(layers.Embedding(5, 4)(inputs[:, :1]))
    x = layers.Concatenate()([table, layers.Rescaling(0.1)(inputs[:, 1:])])
    teacher = keras.Model(inputs, layers.Dense(2)(layers.Dense(40, activation="relu")(x)))
    examples = RANDOM.integers(0, 5, (8, 4)).astype(dtype)
    kinds = {family.kind for family in families(teacher, examples, 0)}
    assert {kind for kind in kinds if not kind.startswith("teacher")} == nets
    assert "teacher" in kinds


def test_tokens_that_are_cast_are_tokens():
    inputs = keras.Input((20,))
    x = layers.Embedding(50, 32)(keras.ops.cast(inputs, "int32"))
    teacher = keras.Model(inputs, layers.Dense(3)(layers.LSTM(32)(x)))
    kinds = {family.kind for family in families(teacher, RANDOM.integers(0, 50, (8, 20)), 0)}
    assert "embedding and gru" in kinds and "dense" not in kinds


def test_inputs_far_from_one_are_scaled():
    teacher, x = cnn(), 100 + 60 * numbers(64, 16, 16, 3)
    for one in found(teacher, x):
        if "teacher" not in one.kind:
            scaled = one.model.layers[1](x)
            assert abs(float(np.mean(scaled))) < 0.01 and abs(float(np.std(scaled)) - 1) < 0.01


def test_each_column_of_a_vector_is_scaled_by_itself():
    """One column of 0 to 1e6 hid three others from nets with one mean for all."""
    x = np.concatenate([numbers(64, 3), 5e5 + 2e5 * numbers(64, 1), np.full((64, 1), 7.0)], axis=1)
    teacher = keras.Sequential([keras.Input((5,)), layers.Dense(300), layers.Dense(2)])
    [one, *_] = [one for one in found(teacher, x) if one.kind == "dense"]
    scaled = np.asarray(one.model.layers[1](x.astype("float32")))
    np.testing.assert_allclose(scaled.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(scaled.std(0), [1, 1, 1, 1, 0], atol=0.01)


def test_masked_steps_are_scaled_and_stay_masked():
    x = 300 + 50 * numbers(8, 20, 3)
    x[:, 12:] = -1
    for one in found(recurrent(layers.Masking(-1.0), input_shape=(20, 3)), x):
        if one.kind in ("gru", "lstm"):
            start, states = one.model.layers[2], one.model.layers[-2]
            scaled = np.asarray(start(x[:, :12]))
            np.testing.assert_allclose(scaled.mean((0, 1)), 0, atol=0.01)
            whole = keras.Model(one.model.input, states.output)
            np.testing.assert_allclose(whole(x), states(scaled), atol=1e-5)


def test_a_seed_gives_the_same_weights_whatever_was_drawn():
    teacher, x = cnn(), numbers(8, 16, 16, 3)
    first = {one.name: one.model.get_weights() for one in found(teacher, x)}
    keras.utils.set_random_seed(99)
    for one in found(teacher, x):
        for a, b in zip(first[one.name], one.model.get_weights(), strict=True):
            assert_array_equal(a, b)


def test_a_function_teaches_nets_of_its_answers():
    def teacher(x):
        return np.zeros((len(x), 4))

    made = found(teacher, numbers(8, 12))
    assert {one.kind for one in made} == {"dense"}
    assert made[0].model.output_shape == (None, 4)
    for one in found(teacher, numbers(8, 12), end=lambda shape: "softmax"):
        assert output_activations(one.model) == ["softmax"]


def test_a_function_of_tensors_teaches_nets_of_its_answers(tmp_path):
    model = keras.Sequential([keras.Input((12,)), layers.Dense(4)])
    function = tf.function(model, input_signature=[tf.TensorSpec((None, 12))])
    model.export(tmp_path / "saved", verbose=False)
    for teacher in (function, str(tmp_path / "saved")):
        assert found(teacher, numbers(8, 12), 1)[0].model.output_shape == (None, 4)
    with pytest.raises(InputError, match=r"make it \(examples, 1\), as predict"):
        found(lambda x: np.zeros(len(x)), numbers(8, 12))
    with pytest.raises(UnsupportedError, match="give a student"):
        found(lambda x: [np.zeros((len(x), 2)), np.zeros((len(x), 3))], numbers(8, 12))


def test_several_teachers_of_tokens():
    for one in found([words(), words()], RANDOM.integers(1, 50, (8, 20)), 3):
        assert one.kind.startswith("embedding") and one.model.layers[1].input_dim == 50


def test_what_no_net_is_known_for_is_refused():
    with pytest.raises(UnsupportedError, match=r"inputs of shape \(3, 3, 3, 3\)"):
        found(lambda x: np.zeros((len(x), 2)), numbers(2, 3, 3, 3, 3))


def heads(maps=False):
    """A teacher of two outputs: of vectors, or one of them of maps."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(24, 3, padding="same", activation="relu")(inputs)
    vector = layers.Dense(32, activation="relu")(layers.GlobalAveragePooling2D()(x))
    kind = layers.Dense(3, name="kind")(vector)
    place = layers.Conv2D(1, 1)(x) if maps else layers.Dense(2, activation="sigmoid")(vector)
    return keras.Model(inputs, {"place": place, "kind": kind})


def test_students_of_several_outputs_have_them_by_name():
    teacher, x = heads(), numbers(8, 32, 32, 3)
    several = families(teacher, x, 0, names=("place", "kind"))
    kinds = {"teacher", "teacher (half the resolution)", "ds_cnn", "resnet", "mobile"}
    assert {family.kind for family in several} - {"teacher (each layer)"} == kinds
    for family in several:
        one = next(filter(None, map(family.candidate, family.sizes)))
        answers = one.model(x[:2])
        assert {name: tuple(of.shape) for name, of in answers.items()} == {
            "place": (2, 2),
            "kind": (2, 3),
        }
        ends = activations_of(one.model, ("place", "kind"))
        assert ends == {"place": "sigmoid", "kind": "linear"}


def test_where_no_small_net_answers_like_it_the_teacher_is_cut():
    made = found(heads(maps=True), numbers(8, 32, 32, 3), names=("place", "kind"))
    assert {one.kind for one in made} - {"teacher (each layer)"} == {"teacher"}
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(24, 3, padding="same", activation="relu")(inputs)
    pixels = keras.Model(inputs, layers.Conv2D(4, 1)(x))
    made = found(pixels, numbers(8, 16, 16, 3))
    assert made and {one.kind for one in made} == {"teacher"}


def test_several_outputs_need_a_teacher_that_shows_them():
    with pytest.raises(UnsupportedError, match="'kind' and 'place', but the teacher has no"):
        found(lambda x: {}, numbers(2, 4), names=("kind", "place"))
    with pytest.raises(UnsupportedError, match="has outputs without labels"):
        found(heads(), numbers(8, 32, 32, 3), names=("kind",))
    inputs = keras.Input((4,))
    both = keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(3)(inputs)])
    with pytest.raises(UnsupportedError, match="The labels are one array"):
        found(both, numbers(2, 4))


def test_layers_are_thinned_alike_beside_the_whole():
    """Most channels of the second layer are small: ranked in the whole, they go first."""
    teacher = keras.Sequential(
        [keras.Input((20,)), layers.Dense(40), layers.Dense(40), layers.Dense(3)]
    )
    kernel, bias = teacher.layers[1].get_weights()
    kernel[:, 10:] *= 0.01
    teacher.layers[1].set_weights([kernel, bias])
    x = numbers(8, 20)
    several = {family.kind: family for family in families(teacher, x, 0)}
    units = {
        kind: [layer.units for layer in several[kind].candidate(0.35).model.layers[1:]]
        for kind in ("teacher", "teacher (each layer)")
    }
    assert units["teacher"][0] != units["teacher"][1]
    assert units["teacher (each layer)"] == [20, 20, 3]
    one = keras.Sequential([keras.Input((20,)), layers.Dense(40), layers.Dense(3)])
    assert "teacher (each layer)" not in {family.kind for family in families(one, x, 0)}


def test_a_teacher_that_can_not_be_built_again_has_small_nets():
    class Applied(layers.Layer):
        def __init__(self, function, **kwargs):
            super().__init__(**kwargs)
            self.function = function

        def call(self, x):
            return self.function(x)

    own = Applied(tf.tanh)
    teacher = keras.Sequential(
        [keras.Input((12,)), layers.Dense(64), own, layers.Dense(64), layers.Dense(3)]
    )
    assert {one.kind for one in families(teacher, numbers(8, 12), 0)} == {"dense"}
