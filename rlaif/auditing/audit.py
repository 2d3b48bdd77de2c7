"""Audit: how good judges are on gold, from a file to a folder; repeating it costs nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlaif.auditing.gold import GoldPair, GoldSet, Outcome, read_all_gold
from rlaif.auditing.measuring import (
    Asker,
    Audited,
    Estimate,
    ask_relevance,
    build_judges,
    count_applied,
)
from rlaif.auditing.question import Question, build_question
from rlaif.auditing.render import (
    AUDIT,
    PICTURE,
    TABLE,
    calibration_file,
    check_extra,
    write_audit,
)
from rlaif.auditing.result import Audit, JudgeResult, SetResult, measure_set
from rlaif.auditing.statistics.accuracy import measure_alpha, measure_longer
from rlaif.auditing.statistics.consistency import measure_stability
from rlaif.auditing.statistics.label_calibration import (
    Label,
    to_calibration,
    try_calibration,
)
from rlaif.config import load_config
from rlaif.config.evaluate import PANEL, AuditConfig
from rlaif.config.judge import offering_neither
from rlaif.errors import ConfigError
from rlaif.evaluation.intervals import Figure
from rlaif.judging import METHODS, Judge, pool_verdicts
from rlaif.judging.build import panel_fingerprint
from rlaif.judging.calibration import Calibration
from rlaif.judging.panel import clamp_together, why_unread
from rlaif.pipeline.achieved import check_verdicts
from rlaif.records import Choice, Judgment, Verdict
from rlaif.runs import Ledger
from rlaif.runs.status import LOW_MASS, low_mass_notice
from rlaif.sessions.concurrent import run_sync
from rlaif.sessions.session import Session
from rlaif.sessions.shown import OnProgress, unseen

OnEstimate = Callable[[Sequence[Estimate]], None]


def audit(
    config: str | Path | Mapping[str, Any],
    gold: Sequence[str | Path],
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    on_estimate: OnEstimate | None = None,
    on_progress: OnProgress | None = None,
) -> Audit:
    """Measure judges on gold pairs and write the results.

    Works in scripts and in notebooks (where an event loop is already running). Every call is kept
    in the ledger of ``out``; repeating an audit, also after a stop, asks only what is missing.

    Args:
        config: The audit file, or the same as a mapping; see `rlaif.config.evaluate.AuditConfig`.
        gold: Gold files.
        limit: At most this many pairs of each, drawn by content.
        out: The folder to write; else ``out`` of the file.
        overrides: Dotted keys to values, such as ``{"judges.0.model": "other"}``.
        on_estimate: Called once, after the timed trial and before the rest is asked.
        on_progress: Called as pairs are judged.

    Raises:
        InputError: Settings, gold, constitution or templates cannot be used; nothing was asked.
        EngineMissing: A model, extra, key or capability is missing.
        EngineUnavailable: A model or server is down; what was asked is kept.
        TooManyFailed: More than ``max_failed_share`` of a judge's calls failed; no results are
            written. Repeating the audit asks only what failed.
        KeyboardInterrupt: Stopped by a signal; what was asked is kept.
    """
    return run_sync(
        lambda: aaudit(
            config,
            gold,
            limit=limit,
            out=out,
            overrides=overrides,
            on_estimate=on_estimate,
            on_progress=on_progress,
        )
    )


async def aaudit(
    config: str | Path | Mapping[str, Any],
    gold: Sequence[str | Path],
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    on_estimate: OnEstimate | None = None,
    on_progress: OnProgress | None = None,
) -> Audit:
    """The same as `audit`, to be awaited."""
    changed = dict(overrides or {})
    if out is not None:
        changed["out"] = str(Path(out).absolute())
    settings = load_config(AuditConfig, config, changed)
    if settings.out is None:
        raise ConfigError("out: no folder for the results", hint="give --out DIR, or out: DIR")
    if not gold:
        raise ConfigError("no gold to audit on", hint="give --gold FILE")
    check_extra(len(settings.judges))
    sets = read_all_gold([Path(path) for path in gold], limit=limit, seed=settings.seed)
    question = build_question(
        constitution=settings.constitution,
        principle=settings.principle,
        how_many=settings.principles.how_many,
        seed=settings.seed,
    )
    async with Session.of(settings) as session:
        judges = build_judges(
            session,
            offering_neither(settings.judges, settings.relevance),
            question,
            orders=settings.orders,
            min_mass=settings.min_mass,
        )
        names = [judge.name for judge in settings.judges]
        calibrated = [calibration_file(name) for name in (*names, PANEL)]
        await session.preflight.before(settings.out, settings.reuse)
        ledger = session.open(
            settings.out, reuse=settings.reuse, results=(AUDIT, TABLE, PICTURE, *calibrated)
        )
        asker = Asker(
            question,
            ledger,
            concurrency=settings.concurrency,
            on_progress=on_progress or unseen,
            relevance={judge.name: ask_relevance(session, judge, settings) for judge in judges}
            if settings.relevance == "model"
            else {},
        )
        work = _AuditRun(settings, sets, question, limit, asker, judges)
        if on_estimate is not None:
            on_estimate(await work.estimate())
        result, calibrations = await work.measure(ledger)
        session.settle()
        write_audit(settings.out, result, calibrations)
        return result


audit_judge = audit
"""The name of `audit` in earlier versions."""


@dataclass(frozen=True, slots=True)
class _AuditRun:
    """One audit: its judges, its gold and its question."""

    settings: AuditConfig
    sets: Sequence[GoldSet]
    question: Question
    limit: int | None
    asker: Asker
    judges: Sequence[Audited]

    async def estimate(self) -> list[Estimate]:
        """Time a trial; its calls are the audit's own first ones."""
        settings = self.settings
        return [
            await self.asker.trial(
                judge, self.sets, repeats=settings.repeats, repeat_pairs=settings.repeat_pairs
            )
            for judge in self.judges
        ]

    async def measure(self, ledger: Ledger) -> tuple[Audit, Mapping[str, Calibration]]:
        """Put all pairs before every judge and measure each; fit calibrations."""
        seed = self.settings.seed
        results: dict[str, JudgeResult] = {}
        calibrations: dict[str, Calibration] = {}
        every: list[Judgment] = []
        spoken: dict[str, dict[str, list[Outcome]]] = {gold.name: {} for gold in self.sets}
        for judge in self.judges:
            sets: dict[str, SetResult] = {}
            judged: list[tuple[GoldPair, Judgment]] = []
            for gold in self.sets:
                what = f"{judge.name} on {gold.name}"
                judgments = await self.asker.judge([judge], gold.pairs, what)
                stability = await self._stability(judge, gold, judgments)
                outcomes = _outcomes(gold, judgments)
                sets[gold.name] = measure_set(outcomes, ledger.get, seed=seed, stability=stability)
                spoken[gold.name][judge.name] = outcomes
                every += judgments
                judged += zip(gold.pairs, judgments, strict=True)
            results[judge.name] = self._calibrated(
                JudgeResult(
                    fingerprint=judge.opened.fingerprint,
                    method=judge.judge.method,
                    engine=judge.engine.identity,
                    templates=judge.judge.template_fingerprints,
                    sets=sets,
                    applied=self._applied(
                        judge, [verdict for _, one in judged for verdict in one.verdicts]
                    ),
                ),
                judge.name,
                [judge],
                judged,
                calibrations,
            )
        nothing = why_unread([verdict for one in every for verdict in one.verdicts])
        if not nothing:
            check_verdicts(every, self.settings.max_failed_share)
        alpha = {}
        if len(self.judges) > 1:
            results[PANEL] = await self._panel(ledger, calibrations)
            alpha = {name: measure_alpha(panel, seed=seed) for name, panel in spoken.items()}
        result = Audit(
            question=self.question.label,
            principles=tuple(self.question.ids()),
            seed=seed,
            limit=self.limit,
            orders=self.settings.orders,
            gold={gold.name: gold.counts() for gold in self.sets},
            longer={
                gold.name: measure_longer(next(iter(spoken[gold.name].values())))
                for gold in self.sets
            },
            judges=results,
            alpha=alpha,
            notices=tuple(_notices(results)),
            nothing=nothing,
        )
        return result, calibrations

    async def _stability(
        self, judge: Audited, gold: GoldSet, first: Sequence[Judgment]
    ) -> Figure | None:
        settings = self.settings
        if not judge.engine.sampled or settings.repeats < 2:
            return None
        clusters, choices = await self.asker.repeat(
            judge, gold, first, repeats=settings.repeats, pairs=settings.repeat_pairs
        )
        return measure_stability(clusters, choices)

    async def _panel(self, ledger: Ledger, calibrations: dict[str, Calibration]) -> JudgeResult:
        """All judges together, with their weights; every reply is in the ledger by now."""
        sets = {}
        judged: list[tuple[GoldPair, Judgment]] = []
        for gold in self.sets:
            judgments = await self.asker.judge(self.judges, gold.pairs, f"panel on {gold.name}")
            outcomes = _outcomes(gold, judgments)
            sets[gold.name] = measure_set(outcomes, ledger.get, seed=self.settings.seed)
            judged += zip(gold.pairs, judgments, strict=True)
        opened = [judge.opened for judge in self.judges]
        fingerprint = panel_fingerprint((one.fingerprint, one.config) for one in opened)
        result = JudgeResult(fingerprint, PANEL, {}, {}, sets)
        return self._calibrated(result, PANEL, self.judges, judged, calibrations)

    def _applied(
        self, judge: Audited, verdicts: Sequence[Verdict]
    ) -> Mapping[str, Mapping[str, int]]:
        """How often each principle had a bearing; empty where that was not asked."""
        if self.settings.relevance == "label":
            return count_applied(verdicts)
        return self.asker.applied(judge.name)

    def _calibrated(
        self,
        result: JudgeResult,
        name: str,
        judges: Sequence[Audited],
        judged: Sequence[tuple[GoldPair, Judgment]],
        calibrations: dict[str, Calibration],
    ) -> JudgeResult:
        """The result with what became of a calibration of its labels, which is kept if it helps."""
        if len(judges) == 1 and judges[0].opened.config.calibration is not None:
            return replace(result, calibration="no calibration: the judge is calibrated already")
        panel = [judge.opened.weighted for judge in judges]
        labels = [
            self._label(pair, judgment, panel)
            for pair, judgment in judged
            if pair.label is not Choice.TIE and judgment.preference is not None
        ]
        tried = try_calibration(
            labels,
            lambda label: clamp_together(label, [judge for judge, _ in panel]),
            seed=self.settings.seed,
        )
        if isinstance(tried, str):
            return replace(result, calibration=tried)
        if not tried.helps:
            refused = f"no calibration: it did not make labels better with confidence: {tried}"
            return replace(result, calibration=refused, label_calibration=tried)
        one_for_all = all(METHODS[j.judge.method].principle is not None for j in judges)
        calibrations[name] = to_calibration(
            tried,
            judge=name,
            fingerprint=result.fingerprint,
            method=result.method,
            question=self.question.label,
            asked=None if one_for_all else self.question.asked,
            gold={gold.name: gold.fingerprint for gold in self.sets},
        )
        kept = {**calibrations[name].to_json(), "file": calibration_file(name)}
        return replace(result, calibration=kept, label_calibration=tried)

    def _label(
        self, pair: GoldPair, judgment: Judgment, panel: Sequence[tuple[Judge, float]]
    ) -> Label:
        assert judgment.preference is not None, "judgments without one were left out"
        # What a run applies the calibration to: of one judge, before its clamp.
        before = pool_verdicts(
            pair.comparison,
            judgment.verdicts,
            judges=panel,
            drawn=self.question.drawn(pair.prompt, pair.comparison.id),
            candidates=self.question.candidates,
            clamped=len(panel) > 1,
        ).preference
        assert before is not None, "a clamp makes no preference"
        return Label(pair.cluster, before, judgment.preference, pair.label is Choice.A)


def _outcomes(gold: GoldSet, judgments: Sequence[Judgment]) -> list[Outcome]:
    return [Outcome.build(*both) for both in zip(gold.pairs, judgments, strict=True)]


def _notices(results: Mapping[str, JudgeResult]) -> list[str]:
    notices = []
    for judge, result in results.items():
        for gold, measured in result.sets.items():
            against = measured.accuracy.against_chance
            if against != "above chance":
                notices.append(f"{judge} on {gold}: {against}")
            mass = measured.mass
            if mass is not None and mass.median < LOW_MASS:
                notices.append(low_mass_notice(f"{judge} on {gold}", mass.median))
    return notices
