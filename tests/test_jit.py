"""Kernels: what a body may do, the cache on disk, and the rule when to compile."""

import linecache
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module, invalidate_caches, reload
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tql
from tql import jit, kernel_cache
from tql.diagnostics import TqlTypeError
from tql.engine.scan import Settings
from tql.jit import CALL_NS, COMPILE_NS, LOAD_NS, Kernel, cache_folder, device, kernel
from tql.queries import ask

ROOT = Path(__file__).parents[1]
FACTOR = np.int64(3)


@device
def scaled(x: Any) -> Any:
    """x times FACTOR."""
    return x * FACTOR


def multiply(values: Any, plus: Any, out: Any) -> None:
    for i in range(values.size):
        out[i] = scaled(values[i]) + plus


def new_kernel() -> Kernel:
    """A kernel that has not been called in this process."""
    return kernel("i64[], i64, i64[]")(multiply)


def call(k: Kernel) -> list[int]:
    out = np.full(4, -1, np.int64)
    k(np.arange(4), 10, out)
    return out.tolist()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "kernels"
    monkeypatch.setenv("TQL_CACHE_DIR", str(tmp_path))
    yield folder


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels compiled from now on."""
    seen: list[str] = []
    real = jit.compile_kernel

    def counting(k: Kernel) -> bytes:
        seen.append(k.__name__)
        return real(k)

    monkeypatch.setattr(jit, "compile_kernel", counting)
    return seen


def test_a_compiled_kernel_does_what_its_body_does(cache: Path) -> None:
    k = new_kernel()
    wanted = np.zeros(4, np.int64)
    k.python(np.arange(4), 10, wanted)
    assert call(k) == wanted.tolist() == [10, 13, 16, 19]
    assert k.compiled


def test_a_kernel_is_compiled_once_and_then_loaded(cache: Path, compilations: list[str]) -> None:
    first = new_kernel()
    assert not first.cached
    assert call(first) == [10, 13, 16, 19]
    assert first.cached
    assert call(new_kernel()) == [10, 13, 16, 19]
    assert compilations == ["multiply"]
    (file,) = cache.iterdir()
    assert stat.S_IMODE(cache.stat().st_mode) & (stat.S_IWGRP | stat.S_IWOTH) == 0
    assert file.suffix == ".o"


def python(code: str, **environment: str) -> "subprocess.Popen[str]":
    path = {"PYTHONPATH": str(ROOT), "PATH": os.environ.get("PATH", "")}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=path | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


QUERY = """
import sys, numpy as np, tql
from tql.engine.scan import Settings
from tql.queries import ask
ds = tql.open({"x": np.arange(1000)})
rows = ask(ds.source, "select * where x > 996 or x == 3", settings=Settings("kernel")).answer().rows
print(rows.to_numpy().tolist(), "numba" in sys.modules)
"""


def test_a_fresh_process_loads_a_cached_kernel_without_numba(cache: Path) -> None:
    answers = []
    for _ in "12":
        out, err = python(QUERY, TQL_CACHE_DIR=str(cache.parent)).communicate()
        assert not err
        answers.append(out.strip())
    assert answers == ["[3, 997, 998, 999] True", "[3, 997, 998, 999] False"]


def test_two_processes_that_compile_at_once_both_get_their_kernel(cache: Path) -> None:
    both = [python(QUERY, TQL_CACHE_DIR=str(cache.parent)) for _ in "12"]
    for process in both:
        out, err = process.communicate()
        assert (out.startswith("[3, 997, 998, 999]"), err) == (True, "")
    assert [f.suffix for f in cache.iterdir()] == [".o"], "temporary files are left"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: bytes(32) + content[32:],
    ],
    ids=["empty", "shorter than its digest", "cut short", "one bit changed", "other digest"],
)
def test_a_damaged_file_is_compiled_again(
    damage: Any, cache: Path, compilations: list[str]
) -> None:
    call(new_kernel())
    (file,) = cache.iterdir()
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert call(new_kernel()) == [10, 13, 16, 19]
    assert len(compilations) == 2
    assert kernel_cache.read(file) is not None, "the damaged file is replaced"
    assert call(new_kernel()) == [10, 13, 16, 19]
    assert len(compilations) == 2


def test_a_folder_that_others_may_write_to_is_not_used(
    cache: Path, compilations: list[str]
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    assert cache_folder() is None
    assert call(new_kernel()) == [10, 13, 16, 19]
    assert not new_kernel().cached
    assert list(cache.iterdir()) == []


def test_a_folder_within_one_that_others_may_write_to_is_not_used(cache: Path) -> None:
    cache.mkdir(mode=0o700)
    assert cache_folder() == cache
    cache.parent.chmod(0o777)
    assert cache_folder() is None


def test_a_folder_of_somebody_else_is_not_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(mode=0o700)
    assert cache_folder() == cache
    monkeypatch.setattr(os, "getuid", lambda: cache.stat().st_uid + 1)
    assert cache_folder() is None


def test_a_folder_that_cannot_be_written_costs_a_compilation_and_no_more(
    cache: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(kernel_cache.tempfile, "mkstemp", refuse)
    assert [call(new_kernel()) for _ in "12"] == [[10, 13, 16, 19]] * 2
    assert len(compilations) == 2


def test_a_folder_that_cannot_be_made_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TQL_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    assert cache_folder() is None
    assert call(new_kernel()) == [10, 13, 16, 19]


def test_a_full_disk_leaves_no_file_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel_cache.os, "replace", full)
    assert call(new_kernel()) == [10, 13, 16, 19]
    assert list(cache.iterdir()) == []


# -- the fingerprint ---------------------------------------------------------------------------


def file_of(k: Kernel) -> str:
    return k.file_name


def test_the_constant_of_a_device_is_part_of_the_fingerprint(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_of(new_kernel())
    assert call(new_kernel()) == [10, 13, 16, 19]
    monkeypatch.setitem(multiply.__globals__, "FACTOR", np.int64(5))
    assert file_of(new_kernel()) != before
    assert call(new_kernel()) == [10, 15, 20, 25]


def test_the_body_of_a_device_and_the_signature_are_part_of_the_fingerprint(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_of(new_kernel())
    assert file_of(kernel("i64[], i32, i64[]")(multiply)) != before
    assert file_of(new_kernel()) == before

    def other(x: Any) -> Any:
        return x - FACTOR

    monkeypatch.setitem(multiply.__globals__, "scaled", device(other))
    assert file_of(new_kernel()) != before


def test_the_fingerprint_is_of_the_code_that_runs_not_of_the_file_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is replaced under a running process, or one that is not there."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "loops_of_test_jit.py"
    text = "from tql.jit import device\n@device\ndef scaled(x):\n    return x * {factor}\n"
    file.write_text(text.format(factor=3))
    loaded = import_module("loops_of_test_jit")

    def of_device() -> str:
        monkeypatch.setitem(multiply.__globals__, "scaled", loaded.scaled)
        return new_kernel().fingerprint

    before = of_device()
    file.write_text(text.format(factor=5))
    linecache.checkcache()
    assert of_device() == before
    file.unlink()
    linecache.checkcache()
    assert of_device() == before
    file.write_text(text.format(factor=57))
    invalidate_caches()
    loaded = reload(loaded)
    assert of_device() != before


# -- what a body may not do --------------------------------------------------------------------


def allocates(values: Any, out: Any) -> None:
    doubled = values + values
    for i in range(values.size):
        out[i] = doubled[i]


def raises(values: Any, out: Any) -> None:
    for i in range(values.size):
        if values[i] < 0:
            raise ValueError("negative")
        out[i] = values[i]


def prints(values: Any, out: Any) -> None:
    for i in range(values.size):
        print(values[i])  # noqa: T201
        out[i] = values[i]


@pytest.mark.parametrize("body", [allocates, raises, prints])
def test_a_kernel_that_does_more_than_arithmetic_is_refused(body: Any, cache: Path) -> None:
    k = kernel("i64[], i64[]")(body)
    with pytest.raises(
        RuntimeError, match=f"kernel {body.__name__} raises, allocates or calls out"
    ):
        k(np.arange(3), np.zeros(3, np.int64))
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_kernel_of_unknown_types_is_refused_where_it_is_written() -> None:
    with pytest.raises(AssertionError, match="unknown types"):
        kernel("f16[], i64")(multiply)


def test_an_array_of_another_type_or_layout_is_refused(cache: Path) -> None:
    k = new_kernel()
    out = np.zeros(4, np.int64)
    with pytest.raises(RuntimeError, match="was given int32"):
        k(np.arange(4, dtype=np.int32), 1, out)
    with pytest.raises(RuntimeError):
        k(np.arange(8)[::2], 1, out)


# -- when to compile: the rule of the ski rental -----------------------------------------------


def test_small_work_never_pays() -> None:
    k = new_kernel()
    for _ in range(100):
        assert not k.pays(1000.0)


def test_compiling_pays_when_the_slow_twin_has_cost_as_much(cache: Path) -> None:
    """Total cost is then at most twice that of the best choice in hindsight."""
    k = new_kernel()
    step = COMPILE_NS / 10
    assert [k.pays(step) for _ in range(12)] == [False] * 9 + [True] * 3


def test_one_piece_of_work_as_dear_as_compiling_pays_at_once(cache: Path) -> None:
    assert not new_kernel().pays(COMPILE_NS * 0.99)
    assert new_kernel().pays(COMPILE_NS)


def test_loading_pays_sooner_than_compiling(cache: Path) -> None:
    call(new_kernel())
    k = new_kernel()
    assert k.cached and not k.compiled
    assert not k.pays(LOAD_NS * 0.6)
    assert k.pays(LOAD_NS * 0.6), "what was paid before counts"


def test_threads_that_find_a_kernel_at_once_load_it_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second engine in place of the first would take the code away from whoever runs it."""
    call(new_kernel())
    k, loaded, real = new_kernel(), [], jit._load
    both_found_it = threading.Barrier(2, timeout=30)
    monkeypatch.setattr(jit.kernel_jobs, "look", both_found_it.wait)

    def counting(code: bytes, kinds: tuple[str, ...]) -> Any:
        loaded.append(kinds)
        return real(code, kinds)

    monkeypatch.setattr(jit, "_load", counting)
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(k.pays, [10.0 * LOAD_NS] * 2))
    assert len(loaded) == 1 and call(k) == [10, 13, 16, 19]


