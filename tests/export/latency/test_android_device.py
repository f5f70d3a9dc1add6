"""The tool's output is parsed, or its error reported; a script plays the part of `adb`."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from tfkd.cli.parser import main
from tfkd.errors import InputError, UnsupportedError, WorkerError
from tfkd.export.latency import android_device

# Written in the tool's format, version by version; the numbers are ours.
HEAD = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [1]
INFO: Graph: [/data/local/tmp/tfkd/0-digits.tflite]
INFO: Signature to run: []
INFO: Use xnnpack: [1]
INFO: Loaded model /data/local/tmp/tfkd/0-digits.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: XNNPACK delegate created.
"""
EXPLICIT = (
    "Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the "
    "delegate w/ 3 delegate kernels."
)
TIMES = """\
INFO: The input model file size (MB): 1.23457
INFO: Initialized session in 21.402ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if \
exceeding 150 seconds.
INFO: count=31 first=19871 curr=16031 min=15872 max=19871 avg=16204.6 std=702 p5=15880 \
median=16033 p95=17001

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if \
exceeding 150 seconds.
INFO: count=62 first=16100 curr=16044 min=15801 max=1200345 avg=1.01234e+06 std=218 p5=15812 \
median=16021 p95=16899

INFO: Inference timings in us: Init: 21402, First inference: 19871, Warmup (avg): 16204.6, \
Inference (avg): 1.01234e+06
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your \
discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=6.5 overall=12.0625
"""
CURRENT = f"{HEAD}INFO: {EXPLICIT}\n{TIMES}"
FIGURES = {
    "runs": 62,
    "median": 16021,
    "mean": 1012340,
    "std": 218,
    "min": 15801,
    "max": 1200345,
    "p5": 15812,
    "p95": 16899,
    "init_us": 21402,
    "first_us": 19871,
    "warm_up_us": 16204.6,
    "warm_up_runs": 31,
    "model_bytes": 1234570,
    "init_memory_bytes": 6815744,
    "overall_memory_bytes": 12648448,
    "peak_memory_bytes": None,
    "delegate": EXPLICIT,
    "ops": [],
}

PROFILE = """\
INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
     [node type]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]
 ModifyGraphWithDelegate   6.111   6.111  60.000%  60.000%   7148.000   1   \
ModifyGraphWithDelegate/0
         AllocateTensors   4.074   4.074  40.000% 100.000%      0.000   1   AllocateTensors/0

============================== Top by Computation Time ==============================
     [node type]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]
 ModifyGraphWithDelegate   6.111   6.111  60.000%  60.000%   7148.000   1   \
ModifyGraphWithDelegate/0
         AllocateTensors   4.074   4.074  40.000% 100.000%      0.000   1   AllocateTensors/0

Number of nodes executed: 2
============================== Summary by node type ==============================
             [Node type]  [count]  [avg ms]  [avg %]  [cdf %]  [mem KB]  [times called]
 ModifyGraphWithDelegate        1     6.111  60.000%  60.000%  7148.000               1
         AllocateTensors        1     4.074  40.000% 100.000%     0.000               1

Timings (microseconds): count=1 curr=10185
Memory (bytes): count=0
2 nodes observed



INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
     [node type]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]
                       QUANTIZE   0.211   0.208   1.250%   1.250%  0.000   1   [tfl.quantize]:0
  Convolution (NHWC, QC8) IGEMM   0.412   0.409   2.500%   3.750%  0.000   3   \
Delegate/Convolution (NHWC, QC8) IGEMM:0
     TFLite_Detection_PostProcess  3.901  3.655  nan%  -nan%  0.000  1   \
[StatefulPartitionedCall:1, StatefulPartitionedCall:0]:12

============================== Top by Computation Time ==============================
     [node type]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]
     TFLite_Detection_PostProcess  3.901  3.655  nan%  -nan%  0.000  1   \
[StatefulPartitionedCall:1, StatefulPartitionedCall:0]:12

Number of nodes executed: 3
============================== Summary by node type ==============================
                    [Node type]  [count]  [avg ms]  [avg %]  [cdf %]  [mem KB]  [times called]
  Convolution (NHWC, QC8) IGEMM        1     1.227  24.000%  24.000%     0.000               3

Timings (microseconds): count=62 first=16010 curr=15990 min=15700 max=16800 avg=15900.5 std=200
Memory (bytes): count=0
3 nodes observed

Delegate internal:
============================== Run Order ==============================
     [node type]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]
     DelegateOpInvoke  0.100  0.100  100.000%  100.000%  0.000  1  Delegate/conv:0

Number of nodes executed: 1
Timings (microseconds): count=62 curr=100(all same)
"""
OPERATIONS = [
    ("QUANTIZE", "[tfl.quantize]:0", 208, 211, 0.0125, 1),
    (
        "Convolution (NHWC, QC8) IGEMM",
        "Delegate/Convolution (NHWC, QC8) IGEMM:0",
        409,
        412,
        0.025,
        3,
    ),
    (
        "TFLite_Detection_PostProcess",
        "[StatefulPartitionedCall:1, StatefulPartitionedCall:0]:12",
        3655,
        3901,
        None,
        1,
    ),
]

