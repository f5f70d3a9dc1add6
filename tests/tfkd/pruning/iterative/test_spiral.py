"""The spiral keeps rounds or steps back, resumes after a kill, and measures."""

import contextlib
import dataclasses
import json
import types
import warnings

import keras
import numpy as np
import pytest
import tf_keras

import tfkd
import tfkd.export
from tfkd import sealed
from tfkd.compression import trainer
from tfkd.errors import InputError, UnsupportedError
from tfkd.model import cost
from tfkd.translation.copies import copy_of

QUICK = {"epochs": 1, "format": None, "learning_rate": 3e-3}


def network(package, width=16):
    layers = package.layers
    inputs = x = package.Input((8, 8, 1))
    for i in range(2):
        x = layers.Conv2D(width, 3, strides=2, padding="same", name=f"conv{i}")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return package.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def shallow(package):
    layers = package.layers
    hidden = layers.Dense(32, activation="relu")
    return package.Sequential(
        [package.Input((8, 8, 1)), layers.Flatten(), hidden, layers.Dense(10)]
    )


def train(package, digits, epochs=8):
    package.utils.set_random_seed(0)
    model = network(package)
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(package.optimizers.Adam(5e-3), loss)
    model.fit(digits.train.x, digits.train.y, epochs=epochs, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def trained(digits):
    return train(keras, digits)


@pytest.fixture(scope="module")
def small(digits):
    """A net that is traced quickly, where it does not matter what is pruned of it."""
    keras.utils.set_random_seed(0)
    return shallow(keras)


@pytest.fixture(scope="module")
def small_digits(digits):
    """Fewer examples, where it does not matter how well anything is learned."""
    few = tfkd.Samples(digits.train.x[:200], digits.train.y[:200])
    return dataclasses.replace(digits, train=few)


@pytest.mark.slow
def test_rounds_lead_to_the_target(package, digits, trained, tmp_path):
    model = trained if package is keras else train(package, digits)
    before = [weight.numpy() for weight in model.weights]
    found = tfkd.spiral(
        model, digits, target={"macs": 0.4}, step=0.4, round_to=2, folder=tmp_path, **QUICK
    )
    assert found.reached and found.stopped == "the target is met"
    macs = [found.original.macs, *(one.measured.macs for one in found.rounds)]
    assert len(found.rounds) == 2 and macs == sorted(macs, reverse=True)
    assert 0.3 * macs[0] < found.final.macs <= 0.4 * macs[0]
    assert isinstance(found.model, package.Model)
    assert cost.measure(found.model).macs == found.final.macs
    assert found.final.test > 0.9 and found.rounds[0].measured.test is None
    assert found.rounds[0].before <= found.rounds[0].measured.validation + 0.02
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    table = str(found)
    assert "round 2" in table and f"{found.final.macs:,}" in table and "bytes" not in table
    written = json.loads((tmp_path / "spiral.json").read_text())["result"]
    assert written == json.loads(json.dumps(found.to_json()))
    assert "<svg" in (tmp_path / "spiral.svg").read_text()
    assert tfkd.pruning.Spiral is type(found)


@pytest.fixture
def nothing_is_learned(monkeypatch):
    monkeypatch.setattr(trainer.Trainer, "fit", lambda *args, **kwargs: None)


@pytest.mark.usefixtures("nothing_is_learned")
def test_a_round_below_the_floor_is_stepped_back_from(digits, trained):
    # Only what is not needed can go.
    found = tfkd.spiral(trained, digits, max_drop=0.02, step=0.5, round_to=1, **QUICK)
    kept = [one for one in found.rounds if one.kept]
    back = [one for one in found.rounds if not one.kept]
    assert back and "allows no further step" in found.stopped
    assert found.final.validation >= found.floor == found.original.validation - 0.02
    assert all(one.measured.validation < found.floor for one in back)
    assert all(one.measured.validation >= found.floor for one in kept)
    steps = [one.step for one in found.rounds]
    for one, following, step in zip(found.rounds, steps[1:], steps, strict=False):
        assert following == (step if one.kept else step / 2)
    expected = kept[-1].measured.macs if kept else found.original.macs
    assert found.final.macs == expected
    assert " back " in str(found)


class Killed(BaseException):
    pass


@pytest.mark.usefixtures("nothing_is_learned")
def test_rounds_that_would_prune_the_same_channels_are_not_repeated(trained, small_digits):
    # By eights there are few ways to prune two layers of 16 channels.
    found = tfkd.spiral(trained, small_digits, max_drop=0.0, step=0.5, round_to=8, **QUICK)
    sizes = [one.measured.parameters for one in found.rounds]
    assert sizes and len(set(sizes)) == len(sizes) < 4
    assert not any(one.kept for one in found.rounds)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_round(small, small_digits, tmp_path):
    arguments = {"target": {"parameters": 0.4}, "step": 0.5, "round_to": 2, **QUICK}
    arguments |= {"final_epochs": 1, "alternatives": ("one_shot",)}
    whole = tfkd.spiral(small, small_digits, **arguments)
    assert len(whole.rounds) == 2

    def run(until=None):
        stages = []

        def progress(stage, done, total):
            if stage == until:
                raise Killed
            stages.append(stage)

        made = None
        with contextlib.suppress(Killed):
            made = tfkd.spiral(
                small, small_digits, folder=tmp_path / "here", progress=progress, **arguments
            )
        return made, list(dict.fromkeys(stages))

    assert run("round 2") == (None, ["round 1", "round 1 without teacher"])
    assert run("final") == (None, ["round 2"])
    assert run("one shot") == (None, ["final"])
    made, stages = run()
    assert stages == ["one shot"]
    for mine, other in ((made.model, whole.model), *zip(
        made.models.values(), whole.models.values(), strict=True
    )):  # fmt: skip
        for a, b in zip(mine.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    without = [dataclasses.replace(one, seconds=0) for one in made.rounds]
    assert without == [dataclasses.replace(one, seconds=0) for one in whole.rounds]
    assert run()[1] == []  # everything is there
    with pytest.raises(InputError, match="teacher was None and is .* name another folder"):
        tfkd.spiral(
            small, small_digits, folder=tmp_path / "here", teacher=network(keras), **arguments
        )
    arguments["final_epochs"] = 2  # what depends on it is made again, the rounds are not
    assert run()[1] == ["final", "one shot"]


def test_a_kill_before_the_first_round_is_told_of(small, small_digits, tmp_path, monkeypatch):
    from tfkd.pruning.iterative import checkpoint

    arguments = {"target": {"macs": 0.8}, "rounds": 1, "folder": tmp_path, **QUICK}
    arguments |= {"distiller": {"soft_loss": tfkd.losses.DKD()}, "criterion": "l2"}

    def killed(self, rounds, student):
        self._write("round_01", student)
        raise Killed

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(checkpoint.State, "save", killed)
        tfkd.spiral(small, small_digits, **arguments)
    assert (tmp_path / "round_01.keras").exists()
    arguments["distiller"] = {"soft_loss": tfkd.losses.DKD()}  # another object, the same settings
    assert tfkd.spiral(small, small_digits, **arguments).reached
    (tmp_path / "round_01.keras").write_bytes(b"no model")
    with pytest.raises(InputError, match="The spiral can't go on without it: name another"):
        tfkd.spiral(small, small_digits, **arguments)
    text = (tmp_path / "spiral.json").read_text()
    held = json.loads(text)
    del held["blake2b"]
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    other.save(tmp_path / "round_01.keras")  # a model, and not the one
    old = {name: held[name] for name in ("settings", "rounds", "result")}
    for content, message in (
        (held | {"rounds": [held["rounds"][0] | {"more": 1}]}, "holds a dict in place of Round"),
        (held | {"rounds": [held["rounds"][0] | {"number": "1"}]}, "a str in place of int"),
        (held | {"files": None}, "in place of dict"),
        (held | {"format": "tfkd.spiral.state/9"}, "has the format 'tfkd.spiral.state/9', and"),
        (old, "has the format None, and this version of tfkd reads 'tfkd.spiral.state/2'; name"),
        (held, "round_01.keras' is not the one that was written. The spiral can't go on"),
    ):
        sealed.write(tmp_path / "spiral.json", content)
        with pytest.raises(InputError, match=message):
            tfkd.spiral(small, small_digits, **arguments)
    (tmp_path / "spiral.json").write_text(text.replace('"step": 0.2', '"step": 0.1', 1))
    with pytest.raises(InputError, match="spiral.json' is damaged, or was changed after it was"):
        tfkd.spiral(small, small_digits, **arguments)


def test_another_function_or_constant_is_another_run(small_digits, tmp_path):
    from tfkd.pruning.iterative.checkpoint import State, of

    def run(offset, epsilon=1e-3, trainable=True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(keras.layers.BatchNormalization(epsilon=epsilon)(inputs))
        model = keras.Model(inputs, keras.layers.Dense(10, trainable=trainable)(x))
        settings = {"augment": lambda x: x + offset, "seed": 0, "of": of(model, small_digits)}
        State(tmp_path, settings).begin()

    run(1)
    run(1)  # the same, made again
    with pytest.raises(InputError, match="augment was .* name another folder"):
        run(2)
    with pytest.raises(InputError, match="of was .* name another folder"):
        run(1, epsilon=1e-5)
    with pytest.raises(InputError, match="of was .* name another folder"):
        run(1, trainable=False)


def test_final_epochs_that_do_harm_are_left_out(small, small_digits, monkeypatch):
    from tfkd.pruning.iterative import spiral

    def spoilt(lessons, student, epochs):
        spoilt = copy_of(student)
        spoilt.set_weights([np.zeros_like(weight) for weight in spoilt.get_weights()])
        return spoilt

    monkeypatch.setattr(spiral, "_trained_on", spoilt)
    found = tfkd.spiral(
        small, small_digits, target={"macs": 0.8}, rounds=1, final_epochs=1, **QUICK
    )
    assert found.reached and "made it worse and were left out" in found.stopped
    assert found.final.validation == found.rounds[-1].measured.validation


def test_a_target_that_is_met_already(small, small_digits):
    found = tfkd.spiral(
        small, small_digits, target={"parameters": 10**6}, final_epochs=1,
        alternatives="one_shot", **QUICK,
    )  # fmt: skip
    assert found.reached and found.model is small and found.rounds == ()
    assert "there are no alternatives" in found.stopped and found.alternatives == {}


def test_answers_in_place_of_a_teacher(small, small_digits):
    answers = small.predict(small_digits.train.x, verbose=0)
    arguments = {"target": {"macs": 0.8}, "rounds": 1, **QUICK}
    arguments["distiller"] = {"teacher_from_logits": True}
    found = tfkd.spiral(small, small_digits, teacher=[answers], **arguments)
    assert found.reached
    with pytest.raises(InputError, match="no answers for augmented examples"):
        tfkd.spiral(small, small_digits, teacher=answers, augment=lambda x: x, **arguments)
    with pytest.raises(InputError, match="Distiller does not accept this"):
        tfkd.spiral(small, small_digits, teacher=answers, teach="both", **arguments)


def test_a_folder_of_something_else_is_left_alone(small, small_digits, digits, tmp_path):
    arguments = {"target": {"macs": 0.8}, "rounds": 1, "folder": tmp_path / "a", **QUICK}
    tfkd.spiral(small, small_digits, **arguments)
    with pytest.raises(InputError, match=r"step was 0.2 and is 0.3.* name another folder"):
        tfkd.spiral(small, small_digits, **{**arguments, "step": 0.3})
    with pytest.raises(InputError, match="of was .* and is"):
        tfkd.spiral(small, digits, **arguments)
    other_test = dataclasses.replace(small_digits, test=small_digits.validation)
    with pytest.raises(InputError, match="of was .* and is"):
        tfkd.spiral(small, other_test, **arguments)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no spiral"):
        tfkd.spiral(small, small_digits, **{**arguments, "folder": tmp_path / "b"})
    assert [one.name for one in (tmp_path / "b").iterdir()] == ["mine.txt"]
    (tmp_path / "a" / "spiral.json").write_text("{")
    with pytest.raises(InputError, match=r"is damaged: it is not JSON .*name another folder, or"):
        tfkd.spiral(small, small_digits, **arguments)


def test_the_teacher_is_asked_once_an_example_for_all_rounds(small, small_digits):
    asked = []

    def teacher(x):
        asked.append(len(x))
        return small(x, training=False).numpy()

    found = tfkd.spiral(
        small, small_digits, target={"macs": 0.5}, step=0.25, round_to=1, teacher=teacher,
        distiller={"teacher_from_logits": True}, **{**QUICK, "epochs": 2},
    )  # fmt: skip
    assert len(found.rounds) >= 3
    looks = len(found.rounds) * 64  # each fit looks at the first examples, to check the answers
    assert 200 <= sum(asked) <= 200 + looks


@pytest.mark.parametrize("helps", [True, False])
def test_a_teacher_that_does_not_help_is_left_out(trained, digits, helps):
    crossed = np.roll(np.arange(10), 0 if helps else 1)

    def teacher(x):
        return 5 * trained(x, training=False).numpy()[:, crossed]

    with warnings.catch_warnings():
        if helps:
            warnings.simplefilter("error", UserWarning)
        found = tfkd.spiral(
            trained, digits, target={"macs": 0.6}, step=0.25, round_to=2, teacher=teacher,
            # A loss that follows its teacher whatever it says, as the default doesn't.
            distiller={"teacher_from_logits": True, "soft_loss": "kl", "alpha": 0.5}, **QUICK,
        )  # fmt: skip
    first = found.rounds[0]
    assert [one.taught for one in found.rounds] == [first.taught] * len(found.rounds)
    assert first.measured.validation >= first.other
    assert [one.other is None for one in found.rounds] == [False, *[True] * (len(found.rounds) - 1)]
    if not helps:
        assert not first.taught and first.measured.validation > first.other
        assert "all rounds were trained without it" in str(found)


@pytest.mark.parametrize("teach", ["last", "both"])
def test_other_teachers(small, small_digits, teach):
    found = tfkd.spiral(
        small, small_digits, target={"macs": 0.6}, step=0.25, round_to=2, teach=teach,
        criterion="taylor", **QUICK,
    )  # fmt: skip
    assert found.reached and len(found.rounds) >= 2


def test_what_is_augmented_is_seen_by_teacher_and_student(small, small_digits):
    import tensorflow as tf

    def flipped(x):
        return tf.reverse(x, [2])

    seen = []

    def teacher(x):
        seen.append(np.array(x))
        return small(x, training=False).numpy()

    tfkd.spiral(
        small, small_digits, target={"macs": 0.8}, rounds=1, augment=flipped, teacher=teacher,
        distiller={"teacher_from_logits": True}, **QUICK,
    )  # fmt: skip
    known = {x.tobytes() for x in small_digits.train.x[:, :, ::-1]}
    assert sum(x.tobytes() in known for batch in seen for x in batch) >= 200


@pytest.mark.slow
def test_regression_with_a_recurrent_model():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6, 3)).astype("float32")
    data = tfkd.split(x, x.sum((1, 2))[:, None] / 4, stratify=False)
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [tf_keras.Input((6, 3)), layers.GRU(16, unroll=True), layers.Dense(1)]
    )
    model.compile(tf_keras.optimizers.Adam(1e-2), "mse")
    model.fit(data.train.x, data.train.y, epochs=20, verbose=0)
    found = tfkd.spiral(
        model, data, target={"parameters": 0.5}, max_drop=2.0, round_to=4,
        distiller={"alpha": 0.5}, **{**QUICK, "epochs": 8, "learning_rate": 1e-2},
    )  # fmt: skip
    assert found.metric == "rmse" and found.floor == 3 * found.original.validation
    assert found.reached and found.model.layers[1].units in (4, 8)


