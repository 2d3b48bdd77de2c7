from hypothesis import given, settings, strategies as st

from rlaif.training.sampler import LengthSampler

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
