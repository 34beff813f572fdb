"""Batches as a tf.data.Dataset: the one importer of tensorflow, and only when something is called.

A tf.data.Dataset states the shape and type of its elements before the first one is made. They come
from the schema and from the first rows of the source, whatever the plan, the rank or the place
where a job resumes: a dimension in which those rows agree is static, one in which they differ is
ragged, and so are lists whose type states no length. A batch that is otherwise is an error.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from tql.diagnostics import TqlError, data_error, error
from tql.loader.batch import INDEX, NUMBERS, Batch, Collate, Sample, Values, as_columns, as_samples
from tql.loader.loader import Loader
from tql.loader.ragged import Padding
from tql.schema import DType, List

_TEXT: Final = "USO"  # kinds of NumPy arrays that TensorFlow takes as text
_BFLOAT16: Final = "bfloat16"  # NumPy has it through ml_dtypes


class _Spec(Protocol):
    """What is used of a tf.TensorSpec and a tf.RaggedTensorSpec."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...


def tensorflow_collate(collate_fn: Callable[[list[Sample]], Any] | None = None) -> Collate:
    """What the loader makes of a batch on the way to TensorFlow: still arrays and lists.

    With `collate_fn`: what that returns, given the list of samples.
    """
    _import_tensorflow()

    def collate(batch: Batch) -> Any:
        return as_columns(batch) if collate_fn is None else collate_fn(as_samples(batch))

    return collate


def tensorflow_dataset(
    loader: Loader,
    element_spec: Mapping[str, Any] | None = None,
    *,
    collated: bool = False,
    counted: bool = True,
) -> Any:
    """The loader as a tf.data.Dataset of whole batches; each iteration is one pass of the loader.

    Batches are made ahead by the loader's own threads, so that the loader's state is that of the
    batch handed over last; `.prefetch(n)` would hold n more.

    element_spec  tf.TensorSpec or tf.RaggedTensorSpec of columns whose first rows do not show it
    collated      batches are what a function of the user's returns: any structure of arrays
    counted       whether all passes have as many batches as the next, which is the cardinality
    """
    tf = _import_tensorflow()
    first = loader.first_rows()
    leading = loader.batch_size if loader.drop_last else None
    given = dict(element_spec or {})
    if collated:
        if given:
            raise error("parameter", "element_spec= names columns, but collate_fn makes the batches",
                        help="leave one of them out")  # fmt: skip
        spec = tf.nest.map_structure(lambda v: _dense_spec(tf, np.asarray(v), leading), first)
    else:
        _check_given(tf, given, first)
        types = {column.name: column.dtype for column in loader.columns_as_stored}
        spec = {
            name: _spec_of(tf, name, v, types.get(name), leading)
            for name, v in first.items()
            if name not in given
        }
        for padding in loader.paddings:
            names = (padding.name, padding.companion) if padding.how == "mask" else (padding.name,)
            for name in names:
                spec[name] = _padded_spec(tf, first[name], padding, leading)
        spec = {name: given[name] if name in given else spec[name] for name in first}
    batches = len(loader)
    # TensorFlow 2.21 keeps every generator function for good, and with it all that it refers to:
    # the loader, with the fragments it has read, belongs to the data set, and to those made of it.
    held = weakref.ref(loader)

    def elements() -> Iterator[Any]:
        loader = held()
        if loader is None:
            raise error("value", "the tf.data.Dataset that this was made of is gone, with its loader",
                        help="keep a reference to what .tensorflow() returned")  # fmt: skip
        if counted and len(loader) != batches:
            raise error(
                "value",
                f"this tf.data.Dataset promises {batches} batches in every pass, but the next pass "
                f"of its loader has {len(loader)}",
                help="give the state to .tensorflow(state=…), which makes no such promise",
            )
        for batch in loader:
            yield (
                batch
                if collated
                else {
                    name: _tensor(tf, name, values, spec[name], batch)
                    for name, values in batch.items()
                }
            )
            del batch

    made = tf.data.Dataset.from_generator(elements, output_signature=spec)
    made.loader = loader
    if counted:
        made = made.apply(tf.data.experimental.assert_cardinality(batches))
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # the state would run ahead
    made = made.with_options(options)
    made.loader = loader
    return made


