"""Random whole queries as text: one entry per form of query in the table QUERIES."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hypothesis import strategies as st

from tests.random_data import COLUMNS
from tests.random_expressions import ID, PENDING, STORED, Array, Name, Nothing, Writer, is_exact


@dataclass(frozen=True)
class Written:
    """A query, the columns of its result, and whether its rows are rows of the base."""

    text: str
    names: tuple[Name, ...]
    keeps_rows: bool = True


GROUPS: Final = {
    "numbers": [n for n in STORED if n.kind == "number"],
    "texts": [n for n in STORED if n.kind == "text"],
    "labels": [n for n in STORED if n.kind == "label"],
    "times": [n for n in STORED if n.kind in ("time", "zoned")],
    "JSON": [n for n in STORED if n.kind == "json"],
    "vectors": [n for n in STORED if n.rank == 1 and n.item == "number"],
    "matrices": [n for n in STORED if n.rank > 1],
    "other arrays": [n for n in STORED if n.kind == "array" and n.item != "number"],
    "all": STORED,
}


def chosen(w: Writer) -> list[Name]:
    """Some stored columns of several kinds: what a query of its own looks at."""
    kinds = w.random.sample(sorted(GROUPS), w.whole(2, 6))
    names = [w.pick(GROUPS[k]) for k in ["numbers", *kinds] for _ in range(w.pick([1, 1, 2]))]
    return list(dict.fromkeys(names))


def columns_in(text: str) -> list[str]:
    """The stored columns that a query names."""
    words = set(re.findall(r"\w+", re.sub(r"'(?:''|[^'])*'", "", text)))
    return [name for name in COLUMNS if name in words]


# -- clauses -----------------------------------------------------------------------------------


def items(w: Writer, prefix: str = "x", star: bool = True) -> tuple[str, tuple[Name, ...]]:
    """A select list and the columns it makes."""
    parts: list[str] = []
    made: list[Name] = []
    if star and w.chance(30):
        parts.append("*")
        made += w.names
    else:
        for name in {w.pick(w.names).text: None for _ in range(w.pick([1, 1, 2, 3]))}:
            parts.append(name)
            made += [n for n in w.names if n.text == name]
    for at in range(w.pick([0, 1, 1, 2])):
        text, like = w.value(w.pick([0, 1, 1, 2]))
        word = "" if w.chance(20) else "as "
        parts.append(f"{text} {word}{prefix}{at}")
        made.append(replace(like, text=f"{prefix}{at}"))
    return ", ".join(parts), tuple(made)


def where(w: Writer, percent: int = 55) -> str:
    return f" where {w.truth(w.pick([0, 1, 1, 2]))}" if w.chance(percent) else ""


def sort_keys(w: Writer, aliases: Sequence[Name] = ()) -> str:
    def key() -> str:
        named = [n for n in aliases if n.kind in ("number", "text", "json value")]
        match w.whole(0, 7):
            case 0 | 1 if named:
                text = w.pick(named).text
            case 2 | 3:
                text = w.number(1)
            case 4:
                text = w.truth(0)
            case 5:
                text = w.text()
            case 6:
                text = w.pick([w.column("label").text, w.column("time").text])
            case 7:
                text = w.json()
            case _:
                text = w.number(0)
        if not is_exact(text):
            text = w.number(0)
        return text + w.pick(["", "", " asc", " desc", " DESC"])

    return ", ".join(tried(w, key, w.number) for _ in range(w.pick([1, 1, 2, 3])))


def tried(w: Writer, write: Callable[[], str], otherwise: Callable[[int], str]) -> str:
    try:
        return write()
    except Nothing:
        return otherwise(0)


def order(w: Writer, aliases: Sequence[Name] = (), percent: int = 50) -> str:
    return f" order by {sort_keys(w, aliases)}" if w.chance(percent) else ""


def cut(w: Writer, percent: int = 40) -> str:
    if not w.chance(percent):
        return ""
    limit = w.pick(
        [
            "1",
            "3",
            "10",
            "10",
            "100",
            "0",
            "2 + 3",
            "all",
            "50 percent",
            "12.5 percent",
            "200 PERCENT",
        ]
    )
    if limit.isdigit() and w.chance(20):
        limit = w.literal(int(limit))
    offset = w.pick(["0", "1", "2", "3", "100"])
    return w.pick([f" limit {limit}", f" limit {limit} offset {offset}", f" offset {offset} limit {limit}",
                   f" offset {offset}"])  # fmt: skip


def distinct(w: Writer, percent: int = 12) -> str:
    if not w.chance(percent):
        return ""
    if w.chance(40):
        keys = [w.number(0), *([w.text()] if w.chance(30) else [])]
        return f"distinct on ({', '.join(keys)}) "
    return "distinct "


# -- forms of queries --------------------------------------------------------------------------


def simple(w: Writer, prefix: str = "x") -> Written:
    """One SELECT with any of its clauses."""
    listed, made = items(w, prefix)
    aliases = [n for n in made if re.fullmatch(rf"{prefix}\d", n.text)]
    top = f"top {w.pick(['1', '4', '9'])} " if w.chance(6) else ""
    head = f"select {top}{tried(w, lambda: distinct(w), lambda _: '')}{listed}"
    tail = order(w, aliases) + ("" if top else cut(w))
    return Written(f"{head}{where(w)}{tail}", made)


def expanded(w: Writer) -> Written:
    sizes = w.pick(["1", "0", "2 1", "1, 2", "0 3"])
    overlap = w.pick(["", " overlap", " overlap false", " overlap true"])
    named = w.chance(50)
    listed, made = items(w)
    clauses = [where(w, 90), f" expand by {sizes}{overlap}{' as clip' if named else ''}"]
    if w.chance(20):
        clauses.reverse()
    extra = (Name("clip", "number"),) if named else ()
    return Written(f"select {listed}{''.join(clauses)}{order(w)}{cut(w)}", (*made, *extra))


def sequences(names: Sequence[Name]) -> list[Name]:
    """What the columns are in a grouped select: arrays, all of one length."""
    found = []
    for n in names:
        item = {"number": "number", "text": "text", "label": "label"}.get(n.kind)
        if item:
            found.append(Name(n.text, "array", item, 1, "group"))
    return found


def keys_of(w: Writer) -> list[str]:
    def key() -> str:
        match w.whole(0, 7):
            case 0:
                return w.column("label").text
            case 1 | 2:
                return w.column("text").text
            case 3:
                return w.json()
            case 4:
                return w.truth(0)
            case 5:
                return f"({w.column('number').text} % 2.0)"
            case 6:
                return w.column("time").text
            case _:
                return w.column("number").text

    return list(dict.fromkeys(tried(w, key, w.number) for _ in range(w.pick([1, 1, 2]))))


def grouped(w: Writer) -> Written:
    keys = keys_of(w)
    inner = w.over(sequences(w.names), tables=False, groups=True)
    rows = where(w, 40)
    listed, made = ("*", ()) if w.chance(15) else items(inner, "g", star=False)
    keys_named = [
        k for k in keys if any(n.text == k and n.kind in ("number", "text") for n in w.names)
    ]
    # What a key means inside an array function, its value or its sequence, is not asked here.
    others = inner.over([n for n in inner.names if n.text not in " ".join(keys)])
    having, ordered = "", ""
    if w.chance(40):
        tests = ["count(*) > 1", f"{w.pick(['sum', 'amax'])}({others.array(0, 'number').text}) > 0",
                 *(f"{k} is not null" for k in keys_named), others.truth(1)]  # fmt: skip
        having = f" having {w.pick(tests)}"
    if w.chance(40):
        choices = ["count(*)", "count(*) desc", *keys_named, *(f"{k} desc" for k in keys_named)]
        ordered = f" order by {', '.join(dict.fromkeys(w.pick(choices) for _ in '12'))}"
    text = f"select {listed}{rows} group by {', '.join(keys)}{having}{ordered}{cut(w, 30)}"
    columns = tuple(n for n in made if n.kind == "array" and n.shape == "group" and n.rank == 1)
    return Written(text, columns, keeps_rows=False)


def of_groups(w: Writer) -> Written:
    """A query of groups: rows of sequences, or what splitting them gives."""
    names = [n for n in w.names if n.kind in ("number", "text", "label")][:4]
    if not names:
        raise Nothing
    listed = ", ".join(n.text for n in names)
    inner = f"select {listed}{where(w, 30)} group by {', '.join(keys_of(w))}"
    if w.chance(50):
        over = w.over(names, tables=False)
        chosen_items, made = items(over)
        text = f"select {chosen_items} from ({inner}) ungroup by split{order(over)}{cut(over, 30)}"
        return Written(text, made, keeps_rows=False)
    over = w.over(sequences(names), tables=False)
    chosen_items, made = items(over)
    return Written(f"select {chosen_items} from ({inner}){where(over)}{cut(over, 30)}", made, False)


def subquery(w: Writer) -> Written:
    inner = simple(w, "y")
    if not inner.names:
        raise Nothing
    over = w.over(inner.names)
    outer = w.pick([simple, simple, expanded])(over) if w.chance(85) else grouped(over)
    source = f" from ({inner.text}){w.pick(['', '', ' as s', ' s'])}"
    return replace(outer, text=_with_from(outer.text, source))


def _with_from(text: str, source: str) -> str:
    """The FROM clause before the first clause that may follow it."""
    depth = 0
    for m in re.finditer(
        r"'(?:''|[^'])*'|[()\[\]]|\b(where|expand|group|order|limit|offset)\b", text
    ):
        if m.group() in "([":
            depth += 1
        elif m.group() in ")]":
            depth -= 1
        elif m.group(1) and depth == 0:
            return f"{text[: m.start()].rstrip()}{source} {text[m.start() :]}"
    return text + source


def combined(w: Writer) -> Written:
    """Set operations over one list of columns; trailing clauses act on the combination."""
    listed, made = items(w)

    def branch(depth: int) -> str:
        if depth and w.chance(60):
            op = w.pick(["union", "intersect", "except"]) + w.pick(["", "", " all"])
            text = f"{branch(depth - 1)} {op} {branch(depth - 1)}"
            return f"({text})" if w.chance(50) else text
        if w.chance(40):
            return f"(select {listed}{where(w)}{order(w)}{cut(w, 70)})"
        return f"select {listed}{where(w)}"

    left, right = branch(1), branch(1)
    op = w.pick(["union", "intersect", "except"]) + w.pick(["", "", " all"])
    stored_names = [n for n in made if not re.fullmatch(r"x\d", n.text)]
    tail = order(w.over(stored_names, tables=False), percent=40) if stored_names else ""
    return Written(f"{left} {op} {right}{tail}{cut(w)}", made)


def stacked(w: Writer) -> Written:
    """UNION of different expressions of one source: one after the other, in one type."""
    op = w.pick(["union", "union all"])
    numbers = w.over([n for n in w.names if not n.text.startswith("flag")])
    first, second = (f"select ({numbers.number(1)}) as v, {x} as n{where(w)}" for x in "12")
    text = f"{first} {op} {second}"
    return Written(f"{text}{cut(w)}", (Name("v", "number"),), keeps_rows=False)


def joined(w: Writer) -> Written:
    """Two or three selections of the data set, each under a name of its own."""
    sides = []
    for name in w.pick(["ab", "ab", "abc"]):
        names = [n for n in {w.pick(w.names): None for _ in "12345"} if n.text != "id"]
        if not names:
            raise Nothing
        renamed = tuple(replace(n, text=f"{n.text}_{name}") for n in names)
        listed = ", ".join(f"{n.text} as {r.text}" for n, r in zip(names, renamed))
        side = w.over([ID, *names], tables=False)
        sides.append((f"(select {listed}, id as id_{name}{where(side, 40)}{cut(side, 30)}) as {name}",
                      (*renamed, Name(f"id_{name}", "number"))))  # fmt: skip
    text, names = sides[0]
    for at, (other, theirs) in enumerate(sides[1:], 2):
        kind = w.pick(
            ["join", "inner join", "left join", "right join", "full join", "full outer join"]
        )
        if w.chance(10):
            comma = at == len(sides) and w.chance(50)  # which binds more loosely than a join
            text, names = f"{text}{', ' if comma else ' cross join '}{other}", (*names, *theirs)
            continue
        text = f"{text} {kind} {other} on {_condition(w, names, theirs)}"
        names = (*names, *theirs)
    over = w.over(names, tables=False)
    listed, made = items(over)
    return Written(f"select {listed} from {text}{where(over, 40)}{order(over, percent=30)}{cut(over, 30)}",
                   made, keeps_rows=False)  # fmt: skip


def joined_using(w: Writer) -> Written:
    """Two selections with columns of one name."""
    key = w.column(w.pick(["number", "text", "label"]))
    left, right = w.column("number"), w.column("number")
    a = f"(select {key.text} as k, {left.text} as x{where(w, 40)}) as a"
    b = f"(select {key.text} as k, {right.text} as y{where(w, 40)}) as b"
    names = (replace(key, text="k"), replace(left, text="x"), replace(right, text="y"))
    over = w.over(names, tables=False)
    kind = w.pick(["join", "left join", "right join", "full join"])
    listed = w.pick(["*", "k, x, y", "k", "y, k"])
    return Written(
        f"select {listed} from {a} {kind} {b} using (k){where(over, 40)}{cut(over, 30)}",
        names if listed == "*" else (),
        keeps_rows=False,
    )


def _condition(w: Writer, ours: Sequence[Name], theirs: Sequence[Name]) -> str:
    left, right = w.over(ours, tables=False), w.over(theirs, tables=False)
    pairs = []
    for kind in ("number", "text"):
        try:
            pairs.append(
                f"{left.column(kind).text} {w.pick(['=', '=='])} {right.column(kind).text}"
            )
        except Nothing:
            continue
    terms = [w.pick(pairs)]
    if w.chance(20):
        terms.append(w.pick([left, right]).truth(0))
    return " and ".join(terms)


QUERIES: Final[dict[str, tuple[int, Callable[[Writer], Written]]]] = {
    "simple": (10, simple),
    "EXPAND BY": (2, expanded),
    "GROUP BY": (4, grouped),
    "of groups": (3, of_groups),
    "subquery": (4, subquery),
    "set operation": (4, combined),
    "UNION of different expressions": (1, stacked),
    "join": (3, joined),
    "join USING": (1, joined_using),
}


def positional(text: str, params: dict[str, Any]) -> tuple[str, list[Any]]:
    """The query with `?` for its parameters, and their values in the order of the text."""
    values: list[Any] = []

    def replaced(m: re.Match[str]) -> str:
        if m.group(1) is None:
            return m.group()
        values.append(params[m.group(1)])
        return "?"

    return re.sub(r"'(?:''|[^'])*'|\$(p\d+)", replaced, text), values


def used_in(text: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The parameters that stand in the text; None where there are none."""
    return {k: v for k, v in params.items() if re.search(rf"\${k}\b", text)} or None


