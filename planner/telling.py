"""What a plan is, in a few lines, from what its file says."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tql.diagnostics import counted, first_names

_WIDTH: Final = 9
_TOLD: Final = frozenset(
    ("format", "version", "fingerprint", "offset", "draws", "notes", "data", "views",
     "order", "source", "origin", "population", "weights", "replace", "size", "shuffle", "seed",
     "mix", "resample", "fragments", "block", "changes", "windows")
)  # fmt: skip


def told(content: Mapping[str, Any]) -> str:
    """Lines of a word and what is to be said of it; `content` is what `Plan.to_json` gives.

    Text of the user's is as it was given, with whatever characters it has but line ends.
    """
    return "\n".join(f"{name:{_WIDTH}}{' '.join(text.split())}" for name, text in _lines(content))


def _lines(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    origin, offset = content["origin"], content["offset"]
    yield "plan", f"{content['fingerprint'][:12]}, order {content['order']}"
    rows = counted(content["population"]["rows"], "row")
    begins = f"; the first begins at position {offset:,}" if offset else ""
    yield "epoch", f"{counted(content['draws'], 'draw')} of {rows}{begins}"
    yield "data", (content.get("data") or content["source"])[:12] or "unnamed"
    for view in content.get("views", ()):
        yield "view", f"{_step(view)}; seed {view['seed']}"
    match origin.get("steps"):
        case [*steps]:
            for step in steps:
                yield "step", _step(step)
        case _ if origin:
            yield "origin", _brief(origin)
        case _:
            pass
    if content["weights"] is not None:
        yield "weights", _weights(content)
    for change in content.get("changes", ()):
        yield (
            "then",
            f"from position {change['position']:,} of epoch {change['epoch']}: {_last(change)}",
        )
    yield "order", _order(content)
    yield "seed", str(content["seed"])
    for name in sorted(content.keys() - _TOLD):
        yield name, _brief(content[name])
    for note in content["notes"]:
        yield "note", note


def _last(change: Mapping[str, Any]) -> str:
    """The weights that a change brings."""
    match change["origin"].get("steps"):
        case [*_, last]:
            return _step(last)
        case _:
            return "other weights"


def _step(step: Any) -> str:
    match step:
        case {"query": str(text), "params": {} as params} if params:
            return f"{text} with {_brief(params)}"
        case {"query": str(text)}:
            return text
        case {"sample_by": weights, "size": size}:
            return f"sample by {weights}" + (f", {size:,} rows" if size is not None else "")
        case {"rows": [start, stop, stride]}:
            return f"rows [{start}:{stop}:{stride}]"
        case {"columns": [*names]}:
            return f"columns {', '.join(map(str, names))}"
        case _:
            return _brief(step)


def _weights(parts: Mapping[str, Any]) -> str:
    match parts["weights"]:
        case {"values": [*values], "rows": [*rows]}:
            each = [f"{v:g} for {counted(n, 'row')}" for v, n in zip(values, rows, strict=True)]
            told = first_names(each, 6)
        case {"classes": int(number)}:
            told = f"{number:,} distinct ones"
        case _:
            told = "one for each row"
    how = "with replacement" if parts["replace"] else "without replacement"
    again = "; one draw for all epochs" if parts["resample"] == "once" else ""
    mix = {"iid": "", "epoch": ", by quotas of each epoch", "batch": ", by quotas of each batch"}
    return f"{told}; {how}{mix[parts['mix']]}{again}"


def _order(parts: Mapping[str, Any]) -> str:
    match parts.get("windows"):
        case {"length": int(length), "lanes": int(lanes)} if length * lanes < parts["draws"]:
            each = f", {lanes:,} lanes side by side" if lanes > 1 else ""
            return f"a new one in every epoch, in windows of {counted(length, 'draw')}{each}"
        case _:
            pass
    if parts["shuffle"]:
        return "a new permutation in every epoch"
    return "as the rows are drawn" if parts["weights"] is not None else "as the rows stand"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 70 else text[:69] + "…"
