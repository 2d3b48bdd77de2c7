from itertools import product
from typing import Any

from rlaif.engines import Generate, Label, Reply, Sampling, Score, Usage, request_key
from rlaif.records import Message

MESSAGES: tuple[Message, ...] = ({"role": "user", "content": "Why is the sky blue?"},)
IDENTITIES: tuple[dict[str, str], ...] = ({"engine": "a"}, {"engine": "b"})


def requests() -> list[Generate | Label | Score]:
    return [
        Generate(MESSAGES, Sampling(), (1, 2)),
        Label(MESSAGES, ("A", "B")),
        Score(MESSAGES, "It scatters light."),
    ]


def test_a_key_does_not_depend_on_what_the_request_was_asked_before():
    asked = list(product(range(3), IDENTITIES, (1, 2, None)))
    used = requests()
    for which, identity, seed in asked + asked[::-1]:
        key = request_key(identity, used[which], seed)
        assert key == request_key(dict(identity), requests()[which], seed)
    # Of labels and scores the seed is no part.
    assert len({request_key(by, used[which], seed) for which, by, seed in asked}) == 6 + 2 + 2


def test_a_request_that_was_asked_before_is_equal_to_one_that_was_not():
    for used, fresh in zip(requests(), requests(), strict=True):
        request_key(IDENTITIES[0], used, 1)
        assert used == fresh
        assert repr(used) == repr(fresh)


def test_a_reply_is_kept_without_what_it_does_not_say():
    reply = Reply("A", usage=Usage(7, 1))
    kept = reply.to_json()
    assert kept.keys() == {"text", "finish", "usage"}
    nothing: dict[str, Any] = {
        "label_logprobs": [],
        "logprob": None,
        "scored_tokens": None,
        "score": None,
    }
    assert Reply.from_json(kept) == Reply.from_json(kept | nothing) == reply


def test_a_reply_comes_back_with_all_it_says():
    reply = Reply("A", "length", (-0.5, None), -0.0, 0, 0.0, Usage(7, 1, 3))
    assert Reply.from_json(reply.to_json()) == reply
