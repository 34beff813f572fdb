"""The one module that imports Numba: loops over arrays, compiled to machine code and kept on disk.

A kernel is a plain Python function over arrays and numbers. `@kernel(signature)` gives it a C
entry point, so that it is called through ctypes without the GIL; `@device` marks a function that
kernels may call. Both stay ordinary Python functions (`.python`), which is what the tests run
against the compiled form.

Compiled kernels are cached as object files, not pickles, and a cached kernel is loaded with
llvmlite alone: 30 ms in a fresh process, where importing Numba and compiling one takes 0.6-1.2 s.

What is on disk is `tql.kernel_cache`, compiling in the background `tql.kernel_jobs`.

Rules for a kernel body, checked when it is compiled: it allocates nothing, raises nothing and
calls nothing but arithmetic and `@device` functions, so its object file needs no symbol of
Python's or Numba's. Arrays are C-contiguous, one-dimensional and never resized or viewed.
"""

import ctypes
import hashlib
import logging  # noqa: F401  (see _COMPILING)
import os
import re
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Generic, Literal, ParamSpec, TypeAlias, TypeVar

import numpy as np

from tql import kernel_jobs
from tql.kernel_cache import cache_folder, discard, keep, read, write

P = ParamSpec("P")
R = TypeVar("R")

_FORMAT: Final = "tql kernel 3"
_SYMBOL: Final = "tql_kernel"
_CTYPES: Final = {
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}
_NUMPY: Final = {
    name: np.dtype(f"{ {'i': 'int', 'u': 'uint', 'f': 'float'}[name[0]] }{name[1:]}")
    for name in _CTYPES
}

# What a kernel costs before its first call, in nanoseconds (2 cores, Numba 0.68).
COMPILE_NS: Final = 900e6
LOAD_NS: Final = 30e6
CALL_NS: Final = 20e3

# What a shape has cost before a child compiles it: it is then likely to be asked again. The child
# stalls nobody, but takes a second of another core.
START_NS: Final = 100e6

# What a shape may cost while a child has it: on a machine whose CPUs are all taken, as they are in
# training, a child of low priority may take minutes, and a kernel that is needed now is compiled now.
PATIENCE_NS: Final = 2 * COMPILE_NS


# Numba and llvmlite have locks of their own, one for all kernels, which a child would find closed
# for ever if it were forked while another thread compiles: a fork waits until that is over. Logging
# (which Numba calls) holds its lock over a fork, too; it is imported above so that its turn comes
# after ours, here as in the compiling thread.
_COMPILING: Final = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_COMPILING.acquire,
        after_in_parent=_COMPILING.release,
        after_in_child=_COMPILING.release,
    )


Step: TypeAlias = Literal["call", "load", "compile", "wait", "leave"]
_FEW: Final = "it has not cost enough yet for the kernel to pay"


class Device(Generic[P, R]):
    """A function that kernels may call; in Python it is simply the function."""

    def __init__(self, fn: Callable[P, R]) -> None:
        self.python: Final = fn
        self.__doc__, self.__name__ = fn.__doc__, fn.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.python(*args, **kwargs)


def device(fn: Callable[P, R]) -> Device[P, R]:
    """Mark `fn` as callable from kernels."""
    return Device(fn)