@pytest.mark.slow
def test_bytes_and_latency_of_files(trained, small_digits, monkeypatch):
    runs = []

    class Found(dict):
        """What a benchmark finds, of a machine on which time goes by size."""

        def __init__(self, part):
            super().__init__(original=10.0, now=10.0 * part)
            self.ratios = [types.SimpleNamespace(ratio=part)]

        def __getitem__(self, name):
            return types.SimpleNamespace(median=super().__getitem__(name))

    def clock(files, x, baseline=None):
        runs.append(dict(files))
        return Found(files["now"].size / files["original"].size if "now" in files else 1.0)

    monkeypatch.setattr(tfkd.export, "benchmark", clock, raising=False)
    found = tfkd.spiral(
        trained, small_digits, target={"bytes": 0.75, "latency": 0.7}, step=0.4, round_to=2,
        **{**QUICK, "format": "int8"},
    )  # fmt: skip
    assert found.reached and found.final.bytes <= 0.75 * found.original.bytes
    assert found.final.latency == found.final.bytes / found.original.bytes <= 0.7
    assert found.original.latency == 1 and found.final.latency_us == 10 * found.final.latency
    assert len(runs) >= len(found.rounds) + 2
    assert "latency" in str(found)

    converted, to_tflite = [], tfkd.export.to_tflite
    monkeypatch.setattr(
        tfkd.export, "to_tflite", lambda *given: converted.append(given[0]) or to_tflite(*given)
    )
    found = tfkd.spiral(
        trained, small_digits, target={"latency": 0.7}, step=0.4, round_to=2,
        **{**QUICK, "format": "float32"},
    )  # fmt: skip
    assert len(converted) == 1 + len(found.rounds)  # each model once, the final one too


