"""Every kind of project is built and run here, with declarations in place of its toolchain.

`TFKD_TFLM` names a checkout of TensorFlow Lite for Microcontrollers, and `TFKD_TFLM_LIBRARY` its
library, to build and run the golden examples on the real one.
"""

import configparser
import json
import os
import pathlib
import re
import shutil
import subprocess

import keras
import pytest
import yaml
import zoo
from firmware import STRICT, STUB, all_sources, golden_of, stub_data

from tfkd.errors import InputError, UnsupportedError
from tfkd.export import micro_bundle, to_tflite
from tfkd.export.micro import evaluation, project
from tfkd.export.micro.board_table import BOARDS, Board
from tfkd.export.tflite import tflm_kernels

TOOLCHAINS = pathlib.Path(__file__).parents[2] / "data/toolchains"
NETS = ("digits", "ds_cnn", "fused", "step")
#: A board for each kind that has names of boards.
BOARD = {"esp-idf": "esp32-s3-devkitc-1", "stm32": "nucleo-g474re", "cmake": None}
HOLDS = "The golden example holds."


def needs(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"there is no {', '.join(missing)} here")


def done(command, folder, **more):
    """Run a command that must succeed, and return what it says."""
    command = [str(word) for word in command]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    got = subprocess.run(command, cwd=folder, text=True, timeout=300, **streams, **more)
    assert got.returncode == 0, f"{command}\n{got.stdout}"
    return got.stdout


@pytest.fixture(scope="module")
def nets(files, digits):
    """Name → file and data: a CNN, a DS-CNN, a fused LSTM and one step of a GRU."""

    def made(name, **options):
        model = zoo.build(keras, name)
        x = zoo.inputs_for(model, 40)
        return to_tflite(model, "int8", x, **options), x

    return {
        "digits": (files["int8"], digits.test.x[:40]),
        "ds_cnn": made("ds_cnn"),
        "fused": made("lstm", recurrent="fused"),
        "step": made("gru", recurrent="step"),
    }


@pytest.fixture(scope="module")
def projects(nets, tmp_path_factory):
    """(kind, net) → bundle; each file is run on TFLM once."""
    folder, known, proven = tmp_path_factory.mktemp("projects"), {}, evaluation.evaluate_on_tflm
    options = {} if evaluation.is_installed() else {"arena_bytes": 20_000}

    def once(file, x, y):
        if file.digest not in known:
            known[file.digest] = proven(file, x, y)
        return known[file.digest]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate_on_tflm", once)
        return {
            (kind, name): micro_bundle(
                *(file, folder / kind / name, name),
                x=x,
                project=kind,
                board=BOARD.get(kind, "nano-33-ble-sense"),
                **options,
            )
            for kind in project.KINDS
            for name, (file, x) in nets.items()
        }


@pytest.fixture(scope="module")
def stand_in(nets, projects, tmp_path_factory):
    """Net → the sources of the interpreter that knows its golden example."""
    folder = tmp_path_factory.mktemp("stand_in")
    made = {}
    for name, (file, x) in nets.items():
        made[name] = folder / f"{name}.cc"
        made[name].write_text(stub_data(projects["cmake", name], file, x))
    return {name: [STUB / "stub.cc", path] for name, path in made.items()}


@pytest.fixture(scope="module")
def library(stand_in, tmp_path_factory):
    """Net → a library in the place of TFLM's."""
    if not shutil.which("g++") or not shutil.which("ar"):
        pytest.skip("there is no g++ here")
    folder = tmp_path_factory.mktemp("library")
    for name, sources in stand_in.items():
        work = folder / name
        work.mkdir()
        done(["g++", "-std=c++17", f"-I{STUB}", "-c", *sources], work)
        objects = sorted(work.glob("*.o"))
        done(["ar", "rcs", "libtensorflow-microlite.a", *objects], work)
    return {name: folder / name / "libtensorflow-microlite.a" for name in stand_in}


def texts(bundle) -> dict[str, str]:
    return {target: (bundle.folder / target).read_text() for target in bundle.files}


