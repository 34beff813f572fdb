"""Whatever text comes in, what comes out is a result or an error of ours that offers a way out."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import Any, Final

import pytest

import tql
from tests.mutations import mutated
from tests.profiles import NIGHTLY, examples
from tests.test_conformance import CASES, DATASETS, TABLES
from tql.dataset import view_of
from tql.diagnostics import NOWHERE
from tql.engine.scan import Settings
from tql.grammar.parser import parse
from tql.grammar.printer import format_query
from tql.queries import ask

PART: Final = 250  # texts in one test
SEED: Final = Random().randrange(2**32) if NIGHTLY else 20_261_121
CORPUS: Final = {
    name: [DATASETS.query_text(c, dict.fromkeys(TABLES, "missing.parquet"))
           for c in CASES if c["dataset"] == name and c.get("entry") != "global"]
    for name in TABLES
}  # fmt: skip
VALUES: Final[list[Any]] = [1, 0.5, True, "car", "", [1, 2], ["car"], 2**63, -1, None, {}]


@contextmanager
def no_hang(text: str, seconds: int = 60) -> Iterator[None]:
    """A text that keeps the computer busy for a minute is named, and ends the test."""

    def alarm(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still running after {seconds} s: {text!r}")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def values(random: Random, text: str) -> Any:
    """Parameters for the text, mostly as many as it has."""
    if "$" in text:
        return {name: random.choice(VALUES) for name in ("a", "b", "x")[: random.randint(0, 3)]}
    count = text.count("?") if random.random() < 0.9 else random.randint(0, 3)
    return [random.choice(VALUES) for _ in range(count)] if count else None


def check(e: tql.TqlError, text: str) -> None:
    """The error can be shown, points into the text, and offers a way out."""
    d = e.diagnostic
    assert d.help, f"no way out: {text!r}\n{e}"
    assert d.message and len(str(e)) < 3_000, f"{len(str(e))} characters for {text!r}"
    for place in (d.span, *(note.span for note in d.notes)):
        assert place == NOWHERE or 0 <= place.start <= place.stop <= len(text), f"{place}: {text!r}"


def outcome(dataset: tql.Dataset, text: str, params: Any, settings: Settings) -> Any:
    """What the query gives when all of it is read, or the code of its error."""
    try:
        with no_hang(text):
            view = view_of(ask(dataset.source, text, params, settings=settings), dataset)
            table = view.to_arrow()
            assert len(view) == table.num_rows == len(view.row_ids)
            return repr(table.to_pydict())
    except tql.TqlError as e:
        check(e, text)
        return e.diagnostic.code
    except BaseException as e:
        e.add_note(f"query: {text!r}\nparams: {params!r}")
        raise


@pytest.mark.parametrize("part", range(examples(1_500, 50_000) // PART))
def test_nothing_but_our_errors_comes_out(part: int) -> None:
    random = Random(f"{SEED} {part}")
    seen = Counter[bool]()
    for _ in range(PART):
        name = random.choice(list(TABLES))
        text = mutated(random, CORPUS[name], TABLES[name].column_names)
        found = outcome(tql.open(TABLES[name]), text, values(random, text), Settings("reference"))
        seen[found.startswith("{")] += 1
    assert seen[True] > 10 and seen[False] > 50, "the mutations do too little, or too much"


@pytest.mark.parametrize("part", range(examples(1_500, 50_000) // PART))
def test_what_parses_survives_being_written_and_read(part: int) -> None:
    random = Random(f"{SEED} {part}")
    for _ in range(PART):
        name = random.choice(list(TABLES))
        text = mutated(random, CORPUS[name], TABLES[name].column_names)
        try:
            with no_hang(text):
                query = parse(text)
        except tql.TqlError as e:
            check(e, text)
            continue
        assert parse(format_query(query)) == query, text
