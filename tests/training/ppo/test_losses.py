import pytest
import torch

from rlaif.training.ppo.losses import compute_policy_loss, compute_ratio, compute_value_loss


def test_the_clipped_surrogate_in_all_four_corners():
    # ρ beyond the clip on the side that A rewards: cut off; on the other side: not.
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5])
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    loss, clipped = compute_policy_loss(ratio, advantages)
    assert loss.tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8])
    assert clipped.tolist() == [True, False, False, True]


def test_a_clipped_token_has_no_gradient():
    ratio = torch.tensor([1.5, 1.1], requires_grad=True)
    loss, _ = compute_policy_loss(ratio, torch.tensor([2.0, 2.0]))
    torch.autograd.backward(loss.sum())
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [0.0, -2.0]


def test_clip_bounds_may_differ():
    loss, _ = compute_policy_loss(
        torch.tensor([1.5, 0.5]), torch.tensor([1.0, -1.0]), clip_low=0.1, clip_high=0.4
    )
    assert loss.tolist() == pytest.approx([-1.4, 0.9])


def test_dual_clip_bounds_the_loss_of_bad_actions_only():
    ratio, advantages = torch.tensor([10.0, 10.0]), torch.tensor([-1.0, 1.0])
    loss, clipped = compute_policy_loss(ratio, advantages, dual_clip=3.0)
    assert loss.tolist() == pytest.approx([3.0, -1.2])
    assert clipped.tolist() == [True, True]
    without, _ = compute_policy_loss(ratio, advantages)
    assert without.tolist() == pytest.approx([10.0, -1.2])


def test_the_ratio_never_overflows():
    ratio = compute_ratio(torch.tensor([0.0, -1.0]), torch.tensor([-1e4, -1.0]))
    assert ratio.isfinite().all()
    assert ratio[1] == 1.0


def test_the_value_loss_worked_by_hand():
    # old 0, return 1. V = 0.5 moves by more than 0.2: max((0.5−1)², (0.2−1)²)/2 = 0.32, cut off.
    # V = 0.1 stays within: (0.1−1)²/2 = 0.405. V = −1 is worse than its clipped self: (−2)²/2.
    values = torch.tensor([0.5, 0.1, -1.0], requires_grad=True)
    loss, clipped = compute_value_loss(values, torch.zeros(3), torch.ones(3))
    assert loss.tolist() == pytest.approx([0.32, 0.405, 2.0])
    assert clipped.tolist() == [True, False, False]
    torch.autograd.backward(loss.sum())
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([0.0, -0.9, -2.0])


def test_without_a_clip_the_value_loss_is_half_the_squared_error():
    loss, clipped = compute_value_loss(
        torch.tensor([3.0]), torch.zeros(1), torch.ones(1), clip=None
    )
    assert loss.tolist() == [2.0]
    assert not clipped.any()
