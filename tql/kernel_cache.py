"""Compiled kernels on disk: where they lie, whose they may be, which are current, what is removed.

A file is a SHA-256 of the rest, one of the compiler and CPU that the code is for, and the code.
Nothing here needs the compiler.
"""

import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 64 << 20  # of all kernels; what was used least recently is removed beyond that
_DIGEST: Final = 32
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_PART: Final = ".kernel-"
_LOCK: Final = ".lock"
_FOLDER: Final = "kernels"  # within the user's folder, where other things may lie
_OURS: Final = re.compile(r"\w+-[0-9a-f]{32}\.(o|lock)|\.kernel-\d+-\w+")

# Seconds after which a lock, or a file half written, is nobody's: compiling takes 1 to 10.
ABANDONED: Final = 120.0


@dataclass(frozen=True, slots=True)
class Folder:
    """The user's folder for kernels; `problem` says why it is not used, None where it is."""

    path: Path | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel on disk. `current`: made by this compiler for this CPU. `used`: seconds since 1970."""

    path: Path
    bytes: int
    current: bool
    used: float


def find_folder() -> Folder:
    """`kernels` in `$TQL_CACHE_DIR`, else in `$XDG_CACHE_HOME/tql`, else in `~/.cache/tql`, made
    where it is missing.

    What lies in it is run as code, so a folder that belongs to somebody else, or that others may
    write to, is not used, nor is one that lies in such a folder.
    """
    named = os.environ.get("TQL_CACHE_DIR")
    xdg = os.environ.get("XDG_CACHE_HOME")
    try:
        users = Path(named) if named else (Path(xdg) if xdg else Path.home() / ".cache") / "tql"
        users = users.expanduser().absolute()
    except (OSError, RuntimeError):
        return Folder(None, "the user has no home folder")
    problem = _problem_of(users)
    if problem is not None:
        return Folder(users, problem)
    return Folder(users / _FOLDER, _problem_of(users / _FOLDER))


def _problem_of(folder: Path) -> str | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as e:
        return f"it cannot be made: {e.strerror or e}"
    if not _is_mine(status):
        return "it belongs to another user"
    if status.st_mode & _OTHERS:
        return "others may write to it (chmod go-w makes it yours)"
    return None


def _is_mine(status: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()


def is_trusted(folder: Path) -> bool:
    """Whether it is a folder of this user's that others may not write to."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    mine = _is_mine(status) and not status.st_mode & _OTHERS
    return mine and stat.S_ISDIR(status.st_mode)


def cache_folder() -> Path | None:
    """The folder for kernels, or None where there is none that can be trusted."""
    found = find_folder()
    return None if found.problem else found.path


def read(file: Path) -> bytes | None:
    """The object code in `file`, or None when it is absent, cut short or changed, or when it
    belongs to somebody else, or others may write to it.
    """
    try:
        with file.open("rb") as f:
            status = os.fstat(f.fileno())
            if not _is_mine(status) or status.st_mode & _OTHERS:
                return None  # it would be run as code
            content = f.read()
    except OSError:
        return None
    digest, rest = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(rest).digest() != digest:
        return None
    with suppress(OSError):  # what is used stays; in a folder that cannot be written all does
        os.utime(file)
    return rest[_DIGEST:]


def discard(file: Path) -> None:
    """Remove a file that cannot be read, where that is possible."""
    with suppress(OSError):
        file.unlink(missing_ok=True)


def write(file: Path, code: bytes, made_by: bytes) -> None:
    """Write the object code so that another process sees all of it or nothing; raises OSError.

    made_by  the digest of compiler and CPU
    """
    rest = made_by + code
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f"{_PART}{os.getpid()}-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(hashlib.sha256(rest).digest() + rest)
        os.replace(temporary, file)
    except OSError:
        os.unlink(temporary)
        raise
    trim(file.parent)


def keep(file: Path | None, code: bytes, made_by: bytes) -> None:
    """Write the object code where that is possible: a full disk or a folder that became read-only
    costs the next process a compilation, no more.
    """
    if file is not None:
        with suppress(OSError):
            write(file, code, made_by)


def entries(folder: Path, made_by: bytes) -> list[Entry]:
    """The kernels in the folder, least recently used first; raises OSError."""
    found = []
    for path, status in _files(folder):
        if path.suffix != ".o":
            continue
        with suppress(OSError), path.open("rb") as f:
            current = f.read(2 * _DIGEST)[_DIGEST:] == made_by
            found.append(Entry(path, status.st_size, current, status.st_mtime))
    return sorted(found, key=lambda e: e.used)


def clear(folder: Path, made_by: bytes) -> tuple[int, int]:
    """Remove kernels that are not current and what ended processes left; how many, and bytes."""
    gone = [(e.path, e.bytes) for e in entries(folder, made_by) if not e.current]
    for path, status in _files(folder):
        left = path.name.startswith(_PART) or path.suffix == _LOCK
        if left and time.time() - status.st_mtime > ABANDONED:
            gone.append((path, status.st_size))
    removed = [size for path, size in gone if _removed(path)]
    return len(removed), sum(removed)


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def trim(folder: Path, most: int = MOST_BYTES) -> None:
    """Remove the kernels used least recently until the rest have `most` bytes."""
    with suppress(OSError):  # another process may be at it
        kernels = [(s.st_mtime, s.st_size, p) for p, s in _files(folder) if p.suffix == ".o"]
        left = sum(size for _, size, _ in kernels)
        for _, size, path in sorted(kernels):
            if left <= most:
                return
            path.unlink(missing_ok=True)
            left -= size


def remove_parts(folder: Path, process: int) -> None:
    """Remove what an ended process had begun to write."""
    with suppress(OSError):
        for path in folder.glob(f"{_PART}{process}-*"):
            path.unlink(missing_ok=True)


# -- locks: one process compiles, the others keep to the reference tier --------------------------


def take_lock(file: Path) -> bool:
    """Whether this process may make `file`; raises OSError where the folder cannot be written.

    A lock whose process has ended on this machine, or that is older than ABANDONED, is taken over.
    Two processes may do that at once; both then compile, and the later file replaces the other.
    """
    lock = lock_of(file)
    if _is_held(lock):
        return False
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as out:
        out.write(f"{os.getpid()} {_host()}")
    return True


def release_lock(file: Path, process: int) -> None:
    """Give up the lock that `process` took, unless another has taken it over."""
    lock = lock_of(file)
    with suppress(OSError):
        if lock.read_text().partition(" ")[0] == str(process):
            lock.unlink()


def lock_of(file: Path) -> Path:
    """The lock of a kernel's file."""
    return file.with_suffix(_LOCK)


def _is_held(lock: Path) -> bool:
    try:
        process, _, host = lock.read_text().partition(" ")
        age = time.time() - lock.stat().st_mtime
    except FileNotFoundError:
        return False
    ended = host == _host() and process.isdecimal() and not _is_alive(int(process))
    if age > ABANDONED or ended:
        lock.unlink(missing_ok=True)
        return False
    return True


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # where signal 0 is Ctrl-C; the age decides
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else ""


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The plain files of the folder that have a name of ours; what else lies there is not ours."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            with suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield path, status
