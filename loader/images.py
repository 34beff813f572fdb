"""Encoded images to pixels: the one importer of simplejpeg and Pillow.

What a value becomes, always uint8 and (height, width, channels):

    JPEG gray, colour       1 channel; 3 channels RGB
    JPEG CMYK, YCCK         3 channels RGB, converted by Pillow
    PNG, WebP, GIF, …       Pillow's mode 1, L: 1 channel; RGB: 3; RGBA: 4
      palette               3 channels, 4 if the palette has transparency
      LA, PA                4 channels
      16-bit gray           1 channel, the high byte
      other colour modes    3 channels RGB
      32-bit int and float  refused: no rule would be right for everybody

Animations give their first frame. EXIF turns are not applied: pixels come as they are stored. A
damaged or cut-off image is an error, never half an image: whatever libjpeg-turbo warns about counts
as damage.
"""

import io
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tql.diagnostics import TqlUnsupportedError, error

Encoded: TypeAlias = bytes | memoryview

MAX_PIXELS: Final = 2**28

_SIMPLEJPEG: Final = "simplejpeg"
_PILLOW: Final = "pillow"
_CHANNELS_OF_MODE: Final = {"L": 1, "RGB": 3, "RGBA": 4}


class BrokenImage(ValueError):
    """The bytes are no image that can be decoded whole; the text is the cause, without the place."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes say. `opened` is Pillow's unread image where Pillow will decode it."""

    height: int
    width: int
    channels: int
    codec: str
    opened: Any = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def unopened(self) -> "Header":
        """The same without Pillow's image."""
        return replace(self, opened=None)


def is_image(data: Encoded) -> bool:
    """Whether `data` starts as an image file does."""
    head = bytes(data[:16])
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return True
    if head.startswith((b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  \r\n\x87\n")):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    if head[:2] == b"BM":  # two letters prove little: the header also gives the length
        return int.from_bytes(head[2:6], "little") == len(data)
    return head[4:12] in (b"ftypavif", b"ftypheic")


def read_header(data: Encoded, max_pixels: int = MAX_PIXELS) -> Header:
    """Size and channels of an encoded image, without decoding it; BrokenImage where it has none."""
    header = _jpeg_header(data) if data[:3] == b"\xff\xd8\xff" else None
    if header is None:
        header = _pillow_header(data)
    if header.height * header.width > max_pixels:
        raise BrokenImage(
            f"its header says {header.width} x {header.height} pixels, "
            f"more than the limit of {max_pixels:,}"
        )
    return header


def decode_into(data: Encoded, header: Header, out: npt.NDArray[np.uint8]) -> None:
    """Decode into `out`, uint8 and C-contiguous of `header.shape`; without the GIL for JPEG."""
    assert out.shape == header.shape and out.flags.c_contiguous
    if header.codec == _SIMPLEJPEG:
        _decode_jpeg(data, "GRAY" if header.channels == 1 else "RGB", out)
    else:
        out[...] = _pillow_pixels(data, header)


def to_pil(data: Encoded, max_pixels: int = MAX_PIXELS) -> Any:
    """The value as a loaded PIL image in the mode it is stored in."""
    read_header(data, max_pixels)
    if data[:3] == b"\xff\xd8\xff":
        _check_jpeg(data)
    return _load(_open(data))


def _jpeg_header(data: Encoded) -> Header | None:
    """None where libjpeg-turbo's simple interface has no answer and Pillow decides."""
    jpeg = _import_simplejpeg()
    try:
        height, width, space, _ = jpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if space in ("CMYK", "YCCK"):
        return None
    return Header(height, width, 1 if space == "Gray" else 3, _SIMPLEJPEG)


def _decode_jpeg(data: Encoded, space: str, out: npt.NDArray[np.uint8] | None) -> None:
    jpeg = _import_simplejpeg()
    try:
        jpeg.decode_jpeg(data, space, buffer=out)
    except ValueError as cause:
        raise BrokenImage(str(cause)) from cause


def _check_jpeg(data: Encoded) -> None:
    """Pillow fills missing JPEG data with gray without a word; libjpeg-turbo's strict mode tells."""
    jpeg = _import_simplejpeg()
    try:
        _, _, space, _ = jpeg.decode_jpeg_header(data)
    except ValueError:
        return  # a subsampling that this interface does not know: Pillow is all there is
    gray, ink = space == "Gray", space in ("CMYK", "YCCK")
    _decode_jpeg(data, "GRAY" if gray else "CMYK" if ink else "RGB", None)


def _pillow_header(data: Encoded) -> Header:
    opened = _open(data)
    if opened.mode in ("I", "F"):
        raise BrokenImage(
            f"its pixels are 32-bit {'integers' if opened.mode == 'I' else 'floats'}, "
            "which have no 8-bit form; decode_method 'tobytes' or 'pil' gives them as they are"
        )
    width, height = opened.size
    return Header(height, width, _CHANNELS_OF_MODE[_target_mode(opened)], _PILLOW, opened)


def _target_mode(opened: Any) -> str:
    mode = opened.mode
    if mode in ("1", "L") or mode.startswith("I;16"):
        return "L"
    if mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return "RGBA"
    if mode == "P" and "transparency" in opened.info:
        return "RGBA"
    return "RGB"


def _pillow_pixels(data: Encoded, header: Header) -> npt.NDArray[np.uint8]:
    if data[:3] == b"\xff\xd8\xff":
        _check_jpeg(data)
    opened = _load(header.opened if header.opened is not None else _open(data))
    mode = _target_mode(opened)
    if opened.mode.startswith("I;16"):
        return (np.asarray(opened) >> 8).astype(np.uint8)[:, :, None]
    pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _open(data: Encoded) -> Any:
    pillow = _import_pillow()
    try:
        return pillow.open(io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as cause:  # Pillow's plugins raise whatever damaged bytes lead them to
        text = "it is in no image format that Pillow knows"
        known = isinstance(cause, pillow.DecompressionBombError)
        raise BrokenImage(str(cause) if known else text) from cause


def _load(opened: Any) -> Any:
    try:
        opened.load()
    except MemoryError:
        raise
    except Exception as cause:
        raise BrokenImage(str(cause) or type(cause).__name__) from cause
    return opened


def _import_simplejpeg() -> Any:
    try:
        import simplejpeg
    except ImportError as cause:
        raise _missing("simplejpeg") from cause
    return simplejpeg


def _import_pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as cause:
        raise _missing("Pillow") from cause
    return Image


def _missing(package: str) -> TqlUnsupportedError:
    e = error(
        "unsupported",
        f"decoding images needs {package}, which is not installed",
        help='pip install "tqlkit[images]"',
    )
    assert isinstance(e, TqlUnsupportedError)
    return e
