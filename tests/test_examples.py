"""The examples run, and do what the README states."""

import argparse
import dataclasses
import importlib.util
import pathlib
import random
import shutil
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

from tfkd.export import to_tflite

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch):
    """As in `python examples/NAME.py`, where an example may import one beside it."""
    monkeypatch.syspath_prepend(EXAMPLES)


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_distil_and_export(tmp_path, capsys):
    result = load("distil_and_export").main(tmp_path / "m.tflite", epochs=6)
    assert result.passed and result.metrics["accuracy"] > 0.85
    assert "integer only" in capsys.readouterr().out
    assert (tmp_path / "m.tflite").stat().st_size > 1000


@pytest.mark.slow
def test_prune_and_distil(tmp_path, capsys):
    found = load("prune_and_distil").main(tmp_path / "here", epochs=6, format=None, step=0.5)
    assert found.reached and found.final.macs < 0.25 * found.original.macs
    assert "one shot" in capsys.readouterr().out
    assert {"student.keras", "spiral.svg"} <= {p.name for p in (tmp_path / "here").iterdir()}


def test_own_layers(capsys):
    small, lost, file, steps = load("own_layers").main()
    assert small.get_layer("own").units == 16 and lost < 1e-5
    assert file.integer_only and steps <= 1.001
    assert "32 units, 16 left" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_has_a_page(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 150
    page = EXAMPLES.parent / f"docs/examples/{path.name}".replace(".py", ".md")
    if "--data" in text:
        assert f"python examples/{path.name}" in page.read_text("utf-8")


def run_quickly(name, folder, *more):
    """Run an example with --quick; return what it verified and the `.tflite` files it wrote."""
    result = load(name).main(["--quick", "--out", str(folder / "out"), *more])
    assert (folder / "out/firmware/main.cc").exists()
    return result, {path.name: path.stat().st_size for path in (folder / "out").glob("*.tflite")}


@pytest.mark.slow
def test_trees_and_svms(tmp_path, capsys):
    result, files = run_quickly("trees_and_svms", tmp_path)
    assert result.passed and result.metrics["accuracy"] > 0.7
    assert 2_000 < files["student_int8.tflite"] < 5_000
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("none", "SVM", "plain function"))


@pytest.mark.slow
def test_imbalanced(tmp_path, capsys):
    result, files = run_quickly("imbalanced", tmp_path)
    assert result.argmax_agreement > 0.9 and files["student_int8.tflite"] < 5_000
    printed = capsys.readouterr().out
    assert "all   rare: 3 8 9" in printed and "weighted KL too" in printed


@pytest.mark.slow
def test_anomaly_autoencoder(tmp_path, capsys):
    result, files = run_quickly("anomaly_autoencoder", tmp_path)
    assert abs(result.metrics["auc"] - result.model_metrics["auc"]) < 0.02
    assert files["student_int8.tflite"] < 12_000
    assert "an anomaly is a mean square above" in capsys.readouterr().out


@pytest.mark.slow
def test_forecast_lstm(tmp_path, capsys):
    csv = tmp_path / "hours.csv"
    hours = np.arange(1000)
    rows = [f"{hour},{np.sin(hour / 4):.4f}" for hour in hours]
    csv.write_text("\n".join(["date,OT", *rows]))
    _, files = run_quickly("forecast_lstm", tmp_path, "--data", str(csv), "--steps", "900")
    assert set(files) == {"student_int8.tflite", "student_step_int8.tflite"}
    lines = capsys.readouterr().out.splitlines()
    whole, step, carried = (float(line.split()[-2]) for line in lines if line.startswith("int8, "))
    assert step == pytest.approx(whole, rel=0.1) and carried == pytest.approx(whole, rel=0.5)


def test_what_is_generated_has_the_layout_of_what_is_read():
    options = argparse.Namespace(data=None, quick=True)
    (x, y, steps), (x_test, *_) = load("series_gru").load(options)
    assert x.shape == x_test.shape == (100, 8, 3) and set(y) == set(range(6))
    padding = np.arange(8) < 8 - steps[:, None]
    assert (x[padding] == 0).all() and (x[~padding] != 0).all() and steps.min() == 7
    (x, y), (x_val, _), _ = load("forecast_lstm").load(options)
    assert x.shape[1:] == (96, 1) and y.shape[1:] == (24,) and len(x_val)
    np.testing.assert_allclose(x.std(), 1, atol=1e-3)