class Kernel:
    """A loop over arrays with one C signature, compiled or loaded on its first call.

    signature  the argument types in order, "i64[], f64, u8[]": a scalar or a C-contiguous
               one-dimensional array of i8…i64, u8…u64, f32, f64. Bool arrays are passed as
               `array.view(np.uint8)`.

    Calling it runs the compiled loop without the GIL. Any thread may call it; arrays that it
    writes belong to the caller.
    """

    def __init__(
        self,
        name: str,
        signature: str,
        make: Callable[[], Callable[..., None]],
        *,
        source: str | None = None,
        module: str = "",
    ) -> None:
        """`make` gives the loop, when it is first needed; `source` is its text where it has no file.

        `module` is where another process finds it by name, or the NAMES that `source` names.
        """
        self.signature: Final = signature
        self.source: Final = source
        self.module: Final = module
        self.__name__ = name
        self._make: Final = make
        self._python: Callable[..., None] | None = None
        self._types: Final = tuple(part.strip() for part in signature.split(","))
        unknown = [t for t in self._types if t.removesuffix("[]") not in _CTYPES]
        assert not unknown, f"kernel {name}: unknown types {unknown}"
        self._fingerprint = ""
        self._entry: Callable[..., None] | None = None
        self._engines: Final[list[Any]] = []  # none is given back: a thread may be in its code
        self._owed_ns = 0.0
        self.failure: str | None = None  # why it cannot be compiled in this process

    def __call__(self, *args: Any) -> None:
        entry = self._entry or self._prepare()
        flat: list[Any] = []
        for kind, value in zip(self._types, args, strict=True):
            if kind.endswith("[]"):
                if value.dtype != _NUMPY[kind[:-2]] or not value.flags.c_contiguous:
                    raise RuntimeError(f"kernel {self.__name__}: {kind} was given {value.dtype}")
                flat.append(value.__array_interface__["data"][0])
                flat.append(value.size)
            else:
                flat.append(value)
        entry(*flat)

    def pays(self, slow_ns: float) -> bool:
        """Whether to call the kernel now, when the slow twin would take `slow_ns` nanoseconds.

        The rule of the ski rental: keep to the slow twin until what it has cost in this process
        equals the price of the kernel (compiling it, or loading it when it is in the cache), so
        that no program spends more than twice the best it could have done, and a first query on
        small data never waits for a compiler. Where a child can compile it (`tql.kernel_jobs`),
        it is started sooner, and nobody waits unless the child is late (PATIENCE_NS).

        When it pays, the machine code is loaded. What cannot be compiled never pays (`failure`).
        """
        step, _ = self.outlook(slow_ns)
        if self._entry is not None:
            return step == "call"
        self._owed_ns += slow_ns
        if step == "load":
            kernel_jobs.look()  # the child that made it has ended
            if self._loads():
                return True
            step, _ = self._without_file(0.0)
        if step == "wait":
            if self._is_coming():
                return False
            step, _ = self._without_file(0.0)
        return step == "compile" and self._compiles()

    def would_pay(self, slow_ns: float) -> bool:
        """Whether the kernel would be called now; nothing is counted, loaded or started."""
        return self.outlook(slow_ns)[0] in ("call", "load", "compile")

    def outlook(self, slow_ns: float) -> tuple[Step, str]:
        """What `pays` would do now, and why; nothing is counted, loaded or started.

        "call", "load" and "compile" it, "wait" for a child, or "leave" it to the slow twin.
        """
        if self._entry is not None:
            if slow_ns > CALL_NS:
                return "call", "it pays"
            return "leave", "a call of the kernel would cost more than it saves"
        if self.failure is not None:
            return "leave", f"the kernel cannot be compiled here: {self.failure}"
        if self._owed_ns + slow_ns < LOAD_NS:
            return "leave", _FEW
        return ("load", "it pays") if self.cached else self._without_file(slow_ns)

    def _without_file(self, slow_ns: float) -> tuple[Step, str]:
        owed = self._owed_ns + slow_ns
        chosen = kernel_jobs.mode()
        if chosen == "never":
            return "leave", f"{kernel_jobs.VARIABLE}=never: what is not on disk is not compiled"
        if chosen == "background" and START_NS <= owed < PATIENCE_NS and self._may_come():
            return "wait", "a child process compiles it, or soon will"
        return ("compile", "it pays") if owed >= COMPILE_NS else ("leave", _FEW)

    @property
    def python(self) -> Callable[..., None]:
        """The loop as an ordinary function: what the compiled form is tested against."""
        if self._python is None:
            self._python = self._make()
        return self._python

    @property
    def compiled(self) -> bool:
        """Whether the machine code is loaded in this process."""
        return self._entry is not None

    @property
    def cached(self) -> bool:
        """Whether the machine code lies in the user's cache folder, or in this process's own."""
        return bool(self._on_disk())

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"{self.__name__}-{self.fingerprint[:32]}.o"

    @property
    def fingerprint(self) -> str:
        """Hex digest of all the machine code depends on: loop, callees, compiler, CPU."""
        if not self._fingerprint:  # no cached_property: in Python 3.11 it holds a lock at a fork
            parts = [*_compiler_and_cpu(), self.signature, *_compiled_from(self.python)]
            self._fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return self._fingerprint

    def _prepare(self) -> Callable[..., None]:
        kernel_jobs.look()
        with _COMPILING:
            if self._entry is None and not self._loads():
                code = compile_kernel(self)
                folder = cache_folder()
                keep(folder and folder / self.file_name, code, made_by())
                self._use(code)
            assert self._entry is not None
            return self._entry

    def _use(self, code: bytes) -> None:
        engine, entry = _load(code, self._types)
        self._engines.append(engine)
        self._entry = entry

    def _compiles(self) -> bool:
        try:
            self._prepare()
        except Exception as e:  # noqa: BLE001 — whatever the compiler raises, the slow twin can do it
            self.failure = f"{type(e).__name__}: {e}".strip().splitlines()[0]
            return False
        return True

    def _loads(self) -> bool:
        """Whether it could be loaded from disk; what lies there and cannot be read is removed."""
        with _COMPILING:
            if self._entry is not None:  # another thread was first
                return True
            for file in self._on_disk():
                code = read(file)
                if code is not None:
                    with suppress(RuntimeError):  # LLVM's, of code that it cannot link
                        self._use(code)
                        return True
                discard(file)
        return False

    def _on_disk(self) -> list[Path]:
        files = (folder / self.file_name for folder in kernel_jobs.folders())
        return [f for f in files if f.is_file()]

    def compile_anew(self) -> None:
        """Compile and load it, whatever is on disk; nothing is kept."""
        with _COMPILING:
            self._use(compile_kernel(self))

    def _may_come(self) -> bool:
        """Whether a child process can make it; only what is in this package can be told to one."""
        return self.module.startswith("tql.") and kernel_jobs.may_come(self.file_name)

    def _is_coming(self) -> bool:
        return kernel_jobs.is_coming(*self.order)

    @property
    def order(self) -> tuple[str, dict[str, Any]]:
        """The name of its file, and what a child has to know to make it (see `carry_out`)."""
        told = {
            "name": self.__name__,
            "signature": self.signature,
            "source": self.source,
            "module": self.module,
            "fingerprint": self.fingerprint,
        }
        return self.file_name, told


