"""Order v1 as docs/order.md says it, in plain Python: slow, and nothing of the package.

Written from the page alone. If it has to look into the package, the page is not whole.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

Key: TypeAlias = tuple[int, int]  # low, high
Cell: TypeAlias = tuple[int, int, int, int]  # class, first slot, rows, fragment
M32, M64 = (1 << 32) - 1, (1 << 64) - 1


# 1, 2: keys and random numbers


def key_of(seed: int, epoch: int | None, fingerprint: str, purpose: str) -> Key:
    text = "\0".join(["v1", str(seed), "" if epoch is None else str(epoch), fingerprint, purpose])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def random(key: Key, t: int) -> tuple[int, int]:
    low, high = key
    c0, c1, c2, c3 = t & M32, t >> 32, high & M32, high >> 32
    k0, k1 = low & M32, low >> 32
    for _ in range(10):
        p, q = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (q >> 32) ^ c1 ^ k0, q & M32, (p >> 32) ^ c3 ^ k1, p & M32
        k0, k1 = k0 + 0x9E3779B9 & M32, k1 + 0xBB67AE85 & M32
    return c0 + (c1 << 32), c2 + (c3 << 32)


def high(x: int, y: int) -> int:
    return x * y >> 64


# 3: permutations


def hashed(x: int, k: int) -> int:
    p = (x ^ (k & M32)) * 0xD2511F53
    q = ((p >> 32) ^ (p & M32) ^ (k >> 32)) * 0xCD9E8D57
    return (q >> 32) ^ (q & M32)


def feistel(x: int, n: int, keys: Sequence[int]) -> int:
    s = (n - 1).bit_length() // 2
    w = 1 << s
    h = -(-n // w)
    while True:
        left, right = divmod(x, w)
        for k, following in zip(keys[::2], keys[1::2]):
            left = (left + hashed(right, k) * h // 2**32) % h
            right = (right + hashed(left, following) // 2 ** (32 - s)) % w
        x = left * w + right
        if x < n:
            return x


def permutation(n: int, key: Key, rounds: int = 6) -> Callable[[int], int]:
    if n >= 200:
        keys = [random(key, i)[0] for i in range(rounds)]
        return lambda x: feistel(x, n, keys)
    table = list(range(n))
    for i in range(n - 1, 0, -1):
        j = high(random(key, i)[0], i + 1)
        table[i], table[j] = table[j], table[i]
    return table.__getitem__


def within(x: int, n: int, a: int, b: int) -> int:
    return feistel(x, n, [a + i * b & M64 for i in range(12)])


# 4: plans


@dataclass
class Order:
    """A plan over rows 0 … n - 1; `classes` are (weight, rows) one after another in the data."""

    n: int
    fingerprint: str
    seed: int = 0
    classes: list[tuple[float, int]] | None = None
    weights: list[float] | None = None
    size: int | None = None
    shuffle: bool = False
    replace: bool = True
    mix: str = "iid"
    resample: str = "epoch"
    rounds: int = 6
    block: int | None = None
    edges: list[int] | None = None
    made: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size is not None and self.classes is None and self.weights is None:
            self.classes = [(1.0, self.n)]
        self.weighted = self.classes is not None or self.weights is not None
        self.draws = self.n if self.size is None else self.size
        if self.weighted and not self.replace:
            self.draws = min(self.draws, sum(w > 0 for w in self.each()))

    def each(self) -> list[float]:
        """The weight of each row."""
        if self.weights is not None:
            return self.weights
        return [w for w, rows in self.classes or () for _ in range(rows)]

    def row(self, position: int, epoch: int) -> int:
        if epoch not in self.made:
            self.made[epoch] = (self.order(epoch), self.sampler(epoch))
        order, sampler = self.made[epoch]
        found: int = sampler(order(position))
        return found

    def key(self, purpose: str, epoch: int | None) -> Key:
        return key_of(self.seed, epoch, self.fingerprint, purpose)

    def order(self, epoch: int) -> Callable[[int], int]:
        keyed = epoch if self.shuffle or self.resample == "epoch" else None
        if self.weighted and self.mix == "epoch":
            return permutation(self.draws, self.key("quota order", keyed), self.rounds)
        if self.weighted and self.mix == "batch":
            return self.dealt(keyed)
        if self.shuffle:
            return permutation(self.draws, self.key("shuffle", epoch), self.rounds)
        return lambda p: p

    def sampler(self, epoch: int) -> Callable[[int], int]:
        keyed = None if self.resample == "once" else epoch
        if not self.weighted:
            return lambda d: d
        if self.mix != "iid":
            return self.by_quota(keyed)
        if not self.replace:
            return self.without_replacement(keyed)
        return self.independent(keyed)

    # 5, 6: independent draws

    def independent(self, epoch: int | None) -> Callable[[int], int]:
        key = self.key("sample", epoch)
        if self.classes is not None:
            return lambda d: by_class(self.classes or [], *random(key, d))
        sums = running(units(self.weights or []))
        return lambda d: first_above(sums, high(random(key, d)[0], sums[-1]))

    # 7: without replacement

    def without_replacement(self, epoch: int | None) -> Callable[[int], int]:
        order = permutation(self.draws, self.key("sample order", epoch), self.rounds)
        if self.classes is None or len(self.classes) > 64:
            taken = smallest(self.each(), self.draws, self.key("sample keys", epoch))
            return lambda d: taken[order(d)]
        counts = class_counts(self.classes, self.draws, self.key("sample counts", epoch))
        first, slots = 0, []
        for c, ((_, rows), count) in enumerate(zip(self.classes, counts)):
            inside = permutation(rows, self.key(f"sample class {c}", epoch), self.rounds)
            slots += [first + inside(j) for j in range(count)]
            first += rows
        return lambda d: slots[order(d)]

    # 8: by quota

    def by_quota(self, epoch: int | None) -> Callable[[int], int]:
        offset, rows = self.key("quota offset", epoch), self.key("quota rows", epoch)
        if (kinds := self.kinds()) is not None:
            of_kinds, slots = kinds
            inner = self.quota_of_cells(of_kinds, offset, rows, slots)
            return lambda d: slots[inner(d)] if slots else inner(d)
        return self.quota_of_rows(self.weights or [], offset, rows)

    def kinds(self) -> tuple[list[tuple[float, int]], list[int] | None] | None:
        """The classes, and the rows in their order if that is another; None for weights of rows."""
        if self.classes is not None:
            return self.classes, None
        values = self.weights or []
        if len(set(values[:: max(1, self.n // 4096)])) > 64 or len(set(values)) > 64:
            return None
        slots = sorted(range(self.n), key=lambda i: values[i])
        return [(w, values.count(w)) for w in sorted(set(values))], slots

    def quota_of_cells(
        self, kinds: list[tuple[float, int]], offset: Key, rows: Key, slots: list[int] | None
    ) -> Callable[[int], int]:
        lying, begins = self.lying(kinds, offset, slots)

        def slot(d: int) -> int:
            g = max(g for g in range(len(lying)) if begins[g] <= d)
            _, first, size, _ = lying[g]
            turn, at = divmod(d - begins[g], size)
            return first + within(at, size, *random(rows, g + (turn << 20)))

        return slot

    def cells(self, kinds: list[tuple[float, int]], slots: list[int] | None) -> list[Cell]:
        """Class, first slot, rows and fragment of each."""
        cells, first = [], 0
        for c, (_, n) in enumerate(kinds):
            members = slots[first : first + n] if slots else range(first, first + n)
            for f, (a, b) in enumerate(self.fragments()):
                inside = sum(a <= row < b for row in members)
                if inside:
                    cells.append((c, first, inside, f))
                    first += inside
        return cells

    def lying(
        self, kinds: list[tuple[float, int]], offset: Key, slots: list[int] | None
    ) -> tuple[list[Cell], list[int]]:
        """The cells in the order of the epoch, and the first draw of each, then their number."""
        exact = integers([w for w, _ in kinds])
        masses = [u * n for u, (_, n) in zip(exact, kinds)]
        mass, left, capped = sum(masses), self.draws, set()
        if not self.replace:
            for c in sorted(range(len(kinds)), key=lambda c: -exact[c]):
                if not exact[c] * left > mass:
                    break
                capped.add(c)
                mass, left = mass - masses[c], left - kinds[c][1]
        unit = mass or 1
        shares = [n * unit if c in capped else left * masses[c] for c, (_, n) in enumerate(kinds)]
        cells = self.cells(kinds, slots)
        numbers = [random(offset, i)[0] for i in range(1 + len(kinds) + len(cells))]
        by_number = sorted(range(len(kinds)), key=lambda c: numbers[1 + c])
        lying, begins, before = [], [], 0
        for c in by_number:
            mine = [i for i, cell in enumerate(cells) if cell[0] == c]
            mine.sort(key=lambda i: numbers[1 + len(kinds) + i])
            begin, rank, n = before * 2**64 // unit + numbers[0], 0, kinds[c][1]
            whole, part = shares[c] // unit, shares[c] % unit * 2**64 // unit
            for i in mine:
                inner = rank * whole * 2**64 + rank * part + n * (begin % 2**64)
                begins.append(begin // 2**64 + inner // (n * 2**64))
                lying.append(cells[i])
                rank += cells[i][2]
            before += shares[c]
        begins.append(self.draws)
        for g in range(len(lying) - 1, -1, -1):
            begins[g] = min(begins[g], begins[g + 1])
        return lying, begins

    def quota_of_rows(self, values: list[float], offset: Key, rows: Key) -> Callable[[int], int]:
        always, mine = ([], units(values)) if self.replace else at_most_once(values, self.draws)
        places = []
        held = [(a, b) for a, b in self.fragments() if b > a]
        for f, (a, b) in enumerate(held):
            places += [a + within(x, b - a, *random(rows, f)) for x in range(b - a)]
        sums = running([mine[slot] for slot in places])
        o, left = high(random(offset, 0)[0], sums[-1]), self.draws - len(always)

        def slot(d: int) -> int:
            if d < len(always):
                return always[d]
            return places[first_above(sums, ((d - len(always)) * sums[-1] + o) // left)]

        return slot

    def fragments(self) -> list[tuple[int, int]]:
        edges = self.edges or [0, self.n]
        return list(pairwise(edges))

    # 9: dealt

    def dealt(self, epoch: int | None) -> Callable[[int], int]:
        assert self.block is not None
        block, places = self.block, self.key("deal places", epoch)
        full, rest = divmod(self.draws, block)
        hands = permutation(full, self.key("deal hands", epoch), self.rounds)
        o = high(random(places, 2**63 - 1)[0], self.draws)
        last = [(i * self.draws + o) // rest for i in range(rest)]

        def draw(p: int) -> int:
            q, x = divmod(p, block)
            h = hands(q) if q < full else full
            if q == full:
                return last[within(x, rest, *random(places, h))]
            z = within(x, block, *random(places, h)) * full + h
            return z + sum(d - i <= z for i, d in enumerate(last))

        return draw

    # 11: seeds

    def sample_seed(self, row: int, copy: int, epoch: int) -> int:
        low, upper = self.key("augment", epoch)
        return random((low, upper ^ row), copy)[0]


# 5, 6: independent draws


def integers(values: Sequence[float]) -> list[int]:
    ratios = [v.as_integer_ratio() for v in values]
    unit = max(q for _, q in ratios)
    return [p * (unit // q) for p, q in ratios]


def by_class(classes: Sequence[tuple[float, int]], a: int, b: int) -> int:
    masses = [u * n for u, (_, n) in zip(integers([w for w, _ in classes]), classes)]
    live = [c for c, mass in enumerate(masses) if mass]
    thresholds, before = [], 0
    for c in live[:-1]:
        before += masses[c]
        thresholds.append(min(-(-(before << 64) // sum(masses)), M64))
    c = live[sum(t <= a for t in thresholds)]
    return sum(n for _, n in classes[:c]) + high(b, classes[c][1])


def units(values: Sequence[float]) -> list[int]:
    _, e = math.frexp(max(values))
    power = 62 - e - len(values).bit_length()
    first = max(-1000, min(1000, power))
    down, up = 2.0**first, 2.0 ** (power - first)
    rough = sum(int((v * down) * up) for v in values)
    more = 2.0 ** (62 - (rough + len(values)).bit_length())
    return [max(int(((v * down) * up) * more), int(v > 0)) for v in values]


def running(values: Sequence[int]) -> list[int]:
    sums, total = [], 0
    for v in values:
        total += v
        sums.append(total)
    return sums


def first_above(sums: Sequence[int], point: int) -> int:
    return next(i for i, s in enumerate(sums) if s > point)


# 7: the smallest keys, and counts of classes


def class_counts(classes: Sequence[tuple[float, int]], draws: int, key: Key) -> list[int]:
    exact = integers([w for w, _ in classes])
    left = [n if u else 0 for u, (_, n) in zip(exact, classes)]
    before, t = list(left), 0
    if draws == sum(left):
        return left
    while t < draws:
        mass = sum(u * n for u, n in zip(exact, left))
        unit = [u * 2**62 // mass if n else 0 for u, n in zip(exact, left)]
        total = sum(u * n for u, n in zip(unit, left))
        while t < draws and total >= 2**58:
            x = high(random(key, t)[0], total)
            c = first_above(running([u * n for u, n in zip(unit, left)]), x)
            left[c], total, t = left[c] - 1, total - unit[c], t + 1
    return [a - b for a, b in zip(before, left)]


def minus_log(x: int) -> float:
    f, e = x / 2**53, 0
    while f < 0.7071067811865476:
        f, e = f * 2, e - 1
    s = (f - 1) / (f + 1)
    z, p = s * s, 2 / 23
    for k in range(21, 0, -2):
        p = p * z + 2 / k
    return -(e * 0.6931471805599453 + s * p)


def smallest(values: Sequence[float], count: int, key: Key) -> list[int]:
    def numbers(scale: float) -> list[tuple[float, int]]:
        found = []
        for i, w in enumerate(values):
            if w > 0:
                x = 2 * (random(key, i // 2)[i % 2] >> 12) + 1
                scaled = w * scale
                found.append((minus_log(x) / scaled if scaled else math.inf, i))
        return sorted(found)

    found = numbers(1.0)
    if count and not 2.0**-960 <= found[count - 1][0] <= 2.0**960:
        found = numbers(2.0**900 if found[count - 1][0] > 1 else 2.0**-900)
    return sorted(i for _, i in found[:count])


def at_most_once(values: Sequence[float], draws: int) -> tuple[list[int], list[int]]:
    rest, always, left = list(values), set[int](), draws
    if draws == sum(v > 0 for v in values):
        return [i for i, v in enumerate(values) if v > 0], [0] * len(values)
    mine = units(rest)
    while left:
        before = left
        while over := [i for i, u in enumerate(mine) if left and u > sum(mine) // left]:
            always |= set(over)
            left -= len(over)
            for i in over:
                mine[i] = 0
        if left in (0, before):
            break
        for i in always:
            rest[i] = 0.0
        mine = units(rest)
    return sorted(always), mine


# 10: names


def fingerprint(parts: dict[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def array_digest(type_name: str, count: int, data: bytes) -> str:
    whole = hashlib.sha256(f"{type_name} {count}\0".encode())
    for start in range(0, len(data), 1 << 22):
        whole.update(hashlib.sha256(data[start : start + (1 << 22)]).digest())
    return whole.hexdigest()


# 12: ranks


def position_of(j: int, rank: int, world: int, batch: int, origin: int) -> int:
    return origin + j // batch * batch * world + rank * batch + j % batch
