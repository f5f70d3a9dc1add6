"""Peak memory and examples a second of each stage on data that is made as it is read.

    python benchmarks/streams.py                       # 2 GB and 20 GB, about an hour
    python benchmarks/streams.py --gigabytes 0.5 2     # other sizes
    python benchmarks/streams.py --stages cache calibrate verify

Examples are 96 × 96 × 3 float32 (108 KiB), made by `tf.random.stateless_uniform` in a
`tf.data.Dataset` from their numbers, ten classes by brightness. Every row is a process of its own.
Memory is the peak of its resident set (`getrusage`), or of the interpreter's processes that it
starts if that is larger; the row `nothing` is TensorFlow and tfkd alone.

read       the stream alone, in batches, as scoring reads it
train      an epoch of the student alone
cached     the teacher asked about each example once, then an epoch under it
uncached   an epoch under the teacher, asked in every step
qat        an epoch of the quantize-aware student
cache      the teacher asked about each example, its answers kept
calibrate  an int8 file, its 200 examples drawn from all of the stream
score      accuracy of the student
verify     an int8 file beside its model
compress   the whole of it: three trainings of one epoch, a cache, files, verification
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIDE = 96
BYTES = SIDE * SIDE * 3 * 4
BATCH = 32
STAGES = (
    "nothing", "read", "cache", "calibrate", "score", "verify",
    "train", "cached", "uncached", "qat", "compress",
)  # fmt: skip


def stream(examples: int, seed: int = 0):
    """Return a stream of examples, made as they are read."""
    import tensorflow as tf

    import tfkd

    def made(numbers):
        first = tf.stack([tf.cast(seed, tf.int64), numbers[0]])
        labels = numbers % 10
        noise = tf.random.stateless_uniform((BATCH, SIDE, SIDE, 3), first)
        return 0.5 * noise + tf.cast(labels, "float32")[:, None, None, None] / 20, labels

    numbers = tf.data.Dataset.range(examples).batch(BATCH, drop_remainder=True)
    return tfkd.Stream(numbers.map(made, num_parallel_calls=2))


def net(width: int, seed: int):
    """Return a small convolutional model."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(width, 3, strides=4, activation="relu"),
            layers.Conv2D(2 * width, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def run(stage: str, examples: int) -> int:
    """Do a stage; return how many examples it has read."""
    import tfkd
    from tfkd.compression.trainer import Trainer
    from tfkd.export import to_tflite, verify

    student = net(8, 1)
    few = stream(10 * BATCH, 1)
    given = stream(examples)
    data = tfkd.Data("synthetic", given, few, few)
    trainer = Trainer(data, tfkd.Training(epochs=1, learning_rate=1e-3, batch_size=BATCH))
    alone = {"validate": False}

    def teach(model):
        return tfkd.Distiller(model, net(16, 2), teacher_from_logits=True)

    def asked():
        distiller = teach(student)
        trainer.compile(distiller, student)
        return distiller.cache_teacher(given.inputs(BATCH))

    if stage == "read":
        sum(len(batch) for batch in given.batches(given.at_once()))
    elif stage == "train":
        trainer.fit("alone", student, **alone)
    elif stage == "uncached":
        trainer.fit("taught", student, teach, **alone)
    elif stage == "cached":
        trainer.fit("taught", student, teach, cache_teacher=asked(), **alone)
    elif stage == "qat":
        trainer.fit("qat", tfkd.quantize_aware(student), **alone)
    elif stage == "cache":
        asked()
    elif stage == "calibrate":
        to_tflite(student, "int8", given)
    elif stage == "score":
        given.answered(student.predict_on_batch)
    elif stage == "verify":
        verify(to_tflite(student, "int8", few), student, given)
    elif stage == "compress":
        with tempfile.TemporaryDirectory() as out:
            recipe = tfkd.Recipe(epochs=1, qat_epochs=1, batch_size=BATCH)
            tfkd.compress(net(16, 2), data, student=student, out=out, force=True, recipe=recipe)
    return len(given)


def row(stage: str, gigabytes: float) -> dict:
    """Do a stage in this process, and return what it took."""
    warnings.simplefilter("ignore")
    examples = max(1, int(gigabytes * 1e9 / BYTES) // BATCH) * BATCH
    run(stage, 4 * BATCH)  # imports and traces
    start = time.perf_counter()
    count = run(stage, examples)
    seconds = time.perf_counter() - start
    own, others = (
        resource.getrusage(who).ru_maxrss * 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"rate": count / seconds, "bytes": own, "children": others}


def main():
    """Measure in a process each, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[2.0, 20.0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(row(options.row[0], float(options.row[1]))))
        return
    print("| stage | GB | peak MB | interpreter's MB | examples a second |\n|---|---|---|---|---|")
    for stage in options.stages:
        for gigabytes in options.gigabytes if stage != "nothing" else [0.0]:
            command = [sys.executable, __file__, "--row", stage, str(gigabytes)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{stage}: {done.stderr[-2000:]}")
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {stage} | {gigabytes:g} | {found['bytes'] / 1e6:.0f} | "
                f"{found['children'] / 1e6:.0f} | {found['rate']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
