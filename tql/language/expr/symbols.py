"""What nodes are told apart by: operators, and the functions that a call may name."""

from enum import StrEnum
from typing import Final, Literal, TypeAlias


class CompareOp(StrEnum):
    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="

    @property
    def mirrored(self) -> "CompareOp":
        """The operator with its operands exchanged."""
        return _MIRRORED[self]

    @property
    def negated(self) -> "CompareOp":
        """The operator that holds where this one does not; not for floats, where NaN is neither."""
        return _NEGATED[self]


_MIRRORED: Final = {
    CompareOp.EQ: CompareOp.EQ,
    CompareOp.NE: CompareOp.NE,
    CompareOp.LT: CompareOp.GT,
    CompareOp.LE: CompareOp.GE,
    CompareOp.GT: CompareOp.LT,
    CompareOp.GE: CompareOp.LE,
}


_NEGATED: Final = {
    CompareOp.EQ: CompareOp.NE,
    CompareOp.NE: CompareOp.EQ,
    CompareOp.LT: CompareOp.GE,
    CompareOp.LE: CompareOp.GT,
    CompareOp.GT: CompareOp.LE,
    CompareOp.GE: CompareOp.LT,
}


class ArithOp(StrEnum):
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    MOD = "%"


# The type checkers follow these names from the binders to both tiers: one that is misspelt in a
# call or in a `case` is an error there. `like`, `ilike` and `in` are operators; the first two of
# rows that have a pattern each, the last of JSON.
TruthName: TypeAlias = Literal["any", "all", "all_strict"]
TotalName: TypeAlias = Literal["sum", "prod"]
ExtremeName: TypeAlias = Literal["amin", "amax"]
NormName: TypeAlias = Literal["l1_norm", "l2_norm", "linf_norm"]
LogicalName: TypeAlias = Literal["logical_and", "logical_or"]
ProductName: TypeAlias = Literal["dot", "cosine_similarity"]
PairName: TypeAlias = Literal[ProductName, "hamming_distance"]
ReductionName: TypeAlias = Literal[TruthName, TotalName, ExtremeName, NormName, "avg"]
LikeName: TypeAlias = Literal["like", "ilike"]
OfSource: TypeAlias = Literal["data", "bm25_similarity"]  # evaluated once FROM is known as a whole
CallName: TypeAlias = Literal[
    ReductionName, LogicalName, PairName, LikeName, OfSource,
    "abs", "contains", "in", "keys", "maxsim", "nonzero", "random", "row_number", "shape", "sqrt",
]  # fmt: skip