def test_a_state_that_is_carried_on_is_that_of_the_whole_series(rng):
    example = load("forecast_lstm")
    model = keras.Sequential([keras.Input((4, 1)), keras.layers.LSTM(3), keras.layers.Dense(2)])
    series = rng.normal(size=(9, 1)).astype("float32")
    windows = np.stack([series[i : i + 4] for i in range(6)])
    step = to_tflite(model, "int8", np.tile(windows, (20, 1, 1)), recurrent="step")
    answers = example.carried_on(step, windows)
    for i in (0, 1, 5):  # up to the end of that window, from the start of the first
        np.testing.assert_array_equal(answers[i], step.predict(series[None, : i + 4])[0])


@pytest.mark.slow
def test_series_gru(tmp_path, capsys):
    for part, last in (("TRAIN", ",0.2,0.3"), ("TEST", ",0.2,NaN")):
        lines = ["# two channels", "@data"]
        lines += [f"1.0,{i}.5{last}:0.3,0.1{last}:one\n-1.0,-{i}:-0.5,0.7:two" for i in range(20)]
        (tmp_path / f"few_{part}.ts").write_text("\n".join(lines))
    result, files = run_quickly("series_gru", tmp_path, "--data", str(tmp_path))
    assert result.samples == 40 and "student_step_int8.tflite" in files
    printed = capsys.readouterr().out
    assert "float16  fused     none" in printed and "int8     loop" in printed


SENTENCES = ["It's A GREAT film, not dull!", "caf\u00e9 unheard-of \u212aind...", "", "word " * 50]


@pytest.mark.slow
def test_text_lstm(tmp_path, capsys):
    result, files = run_quickly("text_lstm", tmp_path)
    assert result.passed and result.metrics["accuracy"] > 0.75
    assert 4_000 < files["student_int8.tflite"] < 6_000
    printed = capsys.readouterr().out
    assert "integer only" in printed and "gain by the teacher" in printed


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_device_splits_texts_as_the_training_does(tmp_path):
    words = load("text_words")
    vocabulary = words.vocabulary_of(["a dull film it's", "it's a great a film dull great"], 9)
    assert vocabulary == ["a", "dull", "film", "great", "it's"]
    words.write_words(vocabulary, 6, tmp_path)
    quoted = ", ".join(
        "".join(f"\\{byte:03o}" for byte in s.encode()).join('""') for s in SENTENCES
    )
    (tmp_path / "main.c").write_text(f"""#include <stdio.h>
#include "text_words.h"
int main(void) {{
  static const char* const texts[] = {{{quoted}}};
  for (int i = 0; i < {len(SENTENCES)}; i++) {{
    int32_t ids[words_length];
    words_encode(texts[i], ids);
    for (int j = 0; j < words_length; j++) printf("%d ", (int)ids[j]);
  }}
}}""")
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout
    expected = words.encode(SENTENCES, vocabulary, 6)
    assert [int(number) for number in printed.split()] == expected.ravel().tolist()
    assert expected.tolist()[:2] == [[6, 2, 5, 4, 1, 3], [0, 0, 1, 1, 1, 1]]


@pytest.mark.slow
def test_bert_to_lstm(tmp_path, capsys):
    pytest.importorskip("keras_hub")
    result, _ = run_quickly("bert_to_lstm", tmp_path)
    assert result.passed and result.metrics["accuracy"] > 0.75
    assert "gain by the teacher" in capsys.readouterr().out


def test_a_preset_of_keras_hub_is_read(tmp_path):
    pytest.importorskip("keras_hub")
    example = load("bert_to_lstm")
    saved = example.small_bert(["film", "dull"], 8)
    saved.save_to_preset(str(tmp_path / "preset"))
    options = argparse.Namespace(preset=str(tmp_path / "preset"), length=4, fine_tune=0)
    read = example.bert(options, None)  # with the head that it has
    texts = np.array(["dull film", "a film"])
    np.testing.assert_allclose(
        read.predict(texts, verbose=0), saved.predict(texts, verbose=0), atol=1e-5
    )