# 2019: the profile in front of the summary, without a title, the start of each operation in it.
OLD = """\
STARTING!
Min num runs: [50]
Loaded model /data/local/tmp/m.tflite
resolved reporter
INFO: Initialized TensorFlow Lite runtime.
Initialized session in 1.902ms
Running benchmark for at least 1 iterations and at least 0.5 seconds
count=1 curr=812391

Running benchmark for at least 50 iterations and at least 1 seconds
count=50 first=118810 curr=114219 min=88216 max=129193 avg=115062 std=7678

============================== Run Order ==============================
\t     [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t\
[times called]\t[Name]
\t         CONV_2D\t    0.066\t   87.754\t   60.957\t  2.066%\t  2.066%\t     0.000\t        1\t\
[M/Conv2d_0/Relu6]
\t         SOFTMAX\t   61.033\t    0.230\t    0.233\t 97.934%\t100.000%\t     0.000\t        0\t\
[M/Softmax]

============================== Top by Computation Time ==============================
\t     [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t\
[times called]\t[Name]
\t         CONV_2D\t    0.066\t   87.754\t   60.957\t  2.066%\t  2.066%\t     0.000\t        1\t\
[M/Conv2d_0/Relu6]

Number of nodes executed: 2
============================== Summary by node type ==============================
Timings (microseconds): count=50 first=118487 curr=113927 min=88158 max=129072 avg=114924 std=7657
Memory (bytes): count=0
2 nodes observed

Average inference timings in us: Warmup: 812391, Init: 1902, no stats: 115062
"""

UNRESOLVED = """\
ERROR: Encountered unresolved custom op: FlexErf.
See instructions: https://www.tensorflow.org/lite/guide/ops_custom
ERROR: Node number 7 (FlexErf) failed to prepare.
ERROR: Failed to allocate tensors!
ERROR: Benchmarking failed.
"""


def test_current_output():
    assert android_device.parse(CURRENT) == FIGURES


def test_a_profile_gives_each_operation_of_the_timed_runs_once():
    result = android_device.parse(CURRENT + PROFILE)
    assert [tuple(row.values()) for row in result["ops"]] == [
        pytest.approx(row) for row in OPERATIONS
    ]
    assert list(result["ops"][0]) == ["op", "name", "us", "first_us", "share", "calls"]
    assert result == {**FIGURES, "ops": result["ops"]}


def test_a_profile_of_subgraphs_gives_the_primary_graph():
    row = "  WHILE  1.000  1.000  100.000%  100.000%  0.000  1  [out]:0\n"
    inner = "  ADD  0.500  0.500  100.000%  100.000%  0.000  2  [sum]:0\n"
    table = "===== Run Order =====\n  [node type]\n{}\nNumber of nodes executed: 1\n"
    text = (
        "Operator-wise Profiling Info for Regular Benchmark Runs:\nPrimary graph (name: main) "
        f"profile:\n{table.format(row)}Subgraph (index: 1, name: body) profile:\n"
        f"{table.format(inner)}Subgraph (index: 1, name: body) Timings (microseconds): count=9 "
        "curr=500(all same)\n"
    )
    assert [row["op"] for row in android_device.parse(CURRENT + text)["ops"]] == ["WHILE"]


