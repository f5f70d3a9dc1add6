"""A `.tflite` file: read, changed, described.

model.py          `TFLiteModel`
schema.py         what a file declares, read without running it
writer.py         a changed file, with the alignment that kernels rely on
structures.py     the dicts and lists of a model's inputs and outputs, kept in its file
metadata.py       TFLite Metadata
golden.py         the golden example, and the raw numbers of which it is made
tflm_kernels.py   which operators TensorFlow Lite for Microcontrollers has
gpu_operators.py  which operators LiteRT's GPU delegate hands back to the CPU
"""
