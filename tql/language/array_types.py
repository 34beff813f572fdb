"""Types of arrays: how many dimensions, of which sizes, and what comes of broadcasting them."""

from collections.abc import Sequence

from tql.schema import DType, List

Sizes = tuple[int | None, ...]


def array_of(dtype: List) -> tuple[DType, int]:
    """(type of an element, number of dimensions) of the arrays of this type.

    A sequence of a group has one dimension, whatever its elements are.
    """
    item, rank = dtype.item, 1
    while isinstance(item, List) and not dtype.grouped and not item.grouped:
        item, rank = item.item, rank + 1
    return item, rank


def is_rectangular(dtype: List) -> bool:
    """Whether the type alone says that the lists within a row, or within the members of a group,
    have one length.
    """
    item: DType = dtype.item
    if dtype.grouped:
        return not isinstance(item, List) or is_rectangular(item)
    while isinstance(item, List):
        if item.size is None:
            return False
        item = item.item
    return True


def rank_of(dtype: DType) -> int:
    """The number of dimensions; 0 of what is no array."""
    return array_of(dtype)[1] if isinstance(dtype, List) else 0


def sizes_of(dtype: DType) -> Sizes:
    """The extent of each dimension where every row has the same, else None; () of a scalar."""
    if not isinstance(dtype, List):
        return ()
    sizes: list[int | None] = []
    level: DType = dtype
    for _ in range(rank_of(dtype)):
        assert isinstance(level, List)
        sizes.append(level.size)
        level = level.item
    return tuple(sizes)


def array_type(element: DType, sizes: Sequence[int | None], grouped: bool = False) -> DType:
    """Arrays of these extents; `element` itself where there is none.

    grouped  whether the only dimension is that of a group's sequence
    """
    dtype = element
    for size in reversed(sizes):
        dtype = List(dtype, size, grouped)
    return dtype


def scalar_of(dtype: DType) -> DType:
    """The type of the single values in arrays, in sequences, and in sequences of arrays."""
    while isinstance(dtype, List):
        dtype = dtype.item
    return dtype


def broadcast_sizes(dtypes: Sequence[DType]) -> tuple[Sizes, bool, bool]:
    """What NumPy's broadcasting makes of operands of these types.

    Gives the extents of the result, None where they depend on the row; whether the types alone say
    that shapes always fit; and whether they say that shapes never do.
    """
    operands = [sizes_of(t) for t in dtypes]
    rank = max(map(len, operands), default=0)
    found: list[int | None] = []
    always, never = True, False
    for axis in range(-rank, 0):
        extents = [sizes[axis] for sizes in operands if len(sizes) >= -axis]
        stretched = [e for e in extents if e != 1]
        known = {e for e in stretched if e is not None}
        never |= len(known) > 1
        always &= len(stretched) <= 1 or (len(known) == 1 and None not in stretched)
        if len(known) == 1:
            # Another of unknown extent is either this or 1, whose result is this as well.
            found.append(known.pop())
        else:
            found.append(1 if not stretched else None)
    return tuple(found), always and not never, never
