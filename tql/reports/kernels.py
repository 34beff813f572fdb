"""Which tier would answer each node of a query now, why, and the loop where there is one."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tql import kernel_jobs
from tql.engine import dictionaries
from tql.engine.coded import only_column
from tql.engine.kernels import (
    NullElements,
    Program,
    Unsuitable,
    compile_program,
    compile_values,
    reason_against,
    reason_against_values,
)
from tql.engine.select import FILTERS_PER_PASS, Environment, source_at
from tql.engine.settle import settled
from tql.engine.weigh import FEW_ARMS
from tql.engine.zones import outlook
from tql.jit import Kernel
from tql.language.expr import (
    Balanced,
    Column,
    Const,
    Expr,
    UserCall,
    WeightCase,
    can_raise,
    columns_of,
    needs_source,
    walk_inside,
)
from tql.language.plan import Bound, Combine, Expand, Filter, Leaf, Order, Plan, Sample, Scan
from tql.language.plan_parts import source_of, subqueries, walk_plan
from tql.schema import Bool, Float, Int, Label, Time
from tql.sources.protocol import Fragment, Source

_Why: TypeAlias = tuple[str, str]  # tier and reason

# Of these types a fragment is as any other to a kernel: none need be read to tell.
_LAID_OUT_ALIKE: Final = Bool | Int | Float | Time | Label


@dataclass(frozen=True, slots=True)
class KernelNote:
    """One node, or several that one pass over the data answers.

    node    "Filter", "Sample" or "Order"
    texts   its condition, weight or keys in canonical TQL, one for each node of the pass
    tier    "kernel" or "reference": what would answer it now
    why     the reason for that
    state   "compiled", "on disk", "not compiled", or why a child failed; None without
            a kernel
    source  the generated loop over 64 rows at a time, as Python; None without a kernel
    """

    node: str
    texts: tuple[str, ...]
    tier: str
    why: str
    state: str | None = None
    source: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "node": self.node.lower(), "text": list(self.texts), "tier": self.tier,
            "why": self.why, "state": self.state, "source": self.source,
        }  # fmt: skip


def kernels_of(
    bound: Bound, environment: Environment, source: Source | None = None,
    paired: Collection[int] = (),
) -> tuple[KernelNote, ...]:  # fmt: skip
    """The notes of a query, those of its subqueries first.

    source  what its leaf is, where that is known already
    paired  the ids of conditions that are answered by looking keys up
    """
    leaf = source_of(bound.plan)
    below = [n for b in subqueries(leaf) for n in kernels_of(b, environment)]
    if source is None and isinstance(leaf, Scan):
        source = source_at(leaf, environment)
        bound = settled(bound, source, environment.seed, environment.settings)
    return (*below, *_Notes(environment, source).of(bound.plan, paired))


@dataclass(frozen=True, slots=True)
class _Notes:
    """Makes the notes of one query over one source, None where only running tells what it is."""

    environment: Environment
    source: Source | None

    def of(self, plan: Plan, paired: Collection[int]) -> Iterator[KernelNote]:
        nodes = list(walk_plan(plan))
        whole = [f for f in nodes if isinstance(f, Filter) and isinstance(f.input, Leaf)]
        looked = [f for f in whole if id(f.predicate) not in paired]
        for at in range(0, len(looked), FILTERS_PER_PASS):
            some = looked[at : at + FILTERS_PER_PASS]
            yield self._pass("Filter", [f.text for f in some], [f.predicate for f in some])
        for node in nodes:
            match node:
                case Filter(_, predicate, text=text) if id(predicate) in paired:
                    yield KernelNote("Filter", (text,), "reference", "its keys are looked up")
                case Filter(input, text=text) if not isinstance(input, Leaf):
                    why = "only the rows that arrive are looked at"
                    yield KernelNote("Filter", (text,), "reference", why)
                case Sample(input, weight, text=text) if not isinstance(weight, Const):
                    yield self._weight(weight, text, input)
                case Order(input, keys):
                    there = tuple(k.text for k in keys if _there(k.expr))
                    if there:
                        why = "keys that are columns are sorted by NumPy"
                        yield KernelNote("Order", there, "reference", why)
                    for k in keys:
                        if not _there(k.expr):
                            yield self._numbers("Order", k.text, k.expr, input)
                case _:
                    pass

    def _weight(self, weight: Expr, text: str, input: Plan) -> KernelNote:
        match weight:
            case WeightCase(kind, arms) if len(arms) > FEW_ARMS[kind] and only_column(weight):
                why = "each value of the column is weighed once, where that pays"
            case WeightCase() if any(map(_reorders, walk_plan(input))):
                why = "the rows arrive in an order of their own"
            case WeightCase(_, arms) if all(isinstance(a.weight, Const) for a in arms):
                conditions = [a.condition for a in arms]
                if not any(map(can_raise, conditions)):
                    return self._pass("Sample", [text], conditions)
                why = "a condition may be an error of a row"
            case Balanced():
                why = "the rows of each class are counted"
            case _:
                return self._numbers("Sample", text, weight, input)
        return KernelNote("Sample", (text,), "reference", why)

    def _numbers(self, node: str, text: str, e: Expr, input: Plan) -> KernelNote:
        """One value for each row that arrives, worked out for whole columns where most arrive."""
        if _there(e):
            why = "the column is taken as it is"
        elif not isinstance(e.dtype, Int | Float | Label):
            why = f"not for kernels: values of type {e.dtype}"
        elif any(isinstance(n, UserCall) for n in walk_inside(e)):
            why = "not for kernels: a function of the user's"
        elif isinstance(input, Leaf):
            return self._made(
                node, [text], [e], lambda: compile_values(e), lambda: reason_against_values(e),
                lambda source: source.fragments,
            )  # fmt: skip
        else:
            why = "how many rows arrive decides whether a kernel is asked"
        return KernelNote(node, (text,), "reference", why)

    def _pass(self, node: str, texts: Sequence[str], conditions: Sequence[Expr]) -> KernelNote:
        """One pass over the source that answers these conditions."""
        return self._made(
            node, texts, conditions,
            lambda: compile_program(conditions), lambda: reason_against(conditions),
            lambda source: outlook(source, conditions).read,
        )  # fmt: skip

    def _made(
        self, node: str, texts: Sequence[str], expressions: Sequence[Expr],
        make: Callable[[], Program | None], reason: Callable[[], str | None],
        read: Callable[[Source], Sequence[Fragment]],
    ) -> KernelNote:  # fmt: skip
        """What the program for these expressions is, over what is to be read of the source."""
        named = tuple(texts)
        source = self.source
        if source is None or any(map(needs_source, expressions)):
            why = "what it ranges over is made when the query is run"
            return KernelNote(node, named, "reference", why)
        program = make()
        if program is None:
            return KernelNote(node, named, "reference", f"not for kernels: {reason()}")
        fragments = read(source)
        if source.fragments and not fragments:
            why = "what is known of the values decides it: nothing is read"
            return KernelNote(node, named, "reference", why)
        against, program, k = self._against(program, source, expressions, fragments)
        if against is not None:
            return KernelNote(node, named, "reference", f"not for kernels: {against}")
        rows = sum(f.rows for f in fragments)  # all that a run would charge the kernel for
        tier, why = self._tier(k, rows * program.cost_ns_per_row)
        return KernelNote(node, named, tier, why, _state(k), k.source)

    def _against(
        self,
        program: Program,
        source: Source,
        expressions: Sequence[Expr],
        read: Sequence[Fragment],
    ) -> tuple[str | None, Program, Kernel]:
        """Why the first fragment that is read is not for the program, which is another one where
        elements of arrays are NULL; None where it is. And the kernel of the program that takes it.
        """
        columns = sorted(frozenset().union(*map(columns_of, expressions)))
        if not read or all(isinstance(source.schema[c].dtype, _LAID_OUT_ALIKE) for c in columns):
            return None, program, program.kernel
        first = source.fragments[read[0].index]
        table = dictionaries.now(source, first, columns, dictionaries.uses(expressions))
        try:
            program.check(table, first.start, self.environment.seed)
            return None, program, program.kernel_for(lambda name: table.column(name).type)
        except NullElements:
            if program.with_nulls is not None:
                return self._against(program.with_nulls, source, expressions, read)
        except Unsuitable as e:
            return str(e), program, program.kernel
        return None, program, program.kernel

    def _tier(self, k: Kernel, reference_ns: float) -> _Why:
        match self.environment.settings.tier:
            case "reference":
                return "reference", "asked for"
            case "kernel":
                return "kernel", "asked for"
            case "auto":
                step, why = k.outlook(reference_ns)
                return "reference" if step in ("wait", "leave") else "kernel", why


def _there(e: Expr) -> bool:
    """Whether nothing has to be worked out."""
    return isinstance(e, Column | Const)


def _reorders(plan: Plan) -> bool:
    """Whether rows may leave this node in another order than that of the source."""
    match plan:
        case Order() | Sample():
            return True
        case Combine(_, steps):
            return any(s.all for s in steps)
        case Expand(overlap=overlap):
            return overlap
        case _:
            return False


def _state(k: Kernel) -> str:
    if k.compiled:
        return "compiled"
    if k.cached:
        return "on disk"
    return k.failure or kernel_jobs.failure(k.file_name) or "not compiled"


def lines_of(notes: Sequence[KernelNote]) -> list[str]:
    """The notes as text, the source of each kernel indented."""
    lines: list[str] = []
    for n in notes:
        state = "" if n.state is None else f"; kernel {n.state}"
        lines.append(f"{n.node}: {n.tier} tier, {n.why}{state}")
        lines += [f"    {text}" for text in n.texts]
        if n.source is not None:
            lines += ["", *(f"        {line}".rstrip() for line in n.source.splitlines()), ""]
    return lines or ["nothing is filtered, weighed or sorted"]
