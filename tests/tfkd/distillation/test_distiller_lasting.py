"""A distiller survives saving, loading and being killed; the teacher is left as it was."""

import os
import signal
import textwrap

import forked
import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import FAILS_IN_KERAS, crossentropy, predicted

from tfkd import Distiller, StudentCheckpoint


def net(package, width=8):
    la = package.layers
    return package.Sequential(
        [
            package.Input((4,)),
            la.Dense(width, activation="relu"),
            la.BatchNormalization(),
            la.Dense(3),
        ]
    )


@pytest.fixture
def data(rng):
    return rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)


def fitted(student, teacher, data, package, eagerly=False, **kwargs):
    distiller = Distiller(student, teacher, **kwargs)
    loss = crossentropy(package)
    distiller.compile("adam", loss, metrics=["accuracy"], run_eagerly=eagerly)
    distiller.fit(*data, epochs=2, shuffle=False, verbose=0)
    return distiller


def assert_same_history(a, b):
    assert sorted(a) == sorted(b)
    for name in a:
        assert a[name] == pytest.approx(b[name], rel=1e-5)


@pytest.mark.parametrize("soft_loss", ["auto", "dkd"])
def test_save_load_and_go_on_to_the_same_numbers(soft_loss, package, data, tmp_path):
    teacher = net(keras, 16)
    distiller = fitted(net(package), teacher, data, package, alpha=0.3, soft_loss=soft_loss)
    distiller.temperature = 2.5
    distiller.save(tmp_path / "d.keras")
    again = package.models.load_model(tmp_path / "d.keras")
    assert float(again.alpha) == pytest.approx(0.3)
    assert float(again.temperature) == 2.5
    assert again.teacher is None
    np.testing.assert_allclose(
        again.predict(data[0], verbose=0), distiller.predict(data[0], verbose=0), rtol=1e-5
    )
    again.teacher = teacher
    histories = [
        d.fit(*data, epochs=3, shuffle=False, verbose=0).history for d in (distiller, again)
    ]
    assert_same_history(*histories)


def test_a_teacher_given_as_a_path_is_set_again(data, tmp_path):
    """A file names nothing that is read in its turn."""
    net(keras, 16).save(tmp_path / "teacher.keras")
    distiller = fitted(net(keras), tmp_path / "teacher.keras", data, keras)
    distiller.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    assert again.teacher is None
    again.teacher = tmp_path / "teacher.keras"
    assert_same_history(
        *(d.fit(*data, epochs=2, shuffle=False, verbose=0).history for d in (distiller, again))
    )


def test_files_hold_the_student_and_not_the_teacher(data, tmp_path, package):
    small = fitted(net(package), net(keras, 8), data, package, eagerly=True)
    large = fitted(net(package), net(keras, 2000), data, package, eagerly=True)
    sizes = []
    for name, distiller in (("small", small), ("large", large)):
        distiller.save_weights(tmp_path / f"{name}.weights.h5")
        sizes.append((tmp_path / f"{name}.weights.h5").stat().st_size)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    assert large.count_params() < net(package).count_params() + 20


def test_checkpoints_of_the_student_alone(data, tmp_path, package):
    package.utils.set_random_seed(0)  # the last epoch is the best
    distiller = Distiller(net(package), net(keras, 16))
    distiller.compile("adam", crossentropy(package))
    path = tmp_path / "best.keras"
    checkpoint = StudentCheckpoint(path, monitor="val_loss", save_best_only=True)
    distiller.fit(*data, validation_data=data, epochs=3, verbose=0, callbacks=[checkpoint])
    student = package.models.load_model(path, compile=False)
    assert [type(layer).__name__ for layer in student.layers] == [
        type(layer).__name__ for layer in distiller.student.layers
    ]
    np.testing.assert_allclose(
        predicted(student, data[0]), distiller.predict(data[0], verbose=0), rtol=1e-4,
        atol=1e-5,
    )  # fmt: skip


