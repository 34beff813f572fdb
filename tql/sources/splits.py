"""Folders that are parts of a data set, and classes that are the names of folders."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tql.schema import Column, Int, Label
from tql.sources.export import arrow_field

_RANKS: Final[Mapping[str, int]] = MappingProxyType(
    {
        name: rank
        for rank, names in enumerate(
            (
                ("train", "training"),
                ("validation", "valid", "val", "dev"),
                ("test", "testing", "eval", "evaluation"),
            )
        )
        for name in names
    }
)


def is_split(folder: str) -> bool:
    """Whether a folder of this name is a part of a data set."""
    return folder.lower() in _RANKS


def split_column(folders: Sequence[str]) -> tuple[pa.Field, pa.Array]:
    """The column `split` of rows that lie in these folders; training first, then validation."""
    names = sorted(set(folders), key=lambda name: (_RANKS[name.lower()], name))
    return label_column("split", folders, names)


def label_column(
    name: str, values: Sequence[str | None], names: Sequence[str]
) -> tuple[pa.Field, pa.Array]:
    """A column of class labels: of each value its place among `names`, int32, null for None."""
    options = pc.SetLookupOptions(pa.array(names, pa.string()))
    codes = pc.call_function("index_in", [pa.array(values, pa.string())], options)
    return arrow_field(Column(name, Label(tuple(names), Int(32)))), codes
