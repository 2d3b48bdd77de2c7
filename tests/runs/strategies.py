"""Arbitrary rows."""

from typing import Any

from hypothesis import strategies as st

from rlaif.records import (
    Choice,
    Critique,
    Drop,
    Failure,
    Judgment,
    Order,
    PreferencePair,
    Prompt,
    Response,
    Revision,
    Row,
    Verdict,
)

_text = st.text(max_size=20)
_texts = st.lists(_text, max_size=3).map(tuple)
_count = st.integers(min_value=0, max_value=2**40)
_real = st.floats(allow_nan=False)
_maybe = st.none() | _real
_ids = st.binary(min_size=16, max_size=16).map(bytes.hex)


def _many(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


_message = st.fixed_dictionaries({"role": _text, "content": _text})
_prompts = st.builds(Prompt, id=_text, messages=_many(_message), tags=_texts)
_responses = st.builds(
    Response, _text, _text, _text, _count, _text, _text, tokens=st.none() | _count, call=_text
)
_critiques = st.builds(Critique, _text, _text, _count, _text, st.booleans(), _text)
_revisions = st.builds(Revision, _text, _text, _text, _count)
_verdicts = st.builds(
    Verdict,
    judge=_text,
    method=_text,
    principle=_text,
    order=st.sampled_from(Order),
    choice=st.sampled_from(Choice),
    logit=_maybe,
    mass=_maybe,
    scores=st.none() | st.tuples(_real, _real),
    reason=_text,
    raw=_text,
    calls=_texts,
)
_judgments = st.builds(
    Judgment,
    _text,
    _text,
    _maybe,
    _maybe,
    _texts,
    _maybe,
    _maybe,
    _count,
    _many(_verdicts),
    disagreement=_maybe,
)
_pairs = st.builds(PreferencePair, _text, _text, _text, _real, _real, _texts, _texts, _real, _count)
rows = st.builds(
    Row,
    id=_ids,
    prompt=_prompts,
    responses=_many(_responses),
    critiques=_many(_critiques),
    revisions=_many(_revisions),
    judgments=_many(_judgments),
    pairs=_many(_pairs),
    drops=_many(st.builds(Drop, _text, _text, _texts)),
    failures=_many(st.builds(Failure, _text, _text, _text, _text, _count)),
    canaries=_many(_judgments),
)
