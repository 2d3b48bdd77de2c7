"""Asking a judge's engine one thing, so that whatever comes back can become a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.engines import Engine, Generate, Label, Reply, Request, request_key
from rlaif.engines.ask import ask_one
from rlaif.errors import CallFailed
from rlaif.judging.protocol import FAILED_REASON, REFUSED_REASON, UNREADABLE_REASON
from rlaif.judging.reading import is_refusal
from rlaif.records import Message


@dataclass(frozen=True, slots=True)
class Asked:
    """One reply, or why there is none."""

    reply: Reply | None
    call: str = ""
    """Ledger key of the reply."""

    problem: str = ""
    """``kind: message`` of a call that failed for good."""

    @property
    def text(self) -> str:
        """The words that came back, if any."""
        return "" if self.reply is None else self.reply.text

    @property
    def reason(self) -> str:
        """Why nothing can be read from it; empty when a reply is there."""
        if self.reply is None:
            return FAILED_REASON
        return REFUSED_REASON if self.reply.finish == "refusal" else ""


async def ask(engine: Engine, request: Request) -> Asked:
    """Ask one thing.

    Raises:
        EngineUnavailable: The model or server is down.
    """
    answer = await ask_one(engine, request)
    if isinstance(answer, CallFailed):
        return Asked(None, problem=f"{answer.kind}: {answer.message}")
    seed = request.seeds[0] if isinstance(request, Generate) else None
    return Asked(answer[0], request_key(engine.identity, request, seed))


def no_text_reason(asked: Asked) -> str:
    """Why a text that was asked for cannot be used; empty when it can."""
    if asked.reason:
        return asked.reason
    if not asked.text.strip():
        return UNREADABLE_REASON
    return REFUSED_REASON if is_refusal(asked.text) else ""


def label_request(messages: Sequence[Message], labels: Sequence[str]) -> Label:
    """Return the request for labels; a last message of the assistant is the start of its reply."""
    if messages[-1]["role"] == "assistant":
        *rest, start = messages
        return Label(tuple(rest), tuple(labels), stub=start["content"], purpose="judge")
    return Label(tuple(messages), tuple(labels), purpose="judge")
