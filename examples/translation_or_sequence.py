"""Dates as people write them, to yymmdd: an LSTM taught step by step, decoded on its step file.

python examples/translation_or_sequence.py
python examples/translation_or_sequence.py --data pairs.txt --seeds 3
"""

import argparse
import importlib.util
import pathlib
import sys

import keras
import numpy as np
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from translation_texts import LAYOUT, Codec, read, written

import tfkd
from tfkd.export import micro_bundle, to_tflite, verify


def speller(codec, units):
    """Integer files have no masks, and none is needed: padding is behind, and weighs nothing."""
    layers = keras.layers
    size = len(codec.characters)
    return keras.Sequential([
        keras.Input((codec.steps,), dtype="int32", name="character"),
        layers.Embedding(size, 16), layers.LSTM(units, return_sequences=True), layers.Dense(size),
    ])  # fmt: skip


def fit(model, x, y, weights, epochs, learning_rate, teacher=None):
    """Train a model of Keras 3 or tf_keras, under a teacher if there is one, on each step."""
    package = keras if isinstance(model, keras.Model) else tf_keras
    if teacher is not None:
        model = tfkd.Distiller(model, teacher)
    hard = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    decay = package.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(x) // 64))
    model.compile(package.optimizers.Adam(decay), hard)
    model.fit(x, y, sample_weight=weights, epochs=epochs, batch_size=64, verbose=0)


def spelled(model, codec, pairs):
    """Return the text that a model writes: at each step the likeliest character (greedy)."""
    x = codec.encode([(given, "") for given, _ in pairs])[0]
    x[x == codec.numbers["<"]] = 0
    rows, place = np.arange(len(x)), np.array([len(given) for given, _ in pairs])
    said = np.zeros((len(x), codec.most), int)
    for step in range(codec.most):
        said[:, step] = model.predict(x, verbose=0)[rows, place + step].argmax(-1)
        if step + 1 < codec.most:
            x[rows, place + step + 1] = said[:, step]
    return [codec.decode(numbers) for numbers in said]


def spelled_by_file(file, codec, pairs):
    """Return the text that a step file writes: each character is its next input, with the state."""
    interpreter = Interpreter(model_content=file.data)
    interpreter.allocate_tensors()
    run, texts = interpreter.get_signature_runner(), []
    inputs = {info.name: info for info in file.inputs}
    (step,) = (name for name in inputs if name.startswith("step_"))
    (answer,) = {info.name for info in file.outputs} - set(dict(file.states).values())
    for given, _ in pairs:
        state = {name: np.full(inputs[name].shape, inputs[name].zero_point or 0, inputs[name].dtype)
                 for name, _ in file.states}  # fmt: skip
        numbers, said = [codec.numbers[character] for character in f"{given}>"], []
        while numbers and len(said) < codec.most:
            outputs = run(**state, **{step: np.array([[numbers.pop(0)]], "int32")})
            state = {name: outputs[made_by] for name, made_by in file.states}
            if not numbers:
                said.append(int(outputs[answer].argmax()))
                numbers = said[-1:]
        texts.append(codec.decode(said))
    return texts


def right(texts, pairs):
    """Return the share of texts that are right to the last character, in %."""
    return 100 * sum(t == wanted for t, (_, wanted) in zip(texts, pairs, strict=True)) / len(pairs)


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, help="a file; without it dates are made")
    parser.add_argument("--units", type=int, default=40, help="of the student; default 40")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("translation_or_sequence"))
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args(args)
    try:
        pairs = read(options.data) if options.data else written(500 if options.quick else 4000)
    except (OSError, ValueError) as error:
        sys.exit(f"{options.data} can't be read: {error}\n{LAYOUT}")
    codec, few = Codec(pairs), len(pairs) // 10
    test, train = pairs[:few], [pair for pair in pairs[few:] if pair not in pairs[:few]]
    (x, y, weights), (x_test, *_) = codec.encode(train), codec.encode(test)
    print(
        f"{len(train)} pairs to train on, {len(test)} to test on; right to the last character in %"
    )
    epochs, rate, gains = (12, 2e-2, []) if options.quick else (30, 5e-3, [])
    units = {"teacher": 24 if options.quick else 96}
    for seed in range(options.seeds):
        models, scores = {}, {}
        for name in ("teacher", "student alone", "distilled"):
            keras.utils.set_random_seed(seed)
            models[name] = speller(codec, units.get(name, 12 if options.quick else options.units))
            taught_by = models["teacher"] if name == "distilled" else None
            fit(models[name], x, y, weights, epochs, rate, taught_by)
            scores[name] = right(spelled(models[name], codec, test), test)
        print(f"seed {seed}", *(f"{name} {score:.1f}" for name, score in scores.items()), sep="   ")
        gains.append(scores["distilled"] - scores["student alone"])
    print(f"gain by the teacher {np.mean(gains):+.1f} ± {np.std(gains, ddof=len(gains) > 1):.1f}")

    qat = tfkd.quantize_aware(models["distilled"])
    fit(qat, x, y, weights, 1 if options.quick else 3, 3e-4, models["teacher"])
    formats = (("int16x8", models["distilled"]), ("int8", qat))
    for format, model in formats[options.quick :]:
        micro = format == "int8"  # the table of characters has no 16-bit kernel on TFLM
        step = to_tflite(model, format, x[:200], recurrent="step", micro=micro)
        score = right(spelled_by_file(step, codec, test), test)
        print(f"{format:8} step by step, greedy: {score:.1f}, {step.size:,} bytes")
    result = verify(step, qat, x_test)
    print(step.describe(), result, sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    step.save(options.out / "student_step_int8.tflite")
    (options.out / "characters.txt").write_text("\n".join(codec.characters), "utf-8")
    if importlib.util.find_spec("tflite_micro"):
        print(micro_bundle(step, options.out / "firmware", "student", x=x_test[:20], force=True))
    return result


if __name__ == "__main__":
    main()
