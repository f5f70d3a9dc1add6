"""The whole pipeline: a teacher in, verified files and their report out.

pipeline.py          `compress` and its result
recipe.py            `Recipe` and `Call`: how to train and what to make, as YAML
rehearsal.py         what later stages would refuse, and what files cost, before training
candidates.py        families of students to choose from if none is given
small_nets.py        small nets for each kind of input, in several widths
thinning.py          a teacher of less depth or resolution
costing.py           what their files cost, and which of them meet the target
missed.py            why candidates were left out
search.py            candidates trained for a while; the smallest that is good enough
scale.py             how the students of a search are compared
front.py             the trials: size and score, and which are finished first
dominated.py         what ends a trial early
finishing.py         one student, trained and exported
finished.py          what comes of it, and whether it meets the target
choice.py            which of two students to keep, by its worst output
rounding.py          what quantization-aware training was worth
pacing.py            the epochs that a budget leaves
stages.py            finished stages, kept for a run that continues
keys.py              what each stage depends on
outputs.py           what each output learns: labels bound by name, task, loss
tokens.py            examples that a model looks up in a table, and the numbers that it has
loss.py              the loss and the metric that fit an output and its labels
parts.py             a long training in parts, of which the last is kept
budget.py            the remaining time
mixed_precision.py   `choose_bits`: which layers get weights of 4 bits
evidence.py          its files, verified and timed, the verdict, and the call, for the report
settings.py          `Training` and `Target`: how to train, where to end
trainer.py           models of either Keras, fitted the same way on the same data
twin.py              the tf_keras model that trains in a Keras 3 model's place
demo.py              the pipeline on handwritten digits
"""
