from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from hypothesis import given, settings, strategies as st
from torch.utils.data import BatchSampler, DataLoader
from trl.trainer.utils import RepeatSampler

from rlaif.training.data.sampler import LengthSampler, PassSampler, begin_epoch

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=300)


@settings(deadline=None)
@given(lengths, st.integers(1, 16), st.integers(0, 5), st.integers(0, 3))
def test_every_row_comes_once_in_an_order_that_only_seed_and_epoch_decide(
    sizes, batch, seed, epoch
):
    def order() -> list[int]:
        sampler = LengthSampler(sizes, batch=batch, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert sorted(order()) == list(range(len(sizes)))
    assert order() == order()


def test_epochs_differ():
    sampler = LengthSampler(range(1, 65), batch=4, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_batches_hold_rows_of_similar_length():
    sizes = [1 + (i * 37) % 400 for i in range(400)]
    order = list(LengthSampler(sizes, batch=4, seed=0))
    padded = sum(4 * max(sizes[i] for i in order[k : k + 4]) for k in range(0, 400, 4))
    assert padded < 1.1 * sum(sizes)
    shuffled = [(i * 149) % 400 for i in range(400)]
    unsorted = sum(4 * max(sizes[i] for i in shuffled[k : k + 4]) for k in range(0, 400, 4))
    assert padded < 0.8 * unsorted


def passes(seed: int = 0) -> Any:
    return PassSampler(RepeatSampler(range(16), 2, batch_size=4, seed=seed), seed=seed)


def test_each_pass_has_an_order_of_its_own_whatever_was_drawn_before():
    one, other = passes(), passes()
    first = list(one)
    one.set_epoch(1)
    other.set_epoch(1)
    assert list(one) == list(other) != first
    assert sorted(first) == sorted(2 * list(range(16)))
    assert len(one) == len(first)


@pytest.mark.parametrize("make", [lambda: LengthSampler(range(1, 33), batch=2, seed=0), passes])
def test_a_resumed_process_of_several_reads_the_order_of_its_epoch(make: Any):
    def batches(sampler: Any, *, skip: int) -> list[list[int]]:
        shard = BatchSamplerShard(BatchSampler(sampler, 2, drop_last=False), 2, 1)
        left: Any = SkipBatchSampler(shard, skip) if skip else shard
        begin_epoch(DataLoader(range(32), batch_sampler=left), 3)  # type: ignore[arg-type]
        return list(left)

    assert batches(make(), skip=3) == batches(make(), skip=0)[3:]
    untouched = make()
    assert batches(untouched, skip=0) != list(
        BatchSamplerShard(BatchSampler(make(), 2, False), 2, 1)
    )


def test_a_loader_without_our_samplers_is_left_alone():
    begin_epoch(None, 1)
    begin_epoch(SimpleNamespace(sampler=None), 1)
