"""Whatever is done to labels, turning a comparison round turns its label round."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rlaif.constitution import Principle, Rule
from rlaif.judging import Clamp, Soften, Temperature, Transform, judge_comparison, settle_judgments
from rlaif.judging.protocol import Cost, Needs
from rlaif.records import Choice, Comparison, Judgment, Order, Prompt, Response, Verdict

PROMPT = Prompt.build("What?")
FIRST, SECOND = (Response.build(PROMPT.id, "word " * n, index=n) for n in (1, 2))
CANDIDATES = tuple(
    Principle(id=name, statement="Be good.", weight=weight)
    for name, weight in (("light", 0.5), ("plain", 1.0), ("heavy", 3.0))
)
RULES = tuple(
    Principle(id=f"brief-{most}", statement="Be brief.", kind="rule", rule=Rule(max_words=most))
    for most in (1, 3)
)


@dataclass
class Planted:
    """Gives the content log-odds it is told for a principle, whichever response is first.

    None abstains; a choice is said in words.
    """

    name: str
    method: str
    says: dict[tuple[str, Order], float | Choice | None]
    done: tuple[Transform, ...]
    calibration: tuple[Transform, ...]
    needs: Needs = ()
    template_fingerprints: dict[str, str] = field(default_factory=dict)
    cost: Cost = Cost("comparison", labels=1)  # noqa: RUF009 - frozen

    @property
    def sums(self) -> bool:
        return self.method == "rubric"

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002
        return self.done

    async def judge(
        self,
        prompt: Prompt,  # noqa: ARG002
        comparison: Comparison,
        principles: Sequence[Principle],
    ) -> tuple[Verdict, ...]:
        turned = comparison.first.id != FIRST.id
        return tuple(
            self._verdict(principle.id, order, turned=turned)
            for principle in principles
            for order in (Order.AB, Order.BA)
        )

    def _verdict(self, principle: str, order: Order, *, turned: bool) -> Verdict:
        # Shown in the other order, a turned comparison looks the same to a judge.
        seen = {Order.AB: Order.BA, Order.BA: Order.AB}[order] if turned else order
        said = self.says[principle, seen]
        about = (self.name, self.method, principle, order)
        if said is None:
            return Verdict(*about, Choice.ABSTAIN, reason="unreadable")
        if isinstance(said, Choice):
            return Verdict(*about, said)
        choice = Choice.A if said > 0 else Choice.B if said < 0 else Choice.TIE
        return Verdict(*about, choice, logit=said)


numbers = st.floats(-30.0, 30.0)
transforms = st.lists(
    st.one_of(st.builds(Temperature, st.floats(0.1, 10.0)), st.builds(Soften, st.floats(0.1, 1.0))),
    max_size=2,
).map(tuple)


@st.composite
def judges(draw: st.DrawFn, name: str) -> Planted:
    method = draw(st.sampled_from(["pairwise", "rubric", "salmon"]))
    says: Any = numbers | st.none()
    if method == "pairwise":
        says |= st.sampled_from([Choice.A, Choice.B, Choice.TIE])
    clamp = draw(st.sampled_from([(), (Clamp(0.4),), (Clamp(0.1),)]))
    return Planted(
        name,
        method,
        {(p.id, order): draw(says) for p in CANDIDATES for order in (Order.AB, Order.BA)},
        (*(draw(transforms) if method == "salmon" else ()), *clamp),
        draw(transforms),
    )


async def labelled(
    comparison: Comparison, panel: Sequence[Planted], calibration: tuple[Transform, ...], **how: Any
) -> Judgment:
    weighted = [(judge, weight) for judge, weight in zip(panel, (1.0, 2.5), strict=False)]
    judgment = await judge_comparison(
        PROMPT,
        comparison,
        judges=weighted,
        drawn=CANDIDATES[: how["drawn"]],
        candidates=CANDIDATES,
        rules=how["rules"],
        calibration=calibration,
    )
    (settled,) = settle_judgments(
        [judgment], weighted, soften_above=how["soften"], refit=how["refit"]
    )
    return settled


@given(
    panel=st.tuples(judges("one"), judges("two")) | st.tuples(judges("one")),
    calibration=transforms,
    drawn=st.integers(1, 3),
    rules=st.sampled_from([(), RULES[:1], RULES]),
    soften=st.none() | st.floats(0.05, 1.0),
    refit=st.booleans(),
)
def test_the_labels_of_both_orientations_add_up_to_one(
    panel: tuple[Planted, ...], calibration: tuple[Transform, ...], **how: Any
) -> None:
    there, back = (
        asyncio.run(labelled(comparison, panel, calibration, **how))
        for comparison in (Comparison(FIRST, SECOND), Comparison(SECOND, FIRST))
    )
    assert there.transforms == back.transforms
    for one, other in (
        (there.preference, back.preference),
        (there.raw_preference, back.raw_preference),
    ):
        if one is None or other is None:
            assert one is other is None
            continue
        assert 0.0 <= one <= 1.0
        assert one + other == pytest.approx(1.0, abs=1e-9)
    bare = asyncio.run(
        labelled(
            Comparison(FIRST, SECOND),
            [Planted(one.name, one.method, one.says, (), ()) for one in panel],
            (),
            **{**how, "soften": None, "refit": False},
        )
    )
    assert there.raw_preference == pytest.approx(bare.raw_preference)
