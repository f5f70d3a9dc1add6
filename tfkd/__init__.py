"""tfkd: from a Keras teacher to a verified, benchmarked `.tflite` file.

    data ─► teacher ─► Distiller ─► student ─► quantize_aware ─► Distiller ─► tfkd.export

Importing `tfkd` imports neither TensorFlow nor Keras: each name below imports them when it is first
used. tfkd never changes what `tf.keras` is.
"""

import lazy_loader

from tfkd._renamed import with_old_names
from tfkd._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_old_names(
    __name__, __getattr__, {"Taught": f"{__name__}.distillation.teachers:TeacherBatch"}
)
