"""Kinds of outputs: a table of graphs, each compared with the values that it returns."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfkd.model import graph
from tfkd.output_kind import activation_behind, output_activations, output_kinds

C = 3  # classes


@keras.saving.register_keras_serializable("test_outputs")
class Own3(keras.layers.Dense):
    def call(self, x):
        return super().call(x) * 2.0


class Own2(tf_keras.layers.Dense):
    def call(self, x):
        return super().call(x) * 2.0


class Kit:
    """Shorthand for building graphs of one Keras over an input of shape (4, 6, 5)."""

    def __init__(self, package):
        self.package, self.L = package, package.layers
        self.input = package.Input((4, 6, 5))
        self.own = Own3 if package is keras else Own2

    def soft(self, classes=C):
        return self.L.Dense(classes, activation="softmax")(self.input)

    def flat(self, classes=C, activation="softmax"):
        x = self.L.GlobalAveragePooling2D()(self.input)
        return self.L.Dense(classes, activation=activation)(x)

    def sig(self):
        return self.L.Dense(C, activation="sigmoid")(self.input)

    def lin(self, activation=None):
        return self.L.Dense(C, activation=activation)(self.input)

    def steps(self, activation="softmax"):
        return self.L.Dense(C, activation=activation)(self.L.Reshape((24, 5))(self.input))

    def nested(self, activation="softmax", inner_class=None):
        x = self.package.Input((5,))
        dense = self.L.Dense(C, activation=activation)(x)
        return (inner_class or self.package.Model)(x, dense)


def with_call(k):
    class Tripled(k.package.Model):
        def call(self, x, training=None, mask=None):
            return super().call(x) * 3.0

    return Tripled


def without_call(k):
    class Named(k.package.Model):
        """Adds nothing to what runs."""

    return Named


def vector(k):
    return k.L.GlobalAveragePooling2D()(k.input)


def keep(*layers):
    def build(k, x):
        for layer in layers:
            x = getattr(k.L, layer[0])(**(layer[1] if len(layer) > 1 else {}))(x)
        return x

    return build


SOFT, SIG, LIN = "softmax", "sigmoid", "linear"
# What to build → the kind, and for softmax the class axis.
BOTH = {
    # what makes them
    "dense": (lambda k: k.soft(), SOFT, 3),
    "dense sigmoid": (lambda k: k.sig(), SIG),
    "dense linear": (lambda k: k.lin(), LIN),
    "dense relu": (lambda k: k.lin("relu"), None),
    "dense tf.nn.softmax": (lambda k: k.lin(tf.nn.softmax), SOFT, 3),
    "dense tf.sigmoid": (lambda k: k.lin(tf.sigmoid), SIG),
    "dense hard sigmoid": (lambda k: k.lin("hard_sigmoid"), None),
    "dense lambda": (lambda k: k.lin(lambda x: x), None),
    "activation": (lambda k: k.L.Activation("softmax")(k.lin()), SOFT, 3),
    "activation of unknown": (lambda k: k.L.Activation("softmax")(k.input), SOFT, 3),
    "softmax layer": (lambda k: k.L.Softmax()(k.lin()), SOFT, 3),
    "softmax axis 1": (lambda k: k.L.Softmax(axis=1)(k.lin()), SOFT, 1),
    "softmax axis -2": (lambda k: k.L.Softmax(axis=-2)(k.lin()), SOFT, 2),
    "conv": (lambda k: k.L.Conv2D(C, 3, activation="softmax")(k.input), SOFT, 3),
    "conv transpose": (lambda k: k.L.Conv2DTranspose(C, 3, activation="softmax")(k.input), SOFT, 3),
    "separable": (lambda k: k.L.SeparableConv2D(C, 3, activation="sigmoid")(k.input), SIG),
    "depthwise": (lambda k: k.L.DepthwiseConv2D(3, activation="softmax")(k.input), SOFT, 3),
    "conv linear": (lambda k: k.L.Conv2D(C, 3)(k.input), LIN),
    "conv 1d": (
        lambda k: k.L.Conv1D(C, 2, activation="softmax")(k.L.Reshape((24, 5))(k.input)),
        SOFT,
        2,
    ),
    "einsum dense": (
        lambda k: k.L.EinsumDense("bhwc,cd->bhwd", (4, 6, C), activation="softmax")(k.input),
        SOFT,
        3,
    ),
    "time distributed": (
        lambda k: k.L.TimeDistributed(k.L.Dense(C, activation="softmax"))(k.input),
        SOFT,
        3,
    ),
    "time distributed softmax": (
        lambda k: k.L.TimeDistributed(k.L.Softmax(axis=1))(k.input),
        SOFT,
        2,
    ),
    "time distributed model": (
        lambda k: k.L.TimeDistributed(k.nested())(k.L.Reshape((24, 5))(k.input)),
        SOFT,
        2,
    ),
    "time distributed pooling": (
        lambda k: k.L.TimeDistributed(k.L.GlobalAveragePooling1D())(k.soft()),
        SOFT,
        2,
    ),
    "time distributed own": (lambda k: k.L.TimeDistributed(k.own(C, "softmax"))(k.input), None),
    "rnn": (
        lambda k: k.L.SimpleRNN(C, activation="softmax")(k.L.Reshape((24, 5))(k.input)),
        SOFT,
        1,
    ),
    "lstm softmax": (
        lambda k: k.L.LSTM(C, activation="softmax")(k.L.Reshape((24, 5))(k.input)),
        None,
    ),
    "gru softmax": (
        lambda k: k.L.GRU(C, activation="softmax")(k.L.Reshape((24, 5))(k.input)),
        None,
    ),
    "lstm sigmoid": (
        lambda k: k.L.LSTM(C, activation="sigmoid")(k.L.Reshape((24, 5))(k.input)),
        None,
    ),
    "lstm": (lambda k: k.L.LSTM(C)(k.L.Reshape((24, 5))(k.input)), None),
    "mean of lstm": (
        lambda k: k.L.GlobalAveragePooling1D()(
            k.L.LSTM(C, return_sequences=True)(k.L.Reshape((24, 5))(k.input))
        ),
        LIN,
    ),
    "bidirectional average": (
        lambda k: k.L.Bidirectional(
            k.L.SimpleRNN(C, activation="softmax", return_sequences=True), merge_mode="ave"
        )(k.L.Reshape((24, 5))(k.input)),
        SOFT,
        2,
    ),
    "bidirectional sum": (
        lambda k: k.L.Bidirectional(k.L.SimpleRNN(C, activation="softmax"), merge_mode="sum")(
            k.L.Reshape((24, 5))(k.input)
        ),
        None,
    ),
    "bidirectional concatenation": (
        lambda k: k.L.Bidirectional(k.L.SimpleRNN(C, activation="softmax"))(
            k.L.Reshape((24, 5))(k.input)
        ),
        None,
    ),
    "bidirectional sigmoid": (
        lambda k: k.L.Bidirectional(k.L.SimpleRNN(C, activation="sigmoid"))(
            k.L.Reshape((24, 5))(k.input)
        ),
        SIG,
    ),
    "own layer": (lambda k: k.own(C, activation="softmax")(k.input), None),
    "own layer averaged": (
        lambda k: k.L.Average()([k.own(C, activation="softmax")(k.input), k.soft()]),
        None,
    ),
    "lambda layer": (lambda k: k.L.Lambda(lambda x: x, output_shape=(4, 6, C))(k.soft()), None),
    "input": (lambda k: k.input, None),
    "average of inputs": (lambda k: k.L.Average()([k.input, k.input]), None),
    # what keeps them
    "average": (lambda k: k.L.Average()([k.soft(), k.soft()]), SOFT, 3),
    "average of three sigmoids": (lambda k: k.L.Average()([k.sig(), k.sig(), k.sig()]), SIG),
    "average of averages": (
        lambda k: k.L.Average()([k.L.Average()([k.soft(), k.soft()]), k.soft()]),
        SOFT,
        3,
    ),
    "average of logits": (lambda k: k.L.Average()([k.lin(), k.lin()]), LIN),
    "average of axes": (
        lambda k: k.L.Average()([k.L.Softmax(axis=1)(k.lin()), k.L.Softmax(axis=2)(k.lin())]),
        None,
    ),
    "average of softmax and logits": (lambda k: k.L.Average()([k.soft(), k.lin()]), None),
    "average of softmax and sigmoid": (lambda k: k.L.Average()([k.soft(), k.sig()]), None),
    "average of softmax and input": (lambda k: k.L.Average()([k.soft(5), k.input]), None),
    "add": (lambda k: k.L.Add()([k.soft(), k.soft()]), None),
    "add of logits": (lambda k: k.L.Add()([k.lin(), k.lin()]), LIN),
    "add of relus": (lambda k: k.L.Add()([k.lin("relu"), k.lin("relu")]), LIN),
    "add, rescaled": (lambda k: k.L.Rescaling(0.5)(k.L.Add()([k.soft(), k.soft()])), SOFT, 3),
    "rescaled, add": (
        lambda k: k.L.Add()([k.L.Rescaling(0.3)(k.soft()), k.L.Rescaling(0.7)(k.soft())]),
        SOFT,
        3,
    ),
    "rescaled to more": (
        lambda k: k.L.Add()([k.L.Rescaling(0.5)(k.soft()), k.L.Rescaling(0.7)(k.soft())]),
        None,
    ),
    "convex by operators": (lambda k: 0.25 * k.soft() + k.soft() * 0.75, SOFT, 3),
    "convex, sigmoids": (lambda k: 0.25 * k.sig() + 0.75 * k.sig(), SIG),
    "thirds": (lambda k: (k.soft() + k.soft() + k.soft()) / 3, SOFT, 3),
    "extrapolated": (lambda k: 1.5 * k.soft() + k.soft() * -0.5, None),
    "logits scaled": (lambda k: k.lin() / 4.0, LIN),
    "logits shifted": (lambda k: k.lin() + 1.0, LIN),
    "softmax shifted": (lambda k: k.soft() + 0.1, None),
    "softmax of scaled logits": (lambda k: k.L.Softmax()(k.lin() / 4.0), SOFT, 3),
    "one minus sigmoid": (lambda k: 1.0 - k.sig(), SIG),
    "one minus softmax": (lambda k: 1.0 - k.soft(), None),
    "both sides of a sigmoid": (
        lambda k: (lambda p: k.L.Concatenate()([1.0 - p, p]))(k.flat(1, "sigmoid")),
        None,
    ),
    "minus": (lambda k: -k.lin(), LIN),
    "minus softmax": (lambda k: -k.soft(), None),
    "subtract": (lambda k: k.L.Subtract()([k.soft(), k.soft()]), None),
    "subtract logits": (lambda k: k.L.Subtract()([k.lin(), k.lin()]), LIN),
    "multiply": (lambda k: k.L.Multiply()([k.soft(), k.soft()]), None),
    "gated mixture": (
        lambda k: k.L.Add()([k.L.Multiply()([k.soft(), k.lin()]), k.soft()]),
        None,
    ),
    "tanh made a sigmoid": (lambda k: (k.lin("tanh") + 1.0) / 2.0, None),
    "mean of exponentials": (lambda k: k.L.GlobalAveragePooling2D()(k.lin("exponential")), None),
    "rescaling identity": (lambda k: k.L.Rescaling(1.0)(k.soft()), SOFT, 3),
    "rescaling": (lambda k: k.L.Rescaling(0.5)(k.soft()), None),
    "rescaling with offset": (lambda k: k.L.Rescaling(1.0, 0.1)(k.soft()), None),
    "rescaling of logits": (lambda k: k.L.Rescaling(2.0, 1.0)(k.lin()), LIN),
    "batch normalization": (lambda k: k.L.BatchNormalization()(k.soft()), None),
    "batch normalization of sigmoid": (lambda k: k.L.BatchNormalization()(k.sig()), None),
    "batch normalization of logits": (lambda k: k.L.BatchNormalization()(k.lin()), LIN),
    "layer normalization": (lambda k: k.L.LayerNormalization()(k.soft()), None),
    "global average": (lambda k: k.L.GlobalAveragePooling2D()(k.soft()), SOFT, 1),
    "global average kept": (lambda k: k.L.GlobalAveragePooling2D(keepdims=True)(k.soft()), SOFT, 3),
    "global average over the classes": (
        lambda k: k.L.GlobalAveragePooling2D()(k.L.Softmax(axis=1)(k.lin())),
        None,
    ),
    "global average, channels first": (
        lambda k: k.L.GlobalAveragePooling2D(data_format="channels_first")(
            k.L.Softmax(axis=1)(k.lin())
        ),
        SOFT,
        1,
    ),
    "global average over time": (lambda k: k.L.GlobalAveragePooling1D()(k.steps()), SOFT, 1),
    "global average of sigmoids": (lambda k: k.L.GlobalAveragePooling2D()(k.sig()), SIG),
    "global average of relu": (
        lambda k: k.L.GlobalAveragePooling2D()(k.L.Conv2D(C, 3, activation="relu")(k.input)),
        LIN,
    ),
    "global average of logits": (lambda k: k.L.GlobalAveragePooling2D()(k.lin()), LIN),
    "global maximum": (lambda k: k.L.GlobalMaxPooling2D()(k.soft()), None),
    "global maximum of sigmoids": (lambda k: k.L.GlobalMaxPooling2D()(k.sig()), SIG),
    "average pooling": (lambda k: k.L.AveragePooling2D(2)(k.soft()), SOFT, 3),
    "average pooling of classes": (
        lambda k: k.L.AveragePooling2D(2)(k.L.Softmax(axis=1)(k.lin())),
        None,
    ),
    "max pooling": (lambda k: k.L.MaxPooling2D(2)(k.soft()), None),
    "max pooling of sigmoids": (lambda k: k.L.MaxPooling2D(2)(k.sig()), SIG),
    "reshape": (lambda k: k.L.Reshape((24, C))(k.soft()), SOFT, 2),
    "reshape that splits positions": (lambda k: k.L.Reshape((2, 2, 6, C))(k.soft()), SOFT, 4),
    "reshape with -1": (lambda k: k.L.Reshape((-1, C))(k.soft()), SOFT, 2),
    "reshape that mixes": (lambda k: k.L.Reshape((C, 24))(k.soft()), None),
    "reshape behind the classes": (
        lambda k: k.L.Reshape((4, 18))(k.L.Softmax(axis=1)(k.lin())),
        SOFT,
        1,
    ),
    "reshape of sigmoids": (lambda k: k.L.Reshape((C, 24))(k.sig()), SIG),
    "flatten": (lambda k: k.L.Flatten()(k.soft()), None),
    "flatten of one position": (lambda k: k.L.Flatten()(k.L.Reshape((1, 1, C))(k.flat())), SOFT, 1),
    "flatten of sigmoids": (lambda k: k.L.Flatten()(k.sig()), SIG),
    "flatten of logits": (lambda k: k.L.Flatten()(k.lin()), LIN),
    "permute": (lambda k: k.L.Permute((3, 1, 2))(k.soft()), SOFT, 1),
    "permute there and back": (
        lambda k: k.L.Permute((2, 3, 1))(k.L.Permute((3, 1, 2))(k.soft())),
        SOFT,
        3,
    ),
    "repeat vector": (lambda k: k.L.RepeatVector(2)(k.flat()), SOFT, 2),
    "up-sampling": (lambda k: k.L.UpSampling2D(2)(k.soft()), SOFT, 3),
    "bilinear up-sampling": (
        lambda k: k.L.UpSampling2D(2, interpolation="bilinear")(k.soft()),
        SOFT,
        3,
    ),
    "cubic up-sampling": (
        lambda k: k.L.UpSampling2D(2, interpolation="bicubic")(k.soft()),
        None,
    ),
    "up-sampling of classes": (lambda k: k.L.UpSampling2D(2)(k.L.Softmax(axis=1)(k.lin())), None),
    "cropping": (lambda k: k.L.Cropping2D(1)(k.soft()), SOFT, 3),
    "cropping classes": (lambda k: k.L.Cropping2D(1)(k.L.Softmax(axis=2)(k.lin())), None),
    "padding": (lambda k: k.L.ZeroPadding2D(1)(k.soft()), None),
    "padding of logits": (lambda k: k.L.ZeroPadding2D(1)(k.lin()), LIN),
    "slice of positions": (lambda k: k.soft()[:, 0], SOFT, 2),
    "slices of positions": (lambda k: k.soft()[:, 1:3, ::2], SOFT, 3),
    "slice by ellipsis": (lambda k: k.soft()[..., 2, :], SOFT, 2),
    "slice with a new axis": (lambda k: k.soft()[:, :, None, 1], SOFT, 3),
    "slice of all classes": (lambda k: k.soft()[..., 0:C], SOFT, 3),
    "slice of classes": (lambda k: k.soft()[..., :2], None),
    "one class": (lambda k: k.soft()[..., 0], None),
    "slice of labels": (lambda k: k.sig()[..., :2], SIG),
    "one label": (lambda k: k.sig()[:, 0, 0, 0], SIG),
    "slice of logits": (lambda k: k.lin()[:, 0, 0], LIN),
    "concatenate": (lambda k: k.L.Concatenate()([k.soft(), k.soft()]), None),
    "concatenate positions": (lambda k: k.L.Concatenate(axis=1)([k.soft(), k.soft()]), SOFT, 3),
    "concatenate sigmoids": (lambda k: k.L.Concatenate()([k.sig(), k.sig()]), SIG),
    "concatenate logits": (lambda k: k.L.Concatenate()([k.lin(), k.lin()]), LIN),
    "concatenate unlike": (lambda k: k.L.Concatenate()([k.sig(), k.lin()]), None),
    "dropout": (
        lambda k: k.L.GaussianNoise(0.1)(k.L.SpatialDropout2D(0.1)(k.L.Dropout(0.1)(k.soft()))),
        SOFT,
        3,
    ),
    "regularized": (
        lambda k: k.L.ActivityRegularization(0.1)(k.L.Activation("linear")(k.soft())),
        SOFT,
        3,
    ),
    "relu of softmax": (lambda k: k.L.ReLU()(k.soft()), None),
    "softmax twice": (lambda k: k.L.Softmax()(k.soft()), SOFT, 3),
    "maximum": (lambda k: k.L.Maximum()([k.soft(), k.soft()]), None),
    "maximum of sigmoids": (lambda k: k.L.Maximum()([k.sig(), k.sig()]), SIG),
    "dense behind softmax": (lambda k: k.L.Dense(C)(k.soft()), LIN),
    "broadcast positions": (lambda k: (k.flat()[:, None, None] + k.soft()) / 2, SOFT, 3),
    "broadcast over classes": (
        lambda k: (k.soft()[..., :1] * 0.0 + k.flat(1, "sigmoid")[:, None, None] + k.soft()) / 2,
        None,
    ),
    # nested models
    "nested": (lambda k: k.nested()(vector(k)), SOFT, 1),
    "average of nested": (
        lambda k: k.L.Average()([k.nested()(vector(k)), k.nested()(vector(k))]),
        SOFT,
        1,
    ),
    "nested behind another": (
        lambda k: k.package.Sequential([k.package.Input((5,)), k.nested(None), k.L.Softmax()])(
            vector(k)
        ),
        SOFT,
        1,
    ),
    "nested with its own call": (lambda k: k.nested(inner_class=with_call(k))(vector(k)), None),
    "nested subclass without one": (
        lambda k: k.nested(inner_class=without_call(k))(vector(k)),
        SOFT,
        1,
    ),
}

ops = keras.ops
KERAS = {
    "ops.softmax": (lambda k: ops.softmax(k.lin()), SOFT, 3),
    "ops.softmax axis": (lambda k: ops.softmax(k.lin(), axis=1), SOFT, 1),
    "activations.softmax axis": (lambda k: keras.activations.softmax(k.lin(), axis=2), SOFT, 2),
    "ops.sigmoid": (lambda k: ops.sigmoid(k.lin()), SIG),
    "ops.log_softmax": (lambda k: ops.log_softmax(k.lin()), None),
    "layer as activation": (lambda k: k.lin(keras.layers.Softmax(axis=1)), SOFT, 1),
    "mean of a stack": (lambda k: ops.mean(ops.stack([k.soft(), k.soft()]), axis=0), SOFT, 3),
    "mean of a late stack": (
        lambda k: ops.mean(ops.stack([k.soft(), k.soft()], axis=-1), axis=-1),
        SOFT,
        3,
    ),
    "mean over classes": (lambda k: ops.mean(k.soft(), axis=-1), None),
    "mean over everything": (lambda k: ops.mean(k.soft(), axis=(1, 2, 3)), None),
    "sum of a stack": (lambda k: ops.sum(ops.stack([k.soft(), k.soft()]), axis=0), None),
    "sum, divided": (lambda k: ops.sum(ops.stack([k.soft(), k.soft()]), axis=0) / 2, SOFT, 3),
    "average": (lambda k: ops.average(ops.stack([k.soft(), k.soft()]), axis=0), SOFT, 3),
    "weighted average": (
        lambda k: ops.average(
            ops.stack([k.soft(), k.soft()]), axis=0, weights=np.array([0.2, 0.8])
        ),
        SOFT,
        3,
    ),
    "weighted beyond": (
        lambda k: ops.average(
            ops.stack([k.soft(), k.soft()]), axis=0, weights=np.array([-0.5, 1.5])
        ),
        None,
    ),
    "transpose": (lambda k: ops.transpose(k.soft(), (0, 3, 1, 2)), SOFT, 1),
    "swapaxes": (lambda k: ops.swapaxes(k.soft(), 1, -1), SOFT, 1),
    "moveaxis": (lambda k: ops.moveaxis(k.soft(), -1, 1), SOFT, 1),
    "squeeze": (lambda k: ops.squeeze(k.soft()[:, :1], axis=1), SOFT, 2),
    "expand_dims": (lambda k: ops.expand_dims(k.soft(), 1), SOFT, 4),
    "expand_dims last": (lambda k: ops.expand_dims(k.soft(), -1), SOFT, 3),
    "reshape over the batch": (lambda k: ops.reshape(k.soft(), (-1, C)), SOFT, 1),
    "reshape": (lambda k: ops.reshape(k.soft(), (-1, 24, C)), SOFT, 2),
    "take": (lambda k: ops.take(k.soft(), 0, axis=1), SOFT, 2),
    "take classes": (lambda k: ops.take(k.soft(), [0, 1], axis=-1), None),
    "split": (lambda k: ops.split(k.soft(), 2, axis=1)[0], SOFT, 3),
    "split classes": (lambda k: ops.split(k.soft(), C, axis=-1)[0], None),
    "unstack": (lambda k: ops.unstack(k.soft(), axis=1)[0], SOFT, 2),
    "flip": (lambda k: ops.flip(k.soft(), axis=-1), SOFT, 3),
    "repeat": (lambda k: ops.repeat(k.soft(), 2, axis=1), SOFT, 3),
    "repeat classes": (lambda k: ops.repeat(k.soft(), 2, axis=-1), None),
    "tile": (lambda k: ops.tile(k.soft(), (1, 2, 1, 1)), SOFT, 3),
    "concatenate": (lambda k: ops.concatenate([k.soft(), k.soft()], axis=2), SOFT, 3),
    "clip": (lambda k: ops.clip(k.soft(), 1e-7, 1 - 1e-7), SOFT, 3),
    "clip to less": (lambda k: ops.clip(k.soft(), 0.2, 0.8), None),
    "cast": (lambda k: ops.cast(ops.cast(k.soft(), "float64"), "float32"), SOFT, 3),
    "argmax": (lambda k: ops.cast(ops.argmax(k.soft(), -1), "float32"), None),
    "log": (lambda k: ops.log(k.soft()), None),
    "exp": (lambda k: ops.exp(k.lin()), None),
    "normalized by hand": (
        lambda k: (lambda e: e / ops.sum(e, -1, keepdims=True))(ops.exp(k.lin())),
        None,
    ),
    "mean of those": (
        lambda k: ops.mean((lambda e: e / ops.sum(e, -1, keepdims=True))(ops.exp(k.lin())), axis=1),
        None,
    ),
    "stop_gradient": (lambda k: ops.stop_gradient(k.soft()), SOFT, 3),
    "max over time of sigmoids": (lambda k: ops.max(k.sig(), axis=1), SIG),
    "max over time": (lambda k: ops.max(k.soft(), axis=1), None),
    "products of softmaxes": (lambda k: k.soft() * k.soft(), None),
    "square": (lambda k: ops.square(k.soft()), None),
    "broadcast_to": (lambda k: ops.broadcast_to(k.flat()[:, None, None], (7, 4, 6, C)), SOFT, 3),
    "adaptive pooling": (lambda k: k.L.AdaptiveAveragePooling2D(2)(k.soft()), SOFT, 3),
    "spectral normalization": (
        lambda k: k.L.SpectralNormalization(k.L.Dense(C, activation="softmax"))(k.input),
        SOFT,
        3,
    ),
}
TENSORFLOW = {
    "tf.nn.softmax": (lambda k: tf.nn.softmax(k.lin()), SOFT, 3),
    "tf.nn.softmax axis": (lambda k: tf.nn.softmax(k.lin(), axis=1), SOFT, 1),
    "tf.sigmoid": (lambda k: tf.sigmoid(k.lin()), SIG),
    "reduce_mean of a list": (lambda k: tf.reduce_mean([k.soft(), k.soft()], axis=0), SOFT, 3),
    "reduce_mean of a stack": (
        lambda k: tf.reduce_mean(tf.stack([k.soft(), k.soft()], axis=1), 1),
        SOFT,
        3,
    ),
    "reduce_mean over classes": (lambda k: tf.reduce_mean(k.soft(), -1), None),
    "add_n": (lambda k: tf.add_n([k.soft(), k.soft()]) / 2, SOFT, 3),
    "add_n alone": (lambda k: tf.add_n([k.soft(), k.soft()]), None),
    "tf.add": (lambda k: tf.math.add(k.soft(), k.soft()) / 2.0, SOFT, 3),
    "scalar_mul": (
        lambda k: tf.math.scalar_mul(0.5, k.soft()) + tf.math.multiply(k.soft(), 0.5),
        SOFT,
        3,
    ),
    "transpose": (lambda k: tf.transpose(k.soft(), (0, 3, 1, 2)), SOFT, 1),
    "squeeze": (lambda k: tf.squeeze(k.soft()[:, :1], axis=1), SOFT, 2),
    "expand_dims": (lambda k: tf.expand_dims(k.soft(), 1), SOFT, 4),
    "reshape": (lambda k: tf.reshape(k.soft(), (-1, C)), SOFT, 1),
    "gather": (lambda k: tf.gather(k.soft(), 0, axis=1), SOFT, 2),
    "gather classes": (lambda k: tf.gather(k.soft(), [0, 1], axis=-1), None),
    "split": (lambda k: tf.split(k.soft(), 2, axis=1)[0], SOFT, 3),
    "split classes": (lambda k: tf.split(k.soft(), C, axis=-1)[0], None),
    "unstack": (lambda k: tf.unstack(k.soft(), axis=1)[0], SOFT, 2),
    "concat": (lambda k: tf.concat([k.soft(), k.soft()], 1), SOFT, 3),
    "tile": (lambda k: tf.tile(k.soft(), [1, 2, 1, 1]), SOFT, 3),
    "identity": (lambda k: tf.identity(k.soft()), SOFT, 3),
    "clip": (lambda k: tf.clip_by_value(k.soft(), 1e-7, 1.0), SOFT, 3),
    "log": (lambda k: tf.math.log(k.soft()), None),
    "product": (lambda k: tf.math.multiply(k.soft(), k.soft()), None),
    "backend": (lambda k: tf_keras.backend.mean(k.soft(), axis=1), SOFT, 2),
    "reduce_max of sigmoids": (lambda k: tf.reduce_max(k.sig(), 1), SIG),
}
TABLE = [
    *(("keras", name, *entry) for name, entry in {**BOTH, **KERAS}.items()),
    *(("tf_keras", name, *entry) for name, entry in {**BOTH, **TENSORFLOW}.items()),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case[0]}: {case[1]}")
def test_kinds_are_what_the_numbers_say(case):
    flavour, _, build, want, *axis = case
    package = {"keras": keras, "tf_keras": tf_keras}[flavour]
    package.utils.set_random_seed(0)
    kit = Kit(package)
    model = package.Model(kit.input, build(kit))
    (kind,) = output_kinds(model)
    assert (kind.activation, kind.class_axis) == (want, axis[0] if axis else None)
    last = not axis or axis[0] == kind.rank - 1
    assert output_activations(model) == [want if last else None]
    x = np.random.default_rng(0).normal(size=(7, 4, 6, 5)).astype("float32") * 3
    numbers = np.asarray(model(x, training=False))
    assert numbers.ndim == kind.rank
    if want == "softmax":
        assert (numbers >= 0).all()
        np.testing.assert_allclose(numbers.sum(axis[0]), 1.0, atol=1e-5)
    if want == "sigmoid":
        assert (numbers > 0).all() and (numbers < 1).all()
    if want == "linear":
        assert numbers.min() < 0 or numbers.max() > 1 or abs(numbers.sum(-1) - 1).max() > 1e-3


@pytest.mark.parametrize("package", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_what_has_no_graph_of_its_own_is_unknown(package):
    class Subclassed(package.Model):
        def __init__(self):
            super().__init__()
            self.dense = package.layers.Dense(C, activation="softmax")

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(np.zeros((1, 2), "float32"))
    assert output_activations(model) == [None]
    kit = Kit(package)
    assert output_activations(kit.nested(inner_class=with_call(kit))) == [None]
    assert output_activations(kit.nested(inner_class=without_call(kit))) == ["softmax"]


@pytest.mark.parametrize("package", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_several_outputs_and_a_graph_too_deep_for_recursion(package):
    kit = Kit(package)
    x = kit.soft()
    for _ in range(1200):
        x = kit.L.Dropout(0.1)(x)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(9000)  # Keras's own need
    try:
        model = package.Model(kit.input, [x, kit.sig(), kit.lin("relu")])
    finally:
        sys.setrecursionlimit(limit)
    assert output_activations(model) == ["softmax", "sigmoid", None]
    walked = graph.walk(model)
    assert activation_behind(walked, walked.output_list[0]) == "softmax"


def test_wrapped_layers_are_what_they_wrap():
    import tfkd

    layers = keras.layers
    x = keras.Input((8,))
    h = layers.Dense(16, activation="relu")(x)
    ensemble = layers.Average()([layers.Dense(C, activation="softmax")(h) for _ in range(2)])
    models = {
        "softmax": keras.Model(x, layers.Dense(C, activation="softmax")(h)),
        "linear": keras.Model(x, layers.Dense(C)(h)),
        "sigmoid": keras.Model(x, layers.Dense(C, activation="sigmoid")(h)),
    }
    for want, model in models.items():
        assert output_activations(tfkd.quantize_aware(model)) == [want]
        assert output_activations(tfkd.prune_weights(model, 0.5, schedule="constant")) == [want]
    quantized = tfkd.quantize_aware(keras.Model(x, ensemble))
    assert output_activations(quantized) == ["softmax"]
