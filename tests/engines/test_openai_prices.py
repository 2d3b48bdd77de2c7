"""Prices: hand-computed, or unknown."""

import sys
from typing import Any

import pytest

from rlaif.engines import Usage
from rlaif.engines.openai import build_openai_engine
from rlaif.engines.openai_options import PriceOptions
from rlaif.engines.prices import price_of

USAGE = Usage(prompt_tokens=1000, completion_tokens=500, cached_tokens=200)
HOSTED = "https://api.openai.com/v1"
LOCAL = "http://127.0.0.1:8000/v1"


def test_configured_prices_count_cached_input_apart():
    price = PriceOptions(input_per_million=2, output_per_million=8, cached_input_per_million=0.5)
    # 800 · 2 + 200 · 0.5 + 500 · 8 = 5700 per million.
    assert price_of("any", USAGE, price=price) == pytest.approx(0.0057)


def test_without_a_price_of_its_own_cached_input_costs_as_much_as_other():
    price = PriceOptions(input_per_million=2, output_per_million=8)
    assert price_of("any", USAGE, price=price) == pytest.approx(0.006)


def test_a_known_model_at_its_provider_has_a_list_price():
    known = price_of("gpt-4o-mini", USAGE, base_url=HOSTED)
    assert known is not None
    assert 0 < known < 0.01
    assert price_of("gpt-4o-mini", Usage(2000, 1000, 400), base_url=HOSTED) == pytest.approx(
        2 * known
    )


def test_a_known_model_on_ones_own_server_has_none():
    assert price_of("gpt-4o-mini", USAGE, base_url=LOCAL) is None


def test_an_unknown_model_has_none():
    assert price_of("nobodys-model", USAGE, base_url=HOSTED) is None


def test_tokens_that_were_not_reported_cost_nobody_knows_what():
    price = PriceOptions(input_per_million=2, output_per_million=8)
    assert price_of("any", Usage(), price=price) is None


def test_without_the_price_table_the_price_is_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert price_of("gpt-4o-mini", USAGE, base_url=HOSTED) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"price": {"input_per_million": 0, "output_per_million": 0}}, 0.0),
        ({"price": {"input_per_million": 1, "output_per_million": 2}}, 0.002),
    ],
)
def test_an_engine_prices_its_replies(options: dict[str, Any], expected: float | None):
    engine = build_openai_engine(model="gpt-4o-mini", base_url=LOCAL, options=options)
    assert engine.price(USAGE) == expected
