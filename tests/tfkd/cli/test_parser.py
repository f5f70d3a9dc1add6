"""The command line, as a user meets it: status, one-line errors, nothing half-written."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import forked
import pytest

from tfkd.cli import parser
from tfkd.cli.parser import main
from tfkd.export.micro import evaluation
from tfkd.files import write_atomically

FILES = {
    "teacher.keras",
    "student.keras",
    "teacher_float32.tflite",
    "student_float32.tflite",
    "student_float16.tflite",
    "student_int8.tflite",
    "report.json",
    "report.html",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--epochs", "0"], "must be a whole number of at least 1, got '0'"),
        (["demo", "--epochs", "many"], "got 'many'"),
        (["demo", "--epochs", "1e400"], "got '1e400'"),
        (["demo", "--seed", "-1"], "--seed"),
        (["demo", "--out", "/proc/none/x"], "Cannot write"),
        (["demo", "--out", "{file}"], "is a file; name a folder"),
        (["demo", "--out", "{full}"], "is not empty; name another"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        ([], "required: COMMAND"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    arguments = [a.format(file=tmp_path / "file", full=tmp_path) for a in arguments]
    try:
        status = main(arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("error: ") and message in err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("full disk", 2, "error: No space left on device\n"),
        ("long path", 2, "error: File name too long: 'x"),
        ("no memory", 2, "error: there is not enough memory for this\n"),
        ("closed pipe", 141, ""),
        ("ascii", 0, "5 us +/- 1 x 2 ?\n"),
        ("ctrl-c", 130, "interrupted; nothing was written\n"),
        ("ctrl-c after a file", 130, "interrupted; complete files: out/f.tflite\n"),
    ],
)
def test_what_the_system_refuses_is_one_line(kind, status, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    out = open({"full disk": "/dev/full"}.get(kind, "out/text"), "w", encoding="ascii")  # noqa: SIM115

    def run(options):
        if kind == "long path":
            open("x" * 300)  # noqa: SIM115
        if kind == "ctrl-c after a file":
            write_atomically("out/f.tflite", b"1")
        errors = {"no memory": MemoryError, "closed pipe": BrokenPipeError}
        if kind in errors or "ctrl-c" in kind:
            raise errors.get(kind, KeyboardInterrupt)
        print("5 µs ± 1 × 2 Ω", file=out)
        out.flush()
        return 0

    monkeypatch.setattr("tfkd.cli.commands.run", run)
    with out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["inspect", "f.tflite"]) == status
        monkeypatch.undo()
    err = capsys.readouterr().err
    assert err.count("\n") <= 1
    assert (pathlib.Path(tmp_path, "out/text").read_text() if kind == "ascii" else err).startswith(
        said
    )


def test_a_missing_dependency_is_one_line_and_status_2(tmp_path):
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from tfkd.cli.parser import main\n"
        f"sys.exit(main(['demo', '--quiet', '--out', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*sklearn.*pip install.*\n", done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_help_is_in_whole_sentences():
    (commands,) = (one for one in parser.build_parser()._actions if one.dest == "==SUPPRESS==")
    texts = [one.help for one in commands._choices_actions]
    texts += [one.description for one in commands.choices.values()]
    texts += [
        one.help
        for command in commands.choices.values()
        for one in command._actions
        if one.dest != "help"
    ]
    assert len(texts) > 80
    odd = [text for text in texts if not (text[0].isupper() and text.rstrip()[-1] in ".)")]
    assert not odd


def test_help_is_quick_and_imports_no_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "tfkd", "--help"]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
    assert "tensorflow" not in done.stderr and "numpy" not in done.stderr
    assert time.monotonic() - start < 2  # 0.1 s on an idle machine


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A short demo, run as a command from another folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    command = [
        sys.executable,
        "-m",
        "tfkd",
        "demo",
        "--out",
        "made",
        "--epochs",
        "6",
        "--json",
        "--seed",
        "1",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return folder / "made", done


@pytest.mark.slow
def test_the_demo_leaves_files_and_a_report(demo):
    folder, done = demo
    assert done.returncode == 0, done.stderr
    bundle = {"student_int8_micro"} if evaluation.is_installed() else set()
    assert {p.name for p in folder.iterdir()} == FILES | bundle
    assert (
        json.loads(done.stdout)["models"]
        == json.loads((folder / "report.json").read_text())["models"]
    )


@pytest.mark.slow
def test_the_demo_shows_progress_and_no_warnings(demo):
    _, done = demo
    for words in ("training the teacher", "distilling", "quantization-aware", "benchmarking"):
        assert words in done.stderr
    assert "arning" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_demos_report_says_what_was_measured(demo):
    folder, _ = demo
    report = json.loads((folder / "report.json").read_text())
    models = {model["name"]: model for model in report["models"]}
    assert list(models) == [
        "teacher",
        "baseline",
        "student",
        "student_qat",
        "teacher_float32",
        "student_float32",
        "student_float16",
        "student_int8",
    ]
    for model in models.values():
        assert 0 < model["metrics"]["accuracy"] <= 1 and model["metrics_engine"]
    int8, float32 = models["student_int8"], models["student_float32"]
    assert int8["integer_only"] and float32["weight_bytes"] / int8["weight_bytes"] >= 3.5
    assert int8["bytes"] == (folder / "student_int8.tflite").stat().st_size
    assert int8["parity"]["argmax_agreement"] >= 0.99
    assert int8["metrics"]["accuracy"] >= models["student"]["metrics"]["accuracy"] - 0.01
    assert models["student"]["metrics"]["accuracy"] > 0.85
    assert len(report["training"]["student"]["val_accuracy"]) == 6
    teaching = report["teaching"]
    assert teaching["teacher"] > 0.9 and teaching["examples"] == report["data"]["validation"]
    assert teaching["kept"] == ("taught" if teaching["difference"] >= 0 else "alone")
    assert teaching["summary"] in (folder / "report.html").read_text()
    assert teaching["summary"] in " ".join(demo[1].stdout.split())
    answer, page = report["answer"], (folder / "report.html").read_text()
    assert answer["name"] == "student_int8" and answer["bytes"] == int8["bytes"]
    assert answer["against_bytes"] == models["teacher_float32"]["bytes"]
    gap = int8["metrics"]["accuracy"] - models["teacher"]["metrics"]["accuracy"]
    assert answer["difference"] == pytest.approx(gap)
    assert answer["ci95"][0] <= gap <= answer["ci95"][1]
    assert all(f"<li>{part}</li>" in page for part in answer["sentence"].rstrip(".").split("; "))
    assert sum(map(sum, report["predictions"]["confusion"])) == report["data"]["test"]
    assert [one["name"] for one in report["predictions"]["classes"]] == list("0123456789")
    assert report["data"]["class_names"] == list("0123456789")
    assert {layer["bits"] for layer in int8["layers"]} == {8, None}
    assert sum(one["parameters"] for one in models["teacher"]["architecture"]) == 94_634
    assert report["commands"] == ["tfkd demo --seed 1 --epochs 6"]
    assert models["student_qat"]["made_from"] == (
        "student" if teaching["kept"] == "taught" else "baseline"
    )


@pytest.mark.slow
def test_a_seed_repeats(demo, tmp_path):
    folder, _ = demo
    arguments = [
        "demo",
        "--out",
        str(tmp_path / "again"),
        "--epochs",
        "6",
        "--quiet",
        "--seed",
        "1",
    ]
    code = (  # how fast its files are has been measured
        "import functools, sys\n"
        "from tfkd.cli import parser as cli\n"
        "from tfkd.export.latency import benchmark as latency\n"
        "quick = functools.partial(latency.benchmark, min_seconds=0.05, processes=1)\n"
        "latency.benchmark = quick\n"
        f"sys.exit(cli.main({arguments!r}))"
    )
    done = forked.run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in ("student_float32.tflite", "student_int8.tflite"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "tfkd", "demo", "--out", str(tmp_path / "out")]

    def listen():  # a test run in the background has SIGINT ignored, and hands that on
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as process:
        try:
            time.sleep(12)  # in the middle of training
            assert process.poll() is None
            assert os.listdir(tmp_path) != []
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "interrupted; nothing was written" in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []
