"""Quantization-aware training through tensorflow-model-optimization.

aware.py      `quantize_aware`, `calibrate`, `describe`, `strip_quantization`
table.py      THE table: how each layer class is rounded or rewritten
lowering.py   builds the model that is trained, a rule per call
parts.py      quantizers and configurations on tfmot's extension points
scheme.py     the same as a tfmot `QuantizeScheme`
frozen.py     the form that the converter gets
report.py     what became of each layer
"""

from tfkd._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "calibrate": "aware",
        "describe": "aware",
        "quantize_aware": "aware",
        "strip_quantization": "aware",
        "Scheme": "scheme",
        "QuantizationReport": "report",
        "LayerReport": "report",
        "aware": "aware",
        "frozen": "frozen",
        "parts": "parts",
        "table": "table",
    },
)