@st.composite
def queries(draw: st.DrawFn) -> tuple[str, Any]:
    """A query and its parameters."""
    w = Writer(draw(st.randoms(use_true_random=True)))
    forms = {name: entry for name, entry in QUERIES.items() if name not in PENDING}
    for _ in range(8):
        w.params.clear()
        over = w.over([ID, *chosen(w)])
        try:
            text = over.one_of(forms).text
        except Nothing:
            continue
        used = used_in(text, w.params)
        if used is None:
            return text, None
        return positional(text, used) if w.chance(50) else (text, used)
    return "select *", None


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    """A query, a query of its result, and the parameters of both by name."""
    w = Writer(draw(st.randoms(use_true_random=True)))
    forms = {name: QUERIES[name] for name in ("simple", "EXPAND BY", "GROUP BY", "set operation")}
    while True:
        w.params.clear()
        over = w.over([ID, *chosen(w)])
        try:
            inner = simple(over, "y")
            if inner.names:
                return inner.text, over.over(inner.names).one_of(forms).text, dict(w.params)
        except Nothing:
            continue


@st.composite
def samples(draw: st.DrawFn) -> tuple[str, Any]:
    """A query that ends in SAMPLE BY, without a final order, and its parameters."""
    w = Writer(draw(st.randoms(use_true_random=True)))
    while True:
        w.params.clear()
        over = w.over([ID, *chosen(w)])
        try:
            arms = ", ".join(f"{over.truth(0)}: {w.pick(['1', '2', '0.5', '0'])}" for _ in "12")
            weight = w.pick([f"max_weight({arms})", f"sum_weight({arms})", f"abs({over.number(0)})",
                             "1", "0.5", "0.25", "2.0"])  # fmt: skip
            replaced = w.pick(["", "", " replace", " replace true", " replace false"])
            limit = w.pick(["", " limit 5", " limit 40", " limit 50 percent", " limit 0"])
            head = f"select *{where(over)}{order(over, percent=20)}{cut(over, 20)}"
            text = f"{head} sample by {weight}{replaced}{limit}"
        except Nothing:
            continue
        return text, used_in(text, w.params)


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, Any]:
    """A select list and a condition over all columns, with their parameters."""
    w = Writer(draw(st.randoms(use_true_random=True)))
    while True:
        try:
            texts = [w.value(w.whole(0, 2))[0] for _ in range(w.whole(1, 2))]
            listed = ", ".join(["id", *(f"{t} as x{n}" for n, t in enumerate(texts))])
            text = f"select {listed}{where(w, 60)}"
        except Nothing:
            continue
        return text, used_in(text, w.params)


__all__ = ["Array", "Written", "columns_in", "expressions", "queries"]
