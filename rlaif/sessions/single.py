"""One comparison before one judge: the smallest thing that asks a model for a preference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.config import load_config
from rlaif.config.judge import MIN_MASS, JudgeConfig
from rlaif.constitution import Principle
from rlaif.errors import ConfigError
from rlaif.judging import Orders, judge_comparison
from rlaif.records import Comparison, Judgment, Prompt, Response
from rlaif.sessions.concurrent import run_sync
from rlaif.sessions.engines import SAME_AS_STUDENT
from rlaif.sessions.session import Session


def judge(
    prompt: str | Sequence[Mapping[str, Any]],
    first: str,
    second: str,
    principle: str | Principle,
    *,
    judge: JudgeConfig | Mapping[str, Any] | str | Path,
    orders: Orders = "both",
    out: str | Path | None = None,
) -> Judgment:
    """Let a judge compare two responses under one principle.

    Works in scripts and in notebooks (where an event loop is already running).

    Args:
        prompt: What the responses answer: a text, or a conversation that ends with a user turn.
        first: A response.
        second: Another one.
        principle: The statement of a principle, or a judged principle of a constitution.
        judge: What a run file says of one judge: a mapping such as ``{"engine": "openai", "model":
            "…"}``, a YAML file of it, or a `rlaif.config.judge.JudgeConfig`.
        orders: Both orders, or one drawn by content.
        out: A folder whose ledger keeps the replies, so that asking again costs nothing; by
            default none are kept.

    Returns:
        The judgment: its ``preference`` is P(``first`` is better), None when the judge abstained.

    Raises:
        InputError: The judge, the prompt or the principle cannot be used.
        EngineMissing: A model, extra, key or capability is missing.
        EngineUnavailable: The model or server is down.
    """
    return run_sync(
        lambda: ajudge(
            prompt,
            first,
            second,
            principle,
            judge=judge,
            orders=orders,
            out=out,
        )
    )


async def ajudge(
    prompt: str | Sequence[Mapping[str, Any]],
    first: str,
    second: str,
    principle: str | Principle,
    *,
    judge: JudgeConfig | Mapping[str, Any] | str | Path,
    orders: Orders = "both",
    out: str | Path | None = None,
) -> Judgment:
    """The same as `judge`, to be awaited."""
    config = judge if isinstance(judge, JudgeConfig) else load_config(JudgeConfig, judge)
    if config.engine is None:
        raise ConfigError(
            f"judge: {SAME_AS_STUDENT} needs a run with a student",
            hint="give the judge an engine and a model",
        )
    if isinstance(principle, str):
        principle = Principle(id="given", statement=principle)
    if principle.kind == "rule":
        raise ConfigError(
            f"principle {principle.id!r} is a rule, which needs no judge",
            hint="use rlaif.constitution.check_rule",
        )
    asked = _prompt(prompt)
    comparison = Comparison(
        Response.build(asked.id, first, index=0), Response.build(asked.id, second, index=1)
    )
    async with Session() as session:
        (opened,) = session.judges(
            [config], asked=1, orders=orders, min_mass=MIN_MASS, principles=[principle.id]
        )
        if out is None:
            session.connect(lambda _, engine: engine)
        else:
            session.open(Path(out))
        judgment = await judge_comparison(
            asked,
            comparison,
            judges=[opened.weighted],
            drawn=[principle],
            candidates=[principle],
        )
        session.settle()
        return judgment


def _prompt(prompt: str | Sequence[Mapping[str, Any]]) -> Prompt:
    try:
        return Prompt.build(prompt)
    except ValueError as problem:
        raise ConfigError(f"prompt: {problem}") from None
