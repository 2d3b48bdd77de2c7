"""Contrastive generation (RLCD): responses under a principle and under its opposite.

Yang et al. 2023 (arXiv 2307.12950): p⁺ and p⁻ are one conversation with a short affix that asks
for an attribute or for its opposite; y⁺ and y⁻ are sampled from them, and y⁺ is preferred *by
construction*, without a judge. The affix is stripped afterwards: the pair belongs to the plain
conversation. Deviations: the affix is a system message (`prompts/sample/contrast.j2`), and the
attribute is a principle of the constitution, drawn per couple by content.

The two responses of a couple share principle and index. Whatever else differs between them is
learned, too, length above all: see ``max_length_ratio`` of `rlaif.pipeline.comparisons`.

Cost: n generations for n responses, no judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.constitution import Principle, choose_principles
from rlaif.engines import Engine, Generate, Sampling, request_key
from rlaif.engines.ask import ask_all
from rlaif.errors import CallFailed
from rlaif.generation.sample import keep_reply
from rlaif.records import Failure, Message, Prompt, Response, content_id, content_seed
from rlaif.records.response import CONTRAST_AGAINST, CONTRAST_FOR
from rlaif.templates import Template

TEMPLATE = "sample/contrast"


@dataclass(frozen=True, slots=True)
class ContrastSampler:
    """Samples a student under a principle and under its opposite."""

    engine: Engine
    template: Template
    principles: tuple[Principle, ...]
    """The candidates: the constitution's judged principles."""

    sampling: Sampling
    seed: int
    system: str = ""
    """The student's own system message, placed before the affix."""

    async def sample(
        self, prompt: Prompt, *, n: int
    ) -> tuple[tuple[Response, ...], tuple[Failure, ...]]:
        """Draw n responses in n/2 couples; each becomes a response or a failure.

        A prompt that no principle applies to yields one failure of kind ``no-principle``.

        Args:
            prompt: The prompt to answer.
            n: Number of responses; even.

        Raises:
            EngineUnavailable: The engine is down.
        """
        places = [
            (index, principle, origin)
            for index in range(n // 2)
            if (principle := self.principle(prompt, index)) is not None
            for origin in (CONTRAST_FOR, CONTRAST_AGAINST)
        ]
        if not places:
            message = "no judged principle applies to this prompt, so there is nothing to contrast"
            return (), (Failure("sample", prompt.id, "no-principle", message),)
        requests = [self._request(prompt, *place) for place in places]
        answers = await ask_all(self.engine, requests)
        kept = [
            keep_reply(
                prompt,
                answer if isinstance(answer, CallFailed) else answer[0],
                index=index,
                origin=origin,
                call=request_key(self.engine.identity, request, request.seeds[0]),
            )
            for (index, _, origin), request, answer in zip(places, requests, answers, strict=True)
        ]
        return (
            tuple(result for result in kept if isinstance(result, Response)),
            tuple(result for result in kept if isinstance(result, Failure)),
        )

    def principle(self, prompt: Prompt, index: int) -> Principle | None:
        """Return the principle of the couple at an index, drawn by the prompt's content."""
        return contrasted_principle(self.principles, prompt, index, seed=self.seed)

    def _request(self, prompt: Prompt, index: int, principle: Principle, origin: str) -> Generate:
        messages = self.messages(prompt, principle, against=origin == CONTRAST_AGAINST)
        seed = content_seed(self.seed, "sample", messages, index)
        return Generate(messages, self.sampling, (seed,), purpose="sample")

    def messages(
        self, prompt: Prompt, principle: Principle, *, against: bool
    ) -> tuple[Message, ...]:
        """Return what the student is shown."""
        affix = self.template.render(
            statement=principle.statement, opposite=principle.opposite, against=against
        )[0]["content"].strip()
        return prompt.with_system(f"{self.system}\n\n{affix}" if self.system else affix)


def contrasted_principle(
    principles: Sequence[Principle], prompt: Prompt, index: int, *, seed: int
) -> Principle | None:
    """Return the principle that the couple at an index is sampled for and against.

    None if no principle applies to the prompt. The draw depends on content alone, so labels can
    repeat it and it need not be recorded.
    """
    drawn = choose_principles(
        [p for p in principles if p.applies(prompt.tags)],
        how_many="one",
        seed=seed,
        subject=content_id("contrast", prompt.id, prompt.messages, index),
    )
    return drawn[0] if drawn else None
