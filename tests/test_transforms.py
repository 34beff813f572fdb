"""Random numbers of a transform: of the row, its repeat and the epoch, and of nothing else."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tql
from tql.diagnostics import TqlUnsupportedError

DATA = {"x": np.arange(40), "y": np.arange(40) % 4}


def noisy(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"row": sample["index"], "noise": rng.random(3)}


def noises(loader: Any) -> dict[int, list[bytes]]:
    """What each row got, time after time."""
    found: dict[int, list[bytes]] = {}
    for batch in loader:
        for row, noise in zip(batch["row"], batch["noise"], strict=True):
            found.setdefault(int(row), []).append(noise.tobytes())
    return found


def chain(**options: Any) -> tql.DataLoader:
    return tql.open(DATA).dataloader(seed=5, **options).shuffle().transform(noisy)


def test_they_do_not_depend_on_threads_batches_or_ranks() -> None:
    wanted = noises(chain().batch(40).numpy(num_threads=1))
    assert len({noise for each in wanted.values() for noise in each}) == 40
    for threads, size in ((1, 7), (2, 1), (8, 3)):
        assert noises(chain().batch(size).numpy(num_threads=threads)) == wanted
    ranks: dict[Any, Any] = {}
    for rank in range(3):
        options = {"rank": rank, "world_size": 3, "remainder": "short"}
        ranks |= noises(chain().batch(2).numpy(**options))  # type: ignore[arg-type]
    assert ranks == wanted


def test_a_job_that_resumes_goes_on_with_the_same_numbers() -> None:
    loader = chain().batch(4).numpy()
    wanted = [batch["noise"].tolist() for batch in loader]
    loader = chain().batch(4).numpy()
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    again = chain().batch(4).numpy()
    again.load_state_dict(loader.state_dict())
    assert [batch["noise"].tolist() for batch in again] == wanted[3:]


def test_epochs_and_repeats_of_a_row_differ() -> None:
    loader = chain().batch(8).numpy()
    first, second = noises(loader), noises(loader)
    assert first.keys() == second.keys()
    assert all(first[row] != second[row] for row in first)
    drawn = tql.open(DATA).dataloader().sample_by("y", size=400, mix="epoch").transform(noisy)
    repeats = [noise for each in noises(drawn.batch(16).numpy()).values() for noise in each]
    assert len(set(repeats)) == 400


def test_the_functions_of_a_sample_get_the_same_numbers() -> None:
    def cut(value: npt.NDArray[np.int64], *, rng: np.random.Generator) -> float:
        return float(rng.random())

    loader = tql.open(DATA).dataloader().transform({"x": cut, "y": cut}).batch(10).numpy()
    batch = next(iter(loader))
    assert np.array_equal(batch["x"], batch["y"])
    assert np.unique(batch["x"]).size == 10


def test_a_seed_is_an_integer_and_one_given_by_the_user_is_the_users() -> None:
    def take(sample: dict[str, Any], seed: int, scale: int = 1) -> dict[str, Any]:
        assert isinstance(seed, int)
        return {"seed": np.uint64(seed)}

    chain = tql.open(DATA).dataloader().batch(40)
    (own,) = chain.transform(take, scale=2).numpy()
    assert np.unique(own["seed"]).size == 40
    (given,) = chain.transform(take, seed=7).numpy()
    assert np.unique(given["seed"]).tolist() == [7]


def test_a_sample_named_seed_is_still_the_sample() -> None:
    (batch,) = tql.open(DATA).dataloader().batch(40).transform({"x": lambda seed: seed}).numpy()
    assert batch["x"].tolist() == list(range(40))


def test_a_map_style_data_set_has_no_order_to_take_them_from() -> None:
    with pytest.raises(TqlUnsupportedError, match="asks for 'rng'"):
        tql.open(DATA).pytorch(transform=noisy)[0]
