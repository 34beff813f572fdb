"""Encoded images to pixels: the same as Pillow's, and never half an image."""

import builtins
import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from tests.loader_fakes import FakePlan, encoded, loader_of, picture, source_of
from tql.diagnostics import TqlDataError, TqlUnsupportedError
from tql.images import BrokenImage, Pixels, decode_into, is_image, read_header, to_pil
from tql.schema import Binary


def smooth(height: int = 48, width: int = 64, channels: int = 3) -> npt.NDArray[np.uint8]:
    small = Image.fromarray(picture(7, 6, 8, 3)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(small)
    return pixels[:, :, :channels] if channels < 4 else np.dstack([pixels, pixels[:, :, 0]])


def pixels_of(data: bytes) -> npt.NDArray[np.uint8]:
    header = read_header(data)
    out = np.full(header.shape, 77, np.uint8)
    decode_into(data, header, out)
    return out


def saved(image: Any, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_is_what_pillow_decodes(channels: int, options: dict[str, Any]) -> None:
    data = encoded(smooth(channels=channels), "JPEG", **options)
    theirs = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    ours = pixels_of(data)
    assert ours.shape == (48, 64, channels)
    # Two builds of libjpeg-turbo may round a colour conversion differently.
    assert np.abs(ours.reshape(theirs.shape) - theirs).max() <= 2


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_png_and_tiff_come_back_bit_for_bit(channels: int, kind: str) -> None:
    pixels = smooth(channels=channels)
    assert np.array_equal(pixels_of(encoded(pixels, kind)), pixels)


def test_cmyk_jpeg_comes_as_rgb() -> None:
    data = saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(pixels_of(data), expected)


def test_other_pillow_modes_follow_the_stated_rules() -> None:
    gray = Image.fromarray(smooth(channels=1)[:, :, 0])
    assert pixels_of(saved(gray.convert("1"), "PNG")).shape == (48, 64, 1)
    assert pixels_of(saved(gray.convert("LA"), "PNG")).shape == (48, 64, 4)
    palette = Image.fromarray(smooth()).convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(pixels_of(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))
    assert pixels_of(saved(palette, "PNG", transparency=0)).shape == (48, 64, 4)
    deep = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    high = pixels_of(saved(Image.fromarray(deep), "PNG"))
    assert np.array_equal(high[:, :, 0], deep >> 8)
    with pytest.raises(BrokenImage, match="32-bit floats"):
        read_header(saved(gray.convert("F"), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_image_files_are_known_by_their_first_bytes(kind: str) -> None:
    assert is_image(encoded(smooth(), kind))
    assert is_image(memoryview(encoded(smooth(), kind)))


@pytest.mark.parametrize("data", [b"", b"BM", b"BM and more text", b"\x89PN", b"RIFF1234WAVE"])
def test_other_bytes_are_no_images(data: bytes) -> None:
    assert not is_image(data)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_a_format_is_known_only_where_pillow_has_a_reader_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not is_image(HEIC)
    assert next(iter(loader_of(source_of(b=(Binary(), [HEIC])))))["b"] == [HEIC]
    monkeypatch.setitem(Image.OPEN, "HEIF", (Image.OPEN["PNG"][0], lambda head: True))
    assert is_image(HEIC)
    webp = encoded(smooth(), "WEBP")
    monkeypatch.setitem(Image.OPEN, "WEBP", (Image.OPEN["PNG"][0], lambda head: "not installed"))
    assert not is_image(webp)


JPEG = encoded(smooth(), "JPEG")
CMYK = saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG")
PNG = encoded(smooth(), "PNG")
BROKEN = {
    "empty": b"",
    "text": b"no image at all",
    "jpeg cut off": JPEG[: len(JPEG) * 2 // 3],
    "jpeg cut off and ended": JPEG[: len(JPEG) * 2 // 3] + b"\xff\xd9",
    "jpeg without its last bytes": JPEG[:-2],
    "jpeg header only": JPEG[:20],
    "cmyk jpeg cut off and ended": CMYK[: len(CMYK) * 2 // 3] + b"\xff\xd9",
    "png cut off": PNG[: len(PNG) // 2],
    "png with a flipped byte": PNG[:200] + bytes([PNG[200] ^ 255]) + PNG[201:],
    "png header only": PNG[:20],
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("method", ["numpy", "pil"])
def test_a_broken_image_is_an_error_that_names_it(data: bytes, method: Any) -> None:
    source = source_of(image=(Binary(image=True), [PNG, PNG, data]))
    with pytest.raises(TqlDataError) as caught:
        next(iter(loader_of(source, batch_size=3, decode={"image": method})))
    assert caught.value.diagnostic.code == "corrupt"
    assert caught.value.diagnostic.message.startswith(
        "row 2, column 'image' (fragment 0): not a readable image: "
    )


def test_a_header_that_promises_too_many_pixels_is_refused_before_decoding() -> None:
    for data in (JPEG, PNG):
        with pytest.raises(BrokenImage, match="64 x 48 pixels, more than the limit of 3,071"):
            read_header(data, Pixels(max_pixels=48 * 64 - 1))
        read_header(data, Pixels(max_pixels=48 * 64))


def of_size(data: bytes, side: int) -> bytes:
    """The file with another width and height in its header."""
    changed = bytearray(data)
    if data.startswith(b"\x89PNG"):
        changed[16:24] = side.to_bytes(4, "big") * 2
        changed[29:33] = zlib.crc32(changed[12:29]).to_bytes(4, "big")
    else:
        at = data.index(b"\xff\xc0") + 5
        changed[at : at + 4] = side.to_bytes(2, "big") * 2
    return bytes(changed)


@pytest.mark.parametrize("data", [JPEG, PNG], ids=["jpeg", "png"])
@pytest.mark.parametrize("read", [read_header, to_pil])
def test_one_limit_holds_for_all_formats_and_pillow_does_not_warn(data: bytes, read: Any) -> None:
    assert read_header(of_size(data, 16_384)).shape == (16_384, 16_384, 3)
    with pytest.raises(
        BrokenImage, match="16385 x 16385 pixels, more than the limit of 268,435,456"
    ):
        read(of_size(data, 16_385))


def test_images_of_one_shape_are_one_array_and_others_a_list() -> None:
    same = [encoded(picture(i)) for i in range(4)]
    other = encoded(picture(9, 3, 4, 1))
    source = source_of(image=(Binary(image=True), [*same, other]))
    batch = next(iter(loader_of(source, batch_size=4)))
    assert batch["image"].shape == (4, 6, 5, 3)
    mixed = next(iter(loader_of(source, FakePlan(np.array([4, 0, 4])), batch_size=3)))
    assert [v.shape for v in mixed["image"]] == [(3, 4, 1), (6, 5, 3), (3, 4, 1)]
    assert np.array_equal(mixed["image"][0], picture(9, 3, 4, 1))
    assert mixed["image"][0] is not mixed["image"][2]


def test_pil_and_tobytes_give_what_is_stored() -> None:
    source = source_of(image=(Binary(image=True), [JPEG, PNG]))
    pil = next(iter(loader_of(source, batch_size=2, decode={"image": "pil"})))["image"]
    assert [image.format for image in pil] == ["JPEG", "PNG"]
    assert np.array_equal(np.asarray(pil[1]), smooth())
    raw = next(iter(loader_of(source, batch_size=2, decode={"image": "tobytes"})))["image"]
    assert raw == [JPEG, PNG]


@pytest.mark.parametrize("channels", [1, 3])
def test_pil_decodes_a_jpeg_once_and_keeps_what_its_header_says(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a title"
    data = encoded(smooth(channels=channels), "JPEG", exif=exif)
    expected = Image.open(io.BytesIO(data))
    expected.load()
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # a second decode would need it
    image = to_pil(data)
    assert (image.mode, image.size, image.format) == (expected.mode, (64, 48), "JPEG")
    assert image.getexif()[0x010E] == "a title"
    assert np.array_equal(np.asarray(image).reshape(pixels_of(data).shape), pixels_of(data))


def test_pil_gives_images_that_have_no_8_bit_form() -> None:
    deep = Image.fromarray(np.arange(6, dtype=np.float32).reshape(2, 3) / 4)
    assert np.array_equal(np.asarray(to_pil(saved(deep, "TIFF"))), np.asarray(deep))


def test_pil_images_of_repeated_rows_are_not_shared() -> None:
    source = source_of(image=(Binary(image=True), [PNG]))
    plan = FakePlan(np.zeros(2, np.int64))
    a, b = next(iter(loader_of(source, plan, batch_size=2, decode={"image": "pil"})))["image"]
    a.putpixel((0, 0), (1, 2, 3))
    assert b.getpixel((0, 0)) != (1, 2, 3)
    assert to_pil(PNG).getpixel((0, 0)) == b.getpixel((0, 0))


@pytest.mark.parametrize(("package", "data"), [("simplejpeg", JPEG), ("PIL", PNG)])
def test_a_missing_decoder_is_an_error_that_prints_the_install_line(
    package: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TqlUnsupportedError, match=r'pip install "tqlkit\[images\]"'):
        read_header(data)


FILES = [encoded(smooth(), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much that it then reads
@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*FILES, CMYK]), st.data())
def test_damaged_bytes_give_an_image_or_the_one_error(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=4)):
        damaged[at] = draw.draw(st.integers(0, 255))
    damaged = damaged[: draw.draw(st.integers(0, len(data)))]
    for decode in (pixels_of, to_pil):
        try:
            decode(bytes(damaged))
        except BrokenImage as e:
            assert str(e)
