import pytest
from hypothesis import given, strategies as st

from rlaif.judging import Clamp, Temperature, Transform, aggregate_verdicts, apply_transforms
from rlaif.records import Choice, Judgment, Order, Verdict
from tests.judging.fake import COMPARISON


def judgment(logit: float | None) -> Judgment:
    choice = Choice.ABSTAIN if logit is None else Choice.A
    return aggregate_verdicts(
        COMPARISON, [Verdict("main", "test", "p", Order.NONE, choice, logit=logit)]
    )


def test_transforms_are_applied_in_order_and_put_on_record() -> None:
    # p = σ(2) = 0.880797; T = 2 → σ(1) = 0.731059; clamped to 40–60 % → 0.6
    done = apply_transforms(judgment(2.0), [Temperature(2.0), Clamp(0.4)])
    assert done.preference == pytest.approx(0.6)
    assert done.raw_preference == pytest.approx(0.8807970779778823)
    assert done.transforms == ("temperature(2)", "clamp(0.4..0.6)")
    only = apply_transforms(judgment(2.0), [Temperature(2.0)])
    assert only.preference == pytest.approx(0.7310585786300049)


def test_a_cap_stays_on_record_before_them() -> None:
    done = apply_transforms(judgment(12.0), [Clamp(0.2)])
    assert done.transforms == ("cap-logit(10)", "clamp(0.2..0.8)")
    assert done.preference == 0.8


def test_what_has_no_preference_gets_none() -> None:
    unknown = judgment(None)
    assert apply_transforms(unknown, [Clamp(0.4)]) is unknown


@given(
    st.sampled_from([0.0, 1.0]) | st.floats(1e-9, 1 - 1e-9),
    st.floats(0, 0.5).map(Clamp) | st.floats(0.05, 20).map(Temperature),
)
def test_transforms_favour_neither_response(preference: float, transform: Transform) -> None:
    forward, backward = transform.apply(preference), transform.apply(1.0 - preference)
    assert forward + backward == pytest.approx(1.0, abs=1e-6)
    assert 0.0 <= forward <= 1.0


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_certainty_survives_any_temperature(certain: float) -> None:
    assert Temperature(5.0).apply(certain) == certain


def test_senseless_parameters_are_refused() -> None:
    for low in (-0.1, 0.6):
        with pytest.raises(ValueError, match="clamp"):
            Clamp(low)
    for t in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="temperature"):
            Temperature(t)
