from hypothesis import given, strategies as st

from rlaif.records import Choice, Comparison, Judgment, Order, Response, Verdict

choices = st.sampled_from(list(Choice))
orders = st.sampled_from(list(Order))


def _verdict(choice: Choice, order: Order, logit: float | None) -> Verdict:
    return Verdict("j", "pairwise", "p", order, choice, logit=logit)


@given(choices)
def test_flipping_twice_gives_back_the_choice(choice: Choice):
    assert choice.flipped().flipped() is choice


def test_an_abstention_stays_one_when_flipped():
    assert Choice.ABSTAIN.flipped() is Choice.ABSTAIN
    assert Choice.TIE.flipped() is Choice.TIE


def test_the_logit_of_the_swapped_order_changes_sign_for_the_first_response():
    assert _verdict(Choice.A, Order.AB, 1.5).content_logit() == 1.5
    assert _verdict(Choice.A, Order.BA, 1.5).content_logit() == -1.5
    assert _verdict(Choice.A, Order.BA, 1.5).content_choice() is Choice.B


@given(choices, orders, st.none() | st.floats(-5, 5), st.none() | st.floats(0, 1))
def test_swapping_a_judgment_turns_every_opinion_and_swapping_twice_restores_it(
    choice: Choice, order: Order, logit: float | None, preference: float | None
):
    verdict = _verdict(choice, order, logit)
    judgment = Judgment("x", "y", preference, preference, (), 1.0, None, 0, (verdict,))
    swapped = judgment.swap()
    assert (swapped.first_id, swapped.second_id) == ("y", "x")
    assert swapped.verdicts[0].content_choice() is verdict.content_choice().flipped()
    turned = swapped.verdicts[0].content_logit()
    assert turned == (None if logit is None else -(verdict.content_logit() or 0.0))
    again = swapped.swap()
    assert again.verdicts == judgment.verdicts
    assert (again.preference is None) == (preference is None)
    if preference is not None:
        assert abs((again.preference or 0.0) - preference) < 1e-12


def test_the_margin_of_an_unknown_preference_is_unknown():
    judgment = Judgment("x", "y", None, None, (), None, None, 2, ())
    assert judgment.margin is None
    assert Judgment("x", "y", 0.9, 0.9, (), 1.0, None, 0, ()).margin == 0.8


def test_the_two_orders_of_a_comparison_have_different_ids():
    comparison = Comparison(Response.build("p", "a", index=0), Response.build("p", "b", index=1))
    assert comparison.id != comparison.swap().id
    assert comparison.swap().swap() == comparison
