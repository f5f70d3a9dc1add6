"""Quantization-aware training through tensorflow-model-optimization.

aware.py                 `quantize_aware`, `describe`, `strip_quantization`
post_training.py         `calibrate`: ranges, and rounding by each layer's output, without training
table.py                 THE table: how each layer class is rounded or rewritten
registry.py              `register`: rules of the user's own
rewriting.py             builds the model that is trained, a rule per call
rules/                   the rules
without_rule.py          layers that have none: why, and what to do
quantizers.py            quantizers and configurations on tfmot's extension points
tfmot_scheme.py          the same as a tfmot `QuantizeScheme`
export_form.py           the form that the converter gets
representative_data.py   whatever holds examples, as arrays that calibrate ranges
distribution_shift.py    are these data like those that the model was trained on?
report.py                what became of each layer
"""

import lazy_loader

from tfkd._renamed import with_old_names

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_old_names(
    __name__,
    __getattr__,
    {"frozen": f"{__name__}.export_form", "parts": f"{__name__}.quantizers"},
)
