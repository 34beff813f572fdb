"""Shuffling in windows: from a VIF or an amount of memory to windows, and what is expected of them.

All of it is known before anything is drawn: the rows of each class in each fragment (which reads one
column of class labels, or none), and the bytes of the columns that are loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

import numpy as np

from tql.diagnostics import counted, error
from tql.memory_size import shown
from tql.mixture import Material, Mixture, on_line
from tql.planner import Plan, Windows
from tql.planner.line import DrawLine
from tql.planner.quality import Quality, icc, length_of_vif, noise_of_rows, quality, units_of
from tql.planner.reading import Reading, length_of_bytes, random_reads, reading
from tql.planner.rng import stream_key
from tql.weights import ClassWeights, FragmentWeights, RowWeights

MB: Final = 10**6
RATE: Final = 100 * MB  # bytes a second, at which the time to the first batch is stated
WHOLE: Final = 1 << 40  # draws of windows that are to be as long as can be


@dataclass(frozen=True, slots=True)
class Shuffling:
    """What `.shuffle` was asked for, if that is more than a permutation of everything.

    buffer_size  MB that live fragments may take; vif  the variance inflation to stay below
    lanes        equal parts of the order, each of which one rank reads
    by           the column of the classes that batches are to mix
    """

    buffer_size: float | None = None
    vif: float | None = None
    lanes: int = 1
    by: str | None = None


def checked(buffer_size: Any, vif: Any, lanes: Any, by: Any) -> Shuffling | None:
    """What was asked for; None is a permutation of everything."""
    if buffer_size is not None and vif is not None:
        raise error("parameter", "both buffer_size and vif are given: each of them sets how long windows are",
                    help="choose one: the memory that fragments may take, or how well batches are mixed")  # fmt: skip
    for name, value, least in (("buffer_size", buffer_size, 0), ("vif", vif, 1)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise error("type", f"{name} must be a number, not {value!r}",
                        help="buffer_size is in MB, vif a factor such as 1.5")  # fmt: skip
        if not least < value < np.inf and not (name == "vif" and value == 1):
            raise error("value", f"{name} is {value}",
                        help="give MB above 0" if name == "buffer_size" else
                        "batches of chance have VIF 1: give 1.1 or 1.5, or no vif for a global permutation")  # fmt: skip
    if isinstance(lanes, bool) or not hasattr(lanes, "__index__"):
        raise error("type", f"lanes must be a whole number, not {lanes!r}",
                    help="give as many as there may be ranks")  # fmt: skip
    if by is not None and not isinstance(by, str):
        raise error("type", f"by must be the name of a column, not {by!r}",
                    help='for example by="labels"')  # fmt: skip
    Windows(1, int(lanes))
    if buffer_size is None and vif is None:
        if int(lanes) != 1 or by is not None:
            raise error("parameter", f"{'by' if by is not None else 'lanes'} without windows",
                        help="give buffer_size or vif, too")  # fmt: skip
        return None
    return Shuffling(
        None if buffer_size is None else float(buffer_size),
        None if vif is None else float(vif), int(lanes), by,
    )  # fmt: skip


def in_windows(
    make: Callable[[Windows | None], Plan], of: Material, asked: Shuffling, batch: int
) -> tuple[Plan, tuple[str, ...]]:
    """The plan that does what was asked for, and notes.

    make   the plan with given windows
    batch  positions of a batch: those of one rank, so that the order is the same on any number
    """
    memory = None if asked.buffer_size is None else int(asked.buffer_size * MB)
    if asked.vif == 1 or (memory is not None and int(of.sizes.sum()) <= memory):
        return make(None), _of_everything(asked, of.sizes.size)
    trial = make(Windows(WHOLE, asked.lanes))
    if not len(trial):
        return make(None), ()
    line = trial.draw_line(0)
    if memory is not None:
        length = _length_of_bytes(of, line, asked, memory)
    else:
        assert asked.vif is not None
        mixture = of.mixture(trial, asked.by)
        if isinstance(mixture, str):
            raise error("value", f"vif={asked.vif:g} says how well batches mix classes, but {mixture}",
                        help="give buffer_size, or name a column of classes with by=")  # fmt: skip
        key = stream_key(trial.seed, None, "", "windows of a vif")
        shares = mixture.shares(of.edges, line)
        noise = _noise(trial, line)
        length = length_of_vif(line, shares, asked.vif, asked.lanes, batch, key, noise)
    if length * asked.lanes >= len(trial):
        return make(None), _of_everything(asked, int(np.unique(line.fragment).size))
    return make(Windows(length, asked.lanes)), ()


def _of_everything(asked: Shuffling, fragments: int) -> tuple[str]:
    wanted = f"vif={asked.vif:g}" if asked.vif is not None else f"buffer_size={asked.buffer_size:g}"
    return (f"{wanted}: a window would hold all of {counted(fragments, 'fragment')}, so the order is a "
            "global permutation",)  # fmt: skip


def _length_of_bytes(of: Material, line: DrawLine, asked: Shuffling, memory: int) -> int:
    sizes = on_line(of.sizes, of.edges, line)
    units = units_of(line, np.ones((int(line.classes.max()) + 1, line.edges.size - 1, 1)))
    length = length_of_bytes(units, sizes, memory, asked.lanes)
    if length is None:
        least = 2 * asked.lanes * int(sizes[line.fragment].max())
        which = f"of each of {asked.lanes} lanes " if asked.lanes > 1 else ""
        raise error("value", f"buffer_size={asked.buffer_size:g} MB holds no window: one {which}has parts of up to "
                    f"two fragments, in all {shown(least)}",
                    help=f"give buffer_size={_upwards(least / MB):g} or more, or write smaller row groups")  # fmt: skip
    return length


def _megabytes(size: int) -> str:
    return f"{_upwards(size / MB):g}MB"


def _upwards(number: float) -> float:
    """The next number of two digits."""
    unit = 10.0 ** (np.floor(np.log10(number)) - 1)
    return float(np.ceil(number / unit) * unit)


# -- what is expected -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expected:
    """What an epoch of a shuffled loader is like.

    windows          of the plan; None is a permutation of everything
    batch            positions of a batch of one rank
    by               what classes are: a column, "weight"; None where they are not known, and why not
    icc              how alike the rows of a fragment are: 1 where each has rows of one class only
    mixing           of batches; None where classes are not known, or each batch has its quota
    reading          of the windows; of a permutation, as if all fragments were kept
    kept             bytes of fragments that the loader keeps
    anywhere         times that fragments are read, and bytes, by a permutation of everything with
                     that much kept
    """

    windows: Windows | None
    batch: int
    by: str | None
    why_not: str | None
    icc: float | None
    mixing: Quality | None
    reading: Reading
    kept: int
    anywhere: tuple[int, int]

    @property
    def first_seconds(self) -> float:
        """Time to read what the first batch needs, at `RATE`."""
        return self.reading.first_bytes / RATE

    @property
    def title(self) -> str:
        """The kind of order, in short."""
        if self.windows is None:
            return "global permutation"
        lanes = f" on {self.windows.lanes} lanes" if self.windows.lanes > 1 else ""
        count = counted(self.reading.live_fragments, "fragment")
        return f"windows of {counted(self.windows.length, 'draw')}{lanes}, up to {count} at a time"

    def lines(self) -> tuple[str, ...]:
        """What people should know of it."""
        reads, mixing = self.reading, self.mixing
        lines = []
        if mixing is not None and mixing.vif is not None:
            lines += [
                f"VIF {mixing.vif:.2f} by {self.by} (1 is chance): {mixing.classes:.1f} classes in a "
                f"batch of {self.batch:,}, by chance {mixing.ideal:.1f}"
            ]
        if self.icc is not None:
            lines.append(
                f"rows of a fragment are alike to {self.icc:.0%} (intra-class correlation)"
            )
        elif self.why_not is not None:
            lines.append(f"VIF unknown: {self.why_not}")
        anywhere = f"{counted(self.anywhere[0], 'read')} of fragments, {shown(self.anywhere[1])}"
        if self.windows is None:
            lines.append(f"{anywhere}, where {shown(self.kept)} of them are kept")
        else:
            lines += [
                f"{counted(reads.fetches, 'read')} of fragments, {shown(reads.nbytes)}; "
                f"{shown(reads.live_bytes)} live at most",
                f"a global permutation: {anywhere}, where {shown(self.kept)} of them are kept",
            ]
        lines.append(f"before the first batch {shown(reads.first_bytes)}: {self.first_seconds:.2g} s "
                     f"at {shown(RATE)}/s")  # fmt: skip
        return tuple(lines)

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be changed, perhaps."""
        live = self.reading.live_bytes
        if self.windows is None or 2 * live <= self.kept:
            return ()
        room = "one window, not for the next beside it" if live <= self.kept else "no whole window"
        often = (
            "some fragments are read twice"
            if live <= self.kept
            else "fragments are read again and again"
        )
        return (f"the fragments of a window take up to {shown(live)}; memory has room for {room} "
                f"({shown(self.kept)}), so {often}: give memory=\"{_megabytes(4 * live)}\", half of which is for "
                "fragments, or take shorter windows",)  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        windows, mixing, reading = self.windows, self.mixing, self.reading
        fetches, nbytes = (reading.fetches, reading.nbytes) if windows else self.anywhere
        return {
            "kind": "global" if windows is None else "windows",
            "windows": None if windows is None else windows.as_json(),
            "batch": self.batch,
            "by": self.by,
            "icc": self.icc,
            "vif": None if mixing is None else mixing.vif,
            "classes_per_batch": None if mixing is None else mixing.classes,
            "classes_per_batch_by_chance": None if mixing is None else mixing.ideal,
            "fragment_reads": fetches,
            "bytes_read": nbytes,
            "global_fragment_reads": self.anywhere[0],
            "global_bytes_read": self.anywhere[1],
            "live_fragments": reading.live_fragments,
            "live_bytes": reading.live_bytes,
            "kept_bytes": self.kept,
            "first_batch_bytes": reading.first_bytes,
            "first_batch_seconds": self.first_seconds,
            "bytes_per_second": RATE,
        }


