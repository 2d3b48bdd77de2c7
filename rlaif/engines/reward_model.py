"""Engine ``reward-model``: a trained reward model gives each reply a score, nothing else.

The conversation and the reply are rendered with the model's own chat template, as in training, and
the score is read at the last token, found by length, whatever the pad token is. Calls from many
tasks are answered in batches: while one batch is computed, the next one gathers.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlaif.config import Settings, load_config
from rlaif.engines.protocol import Capability, Reply, Request, Score, Usage
from rlaif.errors import CallFailed, EngineError, EngineMissing
from rlaif.models import (
    load_pretrained,
    load_weights,
    model_fingerprint,
    quiet_transformers,
)
from rlaif.records.tool_use import for_template, left_out

Read = Callable[[list[list[int]]], list[float]]
"""From token ids of several texts to their scores."""


class RewardModelOptions(Settings):
    """Everything below ``options:`` of an engine ``reward-model``."""

    max_batch: int = Field(32, ge=1, description="Replies scored in one pass.")

    INERT: ClassVar = frozenset({"max_batch"})


class _Holder(Settings):
    options: RewardModelOptions = RewardModelOptions()


def build_reward_model_engine(
    *, model: str, revision: str | None = None, options: Mapping[str, Any] | None = None
) -> "RewardModelEngine":
    """Load a reward model.

    Args:
        model: A folder or hub id of a sequence classifier with one label and a chat template.
        revision: Of a hub id: branch, tag or commit.
        options: See `RewardModelOptions`.

    Raises:
        EngineMissing: No such model, or none that gives one score to a conversation.
        ConfigError: A wrong option.
    """
    settings = load_config(_Holder, {"options": dict(options or {})}).options
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    common: dict[str, Any] = {
        "revision": revision,
        "local_files_only": Path(model, "config.json").is_file(),
    }
    try:
        with quiet_transformers():
            tokenizer = load_pretrained(AutoTokenizer, model, **common)
            scorer, notes = load_weights(
                AutoModelForSequenceClassification, model, output_loading_info=True, **common
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise EngineMissing(f"the reward model {model!r} cannot be loaded: {first}") from None
    _check(model, scorer, tokenizer, missing=notes["missing_keys"])
    scorer.to("cuda" if torch.cuda.is_available() else "cpu")
    scorer.train(False).requires_grad_(False)
    return RewardModelEngine(
        scorer,
        tokenizer,
        name=_name(model, scorer.config, revision),
        max_batch=settings.max_batch,
    )


class RewardModelEngine:
    """A sequence classifier with one label. Build with `build_reward_model_engine`."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str, max_batch: int) -> None:
        template = hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()[:16]
        self._identity = {
            "engine": "reward-model",
            "model": name,
            "dtype": str(model.dtype).removeprefix("torch."),
            "chat_template": template,
        }
        self._tokenizer = tokenizer
        self._read: Read | None = _reader(model)
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._max_batch = max_batch
        self._waiting: list[tuple[list[int], asyncio.Future[float]]] = []
        self._working: asyncio.Task[None] | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """Weights, dtype and chat template."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Scores of given replies."""
        return frozenset({Capability.REWARD})

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Score the continuation of a Score request as a reply to its messages.

        Raises:
            CallFailed: The conversation is longer than the model's context. It is not cut: the
                end that decides the score would be missing, or the question.
            EngineMissing: Another kind of request.
            EngineError: The engine was closed.
        """
        if not isinstance(request, Score):
            raise EngineMissing(f"a reward model does not answer {type(request).__name__} requests")
        if self._read is None:
            raise EngineError("the reward model was closed")
        ids = self._ids(request)
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((ids, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        score = await future
        return [Reply(score=score, usage=Usage(prompt_tokens=len(ids)))]

    async def aclose(self) -> None:
        """Finish what is being computed and let go of the model. Safe to call twice."""
        if self._working is not None:
            await asyncio.wait([self._working])
        self._read = None

    def _ids(self, request: Score) -> list[int]:
        turns, tools = for_template(request.messages)
        turns.append({"role": "assistant", "content": request.continuation})
        try:
            text = str(self._tokenizer.apply_chat_template(turns, tools=tools, tokenize=False))
        except Exception as problem:  # noqa: BLE001 - a chat template's own code can raise anything
            raise CallFailed(f"the chat template: {problem}", kind="chat-template") from None
        if lost := left_out(request.messages, text):
            message = f"the chat template leaves out the tool {lost!r}"
            raise CallFailed(message, kind="chat-template")
        ids = list(self._tokenizer(text, add_special_tokens=False).input_ids)
        if self._context is not None and len(ids) > self._context:
            raise CallFailed(
                f"{len(ids)} tokens do not fit into the context of {self._context}",
                kind="context-length",
            )
        return ids

    async def _work(self) -> None:
        await asyncio.sleep(0)  # calls made in this turn of the loop join the first batch
        while self._waiting and self._read is not None:
            batch = self._waiting[: self._max_batch]
            del self._waiting[: self._max_batch]
            try:
                scores = await asyncio.to_thread(self._read, [ids for ids, _ in batch])
            except Exception as problem:  # noqa: BLE001 - the callers must receive any failure
                for _, future in batch:
                    if not future.done():
                        future.set_exception(EngineError(f"the reward model failed: {problem}"))
                continue
            for (_, future), score in zip(batch, scores, strict=True):
                if not future.done():
                    future.set_result(score)


@torch.no_grad()
def _read_at_ends(model: Any, texts: list[list[int]]) -> list[float]:
    """Score texts in one pass, padded on the right: with causal attention no token sees a pad."""
    lengths_B = torch.tensor([len(ids) for ids in texts], device=model.device)
    ids_BL = torch.zeros((len(texts), int(lengths_B.max())), dtype=torch.long, device=model.device)
    for row, ids in enumerate(texts):
        ids_BL[row, : len(ids)] = torch.tensor(ids)
    hidden_BLD = model.base_model(input_ids=ids_BL, use_cache=False).last_hidden_state
    rows_B = torch.arange(len(texts), device=model.device)
    scores_B: Tensor = model.score(hidden_BLD[rows_B, lengths_B - 1]).squeeze(-1)
    return [float(score) for score in scores_B.float()]


@torch.no_grad()
def _read_one_by_one(model: Any, texts: list[list[int]]) -> list[float]:
    """Score texts each by itself, however the architecture pools: without pads it cannot err."""
    return [
        float(model(input_ids=torch.tensor([ids], device=model.device)).logits[0, 0])
        for ids in texts
    ]


def _reader(model: Any) -> Read:
    plain = isinstance(getattr(model, "score", None), torch.nn.Linear)
    decoder = not getattr(model.config.get_text_config(), "is_encoder_decoder", False)
    read = _read_at_ends if plain and decoder else _read_one_by_one
    return lambda texts: read(model, texts)


def _check(name: str, model: Any, tokenizer: Any, *, missing: Sequence[str]) -> None:
    if model.config.num_labels != 1:
        raise EngineMissing(
            f"not a reward model: {name!r} has {model.config.num_labels} labels, expected 1"
        )
    if missing:
        raise EngineMissing(
            f"the model {name!r} is not a reward model: it has no weights for {sorted(missing)[0]}",
            hint="train one with rlaif train reward",
        )
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.get_chat_template()
    if not tokenizer.chat_template:
        raise EngineMissing(f"the reward model {name!r} has no chat template")


def _name(name: str, config: Any, revision: str | None) -> str:
    """What tells these weights from all others, wherever they lie."""
    if Path(name).is_dir():
        return f"folder@{model_fingerprint(name)}"
    commit = getattr(config, "_commit_hash", None) or revision or "main"
    return f"{name}@{commit}"
