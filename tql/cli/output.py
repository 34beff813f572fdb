"""Writing a result file: whole or not at all, and never over the data it comes from."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from tql.cli.request import Request
from tql.diagnostics import TqlDataError, data_error


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write, for the result of a request."""

    path: str
    request: Request

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """A new file beside it, which takes its place when the block ends without an error."""
        self.check()
        target = Path(self.path)
        beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
        try:
            handle = beside.open("xb")
        except OSError as e:
            raise self._unwritable(e) from e
        try:
            with handle:
                yield handle
            os.replace(beside, target)
        except OSError as e:
            raise self._unwritable(e) from e
        finally:
            beside.unlink(missing_ok=True)

    def check(self) -> None:
        """An error where the file cannot be written, or is one that the query reads."""
        folder = os.path.dirname(os.path.abspath(self.path))
        if not os.path.isdir(folder):
            raise data_error("output", f"-o '{self.path}': there is no folder '{folder}'",
                             help="make the folder first, or choose another path")  # fmt: skip
        if os.path.isdir(self.path):
            raise click.UsageError(f"-o {self.path!r} is a folder; name a file in it")
        if not os.path.exists(self.path):
            return
        named = [*self.request.question.environment.tables]
        named += [self.request.source] if self.request.source else []
        for name in named:
            if any(os.path.samefile(self.path, f) for f in _files(name)):
                raise click.UsageError(f"-o {self.path!r} is part of the data that is read")

    def _unwritable(self, e: OSError) -> TqlDataError:
        return data_error("output", f"'{self.path}' cannot be written: {e.strerror or e}",
                          help="choose another path with -o")  # fmt: skip


def _files(source: str) -> list[str]:
    """Local files that a source argument may mean."""
    path = os.path.expanduser(source.removeprefix("file://"))
    if os.path.isdir(path):
        path = os.path.join(glob.escape(path), "**")
    found = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    return [f for f in found if os.path.isfile(f)]


def write_text(output: Output, text: str) -> None:
    """A text file in UTF-8."""
    with output.open() as handle:
        handle.write(text.encode("utf-8", "replace"))
