import pytest

from rlaif.engines import Capability, Reply, Request, Score
from rlaif.errors import CallFailed, EngineMissing, EngineUnavailable
from rlaif.evaluation.diversity import measure_likelihood
from tests.evaluation.factories import Talker, group


class Scorer(Talker):
    """Scores "bad" with an error, "down" as unreachable, and the rest by its words."""

    async def ask(self, request: Request) -> list[Reply]:
        assert isinstance(request, Score)
        self.asked.append(request)
        match request.continuation:
            case "bad":
                raise CallFailed("too long", kind="context-length")
            case "down":
                raise EngineUnavailable("no answer")
            case "odd":
                return [Reply(logprob=None, scored_tokens=None)]
            case _:
                pass
        words = request.continuation.split()
        return [Reply(logprob=-2.0 * len(words) - 1.0, scored_tokens=len(words))]


def silent(text: str, seed: int) -> None:
    return None


def scorer(**options: frozenset[Capability]) -> Scorer:
    return Scorer("base", silent, **options)


async def test_the_value_is_the_mean_per_token() -> None:
    # one two: (-2·2 - 1) / 2 = -2.5; one: -3 / 1
    measured, failures = await measure_likelihood(
        [group("p", "one two", "one")], scorer(), under="base"
    )
    assert measured.values == {"p": (-2.5, -3.0)}
    assert failures == []
    assert "base" in measured.measure.says


async def test_failed_calls_failed_samples_and_blanks_are_unscored() -> None:
    measured, failures = await measure_likelihood(
        [group("p", "bad", None, "one", " ", "odd")], scorer(), under="base"
    )
    assert measured.values == {"p": (None, None, -3.0, None, None)}
    assert [(f.stage, f.kind) for f in failures] == [("score", "context-length")]


async def test_the_conversation_is_scored_under_the_system_message_it_was_drawn_with() -> None:
    engine = scorer()
    await measure_likelihood([group("p", "one")], engine, under="base", system="Be brief.")
    assert engine.asked[0].messages[0] == {"role": "system", "content": "Be brief."}


async def test_an_engine_that_cannot_score_is_named_before_anything_is_asked() -> None:
    engine = scorer(can=frozenset({Capability.GENERATE}))
    with pytest.raises(EngineMissing, match="likelihood"):
        await measure_likelihood([group("p", "one")], engine, under="base")
    assert engine.asked == []


async def test_a_server_that_is_down_ends_it_plainly() -> None:
    with pytest.raises(EngineUnavailable, match="no answer"):
        await measure_likelihood([group("p", "down", "one")], scorer(), under="base")
