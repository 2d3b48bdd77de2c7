"""Relevance: which principles a prompt gives something to judge by, asked before any is drawn.

Most principles have nothing to say about most prompts: "Which response lectures less?" has no
answer where neither does, and a judge that must reply gives noise. So one question per prompt and
principle, whose reply the ledger keeps, and principles are drawn among those that apply:

    P(applies) = P(Yes) / (P(Yes) + P(No)),      applies where it is at least ½

What cannot be read says nothing, and the principle stays among those that may be drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.constitution import Principle
from rlaif.engines import Engine, Label, Reply
from rlaif.engines.ask import ask_all
from rlaif.errors import CallFailed
from rlaif.judging.methods.flow import label_request, needs_of
from rlaif.judging.protocol import check_needs
from rlaif.judging.reading import IRRELEVANT_REASON, read_labels
from rlaif.records import Drop, Failure, Message, Prompt
from rlaif.records.tool_use import spoken
from rlaif.templates import Template, TemplateSet

TEMPLATE = "judge/relevance"
LABELS = ("Yes", "No")


@dataclass(frozen=True, slots=True)
class Relevant:
    """What was found for one prompt."""

    principles: tuple[Principle, ...]
    """Those that apply, in their order."""

    dropped: tuple[Drop, ...] = ()
    failures: tuple[Failure, ...] = ()
    """Calls that failed for good; their principles stay."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """Asks a model which principles apply. Build with `Relevance.build`."""

    name: str
    """Of the judge whose model is asked."""

    engine: Engine
    template: Template
    min_mass: float

    @classmethod
    def build(
        cls, *, name: str, engine: Engine, templates: TemplateSet, min_mass: float
    ) -> "Relevance":
        """Check that the model can be asked.

        Raises:
            EngineMissing: It gives no probabilities of labels.
            TemplateError: The template cannot be used.
        """
        example: Sequence[Message] = ({"role": "user", "content": ""},)
        request = label_request(example, LABELS)
        check_needs(needs_of([request]), engine, who=f"relevance: model (judge {name!r})")
        return cls(name, engine, templates.get(TEMPLATE), min_mass)

    def messages(self, prompt: Prompt, principle: Principle) -> tuple[Message, ...]:
        """Return what the model is shown."""
        return self.template.render(
            statement=principle.statement,
            question=principle.comparison,
            conversation=spoken(prompt.messages),
        )

    async def choose(self, prompt: Prompt, principles: Sequence[Principle]) -> Relevant:
        """Return the principles that apply to a prompt.

        Args:
            prompt: What is answered.
            principles: Those that could be drawn.

        Raises:
            EngineUnavailable: The model or server is down.
            RenderError: The template cannot be filled in with this prompt.
        """
        requests: list[Label] = []
        for principle in principles:
            asked = label_request(self.messages(prompt, principle), LABELS)
            requests.append(Label(asked.messages, LABELS, asked.stub, purpose="relevance"))
        answers = await ask_all(self.engine, requests)
        kept, dropped, failures = [], [], []
        for principle, answer in zip(principles, answers, strict=True):
            if isinstance(answer, CallFailed):
                failures.append(self._failure(prompt, principle, answer))
            elif self._says_no(answer[0]):
                dropped.append(Drop("principle", IRRELEVANT_REASON, (principle.id,)))
                continue
            kept.append(principle)
        return Relevant(tuple(kept), tuple(dropped), tuple(failures))

    def _says_no(self, reply: Reply) -> bool:
        logit = read_labels(reply, min_mass=self.min_mass).logit
        return logit is not None and logit < 0.0

    def _failure(self, prompt: Prompt, principle: Principle, problem: CallFailed) -> Failure:
        message = f"{self.name}/{principle.id}/relevance: {problem.message}"
        return Failure("judge", prompt.id, problem.kind, message, problem.attempts)
