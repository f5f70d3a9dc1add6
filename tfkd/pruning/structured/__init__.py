"""Remove whole channels, blocks and heads; the model becomes smaller and faster.

channels.py     `prune_channels`: a smaller dense model
dependency.py   which channels must go together
labels.py       which number belongs to which channel
rules.py        what each layer does to channels
registry.py     `register`: rules of the user's own
blocks.py       residual blocks, which may go whole
importance.py   how much each group of channels matters
surgery.py      the model without some of them
slimming.py     `Slimming`: a callback that makes channels vanish while a model trains
"""
