"""The C++ of a bundle compiles, agrees with the file, and checks its golden answer."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import time

import keras
import numpy as np
import pytest
import zoo
from firmware import STRICT, STUB, all_sources, golden_of, run, stub_data

from tfkd.errors import ConversionError, InputError, MissingDependencyError, UnsupportedError
from tfkd.export import TFLiteModel, micro_bundle, to_tflite
from tfkd.export.micro import bundle as firmware
from tfkd.export.micro import evaluation
from tfkd.export.micro.bundle import c_comment, c_string
from tfkd.export.runtime import worker
from tfkd.export.tflite import schema, writer
from tfkd.export.tflite.metadata import checked_class_names, is_text, labels_of

CLASSES = {"digits": [f"digit {i}" for i in range(10)], "two_out": ["left", "right", "none"]}


@pytest.fixture(scope="module")
def compiler():
    found = next(filter(shutil.which, ("g++", "c++", "clang++")), None)
    if found is None:
        pytest.skip("there is no C++ compiler here")
    return found


@pytest.fixture(scope="module")
def build(compiler, tmp_path_factory):
    """Compile sources of a bundle and of the test into a program, strictly."""

    def call(folder, sources, texts=(), flags=STRICT):
        work = tmp_path_factory.mktemp("build")
        for i, text in enumerate(texts):
            (work / f"part{i}.cc").write_text(text)
        command = [compiler, *flags, f"-I{STUB}", f"-I{folder}", f"-I{work}"]
        command += [str(pathlib.Path(folder) / source) for source in sources]
        command += [str(work / f"part{i}.cc") for i in range(len(texts))]
        done = subprocess.run([*command, "-o", work / "program"], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return work / "program"

    return call


def one_stream():
    model = zoo.over_series(keras, lambda la, i: la.Dense(2)(la.LSTM(6)(i)))
    series = np.random.default_rng(0).normal(size=(40, 12, 5)).astype("float32")
    return to_tflite(model, "int8", series, recurrent="step"), series


def one_of_zoo(name, format="int8", **options):
    model = zoo.build(keras, name)
    x = zoo.inputs_for(model, 40)
    file = to_tflite(model, format, None if format == "float32" else x, **options)
    if not isinstance(x, list):
        return file, x
    return file, {tensor.name: values for tensor, values in zip(model.inputs, x, strict=True)}


@pytest.fixture(scope="module")
def subjects(files, digits):
    """Name → file and data to prove it on."""
    return {
        "digits": (files["int8"], digits.test.x),
        "reals": (files["float32"], digits.test.x[:50]),
        "two_in": one_of_zoo("multi_input"),
        "two_out": one_of_zoo("multi_output"),
        "words": one_of_zoo("text", recurrent="fused"),  # int32 in
        "stream": one_stream(),  # a step file with two states
    }


def bundle_of(file, folder, name, classes=None, preprocessing=None, **options):
    """Make a bundle, with an arena of its own where tflite-micro is not installed."""
    if not evaluation.is_installed():
        options = {"arena_bytes": 20_000, **options}
    return micro_bundle(file, folder, name, classes, preprocessing, **options)


@pytest.fixture(scope="module")
def bundles(subjects, digits, tmp_path_factory):
    made = {}
    for name, (file, x) in subjects.items():
        folder = tmp_path_factory.mktemp("bundles") / name
        y = digits.test.y if name == "digits" else None
        made[name] = bundle_of(file, folder, name, CLASSES.get(name), x=x, y=y)
    return made


PRINTER = """
#include <cstdio>
#include <cstring>
#include "NAME_config.h"
#include "NAME_golden.h"
#include "NAME_model.h"
namespace m = NAME_model;
template <typename T> void List(const char* key, const T* values, size_t count) {
  std::printf("\\"%s\\": [", key);
  for (size_t i = 0; i < count; ++i) {
    std::printf(i ? ", %.9g" : "%.9g", static_cast<double>(values[i]));
  }
  std::printf("],\\n");
}
template <typename T> void Number(const char* key, T value) { List(key, &value, 1); }
void Text(const char* key, const char* text) {
  List(key, reinterpret_cast<const unsigned char*>(text), std::strlen(text));
}
int main() {
  std::printf("{");
  List("bytes", g_NAME_model_data, g_NAME_model_data_size);
  Number("misaligned", reinterpret_cast<uintptr_t>(g_NAME_model_data) % 16);
  Text("sha256", m::kSha256);
  Number("arena", m::kTensorArenaSize);
  Number("keeps_state", m::kKeepsState);
  Number("inputs", m::kInputCount);
  Number("outputs", m::kOutputCount);
PARTS
  std::printf("\\"end\\": 0}\\n");
}
"""


def printer(bundle, file) -> str:
    """Return a program that prints everything in a bundle's config, golden example and model."""
    parts = []
    for kind, infos in (("Input", file.inputs), ("Output", file.outputs)):
        for i, info in enumerate(infos):
            key = f"{kind}{i}"
            parts.append(
                f'List("{key}Shape", m::k{key}Shape, sizeof(m::k{key}Shape) / sizeof(int));'
            )
            parts.append(f'Number("{key}Rank", m::k{key}Rank);')
            parts.append(f'Number("{key}ItemBytes", sizeof(m::{key}));')
            parts.append(f'List("{key}Golden", m::kGolden{key}, m::k{key}Size);')
            if info.scale is not None:
                parts.append(f'Number("{key}Scale", m::k{key}Scale);')
                parts.append(f'Number("{key}ZeroPoint", m::k{key}ZeroPoint);')
    if CLASSES.get(bundle.name):
        parts.append('Number("classes", m::kClassCount);')
        parts.append('Number("class_output", m::kClassOutput);')
        parts += [f'Text("class{i}", m::kClassNames[{i}]);' for i in range(3)]
    if file.states:
        parts += [
            f'Number("state{i}{what}", m::kStates[{i}].{what});'
            for i in range(len(file.states))
            for what in ("output", "input", "bytes")
        ]
        parts.append('Number("state_bytes", m::kStateBytes);')
    return PRINTER.replace("PARTS", "\n".join(parts)).replace("NAME", bundle.name)


