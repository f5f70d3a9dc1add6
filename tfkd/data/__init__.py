"""Data in the forms that the rest of tfkd takes: examples and labels in three parts.

samples.py  `Samples` and `Data`, and the labels' kinds.
labels.py  Labels as they are trained on.
rows.py  Examples that stay on disk, read as they are asked for.
splitting.py  `split`, three ways at random, and scikit-learn's digits.
npz.py  `.npz` files.
csv_table.py  CSV files with a header.
images.py  Folders of images, one for each class.
series.py  `windows` of a series, split by time.
door.py  `as_data`, which takes any of these.
"""

from tfkd.data.csv_table import load_csv
from tfkd.data.door import as_data
from tfkd.data.images import load_images
from tfkd.data.npz import load_npz
from tfkd.data.samples import Data, Samples, is_one_hot, representative
from tfkd.data.series import windows
from tfkd.data.splitting import load_digits, split

__all__ = [
    "Data",
    "Samples",
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
