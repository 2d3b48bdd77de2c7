import pytest
import torch
from hypothesis import given, strategies as st

from rlaif.training.ppo.advantages import compute_gae


def test_advantages_worked_by_hand():
    # γ = 1, λ = 0.5, V = (1, 2), r = (0, 3): δ₂ = 3 − 2 = 1; δ₁ = 0 + 2 − 1 = 1; A₁ = 1 + 0.5·1
    advantages, returns = compute_gae(
        torch.tensor([[0.0, 3.0]]),
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[True, True]]),
        gamma=1.0,
        lam=0.5,
    )
    assert advantages.tolist() == [[1.5, 1.0]]
    assert returns.tolist() == [[2.5, 3.0]]


def brute_force(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """The defining sum A_t = Σ_k (γλ)^k δ_{t+k}, over the steps that exist."""
    n = len(rewards)
    following = [*values[1:], 0.0]
    deltas = [rewards[t] + gamma * following[t] - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, n)) for t in range(n)]


numbers = st.floats(-10, 10)
steps = st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=1, max_size=12)


@given(steps, st.floats(0, 1), st.floats(0, 1))
def test_any_mask_gives_the_brute_force_over_the_steps_inside_it(rows, gamma: float, lam: float):
    rewards, values, mask = (list(column) for column in zip(*rows, strict=True))
    inside = [t for t, here in enumerate(mask) if here]
    expected = brute_force([rewards[t] for t in inside], [values[t] for t in inside], gamma, lam)
    advantages, returns = compute_gae(
        torch.tensor([rewards], dtype=torch.float64),
        torch.tensor([values], dtype=torch.float64),
        torch.tensor([mask]),
        gamma=gamma,
        lam=lam,
    )
    assert advantages[0, inside].tolist() == pytest.approx(expected, abs=1e-9)
    outside = [t for t in range(len(mask)) if t not in inside]
    assert advantages[0, outside].abs().sum() == 0
    assert returns[0, outside].abs().sum() == 0


def test_what_stands_in_padding_is_never_read():
    mask = torch.tensor([[True, True, False]])
    rewards, values = torch.tensor([[1.0, 2.0, 7.0]]), torch.tensor([[0.5, 0.25, 9.0]])
    clean = compute_gae(rewards, values, mask, gamma=0.9, lam=0.8)
    dirty = compute_gae(
        rewards.masked_fill(~mask, torch.nan),
        values.masked_fill(~mask, torch.nan),
        mask,
        gamma=0.9,
        lam=0.8,
    )
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


def test_with_lambda_one_the_return_is_the_sum_of_rewards_to_come():
    rewards = torch.tensor([[1.0, 2.0, 4.0]])
    values = torch.tensor([[0.3, -5.0, 2.0]])
    _, returns = compute_gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), gamma=1, lam=1)
    assert returns[0].tolist() == pytest.approx([7.0, 6.0, 4.0])
