"""`tql demo`: the main job on embedded data, from the question to batches."""

from typing import TYPE_CHECKING, Any, Final

import click

from tql.cli.screen import show, show_json
from tql.diagnostics import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tql.dataset import Dataset
    from tql.reports.explain import Explanation

_SOURCE: Final = "demo:digits"
_FILTER: Final = "select * where labels != 5"
_WEIGHTS: Final = "max_weight(labels == 5: 10, labels == 6: 5, true: 1)"
_SHADES: Final = " .:-=+*#%@"
_NEXT: Final = (
    "tql stats demo:digits --by labels",
    "tql run demo:digits \"select labels where labels in ('three', 'eight') limit 5\"",
    'tql explain YOUR_DATA.parquet "select * where …"   # a file, a folder or a glob of your own',
)


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
@click.option("--no-color", is_flag=True, help="No colour (as NO_COLOR does).")
def command(as_json: bool, no_color: bool) -> None:
    """The main job on 1,797 handwritten digits that come with the package."""
    from tql.api import open

    dataset = open(_SOURCE)
    question = f"{_FILTER} sample by {_WEIGHTS}"
    told = dataset.explain(question)
    if as_json:
        counts, batches, _ = _epoch(dataset)
        show_json({"version": 1, "query": question, "explain": told.to_dict(), "batches": batches,
                   "drawn": counts.tolist()})  # fmt: skip
        return
    show("What is in it?\n")
    show(f"{_SOURCE}: {counted(len(dataset), 'row')}")
    for column in dataset.schema:
        show(f"  {column}")
    show(f"\nWhich rows, and how often? Without drawing one:\n\n  {question}\n")
    show(str(told))
    show("\nBatches for training: shuffled, 32 at a time, the same for the same seed:\n")
    show(f'  tql.open("{_SOURCE}").dataloader(seed=7)\n    .query("{_FILTER}")\n'
         f'    .sample_by("{_WEIGHTS}")\n    .shuffle().batch(32).numpy()\n')  # fmt: skip
    counts, batches, first = _epoch(dataset)
    shape = "\N{MULTIPLICATION SIGN}".join(map(str, first["images"].shape))
    show(f"{counted(batches, 'batch', 'batches')}; the first: images {shape} {first['images'].dtype}, "
         f"labels {[int(v) for v in first['labels'][:6]]}…\n")  # fmt: skip
    _show_shares(told, counts)
    names = getattr(dataset.schema["labels"].dtype, "names", ())
    show(f"\nIts first digit, a {names[int(first['labels'][0])]}, row {int(first['index'][0])}:\n")
    _show_digit(first["images"][0])
    show("\nWhat to type next:\n")
    for line in _NEXT:
        show(f"  {line}")


def _epoch(dataset: "Dataset") -> tuple["NDArray[np.int64]", int, dict[str, Any]]:
    """Rows drawn of each class in one epoch, int64 (classes,); batches; the first batch."""
    import numpy as np

    loader = dataset.dataloader(seed=7).query(_FILTER).sample_by(_WEIGHTS).shuffle().batch(32)
    counts = np.zeros(10, np.int64)
    first: dict[str, Any] = {}
    batches = 0
    with loader.numpy() as epoch:
        for batch in epoch:
            # A batch's arrays are used again for a later one.
            first = first or {name: np.array(values) for name, values in batch.items()}
            counts += np.bincount(batch["labels"], minlength=10)
            batches += 1
    return counts, batches, first


def _show_shares(told: "Explanation", counts: "NDArray[np.int64]") -> None:
    from tql.reports.text_table import table

    assert told.table is not None
    total = int(counts.sum())
    rows = [
        [
            line.name,
            f"{100 * (line.expected_share or 0):.1f} %",
            f"{100 * n / total:.1f} %",
            f"{n:,}",
        ]
        for line, n in zip(told.table.lines, counts.tolist(), strict=True)
    ]
    for text in table(
        ["labels", "expected", "drawn", "rows"], ["left", "right", "right", "right"], rows
    ):
        show(text)


def _show_digit(image: "NDArray[np.uint8]") -> None:
    """The grey image, uint8 (h, w, 1), with characters for shades; two for each pixel."""
    scale = max(1, int(image.max()))
    for line in image[..., 0]:
        show("  " + "".join(_SHADES[int(v) * (len(_SHADES) - 1) // scale] * 2 for v in line))
