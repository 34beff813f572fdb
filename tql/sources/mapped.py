"""NumPy arrays that lie in files: mapped into memory, of which only what is looked at is read."""

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, TypeAlias, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from tql.diagnostics import TqlDataError, data_error
from tql.memory_size import budget, shown
from tql.sources.arrays import table_of_arrays
from tql.sources.files import File, unreadable
from tql.sources.fingerprint import digest_of, names_part, table_parts
from tql.sources.memory import FRAGMENT_ROWS, MemorySource
from tql.sources.stored import chosen

_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 1 << 16


_Header: TypeAlias = tuple[tuple[int, ...], bool, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class MappedFile:
    """An array in C order that lies in a local file from byte `offset` on."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    def open(self) -> NDArray[Any]:
        """The array; read-only. A source error where the file is not as long as it was."""
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        try:
            return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "C")
        except (OSError, ValueError) as e:
            raise unreadable(self.path, e) from e


class MappedSource(MemorySource):
    """A dict of arrays some of which are mapped.

    The fingerprint has of a mapped array its type, its shape and 64 stretches of 64 KiB at even
    distances, both ends included: all of it up to 4 MiB. To other processes goes where it lies.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        mapped: Mapping[str, MappedFile],
        *,
        columns: Sequence[str] | None = None,
        class_names: Mapping[str, Sequence[str]] | None = None,
        where: str = "the dict of arrays",
    ) -> None:
        kept = chosen(columns, list(arrays))
        self._arrays = {n: arrays[n] for n in kept}
        self._mapped = {n: mapped[n] for n in kept if n in mapped}
        self._asked = class_names, where
        table = table_of_arrays(self._arrays)
        super().__init__(table, class_names=class_names, where=where)

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {n: a for n, a in self._arrays.items() if n not in self._mapped}
        return _mapped_again, (list(self._arrays), kept, self._mapped, *self._asked)

    def _fingerprint(self) -> str:
        described = "\n".join(f"{c.name!r} {c.dtype!r}" for c in self.schema)
        names = [c.name for c in self.schema]
        rest = [n for n in names if n not in self._mapped]
        parts = [b"mapped", described.encode(), names_part(self._asked[0])]
        parts += [_sampled(self._arrays[n]) for n in names if n in self._mapped]
        return digest_of([*parts, *table_parts(self._table.select(rest), FRAGMENT_ROWS)])


def open_mapped(
    arrays: Mapping[str, Any],
    columns: Sequence[str] | None,
    class_names: Mapping[str, Sequence[str]] | None,
    where: str = "the dict of arrays",
) -> MemorySource:
    """A source over arrays; of those that are np.memmap only what is looked at is read."""
    found = ((name, located(array)) for name, array in arrays.items())
    mapped = {name: file for name, file in found if file is not None}
    if not mapped:
        return MemorySource(
            table_of_arrays(arrays), columns=columns, class_names=class_names, where=where
        )
    return MappedSource(arrays, mapped, columns=columns, class_names=class_names, where=where)


def _mapped_again(
    names: Sequence[str],
    kept: Mapping[str, Any],
    mapped: Mapping[str, MappedFile],
    class_names: Mapping[str, Sequence[str]] | None,
    where: str,
) -> MappedSource:
    arrays = {n: mapped[n].open() if n in mapped else kept[n] for n in names}
    return MappedSource(arrays, mapped, class_names=class_names, where=where)


def located(array: Any) -> MappedFile | None:
    """Where an array lies in a file; None where it lies in none, or not as one piece in order."""
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
        return None
    whole: Any = array
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    if whole.filename is None or whole.mode not in ("r", "r+", "w+"):
        return None  # of a copy on write the file does not have what was written
    start = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    path = os.path.abspath(os.fspath(whole.filename))
    return MappedFile(path, array.dtype, array.shape, whole.offset + start)


