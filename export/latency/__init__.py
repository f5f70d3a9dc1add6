"""How long a call takes, with the uncertainty of the measurement.

benchmark.py         `benchmark`
candidates.py        the models to measure
timed_calls.py       the functions that run in a benchmark's processes
statistics.py        medians and ratios, with intervals by a block bootstrap
results.py           times, ratios and their tables
operators.py         the work of each operator
profiler.py          the time of each operator: `profile`
litert_profiler.py   LiteRT's profiler, through its C interface
android_device.py    LiteRT's own tool on a phone
"""
