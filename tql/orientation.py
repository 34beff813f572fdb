"""The turn that a camera wrote into a file: EXIF orientation, read from the bytes and applied to pixels.

1  as it is          5  mirrored along the main diagonal
2  mirrored          6  turned clockwise
3  upside down       7  mirrored along the other diagonal
4  flipped           8  turned counter-clockwise
"""

import struct
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

AS_STORED: Final = 1

_Bytes: TypeAlias = bytes | memoryview

_TAG: Final = 0x0112
_SHORT: Final = 3
_PREFIX: Final = b"Exif\0\0"
_APP1: Final = 0xE1
_BEHIND_THE_HEADER: Final = (0xDA, 0xD9)  # the first scan, the end
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"


def orientation_of_jpeg(data: _Bytes) -> int:
    """1 to 8; 1 where the file says nothing, or nothing that can be read."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _BEHIND_THE_HEADER or length < 2:
            break
        if marker == _APP1 and bytes(data[at + 4 : at + 10]) == _PREFIX:
            return orientation_of_exif(bytes(data[at + 10 : at + 2 + length]))
        at += 2 + length
    return AS_STORED


def orientation_of_png(data: _Bytes) -> int:
    """1 to 8, like `orientation_of_jpeg`; its chunk may stand behind the pixels."""
    at = len(_PNG_START)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if bytes(data[at + 4 : at + 8]) == b"eXIf":
            return orientation_of_exif(bytes(data[at + 8 : at + 8 + length]))
        at += length + 12
    return AS_STORED


def orientation_of_exif(exif: bytes) -> int:
    """1 to 8, from what a file holds of EXIF: a TIFF header and its first directory."""
    exif = exif.removeprefix(_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return AS_STORED
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for i in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * i)
            if tag == _TAG:
                return value if kind == _SHORT and 1 <= value <= 8 else AS_STORED
    except struct.error:  # cut off
        pass
    return AS_STORED


def swaps_axes(orientation: int) -> bool:
    """Whether height and width change places."""
    return orientation >= 5


def upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A view of stored pixels, (height, width, channels), the way they are to be seen."""
    if swaps_axes(orientation):
        pixels = np.swapaxes(pixels, 0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]