def test_sentences_are_read_in_two_layouts(tmp_path):
    words = load("text_words")
    with pytest.raises(SystemExit, match=r"Expected: a folder(.|\n)*1 a gripping film"):
        load("text_lstm").main(["--data", str(tmp_path)])
    for part in ("train", "test"):
        (tmp_path / f"few.{part}").write_text("1 good film\n0 dull film\n" * 16)
        for kind in ("pos", "neg"):
            (tmp_path / "imdb" / part / kind).mkdir(parents=True)
            for i in range(16):
                (tmp_path / "imdb" / part / kind / f"{i}_7.txt").write_text(f"a {kind} film")
    (texts, y), (_, y_validation), (test, y_test) = words.load(tmp_path)
    assert len(texts) == 28 and len(y_validation) == 4
    assert (test[0].strip(), y_test[0]) == ("good film", 1)
    assert all(
        (label == 1) == text.startswith("good") for text, label in zip(texts, y, strict=True)
    )
    (texts, y), _, _ = words.load(tmp_path / "imdb")
    assert len(texts) == 28 and all(
        (label == 1) == ("pos" in text) for text, label in zip(texts, y, strict=True)
    )
    (tmp_path / "few.dev").write_text("positive: good film\n")
    with pytest.raises(SystemExit, match="can't be read: in dev there is a line"):
        load("text_lstm").main(["--data", str(tmp_path)])


@pytest.mark.slow
def test_keywords_dscnn(tmp_path, capsys):
    result, files = run_quickly("keywords_dscnn", tmp_path)
    assert result.passed and result.metrics["accuracy"] > 0.5
    assert set(files) == {"student_int8.tflite", "features_float32.tflite"}
    assert files["student_int8.tflite"] < 10_000 and files["features_float32.tflite"] < 30_000
    assert (tmp_path / "out/firmware/features/features_infer.h").exists()
    (both,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("both"))
    assert float(both.split()[-1]) == pytest.approx(100 * result.metrics["accuracy"], abs=1)


def test_the_file_of_the_features_computes_what_a_fourier_transform_gives(rng):
    example = load("keywords_features")
    samples = rng.normal(0, 0.3, (20, example.FRAME)).astype("float32")
    power = np.abs(np.fft.rfft(samples * np.hanning(257)[:-1])) ** 2
    bins = (np.arange(16)[:, None] + 16 * np.arange(9)).ravel()  # the order of the rows
    triangles = example.mel_matrix()
    assert (triangles[bins >= 128] == 0).all() and (triangles.max(0) > 0).all()
    inside = bins <= 128
    expected = (np.log(power[:, bins[inside]] @ triangles[inside] + 1e-4) + 2) / 3
    model = example.features_of(-2.0, 3.0)
    np.testing.assert_allclose(model.predict_on_batch(samples), expected, atol=1e-5)
    file = to_tflite(model, "float32", micro=True)
    for engine in ("xnnpack", "tflm"):
        np.testing.assert_allclose(file.predict(samples, engine), expected, atol=1e-5)


@pytest.mark.slow
def test_detection(tmp_path, capsys):
    result, files = run_quickly("detection", tmp_path)
    assert result.passed and 10_000 < files["student_int8.tflite"] < 13_000
    printed = capsys.readouterr().out
    (precision,) = (line for line in printed.splitlines() if line.startswith("int8 file"))
    assert float(precision.split()[-1]) > 15  # a guess of class and place gets less than 1
    assert "output boxes" in printed and "output classes" in printed


def test_boxes_are_decoded_as_they_were_encoded():
    boxes_of, canvases = load("detection_boxes"), load("digit_canvases")
    x, boxes, classes, _ = canvases.canvases(20, "test")
    labels, is_object = boxes_of.targets(x, boxes, classes)
    assert is_object.sum() == (classes >= 0).sum() > 20
    found = {"classes": np.eye(11)[labels["classes"]] * 20, "boxes": labels["boxes"]}
    assert boxes_of.average_precision(found, boxes, classes) == 100
    image = classes[:, 1].argmax()  # one with several
    decoded, kinds, _ = boxes_of.decode(found["classes"][image], found["boxes"][image])
    order = np.lexsort(decoded.T)
    expected = boxes[image][classes[image] >= 0]
    np.testing.assert_allclose(decoded[order], expected[np.lexsort(expected.T)], atol=1e-4)
    assert sorted(kinds) == sorted(classes[image][classes[image] >= 0])
    found["boxes"] = labels["boxes"] + 9.0  # found, and too large
    assert boxes_of.average_precision(found, boxes, classes) == 0
    square = np.array([0.0, 0.0, 2.0, 2.0])
    others = np.array([[1.0, 1.0, 3.0, 3.0], [5.0, 5.0, 6.0, 6.0], [0.0, 0.0, 2.0, 2.0]])
    np.testing.assert_allclose(boxes_of.overlap(square, others), [1 / 7, 0, 1])


