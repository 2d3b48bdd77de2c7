"""Pairwise judging: which of two responses is better under a principle.

Bai et al. 2022 (arXiv 2212.08073), section 4.1: a principle, two options, the log-probabilities of
the option labels normalised to a soft label. Both orders are asked by default, as in Lee et al.
2023 (arXiv 2309.00267); how they are combined stands in `rlaif.judging.position`. Deviations: a
chat model and chat turns in place of a transcript, the label is the letter itself, the first token
of the reply, and exemplars (the paper's few-shot prompt) are the principle's own examples.

Variants: chain of thought (`rlaif.judging.methods.pairwise`), and words in place of
log-probabilities for servers that give none; a judge in words says 1 or 0 per order.

Cost per principle and order: one next-token call; in words one generation; with chain of thought
one generation more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine, Generate, Sampling
from rlaif.engines.ask import run_together
from rlaif.judging.judge import Asked, ask, label_request, no_text_reason
from rlaif.judging.protocol import REFUSED_REASON, UNREADABLE_REASON, Cost, Needs
from rlaif.judging.reading import Reading, is_refusal, parse_choice, read_labels
from rlaif.judging.transforms import Clamp, Transform
from rlaif.records import (
    Choice,
    Comparison,
    Message,
    Order,
    Prompt,
    Verdict,
    content_seed,
    content_uniform,
)
from rlaif.records.tool_use import spoken
from rlaif.templates import Template


def choose_exemplars(
    principle: Principle, prompt: Prompt, *, count: int
) -> tuple[Mapping[str, str], ...]:
    """Return at most ``count`` examples of a principle, each with its letter.

    The better response is A in every other one, and content decides in which: an even number
    favours no letter, an odd number favours one by a single example, another for each principle.
    Both orders of a comparison see the same exemplars. An example about the live prompt is never
    shown: it could be its answer.
    """
    others = (e for e in principle.examples if e.prompt.strip() != prompt.text.strip())
    shown = tuple(islice(others, count))
    if not shown:
        return ()
    told = [[e.prompt, e.better, e.worse] for e in shown]
    starts_with_a = content_uniform(0, "exemplars", told) < 0.5
    return tuple(
        {"prompt": e.prompt, "a": e.better, "b": e.worse, "choice": "A"}
        if (at % 2 == 0) == starts_with_a
        else {"prompt": e.prompt, "a": e.worse, "b": e.better, "choice": "B"}
        for at, e in enumerate(shown)
    )


REASONING_TEMPLATE = "judge/pairwise_cot"


def reasoning_request(
    messages: Sequence[Message], *, max_tokens: int, temperature: float
) -> Generate:
    """Chain of thought: the judge reasons freely, then gives its verdict in one token.

    Bai et al. 2022 (arXiv 2212.08073) and Lee et al. 2023 (arXiv 2309.00267): two calls, the
    reasoning and then the label after it. Reasoning drives labels to 0 or 1, so Bai et al. clamp
    them to 40–60 %; that is a recorded transform (`rlaif.judging.transforms.Clamp`) of labels
    made this way and of no others. Deviation: the reasoning is the most likely one, as in Lee et
    al.; several reasonings per label, which Bai et al. suggest, lowered agreement there.

    Return the request for the reasoning; its seed belongs to the messages.
    """
    return Generate(
        tuple(messages),
        Sampling(temperature=temperature, max_tokens=max_tokens),
        seeds=(content_seed(0, "reasoning", messages),),
        purpose="judge",
    )


TEMPLATE = "judge/pairwise"
LABELS = ("A", "B")

Orders = Literal["both", "one"]

_CHOICES = {"A": Choice.A, "B": Choice.B}


@dataclass(frozen=True, slots=True)
class Pairwise:
    """How a pairwise judge is asked."""

    exemplars: int = 0
    """At most this many of the principle's examples are shown."""

    chain_of_thought: bool = False
    words: bool = False
    clamp: float = 0.4
    """Labels made with chain of thought stay within [clamp, 1 − clamp]; 0 turns it off. Labels
    made without it are never clamped."""

    max_tokens: int = 512
    """Of the reasoning, or of a reply in words."""

    temperature: float = 0.0
    """Of the reasoning; words are always the likeliest ones."""


