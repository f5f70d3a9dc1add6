"""How each kind of layer is rounded or rewritten; `tfkd.quantization.table` lists them.

A rule takes the `Rewriter`, the source layer and the input `Value`s of its call, and returns the
output `Value` or a list of them.

activations.py    activation functions, inside layers and as layers
arithmetic.py     layers with several inputs
kernels.py        layers with a kernel; embeddings
moves.py          layers that move or pool values, or act in training only
normalization.py  batch, layer and group normalization; scaling by fixed or trained factors
primitives.py     multiply, add, compare, each rounded: building blocks of several rules
recurrent.py      LSTM, GRU, SimpleRNN
"""