NAMES = ["digits", "reals", "two_in", "two_out", "words", "stream"]


@pytest.mark.parametrize("name", NAMES)
def test_main_tells_a_right_answer_from_a_wrong_one(bundles, subjects, build, name):
    bundle, (file, x) = bundles[name], subjects[name]
    program = build(bundle.folder, all_sources(name), [stub_data(bundle, file, x)])
    right, near, wrong = (run(program, stub) for stub in ("", "near", "wrong"))
    off = re.search(r"\noutput (\d), number (\d+): got (\S+), wanted (\S+), tol", wrong.stdout)
    place, number, got, wanted = (float(part) for part in off.groups())
    golden = golden_of(bundle, file, x)[1][int(place)].reshape(-1)
    assert wanted == pytest.approx(golden[int(number)], abs=1e-5)
    assert not abs(got - wanted) <= 0.5  # NaN, of the floats
    assert f"{name}_golden.h" in wrong.stdout
    assert right.returncode == 0, right.stdout
    assert "The golden example holds." in right.stdout
    assert near.returncode == 0, near.stdout  # one step off, of integers
    assert wrong.returncode == 1 and "FAILED: the golden example has another" in wrong.stdout
    small = run(program, "small")
    assert small.returncode == 1 and "FAILED: the arena is too small" in small.stdout
    if name == "digits":
        best = golden_of(bundle, file, x)[1][0].argmax()
        assert f"class digit {best}," in right.stdout


def test_arena_and_tolerance_are_given_to_the_compiler(bundles, subjects, build):
    bundle, (file, x) = bundles["digits"], subjects["digits"]

    def built(*flags):
        texts = [stub_data(bundle, file, x)]
        return build(bundle.folder, all_sources("digits"), texts, (*STRICT, *flags))

    assert "the arena is too small" in run(built("-Ddigits_ARENA_BYTES=4096")).stdout
    same = run(built(f"-Ddigits_ARENA_BYTES={bundle.arena_bytes}"), "wrong")
    assert "tolerance 64" not in same.stdout and same.returncode == 1
    for tolerance, status in ((63, 1), (64, 0)):  # the stub is 64 steps off
        done = run(built(f"-Ddigits_GOLDEN_TOLERANCE0={tolerance}"), "wrong")
        assert done.returncode == status, done.stdout
    assert run(built("-Ddigits_GOLDEN_TOLERANCE0=0"), "near").returncode == 1


def test_the_tolerance_is_what_was_measured(files, digits, tmp_path, monkeypatch):
    """Kernels that were 12 steps apart on the data are no reason for the test to fail."""
    pytest.importorskip("tflite_micro")
    proven = evaluation.evaluate_on_tflm

    def far(file, x, y):
        return dataclasses.replace(proven(file, x, y), max_lsb=12, max_abs_diff=0.25, samples=30)

    monkeypatch.setattr(evaluation, "evaluate_on_tflm", far)
    for format, tolerance, said in (
        ("int8", "12.0  // LSB", "12 steps of the scale of an integer output. As much as"),
        (
            "float32",
            "0.25  // absolute",
            "the 30 examples compared is allowed, and at least 0.0001",
        ),
    ):
        folder = tmp_path / format
        micro_bundle(files[format], folder, "net", x=digits.test.x[:30])
        golden = (folder / "net_golden.h").read_text()
        assert f"#define net_GOLDEN_TOLERANCE0 {tolerance}" in golden
        for text in (golden.replace("\n//", ""), (folder / "README.md").read_text()):
            assert said in " ".join(text.split()), text
            assert "the first example of x" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_constants_are_the_file_s(bundles, subjects, build, name):
    bundle, (file, x) = bundles[name], subjects[name]
    sources = [f"{name}_model.cc", f"{name}_golden.cc"]
    told = json.loads(run(build(bundle.folder, sources, [printer(bundle, file)])).stdout)
    text = {key: bytes(told[key]).decode() for key in told if key in ("sha256", "class0")}
    assert bytes(told["bytes"]) == file.data and told["misaligned"] == [0]
    assert text["sha256"] == file.digest
    assert told["arena"] == [bundle.arena_bytes]
    assert told["keeps_state"] == [file.keeps_state]
    assert (told["inputs"], told["outputs"]) == ([len(file.inputs)], [len(file.outputs)])
    golden = golden_of(bundle, file, x)
    for kind, infos, arrays in (
        ("Input", file.inputs, golden[0]),
        ("Output", file.outputs, golden[1]),
    ):
        for i, (info, array) in enumerate(zip(infos, arrays, strict=True)):
            key = f"{kind}{i}"
            assert told[f"{key}Shape"] == list(info.shape)
            assert told[f"{key}Rank"] == [len(info.shape)]
            assert told[f"{key}ItemBytes"] == [np.dtype(info.dtype).itemsize]
            np.testing.assert_array_equal(
                np.array(told[f"{key}Golden"], info.dtype), array.reshape(-1)
            )
            if info.scale is not None:
                assert np.float32(told[f"{key}Scale"][0]) == np.float32(info.scale)
                assert told[f"{key}ZeroPoint"] == [info.zero_point]
    if name in CLASSES:
        assert told["classes"] == [len(CLASSES[name])]
        shown = [bytes(told[f"class{i}"]).decode() for i in range(3)]
        assert shown == CLASSES[name][:3]
        assert file.outputs[told["class_output"][0]].shape[-1] == len(CLASSES[name])
    inputs, outputs = ([info.name for info in infos] for infos in (file.inputs, file.outputs))
    for i, (source, target) in enumerate(file.states):
        assert told[f"state{i}output"] == [outputs.index(target)]
        assert told[f"state{i}input"] == [inputs.index(source)]
        size = file.inputs[inputs.index(source)].shape[-1]
        assert told[f"state{i}bytes"] == [size]
        assert told["state_bytes"] == [len(file.states) * size]
    assert ("state_bytes" in told) == (name == "stream")


