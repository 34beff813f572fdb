"""Batches as torch tensors: the one importer of torch, and only when something is called."""

import sys
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tql.diagnostics import error
from tql.loader.batch import NUMBERS, Batch, Collate, Sample, Values, as_columns, as_samples
from tql.loader.memory import Supply
from tql.planner.frameworks import shared_out

# What NumPy knows through ml_dtypes, and torch by the same name: the bits are the same.
_SHORT_FLOATS: Final = {"bfloat16": np.int16, "float8_e4m3fn": np.int8, "float8_e5m2": np.int8}


def torch_collate(
    collate_fn: Callable[[list[Sample]], Any] | None = None, *, pin_memory: bool = False
) -> Collate:
    """How batches become tensors; called where the loader is built, so that torch is found then.

    Without `collate_fn`: arrays of numbers and booleans become tensors over the same memory, those in
    lists, tuples and dicts, too, which stay what they are. What torch has no type for (text, bytes,
    datetime64, None) stays as it is. Dtypes are kept. With it: `collate_fn` gets the list of samples, dicts of NumPy values, as
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


def pinned_supply(pin_memory: bool) -> Supply:
    """Blocks of a ring that a GPU copies from directly, where there is one.

    A batch may be copied with non_blocking=True on the current stream: its memory is not written
    again before the stream has come past the point where the next batch was asked for.
    """
    torch = _import_torch()
    if not pin_memory or not torch.cuda.is_available():
        return Supply()

    def allocate(size: int) -> npt.NDArray[np.uint8]:
        block: npt.NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        return block

    def done() -> Callable[[], None]:
        event = torch.cuda.Event()
        event.record()
        wait: Callable[[], None] = event.synchronize
        return wait

    return Supply(allocate, done)


def in_dataloader_worker() -> bool:
    """Whether this is a worker process of torch's DataLoader; without importing torch."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and data.get_worker_info() is not None


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


def warned_of_same_batches() -> bool:
    """Whether the processes of a group, all of which get the same batches, had to be warned of it."""
    distributed = _import_torch().distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    processes = distributed.get_world_size()
    if processes == 1 or shared_out():
        return False
    warnings.warn(
        f"each of the {processes} processes of torch.distributed gets the same batches from this loader: "
        ".pytorch(distributed=True) shares them out, .pytorch(world_size=1) says that this is meant",
        stacklevel=3,
    )
    return True


def _tensors(torch: Any, values: Values) -> Any:
    if isinstance(values, np.ndarray):
        return _tensor(torch, values)
    if values and all(isinstance(v, torch.Tensor) for v in values):
        first = values[0]
        alike = all(v.shape == first.shape and v.dtype == first.dtype for v in values)
        return torch.stack(values) if alike else values
    return [_within(torch, v) for v in values]


def _within(torch: Any, value: Any) -> Any:
    """Arrays in lists, tuples and dicts as tensors."""
    if isinstance(value, np.ndarray):
        return _tensor(torch, value)
    if type(value) is dict:
        return {key: _within(torch, v) for key, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_within(torch, v) for v in value)
    return value


def _tensor(torch: Any, array: npt.NDArray[Any]) -> Any:
    """A tensor over the same memory; a copy only of arrays that torch could not write or walk."""
    kind = array.dtype
    same_bits = _SHORT_FLOATS.get(kind.name)
    if kind.name not in NUMBERS and same_bits is None:
        return array
    if kind.kind == "u" and not hasattr(torch, kind.name):  # wider ones came with torch 2.3
        return array
    if not kind.isnative:
        array = array.astype(kind.newbyteorder("="))
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    if same_bits is not None:
        return torch.from_numpy(array.view(same_bits)).view(getattr(torch, kind.name))
    return torch.from_numpy(array)


def _pinned(torch: Any, value: Any, pin: bool) -> Any:
    if not pin:
        return value
    if isinstance(value, torch.Tensor):
        return value if value.is_pinned() else value.pin_memory()
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
