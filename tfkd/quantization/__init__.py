"""Quantization-aware training through tensorflow-model-optimization.

aware.py      `quantize_aware`, `calibrate`, `describe`, `strip_quantization`
table.py      THE table: how each layer class is rounded or rewritten
lowering.py   builds the model that is trained, a rule per call
parts.py      quantizers and configurations on tfmot's extension points
scheme.py     the same as a tfmot `QuantizeScheme`
frozen.py     the form that the converter gets
report.py     what became of each layer
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
