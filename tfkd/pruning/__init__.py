"""Making models smaller: whole channels, single weights, and round by round with distillation.

structured/     whole channels, blocks and heads: `prune_channels`, `Slimming`
unstructured/   single weights and their values, through tfmot: `prune_weights`, `cluster_weights`
iterative/      `spiral`: prune, distil, continue from the student
report.py       `describe`: which layers stayed as they were, and why
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
