"""Quantization-aware training of keras.applications: which become integer-only int8 files.

    python benchmarks/qat_applications.py --tfmot --out results.json
    python benchmarks/qat_applications.py --models MobileNet ResNet50
    python benchmarks/qat_applications.py --bits 4 --models MobileNetV2 EfficientNetB0 ResNet50

Weights are random and the data is noise: this shows that every operation is rounded and
converts, not that a model is accurate. Each model is translated, made quantize-aware, trained for
a step or two and converted, and the file is compared with the quantize-aware graph on the reference
kernels (in XNNPACK with `--bits 4`), in a process of its own, since a converter may die. With
`--tfmot`, tensorflow-model-optimization alone (`quantize_model` on the translated model) is
measured too. With `--bits 4`, weights have 4 bits where possible, and the layers that keep 8 bits
are listed with the reason.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np

# Name → smallest input its top takes comfortably.
MODELS = {
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "MobileNetV3Large": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "DenseNet121": 64,
    "NASNetMobile": 64,
    "Xception": 96,
    "InceptionV3": 96,
    "VGG16": 64,
    "ConvNeXtTiny": 64,
}


def one(name: str, options) -> dict:
    """Run one model; return what was seen."""
    import keras

    import tfkd
    from tfkd.export import to_tflite
    from tfkd.model import backends

    keras.utils.set_random_seed(0)
    size = MODELS[name]
    settings = {"weights": None, "input_shape": (size, size, 3), "classes": 10}
    settings["classifier_activation"] = None  # the softmax of random logits says little
    if name.startswith("MobileNetV3") or name.startswith("EfficientNet") or "ConvNeXt" in name:
        settings["include_preprocessing"] = True
    if name.startswith("EfficientNetB"):
        del settings["include_preprocessing"]
    model = getattr(keras.applications, name)(**settings)
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (16, size, size, 3)).astype("float32")
    # Statistics of this noise, or a deep net of random weights gives a constant.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)
    found = {"model": name, "parameters": model.count_params()}
    start = time.perf_counter()
    translated = tfkd.translate(model)
    found["translated_difference"] = float(
        np.abs(translated.predict(x, verbose=0) - model.predict(x, verbose=0)).max()
    )
    if options.tfmot:
        try:
            backends.tfmot().quantization.keras.quantize_model(translated)
            found["tfmot_alone"] = "accepted"
        except Exception as error:
            found["tfmot_alone"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    qat = tfkd.quantize_aware(model, bits=options.bits)
    qat.compile("sgd", "mse")
    qat.optimizer.learning_rate = 1e-6
    qat.fit(x, model.predict(x, verbose=0), batch_size=16, epochs=3, verbose=0)
    file = to_tflite(qat, "int8")
    (options.out.parent / f"{name}.tflite").write_bytes(file.data)
    want = qat.predict(x, verbose=0)
    # The reference kernels have no depthwise convolution with weights of 4 bits.
    got = file.predict(x, engine="xnnpack" if options.bits == 4 else "reference")
    found |= {
        "seconds": round(time.perf_counter() - start),
        "integer_only": file.integer_only,
        "bytes": file.size,
        "operations": sum(file.ops.values()),
        "max_lsb": float(np.abs(got - want).max() / file.outputs[0].scale),
        "mean_difference_of_spread": float(np.abs(got - want).mean() / want.std()),
        "argmax_agreement": float(np.mean(got.argmax(-1) == want.argmax(-1))),
        "ops": dict(file.ops),
    }
    if options.bits == 4:
        found |= {"four_bit_weights": file.four_bit_weights, "weight_bytes": file.weight_bytes}
        found["in_8_bits"] = in_8_bits(qat)
    if options.by_operation:
        found["by_operation"] = steps(qat, x)
    return found


def in_8_bits(qat) -> dict[str, list[str]]:
    """Return the layers that keep 8 bits, by the reason that `describe` gives."""
    from tfkd.quantization import describe

    kept = {}
    for layer in describe(qat).layers:
        if "8 bits" in layer.detail:
            kept.setdefault(layer.detail, []).append(layer.name)
    return kept


def steps(qat, x) -> dict:
    """Compare operation by operation: each gets what the quantize-aware graph gives it.

    A deep net of random weights doubles a difference of one LSB every few layers, so that
    the outputs say little of where it arose; this does.
    """
    import tempfile

    import tf_keras

    from tfkd.export import TFLiteModel
    from tfkd.export.conversion import converter, tracing
    from tfkd.quantization import export_form, quantizers

    plain = export_form.freeze(qat)
    rounds = [layer for layer in plain.layers if isinstance(layer, quantizers.Rounding)]
    worst, compared, i = {}, 0, 0
    while i < len(rounds) - 1:
        for j in range(i + 1, min(i + 14, len(rounds))):
            try:  # a stretch with one way in
                inner = tf_keras.Model(rounds[i].output, rounds[j].output)
                break
            except ValueError:
                inner = None
        if inner is None:
            i += 1
            continue
        first = rounds[i]
        given = tf_keras.Model(plain.input, first.output).predict(x, verbose=0)
        inputs = tf_keras.Input(given.shape[1:])
        stretch = tf_keras.Model(inputs, inner(quantizers.Rounding(first.low, first.high)(inputs)))
        with tempfile.TemporaryDirectory() as folder:
            tracing.save_model(stretch, folder, 1)
            job = converter.ConversionJob(folder=folder, format="int8")
            file = TFLiteModel(converter.convert(job)[0])
        difference = np.abs(
            file.predict(given, engine="reference") - stretch.predict(given, verbose=0)
        )
        lsb = float(difference.max() / file.outputs[0].scale)
        kinds = "+".join(sorted(file.ops))
        worst[kinds] = max(lsb, worst.get(kinds, 0.0))
        compared += 1
        i = j
    return {"stretches": compared, "of_roundings": len(rounds), "worst_lsb": worst}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("qat_applications.json"))
    parser.add_argument(
        "--tfmot", action="store_true", help="also tfmot's quantize_model (Xception: over 15 min)"
    )
    parser.add_argument("--bits", type=int, default=8, choices=(4, 8), help="of the weights")
    parser.add_argument("--by-operation", action="store_true", help="compare every stretch")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options)))
        return
    results = []
    for name in options.models:
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, "--out", str(options.out)]
            + ["--bits", str(options.bits)]
            + ["--tfmot"] * options.tfmot
            + ["--by-operation"] * options.by_operation,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            results.append({"model": name, "error": last[0], "exit": done.returncode})
        else:
            results.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(json.dumps({k: v for k, v in results[-1].items() if k != "ops"}), flush=True)
        options.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
