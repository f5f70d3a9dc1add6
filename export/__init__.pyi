"""The public names of `tfkd.export`, for type checkers, editors and `__init__.py`."""

from .android import AndroidBundle as AndroidBundle
from .android import android_bundle as android_bundle
from .artifact import TFLiteModel as TFLiteModel
from .boards import fits as fits
from .conversion import RecurrentForm as RecurrentForm
from .conversion import recurrent_forms as recurrent_forms
from .conversion import to_tflite as to_tflite
from .firmware import MicroBundle as MicroBundle
from .firmware import micro_bundle as micro_bundle
from .latency import benchmark as benchmark
from .micro import Proof as Proof
from .micro import prove as prove
from .model_metadata import read_metadata as read_metadata
from .model_metadata import with_metadata as with_metadata
from .operators import Profile as Profile
from .operators import profile as profile
from .report import ModelEntry as ModelEntry
from .report import Report as Report
from .report import write_report as write_report
from .timings import Benchmark as Benchmark
from .timings import Latency as Latency
from .timings import Ratio as Ratio
from .vela import vela_estimate as vela_estimate
from .verification import Verification as Verification
from .verification import verify as verify
