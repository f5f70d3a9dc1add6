"""Where files run: in a child process, on this machine.

worker.py         the child in which converters and interpreters may die
answers.py        what comes back from it: data, and never code
lean_tensorflow.py  TensorFlow in that child, without what a converter never reads
interpreter.py    the one place that opens an interpreter: LiteRT's and TFLM's
native_stderr.py  what its C++ prints on stderr, as lines
host.py           the machine, the packages, and what else ran
"""
