"""Requests that are made again: which, how often, after how long; short reads; who is told."""

import errno
import inspect
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import tql
from tql.diagnostics import TqlDataError, TqlTypeError
from tql.sources import retrying
from tql.sources.remote import RemoteFile, _joined
from tql.sources.retrying import WATCHER, again, denied, passes, throttled
from tql.threads import in_order


class Status(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"answer {status}")
        self.status = status


class Boto(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("an error occurred")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


def caused(e: Exception, cause: Exception) -> Exception:
    e.__cause__ = cause
    return e


PASSING = [
    OSError("AWS Error SLOW_DOWN during GetObject operation: x"),
    OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
    OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 18"),
    ConnectionResetError(),
    TimeoutError(),
    OSError(errno.EBUSY, "slow down"),
    Status(429),
    Status(500),
    Boto(503),
    caused(OSError("s3fs says"), Boto(502)),
    RuntimeError("a payload that is not completed"),
]
LASTING = [
    FileNotFoundError(),
    PermissionError(),
    caused(OSError("s3fs says"), Boto(403)),
    Status(404),
    OSError("AWS Error ACCESS_DENIED during HeadObject operation: No response body."),
    OSError("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: x"),
    OSError("AWS Error UNKNOWN (HTTP status 416) during GetObject operation: x"),
    OSError("google::cloud::Status(NOT_FOUND: x)"),
    pa.ArrowInvalid("no such thing"),
    MemoryError(),
    TypeError(),
    NotImplementedError(),
]


@pytest.mark.parametrize("e", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(e: Exception) -> None:
    assert passes(e) and not denied(e)


@pytest.mark.parametrize("e", LASTING, ids=repr)
def test_what_lasts_is_raised_as_it_is_at_once(e: Exception) -> None:
    calls = []

    def request() -> None:
        calls.append(1)
        raise e

    with pytest.raises(type(e)) as caught:
        again("x", 60.0, request)
    assert caught.value is e and len(calls) == 1


def test_throttling_and_refusal_are_told_apart() -> None:
    assert [e for e in PASSING if throttled(e)] == [PASSING[i] for i in (0, 1, 5, 6, 8)]
    assert [e for e in LASTING if denied(e)] == [LASTING[i] for i in (1, 2, 4)]


class Watch:
    def __init__(self, stop_after: int = 1 << 30) -> None:
        self.told: list[tuple[float, bool]] = []
        self.stop_after = stop_after

    @property
    def stopped(self) -> bool:
        return len(self.told) >= self.stop_after

    def tried_again(self, waited: float, throttled: bool) -> None:
        self.told.append((waited, throttled))


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that goes on only where somebody sleeps."""
    waits: list[float] = []
    monkeypatch.setattr(retrying.time, "monotonic", lambda: sum(waits))
    monkeypatch.setattr(retrying.time, "sleep", waits.append)
    yield waits


def failing(times: int, e: Exception) -> Callable[[], str]:
    left = iter([e] * times)

    def request() -> str:
        for failure in left:
            raise failure
        return "there"

    return request


def test_waits_double_up_to_a_limit_and_half_of_each_is_left_to_chance(slept: list[float]) -> None:
    seen: set[float] = set()
    for _ in range(50):
        slept.clear()
        watch = Watch()
        assert again("x", 1e9, failing(12, OSError("passes")), watch) == "there"
        waits = [wait for wait, _ in watch.told]
        longest = [min(8.0, 0.1 * 2**i) for i in range(12)]
        assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
        assert sum(slept) == pytest.approx(sum(waits))
        seen.update(waits)
    assert len(seen) == 50 * 12


def test_chance_is_not_that_of_the_user(slept: list[float]) -> None:
    import random

    state = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    waits = []
    for _ in range(2):
        watch = Watch()
        random.seed(1)
        again("x", 1e9, failing(3, OSError("passes")), watch)
        waits.append(watch.told)
    assert waits[0] != waits[1]
    random.setstate(state[0])
    again("x", 1e9, failing(3, OSError("passes")))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state  # type: ignore[index]


def test_the_deadline_ends_it_with_the_number_of_tries(slept: list[float]) -> None:
    watch = Watch()
    with pytest.raises(TqlDataError) as caught:
        again(
            "'s3://b/k'", 10.0, failing(99, OSError("AWS Error SLOW_DOWN during GetObject")), watch
        )
    tries = len(watch.told) + 1
    assert sum(slept) <= 10 and 6 <= tries <= 9
    assert caught.value.diagnostic.message == (
        "'s3://b/k' cannot be read: AWS Error SLOW_DOWN during GetObject; given up after "
        f"{tries} tries in {sum(slept):.1f} s, {tries} of them refused to slow us down"
    )
    assert caught.value.__cause__ is not None


def test_requests_of_helpers_are_called_off_with_what_they_help_in() -> None:
    waiting = threading.Event()
    ended: list[type[BaseException]] = []

    def work(n: int) -> int:
        if threading.current_thread() is threading.main_thread():
            assert waiting.wait(30)
            raise KeyboardInterrupt

        def request() -> int:
            waiting.set()
            raise OSError("passes")

        try:
            return again("x", 3600.0, request)
        except BaseException as e:
            ended.append(type(e))
            raise

    with pytest.raises(KeyboardInterrupt):
        list(in_order([0, 1], work, 2))
    assert ended == [CancelledError]


def test_who_watches_is_told_and_may_call_it_off() -> None:
    watch = Watch()
    token = WATCHER.set(watch)
    try:
        assert again("x", 60.0, failing(2, Status(503))) == "there"
    finally:
        WATCHER.reset(token)
    assert [t for _, t in watch.told] == [True, True]
    with pytest.raises(CancelledError):
        again("x", 60.0, failing(99, OSError("passes")), Watch(stop_after=2))


# -- files ---------------------------------------------------------------------------------------

TABLE = pa.table({"x": np.arange(3000), "name": [f"row {i}" for i in range(3000)]})


class Flaky(MemoryFileSystem):
    """A file system of fsspec whose reads fail as `script` says: an exception, or "short"."""

    protocol = "flaky"
    cachable = False
    store: dict[str, Any] = {}  # noqa: RUF012
    script: list[Any] = []  # noqa: RUF012
    opened = 0

    def open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        if mode != "rb":
            return super().open(path, mode, *args, **kwargs)
        Flaky.opened += 1
        return FlakyFile(bytes(self.store[path].getbuffer()))


class FlakyFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        fault = Flaky.script.pop(0) if Flaky.script else None
        if isinstance(fault, Exception):
            raise fault
        found = super().read(size)
        return found[: (len(found) + 1) // 2] if fault == "short" else found


@pytest.fixture
def flaky() -> Iterator[Any]:
    system = Flaky()
    with system.open("/t.parquet", "wb") as out:
        pq.write_table(TABLE, out, row_group_size=500)
    with system.open("/t.arrow", "wb") as out, pa.ipc.new_file(out, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=500)
    yield system
    Flaky.script.clear()


@pytest.mark.parametrize("path", ["/t.parquet", "/t.arrow"])
@pytest.mark.parametrize("fault", [ConnectionResetError(), Status(503), OSError("EOF"), "short"])
def test_reads_of_fsspec_heal(flaky: Any, path: str, fault: Any) -> None:
    ds = tql.open(path, filesystem=flaky)
    Flaky.script[:] = [fault, None, fault]
    assert ds.to_arrow().cast(TABLE.schema).equals(TABLE)
    assert Flaky.script == []


def test_reads_that_all_come_in_pieces_are_slow_and_not_wrong(flaky: Any) -> None:
    ds = tql.open("/t.parquet", filesystem=flaky, retry_for=0)
    Flaky.script[:] = ["short"] * 1000
    assert ds["x"].to_pylist() == [*range(3000)]


def test_what_may_not_be_read_is_said_at_once(flaky: Any) -> None:
    ds = tql.open("/t.parquet", filesystem=flaky)
    Flaky.script[:] = [PermissionError("no")]
    with pytest.raises(TqlDataError, match="may not be read"):
        ds.to_arrow()
    assert Flaky.script == []


def test_a_read_that_gives_nothing_is_an_error(flaky: Any) -> None:
    ds = tql.open("/t.parquet", filesystem=flaky, retry_for=0.3)
    flaky.store["/t.parquet"].truncate(20)
    with pytest.raises(TqlDataError, match=r"has changed|is truncated"):
        ds.to_arrow()
    Flaky.script[:] = [OSError("EOF")] * 1000
    with pytest.raises(TqlDataError, match=r"'/t.arrow' cannot be read: EOF; given up after [2-9]"):
        tql.open("/t.arrow", filesystem=flaky, retry_for=0.3)


def test_damaged_data_is_not_read_again(flaky: Any) -> None:
    ds = tql.open("/t.parquet", filesystem=flaky)
    data = bytearray(flaky.store["/t.parquet"].getvalue())
    data[100:4000] = bytes(3900)
    flaky.store["/t.parquet"].seek(0)
    flaky.store["/t.parquet"].write(bytes(data))
    before = Flaky.opened
    with pytest.raises(TqlDataError, match="row group 0 cannot be read"):
        ds.source.read(0, ["x"])
    assert Flaky.opened - before <= 2


class Memory:
    """A handle that reads `size` bytes of a pattern, and leaves out the last ones when told to."""

    def __init__(self, size: int, missing: list[int]) -> None:
        self.data = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
        self.missing = missing
        self.at = 0

    def size(self) -> int:
        return len(self.data)

    def seek(self, at: int) -> None:
        self.at = at

    def readinto(self, room: Any) -> int:
        """As pyarrow's S3 does: it says that all came."""
        lost = self.missing.pop(0) if self.missing else 0
        n = len(room)
        room[: n - lost] = self.data[self.at : self.at + n - lost]
        return n

    def close(self) -> None:
        pass


def test_bytes_that_did_not_come_are_noticed_though_the_file_system_says_they_did() -> None:
    for lost in (1, 2, 7, 500):
        handle = Memory(3000, [lost])
        file = RemoteFile(lambda h=handle: h, "f", 60.0)
        file.fetch([(100, 2000)])
        assert bytes(handle.data[100:2000]) == bytes((file.seek(100), file.read(1900))[1])
        assert handle.missing == []


def test_a_range_that_ends_in_any_byte_is_read_once_or_twice_but_never_fails() -> None:
    handle = Memory(3000, [])
    file = RemoteFile(lambda: handle, "f", 0.0)
    for stop in range(1, 1025):
        file.seek(stop - 1)
        assert bytes(file.read(1)) == bytes(handle.data[stop - 1 : stop])
    assert {0xA5, 0x5A} <= set(handle.data[:1024].tolist())
    assert file.seek(0, 2) == 3000 and file.read() == b""


def test_ranges_are_joined_where_that_is_cheaper() -> None:
    near, far = 1 << 13, 1 << 25
    assert _joined([(5, 9), (0, 4), (9, 9)]) == [(0, 9)]
    assert _joined([(0, 4), (4 + near, 5 + near)]) == [(0, 5 + near)]
    assert _joined([(0, 4), (5 + near, 6 + near)]) == [(0, 4), (5 + near, 6 + near)]
    assert _joined([(0, far), (far, far + 1)]) == [(0, far), (far, far + 1)]
    assert _joined([]) == []


def test_several_ranges_are_read_at_once() -> None:
    meet = threading.Barrier(2)

    class Meeting(Memory):
        def readinto(self, room: Any) -> int:
            meet.wait(30)
            return super().readinto(room)

    file = RemoteFile(lambda: Meeting(1 << 20, []), "f", 0.0)
    file.fetch([(0, 10), (1 << 19, (1 << 19) + 10)])
    assert bytes(file.read(10)) == bytes(Memory(1 << 20, []).data[:10])


@pytest.mark.parametrize("given", [True, "60", None, -1, float("inf"), float("nan")])
def test_a_deadline_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises((TqlTypeError, tql.TqlPlanError), match="retry_for= is"):
        tql.open("demo:digits", retry_for=given)


def test_the_deadline_that_people_read_is_the_one_there_is() -> None:
    assert inspect.signature(tql.open).parameters["retry_for"].default == retrying.RETRY_FOR