def _noise(plan: Plan, line: DrawLine) -> float:
    """How much the classes of a unit's draws vary, see `Units`."""
    match plan.weights:
        case None | FragmentWeights():  # of these no classes are known
            return 0.0
        case _ if plan.mix == "iid":
            return 1.0
        case ClassWeights():
            return 0.0
        case RowWeights(values):
            rows = plan.population.to_numpy()
            fragment = np.searchsorted(line.edges, rows, side="right") - 1
            most = values.max()  # added up in a unit in which that can be done
            return noise_of_rows(values / most, fragment, line, len(plan), plan.replace)
        case _:
            assert_never(plan.weights)


def expected(of: Material, plan: Plan, by: str | None, batch: int, kept: int) -> Expected:
    """What an epoch of the plan is like, from counts alone, in batches of `batch` positions;
    `kept` are the bytes of fragments that the loader keeps.
    """
    mixture = of.mixture(plan, by)
    known = mixture if isinstance(mixture, Mixture) else None
    whole = of.whole(plan, known)
    batch = min(batch, max(1, len(plan)))
    windows = plan.windows
    if windows is not None and windows.length * windows.lanes >= len(plan):
        windows = None  # of all there is
    if windows is None:
        units, length, lanes, sizes = whole, max(1, len(plan)), 1, of.sizes
    else:
        line, lanes = plan.draw_line(0), windows.lanes
        length = min(windows.length, -(-len(plan) // lanes))
        one = np.ones((1, line.edges.size - 1, 1))
        shares = one if known is None else known.shares(of.edges, line)
        units = units_of(line, shares, _noise(plan, line))
        sizes = on_line(of.sizes, of.edges, line)
    mixing = None
    if known is not None and len(plan):
        mixing = quality(units, length, lanes, batch)
        if plan.weights is not None and windows is None:
            alike = None if mixing.vif is None else 1.0
            mixing = Quality(alike, mixing.ideal, mixing.ideal) if plan.mix == "iid" else mixing
            mixing = None if plan.mix == "batch" else mixing
    drawn = np.diff(whole.begins).astype(np.float64)
    return Expected(
        windows,
        batch,
        None if known is None else known.by,
        None if isinstance(mixture, Mixture) else mixture,
        None if known is None else icc(np.round(known.mass.sum(axis=0)).astype(np.int64)),
        mixing,
        reading(units, sizes, length, lanes, batch) if len(plan) else Reading(0, 0, 0, 0, 0),
        kept,
        random_reads(drawn, of.sizes[whole.of], batch, kept),
    )