@pytest.mark.parametrize("kind", project.KINDS)
def test_the_folder_holds_what_the_readme_says(projects, kind):
    for name in NETS:
        bundle = projects[kind, name]
        written = {path for path in bundle.folder.rglob("*") if path.is_file()}
        assert {str(path.relative_to(bundle.folder)) for path in written} == set(bundle.files)
        readme = texts(bundle)["README.md"]
        assert all(f"`{target}`" in readme for target in bundle.files)
        assert "## Not tried" in readme and "has not run on a board" in " ".join(readme.split())
        assert bundle.project == kind == bundle.to_json()["project"]
        assert f"a project for {kind}" in " ".join(bundle.describe().split())
        for target, text in texts(bundle).items():
            assert "{{" not in text and "{%" not in text, target
            lines = [line for line in text.splitlines() if not line.startswith("| ")]
            assert max(map(len, lines)) <= 100, target


def test_what_esp_idf_reads(projects):
    files = texts(projects["esp-idf", "digits"])
    component = "components/digits_model"
    manifest = yaml.safe_load(files[f"{component}/idf_component.yml"])
    assert set(manifest) == {"version", "description", "dependencies"}
    assert manifest["dependencies"] == {"idf": ">=5.1", "espressif/esp-tflite-micro": "^1.3.1"}
    settings = dict(line.split("=") for line in files["sdkconfig.defaults"].splitlines())
    assert settings["CONFIG_IDF_TARGET"] == '"esp32s3"'
    assert settings["CONFIG_ESPTOOLPY_FLASHSIZE_8MB"] == "y"
    assert all(value == "y" or re.fullmatch(r'\d+|"\w+"', value) for value in settings.values())
    assert 'extern "C" void app_main(void)' in files["main/main.cc"]


def test_what_arduino_reads(projects):
    files = texts(projects["arduino", "digits"])
    lines = [line.partition("=") for line in files["library.properties"].splitlines()]
    properties = {key: value for key, _, value in lines}
    needed = "name version author maintainer sentence paragraph category url architectures"
    assert set(needed.split()) <= set(properties) and all(properties.values())
    assert re.fullmatch(r"[A-Za-z0-9][\w .-]{0,62}", properties["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", properties["version"])
    assert properties["category"] == "Data Processing"
    assert properties["depends"] == "Chirale_TensorFLowLite"
    assert f"src/{properties['includes']}" in files
    board = yaml.safe_load(files["examples/golden/sketch.yaml"])
    assert board == {"default_fqbn": "arduino:mbed_nano:nano33ble"}
    assert all(line.split("\t")[1] == "KEYWORD2" for line in files["keywords.txt"].splitlines())
    assert not [target for target in files if target.endswith(".cc")]


def test_what_platformio_reads(projects):
    files = texts(projects["platformio", "digits"])
    settings = configparser.ConfigParser()
    settings.read_string(files["platformio.ini"])
    assert settings.sections() == ["env:nano33ble"]
    values = dict(settings["env:nano33ble"])
    assert (values["platform"], values["board"]) == ("nordicnrf52", "nano33ble")
    assert values["framework"] == "arduino" and values["test_framework"] == "unity"
    assert values["lib_deps"] == "spaziochirale/Chirale_TensorFLowLite@^2.0.0"
    library = json.loads(files["lib/digits_model/library.json"])
    assert library["name"] == "digits_model" and re.fullmatch(r"\d+\.\d+\.\d+", library["version"])
    assert f"lib/digits_model/src/{library['headers']}" in files


def test_what_zephyr_reads(projects):
    files = texts(projects["zephyr", "digits"])
    module = yaml.safe_load(files["zephyr/module.yml"])
    assert module["build"]["kconfig"] in files and module["samples"] == ["samples"]
    assert f"{module['build']['cmake']}/CMakeLists.txt" in files
    sample = yaml.safe_load(files["samples/golden/sample.yaml"])
    assert set(sample) == {"sample", "common", "tests"}
    assert sample["common"]["harness_config"]["regex"] == [HOLDS.rstrip(".")]
    assert sample["common"]["modules"] == ["tflite-micro"]
    assert set(sample["tests"]) == {"sample.digits.golden", "sample.digits.golden.cmsis_nn"}
    of_board = sample["tests"]["sample.digits.golden"]["integration_platforms"]
    assert of_board == ["arduino_nano_33_ble/nrf52840/sense"]
    assert files["zephyr/Kconfig"].startswith("config DIGITS_MODEL\n\tbool ")
    assert "CONFIG_DIGITS_MODEL=y" in files["samples/golden/prj.conf"].splitlines()


@needs("g++", "make")
@pytest.mark.parametrize("name", NETS)
def test_make_golden(projects, library, tmp_path, name):
    folder = projects["cmake", name].folder
    given = [f"TFLM={STUB}", f"TFLM_LIBRARY={library[name]}", f"BUILD={tmp_path}"]
    told = done(["make", "golden", *given, f"FLAGS={' '.join(STRICT)}"], folder)
    assert HOLDS in told
    again = done(["make", "golden", *given], folder)
    assert "g++" not in again and HOLDS in again  # nothing is built twice


@needs("g++", "make", "cmake")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "TFLM='' is no checkout of TensorFlow Lite for Microcontrollers: give"),
        ({"TFLM": "/"}, "TFLM='/' is no checkout of TensorFlow Lite for Microcontrollers: give"),
        ({"TFLM": str(STUB)}, "There is no libtensorflow-microlite.a in"),
    ],
    ids=["none", "wrong", "no library"],
)
def test_a_missing_checkout_is_one_line(projects, tmp_path, given, said):
    folder = projects["cmake", "digits"].folder
    words = [f"{key}={value}" for key, value in given.items()]
    made = subprocess.run(["make", "golden", *words], cwd=folder, capture_output=True, text=True)
    assert made.returncode == 2 and said in made.stderr and made.stderr.count("\n") == 1
    assert not made.stdout and not (folder / "build").exists()
    command = ["cmake", "-B", tmp_path / "b", *(f"-D{word}" for word in words)]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert made.returncode == 1 and said in " ".join(made.stderr.split())


