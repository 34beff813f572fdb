"""Write a tree as canonical TQL: `parse(format_query(q)) == q` for every tree that a text can give.

Lower-case words, `==` and `!=`, inner join spelled `join`, parentheses only where the precedence of
tql.lark asks for them.
"""

from dataclasses import fields
from enum import IntEnum
from typing import Final, assert_never

from tql.grammar import syntax as s
from tql.grammar.tokens import is_bare_name


class _Level(IntEnum):
    """How tightly an expression binds: the levels of tql.lark, loosest first."""

    OR = 1
    AND = 2
    NOT = 3
    PREDICATE = 4
    ORDERING = 5
    SUM = 6
    PRODUCT = 7
    SIGN = 8
    POSTFIX = 9


_LEVEL_OF: Final = {
    s.BinaryOp.OR: _Level.OR,
    s.BinaryOp.AND: _Level.AND,
    s.BinaryOp.EQ: _Level.PREDICATE,
    s.BinaryOp.NE: _Level.PREDICATE,
    s.BinaryOp.LT: _Level.ORDERING,
    s.BinaryOp.LE: _Level.ORDERING,
    s.BinaryOp.GT: _Level.ORDERING,
    s.BinaryOp.GE: _Level.ORDERING,
    s.BinaryOp.ADD: _Level.SUM,
    s.BinaryOp.SUB: _Level.SUM,
    s.BinaryOp.MUL: _Level.PRODUCT,
    s.BinaryOp.DIV: _Level.PRODUCT,
    s.BinaryOp.MOD: _Level.PRODUCT,
}

_SET_LEVEL: Final = {s.SetOp.UNION: 1, s.SetOp.EXCEPT: 1, s.SetOp.INTERSECT: 2}


def format_query(query: s.Query) -> str:
    """The query on one line (texts and quoted names may hold line ends)."""
    parts = [_body(query.body), *_tail(query)]
    if query.sample is not None:
        parts.append(_sample(query.sample))
    return " ".join(parts)


def format_expr(expr: s.Expr) -> str:
    return _expr(expr, _Level.OR)


# -- queries -----------------------------------------------------------------------------------


def _tail(query: s.Query) -> list[str]:
    """ORDER BY, LIMIT, OFFSET; those with a `?` in the order that numbers them as they are."""
    clauses = []
    if query.order:
        clauses.append((_first_position(query.order), f"order by {_order(query.order)}"))
    if query.limit is not None:
        clauses.append((_first_position(query.limit), _limit(query.limit)))
    if query.offset is not None:
        clauses.append((_first_position(query.offset), f"offset {format_expr(query.offset)}"))
    numbered = iter(sorted((at, text) for at, text in clauses if at is not None))
    return [text if at is None else next(numbered)[1] for at, text in clauses]


def _first_position(tree: object) -> int | None:
    """The number of the first `?` in a tree."""
    todo = [tree]
    while todo:
        match todo.pop():
            case s.Parameter(int(position)):
                return position
            case s.Node() as node:
                todo += [getattr(node, f.name) for f in reversed(fields(node))]
            case tuple(nodes):
                todo += reversed(nodes)
    return None


def _body(body: s.Body) -> str:
    match body:
        case s.Select():
            return _select(body)
        case s.Combined(first, steps):
            level = _SET_LEVEL[steps[0].op]
            parts = [_branch(first, level)]
            for step in steps:
                parts.append(f"{step.op} all" if step.all else str(step.op))
                parts.append(_branch(step.body, level + 1))
            return " ".join(parts)
        case s.Query():
            return f"({format_query(body)})"
        case _:
            assert_never(body)


def _branch(body: s.Body, least: int) -> str:
    """A branch of a set operation, in parentheses if it binds less tightly than `least`."""
    loose = isinstance(body, s.Combined) and _SET_LEVEL[body.steps[0].op] < least
    return f"({_body(body)})" if loose else _body(body)


def _select(select: s.Select) -> str:
    parts = ["select"]
    if select.top is not None:
        parts.append(f"top {select.top}")
    if select.distinct is not None:
        keys = select.distinct.keys
        parts.append(f"distinct on ({_exprs(keys)})" if keys else "distinct")
    parts.append(", ".join(_item(item) for item in select.items))
    if select.source is not None:
        parts.append(f"from {_source(select.source)}")
    if select.where is not None:
        parts.append(f"where {format_expr(select.where)}")
    if select.expand is not None:
        parts.append(_expand(select.expand))
    if select.group is not None:
        parts.append(f"group by {_exprs(select.group.keys)}")
        if select.group.having is not None:
            parts.append(f"having {format_expr(select.group.having)}")
    if select.ungroup is not None:
        parts.append("ungroup by split")
    return " ".join(parts)


def _item(item: s.AllColumns | s.Item) -> str:
    match item:
        case s.AllColumns():
            return "*" if item.source is None else f"{_name(item.source)}.*"
        case s.Item(expr, alias):
            return format_expr(expr) + _alias(alias)
        case _:
            assert_never(item)


def _alias(alias: str | None) -> str:
    return "" if alias is None else f" as {_name(alias)}"


def _source(source: s.Source) -> str:
    match source:
        case s.Table(name, alias):
            return _name(name) + _alias(alias)
        case s.Subquery(query, alias):
            return f"({format_query(query)}){_alias(alias)}"
        case s.Join(s.JoinKind.CROSS, left, right) if _has_comma(source):
            return f"{_source(left)}, {_source(right)}"
        case s.Join(kind, left, right, on, using):
            word = "join" if kind is s.JoinKind.INNER else f"{kind} join"
            text = f"{_source(left)} {word} {_source(right)}"
            if on is not None:
                return f"{text} on {format_expr(on)}"
            return f"{text} using ({', '.join(_name(n.name) for n in using)})" if using else text
        case _:
            assert_never(source)


