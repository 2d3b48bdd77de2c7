"""Row: all results for one prompt, with its pairs, drops and failures. Written once."""

from dataclasses import dataclass

from rlaif.records.judgment import Judgment
from rlaif.records.prompt import Prompt
from rlaif.records.response import Critique, Response, Revision


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A chosen and a rejected response, with the probability that the choice is right."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen_prob: float
    """P(chosen is better) in [0.5, 1], after the recorded transforms."""

    margin: float
    """2·|p − ½| in [0, 1]."""

    principles: tuple[str, ...]
    judges: tuple[str, ...]
    agreement: float
    abstained: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Something left out on purpose, with the reason. Counted in every report."""

    what: str
    """``comparison``, ``pair``, ``response``, ``prompt`` or ``principle``."""

    reason: str
    """Short and countable, such as ``tie``, ``margin``, ``identical`` or ``all-abstained``."""

    ids: tuple[str, ...] = ()


REMOVED = "remove"
"""The stage of an intended failure: a prompt removed as a duplicate or as contaminated."""

INPUT_STAGES = ("read", REMOVED)
"""Stages of failures that come from reading the input; each read reports them again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A record or call that failed. Kept and counted; never an exception."""

    stage: str
    """``read``, ``remove``, ``sample``, ``critique``, ``revise``, ``judge``, or ``render``: a
    template cannot be rendered for the prompt."""

    record_id: str
    """What failed: a prompt id, or file:line for input without an id."""

    kind: str
    """Short and countable, such as ``context-length``, ``http-500`` or ``bad-json``."""

    message: str
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """All results for one prompt."""

    id: str
    """Content id over the prompt and the plan's fingerprint."""

    prompt: Prompt
    responses: tuple[Response, ...]
    critiques: tuple[Critique, ...] = ()
    revisions: tuple[Revision, ...] = ()
    judgments: tuple[Judgment, ...] = ()
    pairs: tuple[PreferencePair, ...] = ()
    drops: tuple[Drop, ...] = ()
    failures: tuple[Failure, ...] = ()
    """Failed calls that did not make the whole prompt fail."""

    canaries: tuple[Judgment, ...] = ()
    """Judgments on known pairs, the better response first in each. Never made into pairs."""

    def response(self, response_id: str) -> Response:
        """Return the response with this id.

        Raises:
            KeyError: No response of this row has this id.
        """
        for response in self.responses:
            if response.id == response_id:
                return response
        raise KeyError(response_id)
