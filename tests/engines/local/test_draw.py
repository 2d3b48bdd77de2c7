import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from rlaif.engines.local.draw import draw_tokens
from rlaif.errors import EngineError

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()  # probabilities, in this order


def draw(logits: torch.Tensor, uniforms: list[float], *, temperature=1.0, top_p=1.0) -> list[int]:
    count = len(uniforms)
    return draw_tokens(
        logits.expand(count, -1),
        temperatures=[temperature] * count,
        top_ps=[top_p] * count,
        uniforms=uniforms,
    )


def test_the_uniform_number_is_placed_in_the_cumulative_distribution():
    assert draw(LOGITS, [0.01, 0.49, 0.51, 0.79, 0.81, 0.94, 0.96, 0.999]) == [
        *(0, 0, 1, 1, 2, 2, 3, 3)
    ]


def test_temperature_one_half_squares_the_probabilities():
    # 0.25, 0.09, 0.0225, 0.0025 of 0.365: cumulative 0.685, 0.932, 0.993, 1
    assert draw(LOGITS, [0.68, 0.69, 0.93, 0.94, 0.99, 0.995], temperature=0.5) == [
        *(0, 1, 1, 2, 2, 3)
    ]


def test_temperature_zero_takes_the_most_likely_token():
    assert draw(LOGITS, [0.999], temperature=0.0) == [0]


def test_a_tiny_temperature_is_as_good_as_zero():
    assert draw(LOGITS * 100, [0.999, 0.001], temperature=1e-6) == [0, 0]


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p():
    # 0.5 + 0.3 reaches 0.8; renormalised 0.625 and 0.375.
    assert draw(LOGITS, [0.62, 0.63, 0.999], top_p=0.8) == [0, 1, 1]
    assert draw(LOGITS, [0.001, 0.999], top_p=0.5) == [0, 0]
    assert draw(LOGITS, [0.999], top_p=0.81) == [2]


@pytest.mark.parametrize("vocabulary", [5, 256, 300, 5000])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
def test_the_drawn_frequencies_are_those_of_the_nucleus(vocabulary: int, top_p: float):
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(vocabulary, generator=generator)
    probabilities, order = logits.double().softmax(-1).sort(descending=True)
    kept = int((probabilities.cumsum(-1) - probabilities < top_p).sum())
    mass = float(probabilities[:kept].sum())
    count = 2000
    drawn = draw(logits, [(i + 0.5) / count for i in range(count)], top_p=top_p)
    assert set(drawn) <= set(order[:kept].tolist())
    for place in range(min(kept, 5)):
        expected = float(probabilities[place]) / mass
        assert drawn.count(int(order[place])) / count == pytest.approx(expected, abs=1.01 / count)


def test_a_flat_distribution_needs_more_than_the_likeliest_thousand():
    logits = torch.zeros(4000)
    drawn = draw(logits, [0.0001, 0.4999, 0.9999], top_p=0.75)
    assert len(set(drawn)) == 3  # 3000 of 4000 tokens are in the nucleus


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 1.0, 2.0]), st.sampled_from([0.2, 0.9, 1.0])),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 10),
)
def test_a_row_draws_the_same_token_in_any_company(rows: list[tuple[float, float]], seed: int):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(rows), 700, generator=generator)
    uniforms = torch.rand(len(rows), generator=generator).tolist()
    temperatures, top_ps = [t for t, _ in rows], [p for _, p in rows]
    together = draw_tokens(logits, temperatures=temperatures, top_ps=top_ps, uniforms=uniforms)
    alone = [
        draw_tokens(logits[i : i + 1], temperatures=[t], top_ps=[p], uniforms=[uniforms[i]])[0]
        for i, (t, p) in enumerate(rows)
    ]
    assert together == alone


def test_a_token_without_probability_is_never_drawn():
    logits = torch.full((600,), -math.inf)
    logits[[3, 400]] = 0.0
    drawn = draw(logits, [1e-12, 0.499999, 0.500001, 1 - 1e-12])
    assert drawn == [3, 3, 400, 400]
    assert draw(logits, [1e-12, 1 - 1e-12], top_p=0.999999) in ([3, 400], [400, 3])


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_nan_or_infinite_are_an_error(broken: float):
    logits = LOGITS.clone()
    logits[1] = broken
    with pytest.raises(EngineError, match="NaN or infinite"):
        draw(logits, [0.5])
