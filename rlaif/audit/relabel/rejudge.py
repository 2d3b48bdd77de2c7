"""Judging a run's responses anew: under another constitution, or with a newer parser.

Nothing is sampled: the responses are the rows'. Replies come from the old run's ledger wherever the
question is the same, so only what changed is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.audit.measuring import OnProgress
from rlaif.config import RunConfig
from rlaif.config.judge import JudgeConfig
from rlaif.constitution import Constitution
from rlaif.engines import Capability, Engine, Reply, Request
from rlaif.errors import CallFailed, ConfigError
from rlaif.judging import build_configured_judge
from rlaif.pipeline.build import Parts, prompt_source
from rlaif.pipeline.item import never_rendered
from rlaif.records import Failure, Row
from rlaif.runs import Manifest, Run, RunWriter, open_run
from rlaif.runs.layout import Layout
from rlaif.runs.shards import done_ids
from rlaif.sessions.concurrent import Interrupted, run_all
from rlaif.sessions.engines import SAME_AS_STUDENT, open_once
from rlaif.templates import TemplateSet

NOT_RECORDED = "not-recorded"
"""The kind of a call that a `SilentEngine` was asked for."""


class SilentEngine:
    """An engine that refuses to be asked: whatever it is asked for must be in a ledger.

    Args:
        identity: Of the engine whose replies the ledger holds; it is part of their keys.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self._identity = dict(identity)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What it was given."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All: what could be asked was asked already."""
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


def silent_engines(manifest: Manifest) -> dict[str, Engine]:
    """For every role of a run, an engine that answers from the ledger or not at all."""
    return {role: SilentEngine(identity) for role, identity in manifest.engines.items()}


def judging_engines(settings: RunConfig, manifest: Manifest) -> dict[str, Engine]:
    """Open the judges' engines; student and critic stay silent, their words are in the rows.

    Raises:
        EngineMissing: A model, extra or key is missing.
    """
    engines = silent_engines(manifest)
    opened: dict[str, Engine] = {}
    for judge in settings.judges:
        config = settings.student if judge.model == SAME_AS_STUDENT else judge
        engines[f"judge:{judge.name}"] = open_once(config, opened)
    return engines


def prepare(
    run: Run,
    *,
    constitution: Constitution,
    engines: Mapping[str, Engine],
    out: Path,
    why: Mapping[str, Any],
    notices: Sequence[str] = (),
) -> Parts:
    """Put together what judging a run's responses anew needs; nothing is written.

    Args:
        run: The run whose responses are judged.
        constitution: What they are judged by.
        engines: Role to engine.
        out: The new run.
        why: What the plan says besides, so that such a run is told from one that sampled.
        notices: What every reader of the new run must know besides the old run's notices.

    Raises:
        ConfigError: ``out`` is the run itself, or no judge fits the constitution.
    """
    if out.resolve() == run.path.resolve():
        raise ConfigError(f"{out}: is the run itself", hint="choose another folder for the new run")
    settings = run_settings(run).model_copy(update={"out": out, "reuse": (run.path,)})
    if constitution.judged() and not settings.judges:
        raise ConfigError(
            f"the run {run.manifest.name!r} has no judge, and the constitution "
            f"{constitution.name!r} has principles that need one"
        )
    templates = TemplateSet.open(settings.templates)
    templates.check_all()
    shown: dict[str, str] = {}
    judges: dict[str, Any] = {}
    for config in settings.judges:
        engine = engines[f"judge:{config.name}"]
        judge = _judge(config, settings, constitution, templates, engine)
        shown |= judge.template_fingerprints
        judges[config.name] = {"engine": dict(engine.identity), **config.plan()}
    old = run.manifest
    plan = {
        **old.plan,
        **why,
        "responses": old.label,
        "constitution": {p.id: p.fingerprint for p in constitution.principles},
        "templates": dict(sorted(shown.items())),
        "judges": judges,
    }
    manifest = Manifest.build(
        name=settings.name,
        plan=plan,
        config=settings.model_dump(mode="json"),
        constitution_label=constitution.label,
        constitution=constitution.model_dump(mode="json"),
        engines={role: dict(engine.identity) for role, engine in engines.items()},
        notices=(*old.notices, *notices),
    )
    return Parts(
        settings=settings,
        constitution=constitution,
        templates=templates,
        source=prompt_source(settings),
        engines=dict(engines),
        manifest=manifest,
    )


async def rejudge(run: Run, parts: Parts, on_progress: OnProgress | None = None) -> Rejudged:
    """Judge every row of a run anew and write the new run; repeating it goes on.

    Raises:
        RunMismatch: The folder holds something else.
        RenderError: A template could be filled in with no row at all.
        EngineUnavailable: A judge's model or server is down; what was asked is kept.
        KeyboardInterrupt: Stopped by a signal; what was finished is kept.
    """
    settings = parts.settings
    try:
        with RunWriter(
            settings.out,
            parts.manifest,
            reuse=settings.reuse,
            rows_per_shard=settings.shard_rows,
        ) as writer:
            work = parts.work(writer.ledger)
            done = writer.done_ids()
            known, standing = writer.failed_ids(), set[str]()
            for failure in run.failures():
                standing.add(failure.record_id)
                if failure.record_id not in known:
                    writer.add_failure(failure)
            writer.mend(writer.misread_ids() - standing)

            def missing() -> Iterator[Row]:
                return (
                    row for row in run.rows() if bytes.fromhex(work.row_id(row.prompt)) not in done
                )

            total = len(done_ids(Layout(run.path).shards))

            unrendered: list[Failure] = []

            async def one(row: Row) -> None:
                rejudged = await work.rejudge(row)
                if isinstance(rejudged, Row):
                    writer.add_row(rejudged)
                else:
                    unrendered.append(rejudged)
                    writer.add_failure(rejudged)
                if on_progress is not None:
                    on_progress("rows judged anew", len(done) + len(unrendered), total)

            writer.log("started", rejudges=str(run.path))
            await run_all(missing(), one, concurrency=settings.concurrency)
            writer.flush()
            for engine in parts.recorded:
                engine.settle()
            writer.log("finished")
        if unrendered and not len(done):
            raise never_rendered(unrendered)
    except Interrupted:
        raise KeyboardInterrupt from None
    finally:
        await parts.aclose()
    asked = sum(engine.asked.total() for engine in parts.recorded)
    remembered = sum(engine.remembered.total() for engine in parts.recorded)
    return Rejudged(open_run(settings.out), asked, remembered, len(done), len(unrendered))


def run_settings(run: Run) -> RunConfig:
    """The settings a run was made with, from its manifest.

    Raises:
        ConfigError: They were written by another version and can no longer be read.
    """
    try:
        return RunConfig.model_validate(run.manifest.config)
    except ValueError as problem:
        raise ConfigError(
            f"{run.path}: its settings cannot be read by this version: {problem}"
        ) from None


def _judge(
    config: JudgeConfig,
    settings: RunConfig,
    constitution: Constitution,
    templates: TemplateSet,
    engine: Engine,
) -> Any:
    return build_configured_judge(
        config,
        engine=engine,
        templates=templates,
        orders=settings.judging.orders,
        min_mass=settings.judging.min_mass,
        principles=[principle.id for principle in constitution.judged()],
    )
