import pytest
import torch

from rlaif.config.ppo import RewardSettings
from rlaif.training.ppo.advantages import RunningMoments, compute_rewards, shape_scores


def test_the_score_lands_on_the_last_action_of_each_response():
    # Padding beyond the end-of-sequence token gets nothing, not even with the token as padding.
    rewards = compute_rewards(torch.zeros(2, 4), [4, 2], [1.0, 3.0], beta=0.1)
    assert rewards.tolist() == [[0, 0, 0, 1], [0, 3, 0, 0]]


def test_every_token_pays_for_its_own_kl_and_padding_pays_none():
    kl = torch.tensor([[0.5, -1.0, 7.0]])
    rewards = compute_rewards(kl, [2], [2.0], beta=0.1)
    assert rewards[0].tolist() == pytest.approx([-0.05, 2.1, 0.0])


def test_an_unscored_response_adds_no_score():
    assert compute_rewards(torch.zeros(1, 2), [2], [None], beta=1.0).tolist() == [[0, 0]]


def test_cut_off_responses_lose_the_penalty_after_the_clip():
    shaped = shape_scores(
        [9.0, 9.0, None],
        [True, False, False],
        moments=RunningMoments(),
        settings=RewardSettings(normalise_scores=False, score_clip=5.0, missing_end_penalty=1.0),
    )
    assert shaped == [5.0, 4.0, None]


def test_scores_are_standardised_where_moments_are_kept():
    moments = RunningMoments().after([0.0, 2.0])
    shaped = shape_scores([2.0, 1.0], [True, True], moments=moments, settings=RewardSettings())
    assert shaped == [1.0, 0.0]
