"""Functions and names that people know from elsewhere, and how TQL says the same."""

from collections.abc import Mapping
from typing import Final

from tql.diagnostics import TqlError, error
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.language.expr import Expr
from tql.schema import Bool, DType, List

_LENGTH: Final = "the length of a list or group is  shape(x)[0]"
_CASE: Final = "texts compare without case by ILIKE:  x ilike 'cat'"
_PATTERN: Final = "texts match by LIKE:  x like 'a*'"
_ROUNDED: Final = "compare with a range:  x >= 2 and x < 3"
_CHOICE: Final = "sum the cases:  (x > 3) * 10 + (x <= 3) * 5"
_NULLS: Final = "test for NULL:  x is null or x > 3"
_TIME: Final = "pass a time as a parameter:  taken > ?"
_CONVERTED: Final = (
    "arithmetic converts numbers by itself:  x * 1.0  is a float; text is not converted"
)
_TEXTS: Final = "numbers are not converted to text; compare them as numbers:  x == 3"
_MEMBERS: Final = (
    "in a grouped query a column is the list of its values already:  select x group by y"
)
_FIRST: Final = "the first member of a group is  x[0],  the last  x[-1]"
_ELEMENTS: Final = "a list holds a value:  contains(x, 3)"
_PLACE: Final = "the place of a row is  row_number()"
_OWN: Final = "register a function of your own: tql.register_function"

_ELSEWHERE: Final[Mapping[str, str]] = {
    "min least smallest": "the smallest element of a list or group is  amin(x);  the row of the "
    "smallest x:  order by x limit 1",
    "max greatest largest": "the largest element of a list or group is  amax(x);  the row of the "
    "largest x:  order by x desc limit 1",
    "mean average": "the mean of the elements is  avg(x)",
    "total": "the sum of the elements is  sum(x)",
    "product": "the product of the elements is  prod(x)",
    "len length size cardinality array_length list_length num_elements ndims": _LENGTH,
    "char_length strlen": f"texts have no length here; {_OWN}",
    "lower upper lcase ucase casefold": _CASE,
    "starts_with startswith ends_with endswith regexp_matches regexp_like regexp matches": _PATTERN,
    "strpos instr position locate find": "a part of a text is found by  contains(x, 'cat')",
    "list_contains array_contains list_has array_has in_array has includes": _ELEMENTS,
    "round floor ceil ceiling trunc truncate int integer bigint": _ROUNDED,
    "if iff iif ifelse decode choose nullif": _CHOICE,
    "coalesce ifnull nvl isnotnull is_null is_not_null": _NULLS,
    "isnan is_nan": "NaN differs from itself:  x != x",
    "xor": "two conditions differ:  a != b",
    "mod modulo remainder": "the remainder is  x % y",
    "div divide": "divide with  x / y",
    "pow power square": "multiply:  x * x",
    "now today current_date current_timestamp current_time date time timestamp to_date to_timestamp "
    "year month day hour date_trunc date_part strftime epoch": _TIME,
    "cast try_cast convert float double real to_number": _CONVERTED,
    "str string text varchar": _TEXTS,
    "bool boolean": "a number is true where it is not 0:  x != 0",
    "rand uniform rnd randint": "a random number is  random()",
    "rownum rowid row_id row_index": _PLACE,
    "norm l2 euclidean_norm": "the length of a vector is  l2_norm(x)",
    "l2_distance euclidean distance list_distance array_distance": "write  l2_norm(x - y)",
    "cosine cosine_distance cos_sim cosine_sim list_cosine_similarity": "write  cosine_similarity(x, y)",
    "inner_product dot_product list_dot_product": "write  dot(x, y)",
    "hamming": "write  hamming_distance(x, y)",
    "bm25 match_bm25": "write  bm25_similarity(x, 'words')",
    "array_agg list collect_list group_concat string_agg": _MEMBERS,
    "first last any_value first_value last_value arbitrary": _FIRST,
    "unnest explode flatten": "the inverse of GROUP BY is  ungroup by split",
    "row count_rows": _PLACE,
    "len_distinct count_distinct approx_count_distinct": "write  select distinct x",
    "balance": "write  sample by balanced(x)",
    "weight weights weighted": "write  max_weight(x == 3: 10, true: 1)",
    "substring substr left right trim ltrim rtrim concat reverse split log ln log2 log10 exp sin cos "
    "tan sign std stddev var variance median mode quantile percentile percentile_cont hash md5": _OWN,
}  # fmt: skip
FUNCTIONS: Final = {name: way for names, way in _ELSEWHERE.items() for name in names.split()}

COLUMNS: Final = {
    "none": "NULL is tested by  x is null",
    "nil": "NULL is tested by  x is null",
    "undefined": "NULL is tested by  x is null",
    "nan": "NaN differs from itself:  x != x",
    "inf": "infinity is more than any number:  x > 1.79e308",
    "infinity": "infinity is more than any number:  x > 1.79e308",
    "top": "TOP takes a number:  select top 5 *",
    "current_date": _TIME,
    "current_time": _TIME,
    "current_timestamp": _TIME,
    "rowid": _PLACE,
    "rownum": _PLACE,
    "row_id": _PLACE,
    "_rowid_": _PLACE,
}


def compared_with_any(
    e: s.Binary, left: Expr, columns: Mapping[str, DType]
) -> TqlError | None:  # fmt: skip
    """The error for `x = any(list)`, which SQL reads as a comparison with each element; here any()
    and all() ask whether elements are true, so that `3 = any(tags)` would compare 3 with a bool.

    None where that may be meant: `left` is a bool, or a list, or the elements are truth values.
    """
    match e.right:
        case s.Call("any" | "all" as every, (one, *more)) if not isinstance(
            left.dtype, Bool | List
        ):
            listed = _elements(one, tuple(a for a in more if not isinstance(a, s.Star)), columns)
            if listed is None:
                return None
        case _:
            return None
    x, op = format_expr(e.left), e.op
    member = every == "any" and op is s.BinaryOp.EQ
    if member or (every == "all" and op is s.BinaryOp.NE):
        no = "" if member else "not "
        way_out = (
            f"{no}contains({listed}, {x})" if isinstance(one, s.Name) else f"{x} {no}in {listed}"
        )
    else:
        if listed.startswith("("):
            listed = f"array[{listed[1:-1]}]"
        way_out = f"{every}({x} {op.value} {listed})"
    return error("type", f"cannot compare {left.dtype} with {every}(…), a bool: whether "
                 f"{'an element is' if every == 'any' else 'all elements are'} true", e.right.span,
                 help=f"to compare with the elements, write  {way_out}")  # fmt: skip


def _elements(
    one: s.Expr | s.Star, more: tuple[s.Expr, ...], columns: Mapping[str, DType]
) -> str | None:
    """How a list of values is written that is no list of truth values; None for anything else."""
    match one:
        case s.Name(name, None) if not more:
            dtype = columns.get(name)
            values = isinstance(dtype, List) and not isinstance(dtype.item, Bool | List)
            return format_expr(one) if values else None
        case s.Array(items) if not more and not isinstance(items[0], s.Boolean | s.Array):
            return format_expr(one)
        case s.Parameter() if not more:
            return format_expr(one)
        case s.Number() | s.String():
            return f"({', '.join(map(format_expr, (one, *more)))})"
        case _:
            return None
