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
    assert control.after(1e6, 1000) is control


def test_adaptive_control_on_numbers_worked_by_hand():
    control = KlControl(0.1, target=6.0, horizon=1000)
    # 6.6 nats: error 0.1; β · (1 + 0.1 · 100/1000)
    assert control.after(6.6, 100).beta == pytest.approx(0.1 * 1.01)
    # far above and below, the error counts as ±0.2
    assert control.after(600.0, 100).beta == pytest.approx(0.1 * 1.02)
    assert control.after(0.0, 100).beta == pytest.approx(0.1 * 0.98)
    assert control.after(6.0, 100).beta == pytest.approx(0.1)


def test_beta_waits_at_its_bound_until_the_kl_arrives():
    control = KlControl(0.1, target=6.0, horizon=1000, least=0.1)
    for _ in range(50):  # a policy that has hardly moved
        control = control.after(0.1, 100)
    assert control.beta == 0.1
    assert control.after(600.0, 100).beta == pytest.approx(0.1 * 1.02)
    assert control.after(600.0, 100).after(0.0, 100).beta == pytest.approx(0.1)