@pytest.mark.slow
def test_segmentation(tmp_path, capsys):
    result, files = run_quickly("segmentation", tmp_path)
    assert result.passed and 14_000 < files["student_int8.tflite"] < 17_000
    printed = capsys.readouterr().out
    (iou,) = (line for line in printed.splitlines() if line.startswith("int8 file"))
    assert float(iou.split()[-1]) > 90  # alone 97.6, and 67 with loud examples of two classes
    assert "of the pixels void" in printed


@pytest.mark.slow
def test_image_resnet(tmp_path, capsys):
    result, files = run_quickly("image_resnet", tmp_path)
    assert result.passed
    rows = [
        line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line[0] == "|"
    ]
    rows = {row[0].strip(): [float(value) for value in row[1:] if value.strip()] for row in rows}
    for teacher, half in zip(rows["teacher"][1:], rows["half"][1:], strict=True):
        assert half <= teacher / 2
    assert files["student_4_bits-0.tflite"] == rows["half, 4 bits"][1] < rows["half, 8 bits"][1]
    assert rows["half, 4 bits"][0] > 80


def test_void_pixels_count_in_no_score():
    mean_iou, rng = load("segmentation").mean_iou, np.random.default_rng(0)
    y = rng.integers(-1, 3, (4, 6, 6))
    said = rng.integers(0, 3, y.shape)
    ious = []
    for label in range(3):
        of_both, either = (said == label) & (y == label), (said == label) | (y == label)
        ious.append((of_both & (y != -1)).sum() / (either & (y != -1)).sum())
    assert mean_iou(np.eye(3)[said], y) == pytest.approx(100 * np.mean(ious))


@pytest.mark.slow
def test_quantize_or_distil_first(tmp_path, capsys):
    result, files = run_quickly("quantize_or_distil_first", tmp_path)
    assert result.passed and result.metrics["accuracy"] > 0.5
    assert files["student_int8.tflite"] < 4_000
    printed = capsys.readouterr().out
    ways = ("distilled, then rounded", "distilled, then quantized", "quantized at once, distilled")
    assert all(f"\n{way} " in printed for way in ways)


def test_all_orders_train_for_as_long():
    ways = load("quantize_or_distil_first").WAYS
    for stages in ways.values():
        assert sum(share for *_, share in stages) == 1 and stages[-1][0]  # ends with rounding


@pytest.mark.slow
def test_translation_or_sequence(tmp_path, capsys):
    result, files = run_quickly("translation_or_sequence", tmp_path)
    assert result.samples == 50 and files["student_step_int8.tflite"] < 12_000
    assert "int8     step by step, greedy" in capsys.readouterr().out
    assert (tmp_path / "out/characters.txt").read_text().count("\n") > 12


def test_a_step_file_spells_what_its_model_spells():
    example, texts = load("translation_or_sequence"), load("translation_texts")
    pairs = texts.written(6)
    codec = texts.Codec(pairs)
    x, y, weights = codec.encode(pairs)
    for given, row, label, weight in zip(pairs, x, y, weights, strict=True):
        assert codec.decode(label[weight > 0]) == given[1]
        assert codec.characters[row[weight.argmax()]] == ">"
        assert weight.sum() == len(given[1]) + 1
    keras.utils.set_random_seed(1)
    model = example.speller(codec, 8)
    model.layers[-1].kernel.assign(5 * model.layers[-1].kernel)
    step = to_tflite(model, "float32", recurrent="step")
    by_model = example.spelled(model, codec, pairs)
    assert len(set(by_model)) > 1 and example.spelled_by_file(step, codec, pairs) == by_model
    wanted = [wanted for _, wanted in pairs]
    assert example.right(wanted, pairs) == 100 and example.right(["", *wanted[1:]], pairs) < 84


NPZ = [
    "trees_and_svms",
    "imbalanced",
    "anomaly_autoencoder",
    "keywords_dscnn",
    "detection",
    "segmentation",
    "image_resnet",
    "quantize_or_distil_first",
]


