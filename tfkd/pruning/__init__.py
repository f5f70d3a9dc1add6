"""Making models smaller: whole channels, single weights, and round by round with distillation.

channels.py     `prune_channels`: a smaller dense model
dependency.py   which channels must go together
blocks.py       residual blocks, which may go whole
criteria.py     how much each group of channels matters
surgery.py      the model without some of them
footprint.py    the bytes of the file that a model becomes
slimming.py     `Slimming`: a callback that makes channels vanish while a model trains
weights.py      `prune_weights`: single weights, patterns and blocks at zero, through tfmot
clustering.py   `cluster_weights`: few different values, through tfmot
wrapping.py     a copy of a model with tfmot's wrappers, and the way back
zeros.py        `sparsity`: how many weights are zero, and what they compress to
iteration.py    `spiral`: prune, distil, go on from the student
yardstick.py    what it goes by: costs and scores beside the original's
state.py        what it keeps in its folder
rounds.py       what it did, as a table and a picture
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
