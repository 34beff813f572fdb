"""`Dataset` and `View`: named columns over a source, and the results of queries over them."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from tql.diagnostics import counted, did_you_mean, error
from tql.engine.computed import identify, root_of, take
from tql.engine.derived import DerivedSource, as_they_stand, derive
from tql.engine.select import drawable
from tql.language.bind_expr import Params
from tql.language.places import parameters_of
from tql.language.plan import Output
from tql.loader import FragmentRows, MapDataset, Shaping, by_row, known_shaping
from tql.planner import sample
from tql.queries import Question, ask, either, rows_below, state, weigh_by
from tql.rowset import RowSet, everything, from_ids
from tql.schema import Schema
from tql.sources.beside import FilesSource
from tql.sources.export import export_table
from tql.sources.protocol import Source
from tql.steps import (
    ColumnsStep,
    Lineage,
    QueryStep,
    RowsStep,
    SampleStep,
    WeightsLike,
    chosen_mix,
)
from tql.view_rows import ViewRows
from tql.weights import RowWeights, Weights, check

if TYPE_CHECKING:
    from tql.chain import DataLoader
    from tql.reports.explain import Explanation
    from tql.reports.statistics import Statistics

_READ_AT_ONCE = 256  # rows, where a framework asks for them one by one


class Dataset:
    """Rows with typed columns; what `tql.open` returns. Immutable.

    >>> import tql
    >>> ds = tql.open("demo:digits")
    >>> len(ds.query("select * where labels == 'five'"))
    182
    """

    def __init__(self, source: Source, name: str, lineage: Lineage | None = None) -> None:
        self.source = source
        self.name = name
        self.lineage = lineage or Lineage(source)
        self._by_position: MapDataset | None = None

    def __len__(self) -> int:
        return self.source.rows

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {counted(len(self), 'row')}; {', '.join(map(str, self.schema))}>"

    @property
    def schema(self) -> Schema:
        """The columns with their types and class names."""
        return self.source.schema

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.schema.names

    @property
    def fingerprint(self) -> str:
        """Hex digest of the content: the same for the same data wherever it lies."""
        return self.source.fingerprint

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice | list[str]) -> "View": ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: int | slice | str | list[str]) -> Any:
        """`ds[3]` one sample, `ds[a:b]` a view, `ds["col"]` a column, `ds[["a", "b"]]` a view."""
        match key:
            case slice():
                start, stop, step = key.indices(len(self))
                rows = everything(len(self))[start : max(start, stop)] if step == 1 else from_ids(
                    np.arange(start, stop, step, dtype=np.int64), len(self)
                )  # fmt: skip
                text = f"[{key.start}:{key.stop}:{key.step}]"
                return self._view(rows, text, RowsStep(start, stop, step))
            case str():
                self._known([key])
                return take(self.source, np.arange(len(self)), [key]).column(key)
            case list():
                self._known(key)
                if len(set(key)) < len(key):
                    raise error("duplicate_column", f"a column is named twice: {', '.join(key)}",
                                help="name each column once")  # fmt: skip
                return self._view(everything(len(self)), "", ColumnsStep(tuple(key)))
            case _ if hasattr(key, "__index__") and not isinstance(key, bool):
                return self._samples()[key]
            case _:
                raise error(
                    "type", f"a {type(key).__name__} is no index of a data set",
                    help="give a position, a slice, a column name, or a list of column names",
                )  # fmt: skip

    def _samples(self) -> MapDataset:
        """Samples by position, with one cache for all of them."""
        if self._by_position is None:
            self._by_position = self.pytorch()
        return self._by_position

    def query(
        self, text: str, params: Params = None, *, parameters: Params = None, seed: int = 0,
        engine: str = "threads",
    ) -> "View":  # fmt: skip
        """The rows and columns that a query selects; draws in it are fixed by `seed`.

        `params` (or `parameters`) are the values of `?` (a list) or of `$name` (a dict).
        """
        if engine != "threads":
            raise error("unsupported", f"engine={engine!r} is not in this version",
                        help="engine='threads'")  # fmt: skip
        params = either(params, parameters)
        return view_of(ask(self.source, text, params, seed=seed), self, params)

    def sample_by(
        self, weights: WeightsLike, replace: bool = True, size: int | None = None,
        *, seed: int = 0, mix: str | None = None, repeat: str | None = None,
    ) -> "View":  # fmt: skip
        """`size` rows (as many as there are) drawn in proportion to `weights`, in draw order.

        weights  a weight expression (`"max_weight(labels == 5: 10)"`, a column name), or one
                 number per row
        mix      "iid" (the default): independent draws; "epoch": each weight's share of the draws,
                 rounded down or up, and no row again before its like have come as often
        repeat   "minimal": mix="epoch" with replacement, by what it does to rows: one whose share of
                 the draws is below 1 comes at most once
        """
        mix = chosen_mix(mix, replace, repeat)
        if mix == "batch":
            raise error("parameter", "mix='batch' is for loaders: a view has no batches",
                        help="use .dataloader().sample_by(…, mix='batch').batch(n), or mix='epoch'")  # fmt: skip
        population, found = self.weighed(weights, seed)
        check_size(size)
        source, outputs = self.parts()
        edges = None if mix == "iid" else fragment_edges(source)
        with drawable(size, replace):
            ids, notes = sample(population, found, size, replace, seed, "sample_by", mix, edges)
        rows = from_ids(ids, population.universe)
        derived = DerivedSource(source, rows, outputs, self.view_seed(seed))
        return View(
            derived,
            self.name,
            f"sample by {weights}" if isinstance(weights, str) else "sample by weights",
            notes,
            self.lineage.then(SampleStep(weights, replace, size, mix, "once"), seed),
        )

    def weighed(self, weights: WeightsLike, seed: int = 0) -> tuple[RowSet, Weights]:
        """The rows of this data set as rows of what lies below it, and how heavily each counts."""
        population = rows_below(self.source, everything(len(self)))
        if isinstance(weights, str):
            found = weigh_by(self.source, weights, seed=seed)
        else:
            found = RowWeights(self._numbers(weights))
        check(found)
        return population, found

    def _numbers(self, weights: Any) -> NDArray[np.float64]:
        array = np.asarray(weights)
        if array.ndim != 1:
            raise error("value", f"weights must have one dimension, not {array.ndim}",
                        help="give one number per row")  # fmt: skip
        if len(array) != len(self):
            raise error("value", f"{counted(len(array), 'weight')} for {counted(len(self), 'row')}",
                        help="give one number per row of this data set or view")  # fmt: skip
        if array.dtype.kind not in "biuf":
            raise error("type", f"weights must be numbers, not {array.dtype}")
        return array.astype(np.float64)

    def prepare(self, text: str) -> "PreparedQuery":
        """A query to be run several times, with different parameters; see PreparedQuery."""
        return PreparedQuery(self, text)

    def explain(
        self,
        text: str | None = None,
        params: Params = None,
        *,
        seed: int = 0,
        analyze: bool = False,
        kernels: bool = False,
    ) -> "Explanation":
        """What a query will read, drop, weigh and draw; nothing is drawn.

        analyze  run it, and put rows and seconds beside
        kernels  also which tier would answer each node now, why, and the generated loop
        """
        from tql.reports.explain import explain_query

        question = ask(self.source, "select *" if text is None else text, params, seed=seed)
        return explain_query(question, self.name, analyze=analyze, kernels=kernels)

    def stats(self, by: str | None = None) -> "Statistics":
        """Rows, nulls and ranges per column, or rows per class of the column `by`."""
        from tql.reports.statistics import class_statistics, column_statistics

        if by is None:
            return column_statistics(self.source, self.name)
        self._known([by])
        return class_statistics(self.source, self.name, by)

    def missing_files(self) -> NDArray[np.int64]:
        """int64, ascending: ids of the rows of the root data set one of whose files is not there.

        Storage is asked for each file that a row names, and no file is read.
        """
        root = root_of(self.source)
        return root.missing() if isinstance(root, FilesSource) else np.empty(0, np.int64)

    def take(self, row_ids: ArrayLike, columns: Sequence[str] | None = None) -> pa.Table:
        """These rows as an Arrow table, in the order given, repeats included.

        Row ids are those of the root data set, as `View.row_ids` and the `index` of batches are.
        """
        given = np.atleast_1d(np.asarray(row_ids))
        if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
            raise error("type", f"row ids are whole numbers in one dimension, not {given.dtype} "
                        f"in {given.ndim}", help="np.flatnonzero(mask) makes them of a mask")  # fmt: skip
        rows = given.astype(np.int64)
        names = self.columns if columns is None else tuple(columns)
        self._known(names)
        universe = root_of(self.source).rows
        outside = (rows < 0) | (rows >= universe)
        if outside.any():
            raise error(
                "range", f"there is no row {rows[outside][0]}: row ids go from 0 to {universe - 1}"
            )
        return export_table(self._table(rows, names), self.schema.select(names))

    def _table(self, row_ids: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        return take(self.source, row_ids, names)

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table; class names travel in the field metadata."""
        return export_table(take(self.source, np.arange(len(self)), self.columns), self.schema)

    def to_pandas(self) -> Any:
        """All rows as a pandas DataFrame."""
        try:
            import_module("pandas")  # pyarrow imports it, and would not say how to get it
        except ImportError as e:
            raise error("unsupported", "pandas is not installed", help="pip install pandas") from e
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """All rows as a Polars DataFrame."""
        try:
            import polars
        except ImportError as e:
            raise error("unsupported", "polars is not installed", help="pip install polars") from e
        return polars.from_arrow(self.to_arrow())

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """All rows for any library that speaks the Arrow PyCapsule protocol."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def batches(
        self, batch_size: int, *, shuffle: bool = False, seed: int = 0
    ) -> Iterator[dict[str, Any]]:
        """NumPy batches of the rows, without a framework."""
        return iter(self.dataloader(seed).shuffle(shuffle).batch(batch_size).numpy())

    def dataloader(self, seed: int = 0, **options: Any) -> "DataLoader":
        """A chain that ends in `.numpy()` or `.pytorch()`; see `tql.DataLoader`."""
        from tql.chain import DataLoader

        return DataLoader.of(self, seed, **options)

    def pytorch(self, transform: Any = None, **shaping: Unpack[Shaping]) -> MapDataset:
        """A map-style data set for a stock torch DataLoader; a batch is fetched at once.

        min_size, channels, exif, max_pixels and ragged are described in `tql.loader.Shaping`.
        """
        form = known_shaping(shaping, "pytorch")
        return MapDataset(self.rows(), self.plan_rows(), transform, **form)

    def tensorflow(self) -> Any:
        """A tf.data.Dataset of the rows in their order, one element a row: dicts of tensors."""
        return by_row(self.dataloader().batch(_READ_AT_ONCE).tensorflow(return_index=False))

    # -- for the front of the package ----------------------------------------------------------

    def parts(self) -> tuple[Source, tuple[Output, ...]]:
        """The source whose row numbers plans are made of, and the columns over it."""
        if isinstance(self.source, DerivedSource):
            return self.source.parent, self.source.outputs
        return self.source, as_they_stand(self.source, self.columns)

    def plan_rows(self) -> RowSet:
        """The rows of this data set, in the numbering of `parts()`."""
        return rows_below(self.source, everything(len(self)))

    def view_seed(self, seed: int) -> int:
        """The seed that the columns of a view of this data set keep."""
        return self.source.seed if isinstance(self.source, DerivedSource) else seed

    def rows(self, memory_bytes: int = 1 << 30) -> FragmentRows | ViewRows:
        """How the loader reads this data set, with a fragment cache of so many bytes."""
        if isinstance(self.source, DerivedSource):
            return ViewRows(self.source, memory_bytes)
        return FragmentRows(self.source, memory_bytes)

    def _view(self, rows: RowSet, text: str, step: RowsStep | ColumnsStep) -> "View":
        columns = step.names if isinstance(step, ColumnsStep) else self.columns
        derived = derive(self.source, rows, as_they_stand(self.source, columns), 0)
        return View(derived, self.name, text, lineage=self.lineage.then(step, 0))

    def _known(self, names: Sequence[str]) -> None:
        for name in names:
            if not isinstance(name, str):
                raise error("type", f"a column name is text, not {name!r}",
                            help="ds[3] is one row, ds.take([3, 5]) are several")  # fmt: skip
            if name not in self.schema:
                raise error(
                    "unknown_column", f"no column named {name!r}",
                    help=did_you_mean(name, self.columns) or f"the columns are {', '.join(self.columns)}",
                )  # fmt: skip


class View(Dataset):
    """The result of a query: rows of a data set in result order, and columns over them.

    It is a data set itself, so views of views, queries of views and loaders over them work.
    `notes` say what should be known of the rows, for example that fewer could be drawn than asked.
    """

    source: DerivedSource

    def __init__(
        self, source: DerivedSource, name: str, query_text: str, notes: tuple[str, ...] = (),
        lineage: Lineage | None = None,
    ) -> None:  # fmt: skip
        super().__init__(source, name, lineage)
        self.query_text = query_text
        self.notes = notes
        self._row_ids: NDArray[np.int64] | None = None

    @property
    def row_ids(self) -> NDArray[np.int64]:
        """int64 (n,): the rows of the root data set, in result order."""
        if self._row_ids is None:
            self._row_ids = identify(self.source.parent, self.source.selected.to_numpy())
        return self._row_ids

    @property
    def rowset(self) -> RowSet:
        """The rows of the root data set as a compact set."""
        root = root_of(self.source)
        if self.source.parent is not root:
            return from_ids(self.row_ids, root.rows)
        return self.source.selected

    def _table(self, row_ids: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        parent = self.source.parent
        if parent is root_of(parent):
            return self.source.project(row_ids, names)
        # A view over a view's positions: find where each root row stands in the inner one.
        inner = identify(parent, np.arange(parent.rows))
        order = np.argsort(inner, kind="stable")
        at = np.searchsorted(inner[order], row_ids)
        found = at < len(inner)
        found[found] = inner[order[at[found]]] == row_ids[found]
        if not found.all():
            raise error("range", f"row {row_ids[~found][0]} is not in {self.name}")
        return self.source.project(order[at], names)


class PreparedQuery:
    """A query of a data set, checked once, to be run any number of times.

    Preparing parses the text, opens what FROM names, and raises every error that no values of the
    parameters could cure: names, types, numbers of arguments. A query without parameters is
    bound and rewritten here for good. One with parameters is bound again in every run, because a
    value takes its type from its place, as a literal does, and may be folded into what is beside
    it; neither parsing nor opening happens again. What is wrong with a value (its type, a class that
    does not exist, a negative LIMIT) and the number of values are checked in the run.

    text        the query
    parameters  what wants a value: positions of `?`, or names of `$name`, in the order of the text
    """

    def __init__(self, dataset: Dataset, text: str) -> None:
        self.dataset = dataset
        self.text = text
        self._statement = state(dataset.source, text)
        named = parameters_of(self._statement.query)
        self.parameters = tuple(dict.fromkeys(p.key for p in named))
        self._ready = None if named else self._statement.rewritten()
        if named:
            self._statement.check(named)

    def __repr__(self) -> str:
        return f"<PreparedQuery {self.text!r} of {self.dataset.name}>"

    def run(self, params: Params = None, *, parameters: Params = None, seed: int = 0) -> View:
        """The view for these values of `?` (a list) or `$name` (a dict)."""
        params = either(params, parameters)
        return view_of(self._question(params, seed), self.dataset, params)

    def explain(
        self, params: Params = None, *, parameters: Params = None, seed: int = 0,
        analyze: bool = False, kernels: bool = False,
    ) -> "Explanation":  # fmt: skip
        """What `run` will do for these values."""
        from tql.reports.explain import explain_query

        question = self._question(either(params, parameters), seed)
        return explain_query(question, self.dataset.name, analyze=analyze, kernels=kernels)

    def _question(self, params: Params, seed: int) -> Question:
        bound = self._ready
        if bound is None or params is not None:
            bound = self._statement.rewritten(params)
        return self._statement.question(bound, seed=seed)


def view_of(question: Question, dataset: Dataset | None, params: Params = None) -> View:
    """The answer to a question, which was asked with `params`, as a view."""
    answer, seed = question.answer(), question.environment.seed
    derived = derive(answer.source, answer.rows, answer.outputs, seed)
    name = dataset.name if dataset is not None else "query"
    below = dataset.lineage if dataset is not None else Lineage(None)
    lineage = below.then(QueryStep(question.text, params), seed)
    return View(derived, name, question.text, answer.notes, lineage)


def fragment_edges(source: Source) -> NDArray[np.int64]:
    """The rows at which the fragments of `source` begin, and the number of rows; int64 (M + 1,)."""
    return np.array([*(f.start for f in source.fragments), source.rows], np.int64)


def check_size(size: Any) -> None:
    """A TqlError unless `size` is None or a positive integer."""
    if size is None:
        return
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise error("type", f"size must be a whole number, not {size!r}")
    if size <= 0:
        raise error("value", f"size must be 1 or more, not {size}")