def kernel(signature: str) -> Callable[[Callable[..., None]], Kernel]:
    """Give a loop a C entry point; see `Kernel`."""

    def decorate(fn: Callable[..., None]) -> Kernel:
        made = Kernel(fn.__name__, signature, lambda: fn, module=fn.__module__)
        made.__doc__ = fn.__doc__
        return made

    return decorate


def generated(name: str, signature: str, source: str, module: str) -> Kernel:
    """The kernel that `source` defines as `name`, which names NumPy as `np` and what the NAMES of
    `module` hold.
    """

    def make() -> Callable[..., None]:  # 0.3 ms, so not before it pays
        scope: dict[str, Any] = {"np": np, **import_module(module).NAMES}
        exec(source, scope)  # made by this package from names of its own and operators only
        made: Callable[..., None] = scope[name]
        return made

    return Kernel(name, signature, make, source=source, module=module)


def carry_out(told: dict[str, Any], file: str) -> None:
    """In a child process: compile the kernel that the parent told of into `file`."""
    name, source = told["name"], told["source"]
    if source is not None:
        k = generated(name, told["signature"], source, told["module"])
    else:
        k = getattr(import_module(told["module"]), name)
        assert isinstance(k, Kernel), f"{told['module']}.{name} is no kernel"
    if k.fingerprint != told["fingerprint"]:
        raise RuntimeError("the child has another compiler or other sources")
    write(Path(file), compile_kernel(k), made_by())


