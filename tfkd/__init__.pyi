"""The public names of `tfkd`, for type checkers, editors and `__init__.py`."""

from . import export as export
from . import losses as losses
from . import pruning as pruning
from . import quantization as quantization
from . import translation as translation
from .comparison import compare as compare
from .compression.mixed_precision import BitsPlan as BitsPlan
from .compression.mixed_precision import choose_bits as choose_bits
from .compression.pipeline import Recipe as Recipe
from .compression.pipeline import compress as compress
from .compression.settings import Target as Target
from .compression.settings import Training as Training
from .data import Data as Data
from .data import Samples as Samples
from .data import Stream as Stream
from .data import as_data as as_data
from .data import split as split
from .data import windows as windows
from .distillation.cache.cache_teacher import TeacherCache as TeacherCache
from .distillation.cache.cache_teacher import cache_teacher as cache_teacher
from .distillation.callbacks import StopDistillation as StopDistillation
from .distillation.callbacks import StudentCheckpoint as StudentCheckpoint
from .distillation.distiller import Distiller as Distiller
from .distillation.teachers import TeacherBatch as TeacherBatch
from .errors import ConversionError as ConversionError
from .errors import InputError as InputError
from .errors import MissingDependencyError as MissingDependencyError
from .errors import TeacherWarning as TeacherWarning
from .errors import TfkdError as TfkdError
from .errors import UnsupportedError as UnsupportedError
from .errors import WorkerError as WorkerError
from .pruning import Slimming as Slimming
from .pruning import cluster_weights as cluster_weights
from .pruning import prune_channels as prune_channels
from .pruning import prune_weights as prune_weights
from .pruning import sparsity as sparsity
from .pruning import spiral as spiral
from .pruning import strip_clustering as strip_clustering
from .pruning import strip_pruning as strip_pruning
from .quantization import quantize_aware as quantize_aware
from .quantization import strip_quantization as strip_quantization
from .translation import translate as translate

__version__: str
