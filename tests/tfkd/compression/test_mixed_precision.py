"""`choose_bits`: the best sets of layers, and a file of the requested size."""

import itertools

import keras
import numpy as np
import pytest
import tf_keras

import tfkd
from tfkd import quantize_aware
from tfkd.compression.mixed_precision import best_sets, divergence
from tfkd.errors import InputError
from tfkd.export import to_tflite
from tfkd.output_kind.following import OutputKind
from tfkd.quantization import calibrate

X = np.random.default_rng(0).normal(size=(60, 20)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = [layers.Dense(48, activation="relu", name=f"hidden_{i}") for i in range(2)]
    head = layers.Dense(4, activation="softmax", name="head")
    return keras.Sequential([keras.Input((20,)), *stack, head])


@pytest.fixture(scope="module")
def plan(model):
    return tfkd.choose_bits(model, X, tfkd.Target(bytes=0.85))


@pytest.mark.parametrize("seed", range(5))
def test_no_set_of_layers_beats_one_that_was_found(seed):
    rng = np.random.default_rng(seed)
    saved, losses = rng.integers(1, 500, 9).tolist(), rng.random(9).tolist()
    found = best_sets(saved, losses)
    for size, loss, places in found:
        assert size == sum(saved[i] for i in places)
        assert loss == pytest.approx(sum(losses[i] for i in places))
    grain = sum(saved) / 2000
    for needed in rng.integers(1, sum(saved), 20):
        every = (
            sum(losses[i] for i in places)
            for count in range(10)
            for places in itertools.combinations(range(9), count)
            if sum(saved[i] for i in places) >= needed + grain
        )
        least = min(every, default=None)
        if least is not None:
            got = min(loss for size, loss, _ in found if size >= needed)
            assert got <= least + 1e-12


def test_the_file_is_as_small_as_asked_for_and_no_choice_loses_less(model, plan):
    assert plan.all_4 <= plan.file_bytes <= plan.target == int(0.85 * plan.all_8)
    qat = calibrate(quantize_aware(model, bits=plan.bits), X)
    assert to_tflite(qat, "int8").size == plan.file_bytes
    losses = {one.name: one.loss for one in plan.layers}
    saved = {one.name: one.saved for one in plan.layers}
    assert list(losses) == ["hidden_0", "hidden_1", "head"] and min(losses.values()) >= 0
    for chosen in itertools.product([4, 8], repeat=3):
        narrow = [name for name, bits in zip(losses, chosen, strict=True) if bits == 4]
        if sum(saved[name] for name in narrow) >= plan.all_8 - plan.file_bytes + 32:
            assert plan.loss <= sum(losses[name] for name in narrow) + 1e-12


def test_it_prints_and_draws_itself(plan, tmp_path):
    text = str(plan)
    assert all(one.name in text for one in plan.layers)
    assert f"{plan.file_bytes:,} bytes of {plan.target:,}" in text
    plan.plot(tmp_path / "bits.png")
    assert (tmp_path / "bits.png").stat().st_size > 5000
    sizes, losses = zip(*plan.front, strict=True)
    assert list(sizes) == sorted(sizes, reverse=True) and list(losses) == sorted(losses)


def test_auto_takes_the_plan(model, plan):
    qat = quantize_aware(model, bits="auto", target={"bytes": 0.85}, data=X)
    report = {la.name: la.detail for la in tfkd.quantization.describe(qat).layers}
    for one in plan.layers:
        assert report[one.name].startswith("4 bits") == (one.bits == 4)


def test_divergence_is_kullback_leibler_or_relative():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), 30), rng.dirichlet(np.ones(5), 30)
    from scipy.special import rel_entr

    want = rel_entr(p, q).sum(-1).mean()
    assert divergence(p, q, OutputKind("softmax", 1, 2)) == pytest.approx(want, rel=1e-4)
    both = rel_entr(p, q) + rel_entr(1 - p, 1 - q)
    assert divergence(p, q, OutputKind("sigmoid")) == pytest.approx(both.mean(), rel=1e-4)
    a = rng.normal(size=(30, 3))
    assert divergence(a, a + 0.1, OutputKind("linear")) == pytest.approx(0.01 / a.var())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": {"bytes": 0.1}, "data": X}, "target= is .* bytes, but .* with 4 bits"),
        ({"target": {"bytes": 0.9, "macs": 0.5}, "data": X}, "bytes alone"),
        ({"data": X}, "bits='auto'.* needs target="),
        ({"target": {"bytes": 0.9}}, "needs target=.*data="),
    ],
)
def test_wrong_arguments_are_refused(model, arguments, message):
    with pytest.raises(InputError, match=message):
        quantize_aware(model, bits="auto", **arguments)


def test_a_smaller_form_without_4_bits_is_taken_and_an_iterator_read_once():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((6, 4)), layers.LSTM(4, name="memory"), layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(40, 6, 4)).astype("float32")
    batches = (x[i : i + 4] for i in range(0, 40, 4))
    plan = tfkd.choose_bits(model, batches, {"bytes": 5000}, micro=True)
    # On a microcontroller the fused LSTM, which has no 4 bits, is smaller than the loop with them.
    assert set(plan.bits.values()) == {8} and plan.file_bytes < plan.all_4
    qat = calibrate(quantize_aware(model, bits=plan.bits), x)
    assert to_tflite(qat, "int8", x, micro=True).size == plan.file_bytes
    plan = tfkd.choose_bits(model, x, {"bytes": 0.99}, recurrent="loop")
    qat = calibrate(quantize_aware(model, bits=plan.bits), x)
    assert 4 in plan.bits.values() and plan.file_bytes <= 0.99 * plan.all_8
    assert to_tflite(qat, "int8", x, recurrent="loop").size == plan.file_bytes


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_two_inputs_and_data_by_name(structure, package, rng):
    layers = package.layers
    wide, deep = package.Input((20,), name="wide"), package.Input((12,), name="deep")
    both = [layers.Dense(32, name="from_wide")(wide), layers.Dense(32, name="from_deep")(deep)]
    inputs = [wide, deep] if structure == "list" else {"wide": wide, "deep": deep}
    model = package.Model(inputs, layers.Dense(4)(layers.Concatenate()(both)))
    sizes = {"wide": 20, "deep": 12}
    x = {name: rng.normal(size=(40, size)).astype("float32") for name, size in sizes.items()}
    plan = tfkd.choose_bits(model, x, {"bytes": 0.9})
    assert plan.all_4 <= plan.file_bytes <= plan.target and 4 in plan.bits.values()
    qat = calibrate(quantize_aware(model, bits=plan.bits), x)
    assert to_tflite(qat, "int8", x).size == plan.file_bytes


def test_target_without_auto_is_refused(model):
    with pytest.raises(InputError, match="target and data are only for .*bits='auto'"):
        quantize_aware(model, bits=4, target={"bytes": 0.9})


def test_a_model_without_such_layers_is_refused():
    layers = tf_keras.layers
    model = tf_keras.Sequential([tf_keras.Input((6, 3)), layers.GlobalAveragePooling1D()])
    with pytest.raises(InputError, match="No layer of .* can have weights of 4 bits"):
        tfkd.choose_bits(model, np.ones((40, 6, 3), "float32"), {"bytes": 0.9})