@needs("g++", "cmake")
@pytest.mark.parametrize("name", NETS)
def test_the_cmake_project(projects, library, tmp_path, name):
    folder = projects["cmake", name].folder
    given = [f"-DTFLM={STUB}", f"-DTFLM_LIBRARY={library[name]}"]
    done(["cmake", "-S", folder, "-B", tmp_path, *given], tmp_path)
    done(["cmake", "--build", tmp_path], tmp_path)
    assert "100% tests passed" in done(["ctest", "--test-dir", tmp_path], tmp_path)


@needs("g++", "cmake")
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", ["esp-idf", "zephyr"])
def test_a_component_and_a_module(projects, stand_in, tmp_path, kind, name):
    """With as much of ESP-IDF's and Zephyr's CMake as the files use."""
    folder = projects[kind, name].folder / {"zephyr": "samples/golden"}.get(kind, "")
    sources = ";".join(map(str, stand_in[name]))
    given = [f"-DTFLM={STUB}", f"-DTFLM_SOURCES={sources}"]
    place = {"esp-idf": "IDF_PATH", "zephyr": "ZEPHYR_BASE"}[kind]
    env = {**os.environ, place: str(TOOLCHAINS / kind)}
    done(["cmake", "-S", folder, "-B", tmp_path, *given], tmp_path, env=env)
    done(["cmake", "--build", tmp_path], tmp_path, env=env)
    program = tmp_path / {"esp-idf": "program", "zephyr": "app"}[kind]
    told = done([program], tmp_path, env={})
    assert HOLDS in told and re.search(r"\d+ bytes of arena, 3 ticks", told)


