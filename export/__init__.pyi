"""The public names of `tfkd.export`, for type checkers, editors and `__init__.py`."""

from .android.bundle import AndroidBundle as AndroidBundle
from .android.bundle import android_bundle as android_bundle
from .conversion.form_costs import RecurrentForm as RecurrentForm
from .conversion.form_costs import recurrent_forms as recurrent_forms
from .conversion.to_tflite import to_tflite as to_tflite
from .latency.benchmark import benchmark as benchmark
from .latency.profiler import Profile as Profile
from .latency.profiler import profile as profile
from .latency.results import Benchmark as Benchmark
from .latency.results import Latency as Latency
from .latency.results import Ratio as Ratio
from .micro.boards import fits as fits
from .micro.bundle import MicroBundle as MicroBundle
from .micro.bundle import micro_bundle as micro_bundle
from .micro.evaluation import MicroEvaluation as MicroEvaluation
from .micro.evaluation import evaluate_on_tflm as evaluate_on_tflm
from .micro.vela import vela_estimate as vela_estimate
from .report.report import ModelEntry as ModelEntry
from .report.report import Report as Report
from .report.report import write_report as write_report
from .tflite.metadata import read_metadata as read_metadata
from .tflite.metadata import with_metadata as with_metadata
from .tflite.model import TFLiteModel as TFLiteModel
from .verification.verify import Verification as Verification
from .verification.verify import verify as verify
