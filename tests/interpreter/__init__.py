"""A second opinion: TQL as its reference describes it, row by row, on Python values.

It interprets the syntax tree and shares nothing with the package but the parser: neither the
binder nor the engine. Slow is fine here; clear is the point. Where the package and this disagree,
the reference of the language decides who is wrong.

kinds         the types of values; what an Arrow column holds, as Python values
scalars       numbers, comparison, patterns, times
arrays        shapes, subscripts, reductions, vectors
json_values   paths, comparison and order of JSON values
functions     the functions of the language
expressions   the value of an expression for a row
relations     rows with columns, and where they came from
scopes        what the parts of a query may refer to, and the errors of their rows
keys          equality and order of keys
select_list   the columns of a result
grouping      EXPAND BY, GROUP BY, UNGROUP BY
joins         FROM with several sources
set_operations  UNION, INTERSECT, EXCEPT
queries       whole queries
"""
