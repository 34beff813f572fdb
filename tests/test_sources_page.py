"""The page about sources: its Python runs, and does what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest

import tql

PAGE = Path(__file__).parents[1] / "docs" / "sources.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_the_python_of_the_page_runs_from_top_to_bottom(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scope: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "sources.md", "exec"), scope)
    shown = capsys.readouterr().out
    assert "torch.Size([2, 24, 32, 3]) ['dog/2.jpg', 'dog/5.jpg']" in shown
    assert "[15]" in shown and "label: class_label[2]" in shown

    def named(name: str) -> tql.Dataset:
        found = scope[name]
        assert isinstance(found, tql.Dataset)
        return found

    assert len(named("there")) == 15
    assert named("pets").columns == ("image", "path", "label")
    assert named("coco")["labels"].to_pylist() == [[1]]
    assert len(named("mine")) == 5 and len(named("near")) == 10
    assert named("both").columns == ("x", "label")
    for batch in scope["balanced"]:  # type: ignore[attr-defined]
        assert isinstance(batch["image"], np.ndarray)