def by_row(batches: Any) -> Any:
    """The same rows as a tf.data.Dataset with one element a row."""
    tf = _import_tensorflow()
    rows = len(batches.loader.plan)
    made = batches.unbatch().apply(tf.data.experimental.assert_cardinality(rows))
    made.loader = batches.loader
    return made


# -- before the first batch -----------------------------------------------------------------------


def _spec_of(tf: Any, name: str, values: Values, dtype: DType | None, leading: int | None) -> Any:
    """The type of a column, from its first rows and the type that the source states."""
    depth = _open_depth(dtype)
    if isinstance(values, np.ndarray) and not depth:
        whole = _storable(values)
        if whole.dtype.kind not in _TEXT and not _fits(whole):
            raise _no_type(name, [whole.dtype])
        return _dense_spec(tf, whole, leading)
    rows = [v for v in values if v is not None]
    if rows and all(isinstance(v, str | bytes) for v in rows):
        return tf.TensorSpec((leading,), tf.string)
    numeric = np.ndarray | np.generic | int | float
    arrays = [_storable(np.asarray(v)) for v in rows if isinstance(v, numeric)]
    kinds = {a.dtype for a in arrays}
    ranks = {a.ndim for a in arrays}
    if len(arrays) < len(rows) or len(kinds) != 1 or len(ranks) != 1 or not _fits(arrays[0]):
        raise _no_type(name, rows)
    shapes = np.array([a.shape for a in arrays]).reshape(len(arrays), ranks.pop())
    agree = (shapes == shapes[0]).all(axis=0) & (np.arange(shapes.shape[1]) >= depth)
    dims = [int(n) if same else None for n, same in zip(shapes[0], agree, strict=True)]
    if None not in dims:
        return tf.TensorSpec((leading, *dims), kinds.pop())
    last = max(i for i, n in enumerate(dims) if n is None)
    dims[: last + 1] = [None] * (last + 1)
    return tf.RaggedTensorSpec((leading, *dims), kinds.pop(), ragged_rank=last + 1)


def _padded_spec(tf: Any, values: Any, padding: Padding, leading: int | None) -> Any:
    """The type of a padded column or of its mask: every batch has lengths of its own."""
    dims: list[int | None] = [None] * (values.ndim - 1)
    if padding.image:
        dims[-1] = values.shape[-1]
    return tf.TensorSpec((leading, *dims), values.dtype)


def _open_depth(dtype: DType | None) -> int:
    """Down to which level of lists a type leaves a length open."""
    depth, deepest = 0, 0
    while isinstance(dtype, List):
        depth += 1
        if dtype.size is None:
            deepest = depth
        dtype = dtype.item
    return deepest


def _dense_spec(tf: Any, values: Any, leading: int | None) -> Any:
    if values.dtype.kind in _TEXT:
        return tf.TensorSpec((leading, *values.shape[1:]), tf.string)
    return tf.TensorSpec((leading, *values.shape[1:]), values.dtype)


