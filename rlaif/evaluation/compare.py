"""Compare: several models on the same prompts with the same seeds, measured side by side.

Nothing here touches a disk. Give it recorded engines and repeating it costs nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from rlaif.engines import Capability, Engine, require
from rlaif.errors import ConfigError, RecordError
from rlaif.evaluation.catalogue import list_measures
from rlaif.evaluation.differences import compare_models
from rlaif.evaluation.diversity import measure_diversity, measure_lengths, measure_likelihood
from rlaif.evaluation.judged import (
    AT_EQUAL_LENGTH,
    LENGTH_CONTROLLED,
    JudgedMatch,
    explain_abstentions,
    judge_matches,
    measure_judged,
)
from rlaif.evaluation.judged_refusals import JudgedRefusals, judge_refusals
from rlaif.evaluation.length_glm import length_controlled_glm, rate_difficulty
from rlaif.evaluation.measure import Group, Measured, Row
from rlaif.evaluation.plan import Plan
from rlaif.evaluation.refusals import measure_refusals
from rlaif.evaluation.rules import measure_rules
from rlaif.evaluation.scorecard import (
    EVERYWHERE,
    Estimate,
    Scorecard,
    change_all,
    estimate_all,
    slice_prompts,
    to_estimate,
)
from rlaif.evaluation.wins import length_controlled, match_responses, measure_rule_wins
from rlaif.generation import sample_responses
from rlaif.judging.panel import failed_most, why_unread
from rlaif.records import Failure, Prompt
from rlaif.sessions.concurrent import each
from rlaif.sessions.shown import OnProgress, unseen


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A scorecard and everything it was made from, by model."""

    scorecard: Scorecard
    groups: Mapping[str, tuple[Group, ...]]
    measured: Mapping[str, tuple[Measured, ...]]
    judged: Mapping[str, tuple[JudgedMatch, ...]]
    between: Mapping[tuple[str, str], tuple[JudgedMatch, ...]]
    """Comparisons of (model, other), neither of which is the baseline."""

    refusals: Mapping[str, JudgedRefusals]
    failures: Mapping[str, tuple[Failure, ...]]


@dataclass(slots=True)
class _Findings:
    """What was measured of one model so far."""

    groups: tuple[Group, ...] = ()
    measured: list[Measured] = field(default_factory=list)
    wins: list[Measured] = field(default_factory=list)
    judged: tuple[JudgedMatch, ...] = ()
    refusals: JudgedRefusals = field(default_factory=JudgedRefusals)
    failures: list[Failure] = field(default_factory=list)


