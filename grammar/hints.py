from tql.diagnostics import error
def syntax_error(tokens, i, expected):
    return error("syntax", f"unexpected {tokens.word(i)!r}; {sorted(expected)}", tokens.span(i), query=tokens.text)