def test_output_of_2019():
    result = android_device.parse(OLD)
    assert [tuple(row.values()) for row in result.pop("ops")] == [
        pytest.approx(("CONV_2D", "[M/Conv2d_0/Relu6]", 60957, 87754, 0.02066, 1)),
        pytest.approx(("SOFTMAX", "[M/Softmax]", 233, 230, 0.97934, 0)),
    ]
    expected = dict.fromkeys(FIGURES) | {
        "runs": 50,
        "mean": 115062,
        "std": 7678,
        "min": 88216,
        "max": 129193,
        "init_us": 1902,
        "first_us": 812391,
        "warm_up_us": 812391,
        "warm_up_runs": 1,
    }
    del expected["ops"]
    assert result == expected


def with_runs(line, warm_up=None):
    """Return the current output with other lines of timings."""
    lines = CURRENT.split("\n")
    first, second = (i for i, text in enumerate(lines) if text.startswith("INFO: count="))
    lines[first], lines[second] = warm_up or lines[first], f"INFO: {line}"
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("line", "std", "percentile"),
    [
        ("count=1 curr=1357602", None, None),
        ("count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602", None, 1357602),
        ("count=9 curr=1357602(all same)", 0, None),
        ("count=9 curr=1357602(all same) p5=1357602 median=1357602 p95=1357602", 0, 1357602),
    ],
)
def test_equal_times_are_printed_as_one(line, std, percentile):
    result = android_device.parse(with_runs(line))
    assert {result[name] for name in ("min", "max", "mean", "median")} == {1357602}
    assert (result["std"], result["p5"], result["p95"]) == (std, percentile, percentile)
    assert result["runs"] == int(line[6])


def test_no_warm_up_and_a_deviation_that_overflowed():
    # The tool's variance of nearly equal times may come out below zero.
    line = "count=2 first=9 curr=8 min=8 max=9 avg=8.5 std=-9223372036854775808"
    result = android_device.parse(with_runs(line, warm_up="INFO: count=0"))
    assert (result["warm_up_runs"], result["warm_up_us"], result["first_us"]) == (0, None, None)
    assert (result["mean"], result["std"]) == (8.5, None)


@pytest.mark.parametrize(
    "prefix",
    [
        "I tflite  : ",
        "I/tflite  ( 4242): ",
        "07-14 13:14:52.859 22838 22838 I tflite  : ",
        "07-14 13:14:52.859 I/tflite (22838): ",
    ],
)
def test_logcat(prefix):
    text = (CURRENT + PROFILE).replace("INFO: ", "")
    text = "".join(f"{prefix}{line}\n" for line in text.split("\n")[:-1])
    assert android_device.parse(text) == android_device.parse(CURRENT + PROFILE)


def test_line_ends_of_a_terminal_and_of_windows():
    for end in ("\r\n", "\r\r\n"):
        assert android_device.parse((CURRENT + PROFILE).replace("\n", end)) == android_device.parse(
            CURRENT + PROFILE
        )


def test_memory_as_older_and_as_asked_for():
    delta = "INFO: Memory footprint delta from the start of the tool (MB): "
    assert android_device.parse(CURRENT.replace(delta, "Peak memory footprint (MB): ")) == FIGURES
    peak = "INFO: Overall peak memory footprint (MB) via periodic monitoring: 12.5\n"
    assert android_device.parse(CURRENT + peak) == {**FIGURES, "peak_memory_bytes": 13107200}


@pytest.mark.parametrize(
    "line",
    [
        "GPU acceleration is unsupported on this platform.",
        "Though GPU delegate is explicitly applied, the model graph will not be executed by the "
        "delegate.",
        "Explicitly applied GPU delegate, and the model graph will be completely executed by the "
        "delegate.",
        "Replacing 36 out of 68 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 6 "
        "partitions for subgraph 0.",
        "Created TensorFlow Lite XNNPACK delegate for CPU.",
    ],
)
def test_the_surest_line_about_delegates(line):
    # HEAD has the last of them, and "XNNPACK delegate created.", which says nothing.
    assert android_device.parse(f"{HEAD}VERBOSE: {line}\n{TIMES}")["delegate"] == line
    assert android_device.parse(TIMES)["delegate"] is None


