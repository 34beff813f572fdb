"""Batches from rows, in the order of a plan: read, decode, transform, collate, in threads."""

from tql.loader.failures import Failure, Failures, OnError
from tql.loader.loader import Loader
from tql.loader.map_dataset import MapDataset
from tql.loader.memory import Supply
from tql.loader.options import Options
from tql.loader.rows import FragmentRows, Rows
from tql.loader.shaping import Shaping, known_shaping
from tql.loader.to_numpy import numpy_collate
from tql.loader.to_tensorflow import by_row, tensorflow_collate, tensorflow_dataset
from tql.loader.to_torch import (
    distributed_rank,
    pinned_supply,
    torch_collate,
    warned_of_same_batches,
)

__all__ = [
    "Failure",
    "Failures",
    "FragmentRows",
    "Loader",
    "MapDataset",
    "OnError",
    "Options",
    "Rows",
    "Shaping",
    "Supply",
    "by_row",
    "distributed_rank",
    "known_shaping",
    "numpy_collate",
    "pinned_supply",
    "tensorflow_collate",
    "tensorflow_dataset",
    "torch_collate",
    "warned_of_same_batches",
]
