"""`open_source`: from whatever people hold to a `Source`."""

import math
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import PurePath
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import fs as pafs

from tql.diagnostics import data_error, did_you_mean, error
from tql.sources.file_columns import checked, with_files, without_files
from tql.sources.files import File, Place, find_files
from tql.sources.folders import Folder, folder_at, here
from tql.sources.foreign import (
    is_arrow_dataset,
    is_hugging_face,
    open_arrow_dataset,
    open_hugging_face,
    refuse_splits,
    refuse_stream,
)
from tql.sources.mapped import open_mapped
from tql.sources.memory import MemorySource
from tql.sources.opening_files import open_files
from tql.sources.protocol import Source
from tql.sources.retrying import RETRY_FOR

ClassNames = Mapping[str, Sequence[str]]

_DEMO: Final = "demo:"
_ACCEPTED_OBJECTS: Final = (
    "a path, folder, glob, URI or list of paths, a dict of arrays, an Arrow table or data set, "
    "anything with __arrow_c_stream__ (Polars, pandas, DuckDB), a Hugging Face Dataset"
)


def open_source(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    class_names: ClassNames | None = None,
    filesystem: Any = None,
    files: Mapping[str, str] | None = None,
    root: str | os.PathLike[str] | None = None,
    retry_for: float = RETRY_FOR,
) -> Source:
    """A source over files, tables or arrays.

    `columns` restricts the schema; `class_names` gives the names of integer columns; `filesystem`
    is a pyarrow or fsspec file system that paths are read through. `files` makes columns of files
    whose paths stand in other columns; `root` is where relative ones start. `retry_for` is for how
    many seconds a request to storage that is not local is tried again.
    """
    _check_retry_for(retry_for)
    named = checked(files)
    folder = None if root is None else folder_at(root, filesystem, retry_for)
    match source:
        case str() | os.PathLike():
            found = _found(source, filesystem, retry_for)
            return open_files(found, columns, class_names, named, folder)
        case list() | tuple():
            found = [
                f for path in _checked_paths(source) for f in _found(path, filesystem, retry_for)
            ]
            return open_files(found, columns, class_names, named, folder)
        case _:
            table = _open_object(source, without_files(columns, named), class_names)
            folder = folder or _beside(filesystem, retry_for)
            return with_files(table, named, [folder], columns)


def _open_object(
    source: Any, columns: Sequence[str] | None, class_names: ClassNames | None
) -> Source:
    match source:
        case Mapping() if not hasattr(source, "__arrow_c_stream__"):
            refuse_splits(source)
            return open_mapped(source, columns, class_names)
        case np.memmap():
            name = "array" if source.filename is None else PurePath(source.filename).stem
            return open_mapped({name: source}, columns, class_names)
        case _ if is_arrow_dataset(source):
            return open_arrow_dataset(source, columns, class_names)
        case _ if is_hugging_face(source):
            return open_hugging_face(source, columns, class_names)
        case _:
            refuse_stream(source)
            table = _table(source)
            return MemorySource(table, columns=columns, class_names=class_names)


def _beside(filesystem: Any, retry_for: float) -> Folder:
    """Where relative paths of a table in memory start."""
    return here() if filesystem is None else folder_at("", filesystem, retry_for)


def _table(source: Any) -> pa.Table:
    try:
        match source:
            case pa.Table():
                return source
            case pa.RecordBatch():
                return pa.Table.from_batches([source])
            case pa.RecordBatchReader():
                return source.read_all()
            case _ if hasattr(source, "__arrow_c_stream__"):
                return pa.RecordBatchReader.from_stream(source).read_all()
            case _ if hasattr(source, "__arrow_c_array__"):
                return pa.Table.from_batches([pa.record_batch(source)])
    except (pa.ArrowException, TypeError, ValueError) as e:
        raise error(
            "type",
            f"a {type(source).__name__} gives no Arrow table: {e}",
            help="pass a table with named columns, or a dict of arrays",
        ) from e
    advice = "call its .collect() first" if hasattr(source, "collect") else None
    raise error(
        "type",
        f"cannot open a {type(source).__name__}; expected {_ACCEPTED_OBJECTS}",
        help=advice or 'for example tql.open({"labels": labels})',
    )


def _checked_paths(paths: Sequence[Any]) -> Sequence[str | os.PathLike[str]]:
    if not paths:
        raise data_error("source", "the list of paths is empty", help="name at least one file")
    for i, path in enumerate(paths):
        if not isinstance(path, str | os.PathLike):
            raise error(
                "type",
                f"a list is read as paths, and entry {i} is a {type(path).__name__}",
                help='pass columns as a dict of arrays: tql.open({"labels": [...]})',
            )
    return paths


def _check_retry_for(retry_for: Any) -> None:
    if isinstance(retry_for, bool) or not isinstance(retry_for, int | float):
        raise error(
            "type",
            f"retry_for= is {retry_for!r}; expected a number of seconds",
            help="retry_for=0 tries everything once",
        )
    if not 0 <= retry_for < math.inf:
        raise error(
            "value",
            f"retry_for= is {retry_for}; expected 0 seconds or more",
            help="retry_for=0 tries everything once",
        )


def _found(
    source: str | os.PathLike[str], filesystem: Any, retry_for: float = RETRY_FOR
) -> list[File]:
    text = os.fspath(source)
    if not isinstance(text, str):
        raise error("type", "a path is given as bytes; expected text", help="use os.fsdecode")
    if text.startswith(_DEMO):
        return [_demo(text)]
    return find_files(text, filesystem, retry_for)


def _demo(text: str) -> File:
    folder = resources.files("tql").joinpath("demo")
    suffix = ".parquet"
    names = [f.name.removesuffix(suffix) for f in folder.iterdir() if f.name.endswith(suffix)]
    name = text.removeprefix(_DEMO)
    if name not in names:
        raise data_error(
            "source",
            f"no embedded data set '{text}'",
            help=_nearest_demo(name, sorted(names)),
        )
    path = str(folder.joinpath(name + suffix)).replace(os.sep, "/")
    return File(Place(pafs.LocalFileSystem()), path, text)


def _nearest_demo(name: str, names: Sequence[str]) -> str:
    # Compared without the prefix, which all share, and shown with it, as people must write it.
    near = [n for n in names if did_you_mean(name, [n])]
    shown = " or ".join(f"'{_DEMO}{n}'" for n in near or names)
    return f"did you mean {shown}?" if near else f"there is {shown}"