def test_what_the_gpu_leaves_to_the_cpu_is_no_failure():
    text = (
        "ERROR: Following operations are not supported by GPU delegate:\n"
        "GATHER_ND: Operation is not supported.\n"
        "9 operations will run on the GPU, and the remaining 1 operations will run on the CPU.\n"
    )
    assert android_device.parse(text + CURRENT) == FIGURES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it printed nothing"),
        ("\n  \n", "it printed nothing"),
        (
            HEAD + UNRESOLVED,
            r"did not finish: Encountered unresolved custom op: FlexErf; Node number 7 \(FlexErf\) "
            r"failed to prepare; Failed to allocate tensors!\.$",
        ),
        ("/system/bin/sh: /x: not executable: 64-bit ELF file\n", "not executable: 64-bit"),
        (f"{HEAD}Segmentation fault", "Segmentation fault"),
        (HEAD + TIMES.partition("INFO: Inference")[0], "did not finish"),
        # Calls that fail are timed all the same.
        (CURRENT + "ERROR: Failed to invoke!\nERROR: Benchmarking failed.\n", "Failed to invoke"),
        (with_runs("count=0"), "did not finish"),
        # Two processes wrote into one line.
        (with_runs("count=62 first=161WARNING: linker"), "did not finish"),
    ],
)
def test_a_tool_that_did_not_finish(text, message):
    with pytest.raises(WorkerError, match=message) as caught:
        android_device.parse(text)
    assert "\n" not in str(caught.value)
    assert caught.value.details == text


def test_several_runs_in_one_text():
    with pytest.raises(InputError, match="4 lines of timings.*the output of one run"):
        android_device.parse(CURRENT * 2)


def test_a_profile_with_a_row_missing_is_refused():
    row = next(line for line in PROFILE.split("\n") if "QUANTIZE" in line)
    with pytest.raises(WorkerError, match="2 operations of 3"):
        android_device.parse(CURRENT + PROFILE.replace(row, "WARNING: linker: something else"))


@pytest.mark.parametrize("text", [CURRENT + PROFILE, OLD], ids=["current", "old"])
def test_half_an_output_gives_an_error_or_nothing_wrong(text):
    whole = android_device.parse(text)
    outcomes = set()
    for end in range(len(text)):
        try:
            result = android_device.parse(text[:end])
        except WorkerError:
            outcomes.add("error")
            continue
        outcomes.add("result")
        assert result.keys() == whole.keys()
        wrong = [name for name in whole if result[name] not in (whole[name], None, [])]
        assert not wrong, (end, wrong)
    assert "error" in outcomes
    # Of the old output the last line is the one that says that the tool finished.
    assert ("result" in outcomes) == (text is not OLD)


def test_commands_are_these():
    files = {"a": "one/net.tflite", "b": "two/net.tflite", "c": "it's $HOME; rm -rf.tflite"}
    folder = "/data/local/tmp/tfkd"
    remote = [f"{folder}/{name}" for name in ("0-net.tflite", "1-net.tflite")]
    remote.append(f"{folder}/2-it_s__HOME__rm_-rf.tflite")
    options = "--num_threads=1 --num_runs=50 --min_secs=1 --max_secs=150 --use_xnnpack=true"
    assert android_device.commands(files) == [
        ["adb", "shell", f"mkdir -p {folder}"],
        ["adb", "push", "benchmark_model", f"{folder}/benchmark_model"],
        ["adb", "shell", f"chmod 755 {folder}/benchmark_model"],
        *(["adb", "push", *pair] for pair in zip(files.values(), remote, strict=True)),
        *(
            ["adb", "shell", f"exec {folder}/benchmark_model --graph={path} {options}"]
            for path in remote
        ),
        [
            "adb",
            "shell",
            f"rm -f {folder}/benchmark_model {' '.join(remote)} && rmdir {folder}",
        ],
    ]


