"""Batches as torch tensors: the one importer of torch, and only when something is called."""

import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tql.diagnostics import error
from tql.loader.batch import Batch, Collate, Sample, Values, as_columns, as_samples

_TENSOR_KINDS: Final = "biuf"


def torch_collate(
    collate_fn: Callable[[list[Sample]], Any] | None = None, *, pin_memory: bool = False
) -> Collate:
    """How batches become tensors; called where the loader is built, so that torch is found then.

    Without `collate_fn`: arrays of numbers and booleans become tensors over the same memory, lists
    of arrays become lists of tensors, and what torch has no type for (text, bytes, datetime64,
    None) stays as it is. With it: `collate_fn` gets the list of samples, dicts of NumPy values, as
    torch.utils.data.DataLoader would give them.
    """
    torch = _import_torch()
    if pin_memory and not torch.cuda.is_available():
        warnings.warn("pin_memory=True has no effect: there is no CUDA device", stacklevel=2)
        pin_memory = False

    def collate(batch: Batch) -> Any:
        if collate_fn is not None:
            return _pinned(torch, collate_fn(as_samples(batch)), pin_memory)
        tensors = {name: _tensors(torch, values) for name, values in as_columns(batch).items()}
        return _pinned(torch, tensors, pin_memory)

    return collate


def distributed_rank() -> tuple[int, int]:
    """Rank and world size of this process in torch.distributed."""
    distributed = _import_torch().distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        raise error(
            "value",
            "distributed=True, but torch.distributed is not initialised in this process",
            help="call torch.distributed.init_process_group(…) first, or pass rank= and world_size=",
        )
    return distributed.get_rank(), distributed.get_world_size()


def _tensors(torch: Any, values: Values) -> Any:
    if isinstance(values, np.ndarray):
        return _tensor(torch, values)
    if values and all(isinstance(v, torch.Tensor) for v in values):
        first = values[0]
        alike = all(v.shape == first.shape and v.dtype == first.dtype for v in values)
        return torch.stack(values) if alike else values
    return [_tensor(torch, v) if isinstance(v, np.ndarray) else v for v in values]


def _tensor(torch: Any, array: npt.NDArray[Any]) -> Any:
    """A tensor over the same memory; a copy only of arrays that torch could not write or walk."""
    if array.dtype.kind not in _TENSOR_KINDS or not array.dtype.isnative:
        return array
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def _pinned(torch: Any, value: Any, pin: bool) -> Any:
    if not pin:
        return value
    if isinstance(value, torch.Tensor):
        return value.pin_memory()
    if isinstance(value, dict):
        return {key: _pinned(torch, v, pin) for key, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_pinned(torch, v, pin) for v in value)
    return value


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as cause:
        raise error(
            "unsupported",
            "PyTorch is not installed",
            help='pip install "tqlkit[torch]"',
        ) from cause
    return torch
