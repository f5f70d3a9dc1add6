"""Saved models load unchanged or are refused in one sentence; no code in them runs."""

import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tf_keras
from tiny_models import cnn, dense, predicted

from tfkd import translate
from tfkd.errors import InputError
from tfkd.loading import models as loading
from tfkd.model import backends
from tfkd.quantization import quantizers  # noqa: F401  in another process `loading` does it

LEGACY = "ignore:You are saving your model as an HDF5 file:UserWarning"
pytestmark = pytest.mark.filterwarnings(LEGACY)

# Every kind of file that holds a model: its Keras and its suffix, none for a SavedModel.
KINDS = [(keras, ".keras"), (keras, ".h5"), (keras, ".hdf5")]
KINDS += [(tf_keras, ".keras"), (tf_keras, ".h5"), (tf_keras, ".hdf5"), (tf_keras, "")]


def each(kinds):
    def name(value):
        return value if isinstance(value, str) else value.__name__

    return pytest.mark.parametrize(("package", "suffix"), kinds, ids=name)


every_kind = each(KINDS)


def saved(model, path):
    model.save(path)
    return path


def message(path, **kwargs):
    with pytest.raises(InputError) as error:
        loading.load_model(path, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@every_kind
def test_a_model_comes_back_equal_and_in_its_keras(package, suffix, tmp_path, rng):
    package.utils.set_random_seed(0)
    model = cnn(package)
    model.compile("adam", "mse")  # what is only for training is not needed
    x = rng.random((3, 8, 8, 1), "float32")
    again = loading.load_model(saved(model, tmp_path / f"m{suffix}"))
    assert isinstance(again, package.Model)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(again(x), model(x), rtol=1e-6)


@pytest.mark.slow
def test_a_quantize_aware_model_comes_back(qat, digits, tmp_path):
    want = predicted(qat, digits.test.x)
    for path in (tmp_path / "qat.keras", tmp_path / "qat.h5", tmp_path / "saved"):
        again = loading.load_model(saved(qat, path))
        kinds = [type(layer).__name__ for layer in again.layers]
        assert kinds == [type(layer).__name__ for layer in qat.layers]
        np.testing.assert_allclose(predicted(again, digits.test.x), want, atol=1e-5)


def test_a_model_of_tfmots_own_scheme_in_a_keras_file_is_told_to_go_to_h5(tmp_path):
    aware = backends.tfmot().quantization.keras.quantize_model(cnn(tf_keras))
    assert "model with tfmot's own schemes" in message(saved(aware, tmp_path / "q.keras"))


def lends(package, activation):
    package.utils.set_random_seed(0)
    layers = package.layers
    return package.Sequential(
        [
            package.Input((4,)),
            layers.Dense(3, activation=activation),
            layers.Activation(activation),
        ]
    )


def test_translated_models_with_lent_activations_come_back_in_another_process(tmp_path):
    models = {
        "a": translate(lends(tf_keras, "hard_sigmoid"), to="keras"),
        "b": translate(lends(keras, "hard_sigmoid")),
        "c": translate(lends(keras, "hard_silu")),
    }
    x, want = np.linspace(-4, 4, 8, dtype="float32").reshape(2, 4), {}
    for name, model in models.items():
        for suffix in (".keras", ".h5", "")[: 2 if name == "a" else 3]:
            want[str(saved(model, tmp_path / f"{name}{suffix}"))] = predicted(model, x)
    code = (
        "import sys, numpy as np\n"
        "from tfkd.loading import models as loading\n"
        f"x = np.linspace(-4, 4, 8, dtype='float32').reshape(2, 4)\n"
        f"got = {{p: loading.load_model(p).predict(x, verbose=0) for p in {list(want)!r}}}\n"
        f"np.savez({str(tmp_path / 'got.npz')!r}, *got.values())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "got.npz") as got:
        for values, name in zip(want.values(), got.files, strict=True):
            np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-6)


def test_a_registered_activation_of_the_users_comes_back_from_h5(tmp_path):
    @tf_keras.saving.register_keras_serializable(package="loading_test")
    def cubed(x):
        return x**3

    model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Activation(cubed)])
    again = loading.load_model(saved(model, tmp_path / "m.h5"))
    np.testing.assert_array_equal(again(np.full((1, 4), 2.0)), np.full((1, 4), 8.0))


