"""The folder that relative paths in a table start from, and the files that they name."""

import os
import posixpath
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs as pafs

from tql.diagnostics import TqlDataError, data_error, error
from tql.sources.files import File, Place, place_of, unreadable

URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")


@dataclass(frozen=True, slots=True)
class Folder:
    """`path` is a folder within the file system of `place`; "" is where its names start."""

    place: Place
    path: str

    def find(self, name: str) -> tuple[Place, str]:
        """Where a file lies: in this folder, where its name is neither absolute nor a URI."""
        scheme = URI.match(name)
        if scheme is None:
            # Of an absolute name nothing is left of the folder.
            return self.place, posixpath.normpath(posixpath.join(self.path, name))
        if self.place.given is not None:
            return self.place, name[scheme.end() :]
        server, _, rest = name[scheme.end() :].partition("/")
        place, start = _server(name[: scheme.end()], server, self.place.retry_for)
        return place, posixpath.join(start, rest)

    def read(self, name: str) -> bytes:
        """The whole file. Raises OSError, or what its file system raises."""
        place, path = self.find(name)
        if place.local:  # half the time of a handle of Arrow's
            with open(path, "rb") as local:
                return local.read()
        with File(place, path, name).open() as handle:
            content: bytes = handle.read()
        return content

    def says(self, name: str, cause: Exception) -> TqlDataError:
        """Why the file cannot be read, as people should hear it."""
        if isinstance(cause, TqlDataError):
            return cause
        try:
            path = self.find(name)[1]
        except (OSError, ValueError, pa.ArrowException) as e:
            return data_error(
                "source",
                f"'{name}' cannot be read: {e}",
                help="use a scheme that pyarrow knows (file, s3, gs, …), or pass filesystem=",
            )
        found = unreadable(name, cause)
        if not isinstance(cause, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            return found
        shown = "" if path == name else f"; looked for '{path}'"
        return data_error(
            "source",
            f"no file '{name}'{shown}",
            help="say where relative paths start with root=, or go on without such rows: "
            "on_error='skip'",
        )


@lru_cache(64)
def _server(scheme: str, server: str, retry_for: float) -> tuple[Place, str]:
    """The file system of a URI, and where names in it start: the bucket, or the root."""
    uri = scheme + (server or "/")
    filesystem, start = pafs.FileSystem.from_uri(uri)
    return Place(filesystem, uri, retry_for=retry_for), start


def absent(files: Collection[tuple[Folder, str]]) -> set[tuple[Folder, str]]:
    """Those of the files that are not there, by asking for each; OSError where that fails."""
    by_place: dict[Place, dict[str, list[tuple[Folder, str]]]] = {}
    for folder, name in files:
        place, path = folder.find(name)
        by_place.setdefault(place, {}).setdefault(path, []).append((folder, name))
    gone = set[tuple[Folder, str]]()
    for place, paths in by_place.items():
        infos = place.ask(f"{len(paths):,} files", partial(_infos, place, list(paths)))
        gone.update(w for i in infos if i.type != pafs.FileType.File for w in paths[i.path])
    return gone


def _infos(place: Place, paths: list[str]) -> list[pafs.FileInfo]:
    found: list[pafs.FileInfo] = place.filesystem.get_file_info(paths)
    return found


def folder_at(path: str | os.PathLike[str], filesystem: Any, retry_for: float) -> Folder:
    """The folder that a path or URI names; whether it is there shows when it is read."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise error("type", "root= is given as bytes; expected text", help="use os.fsdecode")
    return Folder(*place_of(text, filesystem, retry_for))


def here() -> Folder:
    """The folder that this process works in."""
    return Folder(Place(pafs.LocalFileSystem()), os.getcwd().replace(os.sep, "/"))


def folder_of(file: File) -> Folder:
    """The folder that a file lies in."""
    return Folder(file.place, posixpath.dirname(file.path))
