"""What a model of either Keras is: its graph, names, identity, cost and task.

backends.py            where Keras, tf_keras and tfmot are imported, late
graph.py               the one walk over a graph, and which layers a pattern names (`skip=`)
layer_kinds.py         which kind of layer is it
own_rules.py           what is checked of rules for the user's own layers
binding.py             the one rule that binds given values to inputs and outputs
real_shapes.py         the shapes of outputs, where Keras states others
replicas.py            what the replicas of a strategy know together
feature_extractor.py   what named layers give, in one forward pass
fingerprint.py         whether two things are the same (`code.py`, `layers.py`, `examples.py`)
task.py                what outputs and labels are about
metrics.py             what outputs are worth against labels
reports.py             what tfkd reports about a model that it made, kept beside it
cost.py                parameters, multiply-accumulates and bytes
"""
