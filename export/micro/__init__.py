"""A firmware for microcontrollers.

bundle.py       `micro_bundle`: the file as C++
evaluation.py   the least arena and the answers on TFLM's host build: `evaluate_on_tflm`
boards.py       does it fit?
board_table.py  the boards that are known: `BOARDS`
project.py      the files that a toolchain expects beside the C++
vela.py         Arm's compiler for NPUs
"""
