"""The reward server's client, for the environments of other trainers: the standard library only.

This file may be copied alone. verl loads it by path and calls `compute_score`; OpenRLHF loads it as
``--reward.remote_url client.py`` and calls `reward_func`; TRL takes what `server_reward_func`
returns. The server's address is ``url``, else the environment variable ``RLAIF_REWARD_URL``; its
token, where it asks for one, is the variable ``RLAIF_REWARD_TOKEN``.

Nothing is ever an invented number: what the server cannot score raises, or is None where the
trainer knows what to do with it (TRL leaves such a completion out).
"""

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

DEFAULT_URL = "http://127.0.0.1:5000"
TIMEOUT = 180.0
TRIES = 5
_PAUSE = 1.0
_AGAIN = (502, 503, 504)
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RewardFailed(RuntimeError):  # noqa: N818 - says what happened
    """The server is not there, refused the request, or could not score a response."""


async def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None, **options: Any
) -> dict[str, float]:
    """Score one response for verl.

    Args:
        data_source: Where the prompt is from; passed on.
        solution_str: The response.
        ground_truth: Compared with where judges compare with a reference and none is given.
        extra_info: Must hold the ``prompt``, which verl does not pass; may hold ``tags`` and
            ``reference``. `rlaif export --to verl` writes them.
        options: ``url`` and ``timeout``, as verl's ``reward_kwargs``; anything else is ignored.

    Returns:
        ``score``, and ``unscored`` (1.0 where the score only stands for one).

    Raises:
        RewardFailed: No server, a refused request, or an unscored response.
    """
    body = {
        "data_source": data_source,
        "solution_str": solution_str,
        "ground_truth": ground_truth,
        "extra_info": extra_info,
    }
    url, timeout = options.get("url"), options.get("timeout", TIMEOUT)
    return await asyncio.to_thread(post, "/compute_score", body, url=url, timeout=timeout)


def reward_func(queries: list[str], prompts: list[str], labels: list[Any]) -> dict[str, Any]:
    """Score responses for OpenRLHF; the same as naming the server's address, with clearer errors.

    Raises:
        RewardFailed: No server, a refused request, or an unscored response.
    """
    body = {"query": queries, "prompts": prompts, "labels": labels}
    answer: dict[str, Any] = post("/get_reward", body)
    return answer


def server_reward_func(
    url: str | None = None, *, timeout: float = TIMEOUT
) -> Callable[..., Awaitable[list[float | None]]]:
    """Return a reward function for TRL's GRPOTrainer and RLOOTrainer that asks the server.

    The columns ``tags`` and ``reference`` of the data set are passed on where it has them.
    """

    async def rlaif_reward(
        prompts: list[Any], completions: list[Any], **columns: Any
    ) -> list[float | None]:
        body = {
            "prompts": prompts,
            "responses": completions,
            "tags": columns.get("tags"),
            "references": columns.get("reference"),
        }
        answer = await asyncio.to_thread(post, "/score", body, url=url, timeout=timeout)
        log_unscored(columns, answer["scores"], answer["reasons"])
        scores: list[float | None] = answer["scores"]
        return scores

    return rlaif_reward


def post(
    path: str, body: Any, *, url: str | None = None, timeout: float = TIMEOUT, tries: int = TRIES
) -> Any:
    """Ask the server, again where it was away or busy.

    Args:
        path: Of the endpoint.
        body: JSON; arrays of NumPy become lists.
        url: Of the server, with or without a path.
        timeout: Seconds for one try.
        tries: At least 1.

    Raises:
        RewardFailed: With the server's own words.
    """
    base = (url or os.environ.get("RLAIF_REWARD_URL") or DEFAULT_URL).rstrip("/")
    data = json.dumps(body, default=_plain).encode()
    headers = {"Content-Type": "application/json"}
    token = os.environ.get("RLAIF_REWARD_TOKEN", "").strip()
    problem = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(_PAUSE)
        request = urllib.request.Request(base + path, data, headers)
        if token:  # not sent on to wherever a reply may redirect to
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with _DIRECT.open(request, timeout=timeout) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                problem = f"status {error.code}: {_words(error)}"
            if error.code not in _AGAIN:
                break
        except OSError as error:
            problem = str(getattr(error, "reason", error))
    raise RewardFailed(f"the reward server at {base + path}: {problem}")


def log_unscored(columns: dict[str, Any], scores: list[float | None], reasons: list[str]) -> None:
    """Tell TRL what was left out and why, where it offers to keep it."""
    if "log_metric" in columns and scores:
        columns["log_metric"]("rlaif/unscored", scores.count(None) / len(scores))
    if "log_extra" in columns:
        columns["log_extra"]("unscored_because", list(reasons))


def _words(error: urllib.error.HTTPError) -> str:
    text = error.read().decode("utf-8", "replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:300] or error.reason


def _plain(value: Any) -> Any:
    """What JSON has no word for: NumPy's arrays and numbers, as verl reads them from Parquet."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
