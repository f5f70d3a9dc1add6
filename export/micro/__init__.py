"""Firmware for microcontrollers.

bundle.py       `micro_bundle`: the file as C++
evaluation.py   the least arena and the answers on TFLM's host build: `evaluate_on_tflm`
boards.py       does the file fit a board?
board_table.py  the known boards: `BOARDS`
project.py      the files that a toolchain expects beside the C++
vela.py         Arm's compiler for NPUs
"""
