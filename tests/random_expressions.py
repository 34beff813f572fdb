"""Random typed expressions over the columns of a scope, as text that binds.

Every form of an expression is one entry of a table (NUMBERS, TRUTHS, ARRAYS, …): a weight, and a
function that writes it. PENDING names the entries that the package does not have yet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final, TypeVar

from tests.random_data import COLUMNS, Spec
from tests.strategies import NAMES, PATTERNS, TEXTS, quoted

T = TypeVar("T")

PENDING: frozenset[str] = frozenset()
"""Names of entries that are not drawn because the package refuses them."""

TIMES: Final = (
    "2023-12-09", "2023-12-10 06:00:00", "2023-12-10T06:00:01", "2023-12-11 12:00:00.5",
    "2023-12-10 06:00:00.500001", "2023-12-12", "1970-01-01", "2024-02-29 23:59:59.999999999",
)  # fmt: skip
SMALL: Final = ("0", "1", "-1", "2", "3", "0.5", "1.5", "-2.5")
ODD: Final = ("0.123", "-0.617", "1.291")
"""Numbers to compare what is not exact with: nothing comes close to them."""


class Nothing(Exception):
    """The scope has no column for this form."""


@dataclass(frozen=True)
class Name:
    """A column of a scope: how to write it, and what it is (as `Spec`)."""

    text: str
    kind: str
    item: str = ""
    rank: int = 0
    shape: str = ""


def stored(name: str, spec: Spec) -> Name:
    return Name(name, spec.kind, spec.item, spec.rank, spec.shape)


STORED: Final = tuple(stored(name, spec) for name, spec in COLUMNS.items())
ID: Final = Name("id", "number")


@dataclass(frozen=True)
class Array:
    """The text of an array; `shape` says which others it fits, "" none."""

    text: str
    item: str
    rank: int
    shape: str = ""


@dataclass
class Writer:
    """Writes expressions over `names`.

    The choices come from a generator that Hypothesis seeds, not from Hypothesis itself: its own draws
    repeat themselves, and half of the queries with them.

    params   values of `$p0`, `$p1`, … of the texts written so far
    tables   whether data() and bm25_similarity() have a table to look into
    """

    random: Random
    names: Sequence[Name] = STORED
    params: dict[str, Any] = field(default_factory=dict)
    tables: bool = True
    groups: bool = False

    # -- draws ---------------------------------------------------------------------------------

    def pick(self, choices: Sequence[T]) -> T:
        if not choices:
            raise Nothing
        return self.random.choice(choices)

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def whole(self, low: int, high: int) -> int:
        """A number from `low` to `high`."""
        return self.random.randint(low, high)

    def one_of(self, table: "dict[str, tuple[int, Callable[..., T]]]", *rest: Any) -> T:
        """What one entry writes; another one is tried where the scope lacks a column for it."""
        entries = [(w, f) for name, (w, f) in table.items() if name not in PENDING]
        for _ in range(8):
            try:
                at = self.whole(0, sum(w for w, _ in entries) - 1)
                for weight, write in entries:
                    at -= weight
                    if at < 0:
                        return write(self, *rest)
            except Nothing:
                continue
        raise Nothing

    def column(self, kind: str, **wanted: Any) -> Name:
        found = [
            n
            for n in self.names
            if n.kind == kind and all(getattr(n, k) == v for k, v in wanted.items())
        ]
        if not found:
            raise Nothing
        return self.pick(found)

    def over(self, names: Sequence[Name], **changes: Any) -> "Writer":
        """The same draws and parameters over another scope."""
        return replace(self, names=names, **changes)

    # -- literals ------------------------------------------------------------------------------

    def literal(self, value: Any) -> str:
        """The value as text, or now and then as a parameter."""
        if self.chance(12):
            name = f"p{len(self.params)}"
            self.params[name] = value
            return f"${name}"
        return written(value)

    def small(self) -> str:
        text = self.pick(SMALL)
        return self.literal(float(text) if "." in text else int(text))

    def text_literal(self) -> str:
        return self.literal(self.pick(TEXTS))

    # -- by kind -------------------------------------------------------------------------------

    def number(self, depth: int = 1) -> str:
        if depth <= 0:
            return self.column("number").text
        return self.one_of(NUMBERS, depth - 1)

    def truth(self, depth: int = 1) -> str:
        if depth <= 0:
            return self.one_of(TESTS, 0)
        return self.one_of(TRUTHS, depth - 1)

    def text(self) -> str:
        return self.one_of(TEXT_VALUES)

    def json(self) -> str:
        return self.one_of(JSON_VALUES)

    def array(self, depth: int = 1, item: str = "number", rank: int | None = None) -> Array:
        table = ARRAYS[item] if depth > 0 else LEAVES[item]
        for _ in range(8):
            found = self.one_of(table, depth - 1)
            if rank is None or found.rank == rank:
                return found
        raise Nothing

    def value(self, depth: int = 1) -> tuple[str, Name]:
        """Any expression, and what it is as a column of an outer query (its text left out)."""
        match self.whole(0, 11):
            case 0 | 1 | 2 | 3:
                return self.number(depth), Name("", "number")
            case 4 | 5:
                return self.truth(depth), Name("", "number")
            case 6:
                return self.text(), Name("", "text")
            case 7:
                return self.json(), Name("", "json value")
            case _:
                item = self.pick(["number", "number", "bool", "text"])
                a = self.array(depth, item)
                if "logical_" in a.text:  # which gives false where shapes differ: no array then
                    return a.text, Name("", "array or false")
                fixed = a.shape if a.shape in ("3", "2x3") else ""
                return a.text, Name("", "array", a.item, a.rank, fixed)


def written(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case list():
            return f"array[{', '.join(map(written, value))}]"
        case _:
            return repr(value)


# -- numbers -----------------------------------------------------------------------------------


def _arithmetic(w: Writer, depth: int) -> str:
    left, right = w.number(depth), w.number(0)
    op = w.pick("+-*/")
    return f"({left} {op} {right})" if w.chance(50) else f"({right} {op} {left})"


def _with_literal(w: Writer, depth: int) -> str:
    op, x = w.pick("+-*/%"), w.number(depth)
    if op == "%":
        return f"({x} % {w.literal(w.pick([2, 3, -3, 1.5]))})"
    return f"({x} {op} {w.small()})" if w.chance(60) else f"({w.small()} {op} {x})"


def _modulo(w: Writer, depth: int) -> str:
    """Zero makes it an error where both are integers."""
    return f"({w.number(depth)} % {w.column('number').text})"


def _of_number(function: str) -> Callable[[Writer, int], str]:
    return lambda w, depth: f"{function}({w.number(depth)})"


def _element(w: Writer, depth: int) -> str:
    a = w.array(depth, "number")
    return f"{a.text}[{', '.join(_index(w) for _ in range(a.rank))}]"


def _element_by_steps(w: Writer, depth: int) -> str:
    a = w.array(0, "number", 2)
    return f"{a.text}[{_index(w)}][{_index(w)}]"


def _index(w: Writer) -> str:
    if w.chance(15):
        return w.column("number", text=w.pick(["i8", "u8_n", "i64", "id"])).text
    return w.literal(w.whole(-3, 3))


REDUCTIONS: Final = ("sum", "avg", "amin", "amax", "prod", "l1_norm", "l2_norm", "linf_norm")


def _reduction(w: Writer, depth: int) -> str:
    return f"{w.pick(REDUCTIONS)}({w.array(depth, w.pick(['number', 'number', 'number', 'bool'])).text})"


def _reduction_of_scalar(w: Writer, depth: int) -> str:
    return f"{w.pick(REDUCTIONS)}({w.number(depth)})"


def _vectors(w: Writer) -> tuple[Array, Array]:
    a = w.array(0, "number", 1)
    if a.shape == "3" and w.chance(60):
        b = w.array(0, "number", 1)
        return a, b if b.shape == "3" else _literal_of_three(w)
    return a, a if not w.chance(50) else Array(f"({a.text} + {w.small()})", "number", 1, a.shape)


def _product(w: Writer, depth: int) -> str:
    a, b = _vectors(w)
    return f"{w.pick(['dot', 'hamming_distance'])}({a.text}, {b.text})"


def _cosine(w: Writer, depth: int) -> str:
    a, b = _vectors(w)
    return f"cosine_similarity({a.text}, {b.text})"


def _maxsim(w: Writer, depth: int) -> str:
    a = w.array(0, "number", 2)
    return f"maxsim({a.text}, {a.text})"


def _extent(w: Writer, depth: int) -> str:
    a = w.array(depth, w.pick(["number", "bool", "text", "label"]))
    return f"shape({a.text})[{w.whole(-3, 2)}]"


def _json_number(w: Writer, depth: int) -> str:
    return f"({w.json()} {w.pick('+-*/')} {w.small()})"


def _label_number(w: Writer, depth: int) -> str:
    return f"({w.column('label').text} {w.pick('+-*')} {w.small()})"


def _weight(w: Writer, depth: int) -> str:
    arms = [
        f"{w.truth(0)}: {w.pick(['1', '2', '0.5', '3', '0'])}" for _ in range(w.pick([1, 2, 3]))
    ]
    return f"{w.pick(['max_weight', 'sum_weight'])}({', '.join(arms)})"


def _data(w: Writer, depth: int) -> str:
    if not w.tables:
        raise Nothing
    return f"({w.number(0)} - data({w.column('number').text}, {w.pick(['0', '-1'])}))"


def _bm25(w: Writer, depth: int) -> str:
    if not w.tables:
        raise Nothing
    words = w.pick(["a", "b a", "ab", "zzz", "it s", "é"])
    return f"bm25_similarity({w.column('text').text}, {quoted(words)})"


def _row_number(w: Writer, depth: int) -> str:
    if w.groups:
        return "count(*)"
    if not w.tables:  # of what would be counted is not asked here
        raise Nothing
    return "row_number()"


Numbers = dict[str, tuple[int, Callable[..., str]]]
NUMBERS: Final[Numbers] = {
    "column": (14, lambda w, d: w.number(0)),
    "arithmetic": (6, _arithmetic),
    "arithmetic with a literal": (8, _with_literal),
    "modulo": (2, _modulo),
    "minus": (2, lambda w, d: f"(-{w.number(d)})"),
    "plus": (1, lambda w, d: f"(+{w.number(d)})"),
    "abs": (3, _of_number("abs")),
    "sqrt": (2, _of_number("sqrt")),
    "element": (6, _element),
    "element by steps": (2, _element_by_steps),
    "reduction": (8, _reduction),
    "reduction of a scalar": (1, _reduction_of_scalar),
    "dot, hamming_distance": (4, _product),
    "cosine_similarity": (2, _cosine),
    "maxsim": (1, _maxsim),
    "shape": (3, _extent),
    "arithmetic with JSON": (3, _json_number),
    "arithmetic with a label": (1, _label_number),
    "weights": (2, _weight),
    "data": (1, _data),
    "bm25_similarity": (1, _bm25),
    "row_number, count": (2, _row_number),
}
INEXACT: Final = ("cosine_similarity", "maxsim", "bm25_similarity", "avg", "norm", "dot")
"""What may differ in the last digits: an average of integers, a product, a norm."""


# -- truth values ------------------------------------------------------------------------------

COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=", "=", "<>")


def _not(w: Writer) -> str:
    return w.pick(["", "", "not "])


def is_exact(text: str) -> bool:
    return not any(name in text for name in INEXACT)


def _bound(w: Writer, x: str) -> str:
    """A number to compare `x` with."""
    if not is_exact(x):
        return w.pick(ODD)
    if w.chance(25):
        return w.literal(w.pick([127, 128, 255, -129, 65536, 16777217, 2**53 + 1, 2**63 - 1, 0.1]))
    return w.small()


def _number_test(w: Writer, depth: int) -> str:
    x = w.number(depth)
    match w.whole(0, 5):
        case 0 | 1:
            return f"({x} {w.pick(COMPARISONS)} {_bound(w, x)})"
        case 2 if is_exact(x):
            return f"({_bound(w, x)} {w.pick(COMPARISONS)} {x})"
        case 3 if is_exact(x):
            return f"({x} {_not(w)}between {_bound(w, x)} and {w.number(0)})"
        case 4 if is_exact(x):
            return f"({x} {_not(w)}in {_choices(w, [_bound(w, x) for _ in '123'], x)})"
        case 2:
            return f"({x} is {_not(w)}null)"
        case _:
            y = w.number(0)
            return f"({x} {w.pick(COMPARISONS)} {y})" if is_exact(x) else f"({x} > {w.pick(ODD)})"


def _choices(w: Writer, choices: list[str], x: str) -> str:
    if w.chance(25) and not any("$" in c for c in choices):
        return f"array[{', '.join(choices)}]"
    if w.chance(15):
        return f"${_list_parameter(w)}"
    extra = [w.number(0)] if w.chance(30) else []
    return f"({', '.join([*choices, *extra])})"


def _list_parameter(w: Writer) -> str:
    name = f"p{len(w.params)}"
    w.params[name] = w.pick([[1, 2, 5], [0.5, 1], [3]])
    return name


def _number_as_truth(w: Writer, depth: int) -> str:
    x = w.number(depth)
    return x if is_exact(x) else f"({x} > {w.pick(ODD)})"


def _text_test(w: Writer, depth: int) -> str:
    x = w.text()
    match w.whole(0, 6):
        case 0:
            return f"({x} {w.pick(COMPARISONS)} {w.text_literal()})"
        case 1:
            return f"({x} {w.pick(COMPARISONS)} {w.text()})"
        case 2:
            return f"({x} {_not(w)}in ({', '.join(w.text_literal() for _ in '12')}))"
        case 3:
            pattern = w.text() if w.chance(20) else w.literal(w.pick(PATTERNS))
            return f"({x} {_not(w)}{w.pick(['like', 'ilike'])} {pattern})"
        case 4:
            return f"contains({x}, {w.text() if w.chance(30) else w.text_literal()})"
        case 5:
            return f"({x} is {_not(w)}null)"
        case _:
            return f"({x} {_not(w)}between {w.text_literal()} and {w.text()})"


def _label_test(w: Writer, depth: int) -> str:
    x = w.column("label").text
    name = w.literal(w.pick(NAMES))
    match w.whole(0, 3):
        case 0:
            return f"({x} {w.pick(COMPARISONS)} {name})"
        case 1:
            return f"({x} {_not(w)}in ({name}, {quoted(w.pick(NAMES))}))"
        case 2:
            return f"contains({x}, {name})"
        case _:
            return f"({x} {_not(w)}between {name} and {quoted(w.pick(NAMES))})"


def _time_test(w: Writer, depth: int) -> str:
    zoned = w.chance(25)
    x = w.column("zoned" if zoned else "time").text
    written_times = [
        t + w.pick(["Z", "+02:00", "-05:30", ""]) if zoned and ":" in t else t for t in TIMES
    ]
    when = [w.literal(w.pick(written_times)) for _ in "12"]
    match w.whole(0, 4):
        case 0 | 1:
            return f"({x} {w.pick(COMPARISONS)} {when[0]})"
        case 2:
            return f"({x} {_not(w)}between {when[0]} and {when[1]})"
        case 3:
            return f"({x} {_not(w)}in ({when[0]}, {when[1]}))"
        case _:
            other = w.column("zoned" if zoned else "time").text
            return f"({x} {w.pick(COMPARISONS)} {other})"


def _json_test(w: Writer, depth: int) -> str:
    x = w.json()
    literal = w.literal(w.pick([0, 1, 2.5, True, "a", "ab", 2**53 + 1]))
    match w.whole(0, 7):
        case 0 | 1:
            return f"({x} {w.pick(COMPARISONS)} {literal})"
        case 2:
            return f"({x} {w.pick(COMPARISONS)} {w.json()})"
        case 3:
            return f"({x} {_not(w)}in ({literal}, {w.text_literal()}, 1))"
        case 4:
            return f"contains({x}, {literal})"
        case 5:
            return f"({x} is {_not(w)}null)"
        case 6:
            return f"({x} {_not(w)}like {quoted(w.pick(PATTERNS))})"
        case _:
            return w.pick([x, f"(any(keys({w.column('json').text}) == 'a'))"])


def _json_key(w: Writer, depth: int) -> str:
    name = w.column("json").text
    return w.pick([f"contains(keys({name}), 'b')", f"contains({name}, 'a')", f"({name} is null)",
                   f"(keys({name}['o'])[0] == 'k')"])  # fmt: skip


def _any_all(w: Writer, depth: int) -> str:
    a = w.array(depth + 1, w.pick(["bool", "bool", "number"]))
    return f"{w.pick(['any', 'any', 'all', 'all_strict'])}({a.text})"


def _contains(w: Writer, depth: int) -> str:
    item = w.pick(["number", "number", "text", "label"])
    a = w.array(depth, item)
    if not is_exact(a.text):
        raise Nothing
    if item == "text":
        return f"contains({a.text}, {w.text() if w.chance(30) else w.text_literal()})"
    if item == "label":
        return f"contains({a.text}, {w.literal(w.pick(NAMES))})"
    return f"contains({a.text}, {w.number(0) if w.chance(30) else w.small()})"


def _contains_slice(w: Writer, depth: int) -> str:
    a = w.column("array", rank=2, item="number").text
    return f"contains({a}, {w.literal([w.whole(-2, 2) for _ in range(w.pick([3, 4]))])})"


def _element_test(w: Writer, depth: int) -> str:
    item = w.pick(["text", "label", "bool"])
    x = f"{w.array(depth, item, 1).text}[{_index(w)}]"
    if item == "bool":
        return x
    y = quoted(w.pick(TEXTS if item == "text" else NAMES))
    return f"({x} {w.pick(['==', '!=', '<'])} {y})"


def _array_is_null(w: Writer, depth: int) -> str:
    if w.groups:  # of each member
        raise Nothing
    return f"({w.array(depth).text} is {_not(w)}null)"


def _chain(w: Writer, depth: int) -> str:
    terms = [w.truth(depth) for _ in range(w.pick([2, 2, 3]))]
    word = w.pick([" and ", " or "])
    return f"({word.join(terms)})"


def _equals(w: Writer, depth: int) -> str:
    return w.pick(
        [
            f"equals({w.number(0)}, {w.small()})",
            f"contains({w.number(0)}, {w.small()})",
            f"(true == {w.number(0)})",
        ]
    )


Truths = dict[str, tuple[int, Callable[..., str]]]
TESTS: Final[Truths] = {
    "number test": (8, _number_test),
    "number as truth": (2, _number_as_truth),
    "text test": (4, _text_test),
    "label test": (2, _label_test),
    "time test": (3, _time_test),
    "JSON test": (4, _json_test),
    "JSON key": (1, _json_key),
    "any, all": (6, _any_all),
    "contains": (4, _contains),
    "contains a slice": (1, _contains_slice),
    "element test": (2, _element_test),
    "array is null": (1, _array_is_null),
    "equals": (1, _equals),
}
TRUTHS: Final[Truths] = {
    **TESTS,
    "not": (3, lambda w, d: f"(not {w.truth(d)})"),
    "and, or": (9, _chain),
}

# -- text, JSON --------------------------------------------------------------------------------


def _text_element(w: Writer) -> str:
    return f"{w.array(0, 'text', 1).text}[{_index(w)}]"


def _text_of_data(w: Writer) -> str:
    if not w.tables:
        raise Nothing
    return f"data({w.column('text').text}, {w.pick(['0', '-1'])})"


TEXT_VALUES: Final[dict[str, tuple[int, Callable[..., str]]]] = {
    "text column": (10, lambda w: w.column("text").text),
    "text element": (2, _text_element),
    "data": (1, _text_of_data),
}
PATHS: Final = (
    "['a']", "['b']", "['c']", "['x']", "['m']", "['l'][0]", "['l'][-1]", "['l'][5]", "['o']['k']",
    "['o']['t']", "['m'][0]", "['m']['k']", "['nosuch']", "['a']['b']",
)  # fmt: skip


def _path(w: Writer) -> str:
    path = w.pick(PATHS)
    return w.column("json").text + path


JSON_VALUES: Final[dict[str, tuple[int, Callable[..., str]]]] = {
    "path": (9, _path),
    "JSON value": (1, lambda w: w.column("json value").text),
}

# -- arrays ------------------------------------------------------------------------------------


def _array_column(item: str) -> Callable[[Writer, int], Array]:
    def write(w: Writer, depth: int) -> Array:
        c = w.column("array", item=item)
        # NULL elements and NULL rows change no shape; a column and its variants differ in theirs.
        return Array(c.text, item, c.rank, c.shape if c.shape in ("3", "2x3") else c.text)

    return write


def _literal_of_three(w: Writer) -> Array:
    values = [w.pick([0, 1, -1, 2.5]) for _ in "123"]
    return Array(w.literal(values), "number", 1, "3")


def _arithmetic_with_scalar(w: Writer, depth: int) -> Array:
    a, op = w.array(depth), w.pick("+-*/%")
    if op == "%":
        x = w.literal(w.pick([2, 3, -3, 1.5]))
        return replace(a, text=f"({a.text} % {x})")
    x = w.number(0) if w.chance(25) else w.small()
    return replace(a, text=f"({a.text} {op} {x})" if w.chance(70) else f"({x} {op} {a.text})")


_RAGGED: Final = ("li", "li_e", "lu", "lf_n", "ld")


def _fellow(w: Writer, a: Array, item: str = "number") -> Array:
    """An array of the same shape."""
    if a.shape in ("3", "2x3"):
        for _ in range(4):
            b = w.array(0, item)
            if b.shape == a.shape:
                return b
        if a.shape == "3" and item == "number":
            return _literal_of_three(w)
    return a


def _arithmetic_of_arrays(w: Writer, depth: int) -> Array:
    a = w.array(depth)
    b = _fellow(w, a)
    if a.text in _RAGGED and w.chance(15):  # which may not fit
        b = replace(b, text=w.column("array", text=w.pick(_RAGGED)).text)
    return replace(a, text=f"({a.text} {w.pick('+-*/')} {b.text})")


def _broadcast(w: Writer, depth: int) -> Array:
    """A matrix with a row of its width."""
    name, width = w.pick([("boxes", 4), ("mat", 3)])
    a = w.column("array", text=w.pick([name, name + "_n"]))
    row = w.literal([w.whole(-2, 2) for _ in range(width)])
    return Array(
        f"({a.text} {w.pick('+-*')} {row})", "number", 2, a.shape if name == "mat" else a.text
    )


def _array_function(w: Writer, depth: int) -> Array:
    a = w.array(depth)
    return replace(a, text=f"{w.pick(['abs', 'sqrt', '-', '-'])}({a.text})")


def _slice(w: Writer) -> str:
    bounds = [w.pick(["", "", *map(str, range(-3, 4))]) for _ in "12"]
    step = w.pick(["", "", "", ":2", ":-1", ":-2", ":1"])
    return f"{bounds[0]}:{bounds[1]}{step}"


def _sliced(item: str) -> Callable[[Writer, int], Array]:
    def write(w: Writer, depth: int) -> Array:
        a = w.array(depth, item)
        parts = [_slice(w), *(w.pick([":", _slice(w)]) for _ in range(a.rank - 1))]
        text = ", ".join(parts[: w.pick(range(1, a.rank + 1))])
        return Array(f"{a.text}[{text}]", item, a.rank, f"{a.shape}[{text}]" if a.shape else "")

    return write


def _lower(item: str) -> Callable[[Writer, int], Array]:
    """Some dimensions by an index, the others by a slice or left out."""

    def write(w: Writer, depth: int) -> Array:
        a = w.array(depth, item)
        if a.rank < 2:
            raise Nothing
        index = w.literal(w.whole(-2, 2))
        parts = w.pick([[index], [":", index], [_slice(w), index], [index, _slice(w)]])
        return Array(f"{a.text}[{', '.join(parts)}]", item, a.rank - 1)

    return write


def _reduced_along(w: Writer, depth: int) -> Array:
    a = w.array(depth)
    if a.rank < 2:
        raise Nothing
    axis = w.whole(-a.rank, a.rank - 1)
    spelling = w.pick([f"axis = {axis}", f"axis={axis}", str(axis)])
    name = w.pick(["sum", "avg", "amin", "amax", "prod"])
    return Array(f"{name}({a.text}, {spelling})", "number", a.rank - 1)


def _truths_along(w: Writer, depth: int) -> Array:
    a = w.array(depth, w.pick(["number", "bool"]))
    if a.rank < 2:
        raise Nothing
    axis = w.whole(-a.rank, a.rank - 1)
    return Array(f"{w.pick(['any', 'all'])}({a.text}, axis = {axis})", "bool", a.rank - 1)


def _positions(w: Writer, depth: int) -> Array:
    return Array(f"nonzero({w.array(depth, w.pick(['number', 'bool'])).text})", "number", 1)


def _shape(w: Writer, depth: int) -> Array:
    a = w.array(depth, w.pick(["number", "number", "text", "label"]))
    return Array(f"shape({a.text})", "number", 1)


def _comparison(w: Writer, depth: int) -> Array:
    a = w.array(depth)
    if not is_exact(a.text):
        return replace(a, text=f"({a.text} > {w.pick(ODD)})", item="bool")
    match w.whole(0, 3):
        case 0:
            other = w.number(0)
        case 1:
            other = _fellow(w, a).text
        case _:
            other = w.small()
    text = f"({a.text} {w.pick(COMPARISONS)} {other})"
    return replace(a, text=text, item="bool")


def _comparison_of_texts(w: Writer, depth: int) -> Array:
    a = w.array(depth, "text")
    other = w.text_literal() if w.chance(80) else w.text()
    return replace(a, text=f"({a.text} {w.pick(COMPARISONS)} {other})", item="bool")


def _comparison_of_labels(w: Writer, depth: int) -> Array:
    a = w.array(0, "label")
    return replace(
        a, text=f"({a.text} {w.pick(COMPARISONS)} {w.literal(w.pick(NAMES))})", item="bool"
    )


def _member_test(w: Writer, depth: int) -> Array:
    """What takes single values takes those of each member of a group."""
    if not w.groups:
        raise Nothing
    negated = _not(w)
    if w.chance(50):
        x = w.column("array", item="text").text
        test = w.pick(
            [f"like {quoted(w.pick(PATTERNS))}", f"in ({w.text_literal()}, {w.text_literal()})"]
        )
    else:
        x = w.column("array", item="number").text
        test = w.pick([f"between {w.small()} and {w.small()}", f"in ({w.small()}, {w.small()})"])
    return Array(f"({x} {negated}{test})", "bool", 1, "group")


def _array_not(w: Writer, depth: int) -> Array:
    a = w.array(depth, "bool")
    return replace(a, text=f"(not {a.text})")


def _array_chain(w: Writer, depth: int) -> Array:
    a = w.array(depth, "bool")
    word = w.pick(["and", "or"])
    if w.chance(40):
        return replace(a, text=f"logical_{word}({a.text}, {a.text})")
    return replace(a, text=f"({a.text} {word} {_fellow(w, a, 'bool').text})")


def _keys(w: Writer, depth: int) -> Array:
    return Array(f"keys({w.column('json').text})", "text", 1)


Arrays = dict[str, tuple[int, Callable[..., Array]]]
ARRAYS: Final[dict[str, Arrays]] = {
    "number": {
        "array column": (16, _array_column("number")),
        "array literal": (1, lambda w, d: _literal_of_three(w)),
        "array with a scalar": (5, _arithmetic_with_scalar),
        "array with an array": (4, _arithmetic_of_arrays),
        "broadcast": (1, _broadcast),
        "function of an array": (2, _array_function),
        "slice": (4, _sliced("number")),
        "index and slice": (4, _lower("number")),
        "reduction along an axis": (2, _reduced_along),
        "nonzero": (1, _positions),
        "shape": (1, _shape),
    },
    "bool": {
        "array column": (2, _array_column("bool")),
        "comparison of arrays": (8, _comparison),
        "comparison of texts": (2, _comparison_of_texts),
        "comparison of labels": (2, _comparison_of_labels),
        "not of an array": (1, _array_not),
        "test of members": (3, _member_test),
        "and, or of arrays": (2, _array_chain),
        "slice": (1, _sliced("bool")),
        "any, all along an axis": (1, _truths_along),
    },
    "text": {
        "array column": (8, _array_column("text")),
        "slice": (2, _sliced("text")),
        "keys": (1, _keys),
    },
    "label": {
        "array column": (8, _array_column("label")),
        "slice": (2, _sliced("label")),
    },
}
LEAVES: Final[dict[str, Arrays]] = {
    "number": {"array column": (1, _array_column("number"))},
    "bool": {"array column": (1, _array_column("bool")), "comparison": (3, _comparison)},
    "text": {"array column": (4, _array_column("text")), "keys": (1, _keys)},
    "label": {"array column": (1, _array_column("label"))},
}
