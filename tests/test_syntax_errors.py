"""What people read when a text is not TQL: one golden file for each mistake."""

from pathlib import Path

import pytest

from tql.diagnostics import NOWHERE, TqlError
from tql.grammar.parser import parse, parse_weight

GOLDEN = Path(__file__).with_name("golden") / "syntax"
CASES = sorted(GOLDEN.glob("*.txt"))


def parts(case: Path) -> tuple[str, str]:
    """The query, and what is printed for it."""
    query, line, printed = case.read_text("utf-8").partition("\n----\n")
    assert line, f"{case.name} has no line of four hyphens"
    return query, printed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_error_reads_like_its_golden_file(case: Path, request: pytest.FixtureRequest) -> None:
    query, expected = parts(case)
    with pytest.raises(TqlError) as e:
        parse(query)
    printed = f"{e.value}\n"
    if request.config.getoption("--accept", default=False):
        case.write_text(f"{query}\n----\n{printed}", "utf-8", newline="")
        return
    assert printed == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_error_is_marked_and_short(case: Path) -> None:
    """A place in the text, no name of a terminal, at most six alternatives."""
    query, _ = parts(case)
    with pytest.raises(TqlError) as e:
        parse(query)
    d = e.value.diagnostic
    assert d.span != NOWHERE
    assert 0 <= d.span.start <= d.span.stop <= len(query)
    for word in ("IDENT", "QUOTED", "LPAR", "RPAR", "$END", "EQUALITY", "ORDERING", "MODULO"):
        assert word not in d.message
    _, _, alternatives = d.message.partition("expected ")
    assert alternatives.count("', '") <= 6


def test_every_mistake_has_its_own_file() -> None:
    queries = [parts(case)[0] for case in CASES]
    assert len(queries) >= 30
    assert len(set(queries)) == len(queries)


@pytest.mark.parametrize("text", ["", " \n", "-- nothing\n"])
def test_nothing_is_an_empty_query_or_weight(text: str) -> None:
    with pytest.raises(TqlError, match="empty query"):
        parse(text)
    with pytest.raises(TqlError, match="empty weight"):
        parse_weight(text)


def test_a_long_word_is_not_repeated_in_full() -> None:
    with pytest.raises(TqlError) as e:
        parse("select * where a == 3 " + "x" * 100_000)
    assert len(str(e.value)) < 1_000
    with pytest.raises(TqlError) as e:
        parse("select * from '" + "x" * 100_000 + "'")
    assert len(str(e.value)) < 1_000
