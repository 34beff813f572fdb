"""What people bring along from SQL, Python and plain English, and how TQL says it."""

from typing import Final

from tql.grammar.mistakes import Mistake

_STATEMENTS: Final = (
    "alter|begin|call|commit|copy|create|delete|drop|exec|execute|export|"
    "grant|import|insert|load|merge|prepare|revoke|rollback|set|truncate|update|use|values"
)

# No word before which an operand is missing.
_NO_OPERAND: Final = "".join(
    rf"(?<!\b{word})"
    for word in [
        "from",
        "join",
        "as",
        "by",
        "in",
        "and",
        "or",
        "where",
        "not",
        "on",
        "like",
        "between",
        "having",
        "limit",
        "offset",
    ]
)
_CASES: Final = "sum the cases: (a > 3) * 10 + (a <= 3) * 5"

HABITS: Final = (
    # words for operators
    Mistake(r"(?<!⊢) ▸(mod|modulo|rem) ", "'{word}' is not an operator", "write: a % 2"),
    Mistake(r"(?<!⊢) ▸div ", "'{word}' is not an operator", "divide with: a / 2"),
    Mistake(
        r"/ ▸/ ",
        "'//' is neither an operator nor a comment",
        "divide with / ; a comment starts with -- or #",
        back=1,
    ),
    Mistake(
        r"(?<!⊢) ▸(equals?|eq|same) ", "'{word}' is not an operator", "equality is written: a == 3"
    ),
    Mistake(
        r"(?<!⊢) ▸(greater|more|larger|bigger|gt|above) ",
        "'{word}' is not an operator",
        "write: a > 3",
    ),
    Mistake(
        r"(?<!⊢) ▸(less|smaller|fewer|lt|below|under) ",
        "'{word}' is not an operator",
        "write: a < 3",
    ),
    Mistake(r"(?<!⊢) ▸xor ", "'xor' is not an operator", "two conditions differ: a != b"),
    Mistake(
        r"(?<!⊢) ▸(contains?|has|includes?) ",
        "'{word}' is not an operator",
        "contains is a function: contains(a, 'text')",
    ),
    Mistake(
        r"(?<!⊢) ▸(starts?|startswith|ends?|endswith|match|matches|regexp|rlike|similar|glob) ",
        "'{word}' is not an operator",
        "write: a like 'x*', where * is any text and ? one character",
    ),
    Mistake(
        r"\bis ▸(greater|more|larger|bigger|above|less|smaller|below|equal|at) ",
        "'is' takes only NULL, after it {found}",
        "compare with a > 3, a < 3 or a == 3",
    ),
    Mistake(r"\bis ▸in ", "'is' does not stand before 'in'", "write: a in (1, 2)"),
    Mistake(r"\bis ▸like ", "'is' does not stand before 'like'", "write: a like 'x*'"),
    Mistake(
        r"\bis (not )?▸(true|false) ",
        "'is' takes only NULL, after it {found}",
        "a column of truth values is a condition by itself: where a, where not a",
    ),
    Mistake(
        r"\bis not ▸nan ",
        "'is' takes only NULL, after it {found}",
        "NaN is the value that differs from itself, so any other is found by: a == a",
    ),
    Mistake(
        r"\bis (not )?▸(nan|inf|infinity|empty|none|undefined) ",
        "'is' takes only NULL, after it {found}",
        "NaN is the value that differs from itself: a != a; an empty text is a == ''",
    ),
    Mistake(
        r"(<|>|=|!=|<>) ▸! ", "'{operator}' is not an operator", "not equal is written: a != 3"
    ),
    Mistake(
        r" (<|>) ▸==? ",
        "'{operator}' is not an operator",
        "write <= or >= without a blank inside",
    ),
    # NULL
    Mistake(
        r"(?<!not) ▸(isnotnull|notnull|not_null|is_not_null) ",
        "'{word}' is not an operator",
        "write: a is not null",
        "unsupported",
    ),
    Mistake(
        r"\bin \( (.* )?▸null ",
        "NULL is no item of a list: nothing equals it",
        "write: a in (1, 2) or a is null",
        "unsupported",
    ),
    Mistake(
        r" not ▸null ", "'is' is missing before 'not null'", "write: a is not null", "unsupported"
    ),
    Mistake(
        r"▸nulls (first|last) ",
        "NULLS FIRST and NULLS LAST are not part of TQL",
        "NULL is last in both directions; to have it first: order by a is null desc, a",
        "unsupported",
    ),
    # conditions of other languages
    Mistake(r"\? \S+ ▸: ", "'? :' is not part of TQL", _CASES, "unsupported"),
    Mistake(
        r"(?<!⊢) ▸\? (\S+ :|⊣|from)", "'?' is not an operator", "a value for each case: " + _CASES
    ),
    Mistake(r"\bif ▸\S+ else ", "IF … ELSE is not part of TQL", _CASES, "unsupported"),
    Mistake(r"\blambda ▸", "a condition has no lambda", "write it directly: where a > 3"),
    Mistake(
        r"\blike \( '…' ▸, ", "LIKE takes one pattern", "write: a like 'x*' or a like 'y*'"
    ),
    Mistake(
        r"▸escape ",
        "ESCAPE is not part of TQL",
        r"a backslash makes the next character of a pattern literal: a like '100\%'",
        "unsupported",
    ),
    Mistake(
        r"\blike [^\W\d]\w* \* ▸",
        "a pattern is a text",
        "write it in single quotes: a like 'x*'",
    ),
    Mistake(r"▸collate ", "COLLATE is not part of TQL", "leave it out", "unsupported"),
    Mistake(
        r"▸over \(|\bover ▸\(", 
        "window functions are not part of TQL",
        "row_number() stands alone; group by gives sequences: select count(*) as n group by a",
        "unsupported",
    ),
    # methods
    Mistake(r"\. ▸(isnull|isna) \( ", "a column has no methods", "write: a is null", back=1),
    Mistake(r"\. (isnull|isna|notnull|notna) ▸\( ", "a column has no methods",
            "write: a is null, or a is not null", back=1),
    Mistake(r"\. contains ▸\( ", "a column has no methods", "write: contains(a, 'x')", back=1),
    Mistake(r"\. (any|all|sum|shape|abs|sqrt) ▸\( ", "a column has no methods",
            "functions stand before their values: {before}(a)", back=1),
    Mistake(r"\. (isin|is_in|in_) ▸\( ", "a column has no methods", "write: a in (1, 2)", back=1),
    Mistake(r"\. between ▸\( |\. ▸between \( ", "a column has no methods",
            "write: a between 1 and 5", back=1),
    Mistake(r"\. (startswith|endswith|match|like|str_contains) ▸\( ", "a column has no methods",
            "write: a like 'x*', where * is any text and ? one character", back=1),
    Mistake(r"\. str ▸\. ", "a column has no methods",
            "write: contains(a, 'x'), or a like 'x*'", back=1),
    # lists
    Mistake(r" in ▸\[ ", "a list after 'in' stands in parentheses", "write: a in (1, 2)"),
    Mistake(
        r"(?<!is) in ▸(0|'…'|-|[^\W\d]\w*) ",
        "'in' takes a list, found {found}",
        "write: a in (1, 2), or a == 1; for a part of a text or of an array: contains(a, 'x')",
    ),
    Mistake(r"(?<![⊢,(]) not ▸\( ", "'not' does not stand alone here", "write: a not in (1, 2)"),
    Mistake(r"\bbetween ▸\[ ", "BETWEEN takes two bounds", "write: a between 1 and 5"),
    Mistake(
        r"\bbetween (- |\+ )?\S+ ▸(⊣|where|order|limit|group|sample|\)) ",
        "BETWEEN takes two bounds",
        "write: a between 1 and 5",
    ),
    Mistake(r"\barray ▸\( ", "an array stands in square brackets", "write: array[1, 2]"),
    Mistake(
        r"\barray \[ ▸\[ ",
        "an array of arrays names each of them",
        "write: array[array[1, 2], array[3, 4]]",
    ),
    Mistake(
        r": \S+ : \S+ ▸: ", "a slice has at most three parts", "write: a[start:stop:step]"
    ),
    Mistake(r"\. ▸'…'", "a key stands in square brackets", "write: meta['key']"),
    # parameters
    Mistake(
        r"% ▸|▸% ",
        "'%s' is not a parameter",
        "write ? or $name, and pass the values with params=",
        text=r"%s|%\(",
    ),
    # clauses
    Mistake(r"(?<!⊢) ▸sort ", "'sort' is not a word of TQL", "write: order by a"),
    Mistake(r"\bsort by ▸", "'sort' is not a word of TQL", "write: order by a"),
    Mistake(
        r"▸(descending|decreasing) ", "'{word}' is not a direction", "write: order by a desc"
    ),
    Mistake(r"▸(ascending|increasing) ", "'{word}' is not a direction", "write: order by a asc"),
    Mistake(
        r"(?<!⊢) ▸(take|head|first|fetch) (0|first|next) ",
        "'{word}' is not a word of TQL",
        "write: limit 10",
    ),
    Mistake(r"(?<!⊢) ▸skip 0 ", "'skip' is not a word of TQL", "write: offset 10"),
    Mistake(r"\blimit (0|all) ▸0 ", "LIMIT takes one number", "write: limit 10 offset 5"),
    Mistake(r"\blimit \S+ ▸(rows?|records?|items?|samples?|only) ",
            "after the number of rows, LIMIT takes nothing but PERCENT", "write: limit 10"),
    Mistake(r"⊢ select top ▸?[^\W\d]\w* ▸?\* ", "TOP takes a number in digits",
            "write: select top 5 *", culprit=r"(?!select|top)[^\W\d]\w*"),
    Mistake(
        r"\bselect top \( 0 \) \* ▸",
        "TOP takes a number without parentheses",
        "write: select top 5 *",
    ),
    Mistake(r"\bselect all ▸", "ALL does not stand after SELECT", "leave it out: select a"),
    Mistake(r"\bdistinct ▸distinct ", "'distinct' stands twice", "remove one 'distinct'"),
    Mistake(r"\bselect ▸select ", "'select' stands twice", "remove one 'select'"),
    Mistake(
        rf"(?<![(⊢,;=<>+*/-]){_NO_OPERAND}(?<!\bminus) ▸select ",
        "a second 'select' without a word between the queries",
        "write: (select …) union (select …); a query inside of another stands in FROM (…)",
    ),
    Mistake(
        r"▸(orderby|order_by) ", "'{word}' is not a word of TQL", "write: order by a"
    ),
    Mistake(
        r"▸(groupby|group_by) ", "'{word}' is not a word of TQL", "write: group by a"
    ),
    Mistake(
        r"\bdistinct on ▸[^(]", "DISTINCT ON takes its keys in parentheses",
        "write: select distinct on (a) *",
    ),
    Mistake(
        r"\* (▸exclude |▸replace \(|except (\( )?▸[^\W\d])",
        "'*' takes no list of columns to leave out or replace",
        "name the columns: select a, b",
        "unsupported",
    ),
    Mistake(r"(select|,) \* ▸[^\W\d]\w* (,|⊣|from|where)", "a column follows '*'",
            "put a comma between them: select *, {word} * 2 as twice; or leave one out"),
    Mistake(
        r"(select|,) [^\W\d]\w* \* ▸(⊣|from|where|limit|order) ",
        "'*' multiplies here, and nothing follows it",
        "put a comma between a column and the star: select a, *",
    ),
    Mistake(r"\bas ▸(⊣|,|\)|from |where )", "an alias is missing after 'as'", "write: a as NAME"),
    Mistake(
        r"\bas ▸0 ", "an alias is a name, not a number", 'write it in double quotes: as "{word}"'
    ),
    Mistake(r"\b(and|or|,) ▸where ", "'where' stands twice", "leave out the second 'where'"),
    Mistake(
        r"(from|join) ▸select ",
        "a subquery stands in parentheses",
        "write: from (select …)",
    ),
    Mistake(r"▸into ", "SELECT INTO is not part of TQL",
            "save the result: view.to_arrow(), or tql run --output", "unsupported"),
    Mistake(r"▸for (update|share) ", "FOR UPDATE is not part of TQL", "leave it out", "unsupported"),
    Mistake(r"▸tablesample ", "TABLESAMPLE is not part of TQL",
            "a tenth of the rows: sample by 0.1", "unsupported"),
    Mistake(r"\bunion ▸distinct ", "UNION without ALL removes duplicates",
            "leave out 'distinct'"),
    Mistake(r"\bunion (all )?▸by ", "UNION goes by the names of columns already",
            "leave out 'by name'"),
    Mistake(r"\busing ▸[^(]", "USING takes its names in parentheses", "write: using (id)"),
    Mistake(r"▸outer join ", "'outer' follows 'left', 'right' or 'full'",
            "write: left outer join, right outer join or full outer join"),
    Mistake(r"\b(left|right|full|inner) ▸[^\W\d]\w* ", "'join' is missing", "write: {before} join"),
    # sampling, expanding
    Mistake(r"\bsample by .*limit \S+ (percent )?▸replace ", "REPLACE comes before LIMIT",
            "write: sample by a replace false limit 10"),
    Mistake(r"\bsample by .*▸(size|count|n|num) 0 ", "'{word}' is not a word of TQL",
            "write: sample by a limit 10"),
    Mistake(r"▸with replacement ", "WITH REPLACEMENT is not part of TQL",
            "write: replace true", "unsupported"),
    Mistake(r"▸without replacement ", "WITHOUT REPLACEMENT is not part of TQL",
            "write: replace false", "unsupported"),
    Mistake(r"\bsample by 0 ▸(percent|%) ", "SAMPLE BY takes a weight, not a percentage",
            "write: sample by 0.1, which draws a tenth of the rows"),
    Mistake(r"\bsample ▸0 ", "'by' is missing after 'sample'",
            "write: sample by 0.1, or sample by 1 replace false limit 10"),
    Mistake(r"\bexpand by \S+ ,? ?\S+ ▸(,|0) ", "EXPAND BY takes two numbers",
            "write: expand by 2, 3"),
    Mistake(r"\bungroup ▸(?!by )|\bungroup by ▸", "UNGROUP BY takes nothing but SPLIT",
            "write: ungroup by split"),
    # what is left: brackets where a value starts
    Mistake(r"\busing \( ▸\)", "USING takes its names in parentheses", "write: using (id)"),
    Mistake(r"▸0 ", "an element stands in square brackets", "write: a[0]",
            text=r"^.?[\w\])]\.\d"),
    Mistake(r"▸\[ ", "a value does not start with '['",
            "an array is written array[1, 2]; parentheses group: (a or b)"),
)  # fmt: skip

