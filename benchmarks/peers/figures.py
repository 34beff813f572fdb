"""What was measured, part by part, in a JSON file that later runs add to or replace parts of."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from benchmarks.bandwidth import Bandwidth
from benchmarks.calls import Calls
from benchmarks.kernels import Measured
from benchmarks.loading.rounds import Pace
from benchmarks.measure import OURS, Result, Timing
from benchmarks.opening import Fact
from benchmarks.parsing import Read
from benchmarks.profiles import Profile
from benchmarks.scaling import Line
from benchmarks.startup import Cold

FORMAT: Final = 1
ROOT: Final = Path(__file__).parents[2]
DISTRIBUTIONS: Final = (
    "polars", "duckdb", "numpy", "pyarrow", "torch", "deeplake", "numba", "simplejpeg", "pillow",
    "grain", "spdl", "datasets",
)  # fmt: skip

# Part of a run that is no task -> what it is a list of.
PARTS: Final[Mapping[str, Any]] = {
    "calls": Calls, "starts": Cold, "texts": Read, "scaling": Line, "kernels": Measured,
    "limits": Profile, "plans": Fact, "loading": Pace,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One task, or one of PARTS.

    found    Result of a task, else the list of what PARTS says
    memory   what memory gave in the same run
    where    the machine and everything installed that takes part
    threads  what each engine takes by itself
    at       when it began, "2026-11-21 17:40" UTC
    seconds  that it took
    others   CPUs that other processes kept busy meanwhile; None where that is not known
    """

    found: Any
    memory: list[Bandwidth]
    where: str
    threads: Mapping[str, int]
    at: str
    seconds: float
    others: float | None


def load(file: Path) -> dict[str, Part]:
    """The parts in a file, none where there is no file. Raises ValueError for another format."""
    if not file.exists():
        return {}
    content = json.loads(file.read_text("utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(f"{file} has another format; name another file, or remove it")
    return {name: _part(name, raw) for name, raw in content["parts"].items()}


def save(file: Path, parts: Mapping[str, Part], tasks: Iterable[str] = ()) -> None:
    """Write all parts, those of `tasks` first: the file has either the old figures or the new."""
    order = [*tasks, *(name for name in parts if name not in PARTS), *PARTS]
    parts = {name: parts[name] for name in dict.fromkeys(order) if name in parts}
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "parts": {name: _raw(part) for name, part in parts.items()}}
    draft = file.with_name(f".{os.getpid()}-{file.name}")
    draft.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    os.replace(draft, file)


def machine() -> str:
    """What this is measured on and with."""
    found = []
    for name in DISTRIBUTIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    return (
        f"{os.cpu_count()} CPUs ({_processor()}), Python {platform.python_version()}, "
        f"{', '.join(found)}; {OURS}: code {_code()}"
    )


def _processor() -> str:
    """The processor by name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return ", ".join(dict.fromkeys([platform.machine(), *named]))


def _code() -> str:
    """A few digits that are others when a module of ours is."""
    digest = hashlib.sha256()
    for folder in ("tql", "grammar", "planner", "loader"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def _raw(part: Part) -> dict[str, Any]:
    found = part.found
    raw = _result(found) if isinstance(found, Result) else [asdict(f) for f in found]
    return {**asdict(part), "found": raw}


def _result(result: Result) -> dict[str, Any]:
    """A task's figures, and what follows from them for readers of the file."""
    peers = [t for t in result.timings if t.name != OURS]
    return {
        **asdict(result),
        "derived": {
            "ratios": {t.name: result.ratio(t.name) for t in peers},
            "middle ratios": {t.name: t.middle / result.ours.middle for t in peers},
            "met": {name: result.met(name) for name in result.goals},
            "bytes_per_second": result.bandwidth,
        },
    }


def _part(name: str, raw: dict[str, Any]) -> Part:
    if name in PARTS:
        found: Any = [_made(PARTS[name], f) for f in raw["found"]]
    else:
        timings = tuple(Timing(**t) for t in raw["found"]["timings"])
        kept = {k: v for k, v in raw["found"].items() if k != "derived"}
        found = Result(**{**kept, "timings": timings})
    memory = [Bandwidth(**b) for b in raw["memory"]]
    return Part(**{**raw, "found": found, "memory": memory})


def _made(kind: Any, raw: Mapping[str, Any]) -> Any:
    """A dataclass of its fields; JSON has lists for its tuples."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()})
