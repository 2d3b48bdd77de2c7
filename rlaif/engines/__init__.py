"""The only doors to models: engines that generate, give label log-probabilities and score."""

from rlaif.engines.protocol import (
    Capability,
    Engine,
    Generate,
    Label,
    Reply,
    Request,
    Sampling,
    Score,
    Usage,
    request_key,
    require,
)

__all__ = [
    "Capability",
    "Engine",
    "Generate",
    "Label",
    "Reply",
    "Request",
    "Sampling",
    "Score",
    "Usage",
    "request_key",
    "require",
]
