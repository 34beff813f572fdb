"""From files to a source, by what the files are."""

import posixpath
from collections.abc import Mapping, Sequence
from typing import assert_never

import pyarrow as pa

from tql.diagnostics import data_error, error
from tql.sources.coco import PATH as COCO_PATH
from tql.sources.coco import is_one_object, read_coco
from tql.sources.file_columns import by_convention, common_folder, with_files, without_files
from tql.sources.files import File, unreadable
from tql.sources.folders import Folder, folder_of
from tql.sources.formats import ACCEPTED, NAMES, Format, format_of_name, is_metadata
from tql.sources.image_folder import open_image_folder
from tql.sources.ipc import IpcSource
from tql.sources.mapped import open_arrays
from tql.sources.memory import MemorySource
from tql.sources.parquet import ParquetSource
from tql.sources.protocol import Source
from tql.sources.splits import is_split, split_column
from tql.sources.tables import below, read_tables

ClassNames = Mapping[str, Sequence[str]]


def open_files(
    found: Sequence[File],
    columns: Sequence[str] | None,
    class_names: ClassNames | None,
    files: Mapping[str, str],
    root: Folder | None,
) -> Source:
    """A source over files of one kind. `files` says which columns of theirs are paths of other files,
    and `root` where those start, if not beside the file that they stand in.
    """
    format = _one_format(found)
    match format:
        case "parquet" | "ipc":
            return _open_stored(found, format, columns, class_names, files, root)
        case "csv" | "tsv" | "jsonl":
            return _open_tables(found, columns, class_names, files, root)
        case "json":
            return _open_json(found, columns, class_names, files, root)
        case "npy" | "npz":
            _no_paths(files, root, "arrays")
            return open_arrays(_only(found, "NumPy files"), columns, class_names)
        case "image":
            _no_paths(files, root, "the files themselves")
            return open_image_folder(found, columns, class_names, _shown(found))
        case _:
            assert_never(format)


def _open_stored(
    found: Sequence[File],
    format: Format,
    columns: Sequence[str] | None,
    class_names: ClassNames | None,
    files: Mapping[str, str],
    root: Folder | None,
) -> Source:
    make = ParquetSource if format == "parquet" else IpcSource
    if not files and all(is_metadata(f.path) for f in found):
        files = by_convention(make(found).schema.names)
    table = make(found, columns=without_files(columns, files), class_names=class_names)
    folders = [root] if root is not None else _folders(table)
    return with_files(table, files, folders, columns)


def _folders(table: ParquetSource | IpcSource) -> list[Folder]:
    """The folder of each fragment's file; one where it is the same for all."""
    folders = [folder_of(table.file_of(f.index)) for f in table.fragments]
    return folders[:1] if len(set(folders)) == 1 else folders


def _open_tables(
    found: Sequence[File],
    columns: Sequence[str] | None,
    class_names: ClassNames | None,
    files: Mapping[str, str],
    root: Folder | None,
) -> Source:
    """Text files as one table. Where they lie in several folders, relative paths become those below
    the folder that these are in; where these are train, test and so on, a column says which.
    """
    tables = read_tables(found)
    described = all(is_metadata(f.path) for f in found)
    if not files and described:
        files = by_convention(tables[0].column_names)
    above = common_folder([f.path for f in found])
    inner = [posixpath.dirname(f.path)[len(above) :].strip("/") for f in found]
    if root is None:
        tables = [_moved(t, files, folder) for t, folder in zip(tables, inner, strict=True)]
    table = pa.concat_tables(tables)
    parts = [folder.split("/")[0] for folder in inner]
    if described and "split" not in table.column_names and all(map(is_split, parts)):
        rows = [p for p, t in zip(parts, tables, strict=True) for _ in range(t.num_rows)]
        table = table.append_column(*split_column(rows))
    return _in_memory(
        table, found, columns, class_names, files, root or Folder(found[0].place, above)
    )


def _moved(table: pa.Table, files: Mapping[str, str], folder: str) -> pa.Table:
    for name in set(files.values()) & set(table.column_names):
        at = table.schema.get_field_index(name)
        if pa.types.is_string(table.schema.field(at).type):
            table = table.set_column(at, table.schema.field(at), below(table.column(at), folder))
    return table


def _open_json(
    found: Sequence[File],
    columns: Sequence[str] | None,
    class_names: ClassNames | None,
    files: Mapping[str, str],
    root: Folder | None,
) -> Source:
    """Annotations in the form of COCO; otherwise an object a line, whatever the name says."""
    if not is_one_object(found[0]):
        return _open_tables(found, columns, class_names, files, root)
    file = _only(found, "COCO files")
    table = read_coco(file)
    folder = root or folder_of(file)
    return _in_memory(table, found, columns, class_names, files or {"image": COCO_PATH}, folder)


def _in_memory(
    table: pa.Table,
    found: Sequence[File],
    columns: Sequence[str] | None,
    class_names: ClassNames | None,
    files: Mapping[str, str],
    folder: Folder,
) -> Source:
    kept = without_files(columns, files)
    source = MemorySource(
        table, columns=kept, class_names=class_names, where=_shown(found), kind="table"
    )
    return with_files(source, files, [folder], columns)


def _shown(found: Sequence[File]) -> str:
    first = found[0].shown
    return first if len(found) == 1 else f"{first} and {len(found) - 1:,} more"


def _only(found: Sequence[File], what: str) -> File:
    if len(found) > 1:
        raise data_error(
            "source",
            f"'{found[0].shown}' and '{found[1].shown}' are two {what}; expected one",
            help="open them separately, or arrays as columns: tql.open({'x': numpy.load('x.npy', "
            "mmap_mode='r'), …})",
        )
    return found[0]


def _no_paths(files: Mapping[str, str], root: Folder | None, what: str) -> None:
    if files or root is not None:
        raise error(
            "parameter",
            f"files= and root= are for tables that name files, and these are {what}",
            help="leave them out",
        )


def _one_format(found: Sequence[File]) -> Format:
    formats: dict[Format, File] = {}
    for file in found:
        formats.setdefault(format_of_name(file.path) or _format_inside(file), file)
    if len(formats) > 1:
        order = list(NAMES)
        (a, first), (b, second), *_ = sorted(formats.items(), key=lambda item: order.index(item[0]))
        raise data_error(
            "source",
            f"'{first.shown}' is {NAMES[a]} and '{second.shown}' is {NAMES[b]}; "
            "expected files of one kind",
            help="open them separately",
        )
    return next(iter(formats))


def _format_inside(file: File) -> Format:
    try:
        with file.open() as handle:
            head: bytes = handle.read_at(min(8, handle.size()), 0)
    except (OSError, pa.ArrowException) as e:
        raise unreadable(file.shown, e) from e
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "ipc"
    raise data_error(
        "source",
        f"'{file.shown}' is not a data file: it starts with {head!r}; expected {ACCEPTED}",
        help="convert it, for example with pyarrow.csv.read_csv and pyarrow.parquet.write_table",
    )
