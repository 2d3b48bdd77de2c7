"""Scorers: whatever says how good a response is, as one number, for PPO, RLOO and GRPO alike.

A scorer is a plain callable over conversations and texts, sync or async. It never sees a token,
so a reward model with another tokenizer, a judge behind a server and a regular expression are all
the same thing here. None means *not scored*: the response is left out of the update and counted;
it is never 0.
"""

import asyncio
import inspect
import math
import operator
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from rlaif.constitution.models import Principle
from rlaif.constitution.rules import check_rule, split_words
from rlaif.errors import RlaifError, TrainingError
from rlaif.records import Message, content_id

Scores = Sequence[float | None]
T = TypeVar("T")


Scorer = Callable[..., Scores | Awaitable[Scores]]
"""``scorer(prompts, responses, **columns)``: one score per response, higher is better.

``prompts`` are conversations (lists of messages that end with a user turn), ``responses`` their
texts without special tokens; the columns, each as long as the responses, are at least
``prompt_id`` and ``tags``: take ``**columns`` to ignore them. Where a column ``why`` is given, of
lists, a scorer adds to a response's list why it leaves it unscored. Sync, or async and awaited.
An attribute ``identity`` says by content what decides its scores, so that a resume with another
reward is refused.
"""


class ScorerFailed(TrainingError):  # noqa: N818 - reads like its siblings in rlaif.errors
    """The scorer raised, hung or did not return a list of scores."""


class ScorerHangs(ScorerFailed):
    """The scorer has not answered in time."""


def collect_scores(
    scorer: Scorer,
    prompts: list[list[Message]],
    responses: list[str],
    columns: dict[str, list[Any]],
    *,
    timeout: float | None = None,
) -> list[float | None]:
    """Call a scorer, sync or async, and check what it returns.

    Args:
        scorer: Runs in its own thread (async ones in an event loop that lives as long as the
            process, so that their connections may), because a thread can be left behind.
        prompts: Conversations.
        responses: One text per prompt.
        columns: Passed on as keyword arguments.
        timeout: Seconds until the scorer counts as hanging; None waits without limit.

    Raises:
        ScorerFailed: The scorer raised, hung, or returned a wrong number of scores, something
            that is not a number, NaN or infinity.
        RlaifError: Raised by the scorer itself, and passed on.
    """
    if not responses:
        return []
    call = _Call.start(scorer, prompts, responses, columns)
    try:
        return call.checked(call.answer.result(timeout))
    except RlaifError:
        raise
    except Exception as problem:
        raise call.explain(problem, timeout) from problem