@pytest.mark.slow
def test_alternatives_have_the_same_budget(small, small_digits):
    done = []
    found = tfkd.spiral(
        small, small_digits, target={"macs": 0.5}, step=0.5, round_to=2, final_epochs=2,
        alternatives=True, progress=lambda *given: done.append(given), **QUICK,
    )  # fmt: skip
    names = ("one_shot", "scratch", "scratch_taught", "original_trained_on")
    assert tuple(found.alternatives) == names and set(found.models) == set(names)
    assert found.epochs == len(found.rounds) + 2
    for name in names:
        assert (name.replace("_", " "), found.epochs, found.epochs) in done
    assert found.alternatives["scratch"].macs == found.final.macs
    assert found.alternatives["one_shot"].macs <= found.final.macs
    assert found.alternatives["original_trained_on"].macs == found.original.macs
    for weight, other in zip(
        found.models["scratch"].get_weights(), found.model.get_weights(), strict=True
    ):
        assert not np.allclose(weight, other)
    assert "original trained on" in str(found)


def test_the_optimizer_is_the_one_named(package, small_digits, monkeypatch):
    model, seen = shallow(package), []
    compiled = trainer.Trainer.compile

    def spied(self, given, student, *rest):
        compiled(self, given, student, *rest)
        seen.append(given.optimizer)

    monkeypatch.setattr(trainer.Trainer, "compile", spied)
    tfkd.spiral(
        model, small_digits, target={"macs": 0.8}, step=0.5, round_to=2, optimizer="sgd",
        alternatives="scratch", **{**QUICK, "learning_rate": 0.05},
    )  # fmt: skip
    assert len(seen) == 4  # the probe, one round with the teacher and without, from scratch
    assert all(isinstance(one, package.optimizers.SGD) and one.momentum == 0.9 for one in seen)


