"""The distillation step: its value against NumPy, in both Keras flavours."""

import keras
import numpy as np
import pytest
import tf_keras
from scipy.special import log_softmax, rel_entr, softmax
from tiny_models import crossentropy, dense, predicted

from tfkd import Distiller, cache_teacher, quantize_aware
from tfkd.errors import InputError


def first_step(distiller, x, y, **kwargs):
    """Return the losses of one step with all data in the batch, before any update."""
    history = distiller.fit(x, y, batch_size=len(x), epochs=1, verbose=0, **kwargs)
    return {name: values[0] for name, values in history.history.items()}


def expected(student, teacher, x, y, temperature, weights=None):
    s, t = predicted(student, x), predicted(teacher, x)
    hard = -log_softmax(s, -1)[np.arange(len(y)), y]
    soft = temperature**2 * rel_entr(softmax(t / temperature, -1), softmax(s / temperature, -1))
    weights = np.ones(len(y)) if weights is None else weights
    return (weights * hard).mean(), (weights * soft.sum(-1)).mean()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_loss_is_alpha_hard_plus_rest_soft(package, batch, alpha, temperature):
    student, teacher = dense(package), dense(keras)
    hard, soft = expected(student, teacher, *batch, temperature)
    distiller = Distiller(student, teacher, alpha, temperature, "kl")
    # The weights are variables of one step: in one traced step they are what they are in all.
    distiller.compile("sgd", crossentropy(package), run_eagerly=alpha != 0.3)
    logs = first_step(distiller, *batch)
    assert logs["hard_loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["soft_loss"] == pytest.approx(soft, rel=1e-5, abs=1e-6)
    assert logs["loss"] == pytest.approx(alpha * hard + (1 - alpha) * soft, rel=1e-5)


def test_the_update_follows_the_gradient_of_that_loss(package, batch):
    x, y = batch
    student, teacher = dense(package), dense(keras)
    kernel, bias = student.get_weights()
    s, t = x @ kernel + bias, predicted(teacher, x)
    # d hard / d logits = softmax − one-hot; d soft / d logits = T (softmax(s/T) − softmax(t/T)).
    hard = softmax(s, -1) - np.eye(3)[y]
    soft = 4.0 * (softmax(s / 4, -1) - softmax(t / 4, -1))
    want = kernel - 0.5 * x.T @ (0.1 * hard + 0.9 * soft) / len(x)
    distiller = Distiller(student, teacher, soft_loss="kl")
    distiller.compile(package.optimizers.SGD(0.5), crossentropy(package))
    first_step(distiller, x, y)
    np.testing.assert_allclose(student.get_weights()[0], want, rtol=1e-4, atol=1e-6)


def test_probabilities_are_recognised_and_give_the_same_loss(package, batch):
    student, teacher = dense(package), dense(keras)
    squashed = [dense(p, activation="softmax") for p in (package, keras)]
    for model, like in zip(squashed, (student, teacher), strict=True):
        model.set_weights(like.get_weights())
    logs = []
    for s, t, from_logits in ((student, teacher, True), (*squashed, False)):
        distiller = Distiller(s, t, soft_loss="kl")
        distiller.compile("sgd", crossentropy(package, from_logits), run_eagerly=from_logits)
        logs.append(first_step(distiller, *batch))
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)


def test_sample_weights_weigh_both_losses(package, batch, rng):
    weights = rng.uniform(0, 2, 32).astype("float32")
    student, teacher = dense(package), dense(keras)
    hard, soft = expected(student, teacher, *batch, 4.0, weights)
    distiller = Distiller(student, teacher, soft_loss="kl")
    distiller.compile("sgd", crossentropy(package), run_eagerly=True)
    logs = first_step(distiller, *batch, sample_weight=weights)
    assert logs["hard_loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["soft_loss"] == pytest.approx(soft, rel=1e-5)


def test_defaults_are_those_of_the_loss_and_the_stage(package):
    def numbers(student, **more):
        distiller = Distiller(student, dense(keras), **more)
        return round(float(distiller.alpha), 6), float(distiller.temperature)

    aware = quantize_aware(dense(package))
    assert numbers(dense(package)) == numbers(aware) == (0.5, 1.0)
    assert numbers(dense(package), soft_loss=["auto"]) == (0.5, 1.0)
    assert numbers(dense(package), soft_loss="kl") == (0.1, 4.0)
    assert numbers(dense(package), temperature=2.0) == (0.1, 2.0)
    assert numbers(aware, soft_loss="kl") == (0.5, 1.0)
    assert numbers(aware, alpha=0.25) == (0.25, 1.0)


def test_a_temperature_means_hintons_loss(package, batch):
    student, teacher = dense(package), dense(keras)
    _, soft = expected(student, teacher, *batch, 3.0)
    distiller = Distiller(student, teacher, temperature=3.0)
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package), run_eagerly=True)
    assert first_step(distiller, *batch)["soft_loss"] == pytest.approx(soft, rel=1e-5)
    config = distiller.get_config()
    assert (config["soft_loss"], config["temperature"]) == ("hinton", 3.0)
    adaptive = Distiller(student, teacher).get_config()
    assert (adaptive["soft_loss"], adaptive["temperature"]) == ("adaptive", 1.0)
    kept = Distiller(student, teacher, soft_loss="adaptive", temperature=2.0).get_config()
    assert (kept["soft_loss"], kept["alpha"]) == ("adaptive", 0.5)


