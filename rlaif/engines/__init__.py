"""The only doors to models: engines that generate, give label log-probabilities and score."""

from rlaif.engines.open import open_engine
from rlaif.engines.protocol import (
    Capability,
    Counting,
    Engine,
    Generate,
    Label,
    Lasting,
    Priced,
    Remote,
    Reply,
    Request,
    Sampling,
    Score,
    Served,
    Usage,
    Wasteful,
    Written,
    is_batching,
    request_key,
    require,
)
from rlaif.engines.scripted import ScriptedEngine

__all__ = [
    "Capability",
    "Counting",
    "Engine",
    "Generate",
    "Label",
    "Lasting",
    "Priced",
    "Remote",
    "Reply",
    "Request",
    "Sampling",
    "Score",
    "ScriptedEngine",
    "Served",
    "Usage",
    "Wasteful",
    "Written",
    "is_batching",
    "open_engine",
    "request_key",
    "require",
]
