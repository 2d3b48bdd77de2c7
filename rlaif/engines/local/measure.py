"""Reading sequences: log-probabilities of labels, and of given continuations.

Probabilities are softmax values in float32 over the whole vocabulary, before any temperature.
"""

import math
from collections.abc import Sequence

import torch

from rlaif.engines.local.chat import Chat
from rlaif.engines.local.draw import not_finite
from rlaif.engines.local.forward import Forward
from rlaif.engines.local.jobs import Reading, out_of_memory
from rlaif.engines.protocol import Reply, Usage

_POSITIONS_AT_A_TIME = 64  # positions; bounds the float32 copy of their logits


def measure(forward: Forward, chat: Chat, readings: Sequence[Reading]) -> None:
    """Read sequences in one pass and answer their jobs; in halves if memory runs out.

    Raises:
        EngineError: The model gave numbers that are no logits.
    """
    try:
        _measure(forward, chat, readings)
    except torch.OutOfMemoryError:
        if forward.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(readings) == 1:
            readings[0].job.fail(out_of_memory())
            return
        half = len(readings) // 2
        measure(forward, chat, readings[:half])
        measure(forward, chat, readings[half:])


def _measure(forward: Forward, chat: Chat, readings: Sequence[Reading]) -> None:
    asked = [range(reading.first, len(reading.ids)) for reading in readings]
    logits_NV = forward.read([reading.ids for reading in readings], asked)
    place = 0
    for reading, positions in zip(readings, asked, strict=True):
        own_NV = logits_NV[place : place + len(positions)]
        place += len(positions)
        answer = _labels(own_NV[0], reading, chat) if reading.labels else _score(own_NV, reading)
        reading.job.answer((0,), answer)


def _labels(logits_V: torch.Tensor, reading: Reading, chat: Chat) -> Reply:
    logprobs_V = logits_V.float().log_softmax(-1)
    values = [float(logprobs_V[list(ids)].logsumexp(-1)) for ids in reading.label_ids]
    _check(values)
    return Reply(
        chat.text([int(logprobs_V.argmax())]),
        label_logprobs=tuple(min(value, 0.0) for value in values),
        usage=Usage(prompt_tokens=len(reading.ids)),
    )


def _score(logits_NV: torch.Tensor, reading: Reading) -> Reply:
    total = 0.0
    for start in range(0, len(reading.targets), _POSITIONS_AT_A_TIME):
        part = slice(start, start + _POSITIONS_AT_A_TIME)
        logits = logits_NV[part].float()
        targets = torch.tensor(reading.targets[part], device=logits.device)
        chosen = logits.gather(-1, targets[:, None]).squeeze(-1)
        total += float((chosen - logits.logsumexp(-1)).sum(dtype=torch.float64))
    _check([total])
    return Reply(
        logprob=min(total, 0.0),
        scored_tokens=len(reading.targets),
        usage=Usage(prompt_tokens=len(reading.ids) + 1),
    )


def _check(values: Sequence[float]) -> None:
    if any(math.isnan(value) for value in values):
        raise not_finite()
