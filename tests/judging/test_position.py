import math

import pytest
from hypothesis import given, strategies as st

from rlaif.judging import LOGIT_CAP, sigmoid, split_orders

INSIDE = st.floats(-LOGIT_CAP / 2, LOGIT_CAP / 2)


@given(INSIDE, INSIDE)
def test_an_additive_bias_is_taken_apart_exactly(content: float, bias: float) -> None:
    split = split_orders(content + bias, content - bias)
    assert split.content == pytest.approx(content, abs=1e-12)
    assert split.bias == pytest.approx(bias, abs=1e-12)


def test_a_bias_of_one_cancels_in_log_odds_and_not_in_probabilities() -> None:
    # content 2, bias +1: s12 = 3, s21 = 1. σ(2) = 0.880797; mean of σ(3), σ(1) = 0.841816.
    split = split_orders(3.0, 1.0)
    assert (split.content, split.bias) == (2.0, 1.0)
    assert sigmoid(split.content) == pytest.approx(0.8807970779778823)
    assert (sigmoid(3.0) + sigmoid(1.0)) / 2 == pytest.approx(0.8418163281755)


def test_a_judge_that_is_sure_of_a_in_both_orders_comes_out_even() -> None:
    split = split_orders(40.0, -11.0)
    assert (split.content, split.bias) == (0.0, LOGIT_CAP)


def test_without_a_cap_saturated_certainties_do_not_cancel() -> None:
    assert split_orders(40.0, -11.0, cap=math.inf).content == 14.5


@given(st.floats(-1e6, 1e6))
def test_sigmoid_is_a_probability_and_symmetric(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0
    assert sigmoid(-logit) == pytest.approx(1.0 - sigmoid(logit), abs=1e-15)
