"""Finished stages with the same inputs are not repeated, but damaged ones are."""

import keras
import numpy as np
import pytest

from tfkd.compression.stages import Stages
from tfkd.errors import InputError


def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


class Training:
    """Sets all weights to a number, and counts."""

    def __init__(self, net, number):
        self.net, self.number, self.times = net, number, 0

    def __call__(self):
        self.times += 1
        self.net.set_weights([np.full_like(one, self.number) for one in self.net.get_weights()])
        return {"loss": [1.0, self.number]}


def weights_of(net):
    return np.concatenate([one.ravel() for one in net.get_weights()])


def test_the_same_inputs_are_not_made_again(tmp_path):
    net = model()
    first = Training(net, 0.5)
    assert Stages(tmp_path).once("student", {"epochs": 3}, first, net) == {"loss": [1.0, 0.5]}
    other, again = model(), Training(model(), 7.0)
    stages = Stages(tmp_path)
    assert stages.once("student", {"epochs": 3}, again, other) == {"loss": [1.0, 0.5]}
    assert (first.times, again.times) == (1, 0)
    np.testing.assert_array_equal(weights_of(other), 0.5)
    assert len(stages.resumed) == 1


def test_another_option_is_made_beside_the_first(tmp_path):
    net = model()
    for epochs, number in ((3, 0.5), (4, 0.7)):
        Stages(tmp_path).once("student", {"epochs": epochs}, Training(net, number), net)
    kept = Training(net, 9.0)
    Stages(tmp_path).once("student", {"epochs": 3}, kept, net)
    assert kept.times == 0
    np.testing.assert_array_equal(weights_of(net), 0.5)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damaged_weights_are_made_again(tmp_path, damage):
    net = model()
    Stages(tmp_path).once("student", {}, Training(net, 0.5), net)
    [file] = tmp_path.glob("*.npz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flip" else content[:-40])
    again = Training(net, 0.25)
    Stages(tmp_path).once("student", {}, again, net)
    assert again.times == 1
    np.testing.assert_array_equal(weights_of(net), 0.25)


def test_a_damaged_record_is_refused(tmp_path):
    Stages(tmp_path).once("costs", {}, lambda: {"bytes": 3})
    file = tmp_path / "stages.json"
    file.write_text(file.read_text().replace('"bytes": 3', '"bytes": 4'))
    with pytest.raises(InputError, match="damaged, or was changed.*delete the folder"):
        Stages(tmp_path)


def test_a_stage_that_fails_leaves_nothing(tmp_path):
    stages = Stages(tmp_path)
    with pytest.raises(ZeroDivisionError):
        stages.once("student", {}, lambda: 1 / 0)
    assert not stages.done and not list(tmp_path.iterdir())


def test_without_a_folder_nothing_is_kept():
    stages, net = Stages(), model()
    training = Training(net, 0.5)
    for _ in range(2):
        stages.once("student", {}, training, net)
    assert training.times == 2 and not stages.done