@dataclass(frozen=True, slots=True)
class PairwiseJudge:
    """Asks for A or B. Build with `build_judge`."""

    name: str
    engine: Engine
    template: Template
    orders: Orders = "both"
    """``both``, or ``one`` that is drawn by content: half the cost, and position bias stays in."""

    min_mass: float = 0.0
    """When A and B together are less probable than this, the judge abstains."""

    settings: Pairwise = Pairwise()
    method: str = "pairwise"

    @property
    def needs(self) -> Needs:
        """Label log-probabilities, text for words and reasoning, a started reply if it has one."""
        labels = frozenset({Capability.LABEL_LOGPROBS, Capability.TOP_LOGPROBS})
        text = frozenset({Capability.GENERATE})
        needed = [text if self.settings.words else labels]
        if self.settings.chain_of_thought and not self.settings.words:
            needed.append(text)
        if self.template.roles[-1] == "assistant":
            needed.append(frozenset({Capability.PREFILL}))
        return tuple(needed)

    @property
    def template_fingerprints(self) -> Mapping[str, str]:
        """The one template it shows."""
        return {self.template.name: self.template.fingerprint}

    @property
    def cost(self) -> Cost:
        """One verdict per order, each after its reasoning."""
        orders = 2 if self.orders == "both" else 1
        words, reasoned = self.settings.words, self.settings.chain_of_thought
        return Cost(
            "comparison",
            labels=0 if words else orders,
            texts=orders * (int(words) + int(reasoned)),
        )

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002 - same for all
        """The clamp of chain of thought; nothing without it."""
        if not self.settings.chain_of_thought or self.settings.clamp == 0.0:
            return ()
        return (Clamp(self.settings.clamp),)

    async def judge(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> tuple[Verdict, ...]:
        """One verdict per principle and order, principle by principle, AB before BA."""
        work = [
            self._verdict(prompt, comparison, principle, order)
            for principle in principles
            for order in self._orders(comparison, principle)
        ]
        return tuple(await run_together(work))

    def _orders(self, comparison: Comparison, principle: Principle) -> tuple[Order, ...]:
        if self.orders == "both":
            return (Order.AB, Order.BA)
        # Drawn over the two ids without their order: a swapped comparison is the same question.
        one, other = sorted((comparison.first.id, comparison.second.id))
        shown_first = one if content_uniform(0, "order", one, other, principle.id) < 0.5 else other
        return (Order.AB,) if shown_first == comparison.first.id else (Order.BA,)

    async def _verdict(
        self, prompt: Prompt, comparison: Comparison, principle: Principle, order: Order
    ) -> Verdict:
        values = self._values(prompt, comparison, principle, order)
        steps: list[Asked] = []
        if self.settings.chain_of_thought:
            request = reasoning_request(
                self.template.render(**values),
                max_tokens=self.settings.max_tokens,
                temperature=self.settings.temperature,
            )
            steps.append(await ask(self.engine, request))
            reason = no_text_reason(steps[0])
            if reason:
                return self._made(principle, order, Reading(Choice.ABSTAIN, reason=reason), steps)
            values["reasoning"] = steps[0].text
        steps.append(await self._ask(self.template.render(**values)))
        return self._made(principle, order, self._read(steps[-1]), steps)

    def _made(
        self, principle: Principle, order: Order, reading: Reading, steps: Sequence[Asked]
    ) -> Verdict:
        problem = steps[-1].problem
        return Verdict(
            judge=self.name,
            method=self.method,
            principle=principle.id,
            order=order,
            choice=reading.choice,
            logit=reading.logit,
            mass=reading.mass,
            reason=reading.reason,
            raw=problem or "\n\n".join(step.text for step in steps if step.text),
            calls=() if problem else tuple(step.call for step in steps),
        )

    def _values(
        self, prompt: Prompt, comparison: Comparison, principle: Principle, order: Order
    ) -> dict[str, Any]:
        shown = comparison if order is Order.AB else comparison.swap()
        values = {
            "statement": principle.statement,
            "question": principle.comparison,
            "exemplars": choose_exemplars(principle, prompt, count=self.settings.exemplars),
            "conversation": spoken(prompt.messages),
            "response_a": shown.first.text,
            "response_b": shown.second.text,
            "opposite": principle.opposite,
            "reasoning": "",
        }
        return {name: values[name] for name in self.template.given}

    async def _ask(self, messages: Sequence[Message]) -> Asked:
        request = label_request(messages, LABELS)
        if not self.settings.words:
            return await ask(self.engine, request)
        able = Capability.STRUCTURED in self.engine.capabilities
        sampling = Sampling(temperature=0.0, max_tokens=self.settings.max_tokens)
        return await ask(
            self.engine,
            Generate(
                request.messages,
                sampling,
                seeds=(0,),
                stub=request.stub,
                choices=LABELS if able else (),
                purpose="judge",
            ),
        )

    def _read(self, said: Asked) -> Reading:
        if said.reason or said.reply is None:
            return Reading(Choice.ABSTAIN, reason=said.reason)
        if not self.settings.words:
            return read_labels(said.reply, min_mass=self.min_mass)
        return read_word(said.reply.text, cut_off=said.reply.finish == "length")


def read_word(text: str, *, cut_off: bool = False) -> Reading:
    """Read A or B from a judge's words.

    Args:
        text: The whole reply.
        cut_off: It reached its most tokens: its last line may be the beginning of another verdict.
    """
    name = None if cut_off else parse_choice(text, LABELS)
    if name is not None:
        return Reading(_CHOICES[name])
    return Reading(Choice.ABSTAIN, reason=REFUSED_REASON if is_refusal(text) else UNREADABLE_REASON)
