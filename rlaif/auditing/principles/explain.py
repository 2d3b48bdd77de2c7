"""Explain: which principle decided how much of a run, which never mattered, which contradict.

All from stored verdicts, without a model call. A preference is the weighted mean of opinions, so an
opinion contributes its share of the weight times its distance from ½; contributions add up to the
preference's distance from ½. What a principle did is the sum over its opinions. (Opinions of a
rubric are pooled in log-odds first; there contributions are shares of the direction, not an exact
sum.) Whether a principle mattered is found by combining a judgment again without its verdicts.
Opinions and preferences are taken before transforms.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from rlaif.auditing.gold import side
from rlaif.config.judge import JudgeConfig, Relevance
from rlaif.constitution import Constitution, constitution_from_mapping
from rlaif.evaluation.intervals import wilson
from rlaif.judging import (
    RULES_JUDGE,
    aggregate_verdicts,
    opinion_sources,
    read_opinions,
    weigh_principles,
)
from rlaif.judging.aggregate import Source
from rlaif.judging.reading import IRRELEVANT_REASON
from rlaif.pipeline.build import run_settings
from rlaif.records import Comparison, Judgment, Row, Verdict
from rlaif.records.plain import plain_fields
from rlaif.runs import Run, open_run


@dataclass(frozen=True, slots=True)
class OpinionWeights:
    """The weight of each opinion in a run, from its constitution and its judges."""

    constitution: Constitution
    judge_weights: Mapping[str, float]
    summed: frozenset[str] = frozenset()
    """Judges whose propositions are summed, not averaged."""

    @classmethod
    def build(cls, constitution: Constitution, judges: Sequence[JudgeConfig]) -> "OpinionWeights":
        """Take the weights of judges from their settings."""
        summed = frozenset(
            one.name for one in judges if one.method == "rubric" and one.rubric.combine == "sum"
        )
        return cls(constitution, {judge.name: judge.weight for judge in judges}, summed)

    def of(
        self,
        verdicts: Sequence[Verdict],
        prompt_tags: tuple[str, ...],
        *,
        without: Collection[str] = (),
    ) -> dict[Source, float]:
        """Return the weight of every opinion in these verdicts, as when they were combined.

        Args:
            verdicts: All of one judgment.
            prompt_tags: Of its prompt.
            without: Ids of principles that were found not to apply to the prompt.
        """
        known = {principle.id: principle for principle in self.constitution.principles}
        judged = [v for v in verdicts if v.judge != RULES_JUDGE]
        spoken = dict.fromkeys(v.principle for v in judged)
        drawn = [known[name] for name in spoken if name in known]
        candidates = [
            p for p in self.constitution.judged() if p.applies(prompt_tags) and p.id not in without
        ]
        weights = {
            (RULES_JUDGE, rule.id): rule.weight
            for rule in self.constitution.rules()
            if rule.applies(prompt_tags)
        }
        speaking = opinion_sources(judged)
        for judge in dict.fromkeys(verdict.judge for verdict in judged):
            loud = {name for who, name in speaking if who == judge}
            own = weigh_principles(drawn, candidates, loud)
            together = sum(own.values()) or 1.0  # of a judge that reads no principles
            for verdict in judged:
                if verdict.judge == judge:
                    weight = self.judge_weights.get(judge, 1.0) * own.get(
                        verdict.principle, together
                    )
                    weights[(judge, verdict.principle)] = weight
        return weights


def weights_of(run: Run) -> OpinionWeights:
    """Return the weights of a run, from its manifest.

    Raises:
        ConfigError: Its settings were written by another version and can no longer be read.
    """
    constitution = constitution_from_mapping(run.manifest.constitution)
    return OpinionWeights.build(constitution, run_settings(run).judges)


def contributions(judgment: Judgment, weights: Mapping[Source, float]) -> dict[str, float]:
    """Return for each principle what it added to the preference's distance from ½, in [−½, ½]."""
    opinions = read_opinions(judgment.verdicts)
    total = sum(weights.get((one.judge, one.principle), 1.0) for one in opinions)
    parts: dict[str, float] = {}
    if total <= 0.0:
        return parts
    for one in opinions:
        share = weights.get((one.judge, one.principle), 1.0) / total
        parts[one.principle] = parts.get(one.principle, 0.0) + share * (one.probability - 0.5)
    return parts


def leave_one_out(
    comparison: Comparison,
    judgment: Judgment,
    principle: str,
    weights: Mapping[Source, float],
    summed: Collection[str] = (),
) -> float | None:
    """Return the raw preference without this principle; None if no other contributed."""
    others = [verdict for verdict in judgment.verdicts if verdict.principle != principle]
    return aggregate_verdicts(comparison, others, weights=weights, summed=summed).raw_preference


def deciding_principle(parts: Mapping[str, float], direction: int) -> str | None:
    """Return the principle that pulled hardest in a direction; None if none pulled that way.

    Equal pulls go to the id that comes first, so that counts do not depend on any order.
    """
    pulls = {name: direction * part for name, part in parts.items() if direction * part > 0.0}
    return min(pulls, key=lambda name: (-pulls[name], name)) if pulls else None


