"""Judging a run's responses anew: the ordinary job, over rows in place of prompts.

Nothing is sampled: the responses are the rows'. Replies come from the old run's ledger wherever the
question is the same, so only what changed is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.config import RunConfig
from rlaif.constitution import Constitution
from rlaif.engines import Capability, Reply, Request
from rlaif.errors import CallFailed, ConfigError
from rlaif.pipeline.build import (
    Parts,
    build_manifest,
    build_work,
    open_engines,
    open_judges,
    run_settings,
    templates_shown,
)
from rlaif.pipeline.job import Job
from rlaif.pipeline.remaining import RemainingRows
from rlaif.pipeline.tally import Progress
from rlaif.runs import Run, RunWriter, open_run
from rlaif.sessions.engines import judge_role
from rlaif.sessions.session import Session
from rlaif.sessions.shown import OnProgress

NOT_RECORDED = "not-recorded"
"""The kind of a call that a `ReplayOnlyEngine` was asked for."""


class ReplayOnlyEngine:
    """An engine that fails every request: replies must come from a ledger.

    Args:
        identity: Of the engine whose replies the ledger holds; it is part of their keys.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self._identity = dict(identity)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity that it was given."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All: every request was possible when it was recorded."""
        return frozenset(Capability)

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Refuse.

        Raises:
            CallFailed: Always.
        """
        raise CallFailed(
            f"the ledger holds no reply to this {type(request).__name__.lower()} request",
            kind=NOT_RECORDED,
        )

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, slots=True)
class Rejudged:
    """A new run with the responses of an old one."""

    run: Run
    asked: int
    """Replies that were asked of a model."""

    remembered: int
    """Replies that came from a ledger."""

    rows: int
    failed: int = 0
    """Rows of the old run that a template could not be filled in with, and so not judged."""

    changed: int = 0
    """Rows judged again, as the old run has made them anew since the last time."""

    orphans: int = 0
    """Rows left out, as they are orphans in the old run by now."""


async def rejudge(  # noqa: PLR0913 - a run, and all that differs from it
    run: Run,
    constitution: Constitution,
    *,
    out: Path,
    why: Mapping[str, Any],
    notice: str,
    replay_only: bool = False,
    preflight: bool = True,
    retry_failed: bool = False,
    on_progress: OnProgress | None = None,
) -> Rejudged:
    """Judge every row of a run anew and write the new run; repeating it resumes.

    Args:
        run: The run whose responses are judged.
        constitution: What they are judged by.
        out: The new run.
        why: What the plan says besides, so that such a run differs from one that sampled.
        notice: What every reader of the new run must know besides the old run's notices.
        replay_only: Ask no judge: what the ledger does not hold is an abstention.
        preflight: Whether the judges' servers are asked once first, if the run's settings say so.
        retry_failed: Ask again what failed before: rows that hold failed calls of judges.
        on_progress: Called about twice a second.

    Raises:
        ConfigError: ``out`` is the run itself, or no judge fits the constitution.
        RunMismatch: The folder holds something else.
        RenderError: A template could be filled in with no row at all.
        EngineUnavailable: A judge's model or server is down; what was asked is kept.
        KeyboardInterrupt: Stopped by a signal; what was finished is kept.
    """
    settings = _settings(run, constitution, out)
    if replay_only or not preflight:
        settings = settings.model_copy(update={"preflight": False})
    if replay_only:
        settings = settings.model_copy(update={"give_up_after": 0})
    async with Session.of(settings) as session:
        parts = _build(session, run, settings, constitution, why, notice, replay_only)
        with RunWriter(
            settings.out, parts.manifest, reuse=settings.reuse, rows_per_shard=settings.shard_rows
        ) as writer:
            session.record(writer.ledger)
            remaining = RemainingRows(run, writer, parts.work.row_id, retry_failed=retry_failed)
            shown = None if on_progress is None else _show(on_progress)
            job = Job(session, parts, writer, remaining, on_progress=shown)
            await job.run()
    counts = job.tally.counts(session.recorded)
    rows = job.tally.rows
    return Rejudged(
        open_run(settings.out),
        asked=sum(counts["asked"].values()),
        remembered=sum(counts["remembered"].values()),
        rows=rows,
        failed=run.count_rows() - rows,
        changed=remaining.changed,
        orphans=remaining.orphans,
    )


def _settings(run: Run, constitution: Constitution, out: Path) -> RunConfig:
    if out.resolve() == run.path.resolve():
        raise ConfigError(f"{out}: is the run itself", hint="choose another folder for the new run")
    settings = run_settings(run).model_copy(update={"out": out, "reuse": (run.path,)})
    if constitution.judged() and not settings.judges:
        raise ConfigError(
            f"the run {run.manifest.name!r} has no judge, and the constitution "
            f"{constitution.name!r} has principles that need one"
        )
    return settings


def _build(
    session: Session,
    run: Run,
    settings: RunConfig,
    constitution: Constitution,
    why: Mapping[str, Any],
    notice: str,
    replay_only: bool,
) -> Parts:
    """Build the parts of the old run with another constitution and engines; nothing is written."""
    old = run.manifest
    judging = {judge_role(judge.name): judge for judge in settings.judges}
    for role, identity in old.engines.items():
        if role in judging and not replay_only:
            session.judge_engine(judging[role], settings.student)
        else:  # the words of student and critic are in the rows
            session.use(ReplayOnlyEngine(identity), role)
    open_engines(session, settings)
    judges = open_judges(session, settings, constitution)
    plan = {
        **old.plan,
        **why,
        "responses": old.label,
        "constitution": {p.id: p.fingerprint for p in constitution.principles},
        "templates": templates_shown(session, settings, judges),
        "judges": {judge.config.name: judge.plan() for judge in judges},
    }
    notices = (*old.notices, notice)
    manifest = build_manifest(session, settings, constitution, plan=plan, notices=notices)
    return Parts(settings, manifest, build_work(session, manifest, settings, constitution, judges))


def _show(on_progress: OnProgress) -> Any:
    def show(progress: Progress) -> None:
        if progress.total is not None:
            done = progress.rows + progress.failures
            on_progress("rows judged anew", done, progress.total)

    return show
