"""From what a training file says about rewards to a scorer."""

from collections.abc import Callable, Sequence

from rlaif.config.judged import JudgedConfig
from rlaif.config.ppo import LengthPenaltyConfig, RewardPartConfig
from rlaif.constitution.load import load_constitution
from rlaif.errors import InputError
from rlaif.training.scorers import Scorer, length_penalised, mixture, rule_scorer

OpenJudged = Callable[[JudgedConfig], Scorer]


def build_scorer(
    reward: RewardPartConfig | Sequence[RewardPartConfig],
    length_penalty: LengthPenaltyConfig | None = None,
    *,
    judged: OpenJudged | None = None,
) -> Scorer:
    """Return one scorer for all parts, their weighted scores added up.

    Args:
        reward: The parts.
        length_penalty: Taken off the sum.
        judged: Opens judges; they live on a lower floor that training does not look into.

    Raises:
        InputError: No parts, a constitution without rules, a reward model that cannot be used, or
            judges and nothing to open them with.
    """
    parts = [reward] if isinstance(reward, RewardPartConfig) else list(reward)
    if not parts:
        raise InputError("reward: there is nothing to score with")
    if len(parts) == 1 and parts[0].weight == 1.0:
        scorer = _build_part(parts[0], judged)
    else:
        scorer = mixture([(_build_part(part, judged), part.weight) for part in parts])
    if length_penalty is None:
        return scorer
    return length_penalised(
        scorer, per_word=length_penalty.per_word, free_words=length_penalty.free_words
    )


def _build_part(part: RewardPartConfig, judged: OpenJudged | None) -> Scorer:
    if part.judged is not None:
        if judged is None:
            raise InputError("reward: judged: judges cannot be opened here")
        return judged(part.judged)
    if part.reward_model is not None:
        from rlaif.training.reward_model_scorer import reward_model_scorer

        return reward_model_scorer(part.reward_model, chat_template=part.chat_template)
    assert part.rules is not None
    constitution = load_constitution(part.rules)
    if not any(principle.weight > 0 for principle in constitution.rules()):
        raise InputError(
            f"{part.rules}: no principle of this constitution is a rule, so nothing is scored",
            hint="add principles with kind: rule, or score with a reward_model",
        )
    return rule_scorer(constitution.rules())