def tiny(units):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(16, activation="relu")
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(units)])


def test_all_parts_are_scored_by_the_task_of_the_training_part(rng):
    """Counts of 0 and 1 in the validation part were two classes there."""

    def part(count, most):
        x = rng.normal(size=(count, 4)).astype("float32")
        y = np.arange(count) % (most + 1)
        return x, y

    data = {"train": part(60, 3), "validation": part(30, 1), "test": part(30, 3)}
    found = tfkd.spiral(tiny(1), data, target={"macs": 0.5}, **QUICK)
    assert found.metric == "rmse"
    for name, score in (("validation", found.final.validation), ("test", found.final.test)):
        x, y = data[name]
        error = found.model.predict(x, verbose=0)[:, 0] - y
        assert score == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)


@pytest.mark.parametrize("criterion", ["l1", "taylor"])
def test_a_task_that_labels_and_output_do_not_show_is_given(rng, criterion):
    x, y = rng.normal(size=(60, 4)).astype("float32"), rng.dirichlet(np.ones(3), 60)
    how = {"target": {"macs": 0.5}, "criterion": criterion, **QUICK}
    with pytest.raises(InputError, match="give task='categorical' for soft labels"):
        tfkd.spiral(tiny(3), (x, y), **how)
    assert tfkd.spiral(tiny(3), (x, y), task="classification", **how).metric == "accuracy"
    assert tfkd.spiral(tiny(3), (x, y), task="regression", **how).metric == "rmse"


