"""What a user may choose about the form of values: sizes, channels and turns of images.

The outputs of a chain and map-style data sets take these as keywords.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypedDict, cast, get_args

from tql.diagnostics import did_you_mean, error
from tql.images import MAX_PIXELS, Pixels
from tql.loader.ragged import Ragged
from tql.schema import Binary, Column, Schema

Exif: TypeAlias = Literal["ignore", "turn"]
Size: TypeAlias = int | tuple[int, int]

EXIFS: Final[tuple[str, ...]] = get_args(Exif)
_CHANNELS: Final = (1, 3, 4)
_LARGEST_SIDE: Final = (1 << 16) - 1  # what a JPEG can have


class Shaping(TypedDict, total=False):
    """Keywords about the form of values, each with a default.

    min_size    {column: (height, width) or one number for both}: a JPEG is decoded at the smallest
                of the scales 1/8, 2/8, … 8/8 that is still at least so high and so wide, for less
                work and memory; at 8/8 where none is. Other formats come as they are
    channels    {column: 1 gray, 3 RGB, 4 RGBA}: all images of the column so, whatever is stored
    exif        "ignore" (the default) leaves pixels as they are stored, where boxes and masks of
                other columns usually belong; "turn" turns them as EXIF says, before min_size
    max_pixels  an image whose header promises more is an error, and is not decoded; 2^28 by default
    ragged      {column: what is made of values that differ in shape}, of images of several sizes and
                of lists of numbers at any depth:
                "list"  (the default) a list of arrays, in TensorFlow a RaggedTensor
                "pad"   one array, with zeros behind the values up to the largest of the batch, and a
                        column <name>_shape, int64 (batch, axes), of the shapes
                "mask"  the same with a column <name>_mask, bool, of the shape of the array: true
                        where there was a value, also where the lists within one row differ
                It comes after a transform, which may make such columns, and before collate_fn. Null
                cannot be padded, nor images that differ in channels
    """

    min_size: Mapping[str, Size]
    channels: Mapping[str, Literal[1, 3, 4]]
    exif: Exif
    max_pixels: int
    ragged: Mapping[str, Ragged]


def known_shaping(given: Mapping[str, Any], method: str) -> Shaping:
    """`given` if all of it is keywords of `Shaping`; else what Python says of unknown keywords."""
    names = tuple(Shaping.__annotations__)
    for name in given:
        if name not in names:
            raise error("parameter", f"{method}() has no parameter '{name}'",
                        help=did_you_mean(name, names) or f"of the form of values there are "
                        f"{', '.join(names)}")  # fmt: skip
    return cast(Shaping, dict(given))


def pixels_of(
    name: str,
    min_size: Mapping[str, Size],
    channels: Mapping[str, int],
    exif: Exif,
    max_pixels: int,
) -> Pixels:
    """What the images of one column are to become."""
    least = None if name not in min_size else _sides(min_size[name])
    return Pixels(least, channels.get(name), exif == "turn", max_pixels)


def _sides(size: Any) -> tuple[int, int]:
    height, width = (size, size) if _is_whole(size) else size
    return int(height), int(width)


def check_sizes(min_size: Any, channels: Any, exif: Any, max_pixels: Any) -> None:
    """Whether the values can be what they are for; names of columns are looked at later."""
    by_column("min_size", min_size, "{'image': (224, 224)}")
    for name, size in min_size.items():
        sides: Any = (size, size) if _is_whole(size) else size
        pair = isinstance(sides, tuple | list) and len(sides) == 2
        if not pair or not all(_is_whole(n) and 1 <= n <= _LARGEST_SIDE for n in sides):
            raise error("value", f"the min_size of '{name}' is {size!r}; expected (height, width) or "
                        f"one number for both, from 1 to {_LARGEST_SIDE:,}",
                        help=f"min_size={{'{name}': (224, 224)}}")  # fmt: skip
    by_column("channels", channels, "{'image': 3}")
    for name, count in channels.items():
        if not _is_whole(count) or count not in _CHANNELS:
            raise error("value", f"the channels of '{name}' are {count!r}; expected 1 (gray), 3 (RGB) "
                        "or 4 (RGBA)", help=f"channels={{'{name}': 3}}")  # fmt: skip
    if exif not in EXIFS:
        raise error("parameter", f"exif is {exif!r}; expected 'ignore' or 'turn'",
                    help="exif='turn' gives images the way they are to be seen")  # fmt: skip
    if not _is_whole(max_pixels):
        raise error("type", f"max_pixels is {max_pixels!r}; expected an integer",
                    help=f"max_pixels={MAX_PIXELS} is the default")  # fmt: skip
    if max_pixels < 1:
        raise error("value", f"max_pixels is {max_pixels}; expected 1 or more",
                    help=f"max_pixels={MAX_PIXELS} is the default")  # fmt: skip


def check_images(
    option: str, given: Mapping[str, Any], schema: Schema, decode: Mapping[str, str]
) -> None:
    """Whether the columns that `option` names can be images, and are to be decoded."""
    for name in given:
        column = _named(option, name, schema)
        if not isinstance(column.dtype, Binary):
            raise error("type", f"{option} is for images, but '{name}' is {column.dtype}",
                        help=f"leave '{name}' out of {option}=")  # fmt: skip
        if decode.get(name) == "tobytes":
            raise error("parameter", f"{option} names '{name}', of which decode_method 'tobytes' gives "
                        "the stored bytes", help="leave one of them out")  # fmt: skip


def by_column(option: str, given: Any, example: str) -> None:
    """Whether an option is a dict by column."""
    if not isinstance(given, Mapping):
        raise error("type", f"{option} is {given!r}; expected a dict by column",
                    help=f"{option}={example}")  # fmt: skip


def _named(option: str, name: Any, schema: Schema) -> Column:
    if name not in schema:
        close = did_you_mean(name, schema.names) if isinstance(name, str) else None
        raise error("unknown_column", f"{option} names a column {name!r}, which there is not",
                    help=close or f"there are {', '.join(schema.names)}")  # fmt: skip
    return schema[name]


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)
