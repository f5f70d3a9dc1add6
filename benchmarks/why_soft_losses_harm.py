"""Why a soft loss can leave a small student worse off: gradients, step by step.

    python benchmarks/why_soft_losses_harm.py --seeds 3

scikit-learn's digits, a teacher of 95,000 weights, students of 1,600 and 15,000. Each row trains
the same student from the same weights with another loss or another optimizer; the columns are
means over the last third of the training, at the student's logits:

- pull: length of alpha · hard's gradient, and of (1 − alpha) · soft's, root mean square;
- against: how often the soft gradient points away from the hard one on the right class;
- scale: standard deviation of the student's logits over that of the teacher's;
- fit: share of the variance of the teacher's centred logits that the student's explain.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
from distillation_tasks import TUNED, data_of, fit

from tfkd import losses

TASK = TUNED["digits"]
EPOCHS, BATCH = 12, 32


def student(wide, norm):
    from distillation_tasks import cnn

    return cnn(*((24, 32, 40) if wide else (6, 8, 12)), norm=norm)((8, 8, 1))


def train(model, loss, alpha, temperature, data, answers, seed, sgd=False):
    """Train with alpha · cross-entropy + (1 − alpha) · loss; return accuracy and the columns."""
    (x, y), _, (x_test, y_test) = data
    steps = EPOCHS * -(-len(x) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(0.1 if sgd else 3e-3, steps)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9) if sgd else keras.optimizers.Adam(rate)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(x, y, answers):
        with tf.GradientTape() as tape, tf.GradientTape(persistent=True) as at_logits:
            logits = model(x, training=True)
            at_logits.watch(logits)
            hard = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
            )
            soft = tf.constant(0.0)
            if loss is not None:
                more = {} if not loss.mixes_elements else {"mask": None}
                soft = tf.reduce_mean(loss(answers, logits, temperature, y, **more))
            parts = alpha * hard, (1.0 - alpha) * soft
            total = parts[0] + parts[1]
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        count = tf.cast(tf.shape(x)[0], tf.float32)
        zeros = tf.UnconnectedGradients.ZERO
        pulls = [
            at_logits.gradient(part, logits, unconnected_gradients=zeros) * count for part in parts
        ]
        right = tf.one_hot(y, 10)
        against = tf.reduce_mean(
            tf.cast(tf.reduce_sum(pulls[0] * right, -1) * tf.reduce_sum(pulls[1] * right, -1) < 0,
                    tf.float32)
        )  # fmt: skip
        centred = [z - tf.reduce_mean(z, -1, keepdims=True) for z in (logits, answers)]
        scale = tf.math.reduce_std(centred[0]) / tf.math.reduce_std(centred[1])
        fit = 1 - tf.reduce_sum((centred[0] - centred[1]) ** 2) / tf.reduce_sum(centred[1] ** 2)
        lengths = [tf.sqrt(tf.reduce_mean(tf.reduce_sum(p**2, -1))) for p in pulls]
        return tf.stack([*lengths, against, scale, fit])

    rng, seen = np.random.default_rng(seed), []
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            seen.append(step(x[rows], y[rows].astype("int32"), answers[rows]).numpy())
    accuracy = 100 * np.mean(model.predict(x_test, verbose=0).argmax(1) == y_test)
    return np.array([accuracy, *np.mean(seen[-len(seen) // 3 :], 0)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = data_of("digits", ".")
    (x, y), _, _ = data
    keras.utils.set_random_seed(1000)
    teacher = TASK.teacher(x.shape[1:])
    fit(teacher, x, y, "categorical", TASK.teacher_epochs, 1000, rate=1e-3)
    answers = teacher.predict(x, verbose=0)
    size = float(np.std(answers - answers.mean(-1, keepdims=True)))
    print(f"standard deviation of the teacher's logits: {size:.2f}")
    kl, standardized = losses.KLDivergence(), losses.StandardizedKLDivergence()
    rows = [
        # name, loss, alpha, T, teacher's scale, further
        ("alone", None, 1.0, 1.0, 1, {}),
        ("KL 0.1, T 4", kl, 0.1, 4.0, 1, {}),
        ("KL 0.1, T 1", kl, 0.1, 1.0, 1, {}),
        ("KL 0.5, T 4", kl, 0.5, 4.0, 1, {}),
        ("KL 0.1, T 4, teacher's logits / 4", kl, 0.1, 4.0, 0.25, {}),
        ("KL 0.1, T 4, without its T²", kl, 1.6 / 2.5, 4.0, 1, {}),
        ("standardized KL 0.1, T 2", standardized, 0.1, 2.0, 1, {}),
        ("balanced KL 0.5, T 4", losses.Balanced("kl"), 0.5, 4.0, 1, {}),
        ("auto", losses.default_for("categorical"), 0.5, 1.0, 1, {}),
        ("alone, SGD", None, 1.0, 1.0, 1, {"sgd": True}),
        ("KL 0.1, T 4, SGD", kl, 0.1, 4.0, 1, {"sgd": True}),
        ("alone, no batch norm", None, 1.0, 1.0, 1, {"norm": False}),
        ("KL 0.1, T 4, no batch norm", kl, 0.1, 4.0, 1, {"norm": False}),
        ("alone, 15,000 weights", None, 1.0, 1.0, 1, {"wide": True}),
        ("KL 0.1, T 4, 15,000 weights", kl, 0.1, 4.0, 1, {"wide": True}),
    ]
    print(f"{'':36} accuracy  hard  soft  against  scale   fit")
    for name, loss, alpha, temperature, factor, more in rows:
        found = []
        for seed in range(options.seeds):
            keras.utils.set_random_seed(seed)
            model = student(more.get("wide", False), more.get("norm", True))
            found.append(
                train(model, loss, alpha, temperature, data, factor * answers, seed,
                      more.get("sgd", False))
            )  # fmt: skip
        accuracy, hard, soft, against, scale, explained = np.mean(found, 0)
        print(
            f"{name:36} {accuracy:8.2f} {hard:5.2f} {soft:5.2f} {against:8.2f} {scale:6.2f} "
            f"{explained:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
