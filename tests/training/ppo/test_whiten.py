import statistics

import pytest
import torch
from hypothesis import given, strategies as st

from rlaif.training.ppo.advantages import RunningMoments, whiten

numbers = st.floats(-100, 100)


def test_whitening_counts_valid_tokens_only():
    x = torch.tensor([[1.0, 3.0, 999.0], [5.0, torch.nan, torch.nan]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    out = whiten(x, mask)
    # mean 3, population deviation √(8/3)
    assert out[mask].tolist() == pytest.approx([-1.224745, 0.0, 1.224745])
    assert out[~mask].abs().sum() == 0


def test_without_a_shift_the_sign_of_the_mean_stays():
    x, mask = torch.tensor([[1.0, 3.0]]), torch.ones(1, 2, dtype=torch.bool)
    assert whiten(x, mask, shift_mean=False).tolist() == [pytest.approx([1.0, 3.0])]


def test_equal_values_whiten_to_zero_and_nothing_to_nothing():
    mask = torch.tensor([[True, True], [False, False]])
    assert whiten(torch.full((2, 2), 7.0), mask).abs().sum() == 0
    assert whiten(torch.full((2, 2), 7.0), torch.zeros_like(mask)).abs().sum() == 0


@given(st.lists(st.lists(numbers, max_size=5), min_size=1, max_size=5))
def test_running_moments_are_those_of_all_scores_at_once(batches):
    moments = RunningMoments()
    for batch in batches:
        moments = moments.after(batch)
    together = [x for batch in batches for x in batch]
    assert moments.count == len(together)
    if together:
        assert moments.mean == pytest.approx(statistics.fmean(together), abs=1e-6)
    if len(together) > 1:
        assert moments.std == pytest.approx(statistics.pstdev(together), abs=1e-5)


def test_standard_scores_are_cut_and_safe_without_spread():
    moments = RunningMoments().after([0.0, 2.0])
    assert moments.standardise(2.0, 5.0) == 1.0
    assert moments.standardise(200.0, 5.0) == 5.0
    assert RunningMoments().after([3.0, 3.0]).standardise(3.0, 5.0) == 0.0