@dataclass(slots=True)
class Influence:
    """What one principle did in a run. Counts of judgments, unless said otherwise."""

    asked: int = 0
    """In which it had an opinion."""

    decided: int = 0
    """In which it pulled hardest towards the preference."""

    pairs: int = 0
    """Preference pairs, of those it decided."""

    flips: int = 0
    """In which the other side would be preferred without it."""

    only: int = 0
    """In which there would be no preference without it: no other principle spoke."""

    ties: int = 0
    """In which its opinion was exactly ½."""

    relevant: int = 0
    """Where it was asked whether the principle has a bearing on the prompt: with ``relevance:
    model`` prompts (also those of which the reply could not be read: it may be drawn there), with
    ``label`` verdicts that say that it has."""

    irrelevant: int = 0
    """Of the same, that it has not."""

    @property
    def mattered(self) -> bool:
        """Whether any label would be another, or missing, without it."""
        return self.flips + self.only > 0


@dataclass(slots=True)
class Contradiction:
    """Two principles with opinions on the same comparisons."""

    both: int = 0
    """Comparisons on which neither was exactly even."""

    opposed: int = 0
    """Of those: on which they preferred different responses."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and their share with its Wilson interval."""
        low, high = wilson(self.opposed, self.both)
        share = self.opposed / self.both
        return {
            "both": self.both,
            "opposed": self.opposed,
            "share": share,
            "low": low,
            "high": high,
        }


@dataclass(slots=True)
class Explanation:
    """What the principles of a run did."""

    judgments: int = 0
    undecided: int = 0
    """Without preference, or exactly even: nothing decided them."""

    pairs: int = 0
    principles: dict[str, Influence] = field(default_factory=dict)
    contradictions: dict[tuple[str, str], Contradiction] = field(default_factory=dict)

    def never_mattered(self) -> list[str]:
        """Principles without which every label would be on the same side."""
        return [name for name, influence in self.principles.items() if not influence.mattered]

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and which principles never mattered."""
        return {
            "judgments": self.judgments,
            "undecided": self.undecided,
            "pairs": self.pairs,
            "principles": {name: plain_fields(one) for name, one in self.principles.items()},
            "never_mattered": self.never_mattered(),
            "contradictions": [
                {"principles": list(names), **counts.to_json()}
                for names, counts in self.contradictions.items()
                if counts.both
            ],
        }


def explain_run(run: str | Path | Run) -> Explanation:
    """Count what each principle decided in a run, which never mattered, which contradict.

    Args:
        run: The run, or its directory; it is only read.

    Raises:
        InputError: The run was not found.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    relevance = run_settings(opened).judging.relevance
    return explain_rows(opened.rows(), weights_of(opened), relevance=relevance)


def explain_rows(
    rows: Iterable[Row], weights: OpinionWeights, *, relevance: Relevance = "off"
) -> Explanation:
    """Count what principles did, row by row; memory grows with the principles only.

    Args:
        rows: Of a run.
        weights: Of its opinions.
        relevance: As in the run's settings.
    """
    explanation = Explanation(
        principles={principle.id: Influence() for principle in weights.constitution.principles}
    )
    for row in rows:
        pairs = Counter(frozenset((pair.chosen_id, pair.rejected_id)) for pair in row.pairs)
        explanation.pairs += len(row.pairs)
        left_out = {d.ids[0] for d in row.drops if d.reason == IRRELEVANT_REASON}
        if relevance != "off":
            _count_relevance(explanation, row, weights.constitution, relevance, left_out)
        for judgment in row.judgments:
            own = weights.of(judgment.verdicts, row.prompt.tags, without=left_out)
            first, second = row.response(judgment.first_id), row.response(judgment.second_id)
            behind = pairs[frozenset((judgment.first_id, judgment.second_id))]
            compared = Comparison(first, second)
            _count(explanation, compared, judgment, own, behind, weights.summed)
    return explanation


def _count_relevance(
    explanation: Explanation,
    row: Row,
    constitution: Constitution,
    relevance: Relevance,
    left_out: Collection[str],
) -> None:
    if relevance == "model":
        if not row.judgments:
            return  # nothing was asked
        said = [
            (one.id, one.id not in left_out)
            for one in constitution.judged()
            if one.weight > 0.0 and one.applies(row.prompt.tags)
        ]
    else:
        said = [
            (verdict.principle, verdict.reason != IRRELEVANT_REASON)
            for judgment in row.judgments
            for verdict in judgment.verdicts
            if verdict.judge != RULES_JUDGE
            and (not verdict.reason or verdict.reason == IRRELEVANT_REASON)
        ]
    for name, applies in said:
        influence = explanation.principles.setdefault(name, Influence())
        influence.relevant += applies
        influence.irrelevant += not applies


def _count(
    explanation: Explanation,
    comparison: Comparison,
    judgment: Judgment,
    weights: Mapping[tuple[str, str], float],
    pairs: int,
    summed: Collection[str],
) -> None:
    explanation.judgments += 1
    parts = contributions(judgment, weights)
    sides = {name: side(0.5 + part) or 0 for name, part in parts.items()}
    for name, one in sides.items():
        influence = explanation.principles.setdefault(name, Influence())
        influence.asked += 1
        influence.ties += one == 0
    for couple in combinations(sorted(sides), 2):
        here, there = (sides[name] for name in couple)
        if here and there:
            contradiction = explanation.contradictions.setdefault(couple, Contradiction())
            contradiction.both += 1
            contradiction.opposed += here != there
    direction = side(judgment.raw_preference)
    if not direction:
        explanation.undecided += 1
        return
    decider = deciding_principle(parts, direction)
    if decider is not None:
        explanation.principles[decider].decided += 1
        explanation.principles[decider].pairs += pairs
    for name in parts:
        left = side(leave_one_out(comparison, judgment, name, weights, summed))
        explanation.principles[name].only += left is None
        explanation.principles[name].flips += left is not None and left != direction
