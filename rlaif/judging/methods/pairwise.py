"""Pairwise judging: which of two responses is better under a principle.

Bai et al. 2022 (arXiv 2212.08073), section 4.1: a principle, two options, the log-probabilities of
the option labels normalised to a soft label. Both orders are asked by default, as in Lee et al.
2023 (arXiv 2309.00267); how they are combined stands in `rlaif.judging.position`. Deviations: a
chat model and chat turns in place of a transcript, the label is the letter itself, the first token
of the reply, and exemplars (the paper's few-shot prompt) are the principle's own examples.

Chain of thought, in both papers, takes two calls: the judge reasons freely, then gives its verdict
in one token. Reasoning drives labels to 0 or 1, so Bai et al. clamp them to 40–60 %; that is a
recorded transform (`rlaif.judging.transforms.Clamp`) of labels made this way and of no others.
Deviation: the reasoning is the most likely one, as in Lee et al.; several reasonings per label,
which Bai et al. suggest, lowered agreement there.

Words in place of log-probabilities are for servers that give none; a judge in words says 1 or 0
per order.

Cost per principle and order: one next-token call; in words one generation; with chain of thought
one generation more.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from rlaif.config.judge import Pairwise
from rlaif.constitution import Principle
from rlaif.engines import Capability, Generate, Reply, Sampling
from rlaif.judging.methods.flow import Flow, Outcome, Question, label_request
from rlaif.judging.reading import (
    LabelReading,
    no_text_reason,
    read_labels,
    read_word,
    unanswered,
)
from rlaif.judging.transforms import Clamp, Transform
from rlaif.records import Choice, Message, Prompt, content_seed, content_uniform
from rlaif.records.tool_use import spoken

TEMPLATE = "judge/pairwise"
REASONING_TEMPLATE = "judge/pairwise_cot"
LABELS = ("A", "B")


def flow(question: Question[Pairwise]) -> Flow:
    """Ask for A or B, after reasoning if the settings say so."""
    settings = question.settings
    values, said = show_both(question), []
    if settings.exemplars:
        values["exemplars"] = choose_exemplars(
            question.principle, question.prompt, count=settings.exemplars
        )
    if settings.chain_of_thought:
        (thought,) = yield (_reasoning_request(question.render(**values), settings),)
        reason = no_text_reason(thought)
        if reason:
            return Outcome(reason=reason, raw=thought.text)
        said.append(thought)
        values["reasoning"] = thought.text
    messages = question.render(**values)
    if settings.words:
        choices = LABELS if Capability.STRUCTURED in question.capabilities else ()
        (reply,) = yield (_words_request(messages, settings.max_tokens, choices),)
        return _outcome(_read_words(reply), *said, reply)
    (reply,) = yield (label_request(messages, LABELS),)
    return _outcome(read_labels(reply, min_mass=question.min_mass), *said, reply)


def ask_letter(question: Question[Any]) -> Flow:
    """Ask for A or B, read from the next token: all that a flow without variants does."""
    (reply,) = yield (label_request(question.render(**show_both(question)), LABELS),)
    return _outcome(read_labels(reply, min_mass=question.min_mass), reply)


def show_both(question: Question[Any]) -> dict[str, Any]:
    """Return the values for templates that show two responses."""
    principle = question.principle
    return {
        "statement": principle.statement,
        "question": principle.comparison,
        "opposite": principle.opposite,
        "conversation": spoken(question.prompt.messages),
        "response_a": question.a.text,
        "response_b": question.b.text,
        "exemplars": (),
        "reasoning": "",
    }


def template(settings: Pairwise) -> str:
    """Return the name of the template, another one where the judge reasons first."""
    return REASONING_TEMPLATE if settings.chain_of_thought else TEMPLATE


def transforms(settings: Pairwise, _: str) -> tuple[Transform, ...]:
    """Return the clamp of chain of thought; nothing without it."""
    return (Clamp(settings.kept_within),) if settings.kept_within else ()


def choose_exemplars(
    principle: Principle, prompt: Prompt, *, count: int
) -> tuple[Mapping[str, str], ...]:
    """Return at most ``count`` examples of a principle, each with its letter.

    The better response is A in every other one, and content decides in which: an even number
    favours no letter, an odd number favours one by a single example, another for each principle.
    Both orders of a comparison see the same exemplars. An example about the live prompt is never
    shown: it could be its answer.
    """
    others = (e for e in principle.examples if e.prompt.strip() != prompt.text.strip())
    shown = tuple(islice(others, count))
    if not shown:
        return ()
    key = [[e.prompt, e.better, e.worse] for e in shown]
    starts_with_a = content_uniform(0, "exemplars", key) < 0.5
    return tuple(
        {"prompt": e.prompt, "a": e.better, "b": e.worse, "choice": "A"}
        if (at % 2 == 0) == starts_with_a
        else {"prompt": e.prompt, "a": e.worse, "b": e.better, "choice": "B"}
        for at, e in enumerate(shown)
    )


def _reasoning_request(messages: Sequence[Message], settings: Pairwise) -> Generate:
    """The request for the reasoning; its seed belongs to the messages."""
    return Generate(
        tuple(messages),
        Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens),
        seeds=(content_seed(0, "reasoning", messages),),
        purpose="judge",
    )


def _words_request(
    messages: Sequence[Message], max_tokens: int, choices: tuple[str, ...]
) -> Generate:
    letter = label_request(messages, LABELS)
    return Generate(
        letter.messages,
        Sampling(temperature=0.0, max_tokens=max_tokens),
        seeds=(0,),
        stub=letter.stub,
        choices=choices,
        purpose="judge",
    )


def _read_words(reply: Reply) -> LabelReading:
    reason = unanswered(reply)
    if reason:
        return LabelReading(Choice.ABSTAIN, reason=reason)
    return read_word(reply.text, LABELS, cut_off=reply.finish == "length")


def _outcome(reading: LabelReading, *said: Reply) -> Outcome:
    return Outcome(
        logit=reading.logit,
        choice=reading.choice,
        mass=reading.mass,
        reason=reading.reason,
        raw="\n\n".join([reply.text for reply in said if reply.text]),
    )
