from rlaif.constitution import Example
from rlaif.engines import Reply
from rlaif.judging import Pairwise, build_judge
from rlaif.judging.methods.pairwise import choose_exemplars
from rlaif.templates import TemplateSet
from tests.judging.fake import COMPARISON, KIND, PROMPT, FakeEngine, always

EXAMPLES = tuple(
    Example(prompt=f"prompt {n}", better=f"better {n}", worse=f"worse {n}") for n in range(6)
)
TAUGHT = KIND.model_copy(update={"examples": EXAMPLES})


def test_the_letter_of_the_better_one_alternates() -> None:
    shown = choose_exemplars(TAUGHT, PROMPT, count=4)
    assert len(shown) == 4
    letters = [exemplar["choice"] for exemplar in shown]
    assert letters in (["A", "B", "A", "B"], ["B", "A", "B", "A"])
    for n, exemplar in enumerate(shown):
        assert exemplar["prompt"] == f"prompt {n}"
        assert exemplar[exemplar["choice"].lower()] == f"better {n}"
        assert {exemplar["a"], exemplar["b"]} == {f"better {n}", f"worse {n}"}


def test_which_letter_comes_first_belongs_to_the_examples() -> None:
    starts = set()
    for n in range(20):
        one = Example(prompt=f"p{n}", better="good", worse="bad")
        taught = KIND.model_copy(update={"examples": (one,)})
        first = choose_exemplars(taught, PROMPT, count=3)
        assert first == choose_exemplars(taught, PROMPT, count=1)
        starts.add(first[0]["choice"])
    assert starts == {"A", "B"}


def test_an_example_about_the_live_prompt_is_never_shown() -> None:
    live = Example(prompt=f" {PROMPT.text}\n", better="the answer", worse="no answer")
    taught = KIND.model_copy(update={"examples": (live, *EXAMPLES[:1])})
    (shown,) = choose_exemplars(taught, PROMPT, count=2)
    assert shown["prompt"] == "prompt 0"
    assert choose_exemplars(KIND.model_copy(update={"examples": (live,)}), PROMPT, count=2) == ()


async def test_both_orders_see_the_same_exemplars_and_none_by_default() -> None:
    engine = FakeEngine(always(Reply(label_logprobs=(-1.0, -1.0))))
    templates = TemplateSet.open()
    taught = build_judge(
        name="main",
        method="pairwise",
        engine=engine,
        templates=templates,
        settings=Pairwise(exemplars=2),
    )
    await taught.judge(PROMPT, COMPARISON, [TAUGHT])
    heads = [r.messages[-1]["content"].partition(PROMPT.text)[0] for r in engine.asked]
    assert heads[0] == heads[1]
    assert [heads[0].count(word) for word in ("better 0", "worse 1", "better 2")] == [1, 1, 0]
    engine.asked.clear()
    plain = build_judge(name="main", method="pairwise", engine=engine, templates=templates)
    await plain.judge(PROMPT, COMPARISON, [TAUGHT])
    assert "better 0" not in engine.asked[0].messages[-1]["content"]
