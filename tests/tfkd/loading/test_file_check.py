"""Files that would run, read or allocate what they name are refused before that happens."""

import contextlib
import json
import shutil
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import zoo
from tensorflow.core.protobuf import saved_model_pb2
from tiny_models import dense

import tfkd
from tfkd.distillation.teachers.sources import source_of
from tfkd.errors import InputError
from tfkd.loading import file_check, models

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
FILES = {f"{p.__name__}{s}": (p, s) for p in (keras, tf_keras) for s in (".keras", ".h5")}
every_file = pytest.mark.parametrize("kind", FILES)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """One small model in every kind of file, and a SavedModel without Keras."""
    folder = tmp_path_factory.mktemp("honest")
    for kind, (package, _) in FILES.items():
        dense(package).save(folder / f"a.{kind}")
    dense(tf_keras).save(folder / "saved")
    tf.saved_model.save(double := Doubles(), folder / "bare", signatures=double.serve)
    return folder


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported, and when its function is called."""
    mark = tmp_path / "mark"
    code = f"import pathlib\ndef f(*a, **k):\n  pathlib.Path({str(mark)!r}).touch()\nf()\n"
    (tmp_path / "tfkd_canary.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield mark
    sys.modules.pop("tfkd_canary", None)


class Doubles(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
    def serve(self, x):
        return {"y": x * 2}


def with_config(source, target, change):
    """Copy a file with another configuration."""
    shutil.copy(source, target)
    if target.suffix == ".h5":
        with h5py.File(target, "r+") as file:
            config = change(json.loads(file.attrs["model_config"]))
            file.attrs["model_config"] = json.dumps(config)
        return target
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                data = json.dumps(change(json.loads(data))).encode()
            new.writestr(name, data)
    return target


def told(path, **kwargs):
    with pytest.raises(InputError) as error:
        models.load_model(path, **kwargs)
    assert "\n" not in str(error.value) and "can't be read: it" in str(error.value)
    return str(error.value)


def named(module, kind, config, registered=None):
    return {
        "module": module,
        "class_name": kind,
        "config": config,
        "registered_name": registered,
    }


def as_layer(*args, **kwargs):
    def change(config):
        config["config"]["layers"].append(named(*args, **kwargs))
        return config

    return change


def as_setting(key, value):
    def change(config):
        config["config"]["layers"][-1]["config"][key] = value
        return config

    return change


def as_root(*args):
    return lambda config: named(*args)


def nested(change):
    """The same one model deeper, where an inner model is compiled."""

    def deeper(config):
        inner = change(json.loads(json.dumps(config)))
        config["config"]["layers"].append(inner)
        return config

    return deeper


CODE = ["4wAAAAA=", None, None]
EVIL = named("tfkd_canary", "function", "f", "f")
ATTACKS = {
    "a module as root": (as_root("tfkd_canary", "f", {}), "tfkd_canary|'f'"),
    "a root that is a layer": (as_root("keras.layers", "Dense", {"units": 2}), "not a model"),
    "a root that is a function": (as_root("builtins", "function", "relu"), "not a model|function"),
    "no object as root": (lambda config: [config], "not that of a model"),
    "a module as layer": (as_layer("tfkd_canary", "f", {}), "'f'"),
    "a module of Keras that is not imported": (
        as_layer("keras.src.tfkd_canary", "Dense", {"units": 2}),
        "'Dense'",
    ),
    "a registered name that is none": (
        as_layer("tfkd_canary", "Dense", {"units": 2}, "none>Dense"),
        "'Dense'",
    ),
    "an unregistered class of another name": (as_layer(None, "Stranger", {}), "'Stranger'"),
    "a Lambda layer": (
        as_layer("keras.layers", "Lambda", {"function": CODE, "function_type": "lambda"}),
        "Lambda",
    ),
    "a Lambda layer of a model inside": (
        nested(as_layer("keras.layers", "Lambda", {"function": CODE})),
        "Lambda",
    ),
    "code as activation": (
        as_setting("activation", {"class_name": "__lambda__", "config": {"value": "4wAA"}}),
        "Lambda",
    ),
    "a module's function as activation": (as_setting("activation", EVIL), "tfkd_canary"),
    "a command as activation": (
        as_setting("activation", named("subprocess", "function", "getoutput")),
        "getoutput",
    ),
    "a builtin as activation": (
        as_setting("activation", named("builtins", "function", "exec")),
        "exec",
    ),
    "a download as activation": (
        as_setting("activation", named("keras.utils", "function", "get_file")),
        "get_file",
    ),
    "a switch as initializer": (
        as_setting(
            "kernel_initializer",
            named("keras.config", "function", "enable_unsafe_deserialization"),
        ),
        "enable_unsafe",
    ),
    "a builder as regularizer": (
        as_setting("kernel_regularizer", named("keras.activations", "function", "deserialize")),
        "deserialize",
    ),
    "a compiled model inside": (
        nested(lambda config: {**config, "compile_config": {"loss": EVIL}}),
        "tfkd_canary",
    ),
    "a SavedModel as layer": (
        as_layer("keras.layers", "TFSMLayer", {"filepath": "/tmp/none"}),
        "TFSMLayer",
    ),
    "a pickle as layer": (
        as_layer("keras.layers", "TorchModuleWrapper", {"module": "gAN9"}),
        "TorchModuleWrapper",
    ),
    "a file as vocabulary": (
        as_layer("keras.layers", "StringLookup", {"vocabulary": "/etc/hostname"}),
        "reads the file '/etc/hostname'",
    ),
    "a type of another module": (
        as_setting(
            "dtype",
            {
                "class_name": "__typespec__",
                "spec_name": "f",
                "module": "tfkd_canary",
                "registered_name": None,
                "config": [],
            },
        ),
        "type 'f'",
    ),
    "a setting that is a class": (as_setting("units", named("os", "system", {})), "'system'"),
}  # fmt: skip


@every_file
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_in_the_configuration_is_refused_and_runs_nothing(
    kind, attack, honest, tmp_path, canary
):
    change, reason = ATTACKS[attack]
    path = tmp_path / f"m{FILES[kind][1]}"
    message = told(with_config(honest / f"a.{kind}", path, change))
    assert any(word.strip("'") in message for word in reason.split("|"))
    assert not canary.exists()


def test_the_attacks_are_real(honest, tmp_path, canary):
    path = tmp_path / "m.keras"
    with_config(honest / "a.tf_keras.keras", path, ATTACKS["a module as root"][0])
    with contextlib.suppress(Exception):
        tf_keras.models.load_model(path, compile=False)
    assert canary.exists()


OPERATIONS = [
    "io.gfile.rmtree", "io.write_file", "io.read_file", "raw_ops.WriteFile", "py_function",
    "numpy_function", "compat.v1.gfile.DeleteRecursively", "load_op_library", "data.Dataset.range",
    "random.set_seed", "keras.backend.function", "saved_model.load", "print", "math.", None,
]  # fmt: skip


@pytest.mark.parametrize("kind", ["tf_keras.keras", "tf_keras.h5"])
@pytest.mark.parametrize("layer", ["TFOpLambda", "SlicingOpLambda"])
def test_operations_that_act_outside_are_refused(kind, layer, honest, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    for symbol in OPERATIONS:
        config = {"name": "e", "trainable": True, "dtype": "float32", "function": symbol}
        entry = named("keras.layers", layer, config)
        entry |= {"name": "e", "inbound_nodes": [["_CONSTANT_VALUE", -1, str(precious), {}]]}

        def change(root, entry=entry):
            root["config"]["layers"].append(entry)
            return root

        path = tmp_path / f"m{FILES[kind][1]}"
        assert f"calls {str(symbol)!r}" in told(with_config(honest / f"a.{kind}", path, change))
    assert precious.exists()


def test_operations_of_graphs_are_not():
    symbols = "math.add nn.relu __operators__.add compat.v1.transpose image.resize linalg.matmul"
    for symbol in [*symbols.split(), "reshape", "cast", "keras.backend.mean"]:
        assert file_check._is_operation("TFOpLambda", symbol)


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_every_kind_of_model_is_known(package):
    slow = {"stacked_lstm", "bilstm", "gru", "simple_rnn"}  # the layers of "lstm" and their like
    for name in sorted(set(zoo.MODELS) - slow):
        config = json.loads(zoo.build(package, name).to_json())
        file_check.check_config(config, package)


@pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize:UserWarning")
def test_initializers_of_tensorflow_are_known(tmp_path):
    layer = tf_keras.layers.Dense(3, bias_initializer=tf.constant_initializer(2.0))
    model = tf_keras.Sequential([tf_keras.Input((4,)), layer])
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"m{suffix}")
        again = models.load_model(tmp_path / f"m{suffix}")
        np.testing.assert_array_equal(again(np.zeros((1, 4))), np.full((1, 3), 2.0))


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("../evil", b"", "doesn't write"),
        ("/evil", b"", "doesn't write"),
        ("assets/../../evil", b"", "doesn't write"),
        ("assets/C:\\evil", b"", "not a plain name"),
        ("model.weights.npz", b"", "doesn't write"),
        ("evil.py", b"", "doesn't write"),
        ("config.json", b"{}", "two members"),
        ("assets/zeros", b"zeros", "declare"),
    ],
)
def test_members_that_keras_does_not_write(name, data, reason, honest, tmp_path):
    with zipfile.ZipFile(honest / "a.keras.keras") as file:
        members = [(one, file.read(one)) for one in file.namelist()]
    data = data if data != b"zeros" else bytes(1 << 27)
    path = archive(tmp_path / "m.keras", [*members, (name, data)])
    with pytest.raises(InputError, match=reason):
        models.load_model(path)


def test_a_size_that_is_not_there_is_refused_by_its_header(honest, tmp_path):
    path = tmp_path / "m.keras"
    shutil.copy(honest / "a.keras.keras", path)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # the last member in the central directory
    data[entry + 24 : entry + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="declare 4,294,9"):
        models.load_model(path)


def linked(file, tmp_path):
    file["evil"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/a")


def softly(file, tmp_path):
    file["evil"] = h5py.SoftLink("/other")


def outside(file, tmp_path):
    file.create_dataset("evil", (4,), "u1", external=[(str(tmp_path / "secret"), 0, 4)])


def virtual(file, tmp_path):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (4,))
    file.create_virtual_dataset("evil", layout)


def huge(file, tmp_path):
    file.create_dataset("evil", (1 << 34,), "u1", chunks=(1 << 20,))


@every_file
@pytest.mark.parametrize("part", [linked, softly, outside, virtual, huge])
def test_weights_that_lie_elsewhere_or_nowhere(kind, part, honest, tmp_path):
    path = tmp_path / f"m{FILES[kind][1]}"
    if path.suffix == ".h5":
        shutil.copy(honest / f"a.{kind}", path)
        with h5py.File(path, "r+") as file:
            part(file, tmp_path)
    else:
        with zipfile.ZipFile(honest / f"a.{kind}") as old:
            old.extractall(tmp_path / "parts")
        with h5py.File(tmp_path / "parts" / "model.weights.h5", "r+") as file:
            part(file, tmp_path)
        members = sorted(p for p in (tmp_path / "parts").iterdir())
        archive(path, [(p.name, p.read_bytes()) for p in members])
    with pytest.raises(InputError, match="is a link|are in another file|declare"):
        models.load_model(path)


# Layers (of a package, on what shape) that become large when their numbers of units do.
GROWING = {
    "dense": ((4,), lambda la: [la.Dense(3), la.Dense(2)]),
    "conv": ((8, 8, 3), lambda la: [la.Conv2D(3, 3, use_bias=False)]),
    "recurrent": ((8, 3), lambda la: [la.Bidirectional(la.GRU(3))]),
    "a cell": ((8, 3), lambda la: [la.RNN(la.LSTMCell(3))]),
    "embedding": ((8,), lambda la: [la.Embedding(30, 3)]),
    "over steps": ((8, 4), lambda la: [la.TimeDistributed(la.Dense(3))]),
}


def grown(part):
    """Make every layer of a configuration as wide as a million."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if key in ("units", "filters", "output_dim"):
            part[key] = 10**6
        elif key in ("batch_shape", "batch_input_shape") and value[-1] == 4:
            value[-1] = 10**6
        elif key == "build_config":
            part[key] = None
        elif isinstance(value, (dict, list)):
            grown(value)
    return part


