"""The page about shuffling: its Python runs, and its tables are what comes out of the orders."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.shuffles import PAGE, Lanes, Order, lanes, main, orders, with_tables

TEXT = PAGE.read_text("utf-8")


def test_the_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(program, "shuffling.md", "exec"), scope)
    shown = capsys.readouterr().out
    assert "VIF 1." in shown and "'kind': 'windows'" in shown
    small, anywhere = scope["small"], scope["anywhere"]
    told = small.explain().to_dict()["order"]  # type: ignore[attr-defined]
    assert told["kind"] == "windows" and told["live_bytes"] <= 400_000
    assert anywhere.explain().to_dict()["order"]["kind"] == "global"  # type: ignore[attr-defined]


def test_the_tables_are_those_of_the_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in them depends on the machine."""
    main(["--json", str(tmp_path / "figures.json")])
    first, second = capsys.readouterr().out.strip().split("\n\n")
    assert with_tables(TEXT, (first, second)) == TEXT, "run python -m benchmarks.shuffles --docs"
    content = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    of_orders = [Order(**o) for o in content["orders"]]
    of_lanes = [Lanes(**{**t, "reads": tuple(t["reads"])}) for t in content["lanes"]]
    check_orders(of_orders)
    check_lanes(of_lanes)


def check_orders(found: list[Order]) -> None:
    """What the page says of the first table."""
    by_name = {o.name: o for o in found}
    ours = [o for o in found if o.predicted is not None]
    assert len(ours) == 5
    for o in ours:
        assert o.vif == pytest.approx(o.predicted, rel=0.05)
    dealt, random = by_name["**ours**, windows of 50 fragments"], by_name[
        "50 shuffled shards at a time, their rows mixed"
    ]  # fmt: skip
    assert dealt.reads == random.reads == 500 and dealt.live == random.live == 50
    assert dealt.vif - 1 < 0.6 * (random.vif - 1)
    nearly = by_name["shards shuffled, and the rows of each"]
    assert nearly.correlation < 0.05 and nearly.vif > 100
    assert by_name["buffer of 1,000 rows"].vif > 80


def check_lanes(found: list[Lanes]) -> None:
    """What the page says of the second."""
    for t in found:
        assert t.vif == pytest.approx(t.predicted, rel=0.1)
        assert t.off <= 1
        assert t.reads[0] <= t.units + t.lanes - 1
        if t.lanes % 8 == 0:
            assert t.reads[0] == t.reads[1] == t.reads[2]
            assert t.anywhere > 30 * t.reads[0]


def test_orders_and_lanes_are_made_one_by_one() -> None:
    assert next(orders()).name == "as the data lie"
    assert next(lanes()).lanes == 1
