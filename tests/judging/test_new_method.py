"""A judge method is a flow, a template and a row: a made-up one, from its verdicts to a reward."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rlaif.constitution import HowMany
from rlaif.engines import Capability, Generate, Reply, Request, Sampling, Score
from rlaif.errors import CallFailed, ConfigError, EngineMissing
from rlaif.judging import (
    METHODS,
    Cost,
    Flow,
    FlowJudge,
    Method,
    Outcome,
    Question,
    build_judge,
    judge_comparison,
    label_request,
    sigmoid,
)
from rlaif.judging.build import judge_fingerprint
from rlaif.judging.calibration import Calibration, check_calibration
from rlaif.records import Choice, Order
from rlaif.serving.judged import Panel
from rlaif.templates import TemplateSet, shipped_folder
from tests.judging.fake import BRIEF, COMPARISON, FIRST, KIND, PROMPT, FakeEngine, always

POLL = "judge/poll"
WORDS = """{# variables: statement, response #}
--- user
{{ statement }}
{{ response | fence("response") }}
"""


@dataclass(frozen=True, slots=True)
class Poll:
    """How many votes are taken, and what one is worth."""

    votes: int = 3
    scale: float = 2.0


def poll(question: Question[Poll]) -> Flow:
    """The share of yes among several sampled votes on each response, asked together."""
    votes = question.settings.votes
    replies = yield tuple(
        Generate(
            question.render(statement=question.principle.statement, response=response.text),
            Sampling(max_tokens=1),
            seeds=tuple(range(votes)),
            purpose="judge",
        )
        for response in question.responses
    )
    read = [reply.text.strip().lower() for reply in replies]
    if not set(read) <= {"yes", "no"}:
        return Outcome(raw=" ".join(read))
    first, second = (read[at : at + votes].count("yes") / votes for at in (0, votes))
    return Outcome(scores=(first, second), raw=" ".join(read))


ROW = Method(Poll, poll, POLL, factor=lambda settings, _: settings.scale, stand_in="yes")


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TemplateSet:
    """All templates with one more, and the row in the table."""
    folder = tmp_path / "prompts"
    shutil.copytree(shipped_folder(), folder)
    (folder / f"{POLL}.j2").write_text(WORDS, encoding="utf-8")
    monkeypatch.setitem(METHODS, "poll", ROW)
    return TemplateSet(folder, None)


def likes_the_first(words: str, seed: int) -> Reply:
    """All votes but one for the first response, none for the other."""
    return Reply(text="yes" if FIRST.text in words and seed else "no")


@dataclass
class Voter(FakeEngine):
    """Gives one vote per seed."""

    vote: Callable[[str, int], Reply] = likes_the_first

    async def ask(self, request: Request) -> list[Reply]:
        assert isinstance(request, Generate)
        self.asked.append(request)
        return [self.vote(request.messages[-1]["content"], seed) for seed in request.seeds]


def engine(*capabilities: Capability, vote: Callable[[str, int], Reply] = likes_the_first) -> Voter:
    able = frozenset(capabilities or {Capability.GENERATE})
    return Voter(always(Reply()), able, vote=vote)


def judge(templates: TemplateSet, asked: FakeEngine, settings: Any = None) -> FlowJudge:
    return build_judge(
        name="votes", method="poll", engine=asked, templates=templates, settings=settings
    )


async def test_it_gives_verdicts_on_record(templates: TemplateSet) -> None:
    asked = engine()
    kind, brief = await judge(templates, asked).judge(PROMPT, COMPARISON, [KIND, BRIEF])
    # Two of three votes against none of three: 2 · (⅔ − 0).
    assert kind.scores == (2 / 3, 0.0)
    assert kind.logit == pytest.approx(4 / 3)
    assert (kind.method, kind.judge, kind.principle) == ("poll", "votes", "kind")
    assert (kind.choice, kind.order, kind.raw) == (Choice.A, Order.NONE, "no yes yes no no no")
    assert brief.principle == "brief"
    assert len(asked.asked) == 4
    assert len(set(kind.calls)) == 6  # one ledger key per vote
    judgment = await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(judge(templates, asked), 1.0)],
        drawn=[KIND],
        candidates=[KIND],
    )
    assert judgment.preference == pytest.approx(sigmoid(4 / 3))


def test_what_it_needs_and_costs_follows_from_its_flow(templates: TemplateSet) -> None:
    votes = judge(templates, engine())
    assert votes.needs == (frozenset({Capability.GENERATE}),)
    assert votes.cost == Cost("response", texts=3)
    assert judge(templates, engine(), Poll(votes=5)).cost == Cost("response", texts=5)
    with pytest.raises(EngineMissing, match=r"judge 'votes' \(poll\) needs generate"):
        judge(templates, engine(Capability.SCORE))


def test_settings_of_another_method_are_refused(templates: TemplateSet) -> None:
    with pytest.raises(ConfigError, match="poll takes no dict settings"):
        judge(templates, engine(), {"votes": 1})


async def test_failures_and_refusals_become_reasons_without_a_word_in_the_flow(
    templates: TemplateSet,
) -> None:
    def fails(words: str, _: int) -> Reply:
        if FIRST.text in words:
            raise CallFailed("no", kind="http-500")
        return Reply(text="no")

    def refuses(_: str, seed: int) -> Reply:
        return Reply(text="no", finish="refusal" if seed == 2 else "stop")

    def mumbles(*_: object) -> Reply:
        return Reply(text="hm")

    for vote, reason, raw, calls in (
        (fails, "failed", "http-500: no", 0),
        (refuses, "refused", "no no no no no no", 6),
        (mumbles, "unreadable", "hm hm hm hm hm hm", 6),
    ):
        votes = judge(templates, engine(vote=vote))
        (verdict,) = await votes.judge(PROMPT, COMPARISON, [KIND])
        assert (verdict.choice, verdict.scores, verdict.logit) == (Choice.ABSTAIN, None, None)
        assert (verdict.reason, verdict.raw, len(verdict.calls)) == (reason, raw, calls)


async def test_it_is_fingerprinted_calibrated_and_a_reward_like_any_other(
    templates: TemplateSet,
) -> None:
    votes = judge(templates, engine())
    assert votes.template_fingerprints == {POLL: templates.get(POLL).fingerprint}

    def fingerprint(settings: Poll, shown: Mapping[str, str]) -> str:
        return judge_fingerprint(
            engine=engine().identity,
            plan={"method": "poll", "poll": asdict(settings)},
            templates=shown,
            orders="none",
            min_mass=0.0,
        )

    own = fingerprint(Poll(), votes.template_fingerprints)
    assert len({own, fingerprint(Poll(votes=5), votes.template_fingerprints)}) == 2
    figures: dict[str, Any] = {"fitted_on": 20, "reported_on": 20, "ece_before": {}}
    fitted = Calibration(
        t=2.0,
        judge="votes",
        fingerprint=own,
        method="poll",
        question="q@0",
        ece_after={},
        nll_before=1.0,
        nll_after=0.5,
        **figures,
    )
    check_calibration(fitted, judge="votes", fingerprint=own)
    calibrated = replace(votes, temperature=fitted.t)
    judgment = await judge_comparison(
        PROMPT, COMPARISON, judges=[(calibrated, 1.0)], drawn=[KIND], candidates=[KIND]
    )
    assert judgment.transforms == ("votes: temperature(2)",)
    assert judgment.preference == pytest.approx(sigmoid(2 / 3))
    # As a reward: 2 · ⅔ / 2.
    every: HowMany = "all"
    panel = Panel(((calibrated, 1.0),), (KIND,), how_many=every)
    score, why = await panel.score(PROMPT, FIRST.text, None)
    assert score == pytest.approx(2 / 3)
    assert why == ""


async def test_a_row_says_how_principles_and_orders_become_opinions(
    templates: TemplateSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 2 · ⅔ under both principles, weights 1 and 3. Additive: σ of the mean, not the mean of σ.
    wide = KIND.model_copy(update={"weight": 3.0})
    stubborn = replace(ROW, factor=lambda s, p: s.scale if p == "kind" else -s.scale)
    pooled = {}
    for additive in (False, True):
        row = replace(stubborn, additive=additive)
        monkeypatch.setitem(METHODS, "poll", row)
        judgment = await judge_comparison(
            PROMPT,
            COMPARISON,
            judges=[(judge(templates, engine()), 1.0)],
            drawn=[wide, BRIEF],
            candidates=[wide, BRIEF],
        )
        pooled[additive] = judgment.preference
    one = 4 / 3
    assert pooled[False] == pytest.approx((3 * sigmoid(one) + sigmoid(-one)) / 4)
    assert pooled[True] == pytest.approx(sigmoid((3 * one - one) / 4))
    # Votes on one response are the same calls in either order.
    row = replace(ROW, orders="averaged")
    monkeypatch.setitem(METHODS, "poll", row)
    votes = judge(templates, engine())
    assert votes.cost == Cost("comparison", texts=6)
    judgment = await judge_comparison(
        PROMPT, COMPARISON, judges=[(votes, 1.0)], drawn=[KIND], candidates=[KIND]
    )
    assert [v.order for v in judgment.verdicts] == [Order.AB, Order.BA]
    assert judgment.preference == pytest.approx(sigmoid(one))


@pytest.mark.parametrize(("orders", "content"), [("averaged", 1.0), ("agreeing", 0.0)])
async def test_a_row_says_whether_orders_must_agree(
    orders: Any, content: float, templates: TemplateSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leans(question: Question[Poll]) -> Flow:
        (_,) = yield (label_request(question.prompt.messages, ("A", "B")),)
        return Outcome(logit=3.0 if question.a is FIRST else 1.0)

    monkeypatch.setitem(METHODS, "poll", replace(ROW, flow=leans, template="", orders=orders))
    asked = FakeEngine(always(Reply()))
    judgment = await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(judge(templates, asked), 1.0)],
        drawn=[KIND],
        candidates=[KIND],
    )
    assert judgment.preference == pytest.approx(sigmoid(content))
    assert judgment.position_bias == 2.0


def test_a_flow_without_a_verdict_in_rehearsal_is_an_error_that_says_what_is_missing(
    templates: TemplateSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "poll", replace(ROW, stand_in="perhaps"))
    with pytest.raises(ValueError, match=r"no verdict in rehearsal.*'perhaps'.*stand_in"):
        judge(templates, engine())


def test_a_score_is_a_log_probability_or_a_reward_by_what_the_flow_reads(
    templates: TemplateSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scoring(read: str) -> Any:
        def flow(question: Question[Poll]) -> Flow:
            replies = yield tuple(Score(PROMPT.messages, r.text) for r in question.responses)
            first, second = (getattr(reply, read) for reply in replies)
            return Outcome() if first is None else Outcome(scores=(first, second))

        return flow

    for read, needed in (("logprob", Capability.SCORE), ("score", Capability.REWARD)):
        row = replace(ROW, flow=scoring(read), template="")
        monkeypatch.setitem(METHODS, "poll", row)
        votes = judge(templates, engine(needed))
        assert votes.needs == (frozenset({needed}),)
        assert votes.cost == Cost("response", scores=1)
