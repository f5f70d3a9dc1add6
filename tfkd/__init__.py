"""tfkd: from a Keras teacher to a verified, benchmarked `.tflite` file.

    data ─► teacher ─► Distiller ─► student ─► quantize_aware ─► Distiller ─► tfkd.export

Importing `tfkd` imports neither TensorFlow nor Keras; each name below does so when it is
first used, and nothing it does changes what `tf.keras` is.
"""

from tfkd._lazy import attach
from tfkd._version import __version__ as __version__

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "TfkdError": "errors",
        "InputError": "errors",
        "UnsupportedError": "errors",
        "MissingDependencyError": "errors",
        "ConversionError": "errors",
        "WorkerError": "errors",
        "Data": "data",
        "Samples": "data",
        "split": "data",
        "translate": "translation",
        "losses": "losses",
        "Distiller": "distiller",
        "StudentCheckpoint": "callbacks",
        "StopDistillation": "callbacks",
        "cache_teacher": "cache",
        "TeacherCache": "cache",
        "Taught": "teachers",
        "quantize_aware": "quantization",
        "strip_quantization": "quantization",
        "quantization": "quantization",
        "prune_channels": "pruning",
        "Slimming": "pruning",
        "prune_weights": "pruning",
        "strip_pruning": "pruning",
        "cluster_weights": "pruning",
        "strip_clustering": "pruning",
        "sparsity": "pruning",
        "spiral": "pruning",
        "pruning": "pruning",
        "compare": "comparison",
        "compress": "compression",
        "Recipe": "compression",
    },
)
