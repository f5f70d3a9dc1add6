"""`BOARDS`: flash, RAM and kernels of development boards and classes of phones, with sources.

Sizes of flash and RAM are from the makers' documents that each row names. The layout of the RAM in
the address space was compared with linker scripts and memory maps (ESP-IDF, Zephyr, CMSIS packs)
in November 2026.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

from tfkd.errors import raise_all
from tfkd.tables import Printed

_KB = 1 << 10
_MB = 1 << 20
_GB = 1 << 30


def _is_whole(size: Any) -> bool:
    """Tell whether a size is a whole number above 0 and not a bool."""
    return type(size) is int and size > 0


@dataclasses.dataclass(frozen=True)
class Board(Printed):
    """The resources of a development board, or of every phone of a class.

    Attributes:
        name: The maker's name for it.
        chip: The microcontroller.
        flash_bytes: All of its program memory; a bootloader's share is not subtracted. `None`
            if models lie in a file system.
        ram_bytes: The largest contiguous RAM, since an arena is one array; for a phone, all RAM.
        ram: Which RAM `ram_bytes` is, and which other RAM the board has.
        source: Source of the figures.
        core: The processor that runs the kernels.
        kernels: The optimized kernels for it, the best last; empty if there are only portable ones.
        checked: Year and month in which the row was compared with its source.
        ids: The toolchains' names for it, by `"arduino"`, `"esp-idf"`, `"platformio"` and
            `"zephyr"`; a toolchain that does not know the board is left out. PlatformIO's name
            starts with its platform and a slash.

    Raises:
        InputError: for sizes that are no whole numbers of bytes above 0.
    """

    name: str
    chip: str
    flash_bytes: int | None
    ram_bytes: int
    ram: str
    source: str
    core: str = ""
    kernels: tuple[str, ...] = ()
    checked: str = ""
    ids: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        sizes = {"flash_bytes": self.flash_bytes, "ram_bytes": self.ram_bytes}
        raise_all(
            f"{name} of the board {self.name!r} must be a whole number of bytes above 0, such as "
            f"262_144, got {size!r}"
            for name, size in sizes.items()
            if not (name == "flash_bytes" and size is None) and not _is_whole(size)
        )

    @property
    def runs_tflm(self) -> bool:
        """Whether it is a microcontroller; phones and Linux boards run LiteRT."""
        return self.flash_bytes is not None

    def describe(self) -> str:
        """Describe the board and the source of its figures in a few lines."""
        flash = "a file system" if self.flash_bytes is None else f"{self.flash_bytes:,} bytes"
        lines = [
            f"{self.name}: {', '.join(filter(None, (self.chip, self.core)))}",
            f"  flash: {flash}",
            f"  RAM: {self.ram_bytes:,} bytes ({self.ram})",
            f"  kernels: {', '.join(self.kernels) or 'portable'}",
            f"  source: {self.source}" + (f" ({self.checked})" if self.checked else ""),
        ]
        lines += [f"  {toolchain}: {name}" for toolchain, name in self.ids.items()]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {**vars(self), "kernels": list(self.kernels), "ids": dict(self.ids)}


def _row(name, chip, core, flash, ram, which, source, *, kernels, **ids) -> Board:
    names = {key.replace("_", "-"): value for key, value in ids.items()}
    return Board(
        *(name, chip, flash, ram, which, source, core, tuple(kernels), "2026-11"),
        ids=types.MappingProxyType(names),
    )


_ARM, _ESP, _LITERT = ("CMSIS-NN",), ("ESP-NN",), ("XNNPACK",)
_APP = "the least that the class asks of a phone, of which an app gets a part"

#: Boards and classes of phones by a short name, in alphabetical order.
BOARDS: dict[str, Board] = {
    "android-mpc-11": _row(
        *("Android phone, media performance class 11", "any", "Cortex-A, 64-bit"),
        *(None, 6 * _GB, _APP, "Android 11 Compatibility Definition, 2.2.7, [7.6.1/H-1-1]"),
        kernels=("XNNPACK", "GPU"),
    ),
    "android-mpc-13": _row(
        *("Android phone, media performance class 13", "any", "Cortex-A, 64-bit"),
        *(None, 8 * _GB, _APP, "Android 13 Compatibility Definition, 2.2.7, [7.6.1/H-2-1]"),
        kernels=("XNNPACK", "GPU"),
    ),
    "b-l475e-iot01a": _row(
        *("B-L475E-IOT01A", "STM32L475VG", "Cortex-M4F", 1 * _MB, 96 * _KB),
        "SRAM1; the 32 kB of SRAM2 lie elsewhere",
        "ST reference manual RM0351, system architecture",
        kernels=_ARM,
        platformio="ststm32/disco_l475vg_iot01a",
        zephyr="disco_l475_iot1",
    ),
    "b-u585i-iot02a": _row(
        *("B-U585I-IOT02A", "STM32U585AI", "Cortex-M33", 2 * _MB, 768 * _KB),
        "SRAM1, 2 and 3, which follow each other",
        "ST reference manual RM0456, embedded SRAMs",
        kernels=_ARM,
        platformio="ststm32/disco_b_u585i_iot02a",
        zephyr="b_u585i_iot02a",
    ),
    "ensemble-e8-dk": _row(
        *("Alif Ensemble E8 DevKit", "AE822FA0E5597LS0", "Cortex-M55", 5632 * _KB, 8 * _MB),
        "SRAM0 and SRAM1, 4 MB each, which follow each other; the cores' TCM lies elsewhere. Flash "
        "is MRAM",
        "Alif Semiconductor, device tree of AE822FA0E5597LS0 in Zephyr",
        kernels=("CMSIS-NN", "Ethos-U55", "Ethos-U85"),
        zephyr="ensemble_e8_dk/ae822fa0e5597ls0/rtss_hp",
    ),
    "esp32-c3-devkitm-1": _row(
        *("ESP32-C3-DevKitM-1", "ESP32-C3", "RISC-V, 32-bit", 4 * _MB, 320 * _KB),
        "ESP-IDF's segment for static data, which shares its memory with code in IRAM",
        "Espressif ESP-IDF, components/esp_system/ld/esp32c3/memory.ld.in",
        kernels=_ESP,
        arduino="esp32:esp32:esp32c3",
        esp_idf="esp32c3",
        platformio="espressif32/esp32-c3-devkitm-1",
        zephyr="esp32c3_devkitm",
    ),
    "esp32-c6-devkitc-1": _row(
        *("ESP32-C6-DevKitC-1", "ESP32-C6", "RISC-V, 32-bit", 8 * _MB, 452_112),
        "ESP-IDF's segment for static data, which shares its memory with code in IRAM",
        "Espressif ESP-IDF, components/esp_system/ld/esp32c6/memory.ld.in",
        kernels=_ESP,
        arduino="esp32:esp32:esp32c6",
        esp_idf="esp32c6",
        zephyr="esp32c6_devkitc/esp32c6/hpcore",
    ),
    "esp32-devkitc": _row(
        *("ESP32-DevKitC (ESP32-WROOM-32E, 4 MB)", "ESP32", "Xtensa LX6", 4 * _MB, 160 * _KB),
        "what ESP-IDF can reserve statically of 320 kB DRAM; less with Bluetooth, and heap blocks "
        "are no larger",
        "Espressif ESP-IDF programming guide, 'Memory Types'",
        kernels=_ESP,
        arduino="esp32:esp32:esp32",
        esp_idf="esp32",
        platformio="espressif32/esp32dev",
        zephyr="esp32_devkitc/esp32/procpu",
    ),
    "esp32-s2-saola-1": _row(
        *("ESP32-S2-Saola-1 (WROVER, 4 MB)", "ESP32-S2", "Xtensa LX7", 4 * _MB, 160 * _KB),
        "ESP-IDF's segment for static data with the largest caches, which shares its memory with "
        "code in IRAM; external RAM not counted",
        "Espressif ESP-IDF, components/esp_system/ld/esp32s2/memory.ld.in",
        kernels=_ESP,
        arduino="esp32:esp32:esp32s2",
        esp_idf="esp32s2",
        platformio="espressif32/esp32-s2-saola-1",
        zephyr="esp32s2_saola",
    ),
    "esp32-s3-devkitc-1": _row(
        *("ESP32-S3-DevKitC-1 (N8)", "ESP32-S3", "Xtensa LX7", 8 * _MB, 341_760),
        "ESP-IDF's segment for static data, which shares its memory with code in IRAM; the "
        "external RAM of some modules not counted",
        "Espressif ESP-IDF, components/esp_system/ld/esp32s3/memory.ld.in",
        kernels=_ESP,
        arduino="esp32:esp32:esp32s3",
        esp_idf="esp32s3",
        platformio="espressif32/esp32-s3-devkitc-1",
        zephyr="esp32s3_devkitc/esp32s3/procpu",
    ),
    "microbit-v2": _row(
        *("BBC micro:bit V2", "nRF52833", "Cortex-M4F", 512 * _KB, 128 * _KB),
        "all of it",
        "Nordic nRF52833 product specification, memory",
        kernels=_ARM,
        platformio="nordicnrf52/bbcmicrobit_v2",
        zephyr="bbc_microbit_v2",
    ),
    "nano-33-ble-sense": _row(
        *("Arduino Nano 33 BLE Sense", "nRF52840", "Cortex-M4F", 1 * _MB, 256 * _KB),
        "all of it",
        "Arduino ABX00031 datasheet",
        kernels=_ARM,
        arduino="arduino:mbed_nano:nano33ble",
        platformio="nordicnrf52/nano33ble",
        zephyr="arduino_nano_33_ble/nrf52840/sense",
    ),
    "nano-rp2040-connect": _row(
        *("Arduino Nano RP2040 Connect", "RP2040", "Cortex-M0+", 16 * _MB, 264 * _KB),
        "all six banks, one address range",
        "Raspberry Pi RP2040 datasheet, SRAM; Arduino ABX00053 datasheet for the flash",
        kernels=_ARM,
        arduino="arduino:mbed_nano:nanorp2040connect",
        platformio="raspberrypi/nanorp2040connect",
    ),
    "nrf52-dk": _row(
        *("nRF52 DK", "nRF52832", "Cortex-M4F", 512 * _KB, 64 * _KB),
        "all of it",
        "Nordic nRF52832 product specification, memory",
        kernels=_ARM,
        platformio="nordicnrf52/nrf52_dk",
        zephyr="nrf52dk/nrf52832",
    ),
    "nrf52840-dk": _row(
        *("nRF52840 DK", "nRF52840", "Cortex-M4F", 1 * _MB, 256 * _KB),
        "all of it",
        "Nordic nRF52840 product specification, memory",
        kernels=_ARM,
        platformio="nordicnrf52/nrf52840_dk",
        zephyr="nrf52840dk/nrf52840",
    ),
    "nrf5340-dk": _row(
        *("nRF5340 DK", "nRF5340", "Cortex-M33", 1 * _MB, 512 * _KB),
        "that of the application core; the network core has 64 kB of its own",
        "Nordic nRF5340 product specification, memory",
        kernels=_ARM,
        zephyr="nrf5340dk/nrf5340/cpuapp",
    ),
    "nucleo-f401re": _row(
        *("NUCLEO-F401RE", "STM32F401RE", "Cortex-M4F", 512 * _KB, 96 * _KB),
        "all of it",
        "ST reference manual RM0368, embedded SRAM",
        kernels=_ARM,
        platformio="ststm32/nucleo_f401re",
        zephyr="nucleo_f401re",
    ),
    "nucleo-f446re": _row(
        *("NUCLEO-F446RE", "STM32F446RE", "Cortex-M4F", 512 * _KB, 128 * _KB),
        "SRAM1 and SRAM2, which follow each other",
        "ST reference manual RM0390, embedded SRAM",
        kernels=_ARM,
        platformio="ststm32/nucleo_f446re",
        zephyr="nucleo_f446re",
    ),
    "nucleo-g071rb": _row(
        *("NUCLEO-G071RB", "STM32G071RB", "Cortex-M0+", 128 * _KB, 36 * _KB),
        "all of it, without parity",
        "ST reference manual RM0444, embedded SRAM",
        kernels=_ARM,
        platformio="ststm32/nucleo_g071rb",
        zephyr="nucleo_g071rb",
    ),
    "nucleo-g474re": _row(
        *("NUCLEO-G474RE", "STM32G474RE", "Cortex-M4F", 512 * _KB, 128 * _KB),
        "SRAM1, SRAM2 and the CCM SRAM by its second address, which follow each other",
        "ST reference manual RM0440, embedded SRAM",
        kernels=_ARM,
        platformio="ststm32/nucleo_g474re",
        zephyr="nucleo_g474re",
    ),
    "nucleo-h743zi2": _row(
        *("NUCLEO-H743ZI2", "STM32H743ZI", "Cortex-M7", 2 * _MB, 512 * _KB),
        "AXI SRAM; 128 kB of DTCM, 288 kB of SRAM1 to 3 and 64 kB of SRAM4 lie elsewhere",
        "ST reference manual RM0433, memory organization",
        kernels=_ARM,
        platformio="ststm32/nucleo_h743zi",
        zephyr="nucleo_h743zi",
    ),
    "nucleo-l073rz": _row(
        *("NUCLEO-L073RZ", "STM32L073RZ", "Cortex-M0+", 192 * _KB, 20 * _KB),
        "all of it",
        "ST reference manual RM0367, embedded SRAM",
        kernels=_ARM,
        platformio="ststm32/nucleo_l073rz",
        zephyr="nucleo_l073rz",
    ),
    "nucleo-l4r5zi": _row(
        *("NUCLEO-L4R5ZI", "STM32L4R5ZI", "Cortex-M4F", 2 * _MB, 640 * _KB),
        "SRAM1, 2 and 3, which follow each other (SRAM2 by its second address)",
        "ST reference manual RM0432, embedded SRAM",
        kernels=_ARM,
        platformio="ststm32/nucleo_l4r5zi",
        zephyr="nucleo_l4r5zi",
    ),
    "nucleo-u575zi-q": _row(
        *("NUCLEO-U575ZI-Q", "STM32U575ZI", "Cortex-M33", 2 * _MB, 768 * _KB),
        "SRAM1, 2 and 3, which follow each other",
        "ST reference manual RM0456, embedded SRAMs",
        kernels=_ARM,
        platformio="ststm32/nucleo_u575zi_q",
        zephyr="nucleo_u575zi_q",
    ),
    "pico": _row(
        *("Raspberry Pi Pico", "RP2040", "Cortex-M0+", 2 * _MB, 264 * _KB),
        "all six banks, one address range",
        "Raspberry Pi RP2040 datasheet, SRAM; Pico datasheet for the flash",
        kernels=_ARM,
        arduino="rp2040:rp2040:rpipico",
        platformio="raspberrypi/pico",
        zephyr="rpi_pico",
    ),
    "pico-2": _row(
        *("Raspberry Pi Pico 2", "RP2350", "Cortex-M33", 4 * _MB, 520 * _KB),
        "all ten banks, one address range",
        "Raspberry Pi RP2350 datasheet, SRAM; Pico 2 datasheet for the flash",
        kernels=_ARM,
        arduino="rp2040:rp2040:rpipico2",
        zephyr="rpi_pico2/rp2350a/m33",
    ),
    "raspberry-pi-zero-2-w": _row(
        *("Raspberry Pi Zero 2 W", "RP3A0", "Cortex-A53", None, 512 * _MB),
        "all of it, of which Linux takes a part",
        "Raspberry Pi Zero 2 W product brief",
        kernels=_LITERT,
    ),
    "sparkfun-edge": _row(
        *("SparkFun Edge", "Apollo3 Blue", "Cortex-M4F", 1 * _MB, 384 * _KB),
        "64 kB of TCM and 320 kB of SRAM, which follow each other",
        "Ambiq Apollo3 Blue datasheet, memory map",
        kernels=_ARM,
    ),
    "stm32f746g-disco": _row(
        *("STM32F746G-DISCO", "STM32F746NG", "Cortex-M7", 1 * _MB, 320 * _KB),
        "64 kB of DTCM, 240 kB of SRAM1 and 16 kB of SRAM2, which follow each other; the board's "
        "SDRAM not counted",
        "ST reference manual RM0385, memory organization",
        kernels=_ARM,
        platformio="ststm32/disco_f746ng",
        zephyr="stm32f746g_disco",
    ),
    "teensy-4.1": _row(
        *("Teensy 4.1", "i.MX RT1062", "Cortex-M7", 8 * _MB, 512 * _KB),
        "OCRAM2; the 512 kB of FlexRAM are shared by DTCM and code",
        "NXP i.MX RT1060 reference manual, memory map; PJRC, Teensy 4.1, for the flash",
        kernels=_ARM,
        arduino="teensy:avr:teensy41",
        platformio="teensy/teensy41",
        zephyr="teensy41",
    ),
}
