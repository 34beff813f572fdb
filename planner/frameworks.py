"""Frameworks that share an order out among processes, or count its steps, by themselves.

Nothing tells a sampler that whoever iterates it hands on each second batch only. Where it was made
for one rank of several, half of the data would then be lost without a word. So at the start of a pass
the calls that led there are looked through for the few classes that do so. A pass that is begun in
another process or thread than theirs is not seen.
"""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from tql.diagnostics import error

_SHARERS: Final = {
    "accelerate.data_loader.BatchSamplerShard": "Accelerate",
    "accelerate.data_loader.DataLoaderDispatcher": "Accelerate",
    "accelerate.data_loader.IterableDatasetShard": "Accelerate",
    "torch.utils.data.distributed.DistributedSampler": "a DistributedSampler of torch",
}
_PACKAGES: Final = frozenset({"accelerate", "lightning", "pytorch_lightning", "torch"})
_LIGHTNING: Final = frozenset(
    f"{package}.utilities.combined_loader.CombinedLoader"
    for package in ("lightning.pytorch", "pytorch_lightning")
)
_WAYS_OUT: Final = {
    "Accelerate": "iterate the loader without accelerator.prepare(), or leave rank and world_size to "
    "Accelerate: give it the batches of all ranks, with world_size=1",
    "a DistributedSampler of torch": "no DistributedSampler, which Lightning adds unless "
    "Trainer(use_distributed_sampler=False), and rank= and world_size= of this process here",
}


def refuse_second_sharing(taken: object, rank: int, world_size: int) -> None:
    """An error if `taken`, the rows of one of several ranks, is about to be shared out again.

    Also where a DistributedSampler would shuffle it, as Lightning's do in training, or takes it for
    a data set: then it would give places in the order for rows.
    """
    for caller in _callers():
        for name in _SHARERS.keys() & _classes(caller):
            if getattr(caller, "dataset", None) is taken:
                raise error("type", "a DistributedSampler takes a data set, and was given a sampler: "
                            "it would take places in the order for row numbers",
                            help="plan.sampler(rank, world_size) is the sampler of a rank")  # fmt: skip
            if getattr(caller, "shuffle", False):
                raise error("value", "a DistributedSampler of torch is about to shuffle this order: the "
                            "plan's own would be lost",
                            help=_WAYS_OUT[_SHARERS[name]])  # fmt: skip
            if world_size > 1:
                sharer = _SHARERS[name]
                raise error("value", f"these are the rows of rank {rank} of {world_size} already, and "
                            f"{sharer} shares them out again: most rows would never be seen",
                            help=_WAYS_OUT[sharer])  # fmt: skip


def shared_out() -> bool:
    """Whether what is being asked for is shared out among processes by whoever asks."""
    return any(_SHARERS.keys() & _classes(caller) for caller in _callers())


def restored_by_lightning() -> bool:
    """Whether the state that is being loaded comes out of a checkpoint of Lightning."""
    return any(_LIGHTNING & _classes(caller) for caller in _callers())


def _callers() -> Iterator[Any]:
    """The objects of these frameworks, and the samplers, whose methods are being run, innermost first.

    Of no other frame the locals are asked for: Python keeps what it shows of them, a batch as well.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code, package = frame.f_code, str(frame.f_globals.get("__name__")).partition(".")[0]
        if code.co_argcount and (package in _PACKAGES or "Sampler" in code.co_qualname):
            yield frame.f_locals.get(code.co_varnames[0])
        frame = frame.f_back


def _classes(of: object) -> set[str]:
    return {f"{c.__module__}.{c.__qualname__}" for c in type(of).__mro__}
