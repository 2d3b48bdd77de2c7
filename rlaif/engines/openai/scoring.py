"""Log-probabilities of given continuations, by vLLM's server; bodies are in vllm_extensions."""

from collections.abc import Mapping
from typing import Any

from rlaif.engines.ask import run_together
from rlaif.engines.openai import vllm_extensions
from rlaif.engines.openai.endpoint import Endpoint
from rlaif.engines.protocol import Reply, Score
from rlaif.engines.traffic.outcomes import Rejected
from rlaif.errors import CallFailed, EngineMissing


async def score_continuation(
    endpoint: Endpoint, request: Score, extra_body: Mapping[str, Any]
) -> Reply:
    """Return the summed log-probability of the request's continuation.

    Raises:
        CallFailed: The continuation has no tokens, or the server refuses this call.
        EngineMissing: The server has no /tokenize.
    """
    prompt, continuation = await run_together(
        [
            _tokenize(endpoint, vllm_extensions.prompt_body(request, extra_body)),
            _tokenize(endpoint, vllm_extensions.tokenize_body(request.continuation)),
        ]
    )
    if not continuation:
        raise CallFailed("the continuation is empty: there is nothing to score", kind="empty")
    sent = await endpoint.send(
        "/completions",
        {"model": endpoint.model, **vllm_extensions.score_body(prompt, continuation)},
        lambda payload: vllm_extensions.read_score(payload, continuation),
        tokens=1,
    )
    if isinstance(sent, Rejected):
        raise await endpoint.error_for(sent)
    endpoint.worked()
    return sent


async def _tokenize(endpoint: Endpoint, body: dict[str, Any]) -> list[int]:
    sent = await endpoint.tokenize(body)
    if isinstance(sent, Rejected):
        if sent.status == 404 and endpoint.model in (await endpoint.models() or ()):
            raise EngineMissing(
                f"{endpoint.urls[0]} has no /tokenize, which scoring needs",
                hint="serve the model with vLLM, or choose a method that needs no scores",
            )
        raise await endpoint.error_for(sent)
    return sent
