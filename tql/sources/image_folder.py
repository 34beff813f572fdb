"""Folders of images: one row a file, labelled by the folder that it lies in."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tql.sources.beside import FileColumn, FilesSource
from tql.sources.file_columns import common_folder
from tql.sources.files import File
from tql.sources.fingerprint import digest
from tql.sources.folders import Folder
from tql.sources.memory import MemorySource
from tql.sources.splits import is_split, label_column, split_column
from tql.sources.stored import chosen


def open_image_folder(
    files: Sequence[File],
    columns: Sequence[str] | None,
    class_names: Mapping[str, Sequence[str]] | None,
    where: str,
) -> FilesSource:
    """The images in a folder, in the order of their paths.

    image  the file
    path   its path within the folder that was opened
    label  the folder that it lies in, directly below that one or below a split; classes are the
           names of these folders, sorted. NULL for an image in none; left out where all are
    split  "train", "test", … where folders of these names hold all images
    """
    base = files[0].base
    if base is None or any(f.base != base for f in files):
        base = common_folder([f.path for f in files])
    paths = [f.path[len(base) :].lstrip("/") for f in files]
    folders = [p.split("/")[:-1] for p in paths]
    split = all(parts and is_split(parts[0]) for parts in folders)
    made = [(pa.field("path", pa.string()), pa.array(paths, pa.string()))]
    labels = [parts[split] if len(parts) > split else None for parts in folders]
    if names := sorted({name for name in labels if name is not None}):
        made.append(label_column("label", labels, names))
    if split:
        made.append(split_column([parts[0] for parts in folders]))
    table = pa.Table.from_arrays([a for _, a in made], schema=pa.schema([f for f, _ in made]))
    wanted = chosen(columns, ("image", *table.column_names))
    sizes = pa.array([-1 if f.stamp is None else f.stamp[0] for f in files], pa.int64())
    return FilesSource(
        MemorySource(table, class_names=class_names, where=where, kind="images"),
        [FileColumn("image", "path")],
        [Folder(files[0].place, base)],
        wanted,
        digest(sizes.buffers()[1]),
    )
