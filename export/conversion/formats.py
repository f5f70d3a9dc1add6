"""The formats of a file."""

#: float32: as trained. float16: weights halved, for GPU delegates. dynamic: int8 weights,
#: float activations. int8: integers throughout, input and output too. int16x8: int8 weights,
#: 16-bit activations. int4: 4-bit weights, float arithmetic.
FORMATS = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")
#: The formats with integer arithmetic.
INTEGER = ("int8", "int16x8")
