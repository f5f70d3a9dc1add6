"""Names from a file stay in their line, cell and comment in all output."""

import dataclasses
import io
import re

import keras
import numpy as np
import pytest
from rich.console import Console

import tfkd
from tfkd.cli import console, parser
from tfkd.errors import InputError, UnsupportedError
from tfkd.export import (
    Benchmark,
    Latency,
    MicroEvaluation,
    ModelEntry,
    Profile,
    Ratio,
    Report,
    TFLiteModel,
    Verification,
    android_bundle,
    micro_bundle,
    to_tflite,
    write_report,
)
from tfkd.export.latency import operators, profiler
from tfkd.export.micro import bundle as firmware
from tfkd.export.micro import evaluation, vela
from tfkd.export.micro.project import BARE
from tfkd.export.report.benchmark_page import write_benchmark_page
from tfkd.export.report.entries import Candidate, Front, Layer
from tfkd.export.report.predictions import judge
from tfkd.export.report.report import print_table
from tfkd.export.tflite import schema, writer
from tfkd.export.verification import layer_errors, verify
from tfkd.loading.signatures import Signatures
from tfkd.model import cost
from tfkd.quantization import LayerReport, QuantizationReport

NASTY = "\x1b[2J\r\n\u202e\u2066\x9b|`*/<script>[red]$x_{$\\"
X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")


def assert_tame(text: str):
    """Assert that a text of lines shows the name, and shows it as text."""
    assert "2J" in text, "it does not show the name"
    assert not set("\x1b\r\u202e\u2066\x9b") & set(text)


@pytest.fixture(scope="module")
def file():
    """An int8 file in which everything that has a name has a hostile one."""
    layers = [keras.layers.Dense(6, "relu"), keras.layers.Dense(3)]
    plain = to_tflite(keras.Sequential([keras.Input((4,)), *layers]), "int8", X)
    model = schema.parse(plain.data)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = (NASTY + schema.name_of(tensor)).encode()
    for signature in model.signatureDefs:
        signature.signatureKey = NASTY.encode()
        for entry in (*signature.inputs, *signature.outputs):
            entry.name = (NASTY + entry.name.decode()).encode()
    return TFLiteModel(writer.pack(model))


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_inspect(file, how, tmp_path, capsys):
    path = file.save(tmp_path / "m.tflite")
    assert parser.main(["inspect", str(path), *how]) == 0
    printed = capsys.readouterr().out
    assert_tame(printed)
    if not how:
        assert printed == f"{file.describe()}\n" and len(printed.splitlines()) == 4
        assert tfkd.sparsity(file).describe().count("\n") < 8
        assert_tame(tfkd.sparsity(file).describe())


def test_errors(file):
    for x in (X[:, :2], {"a": X}, np.full_like(X, np.nan)):
        with pytest.raises(InputError) as error:
            file.predict(x)
        assert_tame(str(error.value))
        assert "\n" not in str(error.value)


def tables():
    """Return what prints itself, each with the name in it."""
    parity = verify.OutputParity(NASTY, 1.0, 0.0, 0.0, None, False, 0.9, 0.2)
    latency = Latency(NASTY, "xnnpack", 1, 1, 5, 3.0, 3.0, 1.0, 1.0, 5.0)
    other = dataclasses.replace(latency, name="other")
    ratio = Ratio(NASTY, "xnnpack", 1, 1, "other", "other", 1.0, (0.9, 1.1))
    error = layer_errors.LayerError(NASTY, "CONV_2D", NASTY, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1, ())
    unknown = dataclasses.replace(error, layer=None)
    op = operators.Operator(0, NASTY, NASTY, 1, 1, 1)
    scores = {f"{NASTY}.accuracy": 0.5}
    arguments = (10, None, None, 1, "found", 3, None, 0.1, None, scores, (), ())
    return {
        "verification": Verification(
            *("xnnpack", 3, 1.0, 0.0, 0.0, None, scores, scores, False, 0.9, (parity,))
        ),
        "benchmark": Benchmark(
            (latency, other), (ratio,), {NASTY: InputError(NASTY)}, {"cpu": "x"}, warnings=(NASTY,)
        ),
        "layers": layer_errors.LayerErrors((error,), 1, 1, 1),
        "tensors": layer_errors.LayerErrors((unknown,), 1, 1, 1),
        "profile": Profile("xnnpack", 1, 1, 1.0, "2.3.0", (
            profiler.Row(NASTY, op, 1, 1.0, 1.0, 1, None),
        )),
        "proof": MicroEvaluation(*arguments),
        "vela": vela.VelaEstimate(
            *("ethos-u55-128", "a", "b", 2, {NASTY: 1}, (NASTY,), 1, 1, None, None, 1.0, 1, NASTY)
        ),
        "signatures": Signatures({NASTY: {"inputs": {NASTY: "float32"}, "outputs": {}}}),
        "layers of a model": cost.ModelCost((cost.LayerCost(NASTY, NASTY, 1, 1),)),
        "quantization": QuantizationReport((LayerReport(NASTY, "Dense", "8-bit", NASTY),)),
    }  # fmt: skip


