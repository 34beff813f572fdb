"""Kernels compiled by a child process, while the reference tier goes on answering.

Numba compiles under the GIL, so that a thread would stall its user for the 0.5 to 1 s it takes. The
child is a Python of its own at low priority: it is told the kernel as JSON, writes the object
file into the cache and ends; whoever asks for the kernel later finds the file. One child at a time.
It ends with the process that started it, however that ends (on POSIX systems: elsewhere when that
exits), and a process that is forked meanwhile has none.
"""

import atexit
import os
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tql.diagnostics import error
from tql.forks import ForkLock
from tql.kernel_cache import (
    ABANDONED,
    cache_folder,
    is_trusted,
    lock_of,
    release_lock,
    remove_parts,
    take_lock,
)

if TYPE_CHECKING:
    from subprocess import Popen

Mode: TypeAlias = Literal["background", "inline", "never"]
VARIABLE: Final = "TQL_COMPILE"
_MOST_FAILURES: Final = 3  # one after the other; then no further child is started

# The package is loaded from where the parent has it; other packages where the child finds them
# first. Ctrl-C is for the parent.
_CHILD: Final = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
if hasattr(os, "nice"):
    os.nice(10)  # 19 gets next to nothing beside busy data loaders
order = json.load(sys.stdin)
sys.path += [p for p in order["path"] if p not in sys.path]
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("tql", order["package"])
sys.modules["tql"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["tql"])
from tql.kernel_jobs import end_with_parent
end_with_parent(order["parent"], order["parent_fd"], order["file"])
from tql.jit import carry_out
carry_out(order["kernel"], order["file"])
"""


def mode() -> Mode:
    """What $TQL_COMPILE says: "background" (also where it is not set), "inline" or "never"."""
    match os.environ.get(VARIABLE, "") or "background":
        case ("background" | "inline" | "never") as known:
            return known
        case other:
            raise error(
                "parameter", f"{VARIABLE} is {other!r}; it can be background, inline or never",
                help=f"unset {VARIABLE} compiles in the background",
            )  # fmt: skip


@dataclass(slots=True)
class _Job:
    """A child at work on `file`."""

    process: "Popen[bytes]"
    file: Path
    said: IO[bytes]
    began: float
    alive: int | None  # the child ends when this end of a pipe is closed


@dataclass(slots=True)
class _State:
    """What this process has under way. `private` stands in for a cache folder that is not there."""

    job: _Job | None = None
    failures: dict[str, str] = field(default_factory=dict)
    in_a_row: int = 0
    private: Path | None = None
    owner: int = 0  # the process that made `private` and is to remove it


_LOCK: Final = ForkLock()
_STATE: Final = _State()


def is_coming(name: str, kernel: dict[str, Any]) -> bool:
    """Whether a child makes the file `name` of this kernel, or soon can; starts it if need be.

    False where nothing will come of it; `why_not` says why. It costs microseconds, but for the
    start itself (about 3 ms).
    """
    with _LOCK:
        _look(_STATE)
        if not may_come(name):
            return False
        if _STATE.job is not None:
            return True
        try:
            return _start(name, kernel)
        except OSError as e:
            _failed(_STATE, name, f"no child can be started: {e.strerror or e}")
            return False


def may_come(name: str) -> bool:
    """Whether a child makes the file `name`, or could be started to; nothing is."""
    return why_not() is None and name not in _STATE.failures


def why_not() -> str | None:
    """Why this process compiles nothing in the background; None where it does."""
    if not os.path.basename(sys.executable or "").lower().startswith("python") or _is_frozen():
        return f"sys.executable is {sys.executable!r}, which is no Python"
    workers = sys.modules.get("multiprocessing.process")
    if workers is not None and workers.parent_process() is not None:
        return "this is a worker process of multiprocessing"
    if _STATE.in_a_row >= _MOST_FAILURES:
        return f"{_STATE.in_a_row} children failed, the last: {[*_STATE.failures.values()][-1]}"
    return None


def failure(name: str) -> str | None:
    """Why the child that was to make the file `name` failed."""
    return _STATE.failures.get(name)


def folders() -> list[Path]:
    """Where kernels are looked for: the user's folder, and this process's own if it has one."""
    private = _STATE.private
    mine = [private] if private is not None and is_trusted(private) else []
    shared = cache_folder()
    return mine if shared is None else [shared, *mine]


def look() -> None:
    """Put away a child that has ended."""
    with _LOCK:
        _look(_STATE)


def end_with_parent(parent: int, fd: int | None, file: str) -> None:
    """In a child process: end, and leave neither lock nor part, when the other end of the pipe is
    closed, which the system does for a parent that is killed.
    """
    if fd is None:
        return

    def watch(fd: int = fd) -> None:
        os.read(fd, 1)
        release_lock(Path(file), parent)
        remove_parts(Path(file).parent, os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def settle(seconds: float) -> None:
    """Wait until no child is at work, or so long."""
    job = _STATE.job
    if job is not None:
        from subprocess import TimeoutExpired

        with suppress(TimeoutExpired):
            job.process.wait(seconds)
        with _LOCK:
            _look(_STATE)


def _is_frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def _start(name: str, kernel: dict[str, Any]) -> bool:
    file = _place(name)
    if file is None:
        return True  # another process is at it
    import json
    import subprocess

    order = {
        "kernel": kernel,
        "file": str(file),
        "package": str(Path(__file__).with_name("__init__.py")),
        "path": [p for p in sys.path if os.path.isabs(p)],
        "parent": os.getpid(),
        "parent_fd": None,
    }
    with ExitStack() as unless_started:
        unless_started.callback(lock_of(file).unlink, missing_ok=True)
        # Files, not pipes: nothing here ever waits for the child.
        said = unless_started.enter_context(tempfile.TemporaryFile())
        watched, alive = os.pipe() if os.name == "posix" else (None, None)
        passed: list[int] = []
        if watched is not None and alive is not None:
            unless_started.callback(os.close, alive)
            order["parent_fd"] = watched
            passed = [watched]
        with ExitStack() as here:
            if watched is not None:
                here.callback(os.close, watched)
            told = here.enter_context(tempfile.TemporaryFile())
            told.write(json.dumps(order).encode())
            told.seek(0)
            # Without asserts, or docstrings, where the parent has none: the same code, then.
            same = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
            process = subprocess.Popen(
                [sys.executable, "-I", *same, "-c", _CHILD],
                stdin=told,
                stdout=said,
                stderr=said,
                pass_fds=passed,
            )
        unless_started.pop_all()
    _STATE.job = _Job(process, file, said, time.monotonic(), alive)
    atexit.unregister(_stop)
    atexit.register(_stop)
    return True


def _place(name: str) -> Path | None:
    """The file to make, its lock taken; None while another process has that. Raises OSError."""
    shared = cache_folder()
    if shared is not None:
        try:
            return shared / name if take_lock(shared / name) else None
        except OSError:
            pass  # a folder that can only be read: this process has one of its own
    private = _STATE.private
    if private is None or _STATE.owner != os.getpid() or not is_trusted(private):
        private = Path(tempfile.mkdtemp(prefix="tql-"))
        _STATE.private, _STATE.owner = private, os.getpid()
    file = private / name
    return file if take_lock(file) else None


def _look(state: _State) -> None:
    """Put away a child that has ended, or that takes too long."""
    job = state.job
    if job is None:
        return
    late = time.monotonic() - job.began > ABANDONED
    if job.process.poll() is None:
        if not late:
            return
        job.process.kill()
        job.process.wait()
    state.job = None
    job.said.seek(0)
    said = job.said.read(100_000).decode("utf-8", "replace").strip()
    _tidy(job)
    if job.file.is_file():
        state.in_a_row = 0
        return
    if late or not is_trusted(job.file.parent):
        return  # a machine that is busy, or a folder that was removed, says nothing of the compiler
    code = job.process.returncode
    why = said.splitlines()[-1] if said else f"exit code {code}"
    _failed(state, job.file.name, f"the compiling child ended without a kernel: {why}")


def _failed(state: _State, name: str, why: str) -> None:
    state.failures[name] = why
    state.in_a_row += 1


def _tidy(job: _Job) -> None:
    _close(job)
    with suppress(OSError):
        lock_of(job.file).unlink(missing_ok=True)
    remove_parts(job.file.parent, job.process.pid)


def _close(job: _Job) -> None:
    job.said.close()
    if job.alive is not None:
        os.close(job.alive)


def _stop() -> None:
    """At exit: the child is ended at once, and leaves no file."""
    job, _STATE.job = _STATE.job, None
    if job is not None:
        job.process.kill()
        job.process.wait()
        _tidy(job)
    private, _STATE.private = _STATE.private, None
    if private is not None and _STATE.owner == os.getpid():
        import shutil

        shutil.rmtree(private, ignore_errors=True)


def _forget() -> None:
    """In a forked process: the child, its files and its folder are the parent's."""
    job, _STATE.job = _STATE.job, None
    if job is not None:
        job.process.returncode = 0  # so that it is neither waited for nor warned of here
        _close(job)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
