"""Sizes, boards and verdicts by hand; Vela's output is read literally."""

import sys

import keras
import numpy as np
import pytest

from tfkd.errors import (
    ConversionError,
    InputError,
    MissingDependencyError,
    UnsupportedError,
    WorkerError,
)
from tfkd.export import to_tflite
from tfkd.export.micro import vela
from tfkd.export.micro.boards import BOARDS, Board, fits, parse_size

SIZES = {
    "262144": 262_144,
    "256k": 262_144,
    "256K": 262_144,
    "256 KB": 262_144,
    "256KiB": 262_144,
    "1M": 1_048_576,
    "1mib": 1_048_576,
    " 1.5 MB ": 1_572_864,
    "0.5k": 512,
    "100b": 100,
    "0": 0,
}


@pytest.mark.parametrize("text", SIZES)
def test_sizes(text):
    assert parse_size(text) == SIZES[text]


def test_sizes_as_numbers():
    assert parse_size(4096) == parse_size(np.int64(4096)) == 4096


@pytest.mark.parametrize(
    "wrong", ["", "k", "256q", "-1", "1,024", "1e6", "256 k k", "1G", -1, 1.5, True, None, [1]]
)
def test_wrong_sizes(wrong):
    with pytest.raises(InputError, match="whole number of bytes or text such as '256k'"):
        parse_size(wrong)


def told(verdicts):
    return [(v.resource, v.fits, v.needed_bytes, v.available_bytes) for v in verdicts]


def test_verdicts():
    assert told(fits(98_496, 58_000, flash="1M", ram="48k")) == [
        ("flash", True, 98_496, 1_048_576),
        ("ram", False, 58_000, 49_152),
    ]
    assert told(fits(10, 20, ram=20)) == [("ram", True, 20, 20)]
    assert told(fits(10, 21, ram=20)) == [("ram", False, 21, 20)]
    assert told(fits(11, 0, flash=10)) == [("flash", False, 11, 10)]
    said = [verdict.describe() for verdict in fits(10, 20, flash=2_000, ram=20)]
    assert said[0].endswith("10 of 2,000 bytes (1,990 left for the runtime and everything else)")
    assert said[1] == "ram: fits, 20 of 20 bytes (0 left for everything else)"
    (verdict,) = fits(10, 32, ram=20)
    assert verdict.free_bytes == -12
    assert verdict.describe() == "ram: DOES NOT FIT, 32 of 20 bytes (12 too many)"


def test_what_else_the_firmware_needs():
    assert told(fits(100, 50, flash=200, ram=100, reserve=60)) == [
        ("flash", True, 160, 200),
        ("ram", False, 110, 100),
    ]
    both = fits(1024, 1024, flash="3k", ram="3k", reserve=("2k", "2049"))
    assert [v.fits for v in both] == [True, False]


def test_boards_by_name():
    assert told(fits(98_496, 58_000, board="nano-33-ble-sense")) == [
        ("flash", True, 98_496, 1_048_576),
        ("ram", True, 58_000, 262_144),
    ]
    # 128 kB of RAM in all, but 96 kB at most in one piece.
    assert [v.fits for v in fits(1, 98_304, board="B-L475E-IOT01A")] == [True, True]
    assert [v.fits for v in fits(1, 98_305, board="B-L475E-IOT01A")] == [True, False]
    assert told(fits(1, 2, board="pico", ram="8k"))[1] == ("ram", True, 2, 8192)
    mine = Board("mine", "chip", 100, 10, "all", "me")
    assert str(mine).splitlines()[0] == "mine: chip" and str(mine).endswith("source: me")
    assert [v.fits for v in fits(100, 11, board=mine)] == [True, False]