@every_file
@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("is_nested", [False, True])
def test_layers_that_weights_are_missing_for_are_not_made(kind, name, is_nested, tmp_path):
    package, suffix = FILES[kind]
    shape, layers = GROWING[name]
    model = package.Sequential([package.Input(shape), *layers(package.layers)])
    if is_nested:
        inputs = package.Input(shape)
        model = package.Model(inputs, model(inputs))
    model.save(tmp_path / f"a{suffix}")
    np.testing.assert_equal(
        models.load_model(tmp_path / f"a{suffix}").get_weights(), model.get_weights()
    )
    path = with_config(tmp_path / f"a{suffix}", tmp_path / f"m{suffix}", grown)
    with pytest.raises(InputError, match="can't be read: its layers' weights declare [0-9,]{10,}"):
        models.load_model(path)


@every_file
def test_states_that_come_from_a_size_alone_are_not_made(kind, tmp_path):
    package, suffix = FILES[kind]
    name = "batch_shape" if package is keras else "batch_input_shape"
    inputs = package.layers.InputLayer(**{name: (2, 8, 3)})
    model = package.Sequential([inputs, package.layers.LSTM(10, stateful=True)])
    model.save(tmp_path / f"a{suffix}")
    models.load_model(tmp_path / f"a{suffix}")

    def change(config):
        config["config"]["layers"][0]["config"][name][0] = 10**9
        return config

    path = with_config(tmp_path / f"a{suffix}", tmp_path / f"m{suffix}", change)
    with pytest.raises(InputError, match="its stateful layers declare 80,000,000,000 bytes"):
        models.load_model(path)


