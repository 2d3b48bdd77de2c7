"""Read → tokenise → plan, for PPO, RLOO and GRPO: prompts and a scorer."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlaif.config.online import OnlineConfig
from rlaif.config.prompts import PromptsConfig
from rlaif.errors import EngineMissing, InputError
from rlaif.inputs import PromptSource, read_prompts
from rlaif.inputs.files import find_files
from rlaif.records import Failure, Prompt
from rlaif.training.data.chat import check_vocabulary, end_tokens
from rlaif.training.data.files import TRAIN, split_of
from rlaif.training.data.prompts import AnyPrompt, PromptSet, read_prompt_set
from rlaif.training.harness.inputs import Inputs
from rlaif.training.harness.save import without_folders
from rlaif.training.models import context_length, identify_model, load_tokenizer, vocabulary_size
from rlaif.training.scorers import Scorer, identity_of, name_of

ONE_SCORER = (
    "that the score of this scorer rose says nothing about any other: evaluate on prompts that were"
    " held out, with judges that were not used here",
)
"""A caveat for the card of every training with a scorer."""


@dataclass(frozen=True, slots=True)
class OnlineSource:
    """What a call names besides its settings."""

    scorer: Scorer
    prompts: Sequence[AnyPrompt] | None = None
    """In place of the file's."""


@dataclass(frozen=True, slots=True)
class OnlineData:
    """Tokenised prompts, and what scores the responses."""

    prompts: PromptSet
    scorer: Scorer


def read_online(settings: OnlineConfig, source: OnlineSource, *, tools: bool) -> Inputs[OnlineData]:
    """Tokenise the prompts, and say what the result depends on.

    Args:
        settings: The trainer's.
        source: What scores, and the prompts.
        tools: See `read_prompt_set`.

    Raises:
        InputError: A tokenizer or a set of prompts that cannot be used.
        EngineMissing: ``vllm`` is set and vLLM is not installed.
    """
    if settings.vllm is not None:
        need_vllm()
    given, notes = (source.prompts, []) if source.prompts is not None else _read(settings)
    tokenizer = load_tokenizer(
        settings.model, revision=settings.revision, chat_template=settings.chat_template
    )
    end_tokens(tokenizer)
    prompts = read_prompt_set(
        given,
        tokenizer,
        context=context_length(settings.model, revision=settings.revision),
        max_new_tokens=settings.max_new_tokens,
        max_prompt_tokens=settings.max_prompt_tokens,
        tools=tools,
    )
    check_vocabulary(
        tokenizer,
        max(map(max, prompts.tokens)),
        vocabulary_size(settings.model, revision=settings.revision),
    )
    if prompts.too_long:
        notes.append(f"left out, too long: {prompts.too_long} prompts")
    if prompts.with_tools:
        notes.append(f"left out, tools are not supported: {prompts.with_tools} prompts")
    plan = {
        **settings.content(),
        "model": identify_model(settings.model, revision=settings.revision),
        "prompts": prompts.fingerprint,
        **identity_of(source.scorer),
    }
    facts = {"Data": _facts(settings, source, prompts)}
    return Inputs(OnlineData(prompts, source.scorer), tokenizer, plan, facts, tuple(notes))


def _read(settings: OnlineConfig) -> tuple[list[Prompt], list[str]]:
    if settings.prompts is None:
        raise InputError("prompts are missing", hint="name a file: prompts: {path: prompts.jsonl}")
    _check_splits(settings.prompts)
    prompts: list[Prompt] = []
    broken: list[Failure] = []
    for item in read_prompts(PromptSource(**dict(settings.prompts))):
        if isinstance(item, Prompt):
            prompts.append(item)
        else:
            broken.append(item)
    if not broken:
        return prompts, []
    first = f"{broken[0].record_id}: {broken[0].message}"
    return prompts, [f"left out: {len(broken)} records that are not prompts ({first})"]


def _check_splits(prompts: PromptsConfig) -> None:
    """Keep a folder's test set from being trained on with the rest."""
    if prompts.path is None:
        return
    files = find_files(prompts.path, prompts.format, prompts.split)
    splits = {split_of(file.name) or TRAIN for file in files}
    if len(splits) > 1:
        raise InputError(
            f"{prompts.path}: its files belong to several splits: {', '.join(sorted(splits))}",
            hint="name those to train on, such as path: FOLDER/train*.jsonl",
        )


def _facts(settings: OnlineConfig, source: OnlineSource, prompts: PromptSet) -> Mapping[str, Any]:
    """Return where prompts and reward come from, as far as a training file says."""
    named = {"prompts"} if source.prompts is None else set()
    said = settings.model_dump(
        mode="json", include={*named, "reward", "length_penalty"}, exclude_defaults=True
    )
    return {
        "scorer": name_of(source.scorer),
        **{f"{name} from": f"`{without_folders(value)}`" for name, value in said.items()},
        "prompts": len(prompts.prompts),
        "prompts left out because they were too long": prompts.too_long,
    }


def need_vllm() -> None:
    """Check that vLLM is installed.

    Raises:
        EngineMissing: It is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EngineMissing(
            "vllm is named in the training file and is not installed",
            hint="pip install 'constitutional-rlaif[vllm]', or leave vllm out to draw with "
            "transformers",
        )
