"""How this installation is doing: versions, the kernel cache, how kernels are compiled, a trial."""

import importlib.metadata
import os
import platform
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np

from tql import __version__, kernel_cache, kernel_jobs
from tql.cpus import usable_cpus
from tql.engine.kernels import compile_program
from tql.engine.scan import Settings
from tql.jit import Kernel, cpu_features, cpu_name, generated, made_by
from tql.language.plan import Filter
from tql.memory_size import budget, shown
from tql.queries import ask
from tql.reports.text_table import printable
from tql.sources.opening import open_source

VERSION: Final = 1  # of the JSON data

# Distribution -> the extra that brings it, "" where it comes with the package.
_PACKAGES: Final = {
    "numpy": "", "pyarrow": "", "numba": "", "llvmlite": "", "lark": "", "click": "", "rich": "",
    "torch": "torch", "tensorflow": "tensorflow", "simplejpeg": "images", "pillow": "images",
}  # fmt: skip
_LONGEST: Final = 60.0  # seconds that the trial waits for a child
_QUERY: Final = "select * where x % 7 == 3 or x > 990"
_PROBE: Final = """def probe(n, out):
    # {process}
    for i in range(n):
        out[i] = i * 3
"""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution; `version` is None where it is missing, and `install` brings it."""

    name: str
    version: str | None
    install: str


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder for kernels; `problem` says why it is not used, None where it is."""

    path: str | None
    problem: str | None
    kernels: int
    current: int
    bytes: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A kernel compiled and run here, and one compiled by a child; a problem is None where there is
    none, `child_seconds` None where no child was asked.
    """

    seconds: float
    problem: str | None
    child_seconds: float | None
    child_problem: str | None


@dataclass(frozen=True, slots=True)
class Checkup:
    """What `tql doctor` tells. `memory_budget` in bytes; `compile` as $TQL_COMPILE says."""

    tql: str
    python: str
    executable: str
    free_threaded: bool
    platform: str
    cpus: int
    cpu: str
    cpu_features: tuple[str, ...]
    threads: int
    memory_budget: int
    packages: tuple[Package, ...]
    cache: Cache
    compile: str
    trial: Trial

    @property
    def well(self) -> bool:
        """Whether kernels can be compiled and give what they should."""
        return self.trial.problem is None

    def to_dict(self) -> dict[str, Any]:
        """JSON data; `version` changes when a key does."""
        return {"version": VERSION, **asdict(self), "well": self.well}


def examine() -> Checkup:
    """Look at everything; it compiles one kernel or two, which takes seconds."""
    mode = kernel_jobs.mode()
    return Checkup(
        tql=__version__,
        python=platform.python_version(),
        executable=sys.executable,
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        platform=platform.platform(),
        cpus=usable_cpus(),
        cpu=cpu_name(),
        cpu_features=cpu_features(),
        threads=Settings().workers,
        memory_budget=budget(),
        packages=tuple(_package(name, extra) for name, extra in _PACKAGES.items()),
        trial=_trial(mode),
        cache=_cache(),
        compile=mode,
    )


def clear() -> tuple[int, int]:
    """Remove kernels of another compiler or CPU; how many files went, and their bytes."""
    folder = kernel_cache.cache_folder()
    return (0, 0) if folder is None else kernel_cache.clear(folder, made_by())


def _package(name: str, extra: str) -> Package:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    return Package(
        name, version, f"pip install 'tqlkit[{extra}]'" if extra else f"pip install {name}"
    )


def _cache() -> Cache:
    found = kernel_cache.find_folder()
    path = None if found.path is None else str(found.path)
    problem = found.problem
    if found.path is None or problem:
        return Cache(path, problem, 0, 0, 0, kernel_cache.MOST_BYTES)
    kernels = kernel_cache.entries(found.path, made_by())
    if not os.access(found.path, os.W_OK):
        problem = "new kernels last as long as their process: it can only be read"
    return Cache(
        path, problem, len(kernels), sum(k.current for k in kernels),
        sum(k.bytes for k in kernels), kernel_cache.MOST_BYTES,
    )  # fmt: skip


# -- the trial ---------------------------------------------------------------------------------


def _trial(mode: kernel_jobs.Mode) -> Trial:
    began = perf_counter()
    problem = _problem()
    seconds = perf_counter() - began
    if mode != "background":
        return Trial(seconds, problem, None, None)
    child_began = perf_counter()
    child_problem = _child_problem()
    return Trial(seconds, problem, perf_counter() - child_began, child_problem)


def _problem() -> str | None:
    """What is wrong with a query in a kernel that is compiled here; None where it gives what the
    reference tier gives.
    """
    source = open_source({"x": np.arange(1000)})
    wanted = ask(source, _QUERY, settings=Settings("reference")).answer().rows.to_numpy()
    question = ask(source, _QUERY, settings=Settings("kernel"))
    plan = question.bound.plan
    assert isinstance(plan, Filter)
    program = compile_program([plan.predicate])
    assert program is not None
    try:
        program.kernel.compile_anew()
    except Exception as e:  # noqa: BLE001 — whatever the compiler raises is what is to be told
        return f"compiling failed: {type(e).__name__}: {e}"
    found = question.answer().rows.to_numpy()
    return None if np.array_equal(found, wanted) else "the kernel gives other rows than NumPy"


def _child_problem() -> str | None:
    """Why no child process can compile; None where it does."""
    k = _probe()
    known = kernel_jobs.is_coming(*k.order)
    if not known:
        return kernel_jobs.why_not() or kernel_jobs.failure(k.file_name)
    kernel_jobs.settle(_LONGEST)
    if not k.cached:
        return kernel_jobs.failure(k.file_name) or f"no kernel within {_LONGEST:g} s"
    out = np.zeros(3, np.int64)
    k(3, out)
    for folder in kernel_jobs.folders():
        (folder / k.file_name).unlink(missing_ok=True)
    return None if out.tolist() == [0, 3, 6] else "the child's kernel computes wrongly"


def _probe() -> Kernel:
    """A kernel that is in no cache."""
    source = _PROBE.format(process=os.getpid())
    return generated("probe", "i64, i64[]", source, "tql.engine.kernels.devices")


# -- text --------------------------------------------------------------------------------------


def as_lines(c: Checkup) -> list[str]:
    """The checkup for people."""
    build = ", free-threaded" if c.free_threaded else ""
    lines = [
        *_entry("tql", c.tql),
        *_entry("python", f"{c.python}{build}  {c.executable}"),
        *_entry("platform", c.platform),
        *_entry(
            "cpu",
            f"{c.cpu} ({', '.join(c.cpu_features) or 'no wide vectors'}), "
            f"{c.cpus} usable; {c.threads} threads for a scan",
        ),
        *_entry("memory", f"a step of a query may take {shown(c.memory_budget)}"),
        "",
        *_packages(c.packages),
        "",
        *_cache_lines(c.cache),
        *_entry("compiling", _how(c)),
        *_entry("trial", _told(c.trial)),
    ]
    return [printable(line) for line in lines]


def _entry(name: str, text: str) -> list[str]:
    return [f"{name:<12} {text}"]


def _packages(packages: Sequence[Package]) -> list[str]:
    return [
        line
        for p in packages
        for line in _entry(p.name, p.version or f"not installed: {p.install}")
    ]


def _cache_lines(c: Cache) -> list[str]:
    where = c.path or "none"
    lines = _entry("kernels", f"{where}{f': not used, {c.problem}' if c.problem else ''}")
    if c.problem is None:
        stale = c.kernels - c.current
        more = f", {stale} of another compiler or CPU (tql doctor --clear)" if stale else ""
        lines += _entry("", f"{c.current} current{more}; {shown(c.bytes)} of {shown(c.most_bytes)}")
    return lines


def _how(c: Checkup) -> str:
    return f"{c.compile} ({kernel_jobs.VARIABLE}=background, inline or never)"


def _told(t: Trial) -> str:
    here = t.problem or f"a kernel compiled here in {t.seconds:.1f} s gives what NumPy gives"
    if t.child_seconds is None:
        return here
    child = f"no child compiles ({t.child_problem})"
    return f"{here}; {child if t.child_problem else f'by a child in {t.child_seconds:.1f} s'}"