@pytest.mark.parametrize("name", tables())
def test_tables(name):
    thing = tables()[name]
    text = str(thing) if name == "quantization" else thing.describe()
    assert_tame(text)
    if name == "benchmark":
        assert_tame(thing.to_csv())


def test_the_reports(tmp_path):
    made = tables()
    entry = ModelEntry(
        NASTY, "export", "int8", NASTY, 10, metrics={"accuracy": 0.5}, ops={NASTY: 1},
        architecture=(cost.LayerCost(NASTY, NASTY, 1, 1),), layers=(Layer(NASTY, 8, 0.1, 0.1),),
        micro={"supported": False, "reason": NASTY},
    )  # fmt: skip
    y = np.arange(4) % 2
    answers = np.eye(2)[[0, 1, 1, 0]]
    report = Report(
        "classification",
        {"name": NASTY, "train": 1, "validation": 1, "test": 1},
        (entry,),
        {NASTY: {"val_accuracy": [0.5]}},
        {NASTY: NASTY},
        made["benchmark"],
        {"summary": NASTY},
        judge(NASTY, answers, NASTY, np.eye(2)[y], y, task="categorical", class_names=[NASTY] * 2),
        Front((Candidate(NASTY, 1.0, 0.5, chosen=True),), NASTY, "accuracy"),
        commands=(NASTY,),
    )
    for path in write_report(report, tmp_path):
        assert_tame(path.read_text())
    page = tmp_path / "b.html"
    write_benchmark_page(made["benchmark"], page, {NASTY: 0.5}, 10)
    for text in (page.read_text(), (tmp_path / "report.html").read_text()):
        assert_tame(text)
        assert "<script" not in text
    stream = io.StringIO()
    print_table(report, Console(file=stream, width=200))
    assert_tame(stream.getvalue())
    assert "[red]" in stream.getvalue()


def test_the_progress(capsys):
    with console.Progress(quiet=False) as progress:
        progress(NASTY, 1, 2)
    assert "\x1b[2J" not in capsys.readouterr().err


def test_what_an_android_bundle_says(file, tmp_path):
    android_bundle(file, tmp_path / "a", "net", class_names=["a|b", "`b`", "*/"])
    texts = {p.name: p.read_text() for p in (tmp_path / "a").iterdir() if p.suffix != ".tflite"}
    for text in (texts["README.md"], texts["NetClassifier.kt"]):
        assert_tame(text)
    rows = [line for line in texts["README.md"].splitlines() if "<code>" in line]
    assert len(rows) == 3  # the signature, the input, the output
    assert all(row.count("|") == 7 for row in rows[1:]) and "<script" not in texts["README.md"]
    comments = re.findall(r"/\*.*?\*/", texts["NetClassifier.kt"], re.DOTALL)
    assert not any("script" in comment for comment in comments)


def test_what_a_micro_bundle_says(file, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "is_installed", lambda: False)
    bundle = micro_bundle(file, tmp_path / "m", "net", [NASTY, "b", "c"], NASTY, arena_bytes=9999)
    texts = {p.name: p.read_text() for p in (tmp_path / "m").iterdir()}
    assert_tame("".join(texts.values()) + bundle.describe())
    of_names = [line for line in texts["net_config.h"].splitlines() if "2J" in line]
    assert len(of_names) == 8  # input, output, class, preprocessing, for C++ and for C
    assert all(re.match(r'// |    "\\033', line) for line in of_names)
    told = firmware._evidence(tables()["proof"], [])
    text = firmware._render("net", _content(file, told), BARE)["README.md"]
    assert_tame(text)
    assert not re.search(r"(?<!\\)<script", text)


def _content(file, evidence):
    return {
        "name": "net", "file": file, "calls": [], "inputs": [], "outputs": [], "answered": True,
        "classes": {}, "preprocessing": firmware._Preprocessing(), "states": [],
        "arena": 1, "arena_basis": "",
        "evidence": evidence, "proven": True, "version": "0", "project": None, "board": None,
        "board_id": "", "golden_source": "", "tolerance_basis": "", "firmware_bytes": "",
        "notice": "",
    }  # fmt: skip


def test_a_keras_layer_that_no_graph_can_name_is_told_of(tmp_path, capsys):
    name = NASTY.replace("/", "")
    dense = keras.layers.Dense(2, name=name)
    model = keras.Sequential([keras.Input((4,)), dense, keras.layers.Dense(3)])
    with pytest.raises((InputError, UnsupportedError), match="rename them") as error:
        to_tflite(model)
    assert_tame(str(error.value))
    model.save(tmp_path / "m.keras")
    assert parser.main(["inspect", str(tmp_path / "m.keras")]) == 0
    assert_tame(capsys.readouterr().out)
