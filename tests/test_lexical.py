"""The lexical rules, one by one: what the smallest parts of a query may be, and what they are not."""

import pyarrow as pa
import pytest

import tql
from tql.grammar.parser import keywords, parse

DATASET = tql.open(
    pa.table(
        {
            "id": [0, 1, 2, 3],
            "Größe": [1.5, 2.5, 3.5, 4.5],
            "_x": [0, 0, 1, 1],
            "a-b": [3, 2, 1, 0],
            'q"q': [7, 7, 7, 8],
            "text": ["it's", "-- no", "a\nb", "# /* */"],
        }
    )
)

# Reserved by the dialect that people come from, or by SQL, and plain names here.
_OTHER = """
    add after alter analyze before begin bigint boolean call cascade case cast char
    character column columns commit concat control copy create csv current date datetime day
    days deallocate decimal default delete delta describe direct double drop else encoding
    end escape execute exists explain extract file float following for foreign format global
    groups hash hint hints hour hours if import index insert int integer interval into key
    keys load local locked long merge minus minute minutes month months natural no nowait
    nvarchar of off over parameters partition plan precision preceding prepare primary range
    real references rename restrict rollback row rows schema schemas second seconds set
    share show skip smallint sorted spatial table tables tbl temporary then time timestamp
    to transaction truncate unbounded unique unload update values varchar view virtual when
    with year years time_series value space uuid top"""
OTHER_WORDS = _OTHER.split()


def ids(condition: str) -> list[int]:
    return DATASET.query(f"select * where {condition}").row_ids.tolist()


def code(text: str) -> str:
    with pytest.raises(tql.TqlError) as e:
        DATASET.query(text)
    assert e.value.diagnostic.help
    return e.value.diagnostic.code


@pytest.mark.parametrize(
    "blank", [*" \t\r\n\f\v\x1c\x85\u00a0\u1680\u2003\u2028\u202f\u3000", "\r\n"]
)
def test_any_white_space_parts_words(blank: str) -> None:
    query = blank.join(["", "select", "*", "where", "id", "==", "1", "", ""])
    assert DATASET.query(query).row_ids.tolist() == [1]


@pytest.mark.parametrize("character", [*"\ufeff\u200b\u200d\u2060\0\x1b\u00ad"])
def test_invisible_characters_that_are_no_white_space_are_named(character: str) -> None:
    with pytest.raises(tql.TqlSyntaxError, match=f"U\\+{ord(character):04X}") as e:
        DATASET.query(f"select *{character} where id == 1")
    assert (e.value.diagnostic.span.start, e.value.diagnostic.span.stop) == (8, 9)


@pytest.mark.parametrize(
    "query",
    ["select * -- it's\nwhere id == 1", "# it's\nselect * where id == 1 # \"", "/**/select/*\n*/*/* -- */"
     "where id == 1", "select * where id == 1 --", "select * where id == 1#", "/* # -- ' */ select * "
     "where id /* == 2 */ == 1 -- or id == 3", "select * where id == 1 /***/", "select *where id==1;"]
)  # fmt: skip
def test_comments_are_blanks(query: str) -> None:
    assert DATASET.query(query).row_ids.tolist() == [1]


def test_comments_are_inert_in_texts_and_texts_in_comments() -> None:
    assert ids("text == '-- no'") == [1]
    assert ids("text == '# /* */'") == [3]
    assert ids("text == 'it''s' -- and 'that'") == [0]


def test_block_comments_do_not_nest() -> None:
    assert code("select * /* a /* b */ c */") == "syntax"
    assert code("select * /* never closed") == "syntax"


@pytest.mark.parametrize("character", [*"&|^~@`{}\\!$·€→\u201c"])
def test_an_unknown_character_is_an_error_at_its_place(character: str) -> None:
    with pytest.raises(tql.TqlError) as e:
        DATASET.query(f"select *\nwhere id == 1 {character}")
    assert e.value.diagnostic.code in ("syntax", "unsupported")
    assert e.value.diagnostic.span.start == len("select *\nwhere id == 1 ")
    assert "query:2:15" in str(e.value)


@pytest.mark.parametrize("word", keywords())
def test_a_reserved_word_is_one_in_any_case_and_a_name_in_quotes(word: str) -> None:
    here = tql.open(pa.table({word: [1, 2], word.upper(): [3, 4], "id": [0, 1]}))
    assert here.query(f'select "{word}" as x').to_arrow()["x"].to_pylist() == [1, 2]
    assert here.query(f'select "{word.upper()}" as x').to_arrow()["x"].to_pylist() == [3, 4]
    for spelling in (word, word.upper(), word.title()):
        with pytest.raises(tql.TqlSyntaxError):
            here.query(f"select id as {spelling}")
        if word in ("true", "false"):
            continue
        with pytest.raises(tql.TqlError):
            here.query(f"select id + {spelling} + id as x")