def test_regularizers_are_added_in_full_whatever_alpha(package, batch):
    student = dense(package, kernel_regularizer=package.regularizers.L2(0.5))
    extra = 0.5 * np.square(student.get_weights()[0]).sum()
    distiller = Distiller(student, dense(keras), alpha=0.1)
    distiller.compile("sgd", crossentropy(package), run_eagerly=True)
    logs = first_step(distiller, *batch)
    total = 0.1 * logs["hard_loss"] + 0.9 * logs["soft_loss"] + extra
    assert logs["loss"] == pytest.approx(total, rel=1e-5)


def test_regression(package, rng):
    x, y = rng.normal(size=(2, 16, 4)).astype("float32")
    student, teacher = dense(package, units=4), dense(keras, units=4)
    s, t = predicted(student, x), predicted(teacher, x)
    distiller = Distiller(student, teacher, alpha=0.25, soft_loss="mse")
    distiller.compile("sgd", "mse", run_eagerly=True)
    logs = first_step(distiller, x, y)
    want = 0.25 * np.square(s - y).mean() + 0.75 * np.square(s - t).mean()
    assert logs["loss"] == pytest.approx(want, rel=1e-5)


def test_several_teachers_are_averaged_as_probabilities(batch, package):
    student, teachers = dense(package), [dense(keras), dense(tf_keras, activation="softmax")]
    p = softmax(predicted(teachers[0], batch[0]), -1) / 2
    p += predicted(teachers[1], batch[0]) / 2
    q = softmax(predicted(student, batch[0]), -1)
    distiller = Distiller(student, teachers, temperature=1.0, soft_loss="kl")
    distiller.compile("sgd", crossentropy(package), run_eagerly=True)
    logs = first_step(distiller, *batch)
    assert logs["soft_loss"] == pytest.approx(rel_entr(p, q).sum(-1).mean(), rel=1e-4)


def test_a_model_and_a_function_that_need_not_give_the_same_teach(batch, package):
    """What is said of logits is for the function, since the graph of the model shows it."""
    student, models = dense(package), [dense(keras), dense(keras, activation="softmax")]
    p = softmax(predicted(models[0], batch[0]), -1) / 2 + predicted(models[1], batch[0]) / 2
    want = rel_entr(p, softmax(predicted(student, batch[0]), -1)).sum(-1).mean()
    for own, hidden in ((0, 1), (1, 0)):
        teachers = [models[own], lambda x, model=models[hidden]: predicted(model, x)]
        settings = {"temperature": 1.0, "soft_loss": "kl", "teacher_from_logits": hidden == 0}
        distiller = Distiller(student, teachers, **settings)
        distiller.compile(package.optimizers.SGD(0.0), crossentropy(package), run_eagerly=True)
        logs = first_step(distiller, *batch, cache_teacher=True, cache_dtype="float32")
        assert logs["soft_loss"] == pytest.approx(want, rel=1e-4)
    with pytest.raises(InputError, match="Give task=.categorical"):
        cache_teacher(batch[0], [models[0], models[0]], from_logits=True)


def test_alpha_and_temperature_move_without_a_retrace(package, batch):
    distiller = Distiller(dense(package), dense(keras), alpha=0.5, soft_loss="kl")
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package))
    first_step(distiller, *batch)
    function = distiller.train_function
    distiller.alpha = 1.0
    logs = first_step(distiller, *batch)
    assert distiller.train_function is function
    assert logs["loss"] == pytest.approx(logs["hard_loss"], rel=1e-6)
    distiller.alpha, distiller.temperature = 0.0, 1.0
    cold = first_step(distiller, *batch)["soft_loss"]
    distiller.temperature = 8.0
    assert first_step(distiller, *batch)["soft_loss"] != pytest.approx(cold, rel=1e-3)


