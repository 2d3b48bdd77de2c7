"""Row: everything that came of one prompt; the unit that is written once and never changed."""

from dataclasses import dataclass

from rlaif.records.judgment import Judgment
from rlaif.records.pair import Drop, Failure, PreferencePair
from rlaif.records.prompt import Prompt
from rlaif.records.response import Critique, Response, Revision


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt, start to finish."""

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
    """Calls that failed without making the whole prompt fail."""

    canaries: tuple[Judgment, ...] = ()
    """Judgments on known pairs, each with the better response first. Never paired."""

    def response(self, response_id: str) -> Response:
        """Return the response with this id.

        Raises:
            KeyError: No response of this row has it.
        """
        for response in self.responses:
            if response.id == response_id:
                return response
        raise KeyError(response_id)