@every_kind
def test_a_lambda_layer_is_refused_and_its_code_not_run(package, suffix, tmp_path):
    mark = tmp_path / "mark"
    source = f"lambda x: (__import__('pathlib').Path({str(mark)!r}).touch(), x)[1]"
    layer = package.layers.Lambda(eval(source), output_shape=(4,))
    inner = package.Sequential([package.Input((4,)), layer])
    model = package.Sequential([package.Input((4,)), inner])
    path = saved(model, tmp_path / f"m{suffix}")
    model(np.ones((1, 4)))
    mark.unlink()  # so it does run
    assert "has a Lambda layer, whose code tfkd does not run" in message(path)
    assert not mark.exists()


@every_kind
def test_an_unregistered_class_is_named_with_the_way_out(package, suffix, tmp_path):
    @package.saving.register_keras_serializable(package="loading_test", name="Doubled")
    class Doubled(package.layers.Layer):
        def call(self, x):
            return x * 2

    class Stranger(Doubled):
        pass

    x = np.ones((1, 4), "float32")
    known, unknown = (
        saved(
            package.Sequential([package.Input((4,)), kind()]), tmp_path / f"{kind.__name__}{suffix}"
        )
        for kind in (Doubled, Stranger)
    )
    np.testing.assert_array_equal(loading.load_model(known)(x), x * 2)
    if suffix == "":  # tf_keras puts a layer there that calls the saved function
        np.testing.assert_array_equal(loading.load_model(unknown)(x), x * 2)
        return
    told = message(unknown)
    assert "uses the class 'Stranger', which is not registered" in told
    assert f"@{package.__name__}.saving.register_keras_serializable() and import" in told


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(package, suffix, share, tmp_path):
    path = saved(dense(package), tmp_path / f"m{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert f"The model {str(path)!r} can't be read: " in message(path)


@each([kind for kind in KINDS if kind[1]])  # a SavedModel's own graph stands in for its layers
@pytest.mark.parametrize("word", [b'"Dense"', b'"class_name"', b'"units": 3', b'"config"'])
def test_a_configuration_that_means_nothing_is_refused(package, suffix, word, tmp_path):
    path = saved(dense(package), tmp_path / f"m{suffix}")
    if suffix == ".keras":
        shutil.unpack_archive(path, tmp_path / "parts", "zip")
        config = tmp_path / "parts" / "config.json"
        assert word in config.read_bytes()
        config.write_bytes(config.read_bytes().replace(word, b"#" * len(word)))
        shutil.make_archive(tmp_path / "again", "zip", tmp_path / "parts")
        (tmp_path / "again.zip").replace(path)
    else:
        data = path.read_bytes()
        assert word in data
        path.write_bytes(data.replace(word, b"#" * len(word)))
    assert "can't be read" in message(path)


@pytest.mark.parametrize("name", ["saved_model.pb", "keras_metadata.pb", "variables"])
def test_a_savedmodel_of_which_a_part_is_missing(name, tmp_path):
    path = saved(dense(tf_keras), tmp_path / "m")
    part = path / name
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    told = {
        "saved_model.pb": "holds no SavedModel",
        "keras_metadata.pb": "has signatures but no Keras layers, as model.export writes it",
        "variables": "can't be read",
    }
    assert told[name] in message(path)


def test_what_is_no_model(tmp_path):
    assert "There is no model at" in message(tmp_path / "none.keras")
    assert "There is no teacher at" in message(tmp_path / "none.keras", what="teacher")
    assert "holds no SavedModel" in message(tmp_path)
    (tmp_path / "m.txt").write_text("")
    assert "tfkd reads .keras, .h5, .hdf5 and SavedModel folders" in message(tmp_path / "m.txt")
    for suffix in (".keras", ".h5"):
        (tmp_path / f"m{suffix}").write_text("neither zip nor HDF5")
        assert "can't be read" in message(tmp_path / f"m{suffix}")


@each([(keras, "m.weights.h5"), (tf_keras, "m.weights.h5"), (tf_keras, "m.h5")])
def test_weights_alone_are_no_model(package, suffix, tmp_path):
    dense(package).save_weights(tmp_path / suffix)
    assert "holds no layers, perhaps only weights" in message(tmp_path / suffix)


def test_a_savedmodel_without_layers_is_known_without_tensorflow(tmp_path):
    dense(keras).export(tmp_path / "m", verbose=False)
    with pytest.raises(InputError, match="no Keras layers"):
        loading.check(tmp_path / "m")
    loading.check(tmp_path / "m", layers=False)
    assert not loading.is_keras_saved_model(tmp_path / "m")
    code = (
        "import sys; from tfkd.loading import models as loading\n"
        f"loading.check({str(tmp_path / 'm')!r}, layers=False)\n"
        "print({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_writer_is_read_from_the_file(package, suffix, tmp_path):
    path = saved(dense(package), tmp_path / f"m{suffix}")
    assert loading.writer(path) == package.__version__
