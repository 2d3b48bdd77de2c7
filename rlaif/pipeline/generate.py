"""Generate: from a run file to a finished run directory; repeating it resumes."""

import os
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from rlaif.config import RunConfig, load_config, nearest
from rlaif.engines import is_batching
from rlaif.errors import ConfigError, EngineMissing
from rlaif.inputs import check_source
from rlaif.pipeline.build import build_parts, prompt_source
from rlaif.pipeline.checks import check_batches
from rlaif.pipeline.job import Job
from rlaif.pipeline.remaining import RemainingPrompts
from rlaif.pipeline.tally import OnProgress
from rlaif.runs import Run, RunWriter, open_run
from rlaif.sessions.budget import open_budget
from rlaif.sessions.concurrent import read_in_thread, run_sync
from rlaif.sessions.session import Session

Executor = Literal["local", "ray"]
"""Where the work is done: in this process, or in actors of a Ray cluster."""


def generate(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    on_progress: OnProgress | None = None,
    executor: Executor = "local",
    address: str | None = None,
) -> Run:
    """Carry every prompt of a run file through sampling, judging and pairing.

    Works in scripts and in notebooks (where an event loop is already running). Calling it again
    with the same settings does only what is missing.

    Args:
        config: The run file, or the same as a mapping.
        overrides: Dotted keys to values, such as ``{"prompts.limit": 50}``.
        retry_failed: Try prompts again that are recorded as failures.
        on_progress: Called about twice a second.
        executor: ``local`` works in this process, ``ray`` in actors of a Ray cluster. They make the
            same rows, and either resumes what the other began.
        address: Of the Ray cluster; default: ``RAY_ADDRESS``, else Ray is started on this machine.

    Raises:
        InputError: Settings, constitution, templates or prompts cannot be used; nothing started.
        EngineUnavailable: A server is down; calls in flight at others got a few seconds to finish,
            and what was done is kept.
        StoppedEarly: The budget is used up; calls in flight were finished and kept.
        KeyboardInterrupt: Stopped by a signal, after everything finished was written.
    """
    return run_sync(
        lambda: agenerate(
            config,
            overrides=overrides,
            retry_failed=retry_failed,
            on_progress=on_progress,
            executor=executor,
            address=address,
        )
    )


async def agenerate(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    on_progress: OnProgress | None = None,
    executor: Executor = "local",
    address: str | None = None,
) -> Run:
    """The same as `generate`, to be awaited."""
    spread = None if _check_executor(executor, address) == "local" else _import_ray()
    settings = load_config(RunConfig, config, overrides)
    check_batches(settings, spread=spread is not None)
    async with Session.of(settings) as session:
        parts = build_parts(session, settings)
        source = prompt_source(settings)
        await read_in_thread(partial(check_source, source))
        session.preflight.budget = open_budget(settings.budget, ())
        await session.preflight.before(settings.out, settings.reuse)
        with RunWriter(
            settings.out, parts.manifest, reuse=settings.reuse, rows_per_shard=settings.shard_rows
        ) as writer:
            if writer.done_ids():  # the models have answered before; what is left may all be bad
                settings = settings.model_copy(update={"give_up_after": 0})
                session.give_up_after = 0
            budget = open_budget(settings.budget, writer.ledger.totals())
            if budget is not None:  # a batch takes hours, however few prompts are in it
                budget.depth_first = not any(
                    is_batching(one.engine) for one in session.engines.values()
                )
            session.record(writer.ledger, budget)
            remaining = RemainingPrompts(
                source, writer, parts.work.row_id, retry_failed=retry_failed
            )
            job = Job(session, parts, writer, remaining, budget=budget, on_progress=on_progress)
            if spread is not None:
                job.spread = partial(spread, settings, writer=writer, address=address)
            await job.run()
    return open_run(settings.out)


def _check_executor(executor: str, address: str | None) -> str:
    if executor not in get_args(Executor):
        raise ConfigError(f"executor {executor!r}: unknown{nearest(executor, get_args(Executor))}")
    if executor == "local" and address is not None:
        raise ConfigError("an address has no use without the ray executor")
    return executor


def _import_ray() -> Callable[..., Coroutine[Any, Any, None]]:
    # Ray reads this when it is imported. Else what Ray Data still has at work when Ray is shut
    # down, as a worker did not answer in time, starts a new Ray, and that may end the process.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        from rlaif.pipeline.ray.executor import run_on_ray
    except ModuleNotFoundError as problem:
        raise EngineMissing(
            f"the ray executor needs {problem.name}, which is not installed",
            hint="pip install 'constitutional-rlaif[ray]'",
        ) from None
    return run_on_ray
