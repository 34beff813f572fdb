"""What may be asked of images: scaled, turned, in other channels; and what each kind of file becomes."""

import io
import math
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

import tql
from tests.loader_fakes import encoded, loader_of, picture, source_of
from tql import images
from tql.diagnostics import TqlDataError, TqlError, TqlNameError, TqlTypeError
from tql.images import BrokenImage, Pixels, decode_into, read_header, to_pil
from tql.orientation import orientation_of_exif, orientation_of_jpeg, orientation_of_png
from tql.schema import Binary, Int

HEIGHT, WIDTH = 50, 83


def smooth(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    return Image.fromarray(picture(7, 6, 8)).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Any, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels_of(data: bytes, **pixels: Any) -> npt.NDArray[np.uint8]:
    header = read_header(data, Pixels(**pixels))
    out = np.full(header.shape, 77, np.uint8)
    decode_into(data, header, out)
    return out


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


# -- scaled ---------------------------------------------------------------------------------------

JPEGS = {
    "colour": saved(smooth(), "JPEG"),
    "progressive": saved(smooth(), "JPEG", progressive=True),
    "gray": saved(smooth().convert("L"), "JPEG"),
    "cmyk": saved(smooth().convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("data", JPEGS.values(), ids=JPEGS.keys())
@pytest.mark.parametrize("size", [(1, 1), (7, 11), (13, 1), (1, 42), (25, 42), (49, 80), (50, 83)])
def test_a_jpeg_comes_at_the_smallest_of_eight_scales_that_is_no_smaller(
    data: bytes, size: tuple[int, int]
) -> None:
    scales = [(math.ceil(HEIGHT * n / 8), math.ceil(WIDTH * n / 8)) for n in range(1, 9)]
    expected = next(s for s in scales if s[0] >= size[0] and s[1] >= size[1])
    made = pixels_of(data, min_size=size)
    assert made.shape[:2] == expected
    assert to_pil(data, Pixels(min_size=size)).size == expected[::-1]
    mode = "L" if made.shape[2] == 1 else "RGB"
    whole = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
    edges = ((0, -HEIGHT % 8), (0, -WIDTH % 8), (0, 0))[: whole.ndim]
    blocks = Image.fromarray(np.pad(whole, edges, mode="edge"))  # scaling begins at whole blocks
    n = 1 + scales.index(expected)
    near = np.asarray(blocks.resize((blocks.width * n // 8, blocks.height * n // 8)), float)
    near = near[: expected[0], : expected[1]]
    assert np.abs(made.reshape(near.shape) - near).mean() < 8  # it is the same picture


def test_an_image_smaller_than_asked_for_and_other_formats_come_as_they_are() -> None:
    for data in (JPEGS["colour"], saved(smooth(), "PNG"), saved(smooth(), "TIFF")):
        assert pixels_of(data, min_size=(1000, 10)).shape == (HEIGHT, WIDTH, 3)
    assert pixels_of(saved(smooth(), "PNG"), min_size=(5, 5)).shape == (HEIGHT, WIDTH, 3)


def test_a_jpeg_left_to_pillow_is_scaled_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_jpeg_header", lambda data, pixels: None)
    assert pixels_of(JPEGS["colour"], min_size=(24, 24)).shape == (25, 42, 3)  # by two: 25 x 42
    assert pixels_of(JPEGS["colour"], min_size=(26, 24)).shape == (HEIGHT, WIDTH, 3)
    assert to_pil(JPEGS["colour"], Pixels(min_size=(12, 12))).size == (21, 13)


def test_a_damaged_jpeg_is_an_error_at_every_scale() -> None:
    for data in JPEGS.values():
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(BrokenImage):
                pixels_of(data[: len(data) * 2 // 3] + end, min_size=(6, 6))


# -- turned ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_images_are_turned_as_pillow_turns_them_if_asked(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(smooth(), kind, exif=exif(orientation).tobytes(), **options)
    stored = Image.open(io.BytesIO(data))
    seen = ImageOps.exif_transpose(stored)
    assert pixels_of(data).shape == (HEIGHT, WIDTH, 3)
    made = pixels_of(data, upright=True)
    assert np.abs(made.astype(int) - np.asarray(seen).astype(int)).max() <= 2
    image = to_pil(data, Pixels(upright=True))
    assert image.format == kind
    assert image.size == seen.size
    assert image.getexif().get(0x0112, 1) == 1  # or who looks at it would turn it again
    assert to_pil(data).getexif().get(0x0112, 1) == orientation


def test_a_size_asked_for_is_that_of_the_turned_image() -> None:
    data = saved(smooth(), "JPEG", exif=exif(6).tobytes())
    assert pixels_of(data, min_size=(WIDTH, 1), upright=True).shape == (WIDTH, HEIGHT, 3)
    assert pixels_of(data, min_size=(42, 25), upright=True).shape == (42, 25, 3)
    assert pixels_of(data, min_size=(42, 25)).shape == (44, 73, 3)  # 7/8


def test_tiff_has_an_orientation_of_its_own_which_always_holds() -> None:
    data = saved(smooth(), "TIFF", exif=exif(6))
    upright = np.rot90(np.asarray(smooth()), -1)
    for turn in (False, True):
        assert np.array_equal(pixels_of(data, upright=turn), upright)


def test_exif_behind_the_pixels_of_a_png_counts() -> None:
    body = exif(3).tobytes().removeprefix(b"Exif\0\0")
    chunk = b"eXIf" + body
    data = saved(smooth(), "PNG")
    data = data[:-12] + struct.pack(">I", len(body)) + chunk
    data += struct.pack(">I", zlib.crc32(chunk)) + saved(smooth(), "PNG")[-12:]
    assert np.array_equal(pixels_of(data, upright=True), np.asarray(smooth())[::-1, ::-1])


@given(st.binary(max_size=80), st.integers(0, 40), st.sampled_from([b"II*\0", b"MM\0*", b""]))
def test_any_bytes_have_an_orientation(data: bytes, cut: int, start: bytes) -> None:
    assert 1 <= orientation_of_exif(start + data) <= 8
    whole = exif(6).tobytes()
    assert orientation_of_exif(whole[:cut]) in (1, 6)
    assert orientation_of_jpeg(b"\xff\xd8\xff" + data) in range(1, 9)
    assert orientation_of_png(b"\x89PNG\r\n\x1a\n" + data) in range(1, 9)


# -- channels -------------------------------------------------------------------------------------

FILES: dict[str, tuple[bytes, int]] = {  # and the channels that each has by itself
    "jpeg": (JPEGS["colour"], 3),
    "gray jpeg": (JPEGS["gray"], 1),
    "cmyk jpeg": (JPEGS["cmyk"], 3),
    "jpeg of RGB": (saved(smooth(), "JPEG", keep_rgb=True), 3),
    "png": (saved(smooth(), "PNG"), 3),
    "gray png": (saved(smooth().convert("L"), "PNG"), 1),
    "bits": (saved(smooth().convert("1"), "PNG"), 1),
    "16-bit png": (saved(Image.fromarray(np.full((9, 9), 700, np.uint16)), "PNG"), 1),
    "la png": (saved(smooth().convert("LA"), "PNG"), 4),
    "rgba png": (saved(smooth().convert("RGBA"), "PNG"), 4),
    "palette": (saved(smooth().convert("P"), "PNG"), 3),
    "palette, clear": (saved(smooth().convert("P"), "PNG", transparency=3), 4),
    "palette, alpha": (saved(smooth().convert("P"), "PNG", transparency=bytes(range(256))), 4),
    "gif": (saved(smooth(), "GIF"), 3),
    "webp": (saved(smooth(), "WEBP", lossless=True), 3),
    "bmp": (saved(smooth(), "BMP"), 3),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("data", "own"), FILES.values(), ids=FILES.keys())
def test_each_kind_of_file_has_its_channels_or_those_asked_for(data: bytes, own: int) -> None:
    assert pixels_of(data).shape[2] == own
    theirs = Image.open(io.BytesIO(data))
    if theirs.mode.startswith("I;16"):
        theirs = Image.fromarray((np.asarray(theirs) >> 8).astype(np.uint8))
    for channels, mode in ((1, "L"), (3, "RGB"), (4, "RGBA")):
        made = pixels_of(data, channels=channels)
        pil = to_pil(data, Pixels(channels=channels))
        assert pil.mode == mode
        assert np.array_equal(np.asarray(pil).reshape(made.shape), made)
        via = theirs.convert("RGBA") if "transparency" in theirs.info else theirs
        expected = np.asarray(via.convert(mode)).reshape(made.shape).astype(int)
        assert np.abs(made - expected).max() <= 2


def test_inks_are_inverted_with_adobes_marker_and_without() -> None:
    data = JPEGS["cmyk"]
    at = data.index(b"\xff\xee")
    assert data[at + 4 : at + 9] == b"Adobe"
    plain = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    ycck = data[: at + 15] + b"\x02" + data[at + 16 :]  # the transform flag: inks as YCC and K
    white = pixels_of(saved(Image.new("CMYK", (8, 8)), "JPEG"))
    assert white.min() >= 254  # no ink
    for made in (data, plain, ycck):
        theirs = Image.open(io.BytesIO(made))
        assert theirs.mode == "CMYK"
        assert np.abs(pixels_of(made) - np.asarray(theirs.convert("RGB")).astype(int)).max() <= 2
        image = to_pil(made)
        assert image.mode == "CMYK"
        assert np.abs(np.asarray(image) - np.asarray(theirs).astype(int)).max() <= 2
    assert np.array_equal(pixels_of(plain), pixels_of(data))
    assert not np.array_equal(pixels_of(ycck), pixels_of(data))


def png16(pixels: npt.NDArray[np.uint16]) -> bytes:
    """A colour PNG of 16 bits, which Pillow reads and does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
              (b"IDAT", zlib.compress(rows)), (b"IEND", b""))  # fmt: skip
    body = b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_16_bit_colour_comes_as_its_high_bytes() -> None:
    deep = np.random.default_rng(0).integers(0, 1 << 16, (4, 5, 3)).astype(np.uint16)
    assert np.array_equal(pixels_of(png16(deep)), deep >> 8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    assert (pixels_of(data) == [255, 0, 0]).all()


def test_32_bit_pixels_are_not_forced_into_channels() -> None:
    deep = saved(Image.fromarray(np.ones((2, 3), np.float32)), "TIFF")
    with pytest.raises(BrokenImage, match="32-bit floats"):
        to_pil(deep, Pixels(channels=1))


# -- in batches -----------------------------------------------------------------------------------


def test_outputs_and_map_style_data_sets_take_the_same_options() -> None:
    turned = saved(smooth(), "JPEG", exif=exif(6).tobytes())
    ds = tql.open(pa.table({"image": pa.array([turned, JPEGS["gray"]], pa.binary())}))
    form: dict[str, Any] = {
        "min_size": {"image": (np.int64(20), 25)}, "channels": {"image": 3}, "exif": "turn",
    }  # fmt: skip
    expected = [
        pixels_of(d, min_size=(20, 25), channels=3, upright=True) for d in (turned, JPEGS["gray"])
    ]
    assert [e.shape for e in expected] == [(42, 25, 3), (25, 42, 3)]
    for output in ("numpy", "pytorch"):
        (batch,) = getattr(ds.dataloader().batch(2), output)(**form)
        assert all(np.array_equal(a, b) for a, b in zip(batch["image"], expected, strict=True))
    samples = ds.pytorch(**form).__getitems__([0, 1])
    assert all(np.array_equal(s["image"], e) for s, e in zip(samples, expected, strict=True))
    (pil,) = ds.dataloader().batch(2).numpy(decode_method={"image": "pil"}, **form)
    assert [image.size for image in pil["image"]] == [(25, 42), (42, 25)]


def test_one_channel_count_makes_gray_and_colour_one_array() -> None:
    data = pa.array([JPEGS["colour"], JPEGS["gray"]], pa.binary())
    ds = tql.open(pa.table({"image": data}))
    (batch,) = ds.dataloader().batch(2).numpy(channels={"image": 3})
    assert batch["image"].shape == (2, HEIGHT, WIDTH, 3)
    assert (batch["image"][1] == batch["image"][1][:, :, :1]).all()


WRONG: list[tuple[dict[str, Any], type[TqlError], str]] = [
    ({"min_size": 224}, TqlTypeError, "expected a dict by column"),
    ({"min_size": {"image": (0, 5)}}, TqlError, r"the min_size of 'image' is \(0, 5\)"),
    ({"min_size": {"image": (5,)}}, TqlError, "expected \\(height, width\\) or one number"),
    ({"min_size": {"image": "big"}}, TqlError, "'big'"),
    ({"min_size": {"imag": 5}}, TqlNameError, "min_size names a column 'imag', which there is not"),
    ({"min_size": {"x": 5}}, TqlTypeError, "min_size is for images, but 'x' is int64"),
    ({"channels": {"image": 2}}, TqlError, "the channels of 'image' are 2"),
    ({"channels": {"x": 3}}, TqlTypeError, "channels is for images, but 'x' is int64"),
    ({"exif": True}, TqlTypeError, "exif is True; expected 'ignore' or 'turn'"),
    ({"max_pixels": 0}, TqlError, "max_pixels is 0; expected 1 or more"),
    ({"max_pixels": 1.5}, TqlTypeError, "max_pixels is 1.5; expected an integer"),
    ({"maxpixels": 5}, TqlTypeError, r"numpy\(\) has no parameter 'maxpixels'"),
    (
        {"min_size": {"image": 5}, "decode_method": {"image": "tobytes"}},
        TqlTypeError,
        "decode_method 'tobytes' gives the stored bytes",
    ),
]


@pytest.mark.parametrize(("options", "kind", "message"), WRONG)
def test_what_does_not_fit_is_an_error_before_anything_is_read(
    options: dict[str, Any], kind: type[TqlError], message: str
) -> None:
    ds = tql.open(pa.table({"image": pa.array([JPEGS["gray"]], pa.binary()), "x": [1]}))
    with pytest.raises(kind, match=message):
        len(ds.dataloader().numpy(**options))


def test_max_pixels_is_the_users_to_choose_in_every_output() -> None:
    ds = tql.open(pa.table({"image": pa.array([JPEGS["gray"]], pa.binary())}))
    limit = f"{WIDTH} x {HEIGHT} pixels, more than the limit of 4,149"
    assert ds.pytorch(max_pixels=HEIGHT * WIDTH)[0]["image"].shape == (HEIGHT, WIDTH, 1)
    with pytest.raises(TqlDataError, match=limit):
        ds.pytorch(max_pixels=HEIGHT * WIDTH - 1)[0]
    every: list[dict[str, Any]] = [
        {}, {"decode_method": {"image": "pil"}}, {"min_size": {"image": 8}},
    ]  # fmt: skip
    for options in every:
        with pytest.raises(TqlDataError, match=limit):
            next(iter(ds.dataloader().pytorch(max_pixels=HEIGHT * WIDTH - 1, **options)))


BOMBS = """
import io, resource, struct, sys, zlib
import pyarrow as pa
from PIL import Image
import tql
from tql.diagnostics import TqlDataError

def saved(kind):
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, kind)
    return out.getvalue()

def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

def zeros(n):  # deflated, without ever holding them: the peak would hide what is measured
    deflate = zlib.compressobj(9)
    return b"".join(deflate.compress(bytes(1_000_000)) for _ in range(n // 1_000_000)) + deflate.flush()

def load(data, **options):
    ds = tql.open(pa.table({"image": pa.array([data], pa.binary())}))
    return next(iter(ds.dataloader().numpy(num_threads=1, **options)))

jpeg, png = saved("JPEG"), saved("PNG")
side = 30_000  # 900 million pixels
at = jpeg.index(b"\\xff\\xc0") + 5
big_jpeg = jpeg[:at] + side.to_bytes(2, "big") * 2 + jpeg[at + 4:]
start, rows = b"\\x89PNG\\r\\n\\x1a\\n", zeros(90_000_000)
big_png = start + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
big_png += chunk(b"IDAT", rows) + chunk(b"IEND", b"")
long_text = chunk(b"zTXt", b"Comment\\0\\0" + zeros(200_000_000))
texts = png[:33] + long_text + png[33:]
for data in (jpeg, png):
    load(data)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in (big_jpeg, big_png, texts):
    for method in ("numpy", "pil"):
        try:
            load(data, decode_method={"image": method})
        except TqlDataError as e:
            print(e.diagnostic.message)
        else:
            print("loaded")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown // 1024)
"""


def test_bombs_are_refused_in_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BOMBS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *messages, grown = done.stdout.splitlines()
    assert len(messages) == 6
    assert all("30000 x 30000 pixels, more than the limit" in m for m in messages[:4]), messages
    assert all("not a readable image" in m for m in messages[4:]), messages
    assert int(grown) < 64


def test_scaled_images_of_one_size_are_decoded_into_the_batch() -> None:
    data = [encoded(np.asarray(smooth()), "JPEG") for _ in range(3)]
    source = source_of(
        image=(Binary(image=True), pa.array(data, pa.binary())), x=(Int(), [1, 2, 3])
    )
    (batch,) = loader_of(source, batch_size=3, min_size={"image": 20})
    assert batch["image"].shape == (3, 25, 42, 3)