@every_file
def test_a_stateful_layer_behind_images_has_small_states(kind, tmp_path):
    package, suffix = FILES[kind]
    layers = package.layers
    video = {"batch_shape" if package is keras else "batch_input_shape": (8, 10, 224, 224, 3)}
    model = package.Sequential(
        [
            layers.InputLayer(**video),
            layers.TimeDistributed(layers.Conv2D(128, 3, strides=4)),
            layers.TimeDistributed(layers.GlobalAveragePooling2D()),
            layers.Bidirectional(layers.LSTM(4, stateful=True)),
        ]
    )
    model.save(tmp_path / f"a{suffix}")
    assert models.load_model(tmp_path / f"a{suffix}").count_params() == model.count_params()


@pytest.mark.parametrize("kind", sorted(FILES.keys() - {"keras.h5"}))  # it has no operations
def test_a_layer_on_constants_alone_is_not_called(kind, tmp_path):
    """It would run while the file is read, and make what it is told to."""
    package, suffix = FILES[kind]
    inputs = package.Input((4,), name="i")
    if package is keras:
        outputs = keras.ops.broadcast_to(keras.ops.sum(inputs, 0, keepdims=True), (3, 4))
    else:
        outputs = 3.0 - inputs  # a constant and a tensor
    model = package.Model(inputs, package.layers.Dense(2)(outputs))
    model.save(tmp_path / f"a{suffix}")
    x = np.ones((3, 4), "float32")
    again = models.load_model(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again(x), model(x))

    def change(config):
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "BroadcastTo":
                layer["config"]["shape"] = [10**6, 10**6]
                layer["inbound_nodes"] = [{"args": [1.0], "kwargs": {}}]
            elif layer["class_name"] == "TFOpLambda":
                layer["config"]["function"] = "ones"
                layer["inbound_nodes"] = [["_CONSTANT_VALUE", -1, [10**6, 10**6], {}]]
        return config

    path = with_config(tmp_path / f"a{suffix}", tmp_path / f"m{suffix}", change)
    with pytest.raises(InputError, match="is not called on a layer's output"):
        models.load_model(path)


