"""A local S3: moto's server, and a proxy before it that answers as badly as it is told to."""

import http.client
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

from pyarrow import fs as pafs

_ERROR: Final = '<?xml version="1.0"?><Error><Code>{}</Code><Message>{}</Message></Error>'
_ANSWERS: Final = {
    "503": (503, _ERROR.format("SlowDown", "Please reduce your request rate.")),
    "500": (500, _ERROR.format("InternalError", "We encountered an internal error.")),
    "403": (403, _ERROR.format("AccessDenied", "Access Denied")),
}
_OURS: Final = {"content-length", "transfer-encoding", "connection", "date", "server"}


@dataclass
class Store:
    """The server at work. `faults` are used up, one for each request that reads an object's bytes.

    faults   "503", "500", "403"; "cut" ends within the body, "short" leaves out its end and says so,
             "slow" sends the half of it and waits, "reset" breaks the connection
    asked    (method, path, range) of the requests, in order
    """

    moto: int
    port: int
    faults: list[str] = field(default_factory=list)
    always: str | None = None  # the fault of all requests, also those for names and sizes
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)  # ends what is slow

    @property
    def gets(self) -> list[tuple[str, str, str | None]]:
        """The requests for bytes."""
        return [a for a in self.asked if a[0] == "GET" and a[2] is not None]

    @property
    def bytes_asked(self) -> int:
        """How many bytes the requests name."""
        ends = [a[2].removeprefix("bytes=").split("-") for a in self.gets if a[2] is not None]
        return sum(int(last) - int(first) + 1 for first, last in ends)

    def environment(self) -> dict[str, str]:
        """What makes pyarrow come here without being told in code."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def filesystem(self, attempts: int = 1, *, direct: bool = False) -> pafs.S3FileSystem:
        """A client that tries so often by itself; `direct` leaves out the proxy, to write."""
        return pafs.S3FileSystem(
            endpoint_override=f"127.0.0.1:{self.moto if direct else self.port}",
            scheme="http",
            access_key="tester",
            secret_key="secret",
            region="us-east-1",
            allow_bucket_creation=True,
            request_timeout=1,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        )

    def fault_of(self, method: str, range_: str | None) -> str | None:
        if self.always is not None:
            return self.always
        if method == "GET" and range_ is not None and self.faults:
            return self.faults.pop(0)
        return None


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ClassVar[Store]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        store, range_ = self.store, self.headers.get("Range")
        store.asked.append((self.command, self.path, range_))
        fault = store.fault_of(self.command, range_)
        if fault in _ANSWERS:
            status, text = _ANSWERS[fault]
            self._answer(status, [], text.encode())
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        else:
            self._pass_on(fault)

    do_HEAD = do_GET

    def _pass_on(self, fault: str | None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.store.moto)
        connection.request(self.command, self.path, headers=dict(self.headers.items()))
        answer = connection.getresponse()
        body = answer.read()
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in _OURS]
        if self.command == "HEAD":
            length = answer.getheader("Content-Length") or "0"
            self._answer(answer.status, [*headers, ("Content-Length", length)], None)
        elif fault == "short":
            headers = [(k, v) for k, v in headers if k.lower() != "content-range"]
            self._answer(answer.status, headers, body[:-7])
        elif fault in ("cut", "slow"):
            self._answer(answer.status, [*headers, ("Content-Length", str(len(body)))], None)
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "slow":
                self.store.hold.wait(60)
            self.close_connection = True
        else:
            self._answer(answer.status, headers, body)
        connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes | None) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not None and self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has gone away


@contextmanager
def local_s3() -> Iterator[Store]:
    """A server on free ports of the loopback interface, with an empty bucket named "data"."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        store = Store(moto.get_host_and_port()[1], 0)
        proxy = _Server(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"store": store}))
        store.port = proxy.server_address[1]
        serving = threading.Thread(target=proxy.serve_forever, daemon=True)
        serving.start()
        try:
            store.filesystem(3, direct=True).create_dir("data")
            yield store
        finally:
            store.hold.set()
            proxy.shutdown()
            proxy.server_close()
            serving.join()
    finally:
        moto.stop()
