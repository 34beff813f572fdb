"""NumPy: arrays of numbers, texts as its own strings, a dictionary column as its codes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.measure import Contender, Rows
from benchmarks.peers import weighing
from benchmarks.peers.data import CATEGORIES, Data

NAME = "NumPy"


def contenders(data: Data) -> Iterator[tuple[str, Contender]]:
    """What is in memory."""
    for key, test in _tests(data).items():
        yield key, Contender(NAME, lambda test=test: np.flatnonzero(test()))
    low, high = data.hundredth
    stamp = data.array("stamp")
    yield (
        "range",
        Contender(
            NAME,
            lambda: np.arange(np.searchsorted(stamp, low), np.searchsorted(stamp, high, "right")),
        ),
    )
    yield "boxes", Contender(NAME, _boxes(data))
    yield "weights", Contender(NAME, _weight(data))
    emb = data.embeddings["emb"].combine_chunks().flatten().to_numpy()
    vectors, wanted = emb.reshape(-1, len(data.wanted)), data.wanted

    def nearest() -> Rows:
        squares = np.einsum("ij,ij->i", vectors, vectors)
        return np.argpartition((vectors @ wanted) / np.sqrt(squares), -10)[-10:]

    yield "cosine", Contender(NAME, nearest)
    for key, weights in weighing.weights(data).items():
        yield key, Contender(NAME, lambda weights=weights: _draw(weights, len(weights), True))
        taken = lambda weights=weights: _draw(weights, weighing.some(data), False)  # noqa: E731
        yield weighing.TAKEN[key], Contender(NAME, taken)
    rng = np.random.default_rng(1)
    yield "permuted", Contender(NAME, lambda: rng.permutation(data.rows))


def _tests(data: Data) -> dict[str, Callable[[], Rows]]:
    labels, score = data.array("labels"), data.array("score")
    cat = np.array(data.table["cat"].to_pylist(), np.dtypes.StringDType())
    kind = data.table["kind"].combine_chunks().indices.to_numpy()
    threes = np.array([name.endswith("3") for name in CATEGORIES])
    return {
        "labels_not": lambda: labels != 5,
        "label_and_score": lambda: (labels == 5) & (score > 0.9),
        "text_is": lambda: cat == "c3",
        "text_like": lambda: np.strings.endswith(cat, "3"),
        "kind_is": lambda: kind == CATEGORIES.index("c3"),
        "kind_like": lambda: threes[kind],
    }


def _draw(weights: Rows, size: int, replace: bool) -> Rows:
    return np.random.default_rng(1).choice(len(weights), size, replace, weights / weights.sum())


def _boxes(data: Data) -> Callable[[], Rows]:
    lists = data.boxes["boxes"].combine_chunks()
    offsets = lists.offsets.to_numpy()
    values = lists.values.flatten().to_numpy().reshape(-1, 4)

    def wide() -> Rows:
        counts = np.concatenate([[0], np.cumsum(values[:, 2] > 100)])
        return np.flatnonzero(counts[offsets[1:]] > counts[offsets[:-1]])

    return wide


def _weight(data: Data) -> Callable[[], Rows]:
    labels, score = data.array("labels"), data.array("score")

    def weight() -> Any:
        tests = [(labels == 4) & (score > 0.5), score > 0.9, score < 0.1]
        tests += [labels == k for k in (3, 2, 1, 0)]
        return np.select(tests, [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 0.5)

    return weight