async def await_scores(
    scorer: Scorer,
    prompts: list[list[Message]],
    responses: list[str],
    columns: dict[str, list[Any]],
    *,
    timeout: float | None = None,
) -> list[float | None]:
    """Do what `collect_scores` does without holding up the event loop it is awaited in."""
    if not responses:
        return []
    call = _Call.start(scorer, prompts, responses, columns)
    try:
        async with asyncio.timeout(timeout):
            return call.checked(await asyncio.shield(asyncio.wrap_future(call.answer)))
    except RlaifError:
        raise
    except Exception as problem:
        raise call.explain(problem, timeout) from problem


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the event loop in which async scorers live, such as one's ``aclose()``."""
    return asyncio.run_coroutine_threadsafe(work, _event_loop()).result()


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a scorer, in its own thread."""

    count: int
    answer: Future[Scores]
    waiting: list[Future[Scores]]

    @classmethod
    def start(
        cls,
        scorer: Scorer,
        prompts: list[list[Message]],
        responses: list[str],
        columns: dict[str, list[Any]],
    ) -> "_Call":
        answer: Future[Scores] = Future()
        waiting: list[Future[Scores]] = []

        def call() -> None:
            try:
                scores = scorer(prompts, responses, **columns)
                if inspect.isawaitable(scores):
                    task = asyncio.run_coroutine_threadsafe(_wait_for(scores), _event_loop())
                    waiting.append(task)
                    scores = task.result()
                answer.set_result(scores)
            except BaseException as problem:  # noqa: BLE001 - handed to the caller's thread
                answer.set_exception(problem)

        threading.Thread(target=call, daemon=True, name="scorer").start()
        return cls(len(responses), answer, waiting)

    def checked(self, scores: Any) -> list[float | None]:
        return _checked(scores, self.count)

    def explain(self, problem: Exception, timeout: float | None) -> ScorerFailed:
        """Return the error that a call ended with; one that hangs is given up."""
        if isinstance(problem, TimeoutError) and not self.answer.done():
            for task in self.waiting:
                task.cancel()
            return ScorerHangs(
                f"the scorer has not answered for {timeout:g} seconds",
                hint="is its server up? A slow one needs a larger scorer_timeout",
            )
        return ScorerFailed(f"the scorer failed: {_describe(problem)}")


def mixture(parts: Sequence[tuple[Scorer, float]]) -> Scorer:
    """Return a scorer that adds up several, each times its weight.

    A response that any part leaves unscored is unscored: a sum without that part would be on
    another scale. Async parts wait side by side.
    """
    weights = [weight for _, weight in parts]

    def score(prompts: list[list[Message]], responses: list[str], **columns: list[Any]) -> Any:
        parts_scores = [scorer(prompts, responses, **columns) for scorer, _ in parts]
        if any(inspect.isawaitable(scores) for scores in parts_scores):
            return _add_up_later(parts_scores, weights)
        return _add_up([cast("Scores", scores) for scores in parts_scores], weights)

    score.__name__ = "+".join(name_of(scorer) for scorer, _ in parts)
    known = [getattr(scorer, "identity", None) for scorer, _ in parts]
    whole = [{"of": part, "weight": weight} for part, weight in zip(known, weights, strict=True)]
    return identified(score, None if None in known else {"mixture": whole})


def clipped(scorer: Scorer, low: float, high: float) -> Scorer:
    """Return a scorer whose scores are cut to [low, high]."""

    def change(scores: Scores, _: list[str]) -> list[float | None]:
        return [_each(score, lambda x: min(max(x, low), high)) for score in scores]

    return _then(scorer, change, clipped=[low, high])


def standardised(scorer: Scorer) -> Scorer:
    """Return a scorer whose scores have mean 0 and deviation 1 within every call.

    What is compared is then only the responses of one call. For statistics over the whole
    training, which a checkpoint keeps, use the trainer's ``normalise_scores``.
    """

    def change(scores: Scores, _: list[str]) -> list[float | None]:
        known = [score for score in scores if score is not None]
        if not known:
            return list(scores)
        mean = math.fsum(known) / len(known)
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in known) / len(known))
        return [_each(s, lambda x: (x - mean) / deviation if deviation else 0.0) for s in scores]

    return _then(scorer, change, standardised=True)


def length_penalised(scorer: Scorer, *, per_word: float, free_words: int = 0) -> Scorer:
    """Return a scorer that takes ``per_word`` off for every word beyond the free ones."""

    def change(scores: Scores, responses: list[str]) -> list[float | None]:
        over = [max(len(split_words(text)) - free_words, 0) for text in responses]
        return [
            None if score is None else score - per_word * words
            for score, words in zip(scores, over, strict=True)
        ]

    return _then(scorer, change, per_word=per_word, free_words=free_words)


def rule_scorer(principles: Sequence[Principle]) -> Scorer:
    """Return a scorer of rules: the share of applicable ones a response satisfies, by weight.

    Only principles with a rule and a positive weight count, and of them those that apply to the
    prompt's tags (column ``tags``; without it, those that apply to every prompt). Scores lie in
    [0, 1]; a response to which no rule applies is unscored.
    """
    rules = [(p, p.rule) for p in principles if p.rule is not None and p.weight > 0]

    def score_one(text: str, tags: tuple[str, ...]) -> float | None:
        applicable = [(p.weight, rule) for p, rule in rules if p.applies(tags)]
        if not applicable:
            return None
        satisfied = math.fsum(weight for weight, rule in applicable if check_rule(rule, text))
        return satisfied / math.fsum(weight for weight, _ in applicable)

    def score(
        _: list[list[Message]], responses: list[str], **columns: list[Any]
    ) -> list[float | None]:
        tags = columns.get("tags") or [()] * len(responses)
        scores = [score_one(text, tuple(t)) for text, t in zip(responses, tags, strict=True)]
        say_why(scores, columns, "no rule applies to this prompt")
        return scores

    score.__name__ = "rules"
    return identified(score, {"rules": content_id("rules", [p.fingerprint for p, _ in rules])})


def say_why(scores: Scores, columns: dict[str, list[Any]], why: str) -> None:
    """Add ``why`` to the reasons of every response that has no score, if reasons are asked for."""
    for score, reasons in zip(scores, columns.get("why", ()), strict=False):
        if score is None:
            reasons.append(why)


ScorerT = TypeVar("ScorerT", bound=Callable[..., Any])


def identified(scorer: ScorerT, identity: Mapping[str, Any] | None) -> ScorerT:
    """Give a scorer an ``identity``: by content, what decides its scores, as plain data."""
    vars(scorer)["identity"] = identity
    return scorer


def identity_of(scorer: Scorer) -> dict[str, Any]:
    """Return what a resumed training must agree with; empty for a callable without identity.

    A scorer that a training file describes says ``reward`` and ``length_penalty``; any other
    scorer's identity is the whole ``reward``.
    """
    identity = getattr(scorer, "identity", None)
    if identity is None:
        return {}
    return dict(identity) if "reward" in identity else {"reward": dict(identity)}


def file_content(value: str) -> str:
    """Return for an identity a file by its content, and a name as it stands."""
    path = Path(value)
    return content_id("file", path.read_text("utf-8")) if path.is_file() else value


def name_of(scorer: Scorer) -> str:
    """Return what a scorer is called in metrics and model cards."""
    return str(getattr(scorer, "__name__", type(scorer).__name__))


def as_reward_func(scorer: Scorer, *, timeout: float | None = None) -> Callable[..., Any]:
    """Return the scorer, sync or async, as a TRL reward function.

    TRL calls ``f(prompts, completions, **columns)`` with conversations or plain strings and adds
    objects of its trainer; only columns as long as the batch are passed on.
    """

    def reward(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        count = len(completions)
        kept = {
            name: column
            for name, column in columns.items()
            if isinstance(column, list) and len(column) == count and name != "completion_ids"
        }
        return collect_scores(
            scorer,
            [conversation(prompt) for prompt in prompts],
            [text_of(completion) for completion in completions],
            kept,
            timeout=timeout,
        )

    reward.__name__ = name_of(scorer)
    return reward


def _checked(scores: Any, count: int) -> list[float | None]:
    try:
        given = list(scores)
    except TypeError:
        raise ScorerFailed(
            f"the scorer returned {scores!r:.60}, not a list of {count} scores"
        ) from None
    if len(given) != count:
        raise ScorerFailed(f"the scorer returned {len(given)} scores for {count} responses")
    return [None if score is None else _number(score, i) for i, score in enumerate(given)]


def _number(score: Any, index: int) -> float:
    try:
        number = float(score)
    except (TypeError, ValueError):
        raise ScorerFailed(f"score {index} is {score!r:.60}, which is not a number") from None
    if not math.isfinite(number):
        raise ScorerFailed(
            f"score {index} is {number}", hint="return None for a response that cannot be scored"
        )
    return number


def _then(
    scorer: Scorer, change: Callable[[Scores, list[str]], list[float | None]], **said: Any
) -> Scorer:
    """Return a scorer that changes another's scores, sync or async; ``said`` describes how."""

    async def later(scores: Awaitable[Scores], responses: list[str]) -> list[float | None]:
        return change(await scores, responses)

    def score(prompts: list[list[Message]], responses: list[str], **columns: list[Any]) -> Any:
        scores = scorer(prompts, responses, **columns)
        if inspect.isawaitable(scores):
            return later(scores, responses)
        return change(scores, responses)

    score.__name__ = name_of(scorer)
    known = getattr(scorer, "identity", None)
    return identified(score, None if known is None else {"of": known, **said})


def _each(score: float | None, change: Callable[[float], float]) -> float | None:
    return None if score is None else change(score)


def _add_up(parts: Sequence[Scores], weights: Sequence[float]) -> list[float | None]:
    totals: list[float | None] = []
    for row in zip(*parts, strict=True):
        known = [score for score in row if score is not None]
        whole = len(known) == len(row)
        totals.append(math.fsum(map(operator.mul, known, weights)) if whole else None)
    return totals


async def _add_up_later(parts: Sequence[Any], weights: Sequence[float]) -> list[float | None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_wait_for(scores)) for scores in parts]
    return _add_up([task.result() for task in tasks], weights)


async def _wait_for(scores: Any) -> Scores:
    return cast("Scores", await scores if inspect.isawaitable(scores) else scores)


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="scorers").start()
    return loop


def _describe(problem: BaseException) -> str:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return f"{type(problem).__name__}: {problem}".strip(": ").splitlines()[0]


def conversation(prompt: Any) -> list[Message]:
    """Return messages; a plain string is what the user said."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def text_of(completion: Any) -> str:
    """Return the text of a completion, given as such or as messages."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
