"""Quantization-aware training through tensorflow-model-optimization.

    aware.py      `quantize_aware`, `strip_quantization`, `describe`: the way in and out
    table.py      THE table: how each layer class is rounded or rewritten
    lowering.py   builds the model that is trained, a rule per call
    parts.py      quantizers and configurations on tfmot's extension points
    scheme.py     the same as a tfmot `QuantizeScheme`
    frozen.py     the form that the converter gets
    report.py     what became of each layer
"""

from tfkd.quantization.aware import describe, quantize_aware, strip_quantization

__all__ = ["describe", "quantize_aware", "strip_quantization"]