def test_another_teacher_is_asked_from_the_next_fit_on(package, batch):
    student, teachers = dense(package), [dense(keras), dense(keras)]
    distiller = Distiller(student, teachers[0], soft_loss="kl")
    distiller.compile(package.optimizers.SGD(0.0), crossentropy(package))
    for teacher in teachers:
        distiller.teacher = teacher
        soft = expected(student, teacher, *batch, 4.0)[1]
        assert first_step(distiller, *batch)["soft_loss"] == pytest.approx(soft, rel=1e-4)


def test_evaluate_and_predict_are_the_students(package, batch):
    student = dense(package)
    student.compile(loss=crossentropy(package), metrics=["accuracy"], run_eagerly=True)
    distiller = Distiller(student, dense(keras))
    distiller.compile("sgd", crossentropy(package), metrics=["accuracy"])
    want, got = student.evaluate(*batch, verbose=0), distiller.evaluate(*batch, verbose=0)
    assert [float(value) for value in got] == pytest.approx(want, rel=1e-6)
    assert sorted(distiller.evaluate(*batch, verbose=0, return_dict=True)) == ["accuracy", "loss"]
    np.testing.assert_allclose(
        distiller.predict(batch[0], verbose=0), student.predict(batch[0], verbose=0)
    )


def test_history_has_the_three_losses_and_the_metrics(package, batch):
    distiller = Distiller(dense(package), dense(keras))
    distiller.compile("adam", crossentropy(package), metrics=["accuracy"], run_eagerly=True)
    history = distiller.fit(*batch, epochs=2, validation_data=batch, verbose=0).history
    assert set(history) == {
        "loss",
        "hard_loss",
        "soft_loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
    }


def test_a_tfmot_wrapped_student_trains_under_a_keras_3_teacher(batch):
    student = quantize_aware(dense(keras))
    distiller = Distiller(student, dense(keras), alpha=0.0, soft_loss="kl")
    assert isinstance(distiller, tf_keras.Model)
    distiller.compile(tf_keras.optimizers.Adam(0.05), crossentropy(tf_keras))
    soft = distiller.fit(*batch, epochs=30, verbose=0).history["soft_loss"]
    assert soft[-1] < 0.5 * soft[0]


def test_distillation_pulls_the_student_to_the_teacher(digits, teacher, student):
    x = digits.test.x
    t, s = predicted(teacher, x).argmax(-1), predicted(student, x).argmax(-1)
    assert np.mean(t == digits.test.y) > 0.95
    assert np.mean(t == s) > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"from_logits": "no"}, "from_logits must be True, False or None, got 'no'"),
        ({"teacher_from_logits": 1}, "teacher_from_logits must be True, False or None, got 1"),
        ({"alpha": float("nan")}, r"alpha must be in \[0, 1\]"),
        ({"alpha": "much"}, r"alpha must be in \[0, 1\], got 'much'"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"temperature": float("inf")}, "temperature must be a number > 0, got inf"),
    ],
)
def test_numbers_out_of_range(package, arguments, message):
    with pytest.raises(InputError, match=message):
        Distiller(dense(package), dense(keras), **arguments)


def test_models_that_do_not_fit(package):
    with pytest.raises(InputError, match=r"outputs of shape \(None, 5\).*must be equal"):
        Distiller(dense(package), dense(keras, units=5))
    with pytest.raises(
        InputError, match="The student must be a Keras 3 or tf_keras model, got str"
    ):
        Distiller("student.keras", dense(keras))
    with pytest.raises(InputError, match="A teacher must be"):
        Distiller(dense(package), 3)
    with pytest.raises(InputError, match="list of teachers is empty"):
        Distiller(dense(package), [])


def test_logits_and_probabilities_are_never_guessed(package, batch):
    distiller = Distiller(dense(package), dense(keras))
    with pytest.raises(InputError, match="from_logits=False, but the student .* gives logits"):
        distiller.compile("adam", "sparse_categorical_crossentropy")
    unknown = dense(keras, activation="tanh")
    distiller = Distiller(dense(package), unknown)
    with pytest.raises(InputError, match="teacher_from_logits=True for logits"):
        distiller.compile("adam", crossentropy(package))
    Distiller(dense(package), unknown, teacher_from_logits=True).compile(
        "adam", crossentropy(package)
    )
    distiller = Distiller(dense(package), dense(keras), teacher_from_logits=False)
    with pytest.raises(InputError, match="contradicts the teacher"):
        distiller.compile("adam", crossentropy(package))
    distiller = Distiller(dense(package), dense(keras))
    with pytest.raises(InputError, match="does not show the task"):
        distiller.compile("adam", lambda y, p: 0.0)
