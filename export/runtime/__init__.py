"""Where files run: in a child process, on this machine.

worker.py         the child process in which converters and interpreters may die
answers.py        the child's answers: data, and never code
lean_tensorflow.py  TensorFlow in that child, without the parts that a converter never reads
interpreter.py    the one place that opens an interpreter: LiteRT's and TFLM's
native_stderr.py  the output of C++ libraries on stderr, as lines
host.py           the machine, the packages, and the load by other programs
"""
