"""The demo: handwritten digits, a teacher CNN and a student a tenth its size."""

from __future__ import annotations

import dataclasses
import shutil

import keras

from tfkd.compression import pipeline
from tfkd.compression.stages import FOLDER
from tfkd.data import load_digits


def run(out, *, seed: int = 0, epochs: int | None = None, progress=None) -> pipeline.Result:
    """Run the whole pipeline on scikit-learn's digits.

    Args:
        out: The folder to make.
        seed: Seed of the split, the weights and the training.
        epochs: Epochs of teacher and student; quantization-aware training takes a third.
            Defaults to those of `tfkd.Recipe`.
        progress: See `tfkd.compress`.

    Returns:
        The `Result` of `tfkd.compress`.
    """
    recipe = pipeline.Recipe(seed=seed)
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=epochs, qat_epochs=max(1, epochs // 3))
    data = load_digits(seed)
    keras.utils.set_random_seed(seed)
    model = teacher()
    history = pipeline.fit_teacher(model, data, recipe, progress)
    made = pipeline.compress(
        model,
        data,
        student=student(),
        out=out,
        recipe=recipe,
        progress=progress,
        teacher_history=history,
        command=f"tfkd demo --seed {seed}" + (f" --epochs {epochs}" if epochs else ""),
    )
    # Remove the files that resume or repeat a run, since the demo is short.
    shutil.rmtree(made.folder / FOLDER)
    (made.folder / "recipe.yaml").unlink()
    return made


def teacher() -> keras.Model:
    """Return an untrained CNN of 95,000 weights for 8×8 digits; its outputs are logits."""
    return _cnn((32, 64, 128), dropout=0.3, name="teacher")


def student() -> keras.Model:
    """Return an untrained CNN of 10,000 weights for 8×8 digits; its outputs are logits."""
    return _cnn((12, 24, 32), dropout=0.0, name="student")


def _cnn(widths, dropout, name):
    layers = keras.layers
    inputs = x = keras.Input((8, 8, 1), name="pixels")
    for i, width in enumerate(widths):
        x = layers.Conv2D(width, 3, strides=2 if i == 1 else 1, padding="same", use_bias=False)(x)
        # Momentum for some thirty steps per epoch: with Keras's 0.99 the moving statistics, and
        # thus validation, lag ten epochs behind.
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x), name=name)
