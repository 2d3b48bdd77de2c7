"""Whatever reads text that a model wrote takes time in proportion to it, however odd the text."""

import time
from collections.abc import Callable

import pytest

from rlaif.constitution.models import Rule
from rlaif.constitution.rules import (
    LONGEST_SEARCHED,
    check_rule,
    count_repeats,
    count_sentences,
    ends_complete,
    odds_against,
    split_words,
)
from rlaif.constitution.wording import joined_demands, repeats_a_repetition, vague_words
from rlaif.evaluation.diversity import measure_lengths, read_words, self_repetition
from rlaif.evaluation.measure import Group
from rlaif.evaluation.refusals import detect_refusal
from rlaif.generation.revise import _NO_FAULT
from rlaif.inputs.hashes import words
from rlaif.judging.reading import is_refusal, parse_choice
from rlaif.records import Prompt, Response
from rlaif.runs.text import fix_text, one_line
from rlaif.serving.requests import read_openrlhf
from rlaif.serving.texts import parse_conversation, split_query, strip_special
from rlaif.templates.fence import fence, neutralise

SIZE = 12_000
NOISE_S = 0.01
"""What a busy machine may add; work that grows with the square takes far more at this size."""

PROMPT = Prompt.build([{"role": "user", "content": "Why?"}])

PARTS = {
    "spaces": " ",
    "newlines": "\n",
    "spaced lines": " \n\t",
    "dots": ".",
    "dots apart": ". ",
    "exclamations and quotes": '!"',
    "quotes": '"',
    "backticks": "`",
    "code blocks": "```\n",
    "list markers": "- ",
    "lines of markers": "1.\n",
    "hashes": "#",
    "stars": "*",
    "brackets": "[(",
    "one letter": "a",
    "digits": "1",
    "words": "word ",
    "leads": "the ",
    "refusals": "I can't ",
    "negations": "not a ",
    "tags": "<s>",
    "tokens": "<|im_start|>",
    "half tokens": "<|",
    "turns": "<|im_start|>user\n",
    "tags and space": " </s> ",
    "instructions": "[INST]",
    "answers": "[/INST]",
    "systems": "<<SYS>>",
    "tools": "<tool_",
    "headings": "\n# user ",
    "colons": "\nuser: ",
    "marks": "\u0301\u0327",
    "kana": "。か",
    "emoji": "🙂",
    "joined emoji": "\u200d",
    "braces": '{"',
    "escapes": "\x1b[2J",
}


def _group(text: str) -> Group:
    return Group(PROMPT, (Response.build(PROMPT.id, text, index=0),), 1)


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "rules: words": split_words,
    "rules: sentences": count_sentences,
    "rules: repeats": count_repeats,
    "rules: the end": ends_complete,
    "rules: language": lambda text: odds_against("en", text),
    "wording: vague": vague_words,
    "wording: demands": joined_demands,
    "wording: patterns": lambda text: repeats_a_repetition(text.replace("[", "")),
    "refusals": detect_refusal,
    "diversity: words": read_words,
    "diversity: repetition": self_repetition,
    "lengths": lambda text: measure_lengths([_group(text)]),
    "judging: choice": lambda text: parse_choice(text, ("A", "B")),
    "judging: choice at the end": lambda text: parse_choice(f"x\n{text}A", ("A", "B")),
    "judging: choice in JSON": lambda text: parse_choice('{"answer": "' + text + '"}', ("A", "B")),
    "judging: refusal": is_refusal,
    "critiques": _NO_FAULT.fullmatch,
    "inputs: words": words,
    "texts: one line": lambda text: one_line(text, 80),
    "texts: mended": fix_text,
    "templates: neutralised": neutralise.__wrapped__,
    "templates: fenced": lambda text: fence(text, "response", shown=text[::-1]),
    "serving: special tokens": strip_special,
    "serving: special tokens inside": lambda text: strip_special(f"x{text}y", ["[SEP]"]),
    "serving: conversations": parse_conversation,
    "serving: queries": lambda text: split_query(f"{text}Question: why? {text}", "Question: why? "),
    "serving: OpenRLHF": lambda text: read_openrlhf(
        {"query": [f"Why? {text}"], "prompts": ["Why? "], "labels": [""]}
    ),
}


def _seconds(function: Callable[[str], object], text: str) -> float:
    before = time.process_time()
    function(text)
    return time.process_time() - before


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_twice_the_text_is_less_than_three_times_the_work(function: Callable[[str], object]):
    function("warm up")
    slow = {}
    for name, part in PARTS.items():
        for around in ("{}", "{}x", "x {}"):
            less = more = 0.0
            text = around.format(part * (SIZE // len(part)))
            double = around.format(part * (2 * SIZE // len(part)))
            for _ in range(4):  # a machine with other work is slow now and then, not every time
                less, more = _seconds(function, text), _seconds(function, double)
                if more < 3 * less + NOISE_S:
                    break
            else:
                slow[f"{name} in {around}"] = (less, more)
    assert slow == {}


def test_a_pattern_of_the_user_sees_no_more_than_it_may():
    rule = Rule(must_not_match=r"\s+x")  # grows with the square
    less = _seconds(lambda text: check_rule(rule, text), " " * LONGEST_SEARCHED)
    more = _seconds(lambda text: check_rule(rule, text), " " * 20 * LONGEST_SEARCHED)
    assert more < 3 * less + NOISE_S
