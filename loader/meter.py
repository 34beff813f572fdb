"""What each stage of a loader did, and where its time went."""

import threading
from dataclasses import dataclass, field, replace
from typing import Final

from tql.diagnostics import counted

_QUIET_SHARE: Final = 0.05
_STAGES: Final = ("read", "decode", "transform", "collate")
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
    """One pass so far. `waited` is how long `next()` made the caller wait, in all."""

    stages: dict[str, StageStats] = field(
        default_factory=lambda: dict.fromkeys(_STAGES, StageStats())
    )
    delivered: int = 0
    waited: float = 0.0
    elapsed: float = 0.0
    retries: Retries = Retries()
    fetches: FetchStats = FetchStats()

    @property
    def advice(self) -> str:
        """One line on what to change."""
        if not self.delivered:
            return "nothing was loaded yet"
        share = self.waited / self.elapsed if self.elapsed > 0 else 0.0
        if share < _QUIET_SHARE:
            return f"the loader keeps up: the caller waited {share:.0%} of the time"
        slowest = max(self.stages, key=lambda name: self.stages[name].seconds)
        return f"the caller waited {share:.0%} of the time; {_ADVICE[slowest]}"

    def __str__(self) -> str:
        lines = [f"{'stage':<10} {'batches':>8} {'rows':>10} {'MB':>10} {'seconds':>9}"]
        for name, s in self.stages.items():
            lines.append(
                f"{name:<10} {s.batches:>8,} {s.rows:>10,} {s.bytes / 1e6:>10,.1f} {s.seconds:>9.2f}"
            )
        lines.append(f"{'waited':<10} {self.delivered:>8,} {'':>10} {'':>10} {self.waited:>9.2f}")
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


class Meter:
    """Counts of one pass; any thread may add."""

    def __init__(self) -> None:
        self.fetches: Final = Fetches()
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

    def tried_again(self, waited: float, throttled: bool) -> None:
        """Count a request that is made again after so many seconds."""
        with self._lock:
            r = self._stats.retries
            more = Retries(r.count + 1, r.throttled + throttled, r.seconds + waited)
            self._stats = replace(self._stats, retries=more)

    def delivered(self, waited: float, elapsed: float) -> None:
        """Count a batch handed over; `elapsed` is seconds since the pass began."""
        with self._lock:
            self._stats = replace(
                self._stats,
                delivered=self._stats.delivered + 1,
                waited=self._stats.waited + waited,
                elapsed=elapsed,
            )

    def stats(self) -> LoaderStats:
        """A copy of the counts."""
        with self._lock:
            stages = dict(self._stats.stages)
            return replace(self._stats, stages=stages, fetches=self.fetches.stats())
