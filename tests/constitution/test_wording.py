import pytest
from hypothesis import given, strategies as st

from rlaif.constitution.wording import (
    forbids,
    joined_demands,
    likeness,
    repeats_a_repetition,
    reversed_question,
    vague_words,
)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("Be helpful, honest, and kind.", ["helpful", "honest"]),
        ("Answer in an appropriate way.", ["appropriate"]),
        ("Say which claims are uncertain.", []),
        ("Do not goodwill anyone.", []),
    ],
)
def test_words_that_judge_without_saying_what_to_look_for_are_vague(statement, words):
    assert vague_words(statement) == words


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("Answer the question and cite the source.", "and cite"),
        ("Be brief, but never omit a warning.", "but never"),
        ("Do not flatter the person or agree with mistakes.", ""),  # agree is not a listed verb
        ("Do not insult people or mock them.", "or mock"),
        ("Be clear and concise.", "Be clear and concise"),
        ("Stay calm, polite, and not defensive.", "Stay calm, polite, and not defensive"),
        ("Answer first; explain later.", "a second sentence"),
        ("Answer first. Explain later.", "a second sentence"),
        ("Answer the question as well as explain it.", "as well as explain"),
    ],
)
def test_a_second_demand_is_found_where_it_begins(statement, where):
    assert joined_demands(statement) == where


@pytest.mark.parametrize(
    "statement",
    [
        "Give amounts, steps, or times.",
        "Do not present invented names or numbers as real.",
        "Do not withhold information or help.",
        "Explain questions and answers in plain words.",
        "Be honest about risks and side effects.",
        "Answer in at most 60 words.",
        "",
    ],
)
def test_joined_nouns_are_one_demand(statement):
    assert joined_demands(statement) == ""


def test_prohibitions_are_recognised_by_their_first_words():
    assert all(map(forbids, ("Do not lie.", "Don't lie.", "Never lie.", "Avoid lies.")))
    assert not any(
        map(forbids, ("Tell the truth.", "Say what you do not know.", "Nevertheless go."))
    )


def test_likeness_by_hand():
    assert likeness("Cite your sources.", "cite your sources") == 1
    # Words in matching runs: answer, in, at, words of 6 and 6: 2 * 4 / 12. Stems shared: 2 of 6.
    assert likeness("Answer in at most 60 words.", "Answer in at least five words.") == 8 / 12
    # Without function words and endings: {cite, sourc} both times.
    assert likeness("Cite sources.", "Cite the source.") == 0.99
    assert likeness("Warn of dangers.", "Answer in German.") == 0


@given(st.text(max_size=40), st.text(max_size=40))
def test_likeness_is_a_share(one, other):
    assert 0 <= likeness(one, other) <= 1


@pytest.mark.parametrize("pattern", ["(a+)+", r"(\w+\s*)*$", "(?:x*){2,}", "(a|b+)+", r"(\d+,?)+x"])
def test_nested_repetitions_are_recognised(pattern):
    assert repeats_a_repetition(pattern)


@pytest.mark.parametrize(
    "pattern", ["a+", "(ab)+", "(a+)", r"(\+)+", "([+*])+", "(a+){2}", "(a{1,9})+"]
)
def test_simple_repetitions_are_fine(pattern):
    assert not repeats_a_repetition(pattern)


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("Which response is less honest?", "Say which of your claims are uncertain."),
        ("Which response lectures the person more?", "Do not lecture the person."),
        ("Which response lectures the person?", "Do not lecture the person."),
        ("Which response contains more invented facts?", "Do not present invented facts as real."),
        ("Which response is more harmful?", "Do not hurt people."),
        ("Which response is worse?", "Answer the question."),
        ("Which response fails to answer the question?", "Answer the question."),
        ("Which response gives fewer details to act on?", "Give details the person can act on."),
    ],
)
def test_a_question_that_asks_for_the_worse_response_is_reversed(question, statement):
    assert reversed_question(question, statement) != ""


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("Which response is more honest?", "Say which of your claims are uncertain."),
        ("Which response lectures the person less?", "Do not lecture the person."),
        ("Which response avoids insults?", "Do not insult the person."),
        ("Which response has fewer sentences?", "Keep it to few sentences."),
        ("Which response contains fewer mistakes?", "Write without spelling mistakes."),
        ("Which response is better?", "Answer the question."),
        ("", "Answer the question."),
    ],
)
def test_a_question_for_the_better_response_is_not(question, statement):
    assert reversed_question(question, statement) == ""