def test_the_golden_answer_is_that_of_the_engine(bundles, subjects):
    for name in ("digits", "reals", "two_in"):
        bundle, (file, x) = bundles[name], subjects[name]
        first = {key: v[:1] for key, v in x.items()} if isinstance(x, dict) else x[:1]
        engine = "tflm" if bundle.proof is not None else "reference"
        want = file.predict(first, engine=engine)
        (answer,) = golden_of(bundle, file, x)[1]
        np.testing.assert_array_equal(file.outputs[0].dequantize(answer), want)


STEPS = """
#include <cstdio>
#include <cstring>
#include "stub.h"
#include "stream_infer.h"
#include "stream_golden.h"
namespace m = stream_model;
static m::Output0 out[16];  // more than any output has
int Step() { return stream_infer_quantized(INPUT, OUTPUT); }
bool Holds(const stub::Tensor* of, size_t m::State::*which) {
  auto* kept = static_cast<unsigned char*>(stream_state());
  for (const auto& state : m::kStates) {
    const size_t place = state.*which;
    if (std::memcmp(kept, of[place].bytes_of, state.bytes) != 0) return false;
    kept += state.bytes;
  }
  return true;
}
int main() {
  if (stream_reset() != stream_not_set_up) return 1;
  if (Step() != stream_not_set_up) return 2;
  if (stream_setup() != stream_ok || stream_setup() != stream_ok) return 3;
  if (!Holds(stub::inputs, &m::State::input)) return 4;  // all at their zero points
  if (Step() != stream_ok) return 5;
  if (!Holds(stub::outputs, &m::State::output)) return 6;
  // The next step gets the state of this one, which the stub does not take for the golden input.
  if (Step() != stream_call_failed) return 7;
  if (stream_reset() != stream_ok) return 8;
  if (!Holds(stub::inputs, &m::State::input)) return 9;
  if (Step() != stream_ok) return 10;
  return 0;
}
"""


def test_the_states_go_from_step_to_step(bundles, subjects, build):
    """The stub's outputs lie on its inputs: copied one by one, one state would spoil another."""
    bundle, (file, x) = bundles["stream"], subjects["stream"]
    assert len(file.states) == 2
    states = {name for pair in file.states for name in pair}
    (given,) = (i for i, info in enumerate(file.inputs) if info.name not in states)
    text = STEPS.replace("INPUT", f"m::kGoldenInput{given}").replace("OUTPUT", "out")
    program = build(bundle.folder, all_sources("stream")[1:], [stub_data(bundle, file, x), text])
    done = run(program)
    assert done.returncode == 0, done.stdout


def rounded(values, scale, zero_point, dtype):
    """Quantize in single precision, half away from zero, saturated."""
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.float32(values) / np.float32(scale)
        steps = np.sign(steps) * np.floor(np.abs(steps.astype(np.float64)) + 0.5) + zero_point
        steps = np.where(np.isnan(steps), limits.min, np.clip(steps, limits.min, limits.max))
    return steps.astype(dtype)


