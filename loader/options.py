"""What a user may choose about loading, checked once when the loader is built."""

import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, assert_never, get_args

import numpy as np

from tql.diagnostics import Note, TqlError, did_you_mean, error
from tql.images import MAX_PIXELS, Pixels
from tql.loader.batch import INDEX, PAD
from tql.loader.failures import OnError
from tql.loader.ragged import RAGGED, Ragged, can_be_padded, clash, paddings
from tql.loader.shaping import Exif, Size, by_column, check_images, check_sizes, pixels_of
from tql.planner.skipping import Skip
from tql.planner.stream import Remainder
from tql.schema import Binary, Column, Schema, Text

Method: TypeAlias = Literal["numpy", "tobytes", "pil"]
Transform: TypeAlias = Callable[..., Any] | Mapping[str, Callable[[Any], Any] | None]

LOCAL_READERS: Final = 4
LARGEST_BATCH: Final = (1 << 31) - 1

_METHODS: Final[tuple[str, ...]] = get_args(Method)
_POLICIES: Final[tuple[str, ...]] = get_args(OnError)
_REMAINDERS: Final[tuple[str, ...]] = get_args(Remainder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to load.

    columns          those to load, in this order; None is all (users know them as tensors=)
    decode           how to give a column: "numpy" (the default), "tobytes" (the stored bytes) or
                     "pil" (images)
    transform        a function of a sample; or a dict that names the columns to load, each with a
                     function of one value or None
    num_workers      processes that transform; 0 leaves that to the threads
    persistent_workers  whether they stay for the next pass
    num_threads      threads that decode and transform; None is one per processor
    io_threads       threads that read; None is 16 where the data are on another machine, and else
                     num_threads, 4 at most
    prefetch_factor  batches made ahead of the one in use
    memory_bytes     what batches in the making may hold together
    offset           position of the first epoch to start at, counted over all ranks
    skips            positions of epochs that are left out
    timeout          seconds to wait for one batch before an error; None waits for ever
    on_error         what becomes of a sample that cannot be decoded or transformed: "raise", "skip"
                     leaves it out of its batch, "replace" puts another of its weight class there
    reuse            whether the memory of a batch is written again once the next one is asked for
    progress         a bar of batches on standard error, where that is a terminal
    max_errors       how many such samples a pass may have on this rank; None for any number

    The form of values (min_size, channels, exif, max_pixels, ragged) is described in `Shaping`.
    """

    columns: Sequence[str] | None = None
    batch_size: int = 1
    drop_last: bool = False
    decode: Mapping[str, Method] = field(default_factory=dict)
    transform: Transform | None = None
    transform_kwargs: Mapping[str, Any] = field(default_factory=dict)
    num_workers: int = 0
    persistent_workers: bool = False
    num_threads: int | None = None
    io_threads: int | None = None
    prefetch_factor: int = 2
    memory_bytes: int = 1 << 30
    return_index: bool = True
    rank: int = 0
    world_size: int = 1
    remainder: Remainder = "short"
    offset: int = 0
    skips: Sequence[Skip] = ()
    timeout: float | None = None
    on_error: OnError = "raise"
    max_errors: int | None = None
    progress: bool = False
    reuse: bool = False
    min_size: Mapping[str, Size] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    exif: Exif = "ignore"
    max_pixels: int = MAX_PIXELS
    ragged: Mapping[str, Ragged] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _whole("batch_size", self.batch_size, 1, LARGEST_BATCH)
        _whole("prefetch_factor", self.prefetch_factor, 1)
        _whole("memory_bytes", self.memory_bytes, 1)
        _whole("num_workers", self.num_workers, 0)
        _whole("world_size", self.world_size, 1)
        _whole("offset", self.offset, 0)
        if self.num_threads is not None:
            _whole("num_threads", self.num_threads, 1)
        if self.io_threads is not None:
            _whole("io_threads", self.io_threads, 1)
        _whole("rank", self.rank)
        if not 0 <= self.rank < self.world_size:
            raise error(
                "value",
                f"rank is {self.rank}, but with world_size={self.world_size} "
                f"it must be from 0 to {self.world_size - 1}",
            )
        if not isinstance(self.reuse, bool | np.bool_):
            raise error("type", f"reuse is {self.reuse!r}; expected True or False")
        _check_timeout(self.timeout)
        if self.remainder not in _REMAINDERS:
            raise _not_one_of("remainder", self.remainder, _REMAINDERS)
        if self.on_error not in _POLICIES:
            raise _not_one_of("on_error", self.on_error, _POLICIES)
        if self.max_errors is not None:
            _whole("max_errors", self.max_errors, 0)
            if self.on_error == "raise":
                raise error("parameter", "max_errors= with on_error='raise', which allows none",
                            help="on_error='skip' or 'replace'")  # fmt: skip
        _check_columns(self.columns)
        _check_decode(self.decode)
        check_sizes(self.min_size, self.channels, self.exif, self.max_pixels)
        by_column("ragged", self.ragged, "{'image': 'pad'}")
        for name, how in self.ragged.items():
            if how not in RAGGED:
                raise _not_one_of(f"the ragged form of '{name}'", how, RAGGED)
        _check_transform(self.transform, self.columns)
        if self.persistent_workers and not self.num_workers:
            raise error("parameter", "persistent_workers=True, but num_workers=0 has none to keep",
                        help="num_workers=1 or more")  # fmt: skip

    def pixels(self, column: str) -> Pixels:
        """What the images of a column are to become."""
        return pixels_of(column, self.min_size, self.channels, self.exif, self.max_pixels)


def loaded_columns(options: Options, schema: Schema) -> tuple[Column, ...]:
    """The columns that batches carry, in their order; a TqlError where the options do not fit."""
    match options.transform:
        case Mapping():
            names = tuple(options.transform)
        case _:
            names = schema.names if options.columns is None else tuple(options.columns)
    for name in (*names, *options.decode):
        if name not in schema:
            raise error(
                "unknown_column",
                f"no column named '{name}'",
                help=did_you_mean(name, schema.names) or f"there are {', '.join(schema.names)}",
            )
    _check_reserved(options, names)
    for name, method in options.decode.items():
        _check_method(method, schema[name])
    check_images("min_size", options.min_size, schema, options.decode)
    check_images("channels", options.channels, schema, options.decode)
    columns = tuple(schema[name] for name in dict.fromkeys(names))
    _check_ragged(options, columns)
    return columns


def as_stored(options: Options, columns: Sequence[Column]) -> tuple[Column, ...]:
    """Of the columns that are loaded, those that no transform touches."""
    match options.transform:
        case None:
            return tuple(columns)
        case Mapping() as functions:
            return tuple(c for c in columns if functions[c.name] is None)
        case _:
            return ()


def _check_ragged(options: Options, columns: tuple[Column, ...]) -> None:
    """Whether what is to be padded can be, as far as that is known before a transform has run."""
    loaded, stored = {c.name for c in columns}, as_stored(options, columns)
    for column in stored:
        if options.ragged.get(column.name, "list") == "list":
            continue
        method = options.decode.get(column.name, "numpy")
        if method != "numpy":
            raise error("parameter", f"ragged names '{column.name}', of which decode_method {method!r} "
                        "gives no array", help="leave one of them out")  # fmt: skip
        if not can_be_padded(column.dtype):
            raise error("type", f"images and lists of numbers can be padded, but '{column.name}' is "
                        f"{column.dtype}", help=f"leave '{column.name}' out of ragged=")  # fmt: skip
    for name in options.ragged if not callable(options.transform) else ():
        if name not in loaded:
            raise error("unknown_column", f"ragged names a column {name!r}, which is not loaded",
                        help=did_you_mean(name, loaded) or f"there are {', '.join(loaded)}")  # fmt: skip
    for padding in paddings(options.ragged, stored):
        if padding.companion in loaded and not callable(options.transform):
            raise clash(padding)


def _check_reserved(options: Options, names: tuple[str, ...]) -> None:
    if options.return_index and INDEX in names:
        raise error(
            "duplicate_column",
            f"the data has a column named '{INDEX}', and batches carry the row ids by that name",
            help="return_index=False leaves the row ids out",
        )
    if options.remainder in ("pad", "mask") and PAD in names:
        raise error(
            "duplicate_column",
            f"the data has a column named '{PAD}', and remainder='{options.remainder}' marks "
            "the repeated rows by that name",
            help="choose the columns to load, or remainder='short' or 'drop'",
        )


def _check_method(method: Method, column: Column) -> None:
    match method:
        case "numpy":
            return
        case "pil":
            fits, expected = isinstance(column.dtype, Binary), "an image column"
        case "tobytes":
            fits, expected = (
                isinstance(column.dtype, Binary | Text),
                "an image, binary or text column",
            )
        case _:
            assert_never(method)
    if not fits:
        raise error(
            "type",
            f"decode method '{method}' needs {expected}, but '{column.name}' is {column.dtype}",
            help="decode method 'numpy' gives this column",
        )


def _check_columns(columns: Any) -> None:
    if columns is None:
        return
    if isinstance(columns, str):
        raise error(
            "type",
            f"tensors is the text {columns!r}; expected a list of column names",
            help=f"tensors=[{columns!r}]",
        )
    wrong = [c for c in columns if not isinstance(c, str)] if isinstance(columns, Sequence) else []
    if wrong or not isinstance(columns, Sequence):
        found = f"holds {wrong[0]!r}" if wrong else f"is {columns!r}"
        raise error("type", f"tensors {found}; expected a list of column names")
    if not columns:
        raise error(
            "parameter",
            "tensors names no column, so that batches would be empty",
            help="tensors=None loads all columns",
        )


def _check_decode(decode: Any) -> None:
    if not isinstance(decode, Mapping):
        raise error(
            "type",
            f"decode_method is {decode!r}; expected a dict of column names and methods",
            help="decode_method={'image': 'tobytes'}",
        )
    for name, method in decode.items():
        if method not in _METHODS:
            raise _not_one_of(f"the decode method of '{name}'", method, _METHODS)


def _check_timeout(timeout: Any) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float | np.number):
        raise error(
            "type",
            f"timeout is {timeout!r}; expected a number of seconds",
            help="timeout=None waits for ever",
        )
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise error(
            "value",
            f"timeout is {timeout}; expected seconds above 0, up to {threading.TIMEOUT_MAX:.0f}",
            help="timeout=None waits for ever",
        )


def _check_transform(transform: Any, columns: Sequence[str] | None) -> None:
    if transform is None:
        return
    if isinstance(transform, Mapping):
        wrong = [k for k, fn in transform.items() if fn is not None and not callable(fn)]
        if wrong:
            found = type(transform[wrong[0]]).__name__
            raise error(
                "type", f"the transform of '{wrong[0]}' is {found}; expected a function or None"
            )
        if not transform:
            raise error("parameter", "the transform is an empty dict, which loads no column")
        if columns is not None and set(columns) != set(transform):
            raise error(
                "parameter",
                f"the transform names the columns {sorted(transform)}, but tensors= names "
                f"{sorted(columns)}",
                help="a dict transform names the columns to load: leave tensors= out",
            )
    elif not callable(transform):
        raise error(
            "type",
            f"the transform is {type(transform).__name__}; expected a function, or a dict of "
            "column names and functions",
        )


def _whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> None:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise error("type", f"{name} is {value!r}; expected an integer")
    if least is not None and number < least:
        raise error("value", f"{name} is {value}; expected {least} or more")
    if most is not None and number > most:
        raise error("value", f"{name} is {value}; expected {most:,} or less")


def _not_one_of(what: str, found: object, choices: tuple[str, ...]) -> TqlError:
    return error(
        "parameter",
        f"{what} is {found!r}; expected {', '.join(repr(c) for c in choices)}",
        notes=() if isinstance(found, str) else (Note(f"it is a {type(found).__name__}"),),
        help=did_you_mean(str(found), choices),
    )