def test_a_loaded_kernel_pays_whenever_a_call_is_cheaper(cache: Path) -> None:
    k = new_kernel()
    call(k)
    assert k.pays(CALL_NS * 1.1)
    assert not k.pays(CALL_NS * 0.9)


def test_never_compiles_nothing_but_uses_what_is_there(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQL_COMPILE", "never")
    assert not new_kernel().pays(COMPILE_NS * 10)
    call(new_kernel())
    assert new_kernel().pays(LOAD_NS)


def test_another_way_of_compiling_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQL_COMPILE", "always")
    with pytest.raises(TqlTypeError, match="TQL_COMPILE is 'always'"):
        new_kernel().pays(COMPILE_NS)
    few = tql.open({"x": np.arange(3)})
    for tier in ("reference", "auto", "kernel"):
        with pytest.raises(TqlTypeError, match="TQL_COMPILE is 'always'"):
            ask(few.source, "select * where x > 1", settings=Settings(tier)).answer()


@pytest.mark.parametrize("how", ["damaged", "unlinked", "of another user", "others may write it"])
def test_a_file_that_cannot_be_read_is_not_compiled_again_before_that_pays(
    how: str, cache: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    call(new_kernel())
    (file,) = cache.iterdir()
    k = new_kernel()
    match how:
        case "damaged":
            file.write_bytes(bytes(100))
        case "unlinked":  # after it was seen
            monkeypatch.setattr(Kernel, "cached", True)
            file.unlink()
        case "of another user":
            real = kernel_cache._is_mine
            monkeypatch.setattr(
                kernel_cache, "_is_mine", lambda s: real(s) and stat.S_ISDIR(s.st_mode)
            )
        case _:
            file.chmod(0o666)
    monkeypatch.setenv("TQL_COMPILE", "never")
    assert not k.pays(COMPILE_NS * 10)
    assert compilations == ["multiply"]
    assert not file.exists(), "the next process does not try it again"
    monkeypatch.setenv("TQL_COMPILE", "inline")
    assert k.pays(1)
    assert compilations == ["multiply"] * 2


def test_a_compiler_that_fails_leaves_queries_to_the_reference_tier(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def broken(k: Kernel) -> bytes:
        tried.append(k.__name__)
        raise RuntimeError("no such pass\nand more")

    monkeypatch.setattr(jit, "compile_kernel", broken)
    k = new_kernel()
    assert not k.pays(COMPILE_NS)
    assert k.failure == "RuntimeError: no such pass"
    assert not k.pays(COMPILE_NS), "it is not tried again"
    assert tried == ["multiply"]
    assert k.outlook(COMPILE_NS) == (
        "leave",
        "the kernel cannot be compiled here: RuntimeError: no such pass",
    )
    with pytest.raises(RuntimeError, match="no such pass"):
        call(k)


# -- the folder --------------------------------------------------------------------------------


def test_kernels_of_another_compiler_are_stale_and_cleared(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(new_kernel())
    (mine,) = kernel_cache.entries(cache, jit.made_by())
    assert mine.current
    (other,) = kernel_cache.entries(cache, bytes(32))
    assert not other.current
    assert kernel_cache.clear(cache, jit.made_by()) == (0, 0)
    begun, old = cache / ".kernel-1-new", cache / ".kernel-1-old"
    theirs = [cache / "user.o", cache / f"folder-{'0' * 32}.o", cache.parent / "user.o"]
    theirs[0].write_bytes(b"of the user")
    theirs[1].mkdir()
    theirs[2].write_bytes(b"of the user")
    for part in (begun, old):
        part.write_bytes(b"123")
    os.utime(old, (0, 0))
    assert kernel_cache.clear(cache, bytes(32)) == (2, mine.bytes + 3)
    assert begun.exists(), "what may still be written stays"
    assert all(f.exists() for f in theirs)
    assert len(list(cache.iterdir())) == 3


def test_the_folder_keeps_what_was_used_last(tmp_path: Path) -> None:
    files = [tmp_path / f"loop-{k:032x}.o" for k in range(4)]
    for k, file in enumerate(files):
        kernel_cache.write(file, bytes(100), bytes(32))
        os.utime(file, (k, k))
    size = files[0].stat().st_size
    (tmp_path / "user.o").write_bytes(bytes(10 * size))
    assert kernel_cache.read(files[0]) == bytes(100), "which counts as a use"
    kernel_cache.trim(tmp_path, 2 * size)
    left = sorted(f.name for f in tmp_path.iterdir())
    assert left == [files[0].name, files[3].name, "user.o"], (
        "what is not ours stays, and is not counted"
    )


@pytest.mark.parametrize("named", ["here", "~/here"])
def test_the_folder_may_be_named_from_here_or_from_home(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TQL_CACHE_DIR", named)
    assert cache_folder() == tmp_path / "here" / "kernels"