def _check_given(tf: Any, given: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    for name, spec in given.items():
        if name not in first:
            raise error("unknown_column", f"element_spec names '{name}', which batches do not have",
                        help=f"they have {', '.join(first)}")  # fmt: skip
        if not isinstance(spec, tf.TensorSpec | tf.RaggedTensorSpec):
            raise error("type", f"the element_spec of '{name}' is {type(spec).__name__}; expected a "
                        "tf.TensorSpec or tf.RaggedTensorSpec",
                        help="tf.TensorSpec((None, None, None, 3), tf.uint8)")  # fmt: skip


# -- each batch -----------------------------------------------------------------------------------


def _tensor(tf: Any, name: str, values: Values, spec: _Spec, batch: Mapping[str, Any]) -> Any:
    """The values as what `spec` says."""
    if isinstance(values, list) and any(v is None for v in values):
        raise _has_null(name, values, batch)
    if spec.dtype == tf.string:
        return values
    if isinstance(spec, tf.RaggedTensorSpec):
        return _ragged(tf, name, values, spec)
    dense = values if isinstance(values, np.ndarray) else _stacked(name, values, spec)
    dense = _storable(dense)
    if dense.dtype != spec.dtype.as_numpy_dtype or not spec.shape.is_compatible_with(dense.shape):
        raise _deviates(name, f"{dense.dtype} of shape {dense.shape[1:]}", spec)
    return dense


def _stacked(name: str, values: list[Any], spec: _Spec) -> Any:
    arrays = [np.asarray(v) for v in values]
    shapes = sorted({a.shape for a in arrays})
    if len(shapes) > 1:
        raise _deviates(name, f"rows of shapes {shapes[0]} and {shapes[1]}", spec)
    return np.stack(arrays)


def _ragged(tf: Any, name: str, values: Values, spec: Any) -> Any:
    """Arrays of one rank, end to end, with the lengths of each level down to the innermost open one."""
    levels = spec.ragged_rank
    arrays = [_storable(np.asarray(v)) for v in values]
    inner = tuple(spec.shape[levels + 1 :])
    kind, rank = spec.dtype.as_numpy_dtype, len(spec.shape) - 1
    wrong = [a for a in arrays if a.dtype != kind or a.ndim != rank or a.shape[levels:] != inner]
    if wrong:
        raise _deviates(name, f"{wrong[0].dtype} of shape {wrong[0].shape}", spec)
    flat = [a.reshape(-1, *inner) for a in arrays]
    lengths = [
        np.concatenate([np.full(int(np.prod(a.shape[:k])), a.shape[k], np.int64) for a in arrays])
        for k in range(levels)
    ]
    return tf.RaggedTensor.from_nested_row_lengths(np.concatenate(flat), lengths, validate=False)


def _storable(values: Any) -> Any:
    """Times as int64 counts of their unit since 1970, for TensorFlow has none; all else as it is, in
    the byte order of this machine.
    """
    if values.dtype.kind in "mM":
        return values.view(np.int64)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _fits(values: Any) -> bool:
    return values.dtype.name in NUMBERS or values.dtype.name == _BFLOAT16


# -- errors ---------------------------------------------------------------------------------------


def _has_null(name: str, values: list[Any], batch: Mapping[str, Any]) -> TqlError:
    at = next(i for i, v in enumerate(values) if v is None)
    row = f"row {batch[INDEX][at]}" if INDEX in batch else f"place {at} of the batch"
    return data_error(
        "value",
        f"{row}, column '{name}' is null, and TensorFlow has no null",
        help=f"leave such rows out (where {name} is not null), or give a value in a transform",
    )


def _deviates(name: str, found: str, spec: _Spec) -> TqlError:
    dims = tuple(spec.shape[1:])
    return data_error(
        "shape",
        f"column '{name}' has {found}, but the first rows promise {spec.dtype.name} of shape {dims}",
        help="make the shapes equal in a transform, or state them: "
        f"element_spec={{'{name}': tf.TensorSpec((None, …), tf.{spec.dtype.name})}}",
    )


def _no_type(name: str, rows: Sequence[Any]) -> TqlError:
    found = "only null in the first rows"
    if rows:
        found = f"{rows[0] if isinstance(rows[0], np.dtype) else type(rows[0]).__name__} values"
    return error(
        "type",
        f"column '{name}' has {found}, of which TensorFlow can be given no type",
        help=f"choose the columns with tensors=[…], state it with element_spec={{'{name}': …}}, "
        "or turn it into arrays or text in a transform",
    )


def _import_tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as cause:
        raise error(
            "unsupported",
            "TensorFlow is not installed",
            help='pip install "tqlkit[tensorflow]"',
        ) from cause
    return tensorflow