def _sampled(array: NDArray[Any]) -> bytes:
    data = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
    starts = (i * max(0, data.size - _SAMPLE_BYTES) // (_SAMPLES - 1) for i in range(_SAMPLES))
    told = repr((array.dtype.str, array.shape)).encode()
    if data.size <= _SAMPLES * _SAMPLE_BYTES:
        return digest_of([told, data.tobytes()]).encode()
    parts = (data[s : s + _SAMPLE_BYTES].tobytes() for s in starts)
    return digest_of([told, *parts]).encode()


def open_arrays(
    file: File,
    columns: Sequence[str] | None,
    class_names: Mapping[str, Sequence[str]] | None,
) -> MemorySource:
    """A .npy file as one column, named as the file is; a .npz file with a column for each array.

    Local ones are mapped; arrays of a compressed .npz, and of files that are not local, are read
    whole. Objects, which only a pickle could hold, are refused.
    """
    name = PurePosixPath(file.path)
    arrays: dict[str, NDArray[Any]] = {}
    try:
        if name.suffix.lower() == ".npz":
            arrays = _members(file)
        elif file.place.local:
            with open(file.path, "rb") as handle:
                arrays[name.stem] = _mapped(handle, file.path, file.shown)
        else:
            with file.open() as remote:
                arrays[name.stem] = _loaded(io.BytesIO(remote.read()), file.shown)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        if isinstance(e, OSError):
            raise unreadable(file.shown, e) from e
        raise data_error(
            "source",
            f"'{file.shown}' is damaged: {e}; expected what numpy.save or numpy.savez writes",
            help="copy or write the file again",
        ) from e
    return open_mapped(arrays, columns, class_names, file.shown)


def _header(handle: Any, shown: str) -> _Header:
    """Shape, whether the first dimension varies fastest, and type; `handle` is behind them then."""
    version = npy.read_magic(handle)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(handle)
    if dtype.hasobject:
        raise _objects(shown)
    return shape, fortran, dtype


def _mapped(handle: Any, path: str, shown: str) -> NDArray[Any]:
    """The array whose file, or part of a file, begins where `handle` is."""
    shape, fortran, dtype = _header(handle, shown)
    if 0 in shape:
        return np.empty(shape, dtype)
    start: int = handle.tell()
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def _loaded(handle: BinaryIO, shown: str) -> NDArray[Any]:
    _header(handle, shown)
    handle.seek(0)
    return cast(NDArray[Any], np.load(handle, allow_pickle=False))


def _members(file: File) -> dict[str, NDArray[Any]]:
    if file.place.local:
        with open(file.path, "rb") as handle:
            return _unpacked(file, handle)
    with file.open() as remote:
        return _unpacked(file, io.BytesIO(remote.read()))


def _unpacked(file: File, data: BinaryIO) -> dict[str, NDArray[Any]]:
    arrays = {}
    with zipfile.ZipFile(data) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if file.place.local and member.compress_type == zipfile.ZIP_STORED:
                _skip_local_header(data, member.header_offset)
                arrays[name] = _mapped(data, file.path, f"{file.shown}, {name}")
                continue
            if member.file_size > budget():
                raise data_error(
                    "source",
                    f"array '{name}' of '{file.shown}' has {shown(member.file_size)} unpacked, more "
                    "than half of the memory",
                    help="write it with numpy.save: a .npy file is not read whole",
                )
            with archive.open(member) as packed:
                arrays[name] = _loaded(io.BytesIO(packed.read()), f"{file.shown}, {name}")
    return arrays


def _skip_local_header(data: Any, start: int) -> None:
    """Stand where the content of a member of a zip file begins: behind its name and extra field."""
    data.seek(start + 26)
    lengths = data.read(4)
    data.seek(
        start + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    )


def _objects(shown: str) -> TqlDataError:
    return data_error(
        "source",
        f"'{shown}' holds Python objects, which only a pickle could give; expected numbers, times or "
        "text of fixed length",
        help="save an array of numbers, or pass lists: tql.open({'name': values})",
    )
