"""Hand-computed values. σ(ln 3) = ¾, so x = ln 3 makes every number below come from ln ¾ and ln ¼:
ln ¾ = −0.2876821, ln ¼ = −1.3862944, ln 3 = 1.0986123, ln 2 = 0.6931472.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from rlaif.training.losses import (
    chosen_nll,
    gdpo_loss,
    log_ratio_difference,
    regression_loss,
    robust_loss,
    soft_dpo_loss,
    soft_ipo_loss,
    soft_reward_loss,
)

LN3 = math.log(3)
H = torch.tensor([LN3 / 0.5])  # βh = ln 3 at β = ½

probabilities = st.floats(0, 1, width=32)
ratios = st.floats(-30, 30, width=32)


def p(value: float) -> torch.Tensor:
    return torch.tensor([value])


def value(losses: torch.Tensor) -> float:
    assert losses.shape == (1,)
    return losses.item()


def gradient(loss: Any, h: float) -> float:
    ratio = torch.tensor([h], requires_grad=True)
    loss(ratio).sum().backward()
    assert ratio.grad is not None
    return ratio.grad.item()


def test_soft_dpo_at_a_label_of_seven_tenths():
    # −0.7 ln ¾ − 0.3 ln ¼ = 0.2013775 + 0.4158883
    assert value(soft_dpo_loss(H, p(0.7), beta=0.5)) == pytest.approx(0.6172658, abs=1e-6)


def test_soft_dpo_with_a_certain_label_is_dpo():
    assert value(soft_dpo_loss(H, p(1.0), beta=0.5)) == pytest.approx(0.2876821, abs=1e-6)


def test_soft_dpo_has_its_minimum_where_the_policy_matches_the_label():
    # σ(βh) = p at βh = logit p: the gradient β(σ(βh) − p) vanishes there
    logit = math.log(0.7 / 0.3)
    found = gradient(lambda h: soft_dpo_loss(h, p(0.7), beta=0.5), logit / 0.5)
    assert found == pytest.approx(0.0, abs=1e-6)


def test_soft_dpo_gradient_at_zero_is_half_minus_the_label_times_beta():
    assert gradient(lambda h: soft_dpo_loss(h, p(0.9), beta=0.1), 0.0) == pytest.approx(-0.04)


@settings(deadline=None)  # the first call of a kernel may take long
@given(ratios, probabilities)
def test_swapping_the_sides_of_soft_dpo_is_the_opposite_label(h, label):
    one = soft_dpo_loss(torch.tensor([h]), p(label), beta=0.3)
    other = soft_dpo_loss(torch.tensor([-h]), 1 - p(label), beta=0.3)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_gdpo_scales_the_margin_by_the_label():
    # 2·0.75 − 1 = ½ and β = 1: −ln σ(½ · 2 ln 3) = −ln ¾
    assert value(gdpo_loss(H, p(0.75), beta=1.0)) == pytest.approx(0.2876821, abs=1e-6)


def test_gdpo_with_a_tie_is_ln_2_without_gradient():
    assert value(gdpo_loss(H, p(0.5), beta=1.0)) == pytest.approx(math.log(2))
    assert gradient(lambda h: gdpo_loss(h, p(0.5), beta=1.0), 3.0) == 0.0


def test_gdpo_with_a_certain_label_is_dpo():
    torch.testing.assert_close(gdpo_loss(H, p(1.0), beta=0.5), soft_dpo_loss(H, p(1.0), beta=0.5))


def test_soft_ipo_pulls_to_a_target_scaled_by_the_label():
    # target (2·0.8 − 1)/(2·0.5) = 0.6; (1.6 − 0.6)² = 1
    assert value(soft_ipo_loss(p(1.6), p(0.8), beta=0.5)) == pytest.approx(1.0, abs=1e-6)


def test_soft_ipo_with_a_certain_label_is_ipo():
    # (1 − 1/(2·0.25))² = (1 − 2)²
    assert value(soft_ipo_loss(p(1.0), p(1.0), beta=0.25)) == pytest.approx(1.0)


@settings(deadline=None)  # the first call of a kernel may take long
@given(ratios, probabilities)
def test_soft_ipo_is_the_expected_hard_loss_but_for_a_constant(h, label):
    hard = label * (h - 1) ** 2 + (1 - label) * (h + 1) ** 2  # β = ½: the target is ±1
    constant = 4 * label * (1 - label)
    found = value(soft_ipo_loss(torch.tensor([h]), p(label), beta=0.5))
    assert found + constant == pytest.approx(hard, rel=1e-4, abs=1e-3)


def test_robust_with_a_certain_label_is_the_papers_loss():
    # ε = 0.1: [0.9 · 0.2876821 − 0.1 · 1.3862944] / 0.8 = 0.1503556
    found = value(robust_loss(H, p(1.0), beta=0.5, noise=0.1))
    assert found == pytest.approx(0.1503556, abs=1e-6)


def test_robust_is_unbiased_under_flips():
    # flips with ε = 0.1: 0.9 R(h) + 0.1 R(−h) = l(h)
    kept = value(robust_loss(H, p(1.0), beta=0.5, noise=0.1))
    flipped = value(robust_loss(-H, p(1.0), beta=0.5, noise=0.1))
    assert 0.9 * kept + 0.1 * flipped == pytest.approx(0.2876821, abs=1e-6)


def test_robust_with_a_soft_label_is_the_mean_of_both_sides():
    kept = value(robust_loss(H, p(1.0), beta=0.5, noise=0.1))
    flipped = value(robust_loss(-H, p(1.0), beta=0.5, noise=0.1))
    found = value(robust_loss(H, p(0.7), beta=0.5, noise=0.1))
    assert found == pytest.approx(0.7 * kept + 0.3 * flipped, abs=1e-6)


def test_regression_compares_with_the_log_odds_of_the_label():
    # logit ¾ = ln 3 = βh: no loss
    assert value(regression_loss(H, p(0.75), beta=0.5, clip=4.0)) == pytest.approx(0.0, abs=1e-10)
    # βh = 0: (0 − ln 3)² = 1.2069490
    found = value(regression_loss(p(0.0), p(0.75), beta=0.5, clip=4.0))
    assert found == pytest.approx(1.2069490, abs=1e-6)


def test_regression_clips_the_log_odds_of_a_certain_label():
    assert value(regression_loss(p(0.0), p(1.0), beta=0.5, clip=4.0)) == pytest.approx(16.0)
    assert value(regression_loss(p(0.0), p(0.0), beta=0.5, clip=4.0)) == pytest.approx(16.0)


def test_ties_leave_every_loss_at_rest_at_the_reference():
    losses = (
        lambda h: soft_dpo_loss(h, p(0.5), beta=0.1),
        lambda h: gdpo_loss(h, p(0.5), beta=0.1),
        lambda h: soft_ipo_loss(h, p(0.5), beta=0.1),
        lambda h: robust_loss(h, p(0.5), beta=0.1, noise=0.2),
        lambda h: regression_loss(h, p(0.5), beta=0.1, clip=4.0),
    )
    assert [gradient(loss, 0.0) for loss in losses] == pytest.approx([0.0] * 5, abs=1e-9)


def test_the_log_ratio_difference_takes_chosen_from_the_first_half():
    # chosen: −1 − (−2) = 1; rejected: −3 − (−2.5) = −0.5
    found = log_ratio_difference(torch.tensor([-1.0, -3.0]), torch.tensor([-2.0, -2.5]))
    assert found.tolist() == [1.5]


def test_the_log_ratio_difference_may_be_a_difference_of_means():
    # 1/4 − (−0.5)/2 = 0.5
    found = log_ratio_difference(
        torch.tensor([-1.0, -3.0]), torch.tensor([-2.0, -2.5]), torch.tensor([4, 2])
    )
    assert found.tolist() == [0.5]


def test_a_difference_that_fp32_cannot_resolve_is_zero_but_keeps_its_gradient():
    ref = torch.tensor([-100.0, -100.0])
    logprobs = torch.tensor([-100.0001, -100.001], requires_grad=True)
    found = log_ratio_difference(logprobs, ref)
    assert found.item() == pytest.approx(0.001, rel=0.02)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [1.0, -1.0]


def test_the_nll_counts_chosen_tokens_only_and_all_alike():
    # (6 + 2) nats over (3 + 1) tokens
    found = chosen_nll(torch.tensor([-6.0, -2.0, -9.0, -9.0]), torch.tensor([3, 1, 5, 5]))
    assert found.item() == pytest.approx(2.0)


def test_the_reward_loss_at_a_label_of_seven_tenths():
    found = soft_reward_loss(p(2 * LN3), p(LN3), p(0.7))
    assert value(found) == pytest.approx(0.6172658, abs=1e-6)


def test_a_margin_shifts_the_difference_of_scores():
    found = soft_reward_loss(p(LN3 + 1.0), p(0.0), p(1.0), margin_B=p(1.0))
    assert value(found) == pytest.approx(0.2876821, abs=1e-6)


def test_centring_adds_the_square_of_the_sum():
    # 0.01 · (ln 3 + 0)² = 0.0120695
    found = soft_reward_loss(p(LN3), p(0.0), p(1.0), centring=0.01)
    assert value(found) == pytest.approx(0.2876821 + 0.0120695, abs=1e-6)