def test_quantizing_rounds_and_saturates_as_the_kernels_do(bundles, build):
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            np.arange(-70, 70) / 4,  # ties at a scale of a half
            [0.0, -0.0, 0.49999997, 1e9, -1e9, 3e38, -3e38, np.inf, -np.inf, np.nan],
            rng.normal(size=200) * 30,
        ]
    ).astype(np.float32)
    cases = [
        ("int8", 0.5, -3),
        ("int8", 0.043657858, 7),
        ("uint8", 0.25, 128),
        ("int16", 0.001, 0),
        ("int8", 1e-30, 0),
    ]
    listed = ", ".join(f"{v!s}f" if np.isfinite(v) else "0" for v in values)
    strange = {i: v for i, v in enumerate(values) if not np.isfinite(v)}
    names = {np.inf: "INFINITY", -np.inf: "-INFINITY"}
    calls = "".join(
        f"for (float v : values) {{ Print(m::Quantize<{dtype}_t>(v, {scale}f, {zero})); }} End();\n"
        for dtype, scale, zero in cases
    )
    program = build(
        bundles["reals"].folder,
        [],
        [
            "#include <cmath>\n#include <cstdio>\n"
            # As Arduino's cores have them.
            "#define min(a, b) ((a) < (b) ? (a) : (b))\n#define max(a, b) ((a) > (b) ? (a) : (b))\n"
            "#define round(x) ((x) >= 0 ? (long)((x) + 0.5) : (long)((x) - 0.5))\n"
            '#include "reals_tensors.h"\nnamespace m = reals_model;\n'
            'void Print(int value) { std::printf("%d ", value); }\n'
            'void End() { std::printf("\\n"); }\n'
            f"static float values[] = {{{listed}}};\nint main() {{\n"
            + "".join(f"values[{i}] = {names.get(v, 'NAN')};\n" for i, v in strange.items())
            + calls
            + 'std::printf("%.9g\\n", static_cast<double>(m::Dequantize<int8_t>(-128, 0.1f, 5)));}'
        ],
    )
    *lines, back = run(program).stdout.splitlines()
    for line, (dtype, scale, zero) in zip(lines, cases, strict=True):
        np.testing.assert_array_equal(
            list(map(int, line.split())), rounded(values, scale, zero, dtype), f"{dtype} {scale}"
        )
    assert np.float32(back) == np.float32(-133) * np.float32(0.1)


NASTY = [
    'say "hi"',
    "back\\",
    "*/ int x = 1; /*",
    "// not a comment",
    "what??/",
    "two\nlines\r\n\ttabbed",
    "é 漢字 🙂",
    "\u202eright to left\u2066",
    "%s%n{{ name }}",
    "\x01" + "7",
]


@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_no_text_gets_out_of_its_place(files, build, tmp_path, standard):
    """`-std=c++11` has trigraphs, too."""
    preprocessing = {f"note {i}": text for i, text in enumerate(NASTY)}
    preprocessing |= {"scale": 1 / 255, "mean": [0.5, -1e-7], "size": 32, "gray": np.True_}
    bundle = bundle_of(files["int8"], tmp_path / "out", "nasty", NASTY, preprocessing)
    shown = "".join(f'Text("{i}", m::kClassNames[{i}]);' for i in range(len(NASTY)))
    checks = (
        'static_assert(m::kPreprocessingSize == 32 && m::kPreprocessingGray, "");'
        'List("mean", m::kPreprocessingMean, 2); Number("scale", m::kPreprocessingScale);'
    )
    text = PRINTER.replace("PARTS", shown + checks).replace("NAME", "nasty")
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    sources = ["nasty_model.cc", "nasty_golden.cc"]
    told = json.loads(run(build(bundle.folder, sources, [text], flags)).stdout)
    assert [bytes(told[str(i)]).decode() for i in range(len(NASTY))] == NASTY
    np.testing.assert_array_equal(np.float32(told["mean"]), np.float32([0.5, -1e-7]))
    assert np.float32(told["scale"][0]) == np.float32(1 / 255)


def test_a_text_of_preprocessing_is_a_comment_in_two_files(files, build, tmp_path):
    bundle = bundle_of(files["int8"], tmp_path / "out", "net", None, "\n".join(NASTY))
    text = '#include "net_config.h"\nint main() { return net_model::kKeepsState; }'
    assert run(build(bundle.folder, [], [text])).returncode == 0
    for target in ("net_config.h", "README.md"):
        shown = (bundle.folder / target).read_text()
        assert 'say "hi"' in shown and "é 漢字" in shown and "\u202e" not in shown


@pytest.mark.parametrize("text", ["a\\", "a??/", "\u2028int x;", "x" * 300, "", "\x00\x1b"])
def test_comments_stay_comments(text):
    for line in c_comment(text).split("\n"):
        assert line.startswith("//") and line.isprintable()
        assert not line.endswith("\\") and "??" not in line


def test_strings_are_escaped():
    assert c_string('a"\\?\n7é') == '"a\\042\\134\\077\\0127\\303\\251"'


def test_two_bundles_go_into_one_program(bundles, subjects, build):
    made = [bundles["digits"], bundles["stream"]]
    parts = ("model", "ops", "config", "tensors", "golden", "infer")
    includes = [f'#include "{b.folder}/{b.name}_{part}.h"' for b in made for part in parts]
    sources = [b.folder / source for b in made for source in all_sources(b.name)[1:-1]]
    call = "digits_golden_test() == digits_ok && stream_golden_test() == stream_small_arena"
    texts = [
        stub_data(made[0], *subjects["digits"]),
        "\n".join(includes) + f"\nint main() {{ return {call} ? 0 : 1; }}",
    ]
    assert run(build(made[0].folder, [*sources, STUB / "stub.cc"], texts)).returncode == 0