def test_the_table():
    # Flash and RAM of the makers' datasheets: a typing error here has to be made twice.
    sizes = {
        name: (b.flash_bytes // 1024, b.ram_bytes // 1024)
        for name, b in BOARDS.items()
        if b.runs_tflm
    }
    assert sizes == {
        "b-l475e-iot01a": (1024, 96),
        "b-u585i-iot02a": (2048, 768),
        "ensemble-e8-dk": (5632, 8192),
        "esp32-c3-devkitm-1": (4096, 320),
        "esp32-c6-devkitc-1": (8192, 441),
        "esp32-devkitc": (4096, 160),
        "esp32-s2-saola-1": (4096, 160),
        "esp32-s3-devkitc-1": (8192, 333),
        "microbit-v2": (512, 128),
        "nano-33-ble-sense": (1024, 256),
        "nano-rp2040-connect": (16384, 264),
        "nrf52-dk": (512, 64),
        "nrf52840-dk": (1024, 256),
        "nrf5340-dk": (1024, 512),
        "nucleo-f401re": (512, 96),
        "nucleo-f446re": (512, 128),
        "nucleo-g071rb": (128, 36),
        "nucleo-g474re": (512, 128),
        "nucleo-h743zi2": (2048, 512),
        "nucleo-l073rz": (192, 20),
        "nucleo-l4r5zi": (2048, 640),
        "nucleo-u575zi-q": (2048, 768),
        "pico": (2048, 264),
        "pico-2": (4096, 520),
        "sparkfun-edge": (1024, 384),
        "stm32f746g-disco": (1024, 320),
        "teensy-4.1": (8192, 512),
    }
    others = {name: b.ram_bytes >> 20 for name, b in BOARDS.items() if not b.runs_tflm}
    assert others == {
        "android-mpc-11": 6144,
        "android-mpc-13": 8192,
        "raspberry-pi-zero-2-w": 512,
    }
    assert list(BOARDS) == sorted(BOARDS)
    for board in BOARDS.values():
        assert board.ram and board.source and board.core and board.checked == "2026-11"
        assert set(board.ids) <= {"arduino", "esp-idf", "platformio", "zephyr"}
        wanted = {"Cortex-M": "CMSIS-NN", "Xtensa": "ESP-NN", "RISC-V": "ESP-NN"}
        wanted |= {"Cortex-A": "XNNPACK"}
        assert board.kernels[0] == next(wanted[key] for key in wanted if board.core.startswith(key))
        if "ESP-NN" in board.kernels:  # ESP-IDF's targets are the chips' names
            assert board.ids["esp-idf"] == board.chip.lower().replace("-", "")


def test_a_phone_has_ram_alone():
    assert told(fits(10**9, 2**33, board="android-mpc-13")) == [("ram", True, 2**33, 2**33)]
    assert [v.fits for v in fits(1, 2**33 + 1, board="android-mpc-13")] == [False]


def test_wrong_arguments():
    with pytest.raises(InputError, match="No board is called 'arduino'.*tfkd knows .*pico"):
        fits(1, 2, board="arduino")
    with pytest.raises(InputError, match="Give flash=, ram= or board="):
        fits(1, 2)
    with pytest.raises(InputError, match="flash: .*'lots'; ram: .*-5"):
        fits(1, 2, flash="lots", ram=-5)
    with pytest.raises(InputError, match="pair .flash, RAM., got 3"):
        fits(1, 2, ram=5, reserve=(1, 2, 3))


HEADER = (
    "system_config,memory_mode,core_clock,inference_time,sram_memory_used,dram_memory_used,"
    "on_chip_flash_memory_used,off_chip_flash_memory_used,nn_macs,cycles_total"
)
SAID = """
Warning (supported operators) operator: SOFTMAX, ofm: 'a/b;c (d)'
Reason: Unsupported opType

Warning (supported operators) operator: CONV_2D, ofm: 'e'
Reason: Operation has tensor with unsupported DataType Float32 (e)
Feature-map dataTypes must be one of {"INT8", "UINT8"}

Warning (supported operators) operator: SOFTMAX, ofm: 'f'
Reason: Unsupported opType
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program of a few lines in Vela's place."""

    def make(body, version="print('5.2.0')"):
        path = tmp_path / "vela"
        lines = [
            f"#!{sys.executable}",
            "import pathlib, shutil, sys, os, time",
            "if sys.argv[1:] == ['--version']:",
            f"    {version}",
            "    sys.exit()",
            body,
        ]
        path.write_text("\n".join(lines))
        path.chmod(0o755)
        monkeypatch.setattr(vela, "find_vela", lambda: str(path))

    return make


@pytest.fixture(scope="module")
def file():
    keras.utils.set_random_seed(0)
    i = keras.Input((6, 6, 2))
    y = keras.layers.Conv2D(4, 3, activation="relu")(i)
    y = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(y))
    x = np.random.default_rng(0).normal(size=(20, 6, 6, 2)).astype("float32")
    return to_tflite(keras.Model(i, y), "int8", x)


