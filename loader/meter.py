"""What each stage of a loader did, and where its time went."""

import threading
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeAlias

from tql.diagnostics import counted

_QUIET_SHARE: Final = 0.05
_STAGES: Final = ("read", "decode", "transform", "collate")
_QUEUES: Final = ("read", "decode", "transform", "deliver")
_HELD: Final = (
    "memory= has no room for as many batches as there could be: give more, or smaller batches"
)
_ADVICE: Final = {
    "read": "reading takes most of the time: fewer columns, smaller row groups, a larger memory "
    "budget, or shuffle in windows",
    "decode": "decoding takes most of the time: more num_threads where there are processors, or "
    "smaller images",
    "transform": "the transform takes most of the time: make it release the GIL, or do its work "
    "on the accelerator",
    "collate": "collating takes most of the time: a cheaper collate_fn",
}


@dataclass(frozen=True, slots=True)
class StageStats:
    """Work done by one stage; `seconds` is summed over its threads."""

    batches: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Batches that waited in front of a stage; in front of "deliver" for the caller.

    `waited` are seconds, summed over batches; `mean` is how many waited at a time, in the mean over
    the pass, `most` how many at most, and `most_bytes` how large those that waited together were, as
    far as that is known.
    """

    waited: float = 0.0
    mean: float = 0.0
    most: int = 0
    most_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Retries:
    """Requests to storage that were made again, those because the server asked for fewer among them.

    `seconds` were waited before them, summed over threads; what a file system does by itself, before
    it lets a request fail, is not seen.
    """

    count: int = 0
    throttled: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        slowed = f", {self.throttled:,} of them because the server asked for fewer" * bool(
            self.throttled
        )
        return (
            f"{counted(self.count, 'request was', 'requests were')} made again{slowed}, "
            f"after {self.seconds:.2f} s of waiting"
        )


@dataclass(frozen=True, slots=True)
class FetchStats:
    """Fragments that were read for a pass, those of them that had been read in it before, and times
    that a batch found one in memory; bytes that were read, and those read ahead of their batches.
    """

    fragments: int = 0
    again: int = 0
    hits: int = 0
    bytes: int = 0
    ahead_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LoaderStats:
    """One pass so far.

    `waited` is how long `next()` made the caller wait, in all; `held` counts the batches that were
    delivered while memory had no room for as many in the making as were allowed.
    """

    stages: dict[str, StageStats] = field(
        default_factory=lambda: dict.fromkeys(_STAGES, StageStats())
    )
    delivered: int = 0
    waited: float = 0.0
    elapsed: float = 0.0
    retries: Retries = Retries()
    fetches: FetchStats = FetchStats()
    queues: dict[str, QueueStats] = field(
        default_factory=lambda: dict.fromkeys(_QUEUES, QueueStats())
    )
    held: int = 0

    @property
    def advice(self) -> str:
        """One line on what to change."""
        if not self.delivered:
            return "nothing was loaded yet"
        share = self.waited / self.elapsed if self.elapsed > 0 else 0.0
        if share < _QUIET_SHARE:
            return f"the loader keeps up: the caller waited {share:.0%} of the time"
        if 2 * self.held > self.delivered:
            return f"the caller waited {share:.0%} of the time; {_HELD}"
        slowest = max(self.stages, key=lambda name: self.stages[name].seconds)
        return f"the caller waited {share:.0%} of the time; {_ADVICE[slowest]}"

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return asdict(self) | {"advice": self.advice}

    def __str__(self) -> str:
        lines = [
            f"{'stage':<10} {'batches':>8} {'rows':>10} {'MB':>10} {'seconds':>9} {'queued':>7} "
            f"{'at most':>8} {'MB':>8} {'waited':>8}"
        ]
        for name in (*_STAGES, "deliver"):
            s, q = self.stages.get(name), self.queues.get(name)
            if s is None:
                done = f"{self.delivered:>8,} {'':>10} {'':>10} {'':>9}"
            else:
                done = f"{s.batches:>8,} {s.rows:>10,} {s.bytes / 1e6:>10,.1f} {s.seconds:>9.2f}"
            queue = ""
            if q is not None:
                mb = q.most_bytes / 1e6
                queue = f" {q.mean:>7.1f} {q.most:>8,} {mb:>8,.1f} {q.waited:>8.2f}"
            lines.append(f"{name:<10} {done}{queue}".rstrip())
        lines.append(f"the caller waited {self.waited:.2f} s of {self.elapsed:.2f} s")
        f = self.fetches
        if f.fragments or f.hits:
            lines.append(
                f"{counted(f.fragments, 'fragment was', 'fragments were')} read, {f.again:,} of them "
                f"again, {f.bytes / 1e6:,.1f} MB, of these {f.ahead_bytes / 1e6:,.1f} ahead; "
                f"{f.hits:,} times one was there"
            )
        if self.retries.count:
            lines.append(str(self.retries))
        return "\n".join([*lines, self.advice])


class Fetches:
    """Counts of the fragments that a pass reads; any thread may add."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._counts = FetchStats()
        self._seen: Final[set[int]] = set()

    def read(self, fragment: int, nbytes: int, *, ahead: bool = False) -> None:
        """Count a fragment that was read; `ahead` of the batches that use it."""
        with self._lock:
            old, again = self._counts, fragment in self._seen
            self._seen.add(fragment)
            self._counts = FetchStats(
                old.fragments + 1,
                old.again + again,
                old.hits,
                old.bytes + nbytes,
                old.ahead_bytes + (nbytes if ahead else 0),
            )

    def hits(self, count: int) -> None:
        """Count fragments that were there when a batch needed them."""
        with self._lock:
            self._counts = replace(self._counts, hits=self._counts.hits + count)

    def stats(self) -> FetchStats:
        """The counts so far."""
        return self._counts


