"""A call of `compress` as YAML: written, read, and refused with all problems listed."""

import keras
import numpy as np
import pytest

from tfkd import Recipe, Target, losses
from tfkd.compression.recipe import Call
from tfkd.errors import InputError
from tfkd.export.micro.boards import Board


def test_what_is_written_is_read(tmp_path):
    recipe = Recipe(0.2, 4.0, epochs=7, bits={"conv.*": 4}, formats=("int8",), soft_loss="kl")
    call = Call(recipe, Target(bytes="64k", drop=0.005), "pico", "20min", "categorical", True)
    assert Call.load(call.save(tmp_path / "recipe.yaml")) == call


def test_a_board_of_ones_own_is_written_and_read(tmp_path):
    board = Board("Mine", "RP2040", 1 << 20, 200_000, "SRAM", "our schematic", ids={"zephyr": "m"})
    read = Call.load(Call(board=board).save(tmp_path / "recipe.yaml")).board
    assert read == board
    text = "board: {name: Mine, chip: X, flash_bytes: 1, ram_bytes: 2, ram: all, source: me}"
    (tmp_path / "recipe.yaml").write_text(text)
    assert Call.load(tmp_path / "recipe.yaml").board == Board("Mine", "X", 1, 2, "all", "me")
    for wrong in ("[pico]", "{name: Mine}", text[7:].replace("2", "many")):
        (tmp_path / "recipe.yaml").write_text(f"board: {wrong}")
        with pytest.raises(InputError, match="or have the fields of a Board, name, chip"):
            Call.load(tmp_path / "recipe.yaml")


def test_every_attribute_may_be_left_out(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    assert Call.load(tmp_path / "a.yaml") == Call()
    (tmp_path / "a.yaml").write_text("epochs: 3\ntarget: {bytes: 64k}\n")
    assert Call.load(tmp_path / "a.yaml") == Call(Recipe(epochs=3), Target(bytes=65536))
    (tmp_path / "a.yaml").write_text("learning_rate: 1e-3\ntarget: {drop: 0.5%}")
    assert Call.load(tmp_path / "a.yaml") == Call(Recipe(learning_rate=1e-3), Target(drop=0.005))


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "epoch: 3\nepochs: 0\nalpha: often\ntemperature: hot\nformats: [int8, {}]\n"
        "target: {drop: -1, size: 3}\n"
    )
    with pytest.raises(InputError) as caught:
        Call.load(file)
    said = str(caught.value)
    for part in ("'epoch'", "epochs must", "alpha must", "temperature must", "formats must"):
        assert part in said
    assert "drop must" in said and "'size'" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['touch ran']", "not YAML"),
        ("- 1\n- 2", "a line 'name: value'"),
        ("a: [", "not YAML"),
        ("\x00", "not YAML"),
    ],
)
def test_a_file_is_only_data(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        Call.load(tmp_path / "a.yaml")
    assert not (tmp_path / "ran").exists()


def _flip(x):
    return x[:, ::-1]


def _stops(stage, package):
    return [package.callbacks.EarlyStopping()]


@pytest.mark.parametrize(
    ("name", "thing", "said"),
    [
        ("augment", _flip, "'_flip' for augment, but a file holds no code: give the function"),
        ("callbacks", _stops, "'_stops' for callbacks, but a file holds no code: give the func"),
        ("soft_loss", losses.DKD(), r"'DKD.* for soft_loss, but .*: give the loss to Call.load"),
        ("soft_loss", {"a": "kl", "b": losses.DKD()}, "for soft_loss, but .*: give the loss"),
    ],
    ids=["augment", "callbacks", "loss", "losses"],
)
def test_what_a_file_can_not_hold_is_named_and_given_again(tmp_path, name, thing, said):
    path = Call(Recipe(**{name: thing})).save(tmp_path / "recipe.yaml")
    with pytest.raises(InputError, match=f"recipe.yaml names .*{said}"):
        Call.load(path)
    assert getattr(Call.load(path, **{name: thing}).recipe, name) == thing


def test_losses_by_name_or_configuration_are_read_again(tmp_path):
    for loss in (
        "kl",
        ["kl", "dist"],
        {"a": "kl"},
        keras.saving.serialize_keras_object(losses.DKD()),
    ):
        call = Call(Recipe(soft_loss=loss))
        assert Call.load(call.save(tmp_path / "recipe.yaml")) == call


def test_values_of_numpy_are_written_and_read(tmp_path):
    call = Call(
        Recipe(epochs=np.int64(3), bits={"conv.*": np.int32(4)}),
        Target(drop=np.float64(0.25)),
        budget=np.float64(90.0),
    )
    read = Call.load(call.save(tmp_path / "recipe.yaml"))
    assert (read.recipe, read.target, read.budget) == (call.recipe, call.target, 90.0)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="Cannot read .*none.yaml"):
        Call.load(tmp_path / "none.yaml")


def test_the_call_has_what_is_not_the_default():
    call = "tfkd.compress(teacher, data, {}out=folder)"
    assert Call().in_python(searched=False) == call.format("student=student, ")
    assert Call().in_python(searched=True) == call.format("")
    recipe = Recipe(epochs=3, bits={"conv.*": 4}, augment=lambda x: x)
    target = Target(bytes="64k", drop=0.0)
    said = Call(recipe, target, "pico", "20min").in_python(searched=True)
    assert "target={'bytes': 65536, 'drop': 0.0}, board='pico', budget='20min'" in said
    assert "epochs=3" in said and "bits={'conv.*': 4}" in said and "augment=..." in said
    assert "qat_epochs" not in said