async def evaluate_models(
    plan: Plan,
    prompts: Iterable[Prompt],
    models: Mapping[str, Engine],
    *,
    name: str = "",
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Sample every model, measure the responses, and compare each model with the baseline.

    Args:
        plan: What is asked of every model alike.
        prompts: Held-out prompts; kept in memory. A repeated id is an error.
        models: Name to engine, opened by the caller and left open; the baseline among them.
        name: What the scorecard is called.
        on_progress: Called as work is finished.

    Raises:
        ConfigError: The baseline or the model for the likelihood is not among the models.
        RecordError: No prompts, or an id is given twice.
        EngineMissing: An engine cannot do what the plan needs of it.
        EngineUnavailable: A model or server is down; recorded engines keep what was done.
        Interrupted: SIGINT or SIGTERM arrived; likewise.
    """
    checked = check_models(plan, prompts, models)
    work = _EvaluationRun(plan, checked, on_progress or unseen)
    by_model = {model: await work.sample(model, engine) for model, engine in models.items()}
    for model, findings in by_model.items():
        await work.measure(model, findings, models)
    for model, findings in by_model.items():
        if model != plan.baseline:
            await work.compare(model, by_model[plan.baseline], findings)
    between = {
        (model, other): await work.judge(
            f"judge {model} against {other}", by_model[other], by_model[model]
        )
        for other, model in combinations([one for one in models if one != plan.baseline], 2)
        if plan.all_pairs
    }
    return Evaluation(
        scorecard=_scorecard(plan, checked, models, by_model, between, name),
        between=between,
        groups={model: findings.groups for model, findings in by_model.items()},
        measured={model: (*f.measured, *f.wins) for model, f in by_model.items()},
        judged={model: findings.judged for model, findings in by_model.items()},
        refusals={model: findings.refusals for model, findings in by_model.items()},
        failures={model: tuple(findings.failures) for model, findings in by_model.items()},
    )


def check_models(
    plan: Plan, prompts: Iterable[Prompt], models: Mapping[str, Engine]
) -> list[Prompt]:
    """Check that models and prompts are what the plan needs, asking nothing; return the prompts.

    Raises:
        ConfigError, RecordError, EngineMissing: As `evaluate_models` says.
    """
    for role, model in (("baseline", plan.baseline), ("likelihood_under", plan.likelihood_under)):
        if model is not None and model not in models:
            raise ConfigError(f"{role}: {model!r} is not one of the models ({', '.join(models)})")
    for model, engine in models.items():
        require(engine, Capability.GENERATE, who=f"the model {model!r}")
    if plan.likelihood_under is not None:
        require(models[plan.likelihood_under], Capability.SCORE, who="the likelihood measure")
    listed = list(prompts)
    if not listed:
        raise RecordError(
            "no prompts to evaluate on", hint="check prompts:, its filters and its limit"
        )
    twice = [prompt_id for prompt_id, count in Counter(p.id for p in listed).items() if count > 1]
    if twice:
        raise RecordError(f"the prompt id {twice[0]!r} is given more than once")
    return listed


@dataclass(frozen=True, slots=True)
class _EvaluationRun:
    """The stages of one evaluation."""

    plan: Plan
    prompts: Sequence[Prompt]
    on_progress: OnProgress

    async def sample(self, model: str, engine: Engine) -> _Findings:
        plan = self.plan
        tick = self._ticker(f"sample {model}", len(self.prompts))

        async def one(prompt: Prompt) -> tuple[Group, tuple[Failure, ...]]:
            responses, failures = await sample_responses(
                engine,
                prompt,
                n=plan.n,
                sampling=plan.sampling,
                seed=plan.seed,
                system=plan.system,
                purpose="evaluate",
            )
            tick()
            return Group(prompt, tuple(responses), plan.n), tuple(failures)

        drawn = await each(self.prompts, one, concurrency=plan.concurrency)
        return _Findings(
            groups=tuple(group for group, _ in drawn),
            failures=[failure for _, failures in drawn for failure in failures],
        )

    async def measure(self, model: str, findings: _Findings, models: Mapping[str, Engine]) -> None:
        plan, groups = self.plan, findings.groups
        findings.measured = [
            *measure_rules(groups, plan.constitution.rules()),
            *measure_lengths(groups),
            *measure_diversity(groups),
            *measure_refusals(groups),
        ]
        if plan.refusal_judge is not None:
            findings.refusals = await judge_refusals(
                groups,
                plan.refusal_judge,
                concurrency=plan.concurrency,
                on_done=self._ticker(f"refusals of {model}", _count_own(groups)),
            )
            findings.measured += findings.refusals.measured
            findings.failures += findings.refusals.failures
        if plan.likelihood_under is None:
            return
        measured, failures = await measure_likelihood(
            groups,
            models[plan.likelihood_under],
            under=plan.likelihood_under,
            system=plan.system,
            concurrency=plan.concurrency,
            on_done=self._ticker(f"likelihood of {model}", _count_own(groups)),
        )
        findings.measured.append(measured)
        findings.failures.extend(failures)

    async def compare(self, model: str, before: _Findings, after: _Findings) -> None:
        plan = self.plan
        matches = list(match_responses(before.groups, after.groups))
        after.wins = list(measure_rule_wins(matches, plan.constitution.rules()))
        if plan.panel is None:
            return
        after.judged = await self.judge(f"judge {model}", before, after)
        after.wins += measure_judged(after.judged)

    async def judge(
        self, stage: str, before: _Findings, after: _Findings
    ) -> tuple[JudgedMatch, ...]:
        plan = self.plan
        if plan.panel is None:
            return ()
        matches = list(match_responses(before.groups, after.groups))
        judged = await judge_matches(
            matches,
            plan.constitution,
            plan.panel,
            seed=plan.seed,
            concurrency=plan.concurrency,
            on_done=self._ticker(stage, len(matches)),
        )
        return tuple(judged)

    def _ticker(self, stage: str, total: int) -> Callable[[], None]:
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            self.on_progress(stage, done, total)

        self.on_progress(stage, 0, total)
        return tick


def _count_own(groups: Sequence[Group]) -> int:
    return sum(len(group.own()) for group in groups)


def _scorecard(
    plan: Plan,
    prompts: Sequence[Prompt],
    models: Mapping[str, Engine],
    by_model: Mapping[str, _Findings],
    between: Mapping[tuple[str, str], Sequence[JudgedMatch]],
    name: str,
) -> Scorecard:
    slices = slice_prompts(prompts)
    baseline = by_model[plan.baseline]
    estimates: list[Estimate] = []
    changes: list[Estimate] = []
    for model, findings in by_model.items():
        estimates += estimate_all(
            model, [*findings.measured, *findings.wins], slices, seed=plan.seed
        )
        if model == plan.baseline:
            continue
        changes += change_all(model, baseline.measured, findings.measured, slices, seed=plan.seed)
        if plan.panel is not None:
            estimates.append(_at_equal_length(model, findings, plan.seed))
            estimates += _length_controlled(model, by_model, slices, plan)
    return Scorecard(
        name=name,
        fingerprint=plan.fingerprint(prompts, models),
        constitution=plan.constitution.label,
        baseline=plan.baseline,
        models=tuple(models),
        slices={slice: len(prompt_ids) for slice, prompt_ids in slices.items()},
        draws=plan.draws(),
        measures=list_measures(plan, prompts, models=len(models)),
        estimates=tuple(estimates),
        changes=tuple(changes),
        differences=compare_models(
            {model: findings.measured for model, findings in by_model.items()},
            {model: findings.wins for model, findings in by_model.items()},
            slices,
            baseline=plan.baseline,
            seed=plan.seed,
            correction=plan.correction,
            between={pair: measure_judged(judged) for pair, judged in between.items()},
        ),
        correction=plan.correction,
        failures=_count_failures(by_model),
        notices=(
            *_notices(plan, by_model),
            *(
                line
                for (model, other), judged in between.items()
                for line in explain_abstentions(f"{model} against {other}", judged)
            ),
        ),
        nothing=_why_nothing(estimates, by_model),
    )


def _why_nothing(estimates: Sequence[Estimate], by_model: Mapping[str, _Findings]) -> str:
    if all(one.estimate is None for one in estimates):
        failures = (failure for findings in by_model.values() for failure in findings.failures)
        words = Counter(f"{failure.kind}: {failure.message}" for failure in failures)
        return "nothing was measured" + failed_most(words)
    refusals = [findings.refusals for findings in by_model.values()]
    if any(one.asked for one in refusals) and not any(one.read for one in refusals):
        words = Counter(f"{f.kind}: {f.message}" for one in refusals for f in one.failures)
        words = words or sum((Counter(one.reasons) for one in refusals), words)
        return "the judge of refusals gave no verdict that could be read" + failed_most(words)
    judgments = (item.judgment for findings in by_model.values() for item in findings.judged)
    return why_unread([verdict for one in judgments if one for verdict in one.verdicts])


def _at_equal_length(model: str, findings: _Findings, seed: int) -> Estimate:
    preferences, longer_by = _judged_rows(findings)
    interval = length_controlled(preferences, longer_by, seed=seed)
    return to_estimate(model, AT_EQUAL_LENGTH.name, EVERYWHERE, interval, preferences)


def _length_controlled(
    model: str,
    by_model: Mapping[str, _Findings],
    slices: Mapping[str, frozenset[str]],
    plan: Plan,
) -> Iterator[Estimate]:
    rows = {name: _judged_rows(f) for name, f in by_model.items() if name != plan.baseline}
    preferences, longer_by = rows.pop(model)
    difficulty = rate_difficulty([wins for wins, _ in rows.values()])
    if not rows:
        return
    for name, prompt_ids in slices.items():
        inside = {key: row for key, row in preferences.items() if key in prompt_ids}
        if inside:
            figure = length_controlled_glm(inside, longer_by, difficulty, seed=plan.seed)
            yield to_estimate(model, LENGTH_CONTROLLED.name, name, figure, inside)


def _judged_rows(findings: _Findings) -> tuple[dict[str, Row], dict[str, Row]]:
    """Return the preferences, and by how much the model's response is longer, by prompt."""
    preferences: dict[str, Row] = {}
    longer_by: dict[str, Row] = {}
    for item in findings.judged:
        key = item.match.prompt.id
        preferences[key] = (*preferences.get(key, ()), item.preference)
        longer_by[key] = (*longer_by.get(key, ()), item.match.longer_by)
    return preferences, longer_by


def _count_failures(by_model: Mapping[str, _Findings]) -> dict[str, int]:
    return {
        f"{model}: {failure_kind}": count
        for model, findings in by_model.items()
        for failure_kind, count in sorted(Counter(f.kind for f in findings.failures).items())
    }


def _notices(plan: Plan, by_model: Mapping[str, _Findings]) -> tuple[str, ...]:
    notices = []
    for model, findings in by_model.items():
        asked = sum(group.asked for group in findings.groups)
        missing = asked - sum(len(group.responses) for group in findings.groups)
        if missing:
            notices.append(
                f"{model}: {missing} of {asked} samples failed; its numbers are about the rest"
            )
        notices += explain_abstentions(model, findings.judged)
        notices += findings.refusals.explain(model)
    unjudged = plan.constitution.judged() if plan.panel is None else ()
    if unjudged:
        ids = ", ".join(principle.id for principle in unjudged)
        notices.append(f"no judge is named, so these principles were not measured: {ids}")
    return tuple(notices)
