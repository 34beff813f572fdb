"""Write docs/language.md and docs/diagrams/*.svg.

    pip install -r requirements/docs.txt
    python -m scripts.make_language_page            # from the root of the checkout

Without railroad-diagrams the page is written, and the diagrams are left as they are.
"""

from importlib.util import find_spec

from scripts.grammar_rules import svg
from scripts.language_page import DIAGRAMS, PAGE, drawn_rules, page


def main() -> None:
    PAGE.write_text(page(), "utf-8")
    print(PAGE)
    if find_spec("railroad") is None:
        print("railroad-diagrams is not installed: the diagrams are as they were")
        return
    DIAGRAMS.mkdir(exist_ok=True)
    wanted = {f"{rule.name}.svg": svg(rule) for rule in drawn_rules()}
    for old in DIAGRAMS.glob("*.svg"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (DIAGRAMS / name).write_text(text, "utf-8")
    print(f"{len(wanted)} diagrams in {DIAGRAMS}")


if __name__ == "__main__":
    main()
