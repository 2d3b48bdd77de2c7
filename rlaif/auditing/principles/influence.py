"""Influence: what each principle contributed to a judgment, from its stored verdicts.

A preference is the weighted mean of opinions, so an opinion contributes its share of the weight
times its distance from ½; contributions add up to the preference's distance from ½. What a
principle did is the sum over its opinions. (Opinions of a rubric are pooled in log-odds first;
there contributions are shares of the direction, not an exact sum.) Opinions are taken before
transforms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.config.judge import JudgeConfig
from rlaif.constitution import Constitution, constitution_from_mapping
from rlaif.judging import (
    RULES_JUDGE,
    aggregate_verdicts,
    read_opinions,
    weigh_principles,
)
from rlaif.judging.aggregate import Source
from rlaif.pipeline.build import run_settings
from rlaif.records import Comparison, Judgment, Verdict
from rlaif.runs import Run

EVEN = 1e-9  # preferences closer to ½ than this differ from it by rounding alone


@dataclass(frozen=True, slots=True)
class OpinionWeights:
    """The weight of each opinion in a run, from its constitution and its judges."""

    constitution: Constitution
    judge_weights: Mapping[str, float]

    @classmethod
    def build(cls, constitution: Constitution, judges: Sequence[JudgeConfig]) -> "OpinionWeights":
        """Take the weights of judges from their settings."""
        return cls(constitution, {judge.name: judge.weight for judge in judges})

    def of(self, verdicts: Sequence[Verdict], prompt_tags: tuple[str, ...]) -> dict[Source, float]:
        """The weight of every opinion that the verdicts can hold, as when they were combined."""
        known = {principle.id: principle for principle in self.constitution.principles}
        asked = [v for v in verdicts if v.judge != RULES_JUDGE]
        spoken = dict.fromkeys(v.principle for v in asked)
        drawn = [known[name] for name in spoken if name in known]
        candidates = [p for p in self.constitution.judged() if p.applies(prompt_tags)]
        own = weigh_principles(drawn, candidates)
        weights = {
            (RULES_JUDGE, rule.id): rule.weight
            for rule in self.constitution.rules()
            if rule.applies(prompt_tags)
        }
        for verdict in asked:
            weight = self.judge_weights.get(verdict.judge, 1.0)
            weights[(verdict.judge, verdict.principle)] = weight * own.get(verdict.principle, 1.0)
        return weights


def weights_of(run: Run) -> OpinionWeights:
    """The weights of a run, from its manifest.

    Raises:
        ConfigError: Its settings were written by another version and can no longer be read.
    """
    constitution = constitution_from_mapping(run.manifest.constitution)
    return OpinionWeights.build(constitution, run_settings(run).judges)


def contributions(judgment: Judgment, weights: Mapping[Source, float]) -> dict[str, float]:
    """Principle to what it added to the preference's distance from ½, in [−½, ½]."""
    opinions = read_opinions(judgment.verdicts)
    total = sum(weights.get((one.judge, one.principle), 1.0) for one in opinions)
    found: dict[str, float] = {}
    if total <= 0.0:
        return found
    for one in opinions:
        share = weights.get((one.judge, one.principle), 1.0) / total
        found[one.principle] = found.get(one.principle, 0.0) + share * (one.probability - 0.5)
    return found


def leave_one_out(
    comparison: Comparison, judgment: Judgment, principle: str, weights: Mapping[Source, float]
) -> float | None:
    """Raw preference recomputed without this principle; None if no other contributed."""
    others = [verdict for verdict in judgment.verdicts if verdict.principle != principle]
    return aggregate_verdicts(comparison, others, weights=weights).raw_preference


def side(preference: float | None) -> int | None:
    """1 for the first response, −1 for the second, 0 for a tie, None for no preference."""
    if preference is None:
        return None
    if abs(preference - 0.5) < EVEN:
        return 0
    return 1 if preference > 0.5 else -1


def deciding_principle(parts: Mapping[str, float], direction: int) -> str | None:
    """The principle that pulled hardest in a direction; None where none pulled that way.

    Equal pulls go to the id that comes first, so that counts do not depend on any order.
    """
    pulls = {name: direction * part for name, part in parts.items() if direction * part > 0.0}
    return min(pulls, key=lambda name: (-pulls[name], name)) if pulls else None
