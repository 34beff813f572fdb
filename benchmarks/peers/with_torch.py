"""torch, on the CPU: tensors of numbers."""

from collections.abc import Iterator

import torch

from benchmarks.measure import Contender
from benchmarks.peers import weighing
from benchmarks.peers.data import Data

NAME = "torch"


def contenders(data: Data) -> Iterator[tuple[str, Contender]]:
    """Filters over numbers, the nearest embeddings, and draws."""
    labels, score, stamp = (
        torch.from_numpy(data.array(c).copy()) for c in ("labels", "score", "stamp")
    )
    low, high = data.hundredth
    for key, test in (
        ("labels_not", lambda: labels != 5),
        ("label_and_score", lambda: (labels == 5) & (score > 0.9)),
        ("range", lambda: (stamp >= low) & (stamp <= high)),
    ):
        yield key, Contender(NAME, lambda test=test: torch.nonzero(test()).squeeze(1))
    emb = data.embeddings["emb"].combine_chunks().flatten().to_numpy()
    wanted = torch.from_numpy(data.wanted.copy())
    vectors = torch.from_numpy(emb.reshape(-1, len(wanted)).copy())

    def nearest() -> torch.Tensor:
        return torch.topk((vectors @ wanted) / torch.linalg.vector_norm(vectors, dim=1), 10).indices

    yield "cosine", Contender(NAME, nearest)
    for key, weights in weighing.weights(data).items():
        tensor = torch.from_numpy(weights.copy())
        draw = lambda t=tensor: torch.multinomial(t, len(t), replacement=True)  # noqa: E731
        yield key, Contender(NAME, draw, refuses=(RuntimeError,))  # at most 2^24 weights
        take = lambda t=tensor: torch.multinomial(t, weighing.some(data))  # noqa: E731
        yield weighing.TAKEN[key], Contender(NAME, take, refuses=(RuntimeError,))
    yield "permuted", Contender(NAME, lambda: torch.randperm(data.rows))
