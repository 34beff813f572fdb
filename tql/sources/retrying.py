"""Requests over a network that fail for a while: tried again, with growing waits, until a deadline.

What is asked of storage here may be asked twice: to list, to tell a size, to read a range. Whatever
a file system raises is taken for trouble on the way to the data, unless it says that there is no such
file, that it may not be read, or that the request makes no sense: those are raised at once, as they
are. File systems try again by themselves, too (S3 through pyarrow three times); what is counted here
are the tries after those.
"""

import re
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextvars import ContextVar
from random import SystemRandom
from typing import Final, Protocol, TypeVar

from tql.diagnostics import TqlDataError, TqlError, counted, data_error
from tql.threads import called_off

T = TypeVar("T")

RETRY_FOR: Final = 60.0
"""Seconds from the beginning of a request in which it is tried again, unless told otherwise."""

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 8.0
_LOOK_AROUND: Final = 0.05  # seconds after which a thread that waits looks whether it still should
_RANDOM: Final = SystemRandom()  # has no state: nothing is seeded, shared or forked

_LASTING: Final = (
    TqlError,
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    FileExistsError,
    NotImplementedError,
    MemoryError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)
_PASSING_CODES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_AWS: Final = re.compile(r"AWS Error ([A-Z_]+)")
_PASSING_AWS: Final = frozenset(
    {"INTERNAL_FAILURE", "NETWORK_CONNECTION", "REQUEST_TIMEOUT", "SERVICE_UNAVAILABLE"}
    | {"SLOW_DOWN", "THROTTLING", "UNKNOWN"}
)
_DENIED_AWS: Final = frozenset(
    {"ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT"}
    | {"INVALID_CLIENT_TOKEN_ID", "MISSING_AUTHENTICATION_TOKEN"}
)
_CODE: Final = re.compile(r"HTTP status (\d{3})")
_LASTING_WORDS: Final = re.compile(r"\b(PERMISSION_DENIED|NOT_FOUND|UNAUTHENTICATED)\b")
_THROTTLED_WORDS: Final = re.compile(
    r"SLOW.?DOWN|THROTTL|TOO.?MANY.?REQUESTS|REDUCE YOUR REQUEST|SERVICE_UNAVAILABLE", re.IGNORECASE
)


class Watcher(Protocol):
    """Who wants to know of the requests that a thread makes again, and may call them off."""

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for the request any more."""
        ...

    def tried_again(self, waited: float, throttled: bool) -> None:
        """A request failed, and is made again after so many seconds."""
        ...


WATCHER: Final[ContextVar[Watcher | None]] = ContextVar("tql_watcher", default=None)
"""Who watches this thread. Threads that a request is handed on to are watched for the first one."""


def again(
    what: str, retry_for: float, request: Callable[[], T], watcher: Watcher | None = None
) -> T:
    """The outcome of a request, which is made until it has one, at most `retry_for` seconds long.

    A cause that lasts is raised as it is. Where others do not pass, a TqlDataError names `what` and
    how often it was tried. CancelledError where nobody waits for it any more.
    """
    watcher = watcher or WATCHER.get()
    began, tries, throttles = time.monotonic(), 0, 0
    while True:
        tries += 1
        try:
            return request()
        except Exception as e:
            if not passes(e):
                raise
            slowed = throttled(e)
            throttles += slowed
            wait = _wait(tries)
            spent = time.monotonic() - began
            if spent + wait > retry_for:
                raise _given_up(what, e, tries, throttles, spent) from e
        if watcher is not None:
            watcher.tried_again(wait, slowed)
        _sleep(wait, watcher)


def passes(e: BaseException) -> bool:
    """Whether the same request may well work later."""
    code = _code(e)
    if code is not None and code >= 400:
        return code in _PASSING_CODES
    aws = _AWS.search(str(e))
    if aws is not None:
        return aws[1] in _PASSING_AWS
    return not isinstance(e, _LASTING) and not _LASTING_WORDS.search(str(e))


def denied(e: BaseException) -> bool:
    """Whether the data may not be read with the credentials there are."""
    aws = _AWS.search(str(e))
    return isinstance(e, PermissionError) or _code(e) in (401, 403) or (
        aws is not None and aws[1] in _DENIED_AWS
    )  # fmt: skip


def throttled(e: BaseException) -> bool:
    """Whether the server asks for fewer requests."""
    return _code(e) in (429, 503) or _THROTTLED_WORDS.search(str(e)) is not None


def _code(e: BaseException | None) -> int | None:
    """The HTTP status that an error, or what caused it, tells of; libraries put it in many places."""
    while e is not None:
        response = getattr(e, "response", None)
        if isinstance(response, dict):  # botocore
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for found in (
            response,
            *(
                getattr(o, n, None)
                for o in (e, response)
                for n in ("status", "status_code", "code")
            ),
        ):
            if isinstance(found, int) and not isinstance(found, bool) and 100 <= found < 600:
                return found
        told = _CODE.search(str(e))
        if told is not None:
            return int(told[1])
        e = e.__cause__
    return None


def _wait(tries: int) -> float:
    """Seconds to wait after so many tries: twice as long each time, of which up to a half is left to chance.

    Many readers that were turned away together must not come back together.
    """
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(tries - 1, 30))
    return longest * (1.0 - _RANDOM.random() / 2)


def _sleep(seconds: float, watcher: Watcher | None) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if called_off() or (watcher is not None and watcher.stopped):
            raise CancelledError
        time.sleep(min(left, _LOOK_AROUND))


def _given_up(what: str, e: Exception, tries: int, throttles: int, spent: float) -> TqlDataError:
    slowed = f", {throttles:,} of them refused to slow us down" if throttles else ""
    return data_error(
        "source",
        f"{what} cannot be read: {str(e) or type(e).__name__}; given up after "
        f"{counted(tries, 'try', 'tries')} in {spent:.1f} s{slowed}",
        help="fewer num_threads, or wait longer: tql.open(…, retry_for=600)"
        if throttles
        else "try later, or for longer: tql.open(…, retry_for=600)",
    )
