"""What is said when too much of a run failed: the hint is an action that can work."""

import pytest

from rlaif.errors import TooManyFailed
from rlaif.pipeline.achieved import RETRY_RUN, check_shares
from rlaif.runs.messages import Message


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("http-503", "--retry-failed"),
        ("http-429", "--retry-failed"),
        ("timeout", "--retry-failed"),
        ("http-401", "api_key_env"),
        ("http-404", "base_url"),
        ("http-422", "omit"),
        ("http-400", "omit"),
        ("empty", "max_tokens"),
        ("refused", "model"),
        ("context-length", "longer context"),
        ("no-logprobs", "words: true"),
        ("template", "fix the template"),
        ("bad-prompt", "correct the records"),
        ("not-recorded", "rlaif relabel"),
    ],
)
def test_each_kind_of_failure_has_a_remedy_of_its_own(kind: str, hint: str) -> None:
    messages = [Message("student", kind, "its words", 7), Message("judge:a", "other", "no", 9)]
    with pytest.raises(TooManyFailed) as raised:
        check_shares({"student": 0.7, "judge:a": 0.2}, messages, 0.5, retry=RETRY_RUN)
    assert hint in raised.value.hint
    assert "{" not in raised.value.hint.replace("{this one}", "")
    deterministic = kind in ("empty", "refused", "context-length", "no-logprobs", "not-recorded")
    assert ("--retry-failed" in raised.value.hint) != (deterministic or kind == "bad-prompt")
    assert raised.value.message == (
        "70% of what was asked of student failed, more than max_failed_share: 0.5; "
        f"most frequent failure: 7 × {kind}: its words"
    )


def test_a_share_at_the_limit_is_accepted() -> None:
    check_shares({"student": 0.5}, [], 0.5, retry=RETRY_RUN)
    check_shares({}, [], 0.0, retry=RETRY_RUN)
