"""Distil a teacher into a student, train it for int8, export, verify and benchmark it.

python examples/distil_and_export.py student_int8.tflite
"""

import sys

import keras
import tf_keras

import tfkd
from tfkd.data import load_digits
from tfkd.export import benchmark, to_tflite, verify


def classifier(width):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            layers.Conv2D(width, 3, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )


def main(path, epochs=10):
    keras.utils.set_random_seed(0)
    data = load_digits()
    validation = (data.validation.x, data.validation.y)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    teacher = classifier(32)
    teacher.compile("adam", hard)
    teacher.fit(data.train.x, data.train.y, epochs=epochs, verbose=0)

    student = classifier(6)
    distiller = tfkd.Distiller(student, teacher)
    distiller.compile("adam", hard, metrics=["accuracy"])
    distiller.fit(data.train.x, data.train.y, validation_data=validation, epochs=epochs, verbose=2)

    qat = tfkd.quantize_aware(student)
    distiller = tfkd.Distiller(qat, teacher)
    hard = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(tf_keras.optimizers.Adam(1e-4), hard, metrics=["accuracy"])
    distiller.fit(data.train.x, data.train.y, validation_data=validation, epochs=3, verbose=2)

    file = to_tflite(qat, "int8")
    print(file.describe())
    result = verify(file, qat, data.test.x, data.test.y)
    print(result)
    print(benchmark({"student_int8": file}, data.test.x)[0])
    file.save(path)
    return result


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["student_int8.tflite"])