@every_file
def test_weights_that_no_file_holds_are_honest(kind, tmp_path):
    """Layers without weights, untrained ones, and what draws numbers."""
    package, suffix = FILES[kind]
    la = package.layers
    plain = package.Sequential([package.Input((4, 4, 1)), la.Rescaling(0.5), la.Flatten()])
    drawing = package.Sequential(
        [
            package.Input((4,)),
            la.GaussianNoise(0.1),
            la.Dense(300, kernel_initializer=package.initializers.Orthogonal(seed=1)),
            la.Dropout(0.5, seed=3),
            la.BatchNormalization(),
        ]
    )
    for model in (plain, drawing):
        model.save(tmp_path / f"a{suffix}")
        again = models.load_model(tmp_path / f"a{suffix}")
        for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("module", [__name__, "__main__"])
def test_registered_classes_and_functions_are_known(module, tmp_path):
    for package in (keras, tf_keras):

        class Halved(package.layers.Layer):
            __module__ = module

            def call(self, x):
                return x / 2

        package.saving.register_keras_serializable("file_check")(Halved)

        @package.saving.register_keras_serializable("file_check")
        def cubed(x):
            return x**3

        layers = package.layers
        model = package.Sequential([package.Input((4,)), Halved(), layers.Activation(cubed)])
        for suffix in (".keras", ".h5", "")[: 2 if package is keras else 3]:
            path = tmp_path / f"{package.__name__}{suffix}"
            model.save(path)
            again = models.load_model(path)
            np.testing.assert_array_equal(again(np.full((1, 4), 4.0)), np.full((1, 4), 8.0))