Ticket: TypeAlias = tuple[str, int, float]
"""Of a batch that waits: the queue, its bytes, since when."""


@dataclass(slots=True)
class _Queue:
    """What waits now, and what did."""

    now: int = 0
    now_bytes: int = 0
    most: int = 0
    most_bytes: int = 0
    waited: float = 0.0


class Meter:
    """Counts of one pass; any thread may add."""

    def __init__(self) -> None:
        self.fetches: Final = Fetches()
        self._queues: Final = {name: _Queue() for name in _QUEUES}
        self._lock: Final = threading.Lock()
        self._stats = LoaderStats()

    def add(
        self, stage: str, seconds: float, *, batches: int = 0, rows: int = 0, bytes: int = 0
    ) -> None:
        """Count work of `stage`: read, decode, transform or collate."""
        with self._lock:
            old = self._stats.stages[stage]
            self._stats.stages[stage] = StageStats(
                old.batches + batches, old.rows + rows, old.bytes + bytes, old.seconds + seconds
            )

    def enter(self, stage: str, nbytes: int = 0) -> Ticket:
        """A batch begins to wait in front of a stage."""
        with self._lock:
            q = self._queues[stage]
            q.now += 1
            q.now_bytes += nbytes
            q.most, q.most_bytes = max(q.most, q.now), max(q.most_bytes, q.now_bytes)
        return stage, nbytes, time.perf_counter()

    def leave(self, ticket: Ticket) -> None:
        """It waits no longer."""
        stage, nbytes, since = ticket
        with self._lock:
            q = self._queues[stage]
            q.now -= 1
            q.now_bytes -= nbytes
            q.waited += time.perf_counter() - since

    def tried_again(self, waited: float, throttled: bool) -> None:
        """Count a request that is made again after so many seconds."""
        with self._lock:
            r = self._stats.retries
            more = Retries(r.count + 1, r.throttled + throttled, r.seconds + waited)
            self._stats = replace(self._stats, retries=more)

    def delivered(self, waited: float, elapsed: float, *, held: bool = False) -> None:
        """Count a batch handed over; `elapsed` is seconds since the pass began, `held` says whether
        memory had no room for as many batches as are allowed.
        """
        with self._lock:
            self._stats = replace(
                self._stats,
                delivered=self._stats.delivered + 1,
                waited=self._stats.waited + waited,
                elapsed=elapsed,
                held=self._stats.held + held,
            )

    def stats(self) -> LoaderStats:
        """A copy of the counts."""
        with self._lock:
            stages = dict(self._stats.stages)
            # Little's law: the mean number that waits is the time waited, of all, in the time there was.
            time_ = max(self._stats.elapsed, 1e-9)
            queues = {
                name: QueueStats(q.waited, q.waited / time_, q.most, q.most_bytes)
                for name, q in self._queues.items()
            }
            fetches = self.fetches.stats()
            return replace(self._stats, stages=stages, fetches=fetches, queues=queues)
