"""What failed in other loaders, as tests of this one: a class for each such failure.

The cause is in the name of the class or its first line. What other files prove is not repeated:

bijection        tests/test_planner_rng.py: pairs of neighbours (XOR), first places, no two (seed, epoch)
                 alike; tests/test_planner_plan.py: no two epochs of plans alike
one sequence     tests/test_planner_stream.py: ranks by the rule, the four remainders
resumption       tests/test_planner_stream.py: a state inside the loop, of another plan;
                 tests/test_loader_state.py: consumed is not prefetched, several iterators;
                 tests/test_planner_killed.py: four processes killed, three go on
odd inputs       tests/test_weights.py: what weights may not be; tests/test_planner_plan.py: offsets, sizes
large weights    tests/test_planner_draw.py: a ratio of 2^60, weights at the ends of floats;
                 tests/test_planner_statistics.py: shares at 2^24 + 1 and 10^8 rows
class counts     tests/test_planner_quota.py: every class, fragment and row within one, for any small plan
predictions      tests/test_planner_quality.py: VIF, classes of batches and reads of fragments, told and counted;
                 tests/test_explain.py, tests/test_chain.py: what explain expects of classes
corrupt rows     tests/test_loader.py: an error comes in its turn; tests/test_loader_errors.py: what stands in
processes        tests/test_forks.py: forks while locks are held; tests/test_torch.py: stock workers
same bytes       tests/test_loader.py: one and eight threads
"""

import gc
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tql
from tests.profiles import NIGHTLY
from tql import rowset
from tql.diagnostics import TqlPlanError
from tql.partition import partition
from tql.planner import Plan, bulk, make_plan
from tql.planner.draw import row_table
from tql.planner.permute import Permutation, permutation
from tql.planner.placing import within_twin
from tql.planner.rng import philox_twin, stream_key
from tql.planner.windows import Windows
from tql.rowset import Range
from tql.weights import ClassWeights, RowWeights

KEY = stream_key(0, 0, "", "acceptance")
ROOT = Path(__file__).parents[1]
nightly = pytest.mark.skipif(not NIGHTLY, reason="takes gigabytes: TQL_TEST_PROFILE=nightly")


