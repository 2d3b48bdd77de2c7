"""The scorer of a file with everything behind it, opened and closed together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rlaif.config.judge import JudgeConfig
from rlaif.config.reward import JudgedConfig, LengthPenaltyConfig, RewardPartConfig
from rlaif.constitution import load_constitution
from rlaif.engines.open import answering_options
from rlaif.errors import InputError
from rlaif.models import resolve_model
from rlaif.records import content_id
from rlaif.serving.judged import JudgedScorer, open_judged
from rlaif.templates import TemplateSet
from rlaif.training.models import identify_model
from rlaif.training.reward_model_scorer import reward_model_scorer
from rlaif.training.scorers import (
    Scorer,
    file_content,
    finish,
    identified,
    length_penalised,
    mixture,
    rule_scorer,
)


@dataclass(frozen=True, slots=True)
class OpenedScorer:
    """A scorer, and the panels of judges among its parts."""

    scorer: Scorer
    panels: list[JudgedScorer] = field(default_factory=list)


@contextmanager
def opened_scorer(
    reward: RewardPartConfig | Sequence[RewardPartConfig],
    length_penalty: LengthPenaltyConfig | None = None,
    *,
    rank: int = 0,
    give_up: bool = True,
    ask_first: bool = False,
) -> Iterator[OpenedScorer]:
    """Open rules, reward models and judges; afterwards every ledger is written and closed.

    The scorer adds up the weighted scores of all parts and takes the length penalty off. Its
    identity names both by content: rules, reward models, and what judges are asked.

    Args:
        reward: The parts.
        length_penalty: Taken off the sum.
        rank: Of this process among several that train together; each keeps a ledger.
        give_up: Whether judges whose first calls all fail end the work, as their ``give_up_after``
            says. A server answers every request by itself.
        ask_first: Whether the servers of judges are asked before anything is written.

    Raises:
        InputError: No parts, or one that cannot be used.
        EngineMissing: A model, extra, key or capability is missing.
    """
    panels: list[JudgedScorer] = []
    try:
        open_panel = partial(open_judged, rank=rank, give_up=give_up, ask_first=ask_first)
        scorer = _build(reward, length_penalty, panels, open_panel)
        yield OpenedScorer(scorer, panels)
    finally:
        for panel in panels:
            finish(panel.aclose())


def _build(
    reward: RewardPartConfig | Sequence[RewardPartConfig],
    length_penalty: LengthPenaltyConfig | None,
    panels: list[JudgedScorer],
    open_panel: Callable[[JudgedConfig], JudgedScorer],
) -> Scorer:
    parts = [reward] if isinstance(reward, RewardPartConfig) else list(reward)
    if not parts:
        raise InputError("reward: no scorer is named")
    scorers = [_open(part, panels, open_panel) for part in parts]
    if len(parts) == 1 and parts[0].weight == 1.0:
        scorer = scorers[0]
    else:
        weights = [part.weight for part in parts]
        scorer = mixture(list(zip(scorers, weights, strict=True)))
    if length_penalty is not None:
        scorer = length_penalised(
            scorer, per_word=length_penalty.per_word, free_words=length_penalty.free_words
        )
    pairs = zip(scorers, parts, strict=True)
    identity = {
        "reward": [{**vars(one)["identity"], "weight": part.weight} for one, part in pairs],
        "length_penalty": None if length_penalty is None else length_penalty.content(),
    }
    return identified(scorer, identity)


def _open(
    part: RewardPartConfig,
    panels: list[JudgedScorer],
    open_panel: Callable[[JudgedConfig], JudgedScorer],
) -> Scorer:
    """Open one part; its identity says what decides its scores."""
    if part.judged is not None:
        panel = open_panel(part.judged)
        panels.append(panel)
        return identified(panel, {"judged": _judged(part.judged)})
    if part.reward_model is not None:
        return reward_model_scorer(part.reward_model, chat_template=part.chat_template)
    assert part.rules is not None
    constitution = load_constitution(part.rules)
    if not any(principle.weight > 0 for principle in constitution.rules()):
        raise InputError(
            f"{part.rules}: no principle of this constitution is a rule, so nothing is scored",
            hint="add principles with kind: rule, or score with a reward_model",
        )
    return identified(rule_scorer(constitution.rules()), {"rules": constitution.label})


def _judged(config: JudgedConfig) -> dict[str, Any]:
    """What a panel is asked, and of whom; not how fast, nor at which address."""
    said = config.content()
    words = TemplateSet.open(config.templates).fingerprints()
    judging = {name: text for name, text in words.items() if name.startswith("judge/")}
    return {
        **said,
        "judges": [_judge(judge) for judge in config.judges],
        "constitution": load_constitution(config.constitution).label,
        "templates": content_id("templates", judging),
    }


def _judge(judge: JudgeConfig) -> dict[str, Any]:
    assert judge.engine is not None  # a reward has no student
    local = judge.engine != "openai" and Path(resolve_model(judge.model)).is_dir()
    options = answering_options(judge.engine, judge.options)
    if "chat_template" in options:
        options["chat_template"] = file_content(str(options["chat_template"]))
    return {
        "engine": judge.engine,
        "model": identify_model(judge.model) if local else judge.model,
        "revision": judge.revision,
        "options": options,
        **judge.plan(),
    }