def compile_kernel(k: Kernel) -> bytes:
    """The kernel as an object file for this CPU, with one symbol and nothing to resolve."""
    ir = _optimised(_numba_ir(k))
    foreign = [
        f.name
        for f in ir.functions
        if f.is_declaration and not f.name.startswith(("llvm.", "mem")) and f.name not in _LIBM
    ]
    if foreign:
        raise RuntimeError(f"kernel {k.__name__} raises, allocates or calls out: {foreign}")
    return bytes(_target_machine().emit_object(ir))


def assembly(k: Kernel) -> str:
    """The machine code of the kernel as text, to see what became of its loops."""
    return str(_target_machine().emit_assembly(_optimised(_numba_ir(k))))


_LIBM: Final = frozenset({"fmod", "fmodf"})


def _numba_ir(k: Kernel) -> tuple[str, str]:
    """The LLVM text of a C function around `k.python`, and that function's name."""
    import numba
    from numba import carray
    from numba import types as nt

    scalar = {
        name: getattr(nt, f"{ {'i': 'int', 'u': 'uint', 'f': 'float'}[name[0]] }{name[1:]}")
        for name in _CTYPES
    }
    c_types, names, values = [], [], []
    for n, kind in enumerate(k._types):
        if kind.endswith("[]"):
            c_types += [nt.CPointer(scalar[kind[:-2]]), nt.int64]
            names += [f"p{n}", f"n{n}"]
            values.append(f"carray(p{n}, n{n})")
        else:
            c_types.append(scalar[kind])
            names.append(f"p{n}")
            values.append(f"p{n}")
    # No fastmath: it lets LLVM assume that NaN does not exist. No parallel=True: Numba's
    # workqueue layer ends the process when entered from two threads; our threads do that work.
    body = numba.njit(error_model="numpy", boundscheck=False)(_with_compiled_devices(k.python))
    scope: dict[str, Any] = {"body": body, "carray": carray}
    # Only the names made above are in this text.
    exec(f"def entry({', '.join(names)}): body({', '.join(values)})", scope)
    c = numba.cfunc(nt.void(*c_types))(scope["entry"])
    return c.inspect_llvm(), c.native_name


