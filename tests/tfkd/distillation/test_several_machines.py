"""Two and three workers on loopback train like one process, even after one was killed."""

import json
import pathlib
import signal
import socket

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import cnn, crossentropy

from tfkd import Distiller
from tfkd.errors import InputError

WORKER = pathlib.Path(__file__).parents[2] / "data" / "one_worker.py"
WAYS = ["quantize-aware", "translated", "each asks about all", "opened by all", "each its shard"]

pytestmark = pytest.mark.slow


def run(workers, *args):
    """Start the workers of a cluster; return (code, output, errors) of each."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in held]
    for one in held:
        one.close()
    started = []
    for i in range(workers):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
        more = {} if workers == 1 else {"TF_CONFIG": json.dumps(cluster)}
        started.append(forked.start(WORKER.read_text(), *args, environment=more))
    ended = [one.wait() for one in started]
    return [(one.returncode, one.stdout, one.stderr) for one in ended]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the folder with the outcome of one process, two and three workers, and the words."""
    folder, words = tmp_path_factory.mktemp("machines"), {}
    for workers in (1, 2, 3):
        for code, said, errors in run(workers, folder):
            assert code == 0, errors[-3000:]
            words[workers] = said.strip()
    return folder, words


def values(folder, name):
    with np.load(folder / f"{name}.npz") as held:
        return [held[key] for key in held.files]


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_workers_train_as_one_process(way, workers, runs):
    alone = values(runs[0], f"{way} 1 0")
    for own in range(workers):
        of_worker = values(runs[0], f"{way} {workers} {own}")
        apart = max(np.abs(a - b).max() for a, b in zip(alone, of_worker, strict=True))
        print(f"{way}, {workers} workers: {apart:.1e}")
        assert apart < 1e-5


def test_a_student_of_keras_3_is_refused_there_with_the_way_out(runs):
    words = runs[1]
    assert words[1] == ""
    assert words[2] == words[3]
    assert "tfkd.translate(student)" in words[2]
    assert "to='keras'" in words[2]
    assert "\n" not in words[2]


def test_a_killed_worker_is_one_line_and_a_restart_ends_in_the_same_weights(tmp_path):
    (other, said, _), (killed, _, _) = run(2, tmp_path, 2)
    assert (killed, other) == (-signal.SIGKILL, 3)
    assert "A worker stopped during training (worker 1)" in said
    assert len(said.splitlines()) == 1
    for code, said, errors in run(2, tmp_path, 99):
        assert code == 0, errors[-3000:]
        assert int(said) < 5
    whole = tmp_path / "whole"
    whole.mkdir()
    for workers in (1, 2):
        assert all(code == 0 for code, *_ in run(workers, whole, 99))
    restored, uninterrupted = values(tmp_path, "restored 2 0"), values(whole, "restored 2 0")
    assert all(np.array_equal(a, b) for a, b in zip(restored, uninterrupted, strict=True))
    alone = values(whole, "restored 1 0")
    assert max(np.abs(a - b).max() for a, b in zip(alone, restored, strict=True)) < 1e-5


def test_a_strategy_that_cant_be_is_refused_in_a_line():
    with (
        tf.distribute.experimental.CentralStorageStrategy().scope(),
        pytest.raises(InputError, match="under CentralStorageStrategy; use MirroredStrategy"),
    ):
        Distiller(cnn(keras), cnn(keras))


def test_a_dataset_of_the_data_service_trains_as_it_is(rng):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target
    worker = service.WorkerServer(service.WorkerConfig(address.removeprefix("grpc://")))
    x, y = rng.normal(size=(32, 8, 8, 1)).astype("float32"), rng.integers(0, 10, 32)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    served = data.apply(service.distribute("parallel_epochs", address))
    served = served.apply(tf.data.experimental.assert_cardinality(2))
    teacher, found = cnn(keras, name="teacher"), []
    for examples in (data, served):
        keras.utils.set_random_seed(1)
        distiller = Distiller(cnn(keras), teacher)
        distiller.compile(keras.optimizers.SGD(0.1), crossentropy(keras))
        distiller.fit(examples, epochs=2, cache_teacher=True, verbose=0)
        found.append(distiller.student.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    del worker
