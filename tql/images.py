"""Encoded images to pixels: the one importer of simplejpeg and Pillow.

What a value becomes, always uint8 and (height, width, channels):

    JPEG gray, colour       1 channel; 3 channels RGB
    JPEG CMYK, YCCK         3 channels RGB; inks are stored inverted (255 is none), as Adobe began it
                            and all readers take it, with Adobe's marker or without
    PNG, WebP, GIF, …       Pillow's mode 1, L: 1 channel; RGB: 3; RGBA: 4
      palette               3 channels, 4 if the palette has transparency
      LA, PA                4 channels
      16-bit gray, colour   the high bytes
      other colour modes    3 channels RGB
      32-bit int and float  refused: no rule would be right for everybody

`Pixels` says what else may be asked for. Animations give their first frame. A damaged or cut-off
image is an error, never half an image: whatever libjpeg-turbo warns about counts as damage. So is
one whose header promises more than `max_pixels`, in every format; Pillow's own limits and its
warning do not apply.
"""

import io
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tql import orientation
from tql.diagnostics import TqlUnsupportedError, error

Encoded: TypeAlias = bytes | memoryview

MAX_PIXELS: Final = 2**28

_MODE_OF_CHANNELS: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_CHANNELS_OF_MODE: Final = {mode: channels for channels, mode in _MODE_OF_CHANNELS.items()}
_SPACE_OF_MODE: Final = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGBA"}  # simplejpeg's names
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
class Pixels:
    """What images are to become.

    min_size    (height, width): a JPEG is decoded at the smallest of the scales 1/8, 2/8, … 8/8 that
                is still at least that high and that wide, and at 8/8 where none is. It is less work
                than decoding all of it, and finer than leaving pixels out. Other formats come as
                they are
    channels    1 gray, 3 RGB, 4 RGBA for all images; None leaves each as it is stored. Alpha is left
                out, or opaque where there is none
    upright     turn images as their EXIF orientation says, before anything else is said of height
                and width. Without it they are as stored, where boxes and masks of other columns
                usually belong. TIFF has an orientation of its own, which always holds
    max_pixels  the most that a header may promise, before scaling
    """

    min_size: tuple[int, int] | None = None
    channels: int | None = None
    upright: bool = False
    max_pixels: int = MAX_PIXELS


AS_STORED: Final = Pixels()


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes say, and what becomes of it.

    stored       (height, width) as decoded, before it is turned
    mode         Pillow's name of the channels: L, RGB, RGBA
    inks         a JPEG of four inks
    orientation  how to turn it, 1 is not at all
    least        (height, width) that the decoder of JPEGs is given
    opened       Pillow's unread image where Pillow will decode it
    """

    stored: tuple[int, int]
    mode: str
    inks: bool = False
    orientation: int = orientation.AS_STORED
    least: tuple[int, int] = (0, 0)
    opened: Any = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width = self.stored
        if orientation.swaps_axes(self.orientation):
            height, width = width, height
        return height, width, _CHANNELS_OF_MODE[self.mode]


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


def read_header(data: Encoded, pixels: Pixels = AS_STORED) -> Header:
    """Shape of an encoded image, without decoding it; BrokenImage where it has none."""
    header = _jpeg_header(data, pixels)
    if header is not None:
        return header
    opened = _open(data, pixels.max_pixels)
    _refuse_32_bits(opened)
    turn = _orientation(data, opened) if pixels.upright else orientation.AS_STORED
    _draft(opened, _least(pixels, turn))
    width, height = opened.size
    mode = _target_mode(opened) if pixels.channels is None else _MODE_OF_CHANNELS[pixels.channels]
    return Header((height, width), mode, orientation=turn, opened=opened)


def decode_into(data: Encoded, header: Header, out: npt.NDArray[np.uint8]) -> None:
    """Decode into `out`, uint8 of `header.shape`; for JPEG without the GIL.

    With a detour where `out` is no C-contiguous block, or the image is to be turned.
    """
    assert out.shape == header.shape
    if header.orientation == orientation.AS_STORED and out.flags.c_contiguous:
        _decode(data, header, out)
        return
    stored = np.empty((*header.stored, out.shape[2]), np.uint8)
    _decode(data, header, stored)
    out[...] = orientation.upright(stored, header.orientation)


def to_pil(data: Encoded, pixels: Pixels = AS_STORED) -> Any:
    """The value as a loaded PIL image in the mode it is stored in, unless `pixels` says otherwise,
    with its `format` and `info`.
    """
    header = _jpeg_header(data, pixels)
    if header is None:
        image = _open(data, pixels.max_pixels)
        turn = _orientation(data, image) if pixels.upright else orientation.AS_STORED
        _draft(image, _least(pixels, turn))
        kind = _load(image).format
    else:
        turn, opened = header.orientation, _open(data, pixels.max_pixels)
        image = _jpeg_as_pil(data, header)
        image.info, kind = opened.info, opened.format
    if turn != orientation.AS_STORED:
        image = _import_turning().exif_transpose(image)
    if pixels.channels is not None:
        _refuse_32_bits(image)
        image = _converted(image, _MODE_OF_CHANNELS[pixels.channels])
    image.format = kind
    return image


def _refuse_32_bits(image: Any) -> None:
    if image.mode in ("I", "F"):
        raise BrokenImage(
            f"its pixels are 32-bit {'integers' if image.mode == 'I' else 'floats'}, "
            "which have no 8-bit form; decode_method 'tobytes' gives the file, 'pil' the image"
        )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise BrokenImage(
            f"its header says {width} x {height} pixels, more than the limit of {max_pixels:,}"
        )


def _least(pixels: Pixels, turn: int) -> tuple[int, int]:
    """The size asked for, as (height, width) of the stored image."""
    height, width = pixels.min_size or (0, 0)
    return (width, height) if orientation.swaps_axes(turn) else (height, width)


# -- JPEG -----------------------------------------------------------------------------------------


def _jpeg_header(data: Encoded, pixels: Pixels) -> Header | None:
    """None where it is no JPEG, or one that libjpeg-turbo's simple interface leaves to Pillow."""
    if data[:3] != _JPEG_START:
        return None
    read = _import_simplejpeg().decode_jpeg_header
    try:
        height, width, space, _ = read(data)
    except ValueError:
        return None
    _check_size(width, height, pixels.max_pixels)
    turn = orientation.orientation_of_jpeg(data) if pixels.upright else orientation.AS_STORED
    least = _least(pixels, turn)
    if pixels.min_size is not None:
        height, width, *_ = read(data, *least)
    own = "L" if space == "Gray" else "RGB"
    mode = own if pixels.channels is None else _MODE_OF_CHANNELS[pixels.channels]
    return Header((height, width), mode, space in _INKS, turn, least)


