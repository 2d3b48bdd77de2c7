"""Prices: hand-computed, or unknown."""

import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices import data
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
)

from rlaif.engines import Usage
from rlaif.engines.openai.engine import build_openai_engine
from rlaif.engines.openai.options import PriceOptions
from rlaif.engines.openai.prices import _find, _listed, price_of

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


def test_list_prices_are_those_of_the_table():
    usages = [USAGE, Usage(1_000, 500, 0), Usage(128_001, 7, 100_000), Usage(1_500_000, 1, 3)]
    seen = 0
    for provider in data.providers:
        for model in provider.models:
            for usage in usages[seen % 4 :][:2]:
                now = datetime.now(UTC)
                said = genai_prices.Usage(
                    input_tokens=usage.prompt_tokens,
                    output_tokens=usage.completion_tokens,
                    cache_read_tokens=usage.cached_tokens,
                )
                expected = model.calc_price(said, provider, genai_request_timestamp=now).total_price
                assert _listed(usage, model) == pytest.approx(float(expected)), model.id
            seen += 1
    assert seen > 500


def test_a_model_that_costs_more_for_long_prompts_does_so_here():
    low, high = (Decimal(2), Decimal(4))
    tiered = TieredPrices(base=low, tiers=[Tier(start=1000, price=high)])
    model = ModelInfo("m", ClauseEquals("m"), prices=ModelPrice(input_mtok=tiered))
    assert _listed(Usage(1000, 5), model) == pytest.approx(0.002)
    assert _listed(Usage(1001, 5), model) == pytest.approx(0.004004)


def test_a_price_that_changes_with_the_day_is_the_one_of_today():
    prices = [
        ConditionalPrice(constraint=since, prices=ModelPrice(output_mtok=Decimal(amount)))
        for since, amount in [
            (None, 1),
            (StartDateConstraint(date(2020, 1, 1)), 2),
            (StartDateConstraint(date(2999, 1, 1)), 3),
        ]
    ]
    model = ModelInfo("m", ClauseEquals("m"), prices=prices)
    assert _listed(Usage(1, 1_000_000), model) == pytest.approx(2.0)


def test_the_table_is_searched_once_for_a_model_known_or_not(monkeypatch):
    searches = []
    search = DataSnapshot.find_provider_model

    def searching(self: DataSnapshot, model: str, *rest: Any) -> Any:
        searches.append(model)
        return search(self, model, *rest)

    monkeypatch.setattr(DataSnapshot, "find_provider_model", searching)
    _find.cache_clear()
    for _ in range(3):
        assert price_of("gpt-4o-mini", USAGE, base_url=HOSTED)
        assert price_of("nobodys-model", USAGE, base_url=HOSTED) is None
    assert searches == ["gpt-4o-mini", "nobodys-model"]


def test_more_cached_tokens_than_prompt_tokens_have_no_price():
    assert price_of("gpt-4o-mini", Usage(10, 5, 20), base_url=HOSTED) is None


def test_an_unknown_model_has_none():
    assert price_of("nobodys-model", USAGE, base_url=HOSTED) is None


def test_tokens_that_were_not_reported_cost_nobody_knows_what():
    price = PriceOptions(input_per_million=2, output_per_million=8)
    assert price_of("any", Usage(), price=price) is None


def test_without_the_price_table_the_price_is_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    _find.cache_clear()
    assert price_of("gpt-4o-mini", USAGE, base_url=HOSTED) is None
    _find.cache_clear()


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
