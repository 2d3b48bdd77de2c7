"""How many comparisons are asked a question without an answer, with and without a relevance step.

    python scripts/experiments/relevance.py [--model smollm2-135m-instruct]

The everyday seed prompts, the sixteen principles of ``hhh``, one drawn per comparison. What has a
bearing on an everyday prompt is planted: five principles always (answers, details, padding,
inventions, uncertainty), stated limits and pretended experience where the prompt mentions them,
and the nine about harm, falsehoods, refusals and lectures never. A planted judge answers the
relevance question with a share of errors; ``--model`` asks a real one in its place.
"""

import argparse
import asyncio
import json
import math
import re
from collections.abc import Callable

from rlaif.config.judge import JudgeConfig
from rlaif.constitution import Principle, choose_principles, load_constitution
from rlaif.engines import Engine, Reply, Request
from rlaif.engines.scripted import ScriptedEngine
from rlaif.judging.relevance import Relevance
from rlaif.records import Prompt, content_uniform
from rlaif.sessions.engines import open_configured
from rlaif.templates import TemplateSet, shipped_folder

ALWAYS = {
    *("answers-the-question", "actionable-detail", "no-padding"),
    *("no-invented-facts", "marks-uncertainty"),
}
WHERE: dict[str, Callable[[str], object]] = {
    "keeps-stated-limits": re.compile(
        r"\b(\d+|one|two|three|four|five|six|ten|words?|sentences?|lines?|short|without|under|only)\b",
        re.IGNORECASE,
    ).search,
    "no-pretended-experience": re.compile(
        r"\byour? (favou?rite|own|think|feel|like)\b", re.I
    ).search,
}
COMPARISONS = 20


def has_bearing(principle: str, prompt: str) -> bool:
    """Whether a principle has something to say about an everyday prompt, as planted."""
    return principle in ALWAYS or bool(principle in WHERE and WHERE[principle](prompt))


def planted(
    prompts: list[Prompt], principles: tuple[Principle, ...], misses: float, yeses: float
) -> Engine:
    """A judge that says No to a share of what has a bearing, Yes to a share of what has none."""

    def answer(request: Request, _: int | None) -> Reply:
        shown = request.messages[-1]["content"]
        prompt = next(one for one in prompts if f"\n{one.text}\n" in shown)
        principle = next(one for one in principles if one.comparison in shown)
        truth = has_bearing(principle.id, prompt.text)
        wrong = content_uniform(0, prompt.id, principle.id) < (misses if truth else yeses)
        yes = math.log(0.9 if truth is not wrong else 0.1)
        return Reply(label_logprobs=(yes, math.log1p(-math.exp(yes))))

    return ScriptedEngine(answer, name=f"planted-{misses}-{yeses}")


async def measure(engine: Engine | None, prompts: list[Prompt]) -> tuple[float, float]:
    """Return the share of drawn principles without a bearing, and of prompts left with none."""
    principles = load_constitution("hhh").judged()
    relevance = engine and Relevance.build(
        name="judge", engine=engine, templates=TemplateSet.open(), min_mass=0.05
    )
    drawn = vain = none = 0
    for prompt in prompts:
        kept = (await relevance.choose(prompt, principles)).principles if relevance else principles
        none += not kept
        for number in range(COMPARISONS):
            subject = f"{prompt.id} {number}"
            for one in choose_principles(kept, how_many="one", seed=0, subject=subject):
                drawn += 1
                vain += not has_bearing(one.id, prompt.text)
    return vain / drawn, none / len(prompts)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="A model in this process in place of planted judges.")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()
    lines = (shipped_folder() / "seed" / "train.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "helpful"][: asked.limit]
    prompts = [Prompt.build(row["prompt"], id=row["id"]) for row in rows]
    principles = load_constitution("hhh").judged()
    judges: dict[str, Engine | None] = {"off": None}
    if asked.model:
        judges[asked.model] = open_configured(JudgeConfig(engine="transformers", model=asked.model))
    else:
        for misses, yeses in ((0.0, 0.0), (0.1, 0.1), (0.1, 0.3), (0.0, 1.0)):
            name = f"misses {misses:.0%}, says yes to {yeses:.0%} of the rest"
            judges[name] = planted(prompts, principles, misses, yeses)
    for name, engine in judges.items():
        vain, none = await measure(engine, prompts)
        print(f"{name}: asked in vain {vain:.3f}, prompts left without a principle {none:.3f}")
        if engine is not None:
            await engine.aclose()


if __name__ == "__main__":
    asyncio.run(main())