def test_options_of_the_commands():
    steps = android_device.commands(
        [pathlib.Path("m.tflite")],
        adb="/sdk/adb",
        tool=pathlib.Path("bin/tool"),
        device_folder="/data/my folder/",
        threads=4,
        engine="gpu",
        min_runs=10,
        min_seconds=0.25,
        max_seconds=20,
        profile=True,
        serial="R5:5555",
    )
    assert all(step[:3] == ["/sdk/adb", "-s", "R5:5555"] for step in steps)
    assert [step[3:] for step in steps] == [
        ["shell", "mkdir -p '/data/my folder'"],
        ["push", "bin/tool", "/data/my folder/benchmark_model"],
        ["shell", "chmod 755 '/data/my folder/benchmark_model'"],
        ["push", "m.tflite", "/data/my folder/0-m.tflite"],
        [
            "shell",
            "exec '/data/my folder/benchmark_model' '--graph=/data/my folder/0-m.tflite' "
            "--num_threads=4 --num_runs=10 --min_secs=0.25 --max_secs=20 --use_gpu=true "
            "--enable_op_profiling=true",
        ],
        [
            "shell",
            "rm -f '/data/my folder/benchmark_model' '/data/my folder/0-m.tflite' && "
            "rmdir '/data/my folder'",
        ],
    ]
    builtin = android_device.commands(["m.tflite"], engine="builtin")
    assert builtin[4][-1].endswith("--use_xnnpack=false")


def test_the_printed_lines_are_the_commands():
    steps = android_device.commands({"a": "my nets/it's.tflite"}, device_folder="/data/a b")
    assert [shlex.split(line) for line in android_device.as_shell(steps).split("\n")] == steps


def test_wrong_options_are_told_together():
    with pytest.raises(InputError) as caught:
        android_device.commands(
            ["m.tflite"],
            device_folder="tmp",
            threads=0,
            engine="reference",
            min_runs=1.5,
            min_seconds=3,
            max_seconds=2,
        )
    message = str(caught.value)
    assert "threads must be an integer of at least 1, got 0" in message
    assert "min_runs must be an integer of at least 1, got 1.5" in message
    assert "engine must be one of ('xnnpack', 'builtin', 'gpu'), got 'reference'" in message
    assert "min_seconds must be at least 0 and at most max_seconds, got 3 and 2" in message
    assert "device_folder must be an absolute path, got 'tmp'" in message
    with pytest.raises(InputError, match="no model to benchmark"):
        android_device.commands([])


# What a phone does that runs well; each test puts cases of its own in front.
ADB = """\
#!/bin/sh
cd {folder}
for word in "$@"; do printf '%s\\n' "$word"; done >> log
echo -- >> log
case "$*" in
{cases}
devices) cat devices ;;
*getprop\\ ro.product.model) echo '* daemon started successfully' >&2; echo 'Pixel 8' ;;
*getprop\\ ro.build.version.release) echo 15 ;;
*getprop\\ ro.product.cpu.abi) echo arm64-v8a ;;
*--graph=*) cat output >&2 ;;
*push*) echo "$3: 1 file pushed, 0 skipped." ;;
esac
"""
LISTED = "List of devices attached\n"


