"""Check a file before it is carried out: every server is tried, and calls and time are estimated.

Nothing is written, and what is asked is what the command itself would ask first
(`rlaif.sessions.preflight`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaif.auditing.measuring import build_judges
from rlaif.auditing.question import build_question
from rlaif.config import RunConfig, load_config
from rlaif.config.evaluate import AuditConfig, EvaluateConfig, LoopConfig
from rlaif.config.load import Settings
from rlaif.config.online import GrpoConfig, OnlineConfig, RlooConfig
from rlaif.config.ppo import PpoConfig
from rlaif.config.reward import RewardPartConfig, ServeRewardConfig
from rlaif.config.train import DpoConfig, RewardConfig, SftConfig
from rlaif.config.yaml import load_yaml
from rlaif.errors import ConfigError
from rlaif.evaluation.evaluate import build_parts as build_evaluation, estimate_evaluation
from rlaif.pipeline.build import build_parts as build_run
from rlaif.pipeline.estimate import Estimate, estimate_run
from rlaif.records.plain import Plain
from rlaif.serving.judged import build_panel
from rlaif.sessions.concurrent import run_sync
from rlaif.sessions.preflight import raise_problems
from rlaif.sessions.role_checks import RoleCheck
from rlaif.sessions.session import Session

IN_FLIGHT = 20
"""Calls at once that minutes are estimated for: what a server is given at first."""


@dataclass(frozen=True, slots=True)
class Checked(Plain):
    """What a file asks of models, and whether they can."""

    kind: str
    """``run``, ``audit``, ``evaluation``, ``loop``, ``training`` or ``reward server``."""

    roles: tuple[RoleCheck, ...] = ()
    """One for each engine, with the roles it plays."""

    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """By what is estimated; empty where it depends on what is not in the file."""

    minutes: float | None = None
    """At most, as replies are taken to be as long as they may be, with `IN_FLIGHT` calls at once;
    None where an engine was not timed."""

    _derived = ("ok",)

    @property
    def ok(self) -> bool:
        """Whether every role can work."""
        return all(one.ok for one in self.roles)

    def raise_problems(self) -> None:
        """Raise what keeps roles from working, as the command itself would.

        Raises:
            EngineError: One or more cannot.
        """
        raise_problems(self.roles)


def check(
    config: str | Path | Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None
) -> Checked:
    """Try the servers that a file names with tiny calls, and estimate what it will take.

    Works in scripts and in notebooks (where an event loop is already running). Nothing is written;
    the tiny calls are in no ledger.

    Args:
        config: A file of any kind that rlaif reads (run, audit, evaluation, loop, training, reward
            server), or the same as a mapping.
        overrides: Dotted keys to values, such as ``{"judges.0.model": "other"}``.

    Returns:
        What was found out. A server that cannot be used is a role with a problem, not an exception.

    Raises:
        InputError: The file, or something it names, cannot be used.
        EngineMissing: A model in this process, an extra, a key or a capability is missing.
        GateRefused: As for the command itself.
    """
    return run_sync(lambda: acheck(config, overrides=overrides))


async def acheck(
    config: str | Path | Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None
) -> Checked:
    """The same as `check`, to be awaited."""
    settings = _load(config, overrides)
    match settings:
        case RunConfig():
            return _timed("run", *await _check_run(settings))
        case EvaluateConfig():
            return _timed("evaluation", *await _check_evaluation(settings))
        case AuditConfig():
            return Checked("audit", await _check_audit(settings))
        case LoopConfig():
            return await _check_loop(settings)
        case ServeRewardConfig():
            return Checked("reward server", await _check_reward(settings.reward))
        case OnlineConfig():
            return Checked("training", await _check_reward(settings.reward))
        case _:
            return Checked("training")


def _load(config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None) -> Settings:
    """Read a file as what its keys say it is."""
    read = config if isinstance(config, Mapping) else load_yaml(Path(config), ConfigError).data
    keys = set(read) if isinstance(read, Mapping) else set()
    keys |= {key.partition(".")[0] for key in overrides or {}}
    kinds: tuple[type[Settings], ...]
    if "student" in keys:
        kinds = (RunConfig,)
    elif "models" in keys:
        kinds = (EvaluateConfig,)
    elif {"run", "train"} & keys:
        kinds = (LoopConfig,)
    elif "reward" in keys:
        kinds = (PpoConfig, RlooConfig, GrpoConfig) if "model" in keys else (ServeRewardConfig,)
    elif "judges" in keys:
        kinds = (AuditConfig,)
    elif "data" in keys:
        kinds = (DpoConfig, SftConfig, RewardConfig)
    else:
        raise ConfigError(
            f"{'<config>' if isinstance(config, Mapping) else config}: not a file of any kind that "
            "can be checked",
            hint="a run names a student, an evaluation models, an audit judges, a loop run and "
            "train, a training data or reward",
        )
    problems: list[ConfigError] = []
    for kind in kinds:
        try:
            return load_config(kind, config, overrides)
        except ConfigError as problem:
            problems.append(problem)
    # The kind that has the least to say against the file is what it was meant to be.
    raise min(problems, key=lambda one: one.message.count("\n"))


_Part = tuple[tuple[RoleCheck, ...], Estimate]


async def _check_run(settings: RunConfig) -> _Part:
    async with Session(settings.templates) as session:
        parts = build_run(session, settings)
        roles = await session.preflight.check()
        return roles, await estimate_run(session, parts)


async def _check_evaluation(settings: EvaluateConfig) -> _Part:
    async with Session(settings.templates) as session:
        parts = build_evaluation(session, settings)
        roles = await session.preflight.check()
        return roles, await estimate_evaluation(session, parts)


async def _check_audit(settings: AuditConfig) -> tuple[RoleCheck, ...]:
    question = build_question(
        constitution=settings.constitution,
        principle=settings.principle,
        how_many=settings.principles.how_many,
        seed=settings.seed,
    )
    async with Session(settings.templates) as session:
        build_judges(
            session, settings.judges, question, orders=settings.orders, min_mass=settings.min_mass
        )
        return await session.preflight.check()


async def _check_reward(
    reward: RewardPartConfig | Sequence[RewardPartConfig] | None,
) -> tuple[RoleCheck, ...]:
    parts = [reward] if isinstance(reward, RewardPartConfig) else reward or []
    roles: list[RoleCheck] = []
    for judged in (part.judged for part in parts if part.judged is not None):
        async with Session(judged.templates) as session:
            build_panel(session, judged)
            roles += await session.preflight.check()
    return tuple(roles)


async def _check_loop(settings: LoopConfig) -> Checked:
    run = load_config(RunConfig, settings.run)
    load_config(DpoConfig, settings.train, {"data": "x", "out": "x", "model": "x"})
    model = {"engine": run.student.engine, "model": run.student.model}
    models = [{"name": name, **model} for name in ("parent", "round")]
    evaluation = load_config(
        EvaluateConfig, settings.evaluate, {"models": models, "baseline": "parent"}
    )
    made, measured = await _check_run(run), await _check_evaluation(evaluation)
    return Checked(
        "loop",
        (*made[0], *measured[0]),
        {"run of each round": made[1], "evaluation of each round": measured[1]},
    )


def _timed(kind: str, roles: tuple[RoleCheck, ...], estimate: Estimate) -> Checked:
    return Checked(kind, roles, {kind: estimate}, _minutes(roles, estimate))


def _minutes(roles: Sequence[RoleCheck], estimate: Estimate) -> float | None:
    """Return how long the slowest engine takes; engines work side by side.

    A reply takes as long as that of the tiny call, times how much longer it may be.
    """
    by_account = {one.account: one for one in roles}
    seconds: dict[str, float] = {}
    for stage in estimate.stages:
        role = by_account.get(stage.engine)
        timed = [one for one in role.calls if one.ok] if role else []
        if not timed or not stage.calls:
            return None
        length = stage.completion_tokens / stage.calls
        # The tiny call that is most like it, by the length of its replies.
        like = min(timed, key=lambda one: abs(one.completion_tokens / one.replies - length))
        longer = max(1.0, length * like.replies / max(like.completion_tokens, 1))
        took = stage.calls / like.replies * like.seconds * longer
        seconds[stage.engine] = seconds.get(stage.engine, 0.0) + took
    return max(seconds.values(), default=0.0) / IN_FLIGHT / 60.0
