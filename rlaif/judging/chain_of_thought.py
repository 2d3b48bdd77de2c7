"""Chain of thought: the judge reasons freely, then gives its verdict in one token.

Bai et al. 2022 (arXiv 2212.08073) and Lee et al. 2023 (arXiv 2309.00267): two calls, the reasoning
and then the label after it. Reasoning drives labels to 0 or 1, so Bai et al. clamp them to 40–60 %;
that is a recorded transform (`rlaif.judging.transforms.Clamp`) of labels made this way and of no
others. Deviation: the reasoning is the most likely one, as in Lee et al.; several reasonings per
label, which Bai et al. suggest, lowered agreement there.
"""

from collections.abc import Sequence

from rlaif.engines import Generate, Sampling
from rlaif.records import Message, content_seed

TEMPLATE = "judge/pairwise_cot"


def reasoning_request(
    messages: Sequence[Message], *, max_tokens: int, temperature: float
) -> Generate:
    """Return the request for the reasoning; its seed belongs to the messages."""
    return Generate(
        tuple(messages),
        Sampling(temperature=temperature, max_tokens=max_tokens),
        seeds=(content_seed(0, "reasoning", messages),),
        purpose="judge",
    )