def test_bad_input(trained, digits, small_digits):
    with pytest.raises(InputError, match="give target, max_drop or both"):
        tfkd.spiral(trained, digits)
    with pytest.raises(InputError, match=r"optimizer must be one of \('adam', 'sgd'\), got 'ftrl'"):
        tfkd.spiral(trained, digits, max_drop=0.1, optimizer="ftrl")
    with pytest.raises(InputError, match="step must lie.*rounds must.*teach must.*alternatives"):
        tfkd.spiral(
            trained, digits, max_drop=0.1, step=1.5, rounds=0, teach="me", alternatives=["none"]
        )
    with pytest.raises(InputError, match="target must be a tfkd.Target or a dict, got 0.5"):
        tfkd.spiral(trained, digits, target=0.5)
    with pytest.raises(InputError, match="learning_rate must.*max_drop must.*never uses"):
        tfkd.spiral(trained, digits, max_drop="1%", learning_rate=-1, teach="last", teacher=trained)
    with pytest.raises(InputError, match="Distiller does not accept this.*temprature"):
        tfkd.spiral(trained, digits, max_drop=0, distiller={"temprature": 3}, format=None)
    with pytest.raises(
        InputError, match="target must have keys of .*'flops'.*'macs'. must be a number"
    ):
        tfkd.spiral(trained, digits, target={"flops": 0.5, "macs": -1})
    with pytest.raises(InputError, match="bytes or latency needs a format"):
        tfkd.spiral(trained, digits, target={"bytes": 0.5}, format=None)
    with pytest.raises(InputError, match="format must be one of"):
        tfkd.spiral(trained, digits, target={"bytes": 0.5}, format="int7")
    with pytest.raises(InputError, match=r"macs can't be reached.*stay is [\d,]+ of"):
        tfkd.spiral(trained, small_digits, target={"macs": 10}, format=None)
    with pytest.raises(InputError, match="without labels is not valid data. Give a tfkd.Data"):
        tfkd.spiral(trained, digits.train.x, target={"macs": 0.5})
    with pytest.raises(InputError, match="criterion must be a function or one of"):
        tfkd.spiral(trained, digits, target={"macs": 0.5}, criterion="l3")
    with pytest.raises(InputError, match="prune its float student first"):
        tfkd.spiral(tfkd.quantize_aware(trained), digits, target={"macs": 0.5})

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedError, match="subclassed"):
        tfkd.spiral(Own(), digits, target={"macs": 0.5})