def _with_compiled_devices(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` with every `@device` function it names replaced by its compiled form."""
    import numba

    scope = dict(fn.__globals__)
    for name in fn.__code__.co_names:
        value = scope.get(name)
        if isinstance(value, Device):
            inner = _with_compiled_devices(value.python)
            scope[name] = numba.njit(error_model="numpy", boundscheck=False, inline="never")(inner)
    return types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, fn.__closure__)


def _optimised(numba_ir: tuple[str, str]) -> Any:
    """The module with only our entry left visible, renamed, optimised once more and verified.

    Numba's C wrapper reports exceptions through its runtime. Once the body is inlined, LLVM sees
    that it cannot raise and drops that path, and with it every symbol of Numba's and Python's.
    """
    from llvmlite import binding as ll

    text, entry = numba_ir
    text = _with_intrinsics(text)
    module = ll.parse_assembly(text)
    for f in module.functions:
        if not f.is_declaration:
            f.linkage = "external" if f.name == entry else "internal"
    module.get_function(entry).name = _SYMBOL
    options = ll.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    builder = ll.create_pass_builder(_target_machine(), options)
    builder.getModulePassManager().run(module, builder)
    module.verify()
    return module


# One machine instruction each; a call would have to set errno, too.
_INTRINSICS: Final = {
    "sqrt": ("llvm.sqrt.f64", "double"),
    "sqrtf": ("llvm.sqrt.f32", "float"),
}


def _with_intrinsics(text: str) -> str:
    """The LLVM text with calls of these functions of C replaced by what they stand for."""
    for function, (intrinsic, kind) in _INTRINSICS.items():
        if f"@{function}(" in text:
            text = re.sub(
                rf"^declare {kind} @({function}|{re.escape(intrinsic)})\(.*$", "", text, flags=re.M
            )
            text = text.replace(f"@{function}(", f"@{intrinsic}(")
            text += f"\ndeclare {kind} @{intrinsic}({kind})\n"
    return text


def _target_machine() -> Any:
    from llvmlite import binding as ll

    ll.initialize_native_target()
    ll.initialize_native_asmprinter()
    return ll.Target.from_triple(ll.get_process_triple()).create_target_machine(
        cpu=ll.get_host_cpu_name(),
        features=ll.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )


def _load(code: bytes, kinds: tuple[str, ...]) -> tuple[Any, Callable[..., None]]:
    """The execution engine that owns the machine code, and its entry point."""
    from llvmlite import binding as ll

    engine = ll.create_mcjit_compiler(ll.parse_assembly(""), _target_machine())
    engine.add_object_file(ll.ObjectFileRef.from_data(code))
    engine.finalize_object()
    arguments: list[Any] = []
    for kind in kinds:
        if kind.endswith("[]"):
            arguments += [ctypes.c_void_p, ctypes.c_int64]
        else:
            arguments.append(_CTYPES[kind])
    address = engine.get_function_address(_SYMBOL)
    return engine, ctypes.CFUNCTYPE(None, *arguments)(address)


# -- what the machine code depends on ----------------------------------------------------------


@cache
def _compiler_and_cpu() -> tuple[str, ...]:
    with _COMPILING:  # a module that is half imported at a fork is never imported in the child
        from importlib.metadata import version

        from llvmlite import binding as ll

        numba, llvmlite = version("numba"), version("llvmlite")
        python = sys.implementation.cache_tag or ""
        cpu = ll.get_host_cpu_name()
        return _FORMAT, numba, llvmlite, python, cpu, ll.get_host_cpu_features().flatten()


def made_by() -> bytes:
    """A digest of the compiler and the CPU: kernels made by another are stale."""
    return hashlib.sha256("\0".join(_compiler_and_cpu()).encode()).digest()


def cpu_name() -> str:
    """The kind of CPU that kernels are compiled for, as LLVM names it."""
    return _compiler_and_cpu()[-2]


def cpu_features() -> tuple[str, ...]:
    """Those of its vector instructions that loops gain most by, the widest last."""
    known = set(_compiler_and_cpu()[-1].split(","))
    return tuple(f for f in ("neon", "sve", "sse4.2", "avx2", "avx512f") if f"+{f}" in known)


def _compiled_from(fn: Callable[..., Any]) -> list[str]:
    """All of `fn` that the compiler reads, of the devices it calls, and the constants they name.

    It is the code that is loaded, not its text: a file may have been changed since, or be missing.
    """
    cells = [cell.cell_contents for cell in fn.__closure__ or ()]
    found = [*_parts(fn.__code__), repr((fn.__defaults__, cells))]
    for name in fn.__code__.co_names:
        match fn.__globals__.get(name):
            case Device() as inner:
                found += [name, *_compiled_from(inner.python)]
            case bool() | int() | float() | np.generic() as constant:
                found.append(f"{name}={constant!r}")
    return found


def _parts(code: types.CodeType) -> list[str]:
    found = [code.co_code.hex(), repr((code.co_names, code.co_varnames, code.co_freevars))]
    for constant in code.co_consts:
        found += _parts(constant) if isinstance(constant, types.CodeType) else [repr(constant)]
    return found
