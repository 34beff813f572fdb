"""The select list: which columns a query gives, and under which names."""

from typing import Any

from tql.diagnostics import Span, error
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.grammar.tokens import is_bare_name
from tql.language.array_types import scalar_of
from tql.language.bind_expr import ExprBinder
from tql.language.expr import Expr
from tql.language.functions.arrays import as_selected
from tql.language.operators import NOTHING
from tql.language.plan import Output
from tql.schema import DType, List, Opaque


def select_list(scope: ExprBinder, items: tuple[s.AllColumns | s.Item, ...]) -> tuple[Output, ...]:
    """The outputs in order; a column that stands beside `*` again is no repetition."""
    outputs: dict[str, Output] = {}
    for item in items:
        match item:
            case s.AllColumns():
                new = [
                    Output(name, scope.column(column, item.span))
                    for name, column in scope.names.star(item)
                ]
            case s.Item(expr, alias):
                bound = _item(scope, expr)
                new = [Output(alias or _name_of(expr, item.span), bound)]
        for o in new:
            if o.name in outputs and not (
                _is_plain(item) and o.stored == outputs[o.name].stored
                and any(isinstance(i, s.AllColumns) for i in items)
            ):  # fmt: skip
                raise error("duplicate_column", f"two columns would be named {o.name!r}", item.span,
                            help="leave one of them out, or name it with AS")  # fmt: skip
            outputs.setdefault(o.name, o)
    return tuple(outputs.values())


def name_outputs(scope: ExprBinder, items: tuple[s.AllColumns | s.Item, ...]) -> tuple[Output, ...]:
    """The select list, whose names `scope` then knows: what is bound next may use them."""
    outputs = select_list(scope, items)
    scope.aliases = {o.name: o.expr for o in outputs if o.stored != o.name}
    return outputs


def _is_plain(item: s.AllColumns | s.Item) -> bool:
    """Whether the item is columns of the source under their own names."""
    match item:
        case s.Item(s.Name(name), alias):
            return alias in (None, name)
        case s.Item():
            return False
        case _:
            return True


def _item(scope: ExprBinder, e: s.Expr) -> Expr:
    """A select item; a column that no expression may use can still be selected as it is."""
    found = scope.find(e) if isinstance(e, s.Name) else None
    if found is not None and _is_opaque(scope.schema[found].dtype):
        return scope.column(found, e.span)
    bound = scope.bind(e)
    if scalar_of(bound.dtype) == NOTHING:
        raise error("parameter", "an empty list has no type", bound.span,
                    help="pass a NumPy array: numpy.zeros(0, 'int64')")  # fmt: skip
    return as_selected(bound)


def _is_opaque(dtype: DType) -> bool:
    """Opaque, or a sequence of such values."""
    return isinstance(dtype, Opaque) or (isinstance(dtype, List) and _is_opaque(dtype.item))


def _name_of(e: s.Expr, span: Span) -> str:
    """The name of an item without AS (reference §3)."""
    names = names_in(e)
    if len(names) == 1:
        return names.pop()
    match e:
        case s.Call(function) | s.WeightCall(function) if not names:
            return function
        case s.String(text) if is_bare_name(text):
            raise error("syntax", "this text needs a name", span,
                        help=f"a column stands without quotes: {text}; "
                        f"or write  {format_expr(e)} as NAME")  # fmt: skip
        case _:
            raise error("syntax", "this expression needs a name", span,
                        help=f"write  {format_expr(e)} as NAME")  # fmt: skip


def names_in(value: Any) -> set[str]:
    """Names of the columns mentioned anywhere in a syntax node."""
    match value:
        case s.Name(name):
            return {name}
        case tuple():
            return set().union(*map(names_in, value)) if value else set()
        case s.Node() | s.Arm():
            return set().union(*(names_in(getattr(value, f)) for f in value.__dataclass_fields__))
        case _:
            return set()
