"""The language page is what its source, the grammar and the functions give now; its examples run."""

import re
from pathlib import Path

import pytest

import tql
from scripts import grammar_rules
from scripts.language_page import DIAGRAMS, PAGE, answered, blocks, drawn_rules, page
from tql.language.user_functions import registered

COMMITTED = PAGE.read_text("utf-8")
REMEDY = "run  python -m scripts.make_language_page  and read the diff"


def test_the_page_is_up_to_date() -> None:
    assert page() == COMMITTED, REMEDY


@pytest.mark.parametrize("number", range(len(blocks())))
def test_an_example_gives_the_answer_on_the_page(number: int) -> None:
    option, block = blocks()[number]
    assert answered(option, block) in COMMITTED, REMEDY


def test_an_example_that_fails_is_not_written() -> None:
    with pytest.raises(tql.TqlNameError):
        answered(None, "select nope\n")
    with pytest.raises(AssertionError, match="no error"):
        answered(" error", "select id\n")


def test_the_python_of_the_page_runs() -> None:
    programs = re.findall(r"```python\n(.*?)```", COMMITTED, re.DOTALL)
    assert programs
    before = set(registered())
    try:
        for program in programs:
            exec(compile(program, PAGE.name, "exec"), {})
    finally:
        for name in set(registered()) - before:
            tql.unregister_function(name)


def test_links_lead_somewhere() -> None:
    heads = re.findall(r"^#+ (.*)$", COMMITTED, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
    assert len(anchors) == len(heads), "two headings of one name"
    for target in re.findall(r"\]\(([^)]*)\)", COMMITTED):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (PAGE.parent / target).is_file(), target


# -- the grammar -------------------------------------------------------------------------------


def test_diagrams_are_of_the_rules_as_they_are() -> None:
    wanted = {f"{rule.name}.svg": rule for rule in drawn_rules()}
    assert {p.name for p in DIAGRAMS.iterdir()} == set(wanted), REMEDY
    for name, rule in wanted.items():
        assert grammar_rules.mark(rule) in (DIAGRAMS / name).read_text("utf-8"), REMEDY


def test_every_rule_of_the_grammar_is_there() -> None:
    text = Path(grammar_rules.GRAMMAR).read_text("utf-8")
    names = re.findall(r"^\??([a-z_]+)\s*:", text, re.MULTILINE)
    rules = [rule for group in grammar_rules.groups() for rule in group.rules]
    assert [r.name for r in rules] == names
    known = {*names, "INT", "FLOAT", "STRING", "PARAMETER", "IDENT", "QUOTED"}
    for rule in rules:
        for leaf in grammar_rules._leaves(rule.body):
            if isinstance(leaf, grammar_rules.Ref):
                assert leaf.name in known, leaf.name


def test_words_of_the_grammar_are_shown_as_written() -> None:
    (queries, *_) = grammar_rules.groups()
    lines = list(grammar_rules.ebnf(queries.rules))
    assert "distinct       ::= 'DISTINCT' ('ON' '(' expr (',' expr)* ')')?" in lines
    for word in tql.keywords():
        assert f"'{word.upper()}'" in COMMITTED, word
