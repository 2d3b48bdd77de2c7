"""The records of the framework: frozen, content-addressed values without I/O."""

from rlaif.records.identity import canonical_json, content_id, content_seed, content_uniform
from rlaif.records.judgment import Choice, Comparison, Judgment, Order, Verdict
from rlaif.records.prompt import Prompt
from rlaif.records.response import Critique, Response, Revision
from rlaif.records.row import INPUT_STAGES, REMOVED, Drop, Failure, PreferencePair, Row
from rlaif.records.tool_use import Message

__all__ = [
    "INPUT_STAGES",
    "REMOVED",
    "Choice",
    "Comparison",
    "Critique",
    "Drop",
    "Failure",
    "Judgment",
    "Message",
    "Order",
    "PreferencePair",
    "Prompt",
    "Response",
    "Revision",
    "Row",
    "Verdict",
    "canonical_json",
    "content_id",
    "content_seed",
    "content_uniform",
]
