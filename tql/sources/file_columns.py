"""Which columns of a table name files: as `files=` says, by convention, or as images of Hugging Face."""

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from tql.diagnostics import did_you_mean, error, first_names
from tql.schema import Text
from tql.sources.beside import FileColumn, FilesSource
from tql.sources.folders import Folder
from tql.sources.formats import format_of_name
from tql.sources.gathering import gather
from tql.sources.protocol import ImagesElsewhere, Source
from tql.sources.stored import chosen

FILE_NAME: Final = "file_name"
"""The column of a metadata file that names an image; `mask_file_name` names that of `mask`."""

_LOOK: Final = 1024  # rows


def by_convention(names: Iterable[str]) -> dict[str, str]:
    """The columns that a metadata file makes of its columns: {"image": "file_name"}."""
    known = list(names)
    made = {}
    for name in known:
        if name == FILE_NAME or name.endswith("_" + FILE_NAME):
            made[name.removesuffix(FILE_NAME).rstrip("_") or "image"] = name
    return {new: name for new, name in made.items() if new not in known}


def checked(files: Any) -> dict[str, str]:
    """The `files=` argument: names of new columns, and the columns that have their paths."""
    if files is None:
        return {}
    if not isinstance(files, Mapping) or not all(
        isinstance(text, str) for pair in files.items() for text in pair
    ):
        raise error(
            "type",
            f"files= is {files!r}; expected a dict from the name of a new column to the column that "
            "has the paths",
            help='for example files={"image": "path"}',
        )
    return dict(files)


def without_files(columns: Any, files: Mapping[str, str]) -> Any:
    """The `columns=` argument for the table alone: with the paths, without what is made of them."""
    if columns is None or isinstance(columns, str | bytes) or not isinstance(columns, Iterable):
        return columns
    asked = list(columns)
    for i, name in enumerate(asked):
        if name in files and name in asked[:i]:
            raise error("duplicate_column", f"columns= names '{name}' twice", help="name it once")
    table = [name for name in asked if name not in files]
    table += [files[name] for name in asked if name in files]
    return [name for i, name in enumerate(table) if name in asked or name not in table[:i]]


def with_files(
    table: Source,
    files: Mapping[str, str],
    folders: Sequence[Folder],
    columns: Sequence[str] | None = None,
) -> Source:
    """The table, and the files that it names: those of `files`, and images that it has no bytes of."""
    unembedded = table.unembedded() if isinstance(table, ImagesElsewhere) else frozenset[str]()
    found = [FileColumn(name, f"{name}.path", name) for name in sorted(unembedded)]
    made = {n: path for n, path in files.items() if columns is None or n in columns}
    for name, path in made.items():
        _check(table, name, path)
        found.append(FileColumn(name, path, image=_names_images(table, path)))
    if not found:
        return table
    shown = [*made, *table.schema.names]
    return FilesSource(table, found, folders, shown if columns is None else chosen(columns, shown))


def _check(table: Source, name: str, path: str) -> None:
    if path not in table.schema:
        raise error(
            "unknown_column",
            f"files= takes the paths of '{name}' from a column '{path}' that does not exist",
            help=did_you_mean(path, table.schema.names)
            or f"there are {first_names([repr(n) for n in table.schema.names])}",
        )
    if table.schema[path].dtype != Text():
        raise error(
            "type",
            f"files= takes the paths of '{name}' from column '{path}' of type "
            f"{table.schema[path].dtype}; expected text",
            help="name the column that has the path of each row's file",
        )
    if name in table.schema:
        raise error(
            "duplicate_column",
            f"files= makes a column '{name}', and the table has one of that name",
            help=f"give it another name: files={{'{name}_file': '{path}'}}",
        )


def _names_images(table: Source, path: str) -> bool:
    """Whether the first path there is has the extension of an image."""
    for start in range(0, table.rows, _LOOK):
        rows = np.arange(start, min(start + _LOOK, table.rows), dtype=np.int64)
        for name in gather(table, rows, [path]).column(path).to_pylist():
            if name is not None:
                return format_of_name(name) == "image"
    return True


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that these absolute paths of files are in."""
    folders = sorted({posixpath.dirname(p) for p in paths})
    return folders[0] if len(folders) == 1 else os.path.commonpath(folders)
