"""Finding the files that a path, folder, glob, list or URI means, and saying so when there are none."""

import os
import pickle
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

import pyarrow as pa
from pyarrow import fs as pafs

from tql.diagnostics import TqlDataError, data_error, did_you_mean, error
from tql.sources.formats import data_among
from tql.sources.remote import RemoteFile
from tql.sources.retrying import RETRY_FOR, again, denied

T = TypeVar("T")

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")
_WILD: Final = re.compile(r"[*?\[]")


class Place:
    """A file system, made again in a child process; `retry_for` is how long it is asked, in seconds."""

    __slots__ = ("_filesystem", "_pid", "given", "local", "retry_for", "uri")

    def __init__(
        self,
        filesystem: pafs.FileSystem,
        uri: str | None = None,
        given: Any = None,
        retry_for: float = RETRY_FOR,
    ) -> None:
        self._filesystem = filesystem
        self.given = given  # the file system that was handed in, where one was
        self.uri = uri
        self.retry_for = retry_for
        self._pid = os.getpid()
        self.local = isinstance(filesystem, pafs.LocalFileSystem)

    @property
    def filesystem(self) -> pafs.FileSystem:
        # Connections and their threads do not survive a fork.
        if not self.local and self._pid != os.getpid():
            self._filesystem = pickle.loads(pickle.dumps(self._filesystem))
            self._pid = os.getpid()
        return self._filesystem

    def ask(self, shown: str, request: Callable[[], T]) -> T:
        """The outcome of a request about `shown`; of a file system over a network, with patience."""
        return request() if self.local else again(f"'{shown}'", self.retry_for, request)


@dataclass(frozen=True, slots=True)
class File:
    """A file to read: `path` within the file system, `shown` as people know it.

    `base` is the folder that was opened, or the one that a glob begins with, if any.
    """

    place: Place
    path: str
    shown: str
    stamp: tuple[int, int] | None = None  # its size and its time in ns, where they were listed
    base: str | None = None

    def open(self, ahead: Iterable[tuple[int, int]] = ()) -> Any:
        """A new handle for random access; the caller closes it.

        Of a file that is not local the ranges `ahead`, (start, stop) each, are read at once.
        """
        if self.place.local:
            return self._open()
        remote = RemoteFile(self._open, f"'{self.shown}'", self.place.retry_for)
        remote.fetch(ahead)
        return pa.PythonFile(remote, mode="r")

    def _open(self) -> Any:
        return self.place.filesystem.open_input_file(self.path)

    def stamped(self) -> "File":
        """The file with the stamp it has now where it is local; of others, as it was listed."""
        return replace(self, stamp=self.stamp_now()) if self.place.local else self

    def stamp_now(self) -> tuple[int, int] | None:
        """The stamp it has now: microseconds where it is local, else a request."""
        if self.place.local:
            seen = os.stat(self.path)
            return seen.st_size, seen.st_mtime_ns
        place = self.place
        info = place.ask(self.shown, lambda: place.filesystem.get_file_info(self.path))
        if info.type == pafs.FileType.NotFound:
            raise FileNotFoundError(self.path)
        return _stamp(info)

    def has_stamp(self, stamp: tuple[int, int] | None) -> bool:
        """Whether `stamp` is the file's; to the second where it is not local, as lists of objects
        say more of the time than what is asked of one.
        """
        if self.stamp is None or stamp is None or self.place.local:
            return self.stamp == stamp
        return (self.stamp[0], self.stamp[1] // 10**9) == (stamp[0], stamp[1] // 10**9)


def unreadable(shown: str, e: BaseException) -> TqlDataError:
    """The error for a file or folder that the system does not let us read."""
    match e:
        case FileNotFoundError():
            return data_error("source", f"no file '{shown}'", help="check the path")
        case PermissionError():
            return data_error(
                "source",
                f"'{shown}' may not be read: permission denied",
                help=f"grant read permission on '{shown}'",
            )
        case _ if denied(e):
            return data_error(
                "source",
                f"'{shown}' may not be read: {e}",
                help="check the credentials, and what they permit",
            )
        case _:
            return data_error(
                "source", f"'{shown}' cannot be read: {e}", help="check that the file is complete"
            )


def find_files(
    source: str | os.PathLike[str], filesystem: Any, retry_for: float = RETRY_FOR
) -> list[File]:
    """The files that one path, folder, glob or URI means, sorted by path; at least one."""
    text = os.fspath(source)
    if not text:
        raise data_error("source", "the path is empty", help="name a file, a folder or a glob")
    place, path = place_of(text, filesystem, retry_for)
    try:
        return place.ask(text, lambda: _find(place, path, text))
    except (OSError, pa.ArrowException) as e:
        raise unreadable(text, e) from e


def _find(place: Place, path: str, text: str) -> list[File]:
    info = place.filesystem.get_file_info(path)
    base = path
    if info.type == pafs.FileType.Directory:
        infos = _in_folder(place.filesystem, path, text)
    elif info.type != pafs.FileType.NotFound:
        return [File(place, path, text, _stamp(info))]
    elif (wild := _WILD.search(path)) is None:
        raise _missing(place.filesystem, path, text)
    else:
        base = path[: wild.start()].rpartition("/")[0]
        infos = _matching(place.filesystem, path)
        if not infos:
            raise _nothing_matches(place.filesystem, path, text)
    return [File(place, i.path, _shown(i.path, path, text), _stamp(i), base) for i in infos]


def _stamp(info: pafs.FileInfo) -> tuple[int, int] | None:
    size, time = info.size, info.mtime_ns
    return None if size is None or time is None else (size, time)


def place_of(text: str, filesystem: Any, retry_for: float) -> tuple[Place, str]:
    """The file system of a path or URI, and the path within it."""
    scheme = _URI.match(text)
    if filesystem is not None:
        place = Place(_as_arrow(filesystem), given=filesystem, retry_for=retry_for)
        return place, text[scheme.end() :] if scheme else text
    if scheme is None:
        return Place(pafs.LocalFileSystem()), _absolute(text)
    # A glob's signs are not those of a URI ("?" starts a query there).
    wild = _WILD.search(text)
    cut = len(text) if wild is None else text.rfind("/", 0, wild.start())
    try:
        found, path = pafs.FileSystem.from_uri(text[:cut])
    except (OSError, ImportError, ValueError, pa.ArrowException) as e:
        raise data_error(
            "source",
            f"'{text}' cannot be opened: {e}",
            help="use a scheme that pyarrow knows (file, s3, gs, hf, …) or pass filesystem=",
        ) from e
    return Place(found, text[:cut], retry_for=retry_for), path + text[cut:]


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text)).replace(os.sep, "/")


