"""Plans on disk: canonical JSON that names everything a plan was made from.

The file carries no rows and no weights, only their digests: whoever loads it makes the plan again
from the data and asks `PlanFile.verify` whether it is the same one.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from tql.diagnostics import TqlError, data_error, error
from tql.planner import digest

FORMAT: Final = "tql plan"
VERSION: Final = 1
_PARTS: Final = (  # of every plan; those that draw by quota, in windows, … have more
    "order",
    "source",
    "origin",
    "population",
    "weights",
    "replace",
    "size",
    "shuffle",
    "seed",
    "mix",
    "resample",
)
_REST: Final = ("offset", "draws", "notes", "fingerprint")
_LINEAGE: Final = ("data", "views")  # of plans that know how their rows came about
_FRAME: Final = frozenset(("format", "version", *_REST, *_LINEAGE))


class Made(Protocol):
    """What a plan file is compared with: a plan."""

    @property
    def parts(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What a plan file says.

    parts    order version, source, origin, population, weights, replace, size, shuffle, seed, mix,
             resample; by quota also fragments and block, in windows fragments and windows, rounds
             where they are not 6: what the fingerprint is a hash of
    lineage  how the rows came about, where the plan knew: the fingerprint of the data that was
             opened, and the views of it
    """

    parts: Mapping[str, Any]
    offset: int
    draws: int
    notes: tuple[str, ...]
    fingerprint: str
    lineage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> Mapping[str, Any]:
        """What the maker of the plan put in: query, parameters, …"""
        origin: Mapping[str, Any] = self.parts["origin"]
        return origin

    def verify(self, plan: Made) -> tuple[str, ...]:
        """How `plan` differs from the file, one line each; nothing when it is the same plan."""
        return tuple(
            f"{name}: {old} in the plan file, {new} now"
            for name, old, new in _differences("", self.parts, plan.parts)
        )

    def to_json(self) -> dict[str, Any]:
        """What stands in the file."""
        return {
            "format": FORMAT,
            "version": VERSION,
            **self._told(),
            "notes": list(self.notes),
            "fingerprint": self.fingerprint,
        }

    def differences(self, other: "PlanFile") -> tuple[tuple[str, str, str], ...]:
        """(name, here, there) for whatever is not the same in two files; values as short JSON."""
        return tuple(_differences("", self._told(), other._told()))

    def _told(self) -> dict[str, Any]:
        return {**self.parts, **self.lineage, "offset": self.offset, "draws": self.draws}


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Write the content of a plan file; another process sees the old file or the new one, nothing between."""
    target = path_of(path)
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".plan-")
        with os.fdopen(handle, "w", encoding="ascii", newline="\n") as out:
            out.write(digest.canonical(dict(content)) + "\n")
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o644)  # a temporary file is private, a plan is not
        os.replace(temporary, target)
    except OSError as e:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
        raise data_error(
            "source",
            f"the plan could not be written to {target}: {e.strerror}",
            help="give a path in a folder that exists and can be written to",
        ) from e


def load(path: str | Path) -> PlanFile:
    """The plan file at `path`, checked against itself; see `PlanFile.verify` for the data."""
    try:
        text = path_of(path).read_text(encoding="utf-8")
    except OSError as e:
        raise data_error(
            "source", f"the plan {path} could not be read: {e.strerror}", help="check the path"
        ) from e
    except UnicodeDecodeError as e:
        raise _bad(path, "is not text") from e
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise _bad(path, f"is not JSON ({e})") from e
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _bad(path, f'does not say "format": "{FORMAT}"')
    if content.get("version") != VERSION:
        found = content.get("version")
        raise _bad(path, f"has version {found!r}; this program reads version {VERSION}")
    missing = [name for name in (*_PARTS, *_REST) if name not in content]
    if missing:
        raise _bad(path, f"lacks {', '.join(missing)}")
    parts = {name: value for name, value in content.items() if name not in _FRAME}
    if not isinstance(parts["origin"], dict):
        raise _bad(path, "has an origin that is not an object")
    lineage = {name: content[name] for name in _LINEAGE if name in content}
    match lineage:
        case {"data": str() | None, "views": [*views]} if all(map(_is_view, views)):
            pass
        case {} if lineage:
            raise _bad(path, "has data or views that no plan has")
    try:
        same = digest.of_json(parts) == content["fingerprint"]
    except ValueError as e:  # NaN, which Python reads but JSON does not know
        raise _bad(path, f"is not JSON ({e})") from e
    if not same:
        raise _bad(path, "was changed after it was written: its fingerprint does not fit")
    return PlanFile(
        parts,
        _count(path, content, "offset"),
        _count(path, content, "draws"),
        tuple(map(str, content["notes"])) if isinstance(content["notes"], list) else (),
        content["fingerprint"],
        lineage,
    )


def path_of(path: Any) -> Path:
    """What a user gave for a path, checked."""
    try:
        found = Path(path)
    except TypeError as e:
        raise error(
            "type", f"a path is a {type(path).__name__}; expected text", help="name a file"
        ) from e
    if "\0" in str(found):
        raise error("value", f"the path {str(found)!r} has a null character", help="leave it out")
    return found


def _is_view(view: Any) -> bool:
    return isinstance(view, dict) and type(view.get("seed")) is int


def _count(path: str | Path, content: dict[str, Any], name: str) -> int:
    value = content[name]
    if type(value) is not int or value < 0:
        raise _bad(path, f"has {name} {value!r}, which is not a count")
    return value


def _bad(path: str | Path, what: str) -> TqlError:
    return error(
        "value",
        f"the plan file {path} {what}",
        help="write it again with plan.save(path) or 'tql plan save'",
    )


def _differences(prefix: str, old: Any, new: Any) -> list[tuple[str, str, str]]:
    """The leaves that differ: their path, and both values."""
    if isinstance(old, list) and isinstance(new, list):
        old, new = ({str(i): v for i, v in enumerate(values)} for values in (old, new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        return [
            found
            for name in (names if all(n.isdigit() for n in names) else sorted(names))
            for found in _differences(
                f"{prefix}.{name}" if prefix else name,
                old.get(name, _NOTHING),
                new.get(name, _NOTHING),
            )
        ]
    same = digest.canonical(old) == digest.canonical(new) if _NOTHING not in (old, new) else False
    return [] if same else [(prefix, _brief(old), _brief(new))]


class _Nothing:
    """What a name has where only the other side knows it."""


_NOTHING: Final = _Nothing()


def _brief(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    return short(value)


def short(value: Any) -> str:
    """A value as JSON that fits in a line."""
    text = digest.canonical(value)
    return text if len(text) <= 60 else text[:57] + "…"