@needs("g++", "cmake")
@pytest.mark.parametrize("name", NETS)
def test_the_stm32_project(projects, library, tmp_path, name):
    """Laid over a project of the form that STM32CubeMX makes."""
    shutil.copytree(projects["stm32", name].folder, tmp_path / "app")
    (tmp_path / "app/CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nset(CMAKE_PROJECT_NAME app)\nproject(app C)\n"
        "add_executable(app Core/Src/main.c)\n"
        f"include(cmake/{name}_model.cmake)\n"
    )
    (tmp_path / "app/Core/Src/main.c").write_text(
        f"int {name}_example(void);\nint main(void) {{ return {name}_example(); }}\n"
    )
    build = ["cmake", "-S", "app", "-B", "build"]
    lacks = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert lacks.returncode == 1 and "give -DTFLM=FOLDER" in " ".join(lacks.stderr.split())
    given = [f"-DTFLM={STUB}", f"-DTFLM_LIBRARY={library[name]}"]
    done([*build, *given], tmp_path)
    done(["cmake", "--build", "build"], tmp_path)
    assert HOLDS in done(["build/app"], tmp_path, env={})


@needs("g++")
@pytest.mark.parametrize("name", NETS)
def test_a_sketch_and_its_test(projects, stand_in, tmp_path, name):
    """The .ino as the C++ that it is; PlatformIO's sketch and its Unity test, too."""
    arduino, platformio = (projects[kind, name].folder for kind in ("arduino", "platformio"))
    own = platformio / f"lib/{name}_model/src"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti"]
    flags += [f"-I{TOOLCHAINS / 'arduino'}", f"-I{STUB}"]
    main = [TOOLCHAINS / "arduino/main.cc", *stand_in[name]]
    examples = arduino / "examples/golden"
    ino = ["-c", "-include", "Arduino.h", "-x", "c++", examples / "golden.ino", "-o", "ino.o"]
    done(["g++", *flags, f"-I{arduino / 'src'}", *ino], tmp_path)
    builds = {
        "ino": [
            f"-I{arduino / 'src'}",
            "ino.o",
            *examples.glob("*.cpp"),
            *arduino.glob("src/*.cpp"),
        ],
        "pio": [f"-I{own}", *platformio.glob("src/*.cpp"), *own.glob("*.cpp")],
        "test": [f"-I{own}", platformio / "test/test_golden/test_golden.cpp", *own.glob("*.cpp")],
    }
    for what, words in builds.items():
        done(["g++", *flags, *words, *main, "-o", what], tmp_path)
    assert HOLDS in done(["./ino"], tmp_path, env={}) and HOLDS in done(["./pio"], tmp_path, env={})
    assert "0 where 0 was expected" in done(["./test"], tmp_path, env={})
    wrong = subprocess.run(["./test"], cwd=tmp_path, env={"STUB": "wrong"}, capture_output=True)
    assert wrong.returncode == 1 and b"8 where 0 was expected" in wrong.stdout


@pytest.mark.skipif("TFKD_TFLM" not in os.environ, reason="TFKD_TFLM names no checkout of TFLM")
@needs("g++", "make")
@pytest.mark.parametrize("name", NETS)
def test_the_golden_example_holds_on_the_real_runtime(projects, tmp_path, name):
    given = [f"TFLM={os.environ['TFKD_TFLM']}", f"BUILD={tmp_path}"]
    if "TFKD_TFLM_LIBRARY" in os.environ:
        given.append(f"TFLM_LIBRARY={os.environ['TFKD_TFLM_LIBRARY']}")
    assert HOLDS in done(["make", "golden", *given], projects["cmake", name].folder)


