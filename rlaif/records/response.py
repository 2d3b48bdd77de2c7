"""Response, critique and revision: what models wrote for one prompt."""

from dataclasses import dataclass

from rlaif.records.identity import content_id

CONTRAST_FOR, CONTRAST_AGAINST = "contrast-for", "contrast-against"
"""Origins of responses sampled under a principle and under its opposite (RLCD)."""


@dataclass(frozen=True, slots=True)
class Response:
    """One reply to a prompt, as text. Build with `Response.build`."""

    id: str
    """Content id over prompt id, origin, index and text."""

    prompt_id: str
    text: str
    index: int
    """Index in its group of samples, from 0; a revision keeps the index of its draft."""

    origin: str
    """``sample``, ``revision-<round>``, ``contrast-for`` or ``contrast-against`` (RLCD)."""

    finish: str
    """``stop`` (the model finished), ``length`` (cut off) or the server's own word."""

    tokens: int | None = None
    """Response tokens as counted by the engine; None if it does not report them."""

    call: str = ""
    """Ledger key of the reply this came from."""

    @classmethod
    def build(
        cls,
        prompt_id: str,
        text: str,
        *,
        index: int,
        origin: str = "sample",
        finish: str = "stop",
        tokens: int | None = None,
        call: str = "",
    ) -> "Response":
        """Make a response and derive its id."""
        identity = content_id("response", prompt_id, origin, index, text)
        return cls(identity, prompt_id, text, index, origin, finish, tokens, call)


@dataclass(frozen=True, slots=True)
class Critique:
    """Text naming the faults of a response under one principle (SL-CAI)."""

    response_id: str
    """The criticised response."""

    principle: str
    round: int
    """From 1."""

    text: str
    found: bool
    """Whether it names a fault; if not, runs with ``only_if_found`` skip the revision."""

    call: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """The step from one response to the rewritten one."""

    from_id: str
    to_id: str
    principle: str
    round: int