def by_class(labels: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> ClassWeights:
    """Row i has the weight values[labels[i]]."""
    kinds = labels.astype(np.uint8)
    return ClassWeights(values, partition(kinds, values.size, rowset.everything(labels.size)))


# -- the way back ----------------------------------------------------------------------------------


def hashed(x: int, key: int) -> int:
    """The keyed hash of a round, in Python's integers."""
    p = (x ^ (key & 0xFFFFFFFF)) * 0xD2511F53
    p = ((p >> 32) ^ (p & 0xFFFFFFFF) ^ (key >> 32)) * 0xCD9E8D57 & 0xFFFFFFFFFFFFFFFF
    return (p >> 32) ^ (p & 0xFFFFFFFF)


def undone(permuted: Permutation, y: int) -> int:
    """The x that is mapped to y: round by round backwards, on grid places beyond n once more.

    That it can be written down is the proof that no x is lost and none comes twice, whatever n is.
    """
    keys, b = permuted.keys.tolist(), 1 << permuted.bits
    a = -(-permuted.n // b)
    while True:
        left, right = divmod(y, b)
        for key, next_key in reversed(list(zip(keys[::2], keys[1::2]))):
            right = (right - (hashed(left, next_key) >> (32 - permuted.bits))) % b
            left = (left - (hashed(right, key) * a >> 32)) % a
        y = left * b + right
        if y < permuted.n:
            return y


def lengths() -> Iterator[int]:
    """2^k, 2^k ± 1 and 4^k + 1 from 2^13 to 2^34, and round numbers between."""
    for k in range(13, 35):
        yield from (2**k - 1, 2**k, 2**k + 1)
    yield from (10**6, 1_281_167, 10**8, 10**10)


class TestBijection:
    """A power-of-four network lost a row at 4^k + 1; four rounds repeated pairs."""

    @pytest.mark.parametrize("rounds", [6, 8])
    def test_every_length_up_to_5000(self, rounds: int) -> None:
        for n in range(1, 5001):
            image = np.arange(n)
            made = permutation(n, KEY, rounds)
            made.apply(image, fast=made.table is None)
            assert np.array_equal(np.bincount(image, minlength=n), np.ones(n, np.int64)), n

    def test_every_length_of_a_cell_up_to_600(self) -> None:
        for n in range(1, 601):
            a, b = philox_twin(KEY, np.full(n, n))
            image = within_twin(np.arange(n), np.full(n, n), a, b)
            assert np.array_equal(np.sort(image), np.arange(n)), n

    @pytest.mark.parametrize("n", list(lengths()))
    def test_large_lengths_have_a_way_back(self, n: int) -> None:
        made = permutation(n, KEY)
        some = np.random.default_rng(n).integers(0, n, 300)
        some[:4] = [0, 1, n - 2, n - 1]
        image = made(some)
        assert image.min() >= 0 and image.max() < n
        assert [undone(made, y) for y in image.tolist()] == some.tolist()
        # And every place, the last above all, is somebody's image.
        assert made(np.array([undone(made, y) for y in some.tolist()])).tolist() == some.tolist()

    @pytest.mark.parametrize("n", [65_536, 65_537, 1_048_577, 1_281_167])
    def test_rows_of_one_chunk_meet_in_a_batch_as_often_as_by_chance(self, n: int) -> None:
        # Pairs of a batch of 32 that are of one chunk of 200 rows: mean and variance over 2,000
        # batches, within 5 deviations of those of 24 random orders (a good network fails in one
        # key of a million). Networks of four rounds on power-of-four grids vary too little.
        def pairs(order: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            chunks = np.sort((order[: 32 * 2000] // 200).reshape(-1, 32), axis=1)
            same = np.zeros(len(chunks))
            for gap in range(1, 32):
                same += (chunks[:, gap:] == chunks[:, :-gap]).sum(1)
            return same

        chance = [pairs(np.random.default_rng(s).permutation(n)) for s in range(24)]
        ours = pairs(permutation(n, KEY)(np.arange(64_000)))
        for measure in (np.mean, np.var):
            expected = [float(measure(c)) for c in chance]
            assert abs(float(measure(ours)) - np.mean(expected)) < 5 * np.std(expected)

    def test_sums_of_seed_and_epoch_name_nothing(self) -> None:
        # Loaders that add them repeat the epoch 1 of seed 0 as epoch 0 of seed 1.
        plans = [make_plan(rowset.everything(50), shuffle=True, seed=s) for s in range(40)]
        assert len({p.ids(e).tobytes() for p in plans for e in range(40)}) == 1600
        wide = [make_plan(rowset.everything(50), shuffle=True, seed=s) for s in (0, 2**64, -1)]
        assert len({p.ids(e).tobytes() for p in wide for e in (0, 2**32, 2**64)}) == 9


# -- one sequence ----------------------------------------------------------------------------------

N = 131
KINDS = np.arange(N) * 7 % 10
POPULATION = rowset.from_mask(np.arange(2 * N) % 2 == 0)
BY_ROW = RowWeights((1 + np.arange(N) % 71).astype(np.float64))
BY_CLASS = ClassWeights(np.arange(1.0, 11.0), partition(KINDS.astype(np.uint8), 10, POPULATION))
EDGES = np.array([0, 60, 61, 150, 2 * N])
MODES: dict[str, dict[str, Any]] = {
    "in order": {},
    "shuffled": {"shuffle": True},
    "classes": {"weights": BY_CLASS},
    "classes, shuffled": {"weights": BY_CLASS, "shuffle": True},
    "rows": {"weights": BY_ROW},
    "classes, no repeats": {"weights": BY_CLASS, "replace": False, "size": 90},
    "rows, no repeats": {"weights": BY_ROW, "replace": False, "size": 90},
    "classes by quota": {"weights": BY_CLASS, "mix": "epoch", "edges": EDGES},
    "rows by quota": {"weights": BY_ROW, "mix": "epoch", "edges": EDGES},
    "batches by quota": {"weights": BY_CLASS, "mix": "batch", "block": 16, "edges": EDGES},
    "one draw": {"weights": BY_CLASS, "resample": "once", "shuffle": True},
    "in windows": {"shuffle": True, "edges": EDGES, "windows": Windows(40)},
    "classes in windows": {
        "weights": BY_CLASS,
        "shuffle": True,
        "edges": EDGES,
        "windows": Windows(40),
    },
    "rows by quota in windows": {
        "weights": BY_ROW,
        "mix": "epoch",
        "shuffle": True,
        "edges": EDGES,
        "windows": Windows(40),
    },
}
every_mode = pytest.mark.parametrize("mode", MODES)
WORLDS, THREADS, BATCHES = (1, 2, 3, 4, 7, 8), (1, 2, 16), (1, 7, 256)


def plan_of(mode: str, seed: int = 5) -> Plan:
    return make_plan(POPULATION, seed=seed, **MODES[mode])


def interleaved(ranks: list[list[list[int]]]) -> list[int]:
    """The batches of all ranks, step by step."""
    steps = max(map(len, ranks))
    return [
        row for s in range(steps) for rank in ranks for row in (rank[s] if s < len(rank) else [])
    ]


def chain(ds: tql.Dataset) -> tql.DataLoader:
    """Filtered, weighted, shuffled."""
    made = ds.dataloader(seed=11).query("select * where kind != 5").sample_by("kind + 1")
    return made.shuffle()


@pytest.fixture(scope="module")
def table() -> tql.Dataset:
    """Rows in several chunks, the kinds sorted."""
    ids = np.arange(440)
    chunks = [
        pa.table({"id": ids[a : a + 100], "kind": ids[a : a + 100] // 44})
        for a in range(0, 440, 100)
    ]
    return tql.open(pa.concat_tables(chunks))


class TestOneSequence:
    """Other loaders need sizes that divide each other, or give every rank count another order."""

    @pytest.mark.parametrize("world", WORLDS)
    @pytest.mark.parametrize("threads", THREADS)
    @pytest.mark.parametrize("batch", BATCHES)
    def test_a_loader_delivers_it(
        self, table: tql.Dataset, world: int, threads: int, batch: int
    ) -> None:
        ranks = []
        for rank in range(world):
            loader = chain(table).batch(batch).numpy(
                num_threads=threads, rank=rank, world_size=world, remainder="short"
            )  # fmt: skip
            ranks.append([b["index"].tolist() for b in loader])
        plan = chain(table).plan
        assert len(plan) == 396 and len(set(plan.ids().tolist())) < 300
        assert interleaved(ranks) == plan.ids().tolist()

    @every_mode
    @pytest.mark.parametrize("world", WORLDS)
    def test_streams_of_every_kind_of_plan_give_it(self, mode: str, world: int) -> None:
        plan = plan_of(mode)
        for batch in BATCHES:
            streams = [plan.stream(2, rank, world, batch_size=batch) for rank in range(world)]
            ranks = [[rows.tolist() for rows in stream] for stream in streams]
            assert interleaved(ranks) == plan.ids(2).tolist()

    @pytest.mark.parametrize("lanes", [2, 4, 6])
    def test_lanes_share_out_the_rows_of_a_step_and_change_none(self, lanes: int) -> None:
        plan = make_plan(POPULATION, shuffle=True, edges=EDGES, windows=Windows(20, lanes), seed=5)
        whole = plan.ids(2).tolist()
        for world in (1, 2, 3, 4, 6, 8):
            streams = [plan.stream(2, r, world, batch_size=24 // world) for r in range(world)]
            ranks = [[rows.tolist() for rows in stream] for stream in streams]
            for s, start in enumerate(range(0, N, 24)):
                parts = [rank[s] for rank in ranks if s < len(rank)]
                assert sorted(row for part in parts for row in part) == sorted(
                    whole[start : start + 24]
                )

    @pytest.mark.parametrize(
        "mode", ["shuffled", "classes", "rows", "rows, no repeats", "by quota"]
    )
    def test_a_plan_computes_it_on_any_number_of_threads(
        self, mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        n = 20 * bulk.BLOCK + 5
        values = (1 + np.arange(n) % 50).astype(np.float64)
        by_kind = by_class(np.arange(n) % 50, np.arange(1.0, 51.0))
        choices: dict[str, dict[str, Any]] = {
            "shuffled": {"shuffle": True},
            "classes": {"weights": by_kind},
            "rows": {"weights": RowWeights(values)},
            "rows, no repeats": {"weights": RowWeights(values), "replace": False, "size": n // 2},
            "by quota": {"weights": by_kind, "mix": "epoch"},
        }
        found = set()
        monkeypatch.setattr(bulk, "_MOST_THREADS", 16)
        for threads in THREADS:
            monkeypatch.setattr(bulk, "usable_cpus", lambda threads=threads: threads)
            plan = make_plan(rowset.everything(n), **choices[mode])
            found.add(hashlib.sha256(plan.ids().tobytes()).hexdigest())
        assert len(found) == 1


# -- resumption ------------------------------------------------------------------------------------


class TestResumption:
    """A second resumption of an epoch, one at its end, one on other ranks: where others lose rows."""

    @every_mode
    def test_at_every_offset_on_other_ranks(self, mode: str) -> None:
        plan = plan_of(mode)
        whole = plan.ids(1).tolist()
        for offset in range(len(plan) + 1):
            state = json.loads(json.dumps(plan.stream(1, offset=offset).state_dict()))
            world = 1 + offset % 5
            ranks = []
            for rank in range(world):
                stream = plan_of(mode).stream(0, rank, world, batch_size=16)
                stream.load_state_dict(state)
                ranks.append([rows.tolist() for rows in stream])
            assert interleaved(ranks) == whole[offset:], offset

    @every_mode
    def test_twice_in_an_epoch_and_at_its_end(self, mode: str) -> None:
        plan = plan_of(mode)
        whole, length = plan.ids(3).tolist(), len(plan)
        for first in range(0, length, 19):
            seen: list[int] = []
            state: dict[str, Any] = plan.stream(3).state_dict()
            for stop_at, batch in ((first, 8), (first + (length - first) // 2, 5), (length, 13)):
                stream = plan_of(mode).stream(batch_size=batch)
                stream.load_state_dict(state)
                for rows in stream:
                    seen += rows.tolist()
                    if stream.position >= stop_at:
                        break
                state = stream.state_dict()
            assert seen == whole
            ended = plan.stream(batch_size=4)
            ended.load_state_dict(state)
            assert list(ended) == [] and ended.position == length

    @pytest.mark.parametrize("threads", THREADS)
    def test_of_a_loader_whose_threads_have_read_ahead(
        self, table: tql.Dataset, threads: int
    ) -> None:
        def loader() -> tql.DataLoader:
            return chain(table).batch(9).numpy(num_threads=threads, prefetch_factor=8)

        whole = [b["index"].tolist() for b in loader()]
        for stop_at in range(1, len(whole) + 1, 3):
            first = loader()
            batches = iter(first)
            seen = [next(batches)["index"].tolist() for _ in range(stop_at)]
            state = json.loads(json.dumps(first.state_dict()))
            first.close()
            assert state["position"] == sum(map(len, seen))
            second = loader()
            second.load_state_dict(state)
            assert seen + [b["index"].tolist() for b in second] == whole


# -- odd inputs ------------------------------------------------------------------------------------


# Views of 200 rows whose column id is the row number.
VIEWS: dict[str, Callable[[tql.Dataset], tql.Dataset]] = {
    "slice": lambda ds: ds[30:90],
    "slice with a step": lambda ds: ds[5:190:3],
    "slice of a slice": lambda ds: ds[30:90][10:20],
    "slice of a filter": lambda ds: ds.query("select * where id % 2 == 0")[20:70],
    "repeated rows": lambda ds: ds.query("select * sample by id limit 120"),
    "unsorted": lambda ds: ds.query("select * order by id % 7 desc, id"),
    "twice": lambda ds: ds.query("(select * where id < 9) union all (select * where id < 9)"),
    "one row": lambda ds: ds[77:78],
}


@pytest.fixture(scope="module")
def ds() -> tql.Dataset:
    return tql.open({"id": np.arange(200)})


DRAWS: dict[str, dict[str, Any]] = {
    "iid": {},
    "by quota": {"mix": "epoch"},
    "by quota in batches": {"mix": "batch"},
    "strict": {"mix": "epoch", "replace": False, "size": 1},
    "no repeats": {"replace": False, "size": 1},
}


class TestOddInputs:
    """Views that weights were not aligned with, and weights that were taken without a look."""

    @pytest.mark.parametrize("view", VIEWS)
    @pytest.mark.parametrize("draw", DRAWS)
    def test_weights_belong_to_the_rows_of_the_view(
        self, ds: tql.Dataset, view: str, draw: str
    ) -> None:
        chosen = VIEWS[view](ds)
        rows = np.asarray(chosen["id"])
        wanted = int(rows[len(rows) // 2])
        for weights in (np.where(rows == wanted, 2.0, 0.0), f"id == {wanted}"):
            loader = chosen.dataloader(seed=2).sample_by(weights, **DRAWS[draw]).batch(4).numpy()
            batches = list(loader)
            assert {i for b in batches for i in b["id"].tolist()} == {wanted}
            assert all(np.array_equal(b["index"], b["id"]) for b in batches)

    @pytest.mark.parametrize("view", VIEWS)
    def test_a_shuffled_view_has_its_rows_as_often_as_they_are_in_it(
        self, ds: tql.Dataset, view: str
    ) -> None:
        chosen = VIEWS[view](ds)
        loader = chosen.dataloader(seed=2).shuffle().batch(7).numpy()
        for _ in range(2):
            seen = [i for b in loader for i in b["id"].tolist()]
            assert sorted(seen) == sorted(np.asarray(chosen["id"]).tolist())

    def test_nothing_left_is_an_empty_loader_unless_something_is_to_be_drawn(
        self, ds: tql.Dataset
    ) -> None:
        empty = ds.dataloader().query("select * where id > 1000")
        assert list(empty.shuffle().batch(4).numpy()) == []
        for draw in DRAWS.values():
            with pytest.raises(TqlPlanError, match="population is empty"):
                list(empty.sample_by("id", **draw).batch(4).numpy())

    @pytest.mark.parametrize(
        ("weights", "says"),
        [
            (np.zeros(200), "every weight is zero"),
            (np.where(np.arange(200) == 7, -1.0, 1.0), "negative"),
            (np.where(np.arange(200) == 7, np.nan, 1.0), "NaN"),
            (np.where(np.arange(200) == 7, np.inf, 1.0), "infinite"),
            (np.ones(199), "199"),
            (np.ones(201), "201"),
            (np.ones((200, 1)), "one dimension"),
            ("id - 100", "negative"),
            ("0 * id", "every weight is zero"),
            ("1 / (id - id % 50)", "infinite"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("draw", DRAWS)
    def test_weights_that_mean_nothing_are_refused(
        self, ds: tql.Dataset, weights: Any, says: str, draw: str
    ) -> None:
        with pytest.raises(tql.TqlError, match=says):
            len(ds.dataloader().sample_by(weights, **DRAWS[draw]).batch(4).numpy())


# -- large weights ---------------------------------------------------------------------------------


def check_sums(values: np.ndarray[Any, Any]) -> None:
    """The fixed-point sums of whole-number weights, against exact fractions, at 3,000 rows."""
    n, exact = values.size, np.cumsum(values.astype(np.uint64))
    upto = row_table(RowWeights(values)).upto
    assert n * int(values.max()) < 2**64
    total, of_all = int(upto[n - 1]), int(exact[-1])
    assert 2**61 < total < 2**63
    rows = np.unique(np.random.default_rng(0).integers(0, n, 3000))
    for row, before, here in zip(rows, upto[rows - 1].tolist(), upto[rows].tolist()):
        unit = here - before if row else here
        share, due = Fraction(unit, total), Fraction(int(values[row]), of_all)
        assert abs(share - due) <= Fraction(n + 2, 2**62) * max(due, Fraction(1, n))
        assert abs(Fraction(here, total) - Fraction(int(exact[row]), of_all)) <= Fraction(n, 2**62)


class TestLargeWeights:
    """2^24 categories were the limit, and sums were wrong before it."""

    def test_sums_of_2_to_24_and_one_rows_are_exact(self) -> None:
        values = np.ones(2**24 + 1)
        values[::1000] = 1e6
        check_sums(values)

    @nightly
    def test_sums_of_10_to_8_rows_are_exact(self) -> None:
        values = np.ones(10**8)
        values[::1000] = 1e6
        check_sums(values)

    @pytest.mark.parametrize("rows", [2**24 + 1, 10**8])
    @pytest.mark.parametrize("mix", ["iid", "epoch"])
    def test_a_ratio_of_10_to_12_by_class(self, rows: int, mix: str) -> None:
        """The one heavy row has half of all mass when the others weigh 1 / (rows - 1) of it."""
        rest, last = Range(0, rows - 1, rows), Range(rows - 1, rows, rows)
        values = np.array([1.0, float(rows - 1)])
        plan = make_plan(
            rowset.everything(rows), ClassWeights(values, (rest, last)), size=100_001, mix=mix
        )
        ids = plan.ids()
        heavy = int((ids == rows - 1).sum())
        assert heavy in (50_000, 50_001) if mix == "epoch" else abs(heavy - 50_000) < 5 * 158.2
        assert np.unique(ids[ids < rows - 1]).size > 49_000 and ids.max() == rows - 1
        # 10^12 times as heavy: of 10^6 draws, fewer than one is of another row.
        values = np.array([1.0, 1e12 * (rows - 1)])
        far = make_plan(
            rowset.everything(rows), ClassWeights(values, (rest, last)), size=10**6, mix=mix
        )
        assert int((far.ids() != rows - 1).sum()) <= 1

    def test_light_rows_beside_one_of_10_to_12_get_their_quota(self) -> None:
        n, draws = 2**22 + 1, 1 << 20
        values = 1.0 + (np.arange(n) % 100) / 128
        values[12_345] = 1e12
        plan = make_plan(rowset.everything(n), RowWeights(values), size=draws, mix="epoch")
        light = int((plan.ids() != 12_345).sum())
        rest = Fraction(float(values[:12_345].sum() + values[12_346:].sum()))  # exact in halves
        assert abs(light - draws * rest / (rest + 10**12)) < 1 and light > 5

    @nightly
    def test_10_to_8_rows_with_a_weight_each_are_drawn_by_quota(self) -> None:
        n = 10**8
        values = np.ones(n)
        values[n // 2 :] = 3.0
        values[5] = 1e12
        plan = make_plan(
            rowset.everything(n),
            RowWeights(values + 1e-9 * (np.arange(n) % 100)),
            size=10**6,
            mix="epoch",
        )
        assert int((plan.ids() != 5).sum()) in range(190, 211)


# -- class counts ----------------------------------------------------------------------------------


class TestClassCounts:
    """Copies, drift and errors of the mix: 113 of 1,000 by chance, heavy rows first."""

    # A long tail: 100 classes of 10 to some 8,000 rows.
    SIZES = np.maximum(10, 100_000 * 0.92 ** np.arange(100) * 0.08).astype(np.int64)

    def labels(self, layout: str) -> np.ndarray[Any, Any]:
        labels = np.repeat(np.arange(100), self.SIZES)
        return labels if layout == "sorted" else np.random.default_rng(3).permutation(labels)

    @pytest.mark.parametrize("layout", ["sorted", "shuffled"])
    @pytest.mark.parametrize("mix", ["epoch", "batch"])
    @pytest.mark.parametrize("draws", [100_000, 99_999, 12_345])
    def test_of_a_long_tail_to_equal_shares(self, layout: str, mix: str, draws: int) -> None:
        labels = self.labels(layout)
        weights = by_class(labels, 1.0 / self.SIZES)
        edges = np.append(np.arange(0, labels.size, 200), labels.size)
        plan = make_plan(
            rowset.everything(labels.size), weights, size=draws, mix=mix, edges=edges,
            block=256 if mix == "batch" else None,
        )  # fmt: skip
        for epoch in range(2):
            ids = plan.ids(epoch)
            counts = np.bincount(labels[ids], minlength=100)
            assert np.abs(counts - draws / 100).max() < 1
            copies = np.bincount(ids, minlength=labels.size)
            # No row more often than its class needs: draws / 100 over its rows, rounded up. At the
            # edge of a cell a row may come once more than another of its class elsewhere.
            most = np.ceil(draws / 100 / self.SIZES) + 1
            assert (copies <= most[labels]).all()

    @pytest.mark.parametrize("layout", ["sorted", "shuffled"])
    @pytest.mark.parametrize("kind", ["classes", "rows"])
    def test_without_replacement_every_tenth_has_the_same_share(
        self, layout: str, kind: str
    ) -> None:
        # 2 classes, the rare one of nine times the weight. Its part of ten tenths of 5,000 draws:
        # chi-square with 9 degrees of freedom exceeds 37.3 for one seed in 40,000.
        n, draws = 100_000, 50_000
        rare = np.arange(n) < n // 10 if layout == "sorted" else np.arange(n) % 10 == 3
        values = np.where(rare, 9.0, 1.0)
        weights = (
            by_class(rare * 1, np.array([1.0, 9.0])) if kind == "classes" else RowWeights(values)
        )
        plan = make_plan(rowset.everything(n), weights, size=draws, replace=False, seed=4)
        ids = plan.ids()
        assert np.unique(ids).size == draws
        tenths = rare[ids].reshape(10, -1).sum(1)
        share = tenths.sum() / draws
        spread = draws / 10 * share * (1 - share)
        assert ((tenths - tenths.mean()) ** 2).sum() / spread < 37.3
        assert 0.19 < share < 0.21  # not 0.5: what is left of the weights is reported by explain

    @pytest.mark.parametrize("size", [100, 500, 900])
    def test_the_mix_that_drawing_without_replacement_reaches_is_reported(self, size: int) -> None:
        ds = tql.open({"id": np.arange(1000), "rare": np.arange(1000) % 10 == 0})
        loader = ds.dataloader().sample_by("max_weight(rare: 9, true: 1)", size=size, replace=False)
        lines = loader.explain().to_dict()["classes"]["lines"]
        told = {line["class"]: line["expected"] for line in lines}
        drawn = np.mean([(loader.plan.ids(e) % 10 == 0).sum() for e in range(100)])
        # The mean of 100 epochs: a standard deviation is below half a row.
        assert abs(drawn - told["true"]) < 2.5 and abs(sum(told.values()) - size) < 1e-6

    def test_weights_that_make_no_difference_are_pointed_out(self) -> None:
        weights = by_class(np.arange(100) % 10 == 0, np.array([1.0, 9.0]))
        plan = make_plan(rowset.everything(100), weights, replace=False)
        assert any("makes no difference" in note for note in plan.notes)


# -- corrupt rows, processes, bytes ----------------------------------------------------------------


class TestCorruptRows:
    """A bad row on one rank left the others waiting for ever."""

    def test_only_the_rank_that_draws_it_fails_and_the_steps_are_equal(self) -> None:
        ds = tql.open({"id": np.arange(40)})
        plan = ds.dataloader(seed=1).shuffle().plan
        bad = int(plan.ids()[3 * 4 + 2])  # in the first step of rank 3 of 4

        def broken(sample: dict[str, Any]) -> dict[str, Any]:
            if sample["id"] == bad:
                raise ValueError("no image")
            return {"id": sample["id"]}

        loaders = [
            ds.dataloader(seed=1).shuffle().batch(4).transform(broken).numpy(rank=r, world_size=4)
            for r in range(4)
        ]
        assert {len(loader) for loader in loaders} == {2}
        assert [len(list(loader)) for loader in loaders[:3]] == [2, 2, 2]
        with pytest.raises(ValueError, match="no image") as failure:
            list(loaders[3])
        assert any(f"row {bad}" in note for note in failure.value.__notes__)
        assert all(loader.plan.fingerprint == plan.fingerprint for loader in loaders)

    @pytest.mark.parametrize("policy", ["replace", "skip"])
    def test_all_ranks_make_the_same_steps_and_the_mix_stays(self, policy: Any) -> None:
        ds = tql.open({"id": np.arange(90), "kind": np.arange(90) % 3})

        def broken(sample: dict[str, Any]) -> dict[str, Any]:
            if sample["id"] in (6, 13, 40):
                raise ValueError("no image")
            return {"id": sample["id"]}

        def made(rank: int, world: int) -> tql.DataLoader:
            loader = ds.dataloader(seed=1, on_error=policy)
            loader = loader.sample_by(
                "max_weight(kind == 0: 3, kind == 1: 2, true: 1)", mix="epoch"
            )
            return loader.batch(5).transform(broken).numpy(rank=rank, world_size=world)

        ranks = [[b["index"].tolist() for b in made(rank, 3)] for rank in range(3)]
        planned, found = made(0, 1).plan.ids().tolist(), interleaved(ranks)
        assert {len(rank) for rank in ranks} == {6} and len(planned) == 90
        assert {6, 13, 40} & set(planned) and not {6, 13, 40} & set(found)
        if policy == "skip":
            assert found == [row for row in planned if row not in (6, 13, 40)]
        else:
            assert [row % 3 for row in found] == [row % 3 for row in planned]
            assert all(a == b or b in (6, 13, 40) for a, b in zip(found, planned))


def draw_elsewhere(mode: str, out: Any) -> None:
    """Runs in another process."""
    plan = plan_of(mode)
    out.put((plan.fingerprint, plan.ids(4).tolist(), plan.stream(4, 1, 3).state_dict()))


class TestProcesses:
    """Threads and memory left behind, locks that were held in a fork, builds without the lock."""

    def test_ten_iterators_that_are_dropped_leave_nothing(self) -> None:
        width, batch = 2048, 64
        ds = tql.open({"x": np.zeros((1000, width))})
        loader = ds.dataloader().shuffle().batch(batch).numpy(num_threads=4)

        def abandon(times: int) -> None:
            for _ in range(times):
                assert next(iter(loader))["x"].shape == (batch, width)
            gc.collect()

        abandon(2)  # blocks that are used again are there now
        threads = set(threading.enumerate())
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            abandon(10)
            deadline = time.monotonic() + 60
            for thread in set(threading.enumerate()) - threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert not [t for t in set(threading.enumerate()) - threads if t.is_alive()]
        # Ten passes had some three batches each in the making: 30 MB. A pool of used blocks stays.
        assert after - before < 4 * batch * width * 8

    @pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads
    def test_a_plan_made_in_another_process_is_the_same(self, method: str) -> None:
        plan = plan_of("classes by quota")
        here = plan.ids(4).tolist()  # threads, kernels and locks of the parent have been used
        context: Any = multiprocessing.get_context(method)
        out = context.Queue()
        child = context.Process(target=draw_elsewhere, args=("classes by quota", out))
        child.start()
        try:
            there = out.get(timeout=120)
        finally:
            child.join(60)
        assert there == (plan.fingerprint, here, plan.stream(4, 1, 3).state_dict())
        assert child.exitcode == 0

    def test_a_build_without_the_global_lock_draws_the_same(self) -> None:
        found = [p for v in range(13, 20) if (p := shutil.which(f"python3.{v}t"))]
        imports = "import numpy, numba, pyarrow, lark"
        usable = [
            p
            for p in found
            if subprocess.run([p, "-c", imports], capture_output=True).returncode == 0
        ]
        if not usable:
            pytest.skip(f"no free-threaded Python with the dependencies on PATH; found: {found}")
        script = (
            "import sys, hashlib; from concurrent.futures import ThreadPoolExecutor\n"
            "from tests.test_planner_acceptance import MODES, plan_of\n"
            "assert not sys._is_gil_enabled()\n"
            "for mode in MODES:\n"
            "    plan = plan_of(mode)\n"
            "    with ThreadPoolExecutor(16) as pool:\n"
            "        parts = list(pool.map(lambda a: plan.draw(a, a + 10, epoch=a % 3), range(0, 80, 5)))\n"
            "    print(hashlib.sha256(b''.join(p.tobytes() for p in parts)).hexdigest())\n"
        )
        digests = []
        for mode in MODES:
            plan = plan_of(mode)
            parts = [plan.draw(a, a + 10, epoch=a % 3).tobytes() for a in range(0, 80, 5)]
            digests.append(hashlib.sha256(b"".join(parts)).hexdigest())
        for python in usable:
            done = subprocess.run(
                [python, "-X", "gil=0", "-c", script],
                env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            )  # fmt: skip
            assert (done.returncode, done.stdout.split(), done.stderr) == (0, digests, "")


class TestSameBytes:
    """Random numbers of workers made an epoch's pictures depend on their number."""

    def test_the_seed_of_a_sample_is_of_its_row_copy_and_epoch_alone(self) -> None:
        plan = plan_of("classes by quota")
        of_sample: dict[tuple[int, int], int] = {}
        for world, batch in ((1, 1), (3, 7), (8, 256)):
            for rank in range(world):
                stream = plan.stream(1, rank, world, batch_size=batch)
                for b in map(stream.batch, range(stream.batches)):
                    for row, copy, seed in zip(
                        b.rows.tolist(), b.copies.tolist(), b.seeds.tolist()
                    ):
                        assert of_sample.setdefault((row, copy), seed) == seed
        assert len(of_sample) == len(plan) == len(set(of_sample.values()))
        assert not set(of_sample.values()) & set(plan.locate(0, len(plan), 2)[2].tolist())