#: Core → what the compiler is told of it.
CORES = {
    "Cortex-M0+": "-mcpu=cortex-m0plus -mthumb",
    "Cortex-M4F": "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16",
    "Cortex-M7": "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16",
    "Cortex-M55": "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
}
CROSS = ("-Os", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-std=c++17")


@needs("arm-none-eabi-g++", "arm-none-eabi-size")
@pytest.mark.parametrize("core", CORES)
def test_it_compiles_for_the_core(nets, projects, tmp_path, core):
    for name, (file, _) in nets.items():
        src = projects["cmake", name].folder / "src"
        sources = [src / source for source in all_sources(name)[:-1]]
        done(
            ["arm-none-eabi-g++", *CROSS, f"-I{STUB}", *CORES[core].split(), "-c", *sources],
            tmp_path,
        )
        told = done(["arm-none-eabi-size", "-A", f"{name}_model.o", f"{name}_infer.o"], tmp_path)
        model, infer = (sections(text) for text in told.split(f"{name}_infer.o"))
        assert file.size <= model[".rodata"] <= file.size + 16  # the array and its length
        assert 0 < infer[".text"] < 2_500 and infer.get(".data", 0) == 0
        assert infer[".bss"] >= projects["cmake", name].arena_bytes


def sections(text) -> dict[str, int]:
    """Return the bytes of sections of each kind, of what `size -A` prints."""
    found = re.findall(r"^\.(text|rodata|data|bss)\S* +(\d+)", text, re.MULTILINE)
    return {
        f".{kind}": sum(int(size) for one, size in found if one == kind)
        for kind in {one for one, _ in found}
    }


#: Machine of QEMU → its core's flags and where 512 kB of RAM lie.
MACHINES = {
    "mps2-an385": ("-mcpu=cortex-m3 -mthumb", 0x20000000),
    "mps2-an386": (CORES["Cortex-M4F"], 0x20000000),
    "mps2-an500": (CORES["Cortex-M7"], 0x20000000),
    "mps3-an547": (CORES["Cortex-M55"], 0x01000000),
}
STARTUP = """
#include <cstdint>
#include "NAME_golden.h"
#include "NAME_infer.h"
extern "C" void _start();
extern "C" uint32_t stack_top;
extern "C" void Enter() {
  *reinterpret_cast<volatile uint32_t*>(0xE000ED88) |= 0xFu << 20;  // floating point, if any
  __asm volatile("dsb\\n isb\\n");
  _start();
}
extern "C" void Fault() { for (;;) {} }
// What printf allocates for a float: QEMU tells newlib of a heap elsewhere.
extern "C" void* __wrap__sbrk(int more) {
  alignas(8) static char heap[8192];
  static int used = 0;
  char* const start = heap + used;
  used += more;
  return start;
}
__attribute__((section(".vectors"), used)) const uintptr_t vectors[16] = {
    reinterpret_cast<uintptr_t>(&stack_top), reinterpret_cast<uintptr_t>(Enter),
    reinterpret_cast<uintptr_t>(Fault), reinterpret_cast<uintptr_t>(Fault)};
"""
LINKING = """
MEMORY {{ ROM : ORIGIN = 0, LENGTH = 512K
          RAM : ORIGIN = {ram}, LENGTH = 512K }}
ENTRY(Enter)
SECTIONS {{
  .text : {{ KEEP(*(.vectors)) *(.text*) KEEP(*(.init)) KEEP(*(.fini)) *(.rodata*)
    . = ALIGN(4); __init_array_start = .; KEEP(*(SORT(.init_array.*) .init_array))
    __init_array_end = .; }} > ROM
  .ARM.exidx : {{ __exidx_start = .; *(.ARM.exidx*) __exidx_end = .; }} > ROM
  .data : {{ *(.data*) }} > RAM
  .bss : {{ __bss_start__ = .; *(.bss*) *(COMMON) . = ALIGN(8); __bss_end__ = .;
    end = .; __end__ = .; }} > RAM
  stack_top = ORIGIN(RAM) + LENGTH(RAM) - 16;
}}
"""


@needs("arm-none-eabi-g++", "qemu-system-arm")
@pytest.mark.parametrize("machine", MACHINES)
def test_it_runs_on_an_emulated_core(nets, projects, stand_in, tmp_path, machine):
    """Our part: quantizing, the state, the comparison; the operators are the stand-in's."""
    flags, ram = MACHINES[machine]
    (tmp_path / "link.ld").write_text(LINKING.format(ram=hex(ram)))
    for name in NETS if machine == "mps2-an386" else ("digits", "step"):
        (file, x), bundle = nets[name], projects["cmake", name]
        (tmp_path / "startup.cc").write_text(STARTUP.replace("NAME", name))
        (tmp_path / "wrong.cc").write_text(with_another_answer(bundle, file, x))
        src = bundle.folder / "src"
        sources = [src / source for source in all_sources(name)[:-1]]
        command = [
            "arm-none-eabi-g++",
            *CROSS,
            f"-I{STUB}",
            *flags.split(),
            f"-I{src}",
            "--specs=rdimon.specs",
        ]
        command += ["-Wl,--wrap=_sbrk", "-Tlink.ld", "startup.cc", *sources]
        for answer in (stand_in[name][1], *([tmp_path / "wrong.cc"] if name == "step" else ())):
            done([*command, STUB / "stub.cc", answer, "-o", "program"], tmp_path)
            emulator = ["qemu-system-arm", "-M", machine, "-nographic", "-semihosting"]
            got = subprocess.run(
                [*emulator, "-kernel", "program"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
            )
            right = answer.name != "wrong.cc"
            assert (HOLDS in got.stdout) == right, (name, got.stdout, got.stderr)
            assert ("FAILED: the golden example has another answer" in got.stdout) != right


def with_another_answer(bundle, file, x) -> str:
    """Return the stand-in's data with an answer that is far from the golden one."""
    golden = golden_of(bundle, file, x)[1][0].reshape(-1).view("uint8")
    text = stub_data(bundle, file, x)
    head, begin, rest = text.partition("outputs0[] = {")
    first, _, others = rest.partition("}")
    numbers = first.split(", ")
    numbers[0] = str(int(golden[0]) ^ 0x40)
    return f"{head}{begin}{', '.join(numbers)}}}{others}"


def test_what_a_board_has_no_room_for_gets_no_project(nets, tmp_path):
    file, x = nets["digits"]
    small = Board("Nail", "chip", file.size - 1, 64, "all", "me", ids={"zephyr": "nail"})
    with pytest.raises(
        UnsupportedError, match=r"not fit Nail: flash has .*; ram has 64 bytes, but"
    ):
        micro_bundle(
            file, tmp_path / "p", "p", x=x, arena_bytes=20_000, project="zephyr", board=small
        )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"project": "mbed"}, "project must be one of cmake, esp-idf, .*, got 'mbed'"),
        ({"project": "platformio"}, "builds for one board: give board=, one of b-l475e-iot01a"),
        ({"project": "arduino", "board": "nrf52-dk"}, "no name for nRF52 DK in arduino; it has"),
        ({"project": "esp-idf", "board": "pico"}, "esp32-c3-devkitm-1, esp32-c6-devkitc-1"),
        ({"project": "stm32", "board": "teensy-4.1"}, "Teensy 4.1 has no STM32"),
        ({"board": "raspberry-pi-zero-2-w"}, "runs LiteRT, not TensorFlow Lite for Micro"),
        ({"board": "abacus"}, "No board is called 'abacus'"),
        ({"project": "arduino", "name": "n" * 58}, "has 58 characters, but Arduino accepts"),
    ],
    ids=str,
)
def test_bad_input_is_told(files, tmp_path, given, said):
    with pytest.raises(InputError, match=said):
        micro_bundle(files["int8"], tmp_path / "out", **{"name": "net", **given})
    assert not any(tmp_path.iterdir())


def test_kernels(nets, projects):
    readme = texts(projects["esp-idf", "step"])["README.md"]
    assert "ESP-NN has kernels for ADD, FULLY_CONNECTED, MUL. Portable ones run" in readme
    readme = " ".join(texts(projects["zephyr", "fused"])["README.md"].split())
    assert "kernels for FULLY_CONNECTED, UNIDIRECTIONAL_SEQUENCE_LSTM" in readme
    assert "CONFIG_TENSORFLOW_LITE_MICRO_CMSIS_NN_KERNELS=y" in readme
    for operators in project.OPTIMIZED.values():
        assert operators <= set(tflm_kernels.METHODS)


def test_the_command_line_has_the_same_kinds():
    from tfkd.cli import parser
    from tfkd.export.android import project as android

    assert (*project.KINDS, *android.KINDS) == parser.PROJECTS
    named = {kind for board in BOARDS.values() for kind in board.ids}
    assert named <= set(project.KINDS)