CALLER = r"""
#include <stdio.h>
#include <string.h>
#include "digits_infer.h"
#include "digits_config.h"
static float in[digits_input0_count] = {INPUT};
static float out[digits_output0_count];
static uint32_t now = 7;
static uint32_t tick(void) { return now += 5; }
static void say(const char* message) { printf("%s\n", message); }
int main(void) {
  digits_set_log(say);
  if (digits_infer(in, out) != digits_not_set_up || digits_arena_used_bytes() != 0) return 1;
  if (digits_setup() != digits_ok) return 2;
  digits_set_clock(tick);
  if (digits_infer(in, out) != digits_ok || digits_last_ticks() != 5) return 3;
  for (int i = 0; i < digits_output0_count; ++i) printf("%.9g ", (double)out[i]);
  in[0] += 100;
  if (digits_infer(in, out) != digits_call_failed) return 4;  /* not the golden input */
  if (strcmp(digits_kClassNames[9], "digit 9") != 0 || digits_kClassCount != 10) return 6;
  if (digits_kInput0Size != digits_input0_count || digits_kInput0Shape[0] != 1) return 7;
  if (digits_kTensorArenaSize != digits_ARENA_BYTES || digits_kKeepsState) return 8;
  printf("%.9g %d ", (double)digits_kOutput0Scale, (int)digits_kOutput0ZeroPoint);
  return digits_state_bytes == 0 && digits_arena_used_bytes() > 0 ? 0 : 5;
}
"""