def _as_arrow(filesystem: Any) -> pafs.FileSystem:
    if isinstance(filesystem, pafs.FileSystem):
        return filesystem
    if hasattr(filesystem, "protocol") and hasattr(filesystem, "open"):
        return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))
    raise error(
        "type",
        f"filesystem= is a {type(filesystem).__name__}; expected a pyarrow or fsspec file system",
        help="for example pyarrow.fs.S3FileSystem(region='eu-central-1')",
    )


def _shown(path: str, base: str, text: str) -> str:
    """`path` in the user's words: what was typed, and below it what was found."""
    if path == base:
        return text
    if not _WILD.search(text):
        return text.rstrip("/") + path[len(base.rstrip("/")) :]
    wild = _WILD.search(base)
    assert wild is not None
    typed = _WILD.search(text)
    assert typed is not None
    return text[: typed.start()] + path[wild.start() :]


def _in_folder(filesystem: pafs.FileSystem, folder: str, shown: str) -> list[pafs.FileInfo]:
    infos = filesystem.get_file_info(pafs.FileSelector(folder, recursive=True))
    below = len(folder.rstrip("/"))
    files = [i for i in infos if i.type == pafs.FileType.File and not _hidden(i.path[below:])]
    return data_among(files, shown)


def _hidden(below: str) -> bool:
    below = "/" + below
    return "/." in below or "/_" in below


def _matching(filesystem: pafs.FileSystem, pattern: str) -> list[pafs.FileInfo]:
    """The files that match: * and ? and [] within a name, ** for any number of folders."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _WILD.search(part))
    folders = ["/".join(parts[:first]) or ("/" if pattern.startswith("/") else "")]
    found: dict[str, pafs.FileInfo] = {}
    for at, part in enumerate(parts[first:], first):
        last = at == len(parts) - 1
        if part == "**" and not last:
            folders += [
                i.path
                for folder in folders
                for i in _list(filesystem, folder, deep=True)
                if i.type == pafs.FileType.Directory and not _hidden(i.path[len(folder) :])
            ]
            folders = sorted(set(folders))
            continue
        wanted = pafs.FileType.File if last else pafs.FileType.Directory
        found = {
            i.path: i
            for folder in folders
            for i in _list(filesystem, folder, deep=part == "**")
            if i.type == wanted and _name_matches(i.base_name, part)
        }
        folders = list(found)
    return [found[path] for path in sorted(found)]


def _name_matches(name: str, part: str) -> bool:
    if name.startswith(".") and not part.startswith("."):
        return False
    return fnmatchcase(name, "*" if part == "**" else part)


def _list(filesystem: pafs.FileSystem, folder: str, *, deep: bool) -> Sequence[pafs.FileInfo]:
    selector = pafs.FileSelector(folder, recursive=deep, allow_not_found=True)
    found: Sequence[pafs.FileInfo] = filesystem.get_file_info(selector)
    return found


def _missing(filesystem: pafs.FileSystem, path: str, shown: str) -> TqlDataError:
    folder, _, name = path.rstrip("/").rpartition("/")
    near = _names(filesystem, folder or "/")
    if near is None:
        return data_error(
            "source",
            f"no file or folder '{shown}': '{folder}' does not exist either",
            help="check the path",
        )
    return data_error(
        "source",
        f"no file or folder '{shown}'",
        help=did_you_mean(name, near) or _there_are(near, folder),
    )


def _nothing_matches(filesystem: pafs.FileSystem, path: str, shown: str) -> TqlDataError:
    wild = _WILD.search(path)
    assert wild is not None
    folder = path[: wild.start()].rpartition("/")[0] or "/"
    near = _names(filesystem, folder)
    if near is None:
        return data_error(
            "source",
            f"no file matches '{shown}': folder '{folder}' does not exist",
            help="check the path",
        )
    plain = _WILD.sub("", path.rpartition("/")[2])
    return data_error(
        "source",
        f"no file matches '{shown}'",
        help=did_you_mean(plain, near) or _there_are(near, folder),
    )


def _names(filesystem: pafs.FileSystem, folder: str) -> list[str] | None:
    if filesystem.get_file_info(folder).type != pafs.FileType.Directory:
        return None
    infos = _list(filesystem, folder, deep=False)
    return sorted(i.base_name for i in infos if not i.base_name.startswith("."))


def _there_are(names: Iterable[str], folder: str) -> str:
    known = list(names)
    if not known:
        return f"folder '{folder}' is empty"
    shown = ", ".join(f"'{n}'" for n in known[:6])
    return f"folder '{folder}' has {shown}{', …' if len(known) > 6 else ''}"
