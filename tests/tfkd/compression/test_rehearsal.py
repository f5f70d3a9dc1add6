"""Facts known before training: costs, limits, and what a later stage would refuse."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest

from tfkd import Recipe, Target
from tfkd.compression.rehearsal import (
    Costs,
    Goal,
    costs_of,
    drop_error,
    drop_of,
    file_of,
    goal_of,
    rehearse,
)
from tfkd.distillation.worth import Score
from tfkd.errors import ConversionError, InputError, UnsupportedError
from tfkd.export.micro import evaluation
from tfkd.export.micro.board_table import BOARDS
from tfkd.model import cost
from tfkd.quantization import calibrate, quantize_aware

X = np.random.default_rng(0).normal(size=(32, 8, 8, 1)).astype("float32")
NOTHING = Goal({}, None, None)


def test_fewer_bits_where_the_target_asks_for_fewer_bytes():
    layers = [keras.layers.Flatten(), keras.layers.Dense(128), keras.layers.Dense(3)]
    wide = keras.Sequential([keras.Input(X.shape[1:]), *layers])
    recipe = Recipe(formats=("int8",))
    free = rehearse(wide, X, recipe, NOTHING)
    least = rehearse(wide, X, recipe, Goal({"bytes": 10}, None, None))
    assert (free.bits, least.bits) == (8, 4) and least.bytes < 0.7 * free.bytes
    met = rehearse(wide, X, recipe, Goal({"bytes": least.bytes}, None, None))
    assert met == least and not Goal({"bytes": least.bytes}, None, None).unmet(met)
    asked = Recipe(formats=("int8",), bits=8)
    assert rehearse(wide, X, asked, Goal({"bytes": 10}, None, None)) == free


def net(layer=None):
    layers = [keras.layers.Conv2D(4, 3), *([layer] if layer else []), keras.layers.ReLU()]
    return keras.Sequential(
        [keras.Input((8, 8, 1)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)]
    )


@pytest.mark.skipif(not evaluation.is_installed(), reason="tflite-micro is not installed")
def test_an_untrained_copy_costs_what_the_trained_model_costs():
    goal = goal_of(Target(), "pico", None)
    model, recipe = net(), Recipe(formats=("int8",))
    before = [one.copy() for one in model.get_weights()]
    costs = rehearse(model, X, recipe, goal)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.compile("sgd", "mse")
    model.fit(X, np.zeros((32, 3)), verbose=0)
    qat = calibrate(quantize_aware(model), X)
    file = file_of(qat, "int8", X, micro=True)
    found = costs_of(file, qat, goal)
    assert costs.arena == found.arena > 0
    # Keras numbers the names of operations within a process, and a file holds these names.
    assert found.bytes == file.size and abs(costs.bytes - file.size) <= 64
    assert (costs.parameters, costs.macs) == (cost.measure(model).parameters, 36 * 36 + 144 * 3)


def test_a_copy_is_timed_where_a_latency_is_wanted():
    recipe, goal = Recipe(formats=("float32",)), Goal({"latency": 0.05}, None, None)
    costs = rehearse(net(), X, recipe, goal)
    assert 0.1 < costs.latency < 1e5
    assert goal.unmet(costs)[0].endswith("and the target is 0.05") and len(goal.unmet(costs)) == 1
    assert rehearse(net(), X, recipe, NOTHING).latency is None


def test_a_stage_that_refuses_is_named():
    odd = net(keras.layers.UnitNormalization())
    with pytest.raises(UnsupportedError, match="Quantization-aware training, which an int8 file"):
        rehearse(odd, X, Recipe(formats=("float32", "int8")), NOTHING)
    assert rehearse(odd, X, Recipe(formats=("float32",)), NOTHING).bytes > 0


def test_a_limit_of_unknown_macs_is_refused_with_the_layer():
    """It was taken as met."""
    wide = keras.layers.EinsumDense("abcd,de->abce", output_shape=(6, 6, 4), name="mixed")
    assert cost.measure(net(wide)).macs is None
    recipe = Recipe(formats=("float32",))
    with pytest.raises(InputError, match=r"limits macs, but those of mixed \(EinsumDense\) are"):
        rehearse(net(wide), X, recipe, Goal({"macs": 1e9}, None, None))
    assert rehearse(net(wide), X, recipe, Goal({"bytes": 1e9}, None, None)).macs is None
    found = Goal({"macs": 2}, None, None).unmet(Costs(bytes=1, parameters=1, macs=None))
    assert found == ["macs: not known, and the target is 2"]


def test_the_way_out_of_a_refusal_is_one_that_a_recipe_has():
    odd = net(keras.layers.UnitNormalization())
    inputs = keras.Input((3,))
    table = keras.layers.Embedding(4, 2)(inputs[:, :1])
    both = keras.layers.Concatenate()([keras.layers.Flatten()(table), inputs[:, 1:]])
    mixed = keras.Model(inputs, keras.layers.Dense(2)(both))
    for model, x in ((odd, X), (mixed, np.zeros((4, 3), "float32"))):
        with pytest.raises(UnsupportedError, match="or leave 'int8' out of formats") as raised:
            rehearse(model, x, Recipe(), NOTHING)
        assert raised.value.code == "no-rule"
        for lacking in ("skip", "to_tflite", "Input("):
            assert lacking not in str(raised.value)


@pytest.mark.skipif(not evaluation.is_installed(), reason="tflite-micro is not installed")
def test_a_microcontroller_that_refuses_is_named():
    with pytest.raises(ConversionError, match="Microcontrollers refuses the file"):
        rehearse(net(), X, Recipe(formats=("float16",)), goal_of(Target(arena="60k"), None, None))


def test_parts_are_of_the_teacher():
    whole = cost.measure(net())
    goal = goal_of(Target(macs=0.5, parameters=0.25, bytes=0.1, latency=30), None, whole)
    assert goal.limits == {
        "macs": whole.macs / 2,
        "parameters": whole.parameters / 4,
        "bytes": whole.parameters * 0.4,
        "latency": 30,
    }
    with pytest.raises(
        InputError, match="target of macs is 0.5, a fraction of the teacher's, which"
    ):
        goal_of(Target(macs=0.5), None, None)
    with pytest.raises(InputError, match="'tricorder'.*give a target of bytes"):
        goal_of(Target(), "tricorder", None)


def test_a_phone_limits_nothing():
    with pytest.warns(UserWarning, match="class 13' sets no limit by itself.*Give a target"):
        goal = goal_of(Target(), "android-mpc-13", None)
    assert not goal.needs_arena and not goal.is_asked
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert goal_of(Target(drop=0.0), "android-mpc-13", None).is_asked
    assert Goal({}, None, BOARDS["pico"]).is_asked and not NOTHING.is_asked


def test_rounding_of_numbers_decides_nothing():
    """97 of 100 right, then 96: a drop of 0.01 was not met."""
    assert 0.97 - 0.96 > 0.01 and 0.7 / 100 < 7 / 1000
    assert Goal({}, 0.01, None).allows(0.97 - 0.96)
    assert Goal({}, 0.7 / 100, None).allows(7 / 1000)
    assert not Goal({}, 0.01, None).allows(0.0101) and NOTHING.allows(1.0)


def scored(hits, metric="accuracy", rows=None):
    hits = np.asarray(hits)
    value = float(hits.mean())
    return Score("y", metric, value, None, 0.0, None, None, len(hits), hits=hits, rows=rows)


def test_the_error_of_a_drop_is_that_of_paired_examples(rng):
    """Compared with what draws of examples give, and with nothing at all to go by."""
    teacher = rng.random(2000) < 0.9
    student = teacher ^ (rng.random(2000) < 0.04)
    errors = 0.1 + rng.random(2000), 0.1 + rng.random(2000)
    for metric, ours, theirs in (("accuracy", student, teacher), ("r2", *errors)):
        drawn = [rng.integers(0, 2000, 2000) for _ in range(400)]
        drops = [drop_of(scored(ours[one], metric), scored(theirs[one], metric)) for one in drawn]
        found = drop_error(scored(ours, metric), scored(theirs, metric))
        assert found == pytest.approx(np.std(drops), rel=0.15)
    # Steps of sequences: whole ones are drawn, since their steps are alike.
    right = np.repeat(rng.random((2, 300)) < [[0.9], [0.8]], 20, axis=1)
    steps = np.repeat(rng.random((2, 300)) + 0.1, 20, axis=1)
    rows = np.repeat(np.arange(300), 20)
    for metric, (ours, theirs) in (("accuracy", right), ("r2", steps)):
        drawn = [rng.integers(0, 300, 300) for _ in range(400)]
        picked = [(20 * some[:, None] + np.arange(20)).ravel() for some in drawn]
        drops = [drop_of(scored(ours[one], metric), scored(theirs[one], metric)) for one in picked]
        found = drop_error(scored(ours, metric, rows), scored(theirs, metric, rows))
        assert found == pytest.approx(np.std(drops), rel=0.15)
    alike = scored(np.ones(50, bool))
    assert drop_error(alike, alike) == pytest.approx(1 / 50)
    assert drop_error(scored([0.5] * 9, "r2"), scored([0.5] * 9, "r2")) == 0


def test_what_is_exceeded_is_said():
    goal = Goal({"bytes": 100, "macs": 10, "latency": 5.0}, None, None)
    costs = Costs(bytes=101, parameters=3, macs=10, arena=None)
    assert goal.unmet(costs) == ["bytes: 101, and the target is 100"]
    found = goal.unmet(dataclasses.replace(costs, bytes=1, latency=5.25))
    assert found == ["latency: 5.25, and the target is 5"]
    board = goal_of(Target(), "pico", None)
    found = board.unmet(Costs(bytes=10, parameters=3, macs=1, arena=300_000))
    assert len(found) == 1 and "ram: DOES NOT FIT" in found[0] and "Raspberry Pi Pico" in found[0]


def test_free_sizes_are_those_of_the_data():
    """An int8 file has none; the refusal named arguments that compress does not have."""
    layers = keras.layers
    last = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    student = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(4, 3), *last])
    assert rehearse(student, X, Recipe(), NOTHING).bytes > 0
    file = file_of(calibrate(quantize_aware(student), X), "int8", X, micro=False)
    assert file.inputs[0].shape == (1, 8, 8, 1)
