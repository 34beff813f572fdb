"""Loops over the pages of a Parquet column chunk that holds codes into a dictionary.

The bytes come from a file that may be damaged. Nothing is read or written beside the arrays that
are given: whoever calls finds `result[0]` negative where the bytes say something impossible.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.jit import device, kernel

Bytes: TypeAlias = NDArray[np.uint8]
Int64s: TypeAlias = NDArray[np.int64]

# What LAYOUT writes of each page: the place of its body, fields 1 to 3 of its header, and fields 1
# to 7 of the struct that the header has for its kind of page. Numbers as in parquet.thrift.
FIELDS: Final = 11
BODY, KIND, PLAIN_SIZE, SIZE, OF_KIND = range(5)
DATA, DICTIONARY, DATA_2 = 0, 2, 3

_SPAN: Final = 4  # numbers for each page that DECODE reads
_MOST_BITS: Final = 32  # of a code

_ONE: Final = np.uint64(1)
_SEVEN: Final = np.uint64(7)
_EIGHT: Final = np.uint64(8)
_BYTE: Final = np.uint64(255)
_EACH_HALF: Final = np.uint64(0x00000001_00000001)
_EACH_QUARTER: Final = np.uint64(0x0001_0001_0001_0001)


@device
def varint(data: Any, at: Any, end: Any) -> Any:
    """The number of 7 bits a byte at `at`, and the place behind it; that is -1 where it has no end."""
    found = np.int64(0)
    shift = np.int64(0)
    while at < end and shift < 64:
        byte = np.int64(data[at])
        at += 1
        found |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return found, at
    return found, np.int64(-1)


@device
def signed(zigzag: Any) -> Any:
    """The number that Thrift writes as 0, 1, 2, 3 … for 0, -1, 1, -2 …"""
    return (zigzag >> 1) ^ -(zigzag & 1)


@device
def field_end(data: Any, at: Any, end: Any, kind: Any) -> Any:
    """The value of a Thrift field that is no struct, 0 where it is no integer, and the place behind
    it, or -1.
    """
    found = np.int64(0)
    if kind <= 2:  # true or false
        return np.int64(kind == 1), at
    if kind == 3:
        return found, at + 1
    if kind <= 6:
        number, at = varint(data, at, end)
        return signed(number), at
    if kind == 7:
        return found, at + 8
    if kind == 8:
        length, at = varint(data, at, end)
        if at >= 0 and 0 <= length <= end - at:
            return found, at + length
    return found, np.int64(-1)  # lists and maps are in no header of a page


@kernel("u8[], i64[], i64[]")
def LAYOUT(data: Bytes, pages: Int64s, result: Int64s) -> None:
    """The pages of a chunk, whose bytes are `data`: FIELDS numbers each, those that are not there as
    they were. `result[0]` is how many pages there are.
    """
    end = np.int64(data.size)
    at = np.int64(0)
    page = np.int64(0)
    result[0] = -1
    while at < end:
        if (page + 1) * FIELDS > pages.size:
            return
        first = page * FIELDS
        field = np.int64(0)
        of_kind = False  # whether this is the struct of the kind of page
        depth = np.int64(0)  # of a struct that does not matter
        outside = np.int64(0)  # the field that the present struct is
        around = np.int64(0)  # and, where that does not matter, the one it is in
        while True:
            if at < 0 or at >= end:
                return
            head = np.int64(data[at])
            at += 1
            if head == 0:  # a struct ends
                if depth > 0:
                    depth -= 1
                    field = around
                elif of_kind:
                    of_kind = False
                    field = outside
                else:
                    break
                continue
            kind = head & 15
            if head >> 4:
                field += head >> 4
            else:
                number, at = varint(data, at, end)
                field = signed(number)
            if kind == 12:
                if depth or of_kind or (field != 5 and field != 7 and field != 8):
                    around = field if depth == 0 else around
                    depth += 1
                else:
                    of_kind = True
                    outside = field
                field = np.int64(0)
                continue
            if at < 0:
                return
            value, at = field_end(data, at, end, kind)
            if depth == 0 and 1 <= field <= (7 if of_kind else 3):
                pages[first + field + (3 if of_kind else 0)] = value
        size = pages[first + 3]
        if size < 0 or size > end - at:
            return
        pages[first] = at
        at += size
        page += 1
    result[0] = page


@kernel("u8[], i32[], u8[], i64[]")
def TEXTS(data: Bytes, offsets: NDArray[np.int32], out: Bytes, result: Int64s) -> None:
    """Texts that each follow their length, as `offsets.size` - 1 texts of Arrow's; `out` has the bytes
    of `data` without the lengths.
    """
    at = np.int64(0)
    to = np.int64(0)
    result[0] = -1
    for i in range(offsets.size - 1):
        if data.size - at < 4:
            return
        length = np.int64(data[at]) | np.int64(data[at + 1]) << 8
        length |= np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24
        at += 4
        if length > data.size - at or length > out.size - to:
            return
        offsets[i] = to
        for k in range(length):
            out[to + k] = data[at + k]
        at += length
        to += length
    offsets[offsets.size - 1] = to
    result[0] = to


@device
def word_at(data: Any, p: Any) -> Any:
    """Eight bytes as one number; one instruction."""
    return (
        np.uint64(data[p])
        | np.uint64(data[p + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[p + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[p + np.uint64(3)]) << np.uint64(24)
        | np.uint64(data[p + np.uint64(4)]) << np.uint64(32)
        | np.uint64(data[p + np.uint64(5)]) << np.uint64(40)
        | np.uint64(data[p + np.uint64(6)]) << np.uint64(48)
        | np.uint64(data[p + np.uint64(7)]) << np.uint64(56)
    )


@device
def unpack(data: Any, at: Any, end: Any, bits: Any, out: Any, first: Any, count: Any) -> Any:
    """Write the first `count` numbers of `bits` bits, packed at `at`, to `out` from `first` on."""
    width = np.uint64(bits)
    mask = (_ONE << width) - _ONE
    done = np.int64(0)
    last = end - 8  # where the last word begins that lies in the data as a whole
    if bits <= 8:
        # Eight numbers of a word become its eight bytes: halves are moved apart, then quarters, then
        # the numbers. 1 M numbers: 0.1 ms, and 0.3 with a shift for each.
        two, four = width + width, np.uint64(4) * width
        halves = (_ONE << four) - _ONE
        quarters = ((_ONE << two) - _ONE) * _EACH_HALF
        eighths = mask * _EACH_QUARTER
        while done + 8 <= count and at + (done >> 3) * bits <= last:
            word = word_at(data, np.uint64(at + (done >> 3) * bits))
            word = word & halves | (word >> four & halves) << np.uint64(32)
            word = word & quarters | (word >> two & quarters) << np.uint64(16)
            word = word & eighths | (word >> width & eighths) << np.uint64(8)
            to = np.uint64(first + done)
            for k in range(8):
                out[to + np.uint64(k)] = word >> np.uint64(8 * k) & _BYTE
            done += 8
    else:
        while done < count and at + (done * bits >> 3) <= last:
            bit = np.uint64(done * bits)
            word = word_at(data, np.uint64(at) + (bit >> np.uint64(3)))
            out[np.uint64(first + done)] = (word >> (bit & _SEVEN)) & mask
            done += 1
    while done < count:
        bit_at = done * bits
        word = np.uint64(0)
        shift = np.uint64(0)
        for p in range(at + (bit_at >> 3), at + ((bit_at + bits + 7) >> 3)):
            word |= np.uint64(data[p]) << shift
            shift += _EIGHT
        out[first + done] = (word >> np.uint64(bit_at & 7)) & mask
        done += 1


@device
def runs(data: Any, at: Any, end: Any, bits: Any, out: Any, first: Any, n: Any) -> Any:
    """Write the `n` numbers that stand from `at` to `end` as runs, of one number or of packed ones;
    False where there are fewer.
    """
    done = np.int64(0)
    size = (bits + 7) >> 3
    while done < n:
        head, at = varint(data, at, end)
        if at < 0 or head < 0:
            return False
        if head & 1:
            groups = head >> 1  # of eight numbers
            if groups > end or groups * bits > end - at:
                return False
            count = min(groups * 8, n - done)
            unpack(data, at, end, bits, out, first + done, count)
            at += groups * bits
        else:
            if size > end - at:
                return False
            value = np.uint64(0)
            for k in range(size):
                value |= np.uint64(data[at + k]) << np.uint64(8 * k)
            at += size
            count = min(head >> 1, n - done)
            for i in range(np.uint64(first + done), np.uint64(first + done + count)):
                out[i] = value
        done += count
    return True


@device
def decode(data: Any, spans: Any, nullable: Any, known: Any, codes: Any) -> Any:
    """Write the codes of all pages. The greatest of them, -1 where the pages do not say what they
    must, and how many rows are not NULL.
    """
    most = np.int64(8 * codes.itemsize)
    wrong = np.int64(-1)
    top = np.int64(0)
    first = np.int64(0)
    there = np.int64(0)
    for page in range(spans.size // _SPAN):
        at = spans[page * _SPAN]
        end = spans[page * _SPAN + 1]
        n = spans[page * _SPAN + 2]
        valid = n
        if nullable:
            levels = spans[page * _SPAN + 3]
            if levels < 0:  # they say themselves how many bytes they take
                if end - at < 4:
                    return wrong, there
                levels = np.int64(data[at]) | np.int64(data[at + 1]) << 8
                levels |= np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24
                at += 4
            if levels > end - at or not runs(data, at, at + levels, 1, known, first, n):
                return wrong, there
            at += levels
            valid = np.int64(0)
            # Places without a sign: else each is asked whether it counts from the end.
            for i in range(np.uint64(first), np.uint64(first + n)):
                valid += np.int64(known[i] & 1)
        if valid:
            if at >= end:
                return wrong, there
            bits = np.int64(data[at])
            if bits > most or bits > _MOST_BITS:
                return wrong, there
            if not runs(data, at + 1, end, bits, codes, first, valid):
                return wrong, there
            greatest = codes[first]
            for i in range(np.uint64(first), np.uint64(first + valid)):
                greatest = max(greatest, codes[i])
            top = max(top, np.int64(greatest))
        if valid < n:  # they stand side by side: each goes to its row, the last first
            rest = first + valid
            for i in range(first + n - 1, first - 1, -1):
                if known[i] & 1:
                    rest -= 1
                    codes[i] = codes[rest]
                else:
                    codes[i] = 0
        first += n
        there += valid
    return top, there


@kernel("u8[], i64[], i64, u8[], u8[], i64[]")
def DECODE_8(
    data: Bytes, spans: Int64s, nullable: int, known: Bytes, codes: Bytes, result: Int64s
) -> None:
    """The codes of the pages in `data`, one after the other.

    spans     four numbers for each page: where it starts and ends in `data`, how many rows it has,
              and the bytes that tell which of them are NULL, -1 where these tell that themselves
    nullable  1 where there are such
    known     then 1 for each row that is not NULL, else 0
    codes     one for each row, 0 where it is NULL
    result    the greatest code, -1 where the pages do not say what they must; rows that are not NULL
    """
    result[0], result[1] = decode(data, spans, nullable, known, codes)


@kernel("u8[], i64[], i64, u8[], u16[], i64[]")
def DECODE_16(
    data: Bytes,
    spans: Int64s,
    nullable: int,
    known: Bytes,
    codes: NDArray[np.uint16],
    result: Int64s,
) -> None:
    """`DECODE_8` with codes of two bytes."""
    result[0], result[1] = decode(data, spans, nullable, known, codes)


@kernel("u8[], i64[], i64, u8[], i32[], i64[]")
def DECODE_32(
    data: Bytes,
    spans: Int64s,
    nullable: int,
    known: Bytes,
    codes: NDArray[np.int32],
    result: Int64s,
) -> None:
    """`DECODE_8` with codes of four bytes."""
    result[0], result[1] = decode(data, spans, nullable, known, codes)