@pytest.mark.usefixtures("nothing_is_learned")
@pytest.mark.parametrize("skip", ["body/kept", "kept"])
def test_what_is_skipped_in_a_nested_model_is_so_in_each_round(skip, rng):
    """After the first round it is no longer in a nested model, and has another name."""
    layers = keras.layers
    hidden = [layers.Dense(32, activation="relu", name=name) for name in ("kept", "free")]
    body = keras.Sequential([keras.Input((8,)), *hidden], name="body")
    inputs = keras.Input((8,))
    last = layers.Dense(32, activation="relu", name="kept")(body(inputs))
    model = keras.Model(inputs, layers.Dense(2)(last))
    data = tfkd.split(rng.normal(size=(60, 8)).astype("float32"), np.arange(60) % 2)
    found = tfkd.spiral(model, data, target={"macs": 0.6}, skip=skip, **QUICK)
    assert found.reached and len(found.rounds) > 1
    assert found.model.get_layer("body_kept").units == 32
    assert (found.model.get_layer("kept").units == 32) is (skip == "kept")


def test_a_name_that_no_layer_has_is_known_at_once(small, small_digits, tmp_path):
    """Without a target of costs, no round was made, and that was all."""
    with pytest.raises(InputError, match="skip= 'nothing' matches no layer"):
        tfkd.spiral(small, small_digits, max_drop=0.1, skip="nothing", folder=tmp_path, **QUICK)
    assert not list(tmp_path.iterdir())
