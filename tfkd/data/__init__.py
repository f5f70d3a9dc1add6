"""Data in the forms that the rest of tfkd takes: examples and labels in three parts.

samples.py  `Samples` and `Data`.
stream.py  `Stream`, a part that comes in batches and is never held.
batches.py  What a batch of a stream holds, or why it is none.
outputs.py  Labels of several outputs, by name.
labels.py  Labels as they are trained on.
rows.py  Examples that stay on disk, read as they are asked for.
drawing.py  `representative` examples.
splitting.py  `split`, three ways at random, and scikit-learn's digits.
npz.py  `.npz` files.
csv_table.py  CSV files with a header.
images.py  Folders of images, one for each class.
series.py  `windows` of a series, split by time.
door.py  `as_data`, which takes any of these.
"""

from tfkd.data.csv_table import load_csv
from tfkd.data.door import as_data
from tfkd.data.drawing import representative
from tfkd.data.images import load_images
from tfkd.data.npz import load_npz
from tfkd.data.samples import Data, Part, Samples, is_one_hot
from tfkd.data.series import windows
from tfkd.data.splitting import load_digits, split
from tfkd.data.stream import Stream

__all__ = [
    "Data",
    "Part",
    "Samples",
    "Stream",
    "as_data",
    "is_one_hot",
    "load_csv",
    "load_digits",
    "load_images",
    "load_npz",
    "representative",
    "split",
    "windows",
]
