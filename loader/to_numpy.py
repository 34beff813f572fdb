"""Batches as NumPy arrays and lists."""

from tql.loader.batch import Batch, Values, as_columns


def numpy_collate(batch: Batch) -> dict[str, Values]:
    """Column → array whose first axis is the row, or a list where no array fits."""
    return as_columns(batch)