def given(name, path):
    """Return what the `load` of an example takes for `--data`."""
    by_options = name in ("detection", "segmentation")
    return argparse.Namespace(data=str(path), quick=True) if by_options else str(path)


def refused(name, path, because, **arrays):
    """Save arrays, and check that an example answers with the reason and the layout."""
    np.savez(path, **arrays)
    with pytest.raises(SystemExit, match=rf"{because}(.|\n)*Expected: an \.npz file with x"):
        load(name).main(["--data", str(path)])


@pytest.mark.parametrize("name", NPZ)
def test_an_npz_of_another_layout_is_answered_with_the_one_that_is_wanted(name, tmp_path):
    path = tmp_path / "mine.npz"
    refused(name, path, "", x=np.zeros((20, 4)), y=np.linspace(0, 1, 20))
    for damaged in (path.read_bytes()[:200], b"", None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(SystemExit, match=r"Expected: an \.npz file with x(.|\n)*np\.savez\("):
            load(name).main(["--data", str(path)])
    np.save(tmp_path / "mine.npy", np.zeros((20, 8, 8, 1)))
    with pytest.raises(SystemExit, match="Expected: an"):
        load(name).main(["--data", str(tmp_path / "mine.npy")])


@pytest.mark.parametrize("name", NPZ)
def test_the_sample_of_a_layout_is_taken(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = load(name)
    exec(example.LAYOUT[example.LAYOUT.index("np.savez(") :], {"np": np})
    (path,) = tmp_path.iterdir()
    assert example.load(given(name, path))


#: Examples that classify, with the shape and the type of an example.
CLASSIFIERS = {
    "trees_and_svms": ((4,), "float32"),
    "imbalanced": ((4,), "float32"),
    "quantize_or_distil_first": ((4,), "float32"),
    "keywords_dscnn": ((8000,), "int16"),
    "image_resnet": ((8, 8, 1), "float32"),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_are_class_numbers_from_0_that_are_all_trained_on(name, tmp_path):
    shape, dtype = CLASSIFIERS[name]
    x, y, path = np.ones((90, *shape), dtype), np.arange(90) % 3, tmp_path / "mine.npz"
    np.savez(path, x=x, y=y[:, None])
    loaded = load(name).load(str(path))
    train = (loaded.train.x, loaded.train.y) if name == "image_resnet" else next(iter(loaded))
    train = train[0] if isinstance(train, list) else train
    assert train[1].shape == (54,) and set(train[1]) == {0, 1, 2}
    for labels in (np.eye(3, dtype=int)[y], y + 1, 2 * (y > 0) - 1, y / 3, 0 * y):
        refused(name, path, "", x=x, y=labels)
    parts = {"x_train": x, "y_train": y, "x_test": x[:30], "x_validation": x[:30]}
    parts["y_validation"] = y[:30]
    refused(name, path, "The classes are 0, 1, 2, 3, in the training part 0, 1, 2", **parts,
            y_test=np.full(30, 3))  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(NPZ) - {"keywords_dscnn"}))
def test_nan_is_met_before_training(name, tmp_path):
    """Those of the others are whole numbers."""
    shape, rng = CLASSIFIERS.get(name, ((8, 8, 1), ""))[0], np.random.default_rng(0)
    arrays = {"x": np.ones((90, *shape)), "y": np.arange(90) % 2}
    if name == "segmentation":
        arrays["y"] = rng.integers(2, size=(90, 8, 8))
    if name == "detection":
        arrays = {"x": arrays["x"], "boxes": np.tile([1, 1, 5, 5], (90, 1, 1)),
                  "classes": np.zeros((90, 1), int)}  # fmt: skip
    arrays["x"][3, 0] = np.nan
    refused(name, tmp_path / "mine.npz", "must hold finite numbers", **arrays)


def test_whole_numbers_are_scaled_without_wrapping_around():
    scaled = load("labelled_data").scaled
    wide = np.array([-30000, 0, 30000], "int16")
    np.testing.assert_allclose(scaled(wide)[0], [0, 0.5, 1])
    train, test = scaled(np.array([100, 200], "uint8"), np.array([50, 250], "uint8"))
    np.testing.assert_allclose(np.stack([train, test]), [[0, 1], [-0.5, 1.5]])


@pytest.mark.parametrize("name", ["trees_and_svms", "imbalanced", "quantize_or_distil_first"])
def test_a_folder_of_images_is_read(name, tmp_path):
    pytest.importorskip("PIL")
    for label, kind in enumerate(("cat", "dog")):
        (tmp_path / kind).mkdir()
        for i in range(20):
            image = np.full((4, 4, 3), 100 * label + i)
            keras.utils.save_img(tmp_path / kind / f"{i}.png", image, scale=False)
    parts, _ = load(name).load(str(tmp_path))
    for x, y in parts:
        assert x.size == len(y) * 48 and x.dtype == "float32"
        np.testing.assert_array_equal(x.reshape(len(x), -1).mean(1) > 0.5, y == 1)


def test_texts_of_anomalies_are_read_as_they_are_meant(tmp_path, rng):
    example, path = load("anomaly_autoencoder"), tmp_path / "machine.npz"
    y = np.array(["normal"] * 180 + ["anomaly"] * 20)
    x = rng.normal(0, 1, (200, 8)) + 5 * (y == "anomaly")[:, None]
    np.savez(path, x=x, y=y)
    train, *others = example.load(str(path))
    assert len(train) == 108 and train.mean(-1).max() < 2.5
    for x_part, y_part in others:
        np.testing.assert_array_equal(x_part.mean(-1) > 2.5, y_part == 1)
    refused("anomaly_autoencoder", path, "'fault'", x=x, y=np.where(y == "normal", "ok", "fault"))


def test_a_class_that_the_validation_part_lacks_is_met_before_training(tmp_path):
    y = np.repeat([0, 1, 2], [30, 30, 8])
    arrays = {f"x_{part}": np.ones((68, 4)) for part in ("train", "validation", "test")}
    labels = {"y_train": y, "y_validation": np.minimum(y, 1), "y_test": y}
    because = r"no examples of \[2\]"
    refused("imbalanced", tmp_path / "mine.npz", because, **arrays, **labels)
    recalls = load("imbalanced").recalls(np.eye(3)[[0, 1, 1]], np.array([0, 1, 0]))
    np.testing.assert_array_equal(recalls, [50, 100, np.nan])


def test_a_plain_function_of_two_classes_has_two_logits(rng, tmp_path):
    y = np.arange(200) % 2
    x = rng.normal(0, 1, (200, 4)) + 4 * y[:, None]
    logits = load("trees_and_svms").plain_function(x, y)(x)
    assert logits.shape == (200, 2) and (logits.argmax(-1) == y).mean() > 0.9
    few = np.repeat([0, 1], [94, 6])
    refused("trees_and_svms", tmp_path / "mine.npz", "of class 1", x=x[:100], y=few)


def test_boxes_are_pixels_of_their_image(tmp_path):
    path, classes = tmp_path / "mine.npz", np.zeros((40, 1), int)
    x, box = np.random.default_rng(0).random((40, 40, 60, 1)), np.array([42.0, 3, 52, 20])
    np.savez(path, x=x, boxes=np.tile(box, (40, 1, 1)), classes=classes)
    (_, boxes, _), _ = load("detection").load(given("detection", path))
    np.testing.assert_array_equal(boxes[0, 0], box)
    for other, because in (
        (10 * box, "has no x1 < x2"),
        (box[[1, 0, 3, 2]], "has no x1 < x2"),  # the middle is below the image
        (box[[2, 1, 0, 3]], "has no x1 < x2"),
        (box / 60, "seem to be fractions"),
    ):
        boxes = np.tile(other, (40, 1, 1))
        refused("detection", path, because, x=x, boxes=boxes, classes=classes)
    refused("detection", path, "The shapes are", x=x, boxes=np.tile(box, (40, 1)), classes=classes)


@pytest.mark.parametrize("name", ["detection", "segmentation"])
def test_images_are_scaled_by_the_training_part(name, tmp_path):
    example, path = load(name), tmp_path / "mine.npz"
    x = np.full((50, 8, 8, 1), 150, "uint8")
    x[:, 0, 0], x[:, 1, 1] = 100, 200
    test = np.random.default_rng(0).permutation(50)[40:]
    x[test, 1, 1] = 250
    boxes, y = (
        np.tile([1, 1, 5, 5], (50, 1, 1)),
        np.random.default_rng(0).integers(2, size=(50, 8, 8)),
    )
    classes = np.arange(50)[:, None] % 2
    labels = {"y": y} if name == "segmentation" else {"boxes": boxes, "classes": classes}
    np.savez(path, x=x, **labels)
    (x_train, *_), (x_test, *_) = example.load(given(name, path))
    assert (x_train.min(), x_train.max(), x_test.max()) == (0, 1, 1.5)
    (y if name == "segmentation" else classes)[test] = 2
    refused(name, path, "The classes are 0, 1, 2, in the training part 0, 1", x=x, **labels)


class StoppedError(Exception):
    """Raised where a training would begin."""


def test_a_teacher_has_the_weights_of_its_seed(monkeypatch):
    example, seen = load("series_gru"), []

    def fit(model, *args):
        seen.append(model.get_weights())
        raise StoppedError

    monkeypatch.setattr(example, "fit", fit)
    for process in (1, 2):
        random.seed(process)  # by the system in each process
        with pytest.raises(StoppedError):
            example.main(["--quick"])
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)


