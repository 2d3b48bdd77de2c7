import asyncio
import threading
import time
from typing import Any

import pytest

from rlaif.constitution.models import Principle, Rule
from rlaif.errors import EngineUnavailable, TrainingError
from rlaif.training.scorers import (
    as_reward_func,
    clipped,
    collect_scores,
    length_penalised,
    mixture,
    name_of,
    rule_scorer,
    standardised,
)

PROMPTS: Any = [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]]


def collect(scorer: Any, *, timeout: float = 5.0, **columns: Any) -> list[float | None]:
    return collect_scores(scorer, PROMPTS, ["one", "one two"], columns, timeout=timeout)


def words(prompts: Any, responses: list[str], **columns: Any) -> list[float]:
    return [len(response.split()) for response in responses]


async def words_later(prompts, responses, **columns):
    await asyncio.sleep(0.01)
    return words(prompts, responses)


def fixed(*scores: Any) -> Any:
    return lambda *_, **__: list(scores)


def test_sync_and_async_scorers_are_called_alike():
    assert collect(words) == collect(words_later) == [1.0, 2.0]


async def test_an_async_scorer_works_from_inside_a_running_loop():
    assert collect(words_later) == [1.0, 2.0]


def test_async_scorers_keep_one_event_loop_for_their_connections():
    loops = []

    async def remember(prompts, responses, **columns):
        loops.append(asyncio.get_running_loop())
        return [0.0, 0.0]

    collect(remember)
    collect(remember)
    assert loops[0] is loops[1]


def test_columns_are_passed_on_and_none_stays_none():
    seen: dict[str, Any] = {}

    def score(prompts, responses, **columns):
        seen.update(columns)
        return [None, 1]

    assert collect(score, tags=[("x",), ()]) == [None, 1.0]
    assert seen == {"tags": [("x",), ()]}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (fixed(1.0), "returned 1 scores for 2 responses"),
        (fixed(1.0, float("nan")), "score 1 is nan"),
        (fixed(float("-inf"), 1.0), "score 0 is -inf"),
        (fixed("good", 1.0), "score 0 is 'good', which is not a number"),
        (lambda *_, **__: 3.0, "returned 3.0, not a list of 2 scores"),
        (lambda *_, **__: 1 / 0, "the scorer failed: ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_not_a_list_of_scores_is_one_clear_message(scores, message: str):
    with pytest.raises(TrainingError, match=message):
        collect(scores)


def test_a_hanging_scorer_is_given_up_sync_or_async():
    done, let = threading.Event(), threading.Event()

    async def hang_later(prompts, responses, **columns):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            done.set()
            raise

    began = time.monotonic()
    with pytest.raises(TrainingError, match=r"has not answered for 0\.1 seconds"):
        collect(lambda *_, **__: let.wait(60), timeout=0.1)
    with pytest.raises(TrainingError, match=r"has not answered for 0\.1 seconds"):
        collect(hang_later, timeout=0.1)
    assert time.monotonic() - began < 20
    assert done.wait(5)
    let.set()


def test_a_timeout_inside_the_scorer_is_the_scorers_own():
    def score(prompts, responses, **columns):
        raise TimeoutError("the server took too long")

    with pytest.raises(TrainingError, match="failed: TimeoutError: the server took too long"):
        collect(score)


def test_errors_of_this_package_pass_as_they_are():
    def score(prompts, responses, **columns):
        raise EngineUnavailable("the server is down")

    with pytest.raises(EngineUnavailable, match="the server is down"):
        collect(score)


def test_a_mixture_adds_weighted_scores_and_unknown_parts_make_it_unknown():
    assert collect(mixture([(words, 2.0), (fixed(1.0, 10.0), -0.5)])) == [1.5, -1.0]
    assert collect(mixture([(words, 1.0), (fixed(None, 1.0), 1.0)])) == [None, 3.0]


def test_async_parts_of_a_mixture_wait_side_by_side():
    both = asyncio.Barrier(2)

    async def needs_the_other(prompts, responses, **columns):
        await both.wait()
        return words(prompts, responses)

    assert collect(mixture([(needs_the_other, 1), (needs_the_other, 1), (words, 1)])) == [3.0, 6.0]


@pytest.mark.parametrize("scorer", [words, words_later])
def test_combinators_work_on_sync_and_async_scorers(scorer):
    assert collect(clipped(scorer, 1.5, 1.75)) == [1.5, 1.75]
    assert collect(standardised(scorer)) == [-1.0, 1.0]
    assert collect(length_penalised(scorer, per_word=0.5, free_words=1)) == [1.0, 1.5]


def test_combinators_leave_the_unknown_unknown():
    partly = fixed(None, 4.0)
    assert collect(clipped(partly, 0, 1)) == [None, 1.0]
    assert collect(standardised(partly)) == [None, 0.0]
    assert collect(standardised(fixed(None, None))) == [None, None]
    assert collect(length_penalised(partly, per_word=1.0)) == [None, 2.0]


def principle(name: str, *, weight: float = 1.0, tags=(), **rule: int) -> Principle:
    checks = Rule.model_validate(rule)
    return Principle(
        id=name, statement=name, kind="rule", rule=checks, weight=weight, applies_to=tags
    )


def test_rules_score_the_weighted_share_that_is_satisfied():
    scorer = rule_scorer(
        [
            principle("brief", weight=3.0, max_words=1),
            principle("two", weight=1.0, min_words=2),
            principle("unused", weight=0.0, max_words=0),
            Principle(id="judged", statement="Be good."),
        ]
    )
    assert collect(scorer) == [0.75, 0.25]


def test_rules_apply_by_tag_and_without_one_a_response_is_unscored():
    scorer = rule_scorer([principle("brief", tags=("short",), max_words=1)])
    assert collect(scorer, tags=[("short",), ("short", "x")]) == [1.0, 0.0]
    assert collect(scorer, tags=[("short",), ("x",)]) == [1.0, None]
    assert collect(scorer) == [None, None]


@pytest.mark.parametrize("scorer", [words, words_later])
def test_a_scorer_is_a_reward_function_of_trl(scorer):
    reward = as_reward_func(scorer, timeout=5.0)
    conversations = [[{"role": "assistant", "content": text}] for text in ("one", "one two")]
    extra = {"completion_ids": [[1], [2]], "trainer_state": object()}
    assert reward(PROMPTS, conversations, **extra) == [1, 2]
    assert reward.__name__ == name_of(scorer)


def test_scorers_have_names_for_metrics_and_cards():
    rules = rule_scorer([principle("brief", max_words=1)])
    assert name_of(clipped(mixture([(rules, 1.0), (words, 1.0)]), 0, 1)) == "rules+words"


def test_a_reward_function_gets_conversations_and_real_columns_only():
    seen: dict[str, Any] = {}

    def score(prompts, responses, **columns):
        seen.update(columns, prompts=prompts)
        return [0.0] * len(responses)

    extra = {"completion_ids": [[1], [2]], "log_metric": print, "short": [1]}
    as_reward_func(score)(["a", "b"], ["x", "y"], tags=[(), ()], **extra)
    assert seen == {"tags": [(), ()], "prompts": PROMPTS}