def test_the_teacher_is_left_exactly_as_it_was(data, package):
    teacher = net(keras, 16)
    teacher.compile("adam", crossentropy(keras), metrics=["accuracy"])
    teacher.fit(*data, verbose=0)
    teacher.layers[0].trainable = False
    before = teacher.get_weights(), [layer.trainable for layer in teacher.layers]
    optimizer, step = teacher.optimizer, int(teacher.optimizer.iterations.numpy())
    evaluated = teacher.evaluate(*data, verbose=0)
    distiller = fitted(net(package), teacher, data, package)
    assert teacher.trainable
    assert [layer.trainable for layer in teacher.layers] == before[1]
    for a, b in zip(before[0], teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert teacher.optimizer is optimizer
    assert int(optimizer.iterations.numpy()) == step
    assert teacher.evaluate(*data, verbose=0) == pytest.approx(evaluated)
    ours = {id(v) for v in distiller.variables}
    assert not ours & {id(v) for v in teacher.variables}


SCRIPT = textwrap.dedent("""
    import os, sys, keras, tf_keras, numpy as np
    from tfkd import Distiller
    package = {"keras": keras, "tf_keras": tf_keras}[sys.argv[1]]
    die_at = int(sys.argv[2])
    def net(p, w):
        hidden = p.layers.Dense(w, activation="relu")
        return p.Sequential([p.Input((4,)), hidden, p.layers.Dense(3)])
    class Die(package.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == die_at:
                os.kill(os.getpid(), 9)
    for folder in sys.argv[3:]:
        keras.utils.set_random_seed(0)
        tf_keras.utils.set_random_seed(0)
        teacher, student = net(keras, 16), net(package, 4)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
        distiller = Distiller(student, teacher)
        loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile("adam", loss)
        backup = package.callbacks.BackupAndRestore(folder)
        history = distiller.fit(x, y, epochs=6, shuffle=False, verbose=0, callbacks=[backup, Die()])
        print(len(history.epoch), history.history["loss"][-1])
""")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_backup_and_restore_after_a_kill(name, tmp_path):
    def run(die_at, *folders):
        paths = [str(tmp_path / folder) for folder in folders]
        return forked.run(SCRIPT, name, die_at, *paths)

    assert run(4, "killed").returncode == -signal.SIGKILL
    assert os.listdir(tmp_path / "killed")
    # A new process goes on with the killed run, and then makes the same run in one piece.
    done = run(99, "killed", "whole")
    assert done.returncode == 0, done.stderr
    left, again, epochs, last = done.stdout.split()
    assert (int(epochs), int(left)) == (6, 2)
    assert float(again) == pytest.approx(float(last), rel=1e-5)


REPLICAS = textwrap.dedent("""
    import keras, tf_keras, numpy as np, tensorflow as tf
    from tfkd import Distiller
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 4)).astype("float32"), rng.integers(0, 3, 32)
    kernel = [rng.normal(size=(4, 3)).astype("float32") for _ in range(2)]
    def net(p, i):
        layer = p.layers.Dense(3, use_bias=False, kernel_regularizer="l2")
        model = p.Sequential([p.Input((4,)), layer])
        model.set_weights([kernel[i]])
        return model
    def theirs():
        kd = keras.distillation
        kl = kd.LogitsDistillation(4.0)
        return kd.Distiller(net(keras, 1), net(keras, 0), kl, student_loss_weight=0.1)
    for name, package, make in (
        ("keras", keras, lambda: Distiller(net(keras, 0), net(keras, 1), soft_loss="kl")),
        ("tf_keras", tf_keras, lambda: Distiller(net(tf_keras, 0), net(keras, 1), soft_loss="kl")),
        ("keras.distillation", keras, theirs),
    ):
        results = []
        two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        for strategy in (tf.distribute.get_strategy(), two):
            with strategy.scope():
                distiller = make()
                loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
                distiller.compile(package.optimizers.SGD(0.5), loss)
            data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
            logs = distiller.fit(data, verbose=0).history
            results.append([values[0] for name, values in sorted(logs.items())]
                           + list(np.ravel(distiller.student.get_weights()[0])))
        print(name, np.abs(np.subtract(*results)).max(), flush=True)
""")


@pytest.fixture(scope="module")
def differences():
    """Return by how much one replica and two differ, by name, and what the process said."""
    done = forked.run(REPLICAS)
    return dict(line.split() for line in done.stdout.splitlines()), done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "keras",
        "tf_keras",
        # The sixth of FACTS' list: there the update is doubled or the losses are halved.
        pytest.param("keras.distillation", marks=FAILS_IN_KERAS),
    ],
)
def test_two_replicas_make_the_same_update_and_report_the_same_losses(name, differences):
    found, said = differences
    assert name in found, said
    assert float(found[name]) < 1e-5


def test_it_is_a_keras_model_of_the_students_flavour(package):
    distiller = Distiller(net(package), net(keras))
    assert isinstance(distiller, package.Model)
    assert isinstance(distiller, {"keras": keras, "tf_keras": tf_keras}[package.__name__].Model)
    assert type(distiller).__name__ == "Distiller"