def _decode_jpeg(
    data: Encoded, space: str, least: tuple[int, int], out: npt.NDArray[np.uint8]
) -> None:
    height, width = least
    try:
        _import_simplejpeg().decode_jpeg(
            data, space, min_height=height, min_width=width, buffer=out
        )
    except ValueError as cause:
        raise BrokenImage(str(cause)) from cause


def _jpeg_as_pil(data: Encoded, header: Header) -> Any:
    """A JPEG in the mode it is stored in, but for its turn."""
    space = "CMYK" if header.inks else _SPACE_OF_MODE[header.mode]
    channels = len(space) if space != "GRAY" else 1
    out = np.empty((*header.stored, channels), np.uint8)
    _decode_jpeg(data, space, header.least, out)
    pillow, (height, width) = _import_pillow(), header.stored
    mode, raw = ("CMYK", "CMYK;I") if header.inks else (header.mode, header.mode)
    return pillow.frombuffer(mode, (width, height), out, "raw", raw, 0, 1)


# -- pixels ---------------------------------------------------------------------------------------


def _decode(data: Encoded, header: Header, out: npt.NDArray[np.uint8]) -> None:
    """Decode as it is stored, into (*header.stored, channels)."""
    if header.opened is None and not header.inks:
        _decode_jpeg(data, _SPACE_OF_MODE[header.mode], header.least, out)
        return
    image = _jpeg_as_pil(data, header) if header.inks else _load(header.opened)
    pixels = np.asarray(_converted(image, header.mode))
    out[...] = pixels if pixels.ndim == 3 else pixels[:, :, None]


def _converted(image: Any, mode: str) -> Any:
    if image.mode.startswith("I;16"):
        image = _import_pillow().fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of any other way to go on
    return image if image.mode == mode else image.convert(mode)


def _target_mode(opened: Any) -> str:
    mode = opened.mode
    if mode in ("1", "L") or mode.startswith("I;16"):
        return "L"
    if mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return "RGBA"
    if mode == "P" and "transparency" in opened.info:
        return "RGBA"
    return "RGB"


def _orientation(data: Encoded, opened: Any) -> int:
    if opened.format == "PNG":
        return orientation.orientation_of_png(data)
    # Pillow turns a TIFF by itself. EXIF of the others stands in their header.
    exif = None if opened.format == "TIFF" else opened.info.get("exif")
    return orientation.AS_STORED if exif is None else orientation.orientation_of_exif(exif)


def _draft(opened: Any, least: tuple[int, int]) -> None:
    """Let Pillow scale a JPEG that is left to it; by 1/8, 1/4 or 1/2, and no smaller than `least`."""
    height, width = least
    if opened.format == "JPEG" and height and width:
        opened.draft(None, (width, height))


def _open(data: Encoded, max_pixels: int) -> Any:
    """Pillow's image, its header read; without Image.open, which warns and refuses by limits of its
    own that hold for the whole process.
    """
    pillow, head, damage = _import_pillow(), bytes(data[:16]), ""
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
            except Exception as e:  # noqa: BLE001  plugins raise whatever bytes lead to
                damage = damage or (f" ({name}: {e})" if accept is not None else "")
                continue
            width, height = opened.size
            _check_size(width, height, max_pixels)
            return opened
    raise BrokenImage(f"it is in no image format that Pillow can read{damage}")


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


def _import_turning() -> Any:
    from PIL import ImageOps

    return ImageOps


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
