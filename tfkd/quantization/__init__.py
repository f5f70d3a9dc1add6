"""Quantization-aware training through tensorflow-model-optimization.

`quantize_aware` is the way in; `scheme` holds what tfkd adds to tfmot's 8-bit scheme.
"""

from tfkd.quantization.aware import quantize_aware

__all__ = ["quantize_aware"]
