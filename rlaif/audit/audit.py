"""Audit: what judges are worth on gold, from a file to a folder; repeating it costs nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.audit.files import (
    AUDIT,
    PICTURE,
    TABLE,
    calibration_file,
    check_extra,
    write_audit,
)
from rlaif.audit.fit import fit_calibration
from rlaif.audit.gold import GoldPair, GoldSet, read_all_gold
from rlaif.audit.measuring import Asker, Audited, Estimate, OnProgress, build_judges
from rlaif.audit.outcome import Outcome
from rlaif.audit.question import Question, build_question
from rlaif.audit.result import Audit, JudgeResult, SetResult, measure_set
from rlaif.audit.statistics.accuracy import measure_longer
from rlaif.audit.statistics.agreement import measure_alpha
from rlaif.audit.statistics.consistency import measure_stability
from rlaif.config import load_config
from rlaif.config.audit import PANEL, AuditConfig
from rlaif.config.run import KConfig
from rlaif.engines import Engine, Lasting
from rlaif.errors import ConfigError
from rlaif.judging.calibration import Calibration
from rlaif.judging.unread import why_unread
from rlaif.records import Judgment, Verdict, content_id
from rlaif.runs import Ledger
from rlaif.runs.files import make_folder
from rlaif.runs.folders import check_results_folder
from rlaif.runs.layout import Layout
from rlaif.runs.lock import RunLock
from rlaif.sessions.concurrent import Interrupted, run_sync
from rlaif.sessions.engines import open_judges
from rlaif.templates import TemplateSet

OnEstimate = Callable[[Sequence[Estimate]], None]


def audit_judge(
    config: str | Path | Mapping[str, Any],
    gold: Sequence[str | Path],
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    on_estimate: OnEstimate | None = None,
    on_progress: OnProgress | None = None,
) -> Audit:
    """Measure judges on gold pairs and write what was found.

    Works in scripts and in notebooks (where an event loop is already running). Every call is kept
    in the ledger of ``out``; repeating an audit, also after a stop, asks only what is missing.

    Args:
        config: The audit file, or the same as a mapping; see `rlaif.config.audit.AuditConfig`.
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
        KeyboardInterrupt: Stopped by a signal; what was asked is kept.
    """
    changed = dict(overrides or {})
    if out is not None:
        changed["out"] = str(Path(out).absolute())
    settings = load_config(AuditConfig, config, changed)
    if settings.out is None:
        raise ConfigError("out: where results go is not said", hint="give --out DIR, or out: DIR")
    if not gold:
        raise ConfigError("an audit needs gold", hint="give --gold FILE")
    check_extra(len(settings.judges))
    sets = read_all_gold([Path(path) for path in gold], limit=limit, seed=settings.seed)
    choose = settings.principles.choose
    question = build_question(
        constitution=settings.constitution,
        principle=settings.principle,
        how_many=choose.k if isinstance(choose, KConfig) else choose,
        seed=settings.seed,
    )
    templates = TemplateSet.open(settings.templates)
    templates.check_all()
    work = _Work(settings, sets, question, templates, limit)
    found: Audit = run_sync(lambda: work.run(settings.out or Path(), on_estimate, on_progress))
    return found


class _Work:
    """One audit: what it is about, then what is found."""

    def __init__(
        self,
        settings: AuditConfig,
        sets: Sequence[GoldSet],
        question: Question,
        templates: TemplateSet,
        limit: int | None,
    ) -> None:
        self._settings = settings
        self._sets = sets
        self._question = question
        self._templates = templates
        self._limit = limit

    async def run(
        self, out: Path, on_estimate: OnEstimate | None, on_progress: OnProgress | None
    ) -> Audit:
        engines = open_judges(self._settings.judges)
        try:
            return await self._locked(out, engines, on_estimate, on_progress or _ignore)
        except Interrupted:
            raise KeyboardInterrupt from None
        finally:
            for engine in {id(engine): engine for engine in engines.values()}.values():
                await engine.aclose()

    async def _locked(
        self,
        out: Path,
        engines: Mapping[str, Engine],
        on_estimate: OnEstimate | None,
        on_progress: OnProgress,
    ) -> Audit:
        make_folder(out)
        calibrations_of = [calibration_file(judge.name) for judge in self._settings.judges]
        check_results_folder(out, (AUDIT, TABLE, PICTURE, *calibrations_of))
        lock = RunLock(out)
        try:
            with Ledger.open(Layout(out).ledger, reuse=self._settings.reuse) as ledger:
                judges = self._judges(engines, ledger)
                asker = Asker(
                    self._question,
                    ledger,
                    concurrency=self._settings.concurrency,
                    on_progress=on_progress,
                )
                await self._estimate(asker, judges, on_estimate)
                audit, calibrations = await self._measure(asker, judges, engines, ledger)
                ledger.flush()
                for engine in engines.values():
                    if isinstance(engine, Lasting):
                        engine.settle()
                write_audit(out, audit, calibrations)
                return audit
        finally:
            lock.release()

    def _judges(self, engines: Mapping[str, Engine], ledger: Ledger) -> tuple[Audited, ...]:
        return build_judges(
            self._settings.judges,
            engines,
            ledger=ledger,
            templates=self._templates,
            question=self._question,
            orders=self._settings.orders,
            min_mass=self._settings.min_mass,
        )

    async def _estimate(
        self, asker: Asker, judges: Sequence[Audited], on_estimate: OnEstimate | None
    ) -> None:
        """Time a trial where somebody wants to know; its calls are the audit's own first ones."""
        if on_estimate is None:
            return
        settings = self._settings
        on_estimate(
            [
                await asker.trial(
                    judge,
                    self._sets,
                    repeats=settings.repeats,
                    repeat_pairs=settings.repeat_pairs,
                )
                for judge in judges
            ]
        )

    async def _measure(
        self,
        asker: Asker,
        judges: Sequence[Audited],
        engines: Mapping[str, Engine],
        ledger: Ledger,
    ) -> tuple[Audit, Mapping[str, Calibration]]:
        seed = self._settings.seed
        results: dict[str, JudgeResult] = {}
        calibrations: dict[str, Calibration] = {}
        verdicts: list[Verdict] = []
        spoken: dict[str, dict[str, list[Outcome]]] = {gold.name: {} for gold in self._sets}
        for judge in judges:
            sets: dict[str, SetResult] = {}
            judged: list[tuple[GoldPair, Judgment]] = []
            for gold in self._sets:
                what = f"{judge.name} on {gold.name}"
                judgments = await asker.judge([judge], gold.pairs, what)
                stability = await self._stability(asker, judge, gold, judgments)
                outcomes = _outcomes(gold, judgments)
                sets[gold.name] = measure_set(outcomes, ledger.get, seed=seed, stability=stability)
                spoken[gold.name][judge.name] = outcomes
                verdicts += [verdict for one in judgments for verdict in one.verdicts]
                judged += zip(gold.pairs, judgments, strict=True)
            calibration = self._calibration(judge, judged)
            if isinstance(calibration, Calibration):
                calibrations[judge.name] = calibration
            results[judge.name] = JudgeResult(
                fingerprint=judge.fingerprint,
                method=judge.judge.method,
                engine=engines[judge.name].identity,
                templates=judge.judge.template_fingerprints,
                sets=sets,
                calibration=calibration
                if isinstance(calibration, str)
                else {**calibration.to_json(), "file": calibration_file(judge.name)},
            )
        alpha = {}
        if len(judges) > 1:
            results[PANEL] = await self._panel(asker, judges, ledger)
            alpha = {name: measure_alpha(panel, seed=seed) for name, panel in spoken.items()}
        audit = Audit(
            question=self._question.label,
            principles=tuple(self._question.ids()),
            seed=seed,
            limit=self._limit,
            orders=self._settings.orders,
            gold={gold.name: gold.counts() for gold in self._sets},
            longer={
                gold.name: measure_longer(next(iter(spoken[gold.name].values())), seed=seed)
                for gold in self._sets
            },
            judges=results,
            alpha=alpha,
            notices=tuple(_notices(results)),
            nothing=why_unread(verdicts),
        )
        return audit, calibrations

    async def _stability(
        self, asker: Asker, judge: Audited, gold: GoldSet, first: Sequence[Judgment]
    ) -> Any:
        settings = self._settings
        if not judge.engine.sampled or settings.repeats < 2:
            return None
        clusters, choices = await asker.repeat(
            judge, gold, first, repeats=settings.repeats, pairs=settings.repeat_pairs
        )
        return measure_stability(clusters, choices, seed=settings.seed)

    async def _panel(self, asker: Asker, judges: Sequence[Audited], ledger: Ledger) -> JudgeResult:
        """All judges together, with their weights; every reply is in the ledger by now."""
        sets = {}
        for gold in self._sets:
            judgments = await asker.judge(judges, gold.pairs, f"panel on {gold.name}")
            outcomes = _outcomes(gold, judgments)
            sets[gold.name] = measure_set(outcomes, ledger.get, seed=self._settings.seed)
        return JudgeResult(
            fingerprint=content_id("panel", [[j.fingerprint, j.weight] for j in judges]),
            method="panel",
            engine={},
            templates={},
            sets=sets,
            calibration="no calibration: each judge of a panel has its own",
        )

    def _calibration(
        self, judge: Audited, judged: Sequence[tuple[GoldPair, Judgment]]
    ) -> Calibration | str:
        if judge.calibrated:
            return "no calibration: the judge is calibrated already"
        return fit_calibration(
            judge.judge,
            judged,
            fingerprint=judge.fingerprint,
            question=self._question.label,
            gold={gold.name: gold.fingerprint for gold in self._sets},
            seed=self._settings.seed,
        )


def _outcomes(gold: GoldSet, judgments: Sequence[Judgment]) -> list[Outcome]:
    return [Outcome.build(*both) for both in zip(gold.pairs, judgments, strict=True)]


def _notices(results: Mapping[str, JudgeResult]) -> list[str]:
    notices = []
    for judge, result in results.items():
        for gold, found in result.sets.items():
            against = found.accuracy.against_chance
            if against != "above chance":
                notices.append(f"{judge} on {gold}: {against}")
    return notices


def _ignore(what: str, done: int, total: int) -> None:
    """Nobody wants to know."""
