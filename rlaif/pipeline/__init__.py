"""The pipeline: the work on one prompt, and the executors that spread it."""

from rlaif.inputs import PromptSource, read_prompts
from rlaif.pipeline.estimate import Estimate, aestimate, estimate
from rlaif.pipeline.export import Exported, export
from rlaif.pipeline.generate import agenerate, generate
from rlaif.pipeline.tally import Progress
from rlaif.sessions.recorded import RecordedEngine

__all__ = [
    "Estimate",
    "Exported",
    "Progress",
    "PromptSource",
    "RecordedEngine",
    "aestimate",
    "agenerate",
    "estimate",
    "export",
    "generate",
    "read_prompts",
]
