"""What the nodes of an explanation are called, and the line beside the name."""

from typing import assert_never

from tql.diagnostics import counted
from tql.language.plan import Count, Grouped, Percent, Size, Split, Windows
from tql.weights import ClassWeights, RowWeights, Weights, positive_rows


def windows_title(before: int, after: int, overlap: bool) -> str:
    each = "a window for each row" if overlap else "each row once"
    return f"{before:,} before and {after:,} after, {each}"


def cut_title(offset: int, size: Size | None) -> tuple[str, str]:
    skipped = f"the first {'row' if offset == 1 else f'{offset:,} rows'} passed over"
    match size:
        case None:
            return "Offset", skipped
        case Count(rows):
            return "Limit", f"{rows:,}{', ' + skipped if offset else ''}"
        case Percent(percent):
            return "Limit", f"{float(percent):g} percent{', ' + skipped if offset else ''}"
        case _:
            assert_never(size)


def sampling(
    replaced: bool, weights: Weights | None, mix: str = "iid"
) -> tuple[str, tuple[str, ...]]:
    how = "with replacement" if replaced else "without replacement"
    if mix != "iid":
        how = f"by quotas of each {mix}, " + (
            "as few repeats as can be" if replaced else "no repeats"
        )
    match weights:
        case None:
            return how, ()
        case ClassWeights(values):
            kinds = "every row alike" if len(values) == 1 else f"{len(values)} weight groups"
        case RowWeights():
            kinds = "one weight per row"
        case _:
            assert_never(weights)
    zero = len(weights) - positive_rows(weights)
    details = (f"{counted(zero, 'row')} of weight 0, never drawn",) if zero else ()
    if isinstance(weights, RowWeights) and len(weights):
        low, high = float(weights.values.min()), float(weights.values.max())
        details = (f"weights from {low:g} to {high:g}", *details)
    return f"{how}, {kinds}", details


def made_title(leaf: Grouped | Split | Windows) -> tuple[str, str]:
    match leaf:
        case Grouped():
            return "Group", f"by {leaf.text}"
        case Split():
            return "Ungroup", "a row for each member of a sequence"
        case Windows(_, before, after, overlap, name):
            return "Windows", f"{windows_title(before, after, overlap)}; their number is {name}"
        case _:
            assert_never(leaf)