@pytest.mark.parametrize("word", OTHER_WORDS)
def test_no_other_word_is_reserved(word: str) -> None:
    assert word not in keywords()
    here = tql.open(pa.table({word: [1, 2, 3]}))
    query = f"select {word}, {word} + 1 as next where {word} > 1 order by {word} desc limit 5"
    assert here.query(query).to_arrow().to_pydict() == {word: [3, 2], "next": [4, 3]}


def test_there_are_46_reserved_words_and_more_than_109_others_are_looked_at() -> None:
    assert len(keywords()) == 46
    assert len(set(OTHER_WORDS)) == len(OTHER_WORDS) > 109


def test_names_of_letters_digits_and_lines_need_no_quotes() -> None:
    assert ids("_x == 1") == [2, 3]
    assert ids("Größe > 3") == [2, 3]
    assert tql.open({"日本": [1], "x1": [2], "Ω": [3]}).query("select 日本, x1, Ω").columns == (
        "日本", "x1", "Ω",
    )  # fmt: skip


def test_quoted_names_hold_any_character_and_double_their_quotes() -> None:
    assert ids('"a-b" == 3') == [0]
    assert ids('"q""q" == 8') == [3]
    assert code('select ""') == "syntax"
    assert code('select "id') == "syntax"


def test_names_are_case_sensitive_and_a_miss_in_another_case_is_suggested() -> None:
    with pytest.raises(tql.TqlNameError) as e:
        DATASET.query("select * where größe > 1")
    assert e.value.diagnostic.help == "did you mean 'Größe'?"


@pytest.mark.parametrize("name", ["abs", "ABS", "Abs", '"abs"'])
def test_functions_are_not_case_sensitive(name: str) -> None:
    assert ids(f"{name}(id) == 1") == [1]


def test_texts_double_their_quotes_have_no_escapes_and_span_lines() -> None:
    assert ids("text == 'it''s'") == [0]
    assert ids("text == 'a\nb'") == [2]
    assert ids(r"text == 'a\nb'") == []
    assert ids("text == ''") == []
    assert code("select * where text == 'a' 'b'") == "syntax"
    assert code("select * where text == 'a") == "syntax"


@pytest.mark.parametrize(
    ("written", "value"),
    [("7", 7), ("007", 7), ("010", 10), ("1_000", 1000), ("0", 0), ("18446744073709551615", 2**64 - 1),
     ("-9223372036854775808", -(2**63)), ("+3", 3), ("- -3", 3), ("1.5", 1.5), ("1.", 1.0), (".5", 0.5),
     ("1e3", 1000.0), ("2.5E-3", 0.0025), ("1_0.5e+0", 10.5), ("true", True), ("FALSE", False)]
)  # fmt: skip
def test_numbers_and_truth_values(written: str, value: float) -> None:
    column = DATASET.query(f"select {written} as x").to_arrow()["x"].to_pylist()
    assert column == [value] * 4 and type(column[0]) is type(value)


@pytest.mark.parametrize(
    ("written", "kind"),
    [("18446744073709551616", "range"), ("-9223372036854775809", "range"), ("1e309", "range"),
     ("0x1", "syntax"), ("1_", "syntax"), ("1__0", "syntax"), ("1.2.3", "syntax"), ("1e", "syntax"),
     ("3x", "syntax"), ("\uff11", "syntax"), ("\u0663", "syntax"), ("null", "unsupported")]
)  # fmt: skip
def test_what_is_no_number(written: str, kind: str) -> None:
    assert code(f"select {written} as x") == kind


def test_null_stands_only_after_is() -> None:
    assert ids("id is NULL") == []
    assert ids("id Is Not Null") == [0, 1, 2, 3]
    for text in ("id == null", "null is null", "id in (null)", "not null", "abs(null) == 1"):
        assert code(f"select * where {text}") == "unsupported"


@pytest.mark.parametrize("end", ["", ";", " ; ", "; -- end", ";\n# end\n"])
def test_a_query_may_end_in_a_semicolon(end: str) -> None:
    assert parse(f"select *{end}") == parse("select *")


@pytest.mark.parametrize("text", ["select *; select *", "select *;;", ";", "; select *"])
def test_a_semicolon_ends_one_query(text: str) -> None:
    assert code(text) == "syntax"