def test_texts_without_known_words_are_met_before_training(tmp_path):
    for part in ("train", "test"):
        lines = "1 хороший фильм\n0 скучный фильм\n" * 40
        (tmp_path / f"few.{part}").write_text(lines, "utf-8")
    with pytest.raises(SystemExit, match=r"has 0 words(.|\n)*words_encode(.|\n)*Expected"):
        load("text_lstm").main(["--data", str(tmp_path)])


def test_other_options_or_data_give_another_teacher(tmp_path, monkeypatch):
    example, fitted = load("image_resnet"), []
    monkeypatch.setattr(example, "fit", lambda model, *args: fitted.append(model))
    data = example.load(None)
    fewer = dataclasses.replace(data, train=data.train.head(100))
    for run, width, epochs in (
        (data, 4, 1),
        (data, 4, 1),
        (data, 8, 1),
        (data, 4, 2),
        (fewer, 4, 1),
    ):
        options = argparse.Namespace(out=tmp_path, width=width, epochs=epochs)
        teacher = example.teacher_of(run, 0, options, None)
        assert teacher.layers[1].get_weights()[0].shape[-1] == width
    assert len(fitted) == 4


def test_a_preset_with_a_softmax_gives_no_logits(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", types.ModuleType("keras_hub"))
    example = load("bert_to_lstm")
    head = types.SimpleNamespace(fit=lambda *args, **kwargs: None)
    head.compile = lambda optimizer, loss: setattr(head, "loss", loss)
    head.predict = lambda texts, verbose: np.zeros((len(texts), 2))
    monkeypatch.setattr(example, "bert", lambda options, words: head)
    monkeypatch.setattr(example, "run", lambda options, parts, words, teach: teach(0))
    for activation, is_logits in (("linear", True), ("softmax", False)):
        head.activation = keras.activations.get(activation)
        _, (_, said) = example.main(["--quick", "--out", str(tmp_path)])
        assert said is is_logits and head.loss.get_config()["from_logits"] is is_logits


def test_a_csv_or_a_folder_of_another_layout_is_answered_likewise(tmp_path):
    (tmp_path / "pairs.txt").write_text("7 march 1984 840307\n" * 30)
    with pytest.raises(SystemExit, match=r"Expected: a text file(.|\n)*7 march 1984\t840307"):
        load("translation_or_sequence").main(["--data", str(tmp_path / "pairs.txt")])
    (tmp_path / "mine.csv").write_text("date,value\n1,2.5\n")
    with pytest.raises(SystemExit, match=r"Expected: a \.csv file(.|\n)*date,OT"):
        load("forecast_lstm").main(["--data", str(tmp_path / "mine.csv")])
    (tmp_path / "few_TEST.ts").write_text("@data\n1,2:3,4:a\n")
    for text in ("1,2:3,4:a", "@data\n1,2:3:a\n", "@data\n"):
        (tmp_path / "few_TRAIN.ts").write_text(text)
        with pytest.raises(SystemExit, match=r"Expected: a folder(.|\n)*@data / "):
            load("series_gru").main(["--data", str(tmp_path)])
    with pytest.raises(SystemExit, match="Expected: a folder"):
        load("series_gru").main(["--data", str(tmp_path / "none")])