BEGINNINGS_AND_ENDS: Final = (
    Mistake(r"; ▸; ", "a second ';'", "one ';' at the end is enough"),
    Mistake(r"⊢ ▸;", "empty query", "the shortest query is: select *"),
    Mistake(r"⊢ ▸(explain|analyze) ", "EXPLAIN is not part of TQL",
            "plans are shown by 'tql explain' and by ds.explain(query)", "unsupported"),
    Mistake(r"⊢ ▸(show|describe|desc|pragma) ", "only SELECT is a statement of TQL",
            "columns are shown by 'tql schema' and by ds.schema; or: select *", "unsupported"),
    Mistake(rf"⊢ ▸({_STATEMENTS}) ", "only SELECT is a statement of TQL",
            "queries only read; keep a result with view.to_arrow() or 'tql run --output'",
            "unsupported"),
    Mistake(r"⊢ ▸(union|intersect|except) ", "'{word}' stands between two queries",
            "write: select … {word} select …"),
    Mistake(r"⊢ ▸[^\W\d]\w* select ", "a query starts with 'select'", "remove '{word}'"),
    Mistake(r"⊢ ▸[^\W\d]\w* (==?|!=|<|<=|>|>=|in|like|is|between|and|or) ",
            "a query starts with 'select'", "write: select * where {word} …"),
    Mistake(r"⊢ ▸\* ", "a query starts with 'select'", "write: select *"),
)  # fmt: skip
