"""The plan of an evaluation: what is asked of every model alike, and its fingerprint."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from rlaif.constitution import Constitution
from rlaif.engines import Engine, Sampling
from rlaif.evaluation.differences import Correction
from rlaif.evaluation.judged import Panel
from rlaif.evaluation.judged_refusals import RefusalJudge
from rlaif.evaluation.scorecard import SCHEMA
from rlaif.records import Prompt, canonical_json, content_id

DEFINITIONS = 2
"""Number of the measures' definitions; raised when one changes, so that old numbers are not
taken for new ones."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of every model alike."""

    constitution: Constitution
    baseline: str
    """The model that all others are compared with."""

    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    """Responses per prompt."""

    seed: int = 0
    system: str = ""
    likelihood_under: str | None = None
    """The model whose probabilities measure how natural the responses are; None leaves it out."""

    panel: Panel | None = None
    """Judges of the principles that are not rules; None leaves them out."""

    refusal_judge: RefusalJudge | None = None
    """Says of every response whether it refuses; None leaves that to the phrases."""

    all_pairs: bool = False
    """Whether judges compare all models with each other, and not only with the baseline."""

    correction: Correction = "holm"
    """How the p of all differences are adjusted for their number."""

    concurrency: int = 64
    """Prompts in flight at once; changes no number."""

    def fingerprint(self, prompts: Sequence[Prompt], models: Mapping[str, Engine]) -> str:
        """Return the hash of everything that can change a number of the scorecard."""
        return content_id(
            "evaluation",
            SCHEMA,
            DEFINITIONS,
            [principle.model_dump(mode="json") for principle in self.constitution.principles],
            self.baseline,
            self.draws(),
            self.likelihood_under,
            None if self.panel is None else [self.panel.principles, dict(self.panel.identity)],
            {name: dict(engine.identity) for name, engine in models.items()},
            [[prompt.id, prompt.messages, prompt.tags] for prompt in prompts],
            *self._further(),
        )

    def _further(self) -> Iterator[list[Any]]:
        """Settings that older scorecards do not have: they count only where they are used."""
        if self.refusal_judge is not None:
            yield ["refusals", dict(self.refusal_judge.identity)]
        if self.all_pairs:
            yield ["compare", "all"]
        if self.correction != "holm":
            yield ["correction", self.correction]

    def draws(self) -> dict[str, Any]:
        """How responses are drawn, JSON-compatible."""
        draws = {"n": self.n, "seed": self.seed, "system": self.system, **asdict(self.sampling)}
        # As it reads when it comes back from a file: lists for tuples.
        plain: dict[str, Any] = orjson.loads(canonical_json(draws))
        return plain
