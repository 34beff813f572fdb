"""What files are by their names, and which of the files in a folder are the data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final, Literal

from tql.diagnostics import data_error

Format = Literal["parquet", "ipc", "csv", "tsv", "jsonl", "json", "npy", "npz", "image"]

_FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        ".parquet": "parquet",
        ".parq": "parquet",
        ".pq": "parquet",
        ".arrow": "ipc",
        ".arrows": "ipc",
        ".feather": "ipc",
        ".ipc": "ipc",
        ".csv": "csv",
        ".tsv": "tsv",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "json",
        ".npy": "npy",
        ".npz": "npz",
        ".jpg": "image",
        ".jpeg": "image",
        ".jpe": "image",
        ".jfif": "image",
        ".png": "image",
        ".gif": "image",
        ".bmp": "image",
        ".webp": "image",
        ".tif": "image",
        ".tiff": "image",
        ".ppm": "image",
        ".pgm": "image",
        ".avif": "image",
        ".jp2": "image",
    }
)
TABLES: Final = frozenset({"csv", "tsv", "jsonl"})
ACCEPTED: Final = (
    "Parquet (.parquet), Arrow IPC (.arrow, .feather, .ipc), CSV (.csv, .tsv), JSON (.jsonl, COCO "
    "in .json), NumPy (.npy, .npz) or images"
)
NAMES: Final[Mapping[Format, str]] = MappingProxyType(
    {
        "parquet": "Parquet",
        "ipc": "Arrow IPC",
        "csv": "CSV",
        "tsv": "TSV",
        "jsonl": "JSON",
        "json": "COCO",
        "npy": "NumPy .npy",
        "npz": "NumPy .npz",
        "image": "image",
    }
)
METADATA: Final = "metadata"
"""The name, without its extension, of a table that describes the files beside it."""

# Of a folder that holds several of these, the first is the data: tables lie beside the Parquet files
# that were made of them, and notes and labels beside images.
_RANK: Final[tuple[frozenset[Format], ...]] = (
    frozenset[Format](["parquet", "ipc"]),
    frozenset[Format](["image"]),
    frozenset[Format](["csv", "tsv", "jsonl"]),
    frozenset[Format](["npy", "npz"]),
)


def format_of_name(path: str) -> Format | None:
    """The format that the file's extension stands for, in small letters or large."""
    dot = path.rfind(".")
    return _FORMATS.get(path[dot:].lower()) if dot > path.rfind("/") else None


def is_metadata(path: str) -> bool:
    """Whether this is the table that describes the files beside it, by the name of both."""
    stem, dot, _ = path[path.rfind("/") + 1 :].rpartition(".")
    return bool(dot) and stem == METADATA and format_of_name(path) in (*TABLES, "parquet")


def data_among(infos: Sequence[Any], folder: str) -> list[Any]:
    """Of what a folder holds, the files (anything with a `path`) that are its data.

    `folder` is how people call it. Raises where there are none, or of two kinds.
    """
    of_format: dict[Format | None, list[Any]] = {}
    for info in infos:
        of_format.setdefault(format_of_name(info.path), []).append(info)
    stored = [i for f in ("parquet", "ipc") for i in of_format.get(f, ())]
    described = [i for i in infos if is_metadata(i.path)]
    if described and all(is_metadata(i.path) for i in stored):
        return _one_kind(described, folder)
    for rank in _RANK:
        found = [i for f in rank for i in of_format.get(f, ())]
        if found:
            return _one_kind(found, folder)
    held = Counter(PurePosixPath(i.path).suffix or "no extension" for i in infos)
    shown = ", ".join(f"{n:,} {suffix}" for suffix, n in held.most_common(4)) or "nothing"
    raise data_error(
        "source",
        f"folder '{folder}' has no data files: found {shown}; expected {ACCEPTED}",
        help="name the files themselves, or convert them to Parquet",
    )


def _one_kind(found: list[Any], folder: str) -> list[Any]:
    formats = {f for i in found if (f := format_of_name(i.path)) is not None}
    names = [name for f, name in NAMES.items() if f in formats]
    if len(names) > 1:
        raise data_error(
            "source",
            f"folder '{folder}' has both {' and '.join(names)} files; expected one kind",
            help=f"choose with a glob: '{folder.rstrip('/')}/**/*{PurePosixPath(found[0].path).suffix}'",
        )
    return sorted(found, key=lambda i: i.path)
