import math

import pytest
import torch
from hypothesis import given, strategies as st

from rlaif.training.ppo.losses import KlControl, compute_k1, compute_k3


def test_the_estimators_on_numbers_worked_by_hand():
    # π = 0.5, ρ = 0.25: k1 = ln 2; k3 = ρ/π − 1 − ln(ρ/π) = 0.5 − 1 + ln 2
    policy, reference = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    assert compute_k1(policy, reference).item() == pytest.approx(math.log(2))
    assert compute_k3(policy, reference).item() == pytest.approx(-0.5 + math.log(2))


def test_k1_and_k3_are_unbiased_over_the_whole_distribution():
    policy = torch.tensor([0.7, 0.2, 0.1]).log()
    reference = torch.tensor([0.2, 0.5, 0.3]).log()
    true = (policy.exp() * (policy - reference)).sum()
    for estimator in (compute_k1, compute_k3):
        assert (policy.exp() * estimator(policy, reference)).sum() == pytest.approx(true)


@given(st.floats(-1e4, 0), st.floats(-1e4, 0))
def test_k3_is_never_negative_and_always_finite(a: float, b: float):
    value = compute_k3(torch.tensor(a), torch.tensor(b))
    assert value >= 0
    assert value.isfinite()


def test_fixed_control_stays():
    control = KlControl(0.1)
    assert control.after(1e6) is control


def test_adaptive_control_on_numbers_worked_by_hand():
    control = KlControl(0.1, target=6.0, gain=0.5, last=7.0)
    # 6.6 nats: error 0.1; β · (1 + 0.5 · 0.1)
    assert control.after(6.6).beta == pytest.approx(0.1 * 1.05)
    # far above and below, the error counts as ±0.2
    assert control.after(600.0).beta == pytest.approx(0.1 * 1.1)
    assert control.after(0.0).beta == pytest.approx(0.1 * 0.9)
    assert control.after(6.0).beta == pytest.approx(0.1)


def test_with_the_gain_of_ziegler_ten_times_the_target_raises_beta_by_2_percent():
    assert KlControl(0.1, target=6.0, gain=0.1).after(60.0).beta == pytest.approx(0.102)


def test_beta_is_not_lowered_while_the_kl_rises_by_itself():
    control = KlControl(0.1, target=6.0)
    for kl in (0.5, 1.0, 2.0, 4.0):
        control = control.after(kl)
    assert control.beta == 0.1
    assert control.after(3.9).beta == pytest.approx(0.1 * 0.8)  # it no longer rises


@pytest.mark.parametrize("beta", [0.02, 0.05, 0.15, 0.5])
def test_a_policy_whose_kl_follows_beta_is_held_at_the_target(beta: float):
    # The KL drifts up by at most 1.6 a rollout, and settles at 0.6 / β: 6 nats need β = 0.1.
    control, kl, kls = KlControl(beta, target=6.0), 0.0, []
    for _ in range(60):
        control = control.after(kl)
        kl += 1.6 * max(-1.0, min(1.0, 1.0 - kl * control.beta / 0.6))
        kls.append(kl)
    assert 4.5 < sum(kls[-20:]) / 20 < 7.5
