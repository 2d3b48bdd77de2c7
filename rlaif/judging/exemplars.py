"""Exemplars: a principle's own examples, shown to a judge before the live comparison."""

from collections.abc import Mapping
from itertools import islice

from rlaif.constitution import Principle
from rlaif.records import Prompt, content_uniform


def choose_exemplars(
    principle: Principle, prompt: Prompt, *, count: int
) -> tuple[Mapping[str, str], ...]:
    """Return at most ``count`` examples of a principle, each with its letter.

    The better response is A in every other one, and content decides in which: an even number
    favours no letter, an odd number favours one by a single example, another for each principle.
    Both orders of a comparison see the same exemplars. An example about the live prompt is never
    shown: it could be its answer.
    """
    others = (e for e in principle.examples if e.prompt.strip() != prompt.text.strip())
    shown = tuple(islice(others, count))
    if not shown:
        return ()
    told = [[e.prompt, e.better, e.worse] for e in shown]
    starts_with_a = content_uniform(0, "exemplars", told) < 0.5
    return tuple(
        {"prompt": e.prompt, "a": e.better, "b": e.worse, "choice": "A"}
        if (at % 2 == 0) == starts_with_a
        else {"prompt": e.prompt, "a": e.worse, "b": e.better, "choice": "B"}
        for at, e in enumerate(shown)
    )
