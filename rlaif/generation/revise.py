"""Critique and revision (SL-CAI): a critic names the faults of a response, then rewrites it.

Bai et al. 2022 (arXiv 2212.08073), section 3: per round one principle is drawn, the response is
criticised under it and rewritten according to the critique; every step is kept. Deviations:

- Chat turns with fences in place of a transcript that the model continues.
- Exemplars come from the drawn principle's own examples (worse → better), not from one fixed list.
- ``only_if_found`` skips the revision in a round whose critique found no fault. The paper always
  revises.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.constitution import Principle, choose_principles
from rlaif.engines import Engine, Generate, Reply, Sampling, request_key
from rlaif.errors import CallFailed
from rlaif.generation.sample import REFUSED, to_response
from rlaif.records import (
    Critique,
    Failure,
    Message,
    Prompt,
    Response,
    Revision,
    content_id,
    content_seed,
)
from rlaif.records.tool_use import spoken
from rlaif.templates import TemplateSet

NO_FAULT = "NO FAULT FOUND"
"""What the critic is asked to reply when it finds no fault."""

_NO_FAULT = re.compile(r"[\W_]*no[\W_]+faults?[\W_]+found[\W_]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Revised:
    """The result of revising one draft, in order."""

    responses: tuple[Response, ...] = ()
    """The revisions, without the draft; ``origin`` is ``revision-<round>``."""

    critiques: tuple[Critique, ...] = ()
    revisions: tuple[Revision, ...] = ()
    failures: tuple[Failure, ...] = ()
    """At most one: a failed step ends the chain; the steps before it are kept."""


@dataclass(frozen=True, slots=True)
class Reviser:
    """A critic and its settings. Rounds run one after another; drafts are independent."""

    engine: Engine
    templates: TemplateSet
    principles: tuple[Principle, ...]
    """The candidates: the constitution's judged principles."""

    rounds: int
    sampling: Sampling
    seed: int
    only_if_found: bool = False
    exemplars: int = 2
    """Maximum number of the drawn principle's examples to show."""

    async def revise(self, prompt: Prompt, draft: Response) -> Revised:
        """Critique and revise one draft in every round.

        If no principle applies to the prompt, nothing is changed.

        Raises:
            EngineUnavailable: The engine is down.
        """
        responses: list[Response] = []
        critiques: list[Critique] = []
        revisions: list[Revision] = []
        failures: list[Failure] = []
        current = draft
        for number in range(1, self.rounds + 1):
            drawn = self._draw(prompt, draft, number)
            if drawn is None:
                break
            critique = await self._critique(prompt, current, drawn, number)
            if isinstance(critique, Failure):
                failures.append(critique)
                break
            critiques.append(critique)
            if self.only_if_found and not critique.found:
                continue
            revised = await self._rewrite(prompt, current, drawn, critique)
            if isinstance(revised, Failure):
                failures.append(revised)
                break
            responses.append(revised)
            revisions.append(Revision(current.id, revised.id, drawn.id, number))
            current = revised
        return Revised(tuple(responses), tuple(critiques), tuple(revisions), tuple(failures))

    def _draw(self, prompt: Prompt, draft: Response, number: int) -> Principle | None:
        drawn = choose_principles(
            [p for p in self.principles if p.applies(prompt.tags)],
            how_many="one",
            seed=self.seed,
            subject=content_id("revise", draft.id, number),
        )
        return drawn[0] if drawn else None

    async def _critique(
        self, prompt: Prompt, response: Response, principle: Principle, number: int
    ) -> Critique | Failure:
        messages = self.critique_messages(prompt, response, principle)
        where = f"round {number}, {principle.id}, response {response.id}"
        answer = await self._ask(prompt, messages, "critique", where)
        if isinstance(answer, Failure):
            return answer
        reply, call = answer
        return Critique(
            response_id=response.id,
            principle=principle.id,
            round=number,
            text=reply.text,
            found=parse_found(reply.text),
            call=call,
        )

    async def _rewrite(
        self, prompt: Prompt, response: Response, principle: Principle, critique: Critique
    ) -> Response | Failure:
        messages = self.revision_messages(prompt, response, principle, critique.text)
        where = f"round {critique.round}, {principle.id}, response {response.id}"
        answer = await self._ask(prompt, messages, "revise", where)
        if isinstance(answer, Failure):
            return answer
        reply, call = answer
        origin = f"revision-{critique.round}"
        return to_response(prompt, reply, index=response.index, origin=origin, call=call)

    def critique_messages(
        self, prompt: Prompt, response: Response, principle: Principle
    ) -> tuple[Message, ...]:
        """Return what the critic is shown to criticise a response."""
        return self.templates.get("critique/critique").render(
            statement=principle.statement,
            critique_request=principle.critique_request,
            no_fault=NO_FAULT,
            exemplars=self._exemplars(prompt, principle),
            conversation=spoken(prompt.messages),
            response=response.text,
        )

    def revision_messages(
        self, prompt: Prompt, response: Response, principle: Principle, critique: str
    ) -> tuple[Message, ...]:
        """Return what the critic is shown to rewrite a response."""
        return self.templates.get("revise/revise").render(
            statement=principle.statement,
            revision_request=principle.revision_request,
            exemplars=self._exemplars(prompt, principle),
            conversation=spoken(prompt.messages),
            response=response.text,
            critique=critique,
        )

    async def _ask(
        self, prompt: Prompt, messages: Sequence[Message], stage: str, where: str
    ) -> tuple[Reply, str] | Failure:
        """Ask the critic once; blank and refused replies are failures: no step can follow them."""
        seed = content_seed(self.seed, stage, messages)
        request = Generate(tuple(messages), self.sampling, (seed,), purpose=stage)
        try:
            reply = (await self.engine.ask(request))[0]
        except CallFailed as problem:
            message = f"{where}: {problem.message}"
            return Failure(stage, prompt.id, problem.kind, message, problem.attempts)
        if reply.finish == REFUSED:
            return Failure(stage, prompt.id, "refused", f"{where}: refused by the server's filter")
        if not reply.text.strip():
            return Failure(stage, prompt.id, "empty", f"{where}: blank (finish: {reply.finish})")
        return reply, request_key(self.engine.identity, request, seed)

    def _exemplars(self, prompt: Prompt, principle: Principle) -> list[Mapping[str, str]]:
        """The principle's first examples, leaving out one about this very prompt."""
        others = [e for e in principle.examples if e.prompt.strip() != prompt.text.strip()]
        return [
            {"prompt": e.prompt, "better": e.better, "worse": e.worse}
            for e in others[: self.exemplars]
        ]


def parse_found(critique: str) -> bool:
    """Whether a critique names a fault.

    False only if it consists of the agreed words for "no fault", with any punctuation around them.
    Anything more ("no fault found, but …") and anything unreadable counts as a fault: a needless
    revision costs one call, a missed one leaves the fault in.
    """
    return _NO_FAULT.fullmatch(critique) is None
