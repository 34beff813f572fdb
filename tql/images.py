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
as damage. So is one whose header promises more than MAX_PIXELS, in every format; Pillow's own limits
and its warning do not apply.
"""

import io
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tql.diagnostics import TqlUnsupportedError, error

Encoded: TypeAlias = bytes | memoryview

MAX_PIXELS: Final = 2**28

_SIMPLEJPEG: Final = "simplejpeg"
_PILLOW: Final = "pillow"
_CHANNELS_OF_MODE: Final = {"L": 1, "RGB": 3, "RGBA": 4}
_INKS: Final = ("CMYK", "YCCK")
_JPEG_START: Final = b"\xff\xd8\xff"
_STARTS: Final = (
    ("JPEG", _JPEG_START),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("GIF", (b"GIF87a", b"GIF89a")),
    ("TIFF", (b"II*\0", b"MM\0*")),
    ("JPEG2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
)
_BRANDS: Final = MappingProxyType({b"avif": "AVIF", b"heic": "HEIF"})


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


def is_image(data: Encoded) -> bool:
    """Whether `data` starts as an image file does, of a format that can be decoded here."""
    name = _format_of(data)
    return name == "JPEG" or (name is not None and _pillow_reads(name, bytes(data[:16])))


def _format_of(data: Encoded) -> str | None:
    """Pillow's name of the format that the first bytes belong to."""
    head = bytes(data[:16])
    for name, starts in _STARTS:
        if head.startswith(starts):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM":  # two letters prove little: the header also gives the length
        return "BMP" if int.from_bytes(head[2:6], "little") == len(data) else None
    return _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None


def _pillow_reads(name: str, head: bytes) -> bool:
    pillow = _import_pillow()
    pillow.init()
    _, accept = pillow.OPEN.get(name, (None, lambda _: False))
    return _accepts(accept, head)


def _accepts(accept: Any, head: bytes) -> bool:
    answer = accept is None or accept(head)
    # A plugin whose library is missing answers with a sentence that says so.
    return bool(answer) and not isinstance(answer, str)


def read_header(data: Encoded, max_pixels: int = MAX_PIXELS) -> Header:
    """Size and channels of an encoded image, without decoding it; BrokenImage where it has none."""
    header = _jpeg_header(data)
    if header is not None:
        _check_size(header.width, header.height, max_pixels)
        return header
    opened = _open(data, max_pixels)
    if opened.mode in ("I", "F"):
        raise BrokenImage(
            f"its pixels are 32-bit {'integers' if opened.mode == 'I' else 'floats'}, "
            "which have no 8-bit form; decode_method 'tobytes' or 'pil' gives them as they are"
        )
    width, height = opened.size
    return Header(height, width, _CHANNELS_OF_MODE[_target_mode(opened)], _PILLOW, opened)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise BrokenImage(
            f"its header says {width} x {height} pixels, more than the limit of {max_pixels:,}"
        )


def decode_into(data: Encoded, header: Header, out: npt.NDArray[np.uint8]) -> None:
    """Decode into `out`, uint8 and C-contiguous of `header.shape`; without the GIL for JPEG."""
    assert out.shape == header.shape and out.flags.c_contiguous
    if header.codec == _SIMPLEJPEG:
        _decode_jpeg(data, "GRAY" if header.channels == 1 else "RGB", out)
    else:
        out[...] = _pillow_pixels(data, header)


def to_pil(data: Encoded, max_pixels: int = MAX_PIXELS) -> Any:
    """The value as a loaded PIL image in the mode it is stored in, with its `format` and `info`."""
    header = _jpeg_header(data)
    if header is None:
        return _load(_checked(data, _open(data, max_pixels)))
    _check_size(header.width, header.height, max_pixels)
    pixels = np.empty(header.shape, np.uint8)
    decode_into(data, header, pixels)
    opened = _open(data, max_pixels)
    image = _import_pillow().fromarray(pixels if header.channels == 3 else pixels[:, :, 0])
    image.format, image.info = opened.format, opened.info
    return image


def _jpeg_header(data: Encoded) -> Header | None:
    """None where it is no JPEG, or one that libjpeg-turbo's simple interface leaves to Pillow."""
    if data[:3] != _JPEG_START:
        return None
    jpeg = _import_simplejpeg()
    try:
        height, width, space, _ = jpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if space in _INKS:
        return None
    return Header(height, width, 1 if space == "Gray" else 3, _SIMPLEJPEG)


def _decode_jpeg(data: Encoded, space: str, out: npt.NDArray[np.uint8] | None) -> None:
    jpeg = _import_simplejpeg()
    try:
        jpeg.decode_jpeg(data, space, buffer=out)
    except ValueError as cause:
        raise BrokenImage(str(cause)) from cause


def _checked(data: Encoded, opened: Any) -> Any:
    """`opened`; BrokenImage where it is a damaged JPEG, which Pillow would fill with gray silently.

    For what libjpeg-turbo's simple interface has no answer to, Pillow is all there is.
    """
    if data[:3] == _JPEG_START:
        jpeg = _import_simplejpeg()
        try:
            _, _, space, _ = jpeg.decode_jpeg_header(data)
        except ValueError:
            return opened
        _decode_jpeg(data, "CMYK" if space in _INKS else "RGB", None)
    return opened


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
    assert header.opened is not None
    opened = _load(_checked(data, header.opened))
    mode = _target_mode(opened)
    if opened.mode.startswith("I;16"):
        return (np.asarray(opened) >> 8).astype(np.uint8)[:, :, None]
    pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _open(data: Encoded, max_pixels: int) -> Any:
    """Pillow's image, its header read; without Image.open, which warns and refuses by limits of its
    own that hold for the whole process.
    """
    pillow, head = _import_pillow(), bytes(data[:16])
    for more in (pillow.preinit, pillow.init):
        more()
        for name in tuple(pillow.ID):
            read, accept = pillow.OPEN[name]
            try:
                if not _accepts(accept, head):
                    continue
                opened = read(io.BytesIO(data), "")
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001  plugins raise whatever bytes lead to
                continue
            width, height = opened.size
            _check_size(width, height, max_pixels)
            return opened
    raise BrokenImage("it is in no image format that Pillow knows")


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
