"""`tfkd boards`: the table, one board, JSON."""

import json

from tfkd.cli.parser import main
from tfkd.export.micro.boards import BOARDS


def test_the_table_has_every_board(capsys):
    assert main(["boards"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["name", "chip", "core"]
    assert [line.split()[0] for line in lines] == list(BOARDS)
    (pico,) = (line for line in lines if line.startswith("pico "))
    assert pico.split()[1:5] == ["RP2040", "Cortex-M0+", "2,048", "264"]
    assert "CMSIS-NN" in pico and "RP2040 datasheet" in pico and "(2026-11)" in pico


def test_one_board(capsys):
    assert main(["boards", "Pico-2", "android-mpc-13"]) == 0
    out = capsys.readouterr().out
    assert "flash: 4,194,304 bytes" in out and "zephyr: rpi_pico2/rp2350a/m33" in out
    assert "flash: a file system" in out and "8,589,934,592 bytes" in out
    assert main(["boards", "--quiet"]) == 0 and not capsys.readouterr().out


def test_json(capsys):
    assert main(["boards", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == list(BOARDS)
    assert told["ensemble-e8-dk"]["kernels"] == ["CMSIS-NN", "Ethos-U55", "Ethos-U85"]
    assert told["esp32-devkitc"]["ids"]["esp-idf"] == "esp32"
    assert told["pico"]["flash_bytes"] == 2_097_152 and told["pico"]["checked"] == "2026-11"


def test_an_unknown_board_is_one_line(capsys):
    assert main(["boards", "abacus"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: No board is called 'abacus'; tfkd knows android-mpc-11")
    assert err.count("\n") == 1
