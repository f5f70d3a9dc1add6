"""The public names of `tfkd.quantization`, for type checkers, editors and `__init__.py`."""

from . import aware as aware
from . import table as table
from .aware import describe as describe
from .aware import quantize_aware as quantize_aware
from .aware import strip_quantization as strip_quantization
from .post_training import calibrate as calibrate
from .registry import QuantizationRule as QuantizationRule
from .registry import register as register
from .report import LayerReport as LayerReport
from .report import QuantizationReport as QuantizationReport
from .rewriting import Rewriter as Rewriter
from .rewriting import Value as Value
from .tfmot_scheme import Scheme as Scheme
