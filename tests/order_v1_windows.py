"""Section 13 of docs/order.md, orders in windows, in plain Python: slow, and nothing of the package."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import gcd
from typing import TypeAlias

from tests.order_v1 import (
    Order,
    at_most_once,
    first_above,
    high,
    random,
    running,
    units,
    within,
)

Run: TypeAlias = tuple[int, int, list[int]]  # fragment, pass, draws


@dataclass
class InWindows(Order):
    """A plan in windows: `length`, `lanes`, `max_passes`."""

    windows: dict[str, int] = field(default_factory=dict)

    def order(self, epoch: int) -> Callable[[int], int]:
        dealt = _dealt(self, self.windows, epoch)
        return _placed(self, self.windows["length"], self.windows["lanes"], epoch, dealt)

    def sampler(self, epoch: int) -> Callable[[int], int]:
        if self.weighted and self.mix == "iid":
            return _in_cells(self, None if self.resample == "once" else epoch)
        return super().sampler(epoch)


def _placed(
    order: Order, length: int, lanes: int, epoch: int, dealt: list[list[Run]]
) -> Callable[[int], int]:
    line = [d for unit in dealt for _, _, draws in unit for d in draws]
    ends = running([sum(len(draws) for _, _, draws in unit) for unit in dealt])
    base, longer = divmod(order.draws, lanes)
    most = min(length, base + (longer > 0))
    windows, cut = order.key("within windows", epoch), order.key("within units", epoch)

    def draw(p: int) -> int:
        x, lane = divmod(p, lanes)
        w, inside = divmod(x, most)
        begin = lane * base + min(lane, longer)
        end = begin + base + (lane < longer)
        f = begin + w * most
        e = min(f + most, end)
        y = f + within(inside, e - f, *random(windows, lane * -(-(base + 1) // most) + w))
        v = first_above(ends, y)
        g, h = ends[v - 1] if v else 0, ends[v]
        if g < f or h > e:
            y = g + within(y - g, h - g, *random(cut, v))
        return line[y]

    return draw


def _dealt(order: Order, windows: dict[str, int], epoch: int) -> list[list[Run]]:
    """The units in the order of the line."""
    length, lanes, most = windows["length"], windows["lanes"], windows["max_passes"]
    runs = [
        run for run in _runs(order, most, None if order.resample == "once" else epoch) if run[2]
    ]
    names = sorted({(fragment, number) for fragment, number, _ in runs})
    found = [[run for run in runs if run[:2] == name] for name in names]
    n, k = len(found), order.key("deal units", epoch)
    alive = max(1, min((2 * length * n + order.draws) // (2 * order.draws), -(-n // lanes)))
    strata = min(alive * lanes, n)
    group = -(-strata // lanes)
    step = group * 2654435769 // 2**32
    while gcd(step, group) != 1:
        step += 1
    shift = high(random(k, 2**64 - 1)[0], lanes)
    start = high(random(k, 2**64 - 2)[0], group)
    dealt = []
    for lane in range(lanes):
        for r in range(-(-n // strata)):
            for j in range(group):
                i = (j * step + start) % group * lanes + (lane - r + shift) % lanes
                if i < strata:
                    first, end = i * n // strata, (i + 1) * n // strata
                    if r < end - first:
                        dealt.append(found[first + within(r, end - first, *random(k, i))])
    return dealt


# -- runs -----------------------------------------------------------------------------------------


def _runs(order: Order, most: int, epoch: int | None) -> list[Run]:
    if not order.weighted:
        return [(f, 0, list(range(a, b))) for f, (a, b) in enumerate(order.fragments())]
    if order.mix == "iid":
        cells = _cells(order)
        counts = _counts(order, epoch)
        begins = [0, *running(counts)]
        return _turns([(f, rows) for _, rows, f in cells], begins, most)
    kinds, offset = order.kinds(), order.key("quota offset", epoch)
    if kinds is not None:
        lying, begins = order.lying(kinds[0], offset, kinds[1])
        return _turns([(f, rows) for _, _, rows, f in lying], begins, most)
    return _by_rows(order, most, offset)


def _turns(cells: list[tuple[int, int]], begins: list[int], most: int) -> list[Run]:
    runs: list[Run] = []
    for (fragment, rows), (first, end) in zip(cells, pairwise(begins)):
        turns, full = -(-(end - first) // rows), (end - first) // rows
        if turns <= most:
            cuts = [min(first + j * rows, end) for j in range(turns + 1)]
        else:
            cuts = [first + -(-p * full // most) * rows for p in range(most)] + [end]
        runs += [(fragment, p, list(range(a, b))) for p, (a, b) in enumerate(pairwise(cuts))]
    return runs


def _by_rows(order: Order, most: int, offset: tuple[int, int]) -> list[Run]:
    values = order.weights or []
    always, mine = ([], units(values)) if order.replace else at_most_once(values, order.draws)
    fragments = [(f, a, b) for f, (a, b) in enumerate(order.fragments()) if b > a]
    runs: list[Run] = [
        (f, 0, [d for d, slot in enumerate(always) if a <= slot < b]) for f, a, b in fragments
    ]
    left, total = order.draws - len(always), sum(mine)
    if not left:
        return runs
    o = high(random(offset, 0)[0], total)
    points = [(i * total + o) // left for i in range(left)]
    for f, a, b in fragments:
        before, upto = sum(mine[:a]), sum(mine[:b])
        draws = [len(always) + i for i, point in enumerate(points) if before <= point < upto]
        passes = max(1, min(most, -(-max(mine[a:b]) // -(-total // left))))
        runs += [(f, p, draws[p::passes]) for p in range(passes)]
    return runs


# -- independent draws ----------------------------------------------------------------------------


def _cells(order: Order) -> list[tuple[int, int, int]]:
    """First slot, rows and fragment of each cell."""
    if order.classes is not None:
        return [(first, rows, f) for _, first, rows, f in order.cells(order.classes, None)]
    return [(a, b - a, f) for f, (a, b) in enumerate(order.fragments()) if b > a]


def _counts(order: Order, epoch: int | None) -> list[int]:
    slot, cells = order.independent(epoch), _cells(order)
    of = Counter(slot(d) for d in range(order.draws))
    return [sum(of[i] for i in range(first, first + rows)) for first, rows, _ in cells]


def _in_cells(order: Order, epoch: int | None) -> Callable[[int], int]:
    """Draw to slot."""
    cells, ends = _cells(order), running(_counts(order, epoch))
    key, mine = order.key("sample rows", epoch), [0]
    if order.classes is None:
        mine = units(order.weights or [])
    upto = running(mine)

    def slot(d: int) -> int:
        first, rows, _ = cells[first_above(ends, d)]
        a = random(key, d)[0]
        if order.classes is not None:
            return first + high(a, rows)
        return first_above(upto, sum(mine[:first]) + high(a, sum(mine[first : first + rows])))

    return slot
