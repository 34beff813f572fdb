"""Query and sample training data: which rows, how often, in which order.

>>> import tql
>>> ds = tql.open("demo:digits")
>>> view = ds.query("select * where labels != 5")

Names are loaded on first use, so `import tql` costs nothing: no NumPy, no Arrow, no compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tql.api import (
        balanced,
        format,
        is_filter,
        keywords,
        open,
        parse,
        query,
        register_function,
        unregister_function,
    )
    from tql.chain import DataLoader
    from tql.dataset import Dataset, PreparedQuery, View
    from tql.diagnostics import (
        TqlDataError,
        TqlError,
        TqlNameError,
        TqlPlanError,
        TqlSyntaxError,
        TqlTypeError,
        TqlUnsupportedError,
    )
    from tql.planner import IndexStream, Plan
    from tql.remaking import load_plan
    from tql.reports.explain import Explanation

__version__: Final = "0.1.0"

_HOME: Final = {
    "DataLoader": "tql.chain",
    "Dataset": "tql.dataset",
    "Explanation": "tql.reports.explain",
    "IndexStream": "tql.planner",
    "Plan": "tql.planner",
    "PreparedQuery": "tql.dataset",
    "TqlDataError": "tql.diagnostics",
    "TqlError": "tql.diagnostics",
    "TqlNameError": "tql.diagnostics",
    "TqlPlanError": "tql.diagnostics",
    "TqlSyntaxError": "tql.diagnostics",
    "TqlTypeError": "tql.diagnostics",
    "TqlUnsupportedError": "tql.diagnostics",
    "View": "tql.dataset",
    "balanced": "tql.api",
    "format": "tql.api",
    "is_filter": "tql.api",
    "keywords": "tql.api",
    "load_plan": "tql.remaking",
    "open": "tql.api",
    "parse": "tql.api",
    "query": "tql.api",
    "register_function": "tql.api",
    "unregister_function": "tql.api",
}

__all__ = [
    "DataLoader",
    "Dataset",
    "Explanation",
    "IndexStream",
    "Plan",
    "PreparedQuery",
    "TqlDataError",
    "TqlError",
    "TqlNameError",
    "TqlPlanError",
    "TqlSyntaxError",
    "TqlTypeError",
    "TqlUnsupportedError",
    "View",
    "balanced",
    "format",
    "is_filter",
    "keywords",
    "load_plan",
    "open",
    "parse",
    "query",
    "register_function",
    "unregister_function",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'tql' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
