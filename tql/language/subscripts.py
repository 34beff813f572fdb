"""`a[i]`, `a[start:stop:step, j]`: what a subscript of an array or a sequence is (reference §9)."""

from collections.abc import Sequence

from tql.diagnostics import Note, Span, TqlError, counted, error
from tql.language.array_types import array_of, array_type, rank_of, sizes_of
from tql.language.expr import Const, Expr, Slice, Subscript
from tql.language.operators import by_element
from tql.schema import Binary, DType, Int, Label, List, Text

Part = Expr | Slice


def subscript(operand: Expr, parts: Sequence[Part], span: Span) -> Expr:
    """`operand[parts]` by NumPy's rules.

    Of a group's sequence the first part picks members, and the others apply to each of them.
    """
    if not isinstance(operand.dtype, List):
        raise _no_array(operand, span)
    for p in parts:
        for e in p.parts if isinstance(p, Slice) else (p,):
            _check_index(e, operand)
        if isinstance(p, Slice) and isinstance(p.step, Const) and p.step.value == 0:
            raise error("value", "the step of a slice cannot be 0", p.step.span,
                        help="leave it out, or write -1 to go backwards")  # fmt: skip
    if operand.dtype.grouped and len(parts) > 1:
        return _of_members(_picked(operand, parts[:1], span), parts[0], parts[1:], span)
    if len(parts) > rank_of(operand.dtype):
        raise error(
            "shape", f"{len(parts)} subscripts for {operand.dtype}, which has "
            f"{_dimensions(rank_of(operand.dtype))}", span,
            notes=(Note(f"this is {operand.dtype}", operand.span),),
            help="leave out the last subscripts",
        )  # fmt: skip
    return _picked(operand, parts, span)


def _of_members(picked: Expr, first: Part, rest: Sequence[Part], span: Span) -> Expr:
    """The other subscripts: of the one member, or of every member of a slice of the sequence."""
    if not isinstance(first, Slice):
        return subscript(picked, rest, span)
    inner = [e for p in rest for e in (p.parts if isinstance(p, Slice) else (p,))]

    def of_one(each: Sequence[Expr]) -> Expr:
        left = iter(each[1:])

        def again(e: Expr | None) -> Expr | None:
            return None if e is None else next(left)

        parts: list[Part] = [
            Slice(again(p.start), again(p.stop), again(p.step))
            if isinstance(p, Slice)
            else next(left)
            for p in rest
        ]
        return subscript(each[0], parts, span)

    return by_element((picked, *inner), of_one, span)


def _picked(operand: Expr, parts: Sequence[Part], span: Span) -> Expr:
    assert isinstance(operand.dtype, List)
    element, _ = array_of(operand.dtype)
    sizes = sizes_of(operand.dtype)
    kept: list[int | None] = []
    missing = False  # whether an index may be out of range
    for p, size in zip(parts, sizes, strict=False):
        if isinstance(p, Slice):
            kept.append(_length(p, size))
        else:
            known = isinstance(p, Const) and size is not None and -size <= p.value < size
            missing |= not known
    kept += sizes[len(parts) :]
    dtype: DType = array_type(element, kept, operand.dtype.grouped)
    inner = [e for p in parts for e in (p.parts if isinstance(p, Slice) else (p,))]
    # Any element of an array may be NULL, and any member of a sequence.
    nullable = not kept or missing or operand.nullable or any(e.nullable for e in inner)
    return Subscript(operand, tuple(parts), dtype, nullable, span=span)


def _length(p: Slice, size: int | None) -> int | None:
    """How many elements a slice of `size` elements has, where that is the same in every row."""
    if size is None or not all(isinstance(e, Const) for e in p.parts):
        return None
    start, stop, step = (
        e.value if isinstance(e, Const) else None for e in (p.start, p.stop, p.step)
    )
    return len(range(size)[start:stop:step])


def _check_index(e: Expr, operand: Expr) -> None:
    match e.dtype:
        case Int() | Label():
            return
        case Text():
            help = "keys in quotes belong to JSON columns; an array takes numbers, from 0"
        case List():
            help = (
                "a subscript is one whole number per row; contains(column, value) looks for a value"
            )
        case _:
            help = "write a whole number: the first element is [0], the last [-1]"
    raise error(
        "type", f"an index into {operand.dtype} must be a whole number, not {e.dtype}", e.span,
        notes=(Note(f"this is {operand.dtype}", operand.span),), help=help,
    )  # fmt: skip


def _no_array(operand: Expr, span: Span) -> TqlError:
    match operand.dtype:
        case Text():
            help = "text has no elements here; compare it with LIKE, for example  name like 'a*'"
        case Binary():
            help = "shape(column) gives the size of an image; its pixels are not read by queries"
        case _:
            help = "leave the subscript out: each row has one value"
    return error(
        "type", f"{operand.dtype} has no elements to pick with […]", span,
        notes=(Note(f"this is {operand.dtype}", operand.span),), help=help,
    )  # fmt: skip


def _dimensions(rank: int) -> str:
    return counted(rank, "dimension")
