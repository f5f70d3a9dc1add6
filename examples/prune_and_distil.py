"""Make a trained model smaller round by round, and see what each way would have given.

python examples/prune_and_distil.py runs/spiral
"""

import sys

import keras

import tfkd
from tfkd.data import load_digits


def classifier():
    layers = keras.layers
    inputs = x = keras.Input((8, 8, 1), name="pixels")
    for width, stride in ((32, 1), (64, 2), (64, 2)):
        x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x)))


def main(folder, epochs=15, **settings):
    keras.utils.set_random_seed(0)
    data = load_digits()
    model = classifier()
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), hard)
    model.fit(data.train.x, data.train.y, epochs=epochs, batch_size=32, verbose=0)

    settings = {"step": 0.3, "epochs": 4, "alternatives": ["one_shot", "scratch"]} | settings
    found = tfkd.spiral(
        model, data, target={"macs": 0.25}, max_drop=0.02, folder=folder, **settings
    )
    print(found)  # and folder/spiral.svg is its picture, folder/student.keras its model
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
