"""How each kind of layer is rounded or rewritten; `tfkd.quantization.table` lists them.

A rule gets the `Rewriter`, the source layer and the `Value`s it is called with, and returns
the `Value` (or list of them) that it makes.

activations.py    activation functions, inside layers and as layers
arithmetic.py     layers with several inputs
kernels.py        layers with a kernel; embeddings
moves.py          layers that move or pool numbers, or act in training only
normalization.py  batch, layer and group normalization; scaling by fixed or trained factors
primitives.py     multiply, add, compare, each rounded: the parts of several rules
recurrent.py      LSTM, GRU, SimpleRNN
"""