# SavedModels

REFUSED = [
    "WriteFile", "ReadFile", "MatchingFiles", "PyFunc", "EagerPyFunc", "PyFuncStateless", "PrintV2",
    "TextLineDataset", "TFRecordDatasetV2", "WholeFileReaderV2", "DebugIdentity", "DebugIdentityV3",
    "DecodeProtoV2", "RemoteCall", "Send", "Recv", "CreateSummaryFileWriter", "XlaCallModule",
    "InitializeTableFromTextFileV2", "SaveV2", "RestoreV2", "LoadAndRemapMatrix", "MadeUpOperation",
]  # fmt: skip


def changed(source, target, change):
    shutil.copytree(source, target, dirs_exist_ok=True)
    file = target / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(model.meta_graphs[0])
    file.write_bytes(model.SerializeToString())
    return target


def in_function(graph, name):
    function = next(f for f in graph.graph_def.library.function if "serve" in f.signature.name)
    function.node_def.add(name="evil", op=name)


def in_graph(graph, name):
    graph.graph_def.node.add(name="evil", op=name)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("place", [in_function, in_graph])
def test_operations_that_act_outside_a_savedmodel(name, place, honest, tmp_path):
    path = changed(honest / "bare", tmp_path / "m", lambda graph: place(graph, name))
    with pytest.raises(InputError, match=f"its operation {name} .*trusted=True"):
        file_check.check_signature(path, "model")
    with file_check.trusting():
        file_check.check_signature(path, "model")


def test_restoring_may_not_save(honest, tmp_path):
    def change(graph):
        name = graph.saver_def.restore_op_name
        call = next(node for node in graph.graph_def.node if node.name == name)
        function = next(
            f
            for f in graph.graph_def.library.function
            if f.signature.name == call.attr["f"].func.name
        )
        assert {"RestoreV2"} <= {node.op for node in function.node_def}
        function.node_def.add(name="evil", op="SaveV2")

    path = changed(honest / "saved", tmp_path / "m", change)
    with pytest.raises(InputError, match="its operation SaveV2"):
        file_check.check_signature(path, "model")


def test_what_is_honest_in_a_savedmodel(honest):
    file_check.check_saved_model(honest / "bare")
    file_check.check_saved_model(honest / "saved")
    assert source_of(honest / "bare", [])([tf.ones((1, 4))], None)[0][0].numpy().max() == 2


class Writes(tf.Module):
    def __init__(self, mark, where):
        super().__init__()
        self.mark, self.where = str(mark), where

    def write(self):
        return tf.io.write_file(self.mark, "x")

    @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
    def serve(self, x):
        if self.where == "cond":
            x = tf.cond(tf.reduce_sum(x) > -1e9, lambda: self.written(x), lambda: x)
        elif self.where == "loop":
            x = tf.while_loop(lambda i, x: i < 1, lambda i, x: (i + 1, self.written(x)), (0, x))[1]
        else:
            x = self.written(x)
        return {"y": x}

    def written(self, x):
        with tf.control_dependencies([self.write()]):
            return tf.identity(x)


