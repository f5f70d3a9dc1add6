"""One worker of a strategy, or one process alone, which trains and writes its results.

python one_worker.py folder [epoch to die after]
"""

import json
import os
import pathlib
import signal
import sys
import time

import tensorflow as tf

cluster = json.loads(os.environ.get("TF_CONFIG", "{}"))
workers = len(cluster["cluster"]["worker"]) if cluster else 1
own = cluster["task"]["index"] if cluster else 0
# A strategy of several machines comes before everything else of TensorFlow.
strategy = tf.distribute.MultiWorkerMirroredStrategy() if cluster else tf.distribute.get_strategy()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tf_keras  # noqa: E402

import tfkd  # noqa: E402

folder = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(0)
x, y = rng.normal(size=(72, 6, 6, 2)).astype("float32"), rng.integers(0, 3, 72)
examples = tf.data.Dataset.from_tensor_slices((x, y))


def net(package, seed):
    """Return a small net with the same weights in each process."""
    package.utils.set_random_seed(seed)
    la = package.layers
    conv = la.Conv2D(4, 3, activation="relu")
    return package.Sequential([package.Input((6, 6, 2)), conv, la.Flatten(), la.Dense(3)])


def distiller_of(make, teacher):
    """Return a compiled distiller, made within the scope."""
    with strategy.scope():
        student = make()
        distiller = tfkd.Distiller(student, teacher)
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(tf_keras.optimizers.SGD(0.2, momentum=0.9), loss)
    return distiller


def outcome(distiller, data, epochs=2, **kwargs):
    """Train, and return weights, ranges and losses."""
    history = distiller.fit(data, epochs=epochs, verbose=0, shuffle=False, **kwargs).history
    return [*distiller.student.get_weights(), history["loss"][-1], history["soft_loss"][-1]]


def sharded(data, policy):
    """Return a dataset with TensorFlow's way to part it among workers."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = policy
    return data.with_options(options)


def trained():
    """Return what each way of training gives, by its name."""
    policy, teacher = tf.data.experimental.AutoShardPolicy, net(keras, 2)
    data = sharded(examples.batch(12), policy.DATA)
    found = {}
    quantized = distiller_of(lambda: tfkd.quantize_aware(net(tf_keras, 1)), teacher)
    found["quantize-aware"] = outcome(quantized, data)
    translated = distiller_of(lambda: tfkd.translate(net(keras, 1)), teacher)
    found["translated"] = outcome(translated, data)
    asked = distiller_of(lambda: net(tf_keras, 1), teacher)
    found["each asks about all"] = outcome(asked, data, cache_teacher=True)
    if workers == 1:
        tfkd.cache_teacher(examples.batch(12), teacher, folder / "answers")
    opened = tfkd.TeacherCache.load(folder / "answers")
    held = distiller_of(lambda: net(tf_keras, 1), None)
    found["opened by all"] = outcome(held, data, cache_teacher=opened)
    part = sharded(examples.shard(workers, own).batch(12), policy.OFF)
    each = distiller_of(lambda: net(tf_keras, 1), teacher)
    answers = each.cache_teacher(part)
    assert answers.size == len(x) // workers
    # tf_keras counts the steps of a shard before its batches are parted: too few.
    steps = {"cache_teacher": answers, "steps_per_epoch": len(x) // 12}
    found["each its shard"] = outcome(each, part.repeat(2), **steps)
    return found


def refused():
    """Return what is said of a Keras 3 student."""
    with strategy.scope():
        try:
            tfkd.Distiller(net(keras, 1), net(keras, 2))
        except tfkd.InputError as error:
            return str(error)
    return ""


class Die(tf_keras.callbacks.Callback):
    """Kills the last worker after an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        """End without a word."""
        if epoch == int(sys.argv[2]) and own == workers - 1:
            os.kill(os.getpid(), signal.SIGKILL)


if len(sys.argv) == 2:
    found = trained()
    print(refused(), flush=True)
else:
    distiller = distiller_of(lambda: tfkd.quantize_aware(net(tf_keras, 1)), net(keras, 2))
    callbacks = [tf_keras.callbacks.BackupAndRestore(str(folder / "backup")), Die()]
    data = sharded(examples.batch(12), tf.data.experimental.AutoShardPolicy.DATA)
    try:
        found = {"restored": outcome(distiller, data, epochs=5, callbacks=callbacks)}
    except tfkd.InputError as error:
        print(error, flush=True)
        os._exit(3)  # without waiting at the barrier for the one that left
    print(len(distiller.history.epoch))
for name, values in found.items():
    np.savez(folder / f"{name} {workers} {own}.npz", *values)
# A worker that exits closes its connections, and another may still receive a last value.
(folder / f"ended {workers} {own}").touch()
until = time.monotonic() + 60
while len(list(folder.glob(f"ended {workers} *"))) < workers and time.monotonic() < until:
    time.sleep(0.05)