class Phone:
    """A script that plays `adb` with one device, and what it was asked."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.adb, self.tool = folder / "adb", folder / "benchmark_model"
        self.tool.write_bytes(b"\x7fELF")
        self.says("R58", output=CURRENT)
        self.log = folder / "log"

    def says(self, *serials, output=None, cases="", listed=None):
        if listed is None:
            listed = LISTED + "".join(f"{serial}\tdevice\n" for serial in serials) + "\n"
        (self.folder / "devices").write_text(listed)
        if output is not None:
            (self.folder / "output").write_text(output)
        self.adb.write_text(ADB.format(folder=shlex.quote(str(self.folder)), cases=cases))
        self.adb.chmod(0o755)

    def files(self, *names):
        paths = {name: self.folder / f"{name}.tflite" for name in names}
        for path in paths.values():
            path.write_bytes(b"TFL3")
        return paths

    def run(self, files, **options):
        return android_device.run(files, adb=str(self.adb), tool=self.tool, **options)

    @property
    def calls(self):
        """The arguments of each call so far."""
        if not self.log.exists():
            return []
        return [call.split("\n")[:-1] for call in self.log.read_text().split("--\n")[:-1]]


@pytest.fixture
def phone(tmp_path, monkeypatch):
    if os.name == "nt":
        pytest.skip("the script that plays adb is one of a POSIX shell")
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    return Phone(tmp_path)


def test_run_does_what_the_commands_say(phone):
    files, told = phone.files("a", "b"), []
    results = phone.run(files, threads=2, progress=lambda *stage: told.append(stage))
    assert results == {"a": FIGURES, "b": FIGURES}
    assert told == [("device", 0, 2), ("device", 1, 2), ("device", 2, 2)]
    steps = android_device.commands(
        files, adb=str(phone.adb), tool=phone.tool, threads=2, serial="R58"
    )
    assert phone.calls == [["devices"], *(step[1:] for step in steps)]


def test_the_measured_file_may_ask_for_nothing_on_standard_input(phone):
    # adb's shell reads it, and would wait for a terminal or eat the caller's script.
    phone.says("R58", cases="*--graph=*) cat >&2; cat output ;;")
    code = (
        "import sys; from tfkd.export.latency import android_device as adb\n"
        "adb.run([sys.argv[1]], adb=sys.argv[2], tool=sys.argv[3]); print(sys.stdin.read())"
    )
    (path,) = phone.files("a").values()
    done = subprocess.run(
        [sys.executable, "-c", code, path, phone.adb, phone.tool],
        input="the caller's",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "the caller's", done.stderr


def test_one_file_that_fails_leaves_the_others(phone):
    (phone.folder / "failed").write_text(HEAD + UNRESOLVED)
    phone.says(
        "R58",
        cases=(
            "*--graph=*status*) cat failed >&2; exit 1 ;;\n"
            "*--graph=*old_adb*) cat failed ;;\n"
            "*--graph=*crash*) cat output; exit 139 ;;\n"
            "*push*full*) echo 'adb: error: No space left on device'; exit 1 ;;\n"
        ),
    )
    results = phone.run(phone.files("full", "a", "status", "old_adb", "crash", "z"))
    assert list(results) == ["full", "a", "status", "old_adb", "crash", "z"]
    assert results["a"] == results["z"] == FIGURES
    assert {type(results[name]) for name in ("full", "status", "old_adb", "crash")} == {WorkerError}
    assert "`adb push` ended with status 1: adb: error: No space left" in str(results["full"])
    assert "`adb shell` ended with status 1: Encountered unresolved" in str(results["status"])
    assert "did not finish: Encountered unresolved custom op" in str(results["old_adb"])
    assert "ended with status 139 (SIGSEGV)" in str(results["crash"])
    # What was not pushed is not run, and all is removed.
    assert not any("exec" in call[-1] and "0-full" in call[-1] for call in phone.calls)
    assert "rm -f" in phone.calls[-1][-1]


def test_a_file_that_hangs_is_ended(phone):
    phone.says(
        "R58", cases="*--graph=*slow*) echo $$ > pid; echo 'INFO: Loaded model'; exec sleep 60 ;;"
    )
    results = phone.run(phone.files("slow", "b"), timeout=2.0)
    assert results["b"] == FIGURES
    assert results["slow"].timed_out
    assert "`adb shell` took more than 2 s and was stopped: Loaded model." in str(results["slow"])
    with pytest.raises(ProcessLookupError):
        os.kill(int((phone.folder / "pid").read_text()), 0)


def test_a_figure_of_the_cpu_is_not_given_for_the_gpus(phone):
    refused = "GPU acceleration is unsupported on this platform."
    phone.says("R58", output=f"{HEAD}INFO: {refused}\n{TIMES}")
    files = phone.files("a")
    error = phone.run(files, engine="gpu")["a"]
    assert isinstance(error, UnsupportedError)
    assert refused in str(error)
    assert phone.run(files, engine="xnnpack")["a"]["delegate"] == refused


def test_a_folder_that_can_not_be_made_ends_the_run(phone):
    phone.says("R58", cases="*mkdir*) echo \"mkdir: '/x': Read-only file system\"; exit 1 ;;")
    with pytest.raises(WorkerError, match="status 1: mkdir: '/x': Read-only file system"):
        phone.run(phone.files("a"), device_folder="/x")
    assert "push" not in {word for call in phone.calls for word in call}


def test_an_interrupt_still_removes_what_was_pushed(phone):
    def interrupt(stage, done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phone.run(phone.files("a", "b"), progress=interrupt)
    assert "rm -f" in phone.calls[-1][-1]
    assert not any("exec" in call[-1] and "1-b" in call[-1] for call in phone.calls)


def test_a_device_gone_before_the_end_does_not_lose_the_results(phone):
    phone.says("R58", cases="*rm\\ -f*) echo 'error: device not found'; exit 1 ;;")
    assert phone.run(phone.files("a")) == {"a": FIGURES}


@pytest.mark.parametrize(
    ("listed", "serial", "message"),
    [
        ("\n", None, "No Android device answers adb; connect one"),
        ("\n", "R58", "No Android device answers adb; connect one"),
        ("R58\tdevice\nemulator-5554\tdevice\n", None, r"R58 \(device\), emulator-5554 \(device\)"),
        ("R58\tdevice\nR59\toffline\n", None, r"Several .*R58 \(device\), R59 \(offline\)"),
        ("R58\tdevice\n", "R60", r"no Android device 'R60'; adb lists R58 \(device\)"),
        ("R58\tunauthorized\n", None, r"'R58' is not ready \(unauthorized\); unlock it and allow"),
        ("R58\toffline\n", None, r"not ready \(offline\); plug it in again"),
        (
            "R58\tno permissions (user in plugdev); see [x]\n",
            None,
            "no permission to open the USB device",
        ),
        ("R58\trecovery\n", None, r"not ready \(recovery\); it must be started"),
    ],
)
def test_no_ready_device(phone, listed, serial, message):
    phone.says(listed=LISTED + listed)
    with pytest.raises(InputError, match=message):
        phone.run(phone.files("a"), serial=serial)
    assert phone.calls == [["devices"]]


def test_one_of_several_devices(phone, monkeypatch):
    daemon = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
    phone.says(listed=f"{daemon}{LISTED}R58\tdevice\nR59\tdevice\nR60\toffline\n")
    assert phone.run(phone.files("a"), serial="R59") == {"a": FIGURES}
    assert {tuple(call[:2]) for call in phone.calls[1:]} == {("-s", "R59")}
    phone.log.unlink()
    monkeypatch.setenv("ANDROID_SERIAL", "R58")
    assert phone.run(phone.files("a")) == {"a": FIGURES}
    assert {tuple(call[:2]) for call in phone.calls[1:]} == {("-s", "R58")}


def test_what_is_missing_is_told_before_a_device_is_asked(phone):
    with pytest.raises(InputError) as caught:
        android_device.run(["none.tflite"], adb="no-such-adb", tool="no-such-tool")
    message = str(caught.value)
    assert "no file 'none.tflite'" in message
    assert "adb='no-such-adb': there is no such program; it comes with the Android SDK" in message
    assert "no tool 'no-such-tool'; fetch the native benchmark_model" in message
    with pytest.raises(InputError, match="engine must be one of"):
        phone.run(phone.files("a"), engine="tflm")
    assert phone.calls == []


def test_each_thing_that_keeps_adb_from_measuring_is_said(phone, files):
    """Through what the command line calls, which asked the device what it is before all else."""
    path = files["int8"].save(phone.folder / "m.tflite")

    def said(adb):
        with pytest.raises(InputError) as caught:
            android_device.benchmark([path], adb=str(adb), tool=phone.tool)
        return str(caught.value)

    assert said("no-such-adb").startswith("adb='no-such-adb': there is no such program; it comes")
    assert f"is a folder; give the program in it, {phone.adb}" in said(phone.folder)
    phone.says(listed=LISTED + "\n")
    assert said(phone.adb).startswith("No Android device answers adb; connect one with USB")
    phone.says(listed=f"{LISTED}R58\tunauthorized\n")
    assert "not ready (unauthorized); unlock it and allow USB debugging" in said(phone.adb)
    phone.adb.chmod(0o644)
    assert "is not an executable file: run chmod +x" in said(phone.adb)
    assert [call for call in phone.calls if call != ["devices"]] == []


def test_an_adb_that_is_no_program(phone):
    phone.adb.write_bytes(b"\x00\x01 not a program")
    with pytest.raises(InputError, match="Cannot run '.*adb'"):
        phone.run(phone.files("a"))


def test_a_device_says_what_it_is(phone):
    assert android_device.device(str(phone.adb), "R58") == {
        "model": "Pixel 8",
        "android": "15",
        "abi": "arm64-v8a",
    }
    assert {tuple(call[:2]) for call in phone.calls} == {("-s", "R58")}
    phone.says(cases="*getprop*) echo 'error: no devices/emulators found'; exit 1 ;;")
    with pytest.raises(WorkerError, match="status 1: error: no devices/emulators found"):
        android_device.device(str(phone.adb))


def test_the_results_are_in_the_form_of_those_of_this_machine(phone, files):
    path = files["int8"].save(phone.folder / "m.tflite")
    phone.says("R58", cases='*--graph=*-b.tflite*) echo "Failed to load"; exit 1 ;;')
    given = {"m": path, "b": files["int8"].save(phone.folder / "b.tflite")}
    found, operations = android_device.benchmark(
        given, adb=str(phone.adb), tool=phone.tool, engine="builtin"
    )
    (result,) = found
    assert (result.name, result.engine, result.model_bytes) == ("m", "builtin", path.stat().st_size)
    for name in ("median", "p95", "runs", "init_us", "first_us", "warm_up_runs"):
        assert getattr(result, name) == FIGURES[name]
    assert result.ci95 is None and operations == {"m": FIGURES["ops"]}
    assert list(found.failures) == ["b"] and "Pixel 8, Android 15" in found.describe()
    with pytest.raises(WorkerError, match="Failed to load"):
        android_device.benchmark({"b": given["b"]}, adb=str(phone.adb), tool=phone.tool)


def test_the_command_line_runs_it_or_says_how(phone, files, monkeypatch, capsys):
    monkeypatch.chdir(phone.folder)
    files["int8"].save(phone.folder / "m.tflite")
    arguments = ["benchmark", "m.tflite", "--android", "--delegate", "gpu", "--threads", "4"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    steps = android_device.commands(["m.tflite"], engine="gpu", threads=4)
    assert out == android_device.as_shell(steps) + "\n"
    assert "not run: give --adb and --benchmark-model" in err and phone.calls == []

    arguments = ["benchmark", "m.tflite", "--android", "--adb", "./adb", "--benchmark-model"]
    assert main([*arguments, "benchmark_model", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["results"][0]["latency_us"]["median"] == FIGURES["median"]
    assert told["machine"]["model"] == "Pixel 8"

    phone.says(listed=LISTED)
    assert main([*arguments, "benchmark_model"]) == 2
    out, err = capsys.readouterr()
    assert "push m.tflite" in out  # what to type where there is one
    assert err.startswith("error: ") and err.count("\n") == 1
    assert main([*arguments, "benchmark_model", "--threads", "1", "2"]) == 2
    assert "--threads takes one value with --android" in capsys.readouterr().err
    assert main([*arguments, "benchmark_model", "--batch", "2"]) == 2
    assert "leave --batch" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--adb", "--benchmark-model", "--serial", "--delegate"])
def test_what_a_phone_needs_is_refused_where_this_computer_is_measured(option, capsys):
    assert main(["benchmark", "m.tflite", option, "gpu"]) == 2
    assert capsys.readouterr().err == f"error: {option} needs --android.\n"
