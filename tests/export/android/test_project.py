"""The app's Kotlin is compiled, and its test is run, with declarations in the place of Android.

`TFKD_NODE_MODULES` names a folder with what `tests/data/npm/package.json` asks for, of which this
takes the Kotlin compiler.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import keras
import numpy as np
import pytest

from tfkd.errors import InputError
from tfkd.export import android_bundle, to_tflite
from tfkd.export.android import bundle as android
from tfkd.export.android import project
from tfkd.export.tflite.golden import golden_example
from tfkd.export.tflite.metadata import data_outputs

STUB = pathlib.Path(__file__).parents[2] / "data/android_stub"
KOTLIN = pathlib.Path(os.environ.get("TFKD_NODE_MODULES", "none")) / "kotlin-compiler/lib"
NETS = ("digits", "fused", "step", "several", "places")
needs_kotlin = pytest.mark.skipif(
    not KOTLIN.is_dir() or shutil.which("java") is None,
    reason="TFKD_NODE_MODULES names no folder with kotlin-compiler, or there is no java",
)
RAW = {"mean": [8.0], "std": [4.0]}


@pytest.fixture(scope="module")
def apps(files, digits, fused, step, several, places, tmp_path_factory):
    """Name → bundle: an int8 CNN with its float16 twin, variables, states, tensors, steps."""
    folder = tmp_path_factory.mktemp("apps")
    made = {
        "digits": (files["int8"], {"others": {"float16": files["float16"]}, "x": digits}),
        "fused": (fused, {"class_names": ["a", "b", "c"]}),
        "step": (step, {}),
        "several": (several, {"class_names": {"kind": ["a", "b", "$c"]}}),
        "places": (places, {"class_names": ["rest", "walk", "run"]}),
    }
    made["digits"][1]["preprocessing"] = RAW
    return {
        name: android_bundle(file, folder / name, name, project="gradle", **options)
        for name, (file, options) in made.items()
    }


def test_the_readme_calls_a_class_that_is_there(tmp_path):
    """The float16 twin of uint8 pixels has no CompiledModel, so neither has the app."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), dtype="uint8", name="image")
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, layers.Dense(3)(x))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), "uint8")
    file = to_tflite(model, "int8", pixels)
    twin = {"float16": to_tflite(model, "float16")}
    bundle = android_bundle(file, tmp_path / "a", "tones", project="gradle", others=twin)
    readme = (bundle.folder / "README.md").read_text()
    called = re.findall(r"val network = (\w+)\(", readme)
    assert called == ["TonesInterpreter"] and source(bundle, "TonesInterpreter.kt")
    said = " ".join(readme.split())
    assert "CompiledModel, and with it the NPU, is not in this app. `tones_float16.tflite`" in said
    assert "`tones_float16.tflite` has uint8 tensors" in said and "make it float32" in said


def source(bundle, name):
    (path,) = bundle.folder.glob(f"app/src/*/kotlin/**/{name}")
    return path.read_text()


@pytest.mark.parametrize("name", NETS)
def test_the_folder_is_a_gradle_project(apps, name):
    bundle = apps[name]
    written = {path for path in bundle.folder.rglob("*") if path.is_file()}
    assert {path.relative_to(bundle.folder).as_posix() for path in written} == set(bundle.files)
    assert bundle.project == "gradle" == bundle.to_json()["project"]
    assert "a project for gradle" in " ".join(bundle.describe().split())
    for path in written - {one for one in written if one.suffix in (".tflite", ".json", ".md")}:
        text = path.read_text()
        assert "{{" not in text and "{%" not in text and "None" not in text, path
        assert max(map(len, text.splitlines())) <= 100, path
    package = f"com.example.{name}_app"
    for path in bundle.folder.rglob("*.kt"):
        assert path.read_text().startswith(f"package {package}\n")
        assert path.parent.as_posix().endswith(f"/kotlin/com/example/{name}_app")
    build = (bundle.folder / "app/build.gradle.kts").read_text()
    assert f'namespace = "{package}"' in build and 'noCompress += "tflite"' in build
    kind = "interpreter" if name == "fused" else "compiled_model"
    lines = android.GRADLE[kind][: 1 if name == "fused" else None]
    assert tuple(re.findall(r'    implementation\("(.*)"\)', build)) == lines
    manifest = xml.etree.ElementTree.parse(bundle.folder / "app/src/main/AndroidManifest.xml")
    (activity,) = manifest.iter("activity")
    assert ".MainActivity" in activity.attrib.values()
    readme = " ".join((bundle.folder / "README.md").read_text().split())
    assert "### Not tried Gradle did not build this project" in readme
    assert f"Android plugin {project.VERSIONS['plugin']}" in readme and "Then, off" not in readme


