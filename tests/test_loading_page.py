"""The page about loading: its Python runs from top to bottom, and says what it says it does."""

import re
from pathlib import Path
from typing import Any

import pytest

import tql
from tql.loader import Options

pytest.importorskip("lightning")
pytest.importorskip("accelerate")

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "loading.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.filterwarnings("ignore")  # of Lightning and Accelerate
def test_the_python_of_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # Lightning writes its checkpoints
    assert len(PYTHON) >= 9
    scope: dict[str, Any] = {"__name__": "loading"}
    for block in PYTHON:
        exec(compile(block, "loading.md", "exec"), scope)
    shown = capsys.readouterr().out
    assert "[33 34 33]" in shown
    assert "the caller waited" in shown or "the loader keeps up" in shown
    assert sum(len(b["index"]) for b in scope["loader"]) == len(scope["loader"].dataset) == 1615
    assert sum(len(b["labels"]) for b in scope["stock"]) == 1797
    assert sum(len(b["labels"]) for b in scope["sampled"]) == 1615
    last = tmp_path / "checkpoints" / "last.ckpt"
    (state,) = scope["torch"].load(last, weights_only=False)["loops"]["fit_loop"]["state_dict"]["combined_loader"]  # fmt: skip
    assert (state["epoch"], state["position"]) == (0, 20 * 64)
    assert scope["augmented"].batch_size == 64
    batch = next(iter(scope["augmented"]))
    assert batch["image"].dtype == scope["torch"].float32
    assert next(iter(scope["columns_only"]))["images"].max() <= 1


def test_every_parameter_of_the_table_is_one() -> None:
    (table,) = re.findall(r"\| parameter \| \|\n\|---\|---\|\n(.*?)\n\n", TEXT, re.DOTALL)
    named = [
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    mine = {"tensors": "columns", "decode_method": "decode"}
    known = Options.__dataclass_fields__
    assert len(named) >= 15
    for name in named:
        assert mine.get(name, name) in known, name


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(links) >= 6
    for link in links:
        assert (ROOT / "docs" / link).exists(), link


def test_the_options_of_a_chain_are_those_of_the_page() -> None:
    for name in ("memory", "on_error", "max_errors", "timeout", "progress", "io_threads"):
        assert name in tql.DataLoader.__dataclass_fields__
        assert f"{name}=" in TEXT or f"`{name}`" in TEXT, name
