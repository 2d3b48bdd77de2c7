"""Models side by side: what is asked, what is measured, and what is admitted not to be known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import pytest

from rlaif.constitution import Principle
from rlaif.engines import Capability, Sampling
from rlaif.errors import ConfigError, EngineMissing, EngineUnavailable, RecordError
from rlaif.evaluation import Evaluation, Panel, Plan, Scorecard, evaluate_models
from rlaif.judging import Transform
from rlaif.judging.protocol import Cost, Needs
from rlaif.records import Choice, Comparison, Order, Prompt, Verdict
from tests.evaluation.factories import BRIEF, Talker, coin, constitution

PROMPTS = [
    Prompt.build(f"Say {i}", id=f"p{i}", tags=["even" if i % 2 == 0 else "odd"]) for i in range(40)
]
KIND = Principle(id="kind", statement="Be kind.", comparison="Which is kinder?")


def long_or_short(share: int) -> Talker:
    """Keeps the rule on about a half of the samples, or on all of them."""
    return Talker(
        f"talker-{share}",
        lambda text, seed: (
            "short one" if share == 2 or coin(text, seed) else f"far too long {seed}"
        ),
    )


async def evaluation(**changes: object) -> Evaluation:
    plan = Plan(constitution(), "base", sampling=Sampling(), n=3, likelihood_under="base")
    models = {"base": long_or_short(1), "policy": long_or_short(2)}
    return await evaluate_models(replace(plan, **changes), PROMPTS, models)  # type: ignore[arg-type]


async def test_a_policy_that_keeps_the_rule_is_seen_to_gain() -> None:
    card = (await evaluation()).scorecard
    base, policy = card.estimate("base", "rules"), card.estimate("policy", "rules")
    change = card.change("policy", "rules")
    assert base.estimate == pytest.approx(0.5, abs=0.12)
    assert policy.estimate == 1.0
    assert base.estimate is not None
    assert change.estimate == pytest.approx(1.0 - base.estimate)
    assert change.low is not None
    assert change.low > 0.3
    assert (change.n, base.scored, base.unscored) == (40, 120, 0)


async def test_collapse_shows_beside_the_gain() -> None:
    card = (await evaluation()).scorecard
    assert card.estimate("policy", "diversity/duplicates").estimate == 1.0
    fewer, wins = (
        card.change("policy", "diversity/distinct-1"),
        card.estimate("policy", "wins/rules"),
    )
    assert fewer.high is not None
    assert fewer.high < 0
    assert wins.low is not None
    assert wins.low > 0.5
    with pytest.raises(KeyError):
        card.estimate("base", "wins/rules")


async def test_the_likelihood_is_asked_of_the_named_model_only() -> None:
    base, policy = long_or_short(1), long_or_short(2)
    plan = Plan(constitution(), "base", n=2, likelihood_under="base")
    card = (await evaluate_models(plan, PROMPTS[:5], {"base": base, "policy": policy})).scorecard
    assert card.estimate("policy", "likelihood").estimate == -1.0
    assert len(base.asked) == 5 + 20
    assert len(policy.asked) == 5


async def test_all_models_are_sampled_with_the_same_seeds() -> None:
    base, policy = long_or_short(1), long_or_short(2)
    await evaluate_models(
        Plan(constitution(), "base", n=2), PROMPTS[:5], {"a": policy, "base": base}
    )
    assert sorted(map(str, base.asked)) == sorted(map(str, policy.asked))


async def test_order_and_concurrency_of_prompts_change_no_number() -> None:
    plan = Plan(constitution(), "base", n=2)
    models = {"base": long_or_short(1), "policy": long_or_short(2)}
    one = await evaluate_models(plan, PROMPTS, models)
    other = await evaluate_models(replace(plan, concurrency=1), PROMPTS[::-1], models)
    assert one.scorecard.estimates == other.scorecard.estimates
    assert one.scorecard.changes == other.scorecard.changes


async def test_failed_samples_are_unscored_counted_and_mentioned() -> None:
    sick = Talker("sick", lambda text, _: None if text.endswith(("3", "7")) else "fine")
    plan = Plan(constitution(), "base", n=2)
    card = (
        await evaluate_models(plan, PROMPTS, {"base": long_or_short(2), "sick": sick})
    ).scorecard
    rules = card.estimate("sick", "rules")
    assert (rules.estimate, rules.n, rules.scored, rules.unscored) == (1.0, 32, 64, 16)
    assert card.change("sick", "rules").n == 32
    assert card.change("sick", "rules").unscored == 8
    assert card.failures == {"sick: http-500": 16}
    assert any("16 of 80 samples failed" in notice for notice in card.notices)


async def test_a_model_that_never_answers_has_no_numbers() -> None:
    mute = Talker("mute", lambda *_: None)
    plan = Plan(constitution(), "base")
    card = (
        await evaluate_models(plan, PROMPTS, {"base": long_or_short(1), "mute": mute})
    ).scorecard
    assert card.estimate("mute", "rules").estimate is None
    assert card.change("mute", "rules").estimate is None


async def test_estimates_are_made_for_every_tag() -> None:
    card = (await evaluation()).scorecard
    assert card.slices == {"all": 40, "even": 20, "odd": 20}
    assert card.estimate("base", "refusals", "odd").n == 20


class Prefers:
    """A judge that prefers the response with more words, or abstains."""

    name = "words"
    method = "words"
    needs: Needs = ()
    template_fingerprints: Mapping[str, str] = MappingProxyType({})
    cost = Cost(per="comparison")

    def __init__(self, *, abstains: bool = False) -> None:
        self.abstains = abstains
        self.asked = 0

    def transforms(self, principle: str) -> tuple[Transform, ...]:
        del principle  # the same under each
        return ()

    async def judge(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> tuple[Verdict, ...]:
        assert prompt.id.startswith("p")
        self.asked += 1
        lengths = len(comparison.first.text.split()), len(comparison.second.text.split())
        logit = 2.0 if lengths[0] > lengths[1] else -2.0
        choice = Choice.A if logit > 0 else Choice.B
        return tuple(
            Verdict(
                self.name,
                self.method,
                principle.id,
                Order.NONE,
                Choice.ABSTAIN if self.abstains else choice,
                logit=None if self.abstains else logit,
                reason="unreadable" if self.abstains else "",
            )
            for principle in principles
        )


async def test_judges_compare_every_match_of_different_responses() -> None:
    judge = Prefers()
    found = await evaluation(
        constitution=constitution(BRIEF, KIND), panel=Panel(((judge, 1.0),), "all")
    )
    judged = found.judged["policy"]
    different = [item for item in judged if item.match.longer_by]
    assert judge.asked == len(different) > 0
    # The policy's two words never beat four, and equal responses count one half.
    wins = found.scorecard.estimate("policy", "wins/judges")
    expected = sum(0.1192 if item in different else 0.5 for item in judged) / len(judged)
    assert wins.estimate == pytest.approx(expected, abs=1e-4)
    assert found.scorecard.estimate("policy", "wins/judges/equal-length").estimate is not None


async def test_abstentions_are_not_ties() -> None:
    judge = Prefers(abstains=True)
    found = await evaluation(
        constitution=constitution(KIND), panel=Panel(((judge, 1.0),)), n=1, likelihood_under=None
    )
    wins = found.scorecard.estimate("policy", "wins/judges")
    assert wins.unscored == judge.asked > 0
    assert wins.estimate == 0.5  # what is left are the equal responses
    assert any(
        "abstained" in notice and "unreadable" in notice for notice in found.scorecard.notices
    )


async def test_principles_without_a_judge_are_said_to_be_unmeasured() -> None:
    found = await evaluation(constitution=constitution(BRIEF, KIND))
    assert found.scorecard.notices == (
        "no judge is named, so these principles were not measured: kind",
    )


@pytest.mark.parametrize("role", ["baseline", "likelihood_under"])
async def test_a_role_without_a_model_is_named(role: str) -> None:
    with pytest.raises(ConfigError, match=f"{role}: 'unknown' is not one of the models"):
        await evaluation(**{role: "unknown"})


async def test_prompts_must_be_there_and_differ() -> None:
    plan, models = Plan(constitution(), "base"), {"base": long_or_short(1)}
    with pytest.raises(RecordError, match="no prompt"):
        await evaluate_models(plan, [], models)
    with pytest.raises(RecordError, match="'p1' is given more than once"):
        await evaluate_models(plan, [PROMPTS[1], PROMPTS[1]], models)


async def test_what_an_engine_cannot_do_is_found_before_anything_is_asked() -> None:
    base = Talker("b", lambda *_: "x", can=frozenset({Capability.GENERATE}))
    plan = Plan(constitution(), "base", likelihood_under="base")
    with pytest.raises(EngineMissing, match="likelihood"):
        await evaluate_models(plan, PROMPTS, {"base": base})
    assert base.asked == []


async def test_a_server_that_goes_down_ends_it_with_its_own_error() -> None:
    def say(text: str, seed: int) -> str:
        raise EngineUnavailable("gone")

    with pytest.raises(EngineUnavailable, match="gone"):
        await evaluate_models(Plan(constitution(), "base"), PROMPTS, {"base": Talker("b", say)})


async def test_progress_reports_each_stage_from_nothing_to_all() -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def watch(stage: str, done: int, total: int) -> None:
        seen.setdefault(stage, []).append((done, total))

    plan = Plan(constitution(), "base", n=2, likelihood_under="base")
    await evaluate_models(plan, PROMPTS[:4], {"base": long_or_short(1)}, on_progress=watch)
    assert seen["sample base"] == [(i, 4) for i in range(5)]
    assert seen["likelihood of base"] == [(i, 8) for i in range(9)]


def test_the_fingerprint_changes_with_what_changes_numbers_and_with_nothing_else() -> None:
    plan, models = Plan(constitution(), "base"), {"base": long_or_short(1)}
    same = plan.fingerprint(PROMPTS, models)
    assert replace(plan, concurrency=1).fingerprint(PROMPTS, models) == same
    for other in (
        replace(plan, n=2),
        replace(plan, seed=1),
        replace(plan, system="Be nice."),
        replace(plan, sampling=Sampling(temperature=0.5)),
        replace(plan, constitution=constitution(KIND)),
        replace(plan, likelihood_under="base"),
        replace(plan, correction="bh"),
        replace(plan, panel=Panel((), "one", {"judge": "x"})),
    ):
        assert other.fingerprint(PROMPTS, models) != same
    assert plan.fingerprint(PROMPTS[1:], models) != same
    assert plan.fingerprint(PROMPTS, {"base": long_or_short(2)}) != same


def chatter(name: str, text: str, seed: int) -> str:
    return " ".join([name, text, str(seed % 7)] * (seed % 3 + 1))


async def test_a_third_model_makes_difficulty_known_and_all_pairs_are_compared() -> None:
    plan = Plan(
        constitution=constitution(BRIEF, KIND),
        baseline="base",
        n=2,
        panel=Panel(((Prefers(), 1.0),), "all"),
    )
    models = {name: Talker(name, partial(chatter, name)) for name in ("base", "policy", "other")}
    card = (await evaluate_models(plan, PROMPTS[:12], models)).scorecard
    rate = card.estimate("policy", "wins/judges/length-controlled")
    assert rate.estimate is not None
    assert rate.low is not None
    assert rate.n == 12
    assert {each.name for each in card.measures} >= {"wins/judges/length-controlled", "rules"}
    pairs = {(each.model, each.other) for each in card.differences}
    assert pairs == {("policy", "base"), ("other", "base"), ("other", "policy")}
    assert Scorecard.from_json(card.to_json()) == card