def test_c_runs_it_on_real_numbers(bundles, subjects, build, tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    bundle, (file, x) = bundles["digits"], subjects["digits"]
    (given,), (answer,) = golden_of(bundle, file, x)
    real = file.inputs[0].dequantize(given).reshape(-1)
    text = CALLER.replace("INPUT", ", ".join(f"{value!s}f" for value in real))
    (tmp_path / "caller.c").write_text(text)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    command = [compiler, *strict, f"-I{bundle.folder}", "-c", "caller.c", "-o", "caller.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    sources = [*all_sources("digits")[1:], tmp_path / "caller.o"]
    done = run(build(bundle.folder, sources, [stub_data(bundle, file, x)]))
    assert done.returncode == 0, done.stdout
    first, answers, error, scale = done.stdout.splitlines()
    assert first == "digits_setup() was not called, or failed"
    got = np.float32(answers.split("input ")[0].split())
    np.testing.assert_array_equal(got, file.outputs[0].dequantize(answer).reshape(-1))
    assert error == "an operator reported an error" and "is not the golden one" in answers
    scale, zero_point = scale.split()
    info = file.outputs[0]
    assert (np.float32(scale), int(zero_point)) == (np.float32(info.scale), info.zero_point)


def test_c_preprocesses_by_the_line_that_the_header_gives(files, build, tmp_path):
    """`infer` does not: the header says it, with the C that does."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    for preprocessing, want in (
        ({"mean": [2.0], "std": [4.0]}, [-0.5, -0.25, 0.0]),
        ({"mean": 1.0, "std": 0.5}, [-2.0, 0.0, 2.0]),
        ({"mean": [0.0, 1.0], "std": [1.0, 2.0]}, [0.0, 0.0, 2.0]),
    ):
        folder = tmp_path / str(len(want) * 10 + int(want[0] * -4))
        bundle_of(files["int8"], folder, "net", None, preprocessing)
        header = (folder / "net_infer.h").read_text()
        (line,) = re.findall(r"//   (x\[i\] = .*)\n// +(/ .*;)", header)
        assert "It does not preprocess" in header
        readme = " ".join((folder / "README.md").read_text().split())
        assert "`net_infer` does not do it" in readme and " ".join(line) in readme
        (folder / "caller.c").write_text(
            '#include <stdio.h>\n#include "net_config.h"\nint main(void) {\n'
            "  const unsigned char raw[] = {0, 1, 2}; float x[3];\n  for (int i = 0; i < 3; ++i) {"
            f'\n {" ".join(line)}\n printf("%g ", (double)x[i]);\n  }}\n  return 0;\n}}\n'
        )
        command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "caller.c", "-o", "caller"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert [float(one) for one in run(folder / "caller").stdout.split()] == want
    bundle_of(files["int8"], tmp_path / "none", "net")
    assert "preprocess: " not in (tmp_path / "none" / "net_infer.h").read_text()
    bundle_of(files["int8"], tmp_path / "other", "net", None, {"gain": 2.0})
    header = (tmp_path / "other" / "net_infer.h").read_text()
    assert "It does not preprocess" in header and "raw[i]" not in header


def test_the_folder_holds_what_the_readme_says(bundles, subjects):
    for name, bundle in bundles.items():
        written = {path.name: path.stat().st_size for path in bundle.folder.iterdir()}
        assert bundle.files == written
        assert {f"{name}_model.cc", f"{name}_ops.h", f"{name}_config.h", "main.cc"} <= set(written)
        readme = (bundle.folder / "README.md").read_text()
        assert all(f"`{target}`" in readme for target in written)
        assert f"{bundle.arena_bytes:,} bytes" in readme
        assert f"{subjects[name][0].size:,} bytes" in readme
        assert max(map(len, readme.splitlines())) <= 100
        for target in set(written) - {"README.md"}:
            text = (bundle.folder / target).read_text()
            assert max(map(len, text.splitlines())) <= 100, target
    for name, said in (("words", "resets the interpreter first"), ("stream", "`stream_reset`")):
        assert said in (bundles[name].folder / "README.md").read_text()
    assert "independent of the others" in (bundles["digits"].folder / "README.md").read_text()


def test_the_resolver_has_the_operators_and_no_others(bundles, subjects):
    for name, bundle in bundles.items():
        header = (bundle.folder / f"{name}_ops.h").read_text()
        assert f"MicroMutableOpResolver<{len(subjects[name][0].ops)}>" in header
        assert all(header.count(f"resolver.{call}()") == 1 for call in bundle.ops)
        assert header.count("resolver.Add") == len(bundle.ops)


def test_a_bundle_is_what_was_proven(bundles, digits):
    pytest.importorskip("tflite_micro")
    bundle = bundles["digits"]
    proof = bundle.proof
    assert bundle.arena_bytes == proof.arena_bytes + proof.margin_bytes
    assert proof.samples == len(digits.test.x) and proof.metrics["accuracy"] > 0.9
    readme = (bundle.folder / "README.md").read_text()
    assert f"accuracy: {proof.metrics['accuracy']:.4g}" in readme and proof.basis[:30] in readme
    tolerance = max(1, proof.max_lsb)
    golden = (bundle.folder / "digits_golden.h").read_text()
    assert f"#define digits_GOLDEN_TOLERANCE0 {tolerance}.0  // LSB" in golden
    assert f"the {proof.samples:,} examples compared" in " ".join(golden.split("\n// "))
    assert json.loads(json.dumps(bundle.to_json()))["proof"]["arena_bytes"] == proof.arena_bytes


def test_a_bundle_describes_itself(bundles):
    for bundle in bundles.values():
        said = bundle.describe()
        assert f"{bundle.arena_bytes:,} bytes" in said and "AddFullyConnected" in said
        assert max(map(len, said.splitlines())) <= 100
        told = json.loads(json.dumps(bundle.to_json()))
        assert told["files"] == bundle.files and told["ops"] == list(bundle.ops)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_without_the_runtime_an_arena_must_be_given(files, digits, tmp_path, monkeypatch):
    def refuses(*args):
        raise MissingDependencyError("tflite-micro is not here")

    monkeypatch.setattr(evaluation, "evaluate_on_tflm", refuses)
    monkeypatch.setattr(evaluation, "is_installed", lambda: False)
    with pytest.raises(MissingDependencyError, match="tflite-micro is not here"):
        micro_bundle(files["int8"], tmp_path / "none", "net")
    assert not (tmp_path / "none").exists()
    x = digits.test.x
    bundle = micro_bundle(files["int8"], tmp_path / "net", "net", x=x, arena_bytes=9000)
    assert bundle.proof is None and bundle.arena_bytes == 9000
    assert bundle.to_json()["proof"] is None and "not tested here" in bundle.describe()
    for target in ("README.md", "net_config.h", "net_golden.h"):
        assert "not tested" in " ".join((bundle.folder / target).read_text().split()), target
    assert "#define net_ARENA_BYTES 9000\n" in (bundle.folder / "net_config.h").read_text()
    golden = (bundle.folder / "net_golden.h").read_text()
    assert "#define net_GOLDEN_TOLERANCE0 8.0  // LSB" in golden
    assert "No other kernels were compared" in golden
    want = files["int8"].predict(x[:1], engine="reference")
    want = files["int8"].outputs[0].quantize(want).reshape(-1)
    golden = (bundle.folder / "net_golden.cc").read_text()
    assert ", ".join(map(str, want[:8])) in golden.split("kGoldenOutput0")[1]
    # Without data the example is drawn, and it is the same every time.
    for name in ("one", "two"):
        micro_bundle(files["int8"], tmp_path / name, "net", arena_bytes=9000)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_arena_below_the_host_s_is_the_chip_s_to_judge(files, tmp_path):
    pytest.importorskip("tflite_micro")
    file = files["int8"]
    least = evaluation.least_arena(file)
    with pytest.warns(
        UserWarning, match=f"is less than the {least:,} bytes that the file needs on"
    ):
        bundle = micro_bundle(file, tmp_path / "small", "net", arena_bytes=least - 16)
    assert bundle.arena_bytes == least - 16 and bundle.proof.arena_bytes == least
    for target in ("README.md", "net_config.h"):
        text = " ".join((bundle.folder / target).read_text().replace("\n//", "").split())
        assert f"fewer than the {least:,} that the host needs" in text, target
    bundle = micro_bundle(file, tmp_path / "net", "net", arena_bytes=least)
    assert bundle.arena_bytes == least and bundle.proof.arena_bytes == least
    assert "nothing was compared" in bundle.describe()


def test_a_path_is_as_good_as_a_file(files, tmp_path):
    path = files["int8"].save(tmp_path / "student.tflite")
    bundle_of(path, tmp_path / "one", "net")
    bundle_of(files["int8"], str(tmp_path / "two"), "net")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "my-net"}, "try 'my_net'"),
        ({"name": "3d"}, "try 'model_3d'"),
        ({"name": "Größe 2"}, "try 'Gro_e_2'|try 'Gro_sse_2'|try 'Groe_2'"),
        ({"name": "_net"}, "try 'net'"),
        ({"name": "a__b"}, "try 'a_b'"),
        ({"name": "class"}, "is a C\\+\\+ keyword; try 'class_net'"),
        ({"name": ""}, "try 'model'"),
        ({"name": "net\n"}, "try 'net'"),
        ({"name": "漢"}, "try 'model'"),
        ({"name": None}, "must be a C identifier, got NoneType"),
        ({"class_names": ["a", "b"]}, "the output 'logits' gives 10 values, got 2 class names"),
        ({"class_names": ["a"] * 10}, "has \\['a'\\] more than once"),
        ({"class_names": list(range(10))}, "must be strings, got \\[0, 1, 2\\]"),
        ({"class_names": "abcdefghij"}, "must be a list of strings"),
        ({"class_names": [*"abcdefghi", "\0"]}, "must be text that a C string can hold"),
        ({"class_names": [*"abcdefghi", "\ud800"]}, "must be text that a C string can hold"),
        ({"preprocessing": 3}, "must be text or a dict, got int"),
        ({"preprocessing": {"a b": 1}}, "'a b', which can't become a C identifier"),
        ({"preprocessing": {"mean": "x", "std": [[1, 2]]}}, "'std'\\] must be a number, a list"),
        ({"preprocessing": {"mean": []}}, "'mean'\\] must be a number"),
        ({"preprocessing": {"mean": [[1], [2, 3]]}}, "'mean'\\] must be a number"),
        ({"preprocessing": {"mean": float("nan")}}, "neither float nor int32_t can hold"),
        ({"preprocessing": {"mean": 1e39}}, "neither float nor int32_t can hold"),
        ({"preprocessing": {"size": 2**31}}, "neither float nor int32_t can hold"),
        ({"preprocessing": {"a_b": 1, "aB": 2}}, "both become kPreprocessingAB"),
        ({"arena_bytes": 0}, "arena_bytes must be a whole number of at least 1, got 0"),
        ({"arena_bytes": 1.5}, "arena_bytes must be"),
        ({"name": "my net", "arena_bytes": -1}, "try 'my_net'; arena_bytes must"),
    ],
    ids=str,
)
def test_bad_input_is_told(files, tmp_path, given, said):
    with pytest.raises(InputError, match=said):
        micro_bundle(files["int8"], tmp_path / "out", **{"name": "net", **given})
    assert not any(tmp_path.iterdir())


def test_a_keras_model_is_sent_to_the_converter(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(InputError, match=r"call to_tflite\(model, 'int8', data, micro=True\)"):
        micro_bundle(model, tmp_path / "out", "net")
    with pytest.raises(InputError, match="TFLiteModel or the path of a .tflite file, got bytes"):
        micro_bundle(b"TFL3", tmp_path / "out", "net")
    with pytest.raises(InputError, match="Cannot read"):
        micro_bundle(tmp_path / "none.tflite", tmp_path / "out", "net")


def test_what_the_runtime_lacks_is_refused(files, tmp_path):
    with pytest.raises(UnsupportedError, match="convert to 'int8'"):
        micro_bundle(files["float16"], tmp_path / "out", "net", arena_bytes=9000)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "uint4"}, "has the dtype uint4, which C\\+\\+ lacks"),
        ({"shape": (1, 0, 8)}, "\\[1, 0, 8\\], has no values"),
    ],
    ids=["uint4", "empty"],
)
def test_tensors_that_cpp_has_no_array_for(files, tmp_path, monkeypatch, change, said):
    file = TFLiteModel(files["int8"].data)
    info = dataclasses.replace(file.inputs[0], **change)
    monkeypatch.setitem(file.__dict__, "inputs", (info,))
    with pytest.raises(UnsupportedError, match=f"the input 'pixels'.* {said}"):
        micro_bundle(file, tmp_path / "out", "net", arena_bytes=9000)
    assert not any(tmp_path.iterdir())


def test_variables_are_refused(files, tmp_path, monkeypatch):
    file = TFLiteModel(files["int8"].data)
    monkeypatch.setitem(file.__dict__, "ops", {"VAR_HANDLE": 1, "CALL_ONCE": 1})
    with pytest.raises(UnsupportedError, match="recurrent='step'"):
        micro_bundle(file, tmp_path / "out", "net", arena_bytes=9000)


def test_an_answer_that_is_no_number_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "is_installed", lambda: False)
    real = firmware.golden_example

    def spoiled(file, x):
        call, answers = real(file, x)
        answers[0][0, 3] = np.nan
        return call, answers

    monkeypatch.setattr(firmware, "golden_example", spoiled)
    with pytest.raises(ConversionError, match="NaN or infinite"):
        micro_bundle(files["float32"], tmp_path / "out", "net", arena_bytes=9000)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [InputError("No space left."), KeyboardInterrupt()], ids=repr)
def test_a_failure_in_the_middle_leaves_nothing(files, tmp_path, monkeypatch, failure):
    real, written = firmware.write_atomically, []

    def fails(path, data):
        if len(written) == 4:
            raise failure
        written.append(real(path, data))

    monkeypatch.setattr(firmware, "write_atomically", fails)
    with pytest.raises(type(failure)):
        bundle_of(files["int8"], tmp_path / "deep" / "out", "net")
    assert len(written) == 4 and not any(tmp_path.iterdir())


def test_a_folder_in_use_stays_as_it_is(files, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        bundle_of(files["int8"], tmp_path, "net")
    assert contents(tmp_path) == {"mine.txt": b"mine"}
    with pytest.raises(InputError, match="is a file"):
        bundle_of(files["int8"], tmp_path / "mine.txt", "net", force=True)
    (tmp_path / "main.cc").write_text("old")
    bundle = bundle_of(files["int8"], tmp_path, "net", force=True)
    assert set(contents(tmp_path)) == {"mine.txt", *bundle.files}
    assert (tmp_path / "main.cc").read_text().startswith("// Runs net once")


def test_a_name_too_long_for_the_disk_is_told(files, tmp_path):
    with pytest.raises(InputError, match="Cannot write .*name too long"):
        bundle_of(files["int8"], tmp_path / "out", "n" * 300)
    assert not any(tmp_path.iterdir())


def test_a_crash_on_the_file_is_told_and_leaves_nothing(files, tmp_path, monkeypatch):
    def dies(*args):
        worker.shared().call(worker.os.abort)

    monkeypatch.setattr(evaluation, "evaluate_on_tflm", dies)
    monkeypatch.setattr(evaluation, "is_installed", lambda: True)
    with pytest.raises(Exception, match="SIGABRT"):
        micro_bundle(files["int8"], tmp_path / "out", "net")
    assert not any(tmp_path.iterdir())


def test_the_class_names_of_a_data_set(files, digits, tmp_path):
    bundle = bundle_of(files["int8"], tmp_path / "net", "net", x=digits)
    text = (tmp_path / "net/net_config.h").read_text()
    assert "kClassNames" in text and '"9"' in text
    if bundle.proof is not None:
        assert bundle.proof.samples == 360 and bundle.proof.metrics["accuracy"] > 0.9


def test_two_outputs_have_class_names_of_their_own(build, tmp_path, rng):
    x = keras.Input((4,))
    heads = [keras.layers.Dense(3, name=name)(x) for name in ("zeta", "alpha")]
    file = to_tflite(keras.Model(x, heads))
    names = {"alpha": ["a", "b", "c"], "zeta": ["x", "y", "z"]}
    with pytest.raises(InputError, match=r"2 outputs \(zeta, alpha\): give class_names as a dict"):
        micro_bundle(file, tmp_path / "net", "net", ["a", "b", "c"])
    with pytest.raises(InputError, match="the output 'alpha' gives 3 values"):
        micro_bundle(file, tmp_path / "net", "net", {"alpha": ["a"]})
    bundle = bundle_of(file, tmp_path / "net", "net", names, x=rng.normal(size=(8, 4)))
    shown = "".join(
        f'Text("{i}{j}", m::kClassNames{i}[{j}]); Number("at{i}", m::kClassOutput{i});'
        for i in range(2)
        for j in range(3)
    )
    text = PRINTER.replace("PARTS", shown).replace("NAME", "net")
    told = json.loads(run(build(bundle.folder, ["net_model.cc", "net_golden.cc"], [text])).stdout)
    assert [bytes(told[f"{i}{j}"]).decode() for i in range(2) for j in range(3)] == [*"xyzabc"]
    assert (told["at0"], told["at1"]) == ([0], [1])
    main = (tmp_path / "net/main.cc").read_text()
    assert "m::kClassNames0[best]" in main and "m::kClassNames1[best]" in main


def test_class_names_are_checked_in_linear_time(rng):
    x = keras.Input((1,))
    file = to_tflite(keras.Model(x, keras.layers.Dense(32_000)(x)))
    names = [f"word{i}" for i in range(32_000)]
    start = time.perf_counter()
    assert labels_of(file, names) and checked_class_names(file, names, is_text, "text")
    assert time.perf_counter() - start < 2.0


def test_a_file_for_an_npu(files, digits, tmp_path):
    model = schema.parse(files["int8"].data)
    code = model.operatorCodes[schema.op_names(model).index("FULLY_CONNECTED")]
    code.builtinCode, code.deprecatedBuiltinCode = 32, 32  # CUSTOM
    code.customCode = b"ethos-u"
    file = TFLiteModel(writer.pack(model))
    with pytest.raises(InputError, match="Ethos-U, which only the chip runs: give arena_bytes"):
        micro_bundle(file, tmp_path / "net", "net")
    bundle = micro_bundle(file, tmp_path / "net", "net", x=digits, arena_bytes=9000)
    assert bundle.proof is None and "AddEthosU" in bundle.ops
    assert "only the chip runs" in bundle.describe()
    texts = {path.name: path.read_text() for path in (tmp_path / "net").iterdir()}
    assert "kGoldenInput0" in texts["net_golden.cc"] and "kGoldenOutput" not in "".join(
        texts.values()
    )
    assert "its answer was not checked" in texts["main.cc"]
