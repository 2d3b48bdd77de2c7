"""Prices: what a call cost, where that is known. Unknown is None, never 0."""

from rlaif.engines.openai_options import PriceOptions
from rlaif.engines.protocol import Usage


def price_of(
    model: str, usage: Usage, *, base_url: str | None = None, price: PriceOptions | None = None
) -> float | None:
    """Return the price of a call: from ``price``, else list prices in US dollars, else None.

    List prices come from genai-prices and its bundled table; nothing is fetched.

    Args:
        model: The name the provider knows it by.
        usage: Its tokens; zero tokens in and out means the server did not say: None.
        base_url: Where it was asked. A server that is no known provider has no list price, however
            well known the model is. None looks the model up wherever it is sold.
        price: Configured prices, which win.
    """
    if usage.prompt_tokens == 0 and usage.completion_tokens == 0:
        return None
    if price is not None:
        return _configured(usage, price)
    try:
        import genai_prices
    except ImportError:
        return None
    counted = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cached_tokens,
    )
    try:
        found = genai_prices.calc_price(counted, model, provider_api_url=base_url)
    except (LookupError, ValueError):
        return None
    return float(found.total_price)


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
