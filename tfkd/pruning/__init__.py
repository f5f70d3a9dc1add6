"""Making models smaller by taking channels away.

dependency.py   which channels must go together
criteria.py     how much each of these groups matters
surgery.py      the model without some of them
channels.py     `prune_channels`: all of it
"""

from tfkd.pruning.channels import prune_channels

__all__ = ["prune_channels"]
