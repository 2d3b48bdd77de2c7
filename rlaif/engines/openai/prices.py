"""Prices: what a call cost, where that is known. Unknown is None, never 0."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from rlaif.engines.openai.options import PriceOptions
from rlaif.engines.protocol import Usage

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import ModelInfo, TieredPrices


def price_of(
    model: str, usage: Usage, *, base_url: str | None = None, price: PriceOptions | None = None
) -> float | None:
    """Return the price of a call: from ``price``, else list prices in US dollars, else None.

    List prices come from genai-prices and its bundled table; nothing is fetched.

    Args:
        model: The name the provider knows it by.
        usage: Its tokens; zero tokens in and out means the server did not say: None.
        base_url: Where it was asked. The server of an unknown provider has no list price, however
            well known the model is. None looks the model up wherever it is sold.
        price: Configured prices, which win.
    """
    if usage.prompt_tokens == 0 and usage.completion_tokens == 0:
        return None
    if price is not None:
        return _configured(usage, price)
    listed = _find(model, base_url)
    return None if listed is None else _listed(usage, listed)


@lru_cache(maxsize=64)
def _find(model: str, base_url: str | None) -> "ModelInfo | None":
    """Return what the table says about a model; None when it is not in it."""
    try:
        from genai_prices import data_snapshot
    except ImportError:
        return None
    try:
        return data_snapshot.get_snapshot().find_provider_model(model, None, None, base_url)[1]
    except (LookupError, ValueError):
        return None


def _listed(usage: Usage, model: "ModelInfo") -> float | None:
    """Return the list price now; it may depend on the time of day and on the prompt's length.

    Worked out here, because genai-prices takes a hundred times as long: it looks at each of its
    units, of which text has these four.
    """
    price = model.get_prices(datetime.now(UTC))
    prompt = usage.prompt_tokens
    cached = 0 if price.cache_read_mtok is None else usage.cached_tokens
    if cached > prompt:
        return None
    tokens = (
        (prompt - cached) * _rate(price.input_mtok, prompt)
        + cached * _rate(price.cache_read_mtok, prompt)
        + usage.completion_tokens * _rate(price.output_mtok, prompt)
    )
    return tokens / 1e6 + _rate(price.requests_kcount, prompt) / 1e3


def _rate(price: "Decimal | TieredPrices | None", prompt_tokens: int) -> float:
    """Return the price of a unit in a call with so many prompt tokens."""
    if price is None:
        return 0.0
    tiers = getattr(price, "tiers", None)
    if tiers is None:
        return float(price)  # type: ignore[arg-type]
    passed = [tier.price for tier in tiers if prompt_tokens > tier.start]
    return float(passed[-1] if passed else price.base)  # type: ignore[union-attr]


def _configured(usage: Usage, price: PriceOptions) -> float:
    cached = price.cached_input_per_million
    if cached is None:
        cached = price.input_per_million
    fresh = usage.prompt_tokens - usage.cached_tokens
    return (
        fresh * price.input_per_million
        + usage.cached_tokens * cached
        + usage.completion_tokens * price.output_per_million
    ) / 1e6