def test_the_app_has_one_interface_and_all_files(apps, files, digits, tmp_path):
    folder = apps["digits"].folder
    assert {path.name for path in (folder / project.ASSETS).iterdir()} == {
        *("digits.tflite", "digits_float16.tflite", "labels.txt", "golden.json")
    }
    assert [model.kotlin for model in apps["digits"].models] == [
        ("DigitsClassifier.kt",),
        ("DigitsFloat16Classifier.kt",),
    ]
    activity = source(apps["digits"], "MainActivity.kt")
    assert 'listOf("CPU", "GPU", "NPU")' in activity
    assert "const val BLACK = 8.0f\n" in activity and "const val WHITE = 12.0f\n" in activity
    assert 'listOf("CPU")' in source(apps["fused"], "MainActivity.kt")
    assert "chooseImage" not in source(apps["step"], "MainActivity.kt")
    golden = json.loads((folder / project.GOLDEN).read_text())
    image = files["int8"].inputs[0]
    raw = np.float32(golden["inputs"][0]).reshape(image.shape)
    np.testing.assert_array_equal(image.quantize((raw - 8) / 4), image.quantize(digits.test.x[:1]))
    np.testing.assert_array_equal(
        np.float32(golden["outputs"]), files["int8"].predict(digits.test.x[:1], engine="xnnpack")
    )
    np.save(tmp_path / "x.npy", digits.test.x[:1] * 4 + 8)
    done = subprocess.run(
        [sys.executable, folder / "run.py", tmp_path / "x.npy"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "label" in done.stdout, done.stderr


@pytest.fixture(scope="module")
def compiled(apps, tmp_path_factory):
    """All apps as one archive of Java classes, without a warning."""
    jar = tmp_path_factory.mktemp("jar") / "apps.jar"
    sources = [*STUB.glob("*.kt"), STUB / "declared"]
    sources += [path for bundle in apps.values() for path in bundle.folder.rglob("*.kt")]
    compiler = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{KOTLIN}/*"]
    compiler += ["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-reflect", "-no-stdlib"]
    options = ["-Werror", "-cp", KOTLIN / "kotlin-stdlib.jar", "-d", jar]
    done = subprocess.run([*compiler, *options, *sources], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return jar


def golden_lines(file, x):
    """What the stand-in for LiteRT takes and gives: the tensors of the golden example."""
    for which, infos, arrays in zip(
        ("in", "out"), (file.inputs, file.outputs), golden_example(file, x, "xnnpack"), strict=True
    ):
        for info, array in zip(infos, arrays, strict=True):
            yield " ".join([which, info.name, *map(str, array.reshape(-1).tolist())])


def given_out(file) -> str:
    """Return the name of an output that is no state."""
    return next(info.name for info in data_outputs(file))


@needs_kotlin
@pytest.mark.parametrize("name", NETS)
def test_the_golden_example_holds_in_kotlin(apps, compiled, name, request, tmp_path):
    """The app's test, on a LiteRT that checks the tensors that the Kotlin makes of raw numbers."""
    file = request.getfixturevalue("files")["int8"] if name == "digits" else None
    file = file or request.getfixturevalue(name)
    x = request.getfixturevalue("digits").test.x if name == "digits" else None
    shutil.copytree(apps[name].folder / project.ASSETS, tmp_path / "assets")
    lines = list(golden_lines(file, x))
    answer = next(i for i, line in enumerate(lines) if line.startswith(f"out {given_out(file)} "))
    *most, last = lines[answer].split()
    wrong = [*lines[:answer], " ".join([*most, str(float(last) + 5)]), *lines[answer + 1 :]]
    for wanted, holds in ((lines, True), (wrong, False)):
        (tmp_path / f"assets/{name}.tflite.golden").write_text("\n".join(wanted))
        flags = [f"-Dassets={tmp_path / 'assets'}", f"-Dasset={name}.tflite"]
        flags += [f"-Dkeeps_state={str(file.keeps_state).lower()}"]
        classes = f"{compiled}:{KOTLIN / 'kotlin-stdlib.jar'}"
        main = ["MainKt", f"com.example.{name}_app.GoldenExampleTest"]
        done = subprocess.run(
            ["java", *flags, "-cp", classes, *main], capture_output=True, text=True
        )
        assert (done.returncode == 0) == holds, done.stderr
        assert ("The golden example holds." in done.stdout) == holds
        assert holds or "not " in done.stderr


def test_bad_input_is_told(files, tmp_path):
    with pytest.raises(InputError, match="project must be gradle for an Android bundle, got 'ios'"):
        android_bundle(files["int8"], tmp_path / "out", "net", project="ios")
    with pytest.raises(InputError, match="try 'my_model'"):
        android_bundle(files["int8"], tmp_path / "out", "my-model", project="gradle")
    assert not any(tmp_path.iterdir())