@pytest.mark.parametrize("where", ["signature", "cond", "loop"])
def test_a_savedmodel_that_writes_is_opened_by_trust_alone(where, tmp_path):
    mark = tmp_path / "mark"
    module = Writes(mark, where)
    tf.saved_model.save(module, tmp_path / "m", signatures=module.serve)
    student = dense(keras, units=4)
    with pytest.raises(InputError, match="its operation WriteFile"):
        tfkd.Distiller(student, tmp_path / "m", teacher_from_logits=True)
    with pytest.raises(InputError, match="its operation WriteFile"):
        tfkd.export.to_tflite(tmp_path / "m")
    assert not mark.exists()
    with models.trusting():
        source_of(tmp_path / "m", [])([tf.ones((1, 4))], None)
    assert mark.exists()


def test_an_initializer_that_reads_is_refused(tmp_path):
    (tmp_path / "words").write_text("a\nb\n")

    class Looks(tf.Module):
        def __init__(self):
            super().__init__()
            fill = tf.lookup.TextFileInitializer(
                str(tmp_path / "words"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )  # fmt: skip
            self.table = tf.lookup.StaticHashTable(fill, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
        def serve(self, x):
            return {"y": self.table.lookup(x)}

    module = Looks()
    tf.saved_model.save(module, tmp_path / "m", signatures=module.serve)
    with pytest.raises(InputError, match="InitializeTableFromTextFileV2"):
        file_check.check_signature(tmp_path / "m", "model")


def larger(graph):
    part = next(p for p in graph.object_graph_def.nodes if p.WhichOneof("kind") == "variable")
    part.variable.shape.dim[0].size = 1 << 34


def escaping(graph):
    graph.asset_file_def.add(filename="../../secret")


@pytest.mark.parametrize(("change", "reason"), [(larger, "declare"), (escaping, "outside")])
def test_sizes_and_places_of_a_savedmodel(change, reason, honest, tmp_path):
    path = changed(honest / "saved", tmp_path / "m", change)
    with pytest.raises(InputError, match=reason):
        models.load_model(path)


def test_a_savedmodel_of_two_files_is_refused(honest, tmp_path):
    for name in ("saved_model.pbtxt", "saved_model.cpb"):
        path = tmp_path / name
        shutil.copytree(honest / "bare", path)
        (path / name).write_bytes(b"")
        with pytest.raises(InputError, match="one saved_model.pb"):
            file_check.check_signature(path, "model")


METADATA = ["a Lambda layer", "a module as layer", "a command as activation", "code as activation"]


@pytest.mark.parametrize("attack", METADATA)
def test_an_attack_in_the_metadata_of_a_savedmodel(attack, honest, tmp_path, canary):
    from tf_keras.protobuf import saved_metadata_pb2

    path = tmp_path / "m"
    shutil.copytree(honest / "saved", path)
    file = path / "keras_metadata.pb"
    metadata = saved_metadata_pb2.SavedMetadata.FromString(file.read_bytes())
    root = next(node for node in metadata.nodes if node.node_path == "root")
    root.metadata = json.dumps(ATTACKS[attack][0](json.loads(root.metadata)))
    file.write_bytes(metadata.SerializeToString())
    told(path)
    told(path, trusted=True)  # which opens the graph's operations and no more
    assert not canary.exists()


def test_a_saved_distiller_names_no_teacher_to_read(tmp_path):
    distiller = tfkd.Distiller(dense(keras), dense(keras), teacher_from_logits=True)
    config = distiller.get_config() | {"teacher": str(tmp_path / "none"), "trusted": True}
    assert type(distiller).from_config(config).teacher is None


@pytest.mark.parametrize("more", [[], ["--trusted"]])
def test_the_command_line_says_it_in_one_line(more, honest, tmp_path, capsys):
    from tfkd.cli import parser

    path = changed(honest / "saved", tmp_path / "m", lambda graph: in_graph(graph, "WriteFile"))
    status = parser.main(["inspect", str(path), "--quiet", *more])
    errors = capsys.readouterr().err
    assert status == (0 if more else 2), errors
    assert more or ("its operation WriteFile" in errors and errors.count("\n") == 1)