def test_a_summary_by_hand(program, file):
    row = "Some_Config,Shared_Sram,500000000.0,0.0002,1.5,0.25,0.5,2.0,1234,100000"
    program(
        f"print({SAID!r})\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--output-dir') + 1])\n"
        "out.mkdir()\n"
        f"(out / 'net_summary_X.csv').write_text({HEADER + chr(10) + row!r})\n"
        "shutil.copy(sys.argv[1], out / 'net_vela.tflite')\n"
        "assert sys.argv[sys.argv.index('--accelerator-config') + 1] == 'ethos-u65-256'\n"
        "assert sys.argv[sys.argv.index('--memory-mode') + 1] == 'Sram_Only'\n"
    )
    got = vela.vela_estimate(file, "ethos-u65-256", memory_mode="Sram_Only")
    assert (got.system_config, got.memory_mode) == ("Some_Config", "Shared_Sram")
    assert (got.sram_bytes, got.flash_bytes) == (1536, 2816)
    assert (got.cycles, got.macs, got.clock_hz) == (100_000, 1234, 5e8)
    assert got.latency_us == pytest.approx(200.0)
    assert got.cpu_ops == file.ops and got.npu_share == 0.0  # the copy has all of them
    assert got.reasons == (
        "SOFTMAX: Unsupported opType",
        "CONV_2D: Operation has tensor with unsupported DataType Float32; Feature-map dataTypes "
        'must be one of {"INT8", "UINT8"}',
    )
    text = got.describe()
    assert f"0% of {sum(file.ops.values())} operators on ethos-u65-256, 1,536 bytes" in text
    assert "estimated, not measured: 100,000 cycles, 200 us at 500 MHz" in text


FAILURES = {
    "refused": (
        "sys.exit('Traceback\\nRuntimeError: Compilation failed: too wide')",
        UnsupportedError,
        "Vela refuses the file or its options: Compilation failed: too wide .docs/errors.md#vela.$",
    ),
    "killed": ("os.kill(os.getpid(), 9)", WorkerError, "died by signal 9"),
    "no summary": ("print('done')", ConversionError, "no summary of the file: done"),
    "hanging": ("time.sleep(60)", WorkerError, "did not finish within 1 s"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_goes_wrong_in_vela(name, program, file):
    body, kind, message = FAILURES[name]
    program(body)
    with pytest.raises(kind, match=message):
        vela.vela_estimate(file, timeout=1.0)


def test_another_program_of_that_name(program, file):
    program("", version="sys.exit('Error: unknown flag: --version')")
    with pytest.raises(MissingDependencyError, match="not Arm's compiler.*unknown flag"):
        vela.vela_estimate(file)


def test_a_summary_of_another_form(program, file):
    program(
        "out = pathlib.Path('out'); out.mkdir()\n"
        "(out / 'net_summary_X.csv').write_text('cycles\\n5')\n"
        "shutil.copy('net.tflite', out / 'net_vela.tflite')\n"
    )
    with pytest.raises(ConversionError, match="can't be read.*sram_memory_used"):
        vela.vela_estimate(file)


def test_without_vela(monkeypatch, file):
    monkeypatch.setattr(vela.shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(MissingDependencyError, match="pip install ethos-u-vela"):
        vela.vela_estimate(file)
    with pytest.raises(InputError, match="accelerator must be one of .*got 'ethos-u5'"):
        vela.vela_estimate(file, "ethos-u5")


needs_vela = pytest.mark.skipif(vela.find_vela() is None, reason="needs ethos-u-vela")


@needs_vela
def test_an_int8_file_goes_to_the_npu(file):
    small, large = (vela.vela_estimate(file, f"ethos-u55-{macs}") for macs in (32, 256))
    assert small.npu_share == 1.0 and small.cpu_ops == {}
    assert small.macs >= 16 * 18 * 4 + 64 * 3  # the convolution and the dense layer
    assert small.latency_us == pytest.approx(small.cycles / small.clock_hz * 1e6, rel=0.01)
    assert large.cycles <= small.cycles
    assert small.sram_bytes >= file.inputs[0].shape[1] ** 2 * 2
    assert small.version.startswith("5.")


@needs_vela
def test_a_float_file_stays_on_the_cpu(files):
    got = vela.vela_estimate(files["float32"])
    assert got.npu_share == 0.0 and got.cpu_ops == files["float32"].ops
    assert got.cycles is got.latency_us is None
    assert any("Float32" in reason for reason in got.reasons)
    assert "on the CPU, not in the estimate" in got.describe()


@needs_vela
def test_a_configuration_that_vela_does_not_know(file):
    with pytest.raises(
        UnsupportedError, match="Vela refuses the file or.*Memory_Mode.Foo not found"
    ):
        vela.vela_estimate(file, memory_mode="Foo")


@pytest.mark.parametrize(
    ("flash", "ram", "problem"),
    [
        ("256k", 1, "flash_bytes of the board 'mine' must be a whole .* got '256k'"),
        (0, -1, "flash_bytes .* got 0; ram_bytes .* got -1"),
        (None, None, "ram_bytes .* got None"),
        (True, 1.5, "flash_bytes .* got True; ram_bytes .* got 1.5"),
    ],
)
def test_a_board_of_ones_own_has_sizes_in_bytes(flash, ram, problem):
    with pytest.raises(InputError, match=problem):
        Board("mine", "chip", flash, ram, "all", "me")
    assert Board("a phone", "chip", None, 1, "all", "me").ram_bytes == 1
