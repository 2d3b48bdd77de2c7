"""Pairwise judging: which of two responses is better under a principle.

Bai et al. 2022 (arXiv 2212.08073), section 4.1: a principle, two options, the log-probabilities of
the option labels normalised to a soft label. Both orders are asked by default, as in Lee et al.
2023 (arXiv 2309.00267); how they are combined stands in `rlaif.judging.position`. Deviations: a
chat model and chat turns in place of a transcript, the label is the letter itself, the first token
of the reply, and exemplars (the paper's few-shot prompt) are the principle's own examples.

Chain of thought, in both papers, takes two calls: the judge reasons freely, then gives its verdict
in one token. Reasoning drives labels to 0 or 1, so Bai et al. clamp them to 40–60 %; that is a
recorded transform (`rlaif.judging.transforms.Clamp`) of labels made this way and of no others.
Deviation: a single reasoning is the most likely one, as in Lee et al.; with ``samples`` K several
are drawn, and the label is the share of A among their verdicts (`rlaif.judging.methods.votes`),
unclamped.

Words in place of log-probabilities are for servers that give none; a judge in words says 1 or 0
per order, or with ``samples`` K the share of A among K verdicts.

A thinking judge thinks up to a budget of tokens, and the label is read after it: where the engine
can start the reply, as the next token after the thought (finished or cut off there); else from the
words that follow the thought. The thought is in the ledger only, and is shown to nobody else.

Cost per principle and order: one next-token call; in words K generations; with chain of thought or
thinking K generations more.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from rlaif.config.judge import Pairwise
from rlaif.constitution import Principle
from rlaif.engines import Capability, Generate, Label, Reply, Sampling
from rlaif.judging.methods.flow import Flow, Outcome, Question, label_request
from rlaif.judging.methods.votes import draw_seeds, pool_votes
from rlaif.judging.reading import (
    LabelReading,
    no_text_reason,
    read_labels,
    read_or_neither,
    read_word,
    unanswered,
)
from rlaif.judging.transforms import Clamp, Transform
from rlaif.records import Choice, Message, Prompt, content_uniform
from rlaif.records.tool_use import spoken

TEMPLATE = "judge/pairwise"
REASONING_TEMPLATE = "judge/pairwise_cot"
NEITHER_TEMPLATE = "judge/pairwise_or_neither"
LABELS = ("A", "B")
NEITHER_LABELS = (*LABELS, "N")


def flow(question: Question[Pairwise]) -> Flow:
    """Ask for A or B, after reasoning or thinking if the settings say so."""
    settings = question.settings
    values = show_both(question)
    if settings.exemplars:
        values["exemplars"] = choose_exemplars(
            question.principle, question.prompt, count=settings.exemplars
        )
    if settings.chain_of_thought:
        return (yield from _reason_first(question, values))
    messages = question.render(**values)
    if settings.thinking is not None:
        return (yield from _think_first(question, messages, settings.thinking))
    if settings.words:
        replies = yield (_words_request(question, messages, samples=settings.samples),)
        return _outcome([_read_words(reply, labels_of(settings)) for reply in replies], replies)
    (reply,) = yield (label_request(messages, labels_of(settings)),)
    return _outcome([_read_label(reply, question)], [reply])


def ask_letter(question: Question[Any]) -> Flow:
    """Ask for A or B, read from the next token: all that a flow without variants does."""
    (reply,) = yield (label_request(question.render(**show_both(question)), LABELS),)
    return _outcome([read_labels(reply, min_mass=question.min_mass)], [reply])


def _reason_first(question: Question[Pairwise], values: dict[str, Any]) -> Flow:
    """Ask for reasonings, then for one verdict after each."""
    settings = question.settings
    messages = question.render(**values)
    sampling = Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens)
    seeds = draw_seeds("reasoning", messages, settings.samples)
    thoughts = yield (Generate(tuple(messages), sampling, seeds, purpose="judge"),)
    votes, shown = [], []
    for thought in thoughts:
        if reason := no_text_reason(thought):
            votes.append(LabelReading(Choice.ABSTAIN, reason=reason))
        else:
            shown.append(question.render(**{**values, "reasoning": thought.text}))
    if not shown:
        return _outcome(votes, thoughts)
    if settings.words:
        replies = yield tuple(_words_request(question, one) for one in shown)
        votes += [_read_words(reply, LABELS) for reply in replies]
    else:
        replies = yield tuple(label_request(one, LABELS) for one in shown)
        votes += [read_labels(reply, min_mass=question.min_mass) for reply in replies]
    return _outcome(votes, [*thoughts, *replies])


def _think_first(question: Question[Pairwise], messages: tuple[Message, ...], budget: int) -> Flow:
    """Let the judge think, then read the label after each thought."""
    settings = question.settings
    forced = not settings.words and _can_force(question.capabilities)
    sampling = Sampling(
        temperature=settings.temperature,
        max_tokens=budget if forced else budget + settings.max_tokens,
    )
    seeds = draw_seeds("thinking", messages, settings.samples)
    thoughts = yield (Generate(messages, sampling, seeds, purpose="judge"),)
    if not forced:
        return _outcome([_read_words(one, labels_of(settings)) for one in thoughts], thoughts)
    votes = [
        LabelReading(Choice.ABSTAIN, reason=reason)
        for one in thoughts
        if (reason := unanswered(one))
    ]
    opening, closing = settings.think_tags
    stubs = [
        f"{opening}\n{one.reasoning}\n{closing}\n\n" for one in thoughts if not unanswered(one)
    ]
    if stubs:
        labels = labels_of(settings)
        replies = yield tuple(Label(messages, labels, stub, purpose="judge") for stub in stubs)
        votes += [_read_label(reply, question) for reply in replies]
    return _outcome(votes, thoughts)


def _can_force(capabilities: frozenset[Capability]) -> bool:
    """Whether a label can be read after a reply that was started."""
    reads = {Capability.LABEL_LOGPROBS, Capability.TOP_LOGPROBS} & capabilities
    return Capability.PREFILL in capabilities and bool(reads)


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
    """Return the name of the template: others where the judge reasons first or may reply N."""
    if settings.chain_of_thought:
        return REASONING_TEMPLATE
    return NEITHER_TEMPLATE if settings.neither else TEMPLATE


def labels_of(settings: Pairwise) -> tuple[str, ...]:
    """Return the allowed replies: A and B, and where the settings say so N for neither."""
    return NEITHER_LABELS if settings.neither else LABELS


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


def _words_request(
    question: Question[Pairwise], messages: Sequence[Message], *, samples: int = 1
) -> Generate:
    settings = question.settings
    letter = label_request(messages, LABELS)
    drawn = samples > 1
    return Generate(
        letter.messages,
        Sampling(
            temperature=settings.temperature if drawn else 0.0, max_tokens=settings.max_tokens
        ),
        seeds=draw_seeds("verdict", messages, samples) if drawn else (0,),
        stub=letter.stub,
        choices=labels_of(settings) if Capability.STRUCTURED in question.capabilities else (),
        purpose="judge",
    )


def _read_label(reply: Reply, question: Question[Pairwise]) -> LabelReading:
    read = read_or_neither if question.settings.neither else read_labels
    return read(reply, min_mass=question.min_mass)


def _read_words(reply: Reply, menu: Sequence[str]) -> LabelReading:
    reason = unanswered(reply)
    if reason:
        return LabelReading(Choice.ABSTAIN, reason=reason)
    return read_word(reply.text, menu, cut_off=reply.finish == "length")


def _outcome(votes: Sequence[LabelReading], said: Sequence[Reply]) -> Outcome:
    reading = pool_votes(votes)
    return Outcome(
        logit=reading.logit,
        choice=reading.choice,
        mass=reading.mass,
        reason=reading.reason,
        raw="\n\n".join([reply.text for reply in said if reply.text]),
        partial=len(votes) > 1,
    )