def _has_comma(source: s.Source) -> bool:
    """Whether a cross join is one that only a comma can write: a join stands on its right."""
    while isinstance(source, s.Join):
        if isinstance(source.right, s.Join):
            return True
        source = source.left
    return False


def _expand(expand: s.Expand) -> str:
    overlap = " overlap true" if expand.overlap else ""
    return f"expand by {expand.before}, {expand.after}{overlap}{_alias(expand.name)}"


def _order(keys: tuple[s.OrderKey, ...]) -> str:
    return ", ".join(format_expr(k.expr) + (" desc" if k.descending else "") for k in keys)


def _limit(limit: s.Limit) -> str:
    if limit.count is None:
        return "limit all"
    return f"limit {format_expr(limit.count)}{' percent' if limit.percent else ''}"


def _sample(sample: s.Sample) -> str:
    parts = [f"sample by {format_expr(sample.weight)}"]
    if sample.replace is not None:
        parts.append(f"replace {_boolean(sample.replace)}")
    if sample.limit is not None:
        parts.append(_limit(sample.limit))
    if sample.order:
        parts.append(f"order by {_order(sample.order)}")
    return " ".join(parts)


# -- expressions -------------------------------------------------------------------------------


def _expr(expr: s.Expr, least: _Level) -> str:
    """The expression, in parentheses if it binds less tightly than `least`.

    One long match: a tree may be 200 levels deep, and each level should cost few stack frames.
    """
    level = _Level.POSTFIX
    match expr:
        case s.Chain(op, terms):
            level = _LEVEL_OF[op]
            text = f" {op} ".join([_expr(t, _tighter(level)) for t in terms])
        case s.Unary(s.UnaryOp.NOT, operand):
            level = _Level.NOT
            text = f"not {_expr(operand, level)}"
        case s.Unary(op, operand):
            level = _Level.SIGN
            text = _expr(operand, level)
            text = f"{op} {text}" if text[0] in "+-" else f"{op}{text}"  # -- starts a comment
        case s.Binary(op, left, right):
            level = _LEVEL_OF[op]
            chains = level in (_Level.SUM, _Level.PRODUCT)
            first = _expr(left, level if chains else _tighter(level))
            text = f"{first} {op} {_expr(right, _tighter(level))}"
        case s.Like() | s.InList() | s.Between() | s.IsNull():
            level = _Level.PREDICATE
            text = _predicate(expr)
        case s.Subscript(value, subscripts):
            text = f"{_expr(value, level)}[{', '.join(map(_subscript, subscripts))}]"
        case s.Number(value):
            text = repr(value)
        case s.String(value):
            text = "'" + value.replace("'", "''") + "'"
        case s.Boolean(value):
            text = _boolean(value)
        case s.Array(items):
            text = f"array[{_exprs(items)}]"
        case s.Parameter(key):
            text = "?" if isinstance(key, int) else f"${key}"
        case s.Name(name, source):
            text = _name(name) if source is None else f"{_name(source)}.{_name(name)}"
        case s.Call():
            text = _call(expr)
        case s.WeightCall(function, arms):
            pairs = [f"{format_expr(a.condition)}: {format_expr(a.weight)}" for a in arms]
            text = f"{function}({', '.join(pairs)})"
        case _:
            assert_never(expr)
    return text if level >= least else f"({text})"


def _tighter(level: _Level) -> _Level:
    return _Level(level + 1)


def _predicate(expr: s.Like | s.InList | s.Between | s.IsNull) -> str:
    operand = _expr(expr.operand, _Level.ORDERING)
    no = "not " if expr.negated else ""
    match expr:
        case s.Like(_, pattern, fold_case):
            word = "ilike" if fold_case else "like"
            return f"{operand} {no}{word} {_expr(pattern, _Level.ORDERING)}"
        case s.InList(_, choices):
            items = f"({_exprs(choices)})" if isinstance(choices, tuple) else format_expr(choices)
            return f"{operand} {no}in {items}"
        case s.Between(_, low, high):
            return f"{operand} {no}between {_expr(low, _Level.SUM)} and {_expr(high, _Level.SUM)}"
        case s.IsNull():
            return f"{operand} is {no}null"
        case _:
            assert_never(expr)


def _subscript(subscript: s.Expr | s.Slice) -> str:
    if not isinstance(subscript, s.Slice):
        return _expr(subscript, _Level.OR)
    start, stop, step = (
        "" if part is None else format_expr(part)
        for part in (subscript.start, subscript.stop, subscript.step)
    )
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"


def _call(call: s.Call) -> str:
    arguments = ["*" if isinstance(a, s.Star) else _expr(a, _Level.OR) for a in call.arguments]
    if call.axis is not None:
        arguments.append(f"axis = {_expr(call.axis, _Level.ORDERING)}")
    name = call.function if call.function == "all" else _name(call.function)
    return f"{name}({', '.join(arguments)})"


def _exprs(exprs: tuple[s.Expr, ...]) -> str:
    return ", ".join([_expr(e, _Level.OR) for e in exprs])


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _name(name: str) -> str:
    return name if is_bare_name(name) else '"' + name.replace('"', '""') + '"'
