"""The loader as users write it: a chain of small steps that ends in an output.

    loader = (ds.dataloader(seed=7)
                .query("select * where labels != 5")
                .sample_by("max_weight(labels == 5: 10, labels == 6: 5, true: 1)")
                .shuffle().offset(1_000).batch(32)
                .pytorch())

Every step returns a new object. `query` and `sample_by` apply in the order written, then shuffle,
offset and batch wherever they were written. What came before the last step is a fixed view; the
sampling of the last step is drawn anew in each epoch, from (seed, epoch).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from tql.dataset import (
    Dataset,
    check_size,
)
from tql.diagnostics import error
from tql.forks import ForkLock
from tql.language.bind_expr import Params
from tql.loader import (
    Failures,
    Loader,
    OnError,
    Options,
    Shaping,
    Supply,
    distributed_rank,
    known_shaping,
    numpy_collate,
    pinned_supply,
    tensorflow_collate,
    tensorflow_dataset,
    torch_collate,
    warned_of_same_batches,
)
from tql.memory_size import bytes_of
from tql.mixture import Material
from tql.planner import BatchSampler, Plan, Sampler, Windows
from tql.planner.arguments import count, whole, yes_or_no
from tql.planner.skipping import Skip, checked_range
from tql.planner.stream import Remainder
from tql.planning import planned
from tql.shuffling import Expected, Shuffling, checked, expected
from tql.steps import (
    QueryStep,
    Reweight,
    SampleStep,
    Step,
    WeightsLike,
    chosen_mix,
)

if TYPE_CHECKING:
    from tql.reports.explain import Explanation


@dataclass(frozen=True, slots=True)
class Output:
    """A chosen framework, what its method was given, and how its batches are made.

    supply   where the memory of a ring of batches comes from
    sharing  says which rank this is, once that is known; None where the options do
    alone    nothing was said of ranks
    """

    name: str
    options: Options
    collate: Callable[[], Any]
    supply: Callable[[], Supply] = Supply
    sharing: Callable[[Options], Options] | None = None
    alone: bool = False

    def of_rank(self) -> Options:
        """The options, with the rank of this process."""
        return self.options if self.sharing is None else self.sharing(self.options)


@dataclass(slots=True)
class _Made:
    """What a chain makes of itself, once, when it is asked for."""

    planned: tuple[Dataset, Plan] | None = None
    loader: Loader | None = None
    material: Material | None = None
    warned: bool = False  # that every process gets the same batches
    lock: ForkLock = field(default_factory=ForkLock)  # several threads must get one loader


@dataclass(frozen=True, eq=False)
class DataLoader:
    """A chain over a data set; iterate it once an output is chosen (NumPy if none is).

    seed        fixes everything that is random
    memory      what fragments and batches may hold together: bytes, or "2GiB". Half is for fragments,
                those kept and those read ahead, and half for batches in the making or waiting. Not
                in it: batches that are held by who got them, what a fragment takes beside itself
                while it is decompressed, and freed memory that an allocator keeps. A fragment or a
                batch that is larger than its half is held alone
    on_error    what becomes of a sample that cannot be decoded or transformed: "raise"; "skip" leaves
                it out of its batch; "replace" puts another row of the same weight class in its place
    max_errors  how many such samples a pass may have on each rank; None for any number
    timeout     seconds to wait for one batch; None for ever
    io_threads  threads that read, apart from those that decode; None is 16 where the data are on
                another machine, and else num_threads, 4 at most
    progress    a bar of batches on standard error, where that is a terminal
    """

    base: Dataset
    seed: int = 0
    memory: int | str = "2GiB"
    on_error: OnError = "raise"
    max_errors: int | None = None
    timeout: float | None = None
    progress: bool = False
    io_threads: int | None = None
    steps: tuple[Step, ...] = ()
    reweights: tuple[Reweight, ...] = ()
    shuffled: bool | None = None
    windowing: Shuffling | Windows | None = None
    start: int | None = None
    skips: tuple[Skip, ...] = ()
    batching: tuple[int, bool] | None = None
    transforming: tuple[Any, Mapping[str, Any]] | None = None
    output: Output | None = field(default=None, repr=False)
    _made: _Made = field(default_factory=_Made, init=False, repr=False)

    @classmethod
    def of(cls, base: Dataset, seed: int, **options: Any) -> "DataLoader":
        """The empty chain over `base`."""
        return cls(base, seed, **options)

    def __post_init__(self) -> None:
        bytes_of(self.memory)
        Options(on_error=self.on_error, max_errors=self.max_errors, io_threads=self.io_threads)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what was made of it: another process plans again, and starts threads of its own."""
        return {**self.__dict__, "_made": _Made()}

    # -- steps ---------------------------------------------------------------------------------

    def query(self, query_string: str, params: Params = None) -> "DataLoader":
        """The rows and columns that a TQL query selects from what the chain gives so far.

        A SAMPLE BY that ends the query is drawn anew in each epoch, which only the last step of a
        chain can; one that the query does something with is drawn once.
        """
        return self._with(steps=(*self.steps, QueryStep(query_string, params)))

    def sample_by(
        self, weights: WeightsLike, replace: bool = True, size: int | None = None,
        *, mix: str | None = None, resample: str = "epoch", repeat: str | None = None,
    ) -> "DataLoader":  # fmt: skip
        """Draw rows in proportion to weights: an expression, or one number per row.

        mix       "iid" (the default) draws independently; "epoch" gives each weight its share of an epoch, rounded
                  down or up, each fragment of the data its share of that, and no row again before
                  its like have come as often; "batch" gives each batch of a rank its share, too
        resample  "epoch" draws anew in each epoch, which only the last step of a chain can; "once"
                  keeps one draw
        repeat    "minimal": mix="epoch" with replacement, by what it does to rows: one whose share of
                  the draws is below 1 comes at most once, another as often as its share, rounded
                  down or up
        """
        mix = chosen_mix(mix, replace, repeat)
        check_size(size)
        if resample not in ("epoch", "once"):
            raise error("parameter", f"resample must be 'epoch' or 'once', not {resample!r}")
        return self._with(steps=(*self.steps, SampleStep(weights, replace, size, mix, resample)))

    def reweight(self, weights: WeightsLike, *, position: int, epoch: int = 0) -> "DataLoader":
        """Other weights for the `sample_by` before, from this position of an epoch on, for all that follow.

            loader = chain.reweight("max_weight(labels == 5: 3, true: 1)", epoch=1, position=64_000)

        Up to there every position has the row it had, and a state that was taken there or before is
        one of this loader, too. From there on it has the row of the chain that was written with
        these weights. May be called again for a later position.
        """
        last = self.steps[-1] if self.steps else None
        if not isinstance(last, SampleStep):
            raise error("parameter", ".reweight() without weights before it",
                        help="chain.sample_by(first, …).reweight(second, position=…)")  # fmt: skip
        change = Reweight(
            weights, count("epoch", epoch), whole("position", position), len(self.steps)
        )
        return self._with(reweights=(*self.reweights, change))

    def shuffle(
        self, shuffle: bool = True, buffer_size: float | None = None,
        *, vif: float | None = None, lanes: int = 1, by: str | None = None,
    ) -> "DataLoader":  # fmt: skip
        """A new order in every epoch: a permutation of everything, unless it is to be in windows.

        In windows, few fragments of the data (row groups) are enough at a time. How many is set by

        buffer_size  MB that the loaded columns of those fragments may take; no buffer is filled
        vif          how much more the classes in a batch may vary than by chance: 1.5 is half more
                     variance. `explain` says what that takes in memory
        lanes        equal parts of the order that are read side by side, for as many ranks: then each
                     of them reads its own fragments. Memory and VIF are those of all together
        by           the column of the classes; the first that has class names unless given
        """
        if not isinstance(shuffle, bool | np.bool_):
            raise error("type", f"shuffle is {shuffle!r}; expected True or False",
                        help="the memory for a window is .shuffle(buffer_size=…), in MB")  # fmt: skip
        windowing = checked(buffer_size, vif, lanes, by)
        if windowing is not None and not shuffle:
            raise error("parameter", "windows are a way to shuffle, but shuffle is False",
                        help="leave buffer_size and vif out, or give shuffle=True")  # fmt: skip
        self._once("shuffle", self.shuffled)
        return self._with(shuffled=bool(shuffle), windowing=windowing)

    def offset(self, off: int = 0) -> "DataLoader":
        """Start the first epoch at this position, counted over all ranks."""
        self._once("offset", self.start)
        if isinstance(off, bool) or not hasattr(off, "__index__"):
            raise error("type", f"offset must be a whole number, not {off!r}")
        if off < 0:
            raise error("value", f"offset must be 0 or more, not {off}")
        return self._with(start=int(off))

    def skip(self, positions: range, *, epoch: int = 0) -> "DataLoader":
        """Leave out these positions of an epoch, around a loss spike for example; call it again for more.

            loader = chain.skip(range(640_000, 660_000), epoch=2)

        The other positions keep their numbers: it is the same plan, and a state that was taken
        before is one of this loader, too. Batches are cut of what is left.
        """
        return self._with(skips=(*self.skips, (count("epoch", epoch), checked_range(positions))))

    def batch(self, batch_size: int, drop_last: bool = False) -> "DataLoader":
        """Rows per batch on each rank."""
        self._once("batch", self.batching)
        Options(batch_size=batch_size)
        return self._with(batching=(int(batch_size), yes_or_no("drop_last", drop_last)))

    def transform(self, transform: Any, **kwargs: Any) -> "DataLoader":
        """A function of a sample (given `kwargs`), or a dict that names the columns to load, each
        with a function of its value or None.

        A function with a parameter `rng` is given a numpy.random.Generator, one with `seed` an
        integer: of (row, repeat of the row, epoch), so the same for any threads and ranks.
        """
        self._once("transform", self.transforming)
        Options(transform=transform)
        return self._with(
            transforming=(transform, {} if isinstance(transform, Mapping) else kwargs)
        )

    # -- outputs -------------------------------------------------------------------------------

    def numpy(
        self,
        num_workers: int = 0,
        tensors: Sequence[str] | None = None,
        num_threads: int | None = None,
        prefetch_factor: int = 2,
        decode_method: Mapping[str, Any] | None = None,
        persistent_workers: bool = False,
        *,
        return_index: bool = True,
        rank: int = 0,
        world_size: int = 1,
        remainder: Remainder | None = None,
        reuse: bool = False,
        **shaping: Unpack[Shaping],
    ) -> "DataLoader":
        """Batches as dicts of NumPy arrays (lists where rows differ in shape, and for text).

        With several ranks the remainder rule is "drop" unless another is given, so that every rank
        makes the same number of steps.

        `reuse=True` makes batches in a ring of memory, and allocates nothing for their arrays after
        the first few: a batch is valid until the next one is asked for (the next turn of the loop,
        the next `next()`), so copy what is to stay. It is not for frameworks that ask ahead, as
        Lightning does. Without it a batch is yours for as long as you hold it. Lists, text, and
        tensors that a transform makes are new memory either way.

        What all outputs have besides (`tql.loader.Shaping` says more):

        min_size    {"image": (224, 224)}: JPEGs at the smallest scale of eighths that is no smaller
        channels    {"image": 3}: all images gray (1), RGB (3) or RGBA (4)
        exif        "turn" images as EXIF says; "ignore" gives pixels as they are stored
        max_pixels  an image whose header promises more is an error, and is not decoded
        ragged      {"image": "pad"}: values of several shapes as one array, zeros behind them, beside a
                    column image_shape; "mask" for image_mask; "list" (the default) leaves a list
        """
        options = Options(
            columns=_names(tensors),
            decode=decode_method or {},
            num_workers=num_workers,
            persistent_workers=persistent_workers,
            num_threads=num_threads,
            prefetch_factor=prefetch_factor,
            return_index=return_index,
            rank=rank,
            world_size=world_size,
            reuse=reuse,
            remainder=remainder or _remainder_of(world_size),
            **known_shaping(shaping, "numpy"),
        )
        return self._with_output(Output("numpy", options, _numpy))

    def pytorch(
        self,
        num_workers: int = 0,
        collate_fn: Callable[[list[dict[str, Any]]], Any] | None = None,
        tensors: Sequence[str] | None = None,
        num_threads: int | None = None,
        prefetch_factor: int = 2,
        distributed: bool = False,
        return_index: bool = True,
        decode_method: Mapping[str, Any] | None = None,
        persistent_workers: bool = False,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        remainder: Remainder | None = None,
        pin_memory: bool = False,
        reuse: bool = False,
        **shaping: Unpack[Shaping],
    ) -> "DataLoader":
        """Batches as dicts of torch tensors; `collate_fn` instead gets the list of samples.

        `distributed=True` takes rank and world size from torch.distributed, when the first batch or
        the length is asked for. With several ranks the remainder rule is "drop" unless another is
        given, so that every rank makes the same number of steps. A loader of which nothing is said
        gives every process all batches, and warns of it in a group of several; world_size=1 says
        that this is meant.

        `pin_memory=True` gives tensors in page-locked memory, from which a GPU copies while the program
        goes on; each is copied there, unless `reuse=True`, whose memory is page-locked once. For
        `reuse` see `.numpy()`; such a batch may be copied with non_blocking=True on the current
        stream before the next is asked for. In worker processes of a stock DataLoader it has no effect.
        """
        if distributed and not (rank is None and world_size is None):
            raise error("parameter", "give either distributed=True or rank and world_size")
        chosen = self.numpy(
            num_workers,
            tensors,
            num_threads,
            prefetch_factor,
            decode_method,
            persistent_workers,
            return_index=return_index,
            rank=rank or 0,
            world_size=1 if world_size is None else world_size,
            reuse=reuse,
            remainder=remainder,
            **known_shaping(shaping, "pytorch"),
        )
        assert chosen.output is not None

        collate = partial(torch_collate, collate_fn, pin_memory=pin_memory)
        supply = partial(pinned_supply, pin_memory)
        sharing = partial(_of_group, remainder) if distributed else None
        alone = not distributed and world_size is None
        output = Output("pytorch", chosen.output.options, collate, supply, sharing, alone)
        return self._with_output(output)

    def tensorflow(
        self,
        num_workers: int = 0,
        collate_fn: Callable[[list[dict[str, Any]]], Any] | None = None,
        tensors: Sequence[str] | None = None,
        num_threads: int | None = None,
        prefetch_factor: int = 2,
        return_index: bool = True,
        decode_method: Mapping[str, Any] | None = None,
        persistent_workers: bool = False,
        *,
        rank: int = 0,
        world_size: int = 1,
        remainder: Remainder | None = None,
        element_spec: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        **shaping: Unpack[Shaping],
    ) -> Any:
        """A tf.data.Dataset of batches, dicts of tensors; its `.loader` has state, epoch and stats.

        Each iteration is one pass. Shapes and types are stated from the schema and the first rows,
        see `element_spec`; ragged columns are RaggedTensors, times int64, and null is an error. The
        cardinality is the number of batches, unless the first pass is shorter than the others:
        after an offset, or from a `state` that `.loader.state_dict()` gave.
        """
        chosen = self.numpy(
            num_workers,
            tensors,
            num_threads,
            prefetch_factor,
            decode_method,
            persistent_workers,
            return_index=return_index,
            rank=rank,
            world_size=world_size,
            remainder=remainder,
            **known_shaping(shaping, "tensorflow"),
        )
        assert chosen.output is not None
        options = chosen.output.options
        output = Output("tensorflow", options, partial(tensorflow_collate, collate_fn))
        chain = self._with_output(output)
        if state is not None:
            chain.load_state_dict(state)
        return tensorflow_dataset(
            chain._loader,
            element_spec,
            collated=collate_fn is not None,
            counted=state is None and not self.start and not self.skips,
        )

    def _with_output(self, output: Output) -> "DataLoader":
        if self.output is not None:
            raise error("value", f".{self.output.name}() has been chosen already",
                        help=f"make a second chain for .{output.name}()")  # fmt: skip
        return self._with(output=output)

    # -- the plan ------------------------------------------------------------------------------

    @property
    def _planned(self) -> tuple[Dataset, Plan]:
        made = self._made.planned
        if made is None:
            view, plan = planned(self)
            plan = replace(plan, lineage=self.base.lineage.described())
            made = self._made.planned = view, plan
        return made

    @property
    def dataset(self) -> Dataset:
        """The rows that the plan draws from, as a data set."""
        return self._planned[0]

    @property
    def plan(self) -> Plan:
        """The order: a pure function of epoch and position. Evaluates the queries."""
        return self._planned[1]

    def material(self, view: Dataset) -> Material:
        """The fragments that the rows of `view` are read from."""
        if self._made.material is None:
            source, outputs = view.parts()
            self._made.material = Material(source, outputs, self.columns)
        return self._made.material

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that batches carry; None for all there are."""
        transform = self.transforming[0] if self.transforming is not None else None
        if isinstance(transform, Mapping):
            return tuple(transform)
        chosen = None if self.output is None else self.output.options.columns
        return None if chosen is None else tuple(chosen)

    @property
    def memory_of_fragments(self) -> int:
        """Bytes of fragments that are kept to be read from again; the other half is for batches."""
        return bytes_of(self.memory) // 2

    def expected(self) -> Expected | None:
        """What an epoch is expected to be like; None without `shuffle`."""
        if not self.shuffled:
            return None
        view, plan = self._planned
        by = self.windowing.by if isinstance(self.windowing, Shuffling) else None
        kept = self.memory_of_fragments
        return expected(self.material(view), plan, by, self.batch_size, kept)

    def explain(self) -> "Explanation":
        """What the loader will do: rows, weights, order, batches; nothing is drawn."""
        from tql.reports.explain import explain_loader

        return explain_loader(self)

    # -- iteration -----------------------------------------------------------------------------

    @property
    def _loader(self) -> Loader:
        with self._made.lock:
            if self._made.loader is None:
                self._made.loader = self._new_loader()
            return self._made.loader

    def _new_loader(self) -> Loader:
        dataset, plan = self._planned
        chosen = self.output or Output("numpy", Options(), _numpy)
        batch_size, drop_last = self.batching or (1, False)
        transform, kwargs = self.transforming or (None, {})
        budget = self.memory_of_fragments
        options = replace(
            chosen.of_rank(),
            batch_size=batch_size,
            drop_last=drop_last,
            transform=transform,
            transform_kwargs=kwargs,
            offset=plan.offset,
            skips=self._skips(plan),
            memory_bytes=budget,
            timeout=self.timeout,
            io_threads=self.io_threads,
            on_error=self.on_error,
            max_errors=self.max_errors,
            progress=self.progress,
        )
        return Loader(dataset.rows(budget), plan, options, chosen.collate(), chosen.supply())

    def _skips(self, plan: Plan) -> tuple[Skip, ...]:
        """The positions to leave out, which the plan must have; of mix="batch" whole batches."""
        for epoch, positions in self.skips:
            plan.stream(epoch).skip(positions)
            block = plan.block or 1
            if positions.start % block or (positions.stop % block and positions.stop != len(plan)):
                raise error("value", f"{positions} begins or ends within a batch of {block}: "
                            "mix='batch' counts whole ones",
                            help=f"skip from one multiple of {block} to another")  # fmt: skip
        return self.skips

    def __iter__(self) -> Iterator[Any]:
        if self.output is not None and self.output.alone and not self._made.warned:
            self._made.warned = warned_of_same_batches()
        return iter(self._loader)

    def __len__(self) -> int:
        """Batches that the next `iter()` will yield on this rank."""
        return len(self._loader)

    def __enter__(self) -> "DataLoader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop every pass under way."""
        if self._made.loader is not None:
            self._made.loader.close()

    def set_epoch(self, epoch: int) -> None:
        """Pin the epoch of the next passes."""
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the consumer is: JSON of at most 128 bytes."""
        return self._loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next `iter()` go on where `state` was taken."""
        self._loader.load_state_dict(state)

    def stats(self) -> Any:
        """Time and bytes per stage of the last pass, and one line of advice."""
        return self._loader.stats()

    def errors(self) -> Failures:
        """The samples that were left out or replaced so far; `.where` is a condition without them."""
        return self._loader.errors()

    @property
    def sampler(self) -> Sampler:
        """Rows of the data set in the order of the plan, for a stock torch DataLoader over it."""
        return self._loader.sampler

    @property
    def batch_sampler(self) -> BatchSampler:
        """The batches of this rank as lists of rows, for a stock torch DataLoader."""
        return self._loader.batch_sampler

    @property
    def batch_size(self) -> int:
        return self.batching[0] if self.batching else 1

    @property
    def drop_last(self) -> bool:
        return bool(self.batching and self.batching[1])

    # -- inside --------------------------------------------------------------------------------

    def _with(self, **changes: Any) -> "DataLoader":
        return replace(self, **changes)

    def _once(self, name: str, value: object) -> None:
        if value is not None:
            raise error("value", f".{name}() has been called already", help=f"call .{name}() once")


def _numpy() -> Any:
    return numpy_collate


def _of_group(remainder: Remainder | None, options: Options) -> Options:
    rank, world_size = distributed_rank()
    rule = remainder or _remainder_of(world_size)
    return replace(options, rank=rank, world_size=world_size, remainder=rule)


def _remainder_of(world_size: int) -> Remainder:
    return "short" if world_size == 1 else "drop"


def _names(tensors: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(tensors, str) or not (tensors is None or isinstance(tensors, Iterable)):
        raise error("type", f"tensors must be a list of column names, not {tensors!r}",
                    help='for example tensors=["images"]')  # fmt: skip
    return None if tensors is None else tuple(tensors)
