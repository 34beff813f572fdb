"""Find the rare digit, in Keras: the same small network trained twice, and only the sampling differs.

The rows are those of train_torch.py: of the nines in the training rows one in 25 is kept, and every
fourth row is held out, with all its nines. (Recall of nine with the seeds 1, 2, 3, 7 and 11: 0 each
time when sampled plainly, 0.44 to 0.92 when balanced.) Needs `pip install "tqlkit[images,tensorflow]"`.

    python examples/train_keras.py [seed]
"""

import sys
from typing import Any

import tensorflow as tf

import tql

STEPS, BATCH, RARE = 20, 128, 9

digits = tql.open("demo:digits")
train = digits.query(
    "select * where row_number() % 4 != 0 and (labels != 'nine' or random() % 25 == 0)"
)
held_out = digits.query("select * where row_number() % 4 == 0")


def network() -> Any:
    layers = tf.keras.layers
    return tf.keras.Sequential([
        layers.Input((8, 8, 1)), layers.Rescaling(1 / 255),
        layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D(2),
        layers.Conv2D(32, 3, padding="same", activation="relu"), layers.Flatten(),
        layers.Dense(10),
    ])  # fmt: skip


def trained(batches: Any, seed: int) -> Any:
    tf.keras.utils.set_random_seed(seed)
    model = network()
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(6e-3), loss)
    pairs = batches.map(lambda batch: (batch["images"], batch["labels"]))
    # repeat() makes pass after pass of the loader: each is the next epoch, drawn anew
    model.fit(pairs.repeat(), steps_per_epoch=STEPS, shuffle=False, verbose=0)
    return model


def report(sampling: str, model: Any) -> None:
    (batch,) = held_out.dataloader().batch(len(held_out)).numpy()
    labels = batch["labels"]
    right = model.predict(batch["images"], verbose=0).argmax(1) == labels
    print(
        f"{sampling}: recall of nine {right[labels == RARE].mean():.3f}, accuracy {right.mean():.3f}"
    )


def main(seed: int) -> None:
    print(train.stats(by="labels"))
    chain = train.dataloader(seed=seed).batch(BATCH, drop_last=True)
    report("plain", trained(chain.shuffle().tensorflow(), seed))
    report("balanced", trained(chain.sample_by(tql.balanced("labels")).tensorflow(), seed))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
