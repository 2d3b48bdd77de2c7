"""Which prompts an edit of a principle reaches: found by rendering them with it and without it.

A pairwise judge is asked a principle's ``comparison`` and does not see its ``statement``; a
rubric sees only the statement. So an edit can change every label, or none, and which it is depends
on the method. An edit that reaches no prompt of a run's judges leaves their labels as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlaif.auditing.relabel.rejudge import ReplayOnlyEngine
from rlaif.config.judge import JudgeConfig, Pairwise
from rlaif.constitution import Constitution, Principle
from rlaif.constitution.diff import Change
from rlaif.engines import Sampling
from rlaif.generation import ContrastSampler, Reviser, contrast
from rlaif.judging import METHODS, FlowJudge, build_judge
from rlaif.judging.methods.flow import PROMPT, TWO
from rlaif.judging.relevance import TEMPLATE, Relevance
from rlaif.templates import TemplateSet

Prompts = Mapping[str, Callable[[Principle], Any]]
"""Name to what is shown under a principle, about a stand-in for prompt and responses."""

JUDGE = "judge/"
"""What names of judge prompts start with."""

_EXEMPLARS = " with exemplars"
_VARIANTS: Mapping[str, Pairwise] = {
    "judge/pairwise_cot": Pairwise(chain_of_thought=True),
    "judge/pairwise_or_neither": Pairwise(neither=True),
    f"judge/pairwise{_EXEMPLARS}": Pairwise(exemplars=16),
}
_NOBODY = ReplayOnlyEngine({})


def all_prompts(templates: TemplateSet) -> Prompts:
    """Return the prompts of every judge method, of the critic, and of contrastive sampling."""
    sampling = Sampling()
    reviser = Reviser(_NOBODY, templates, (), rounds=1, sampling=sampling, seed=0)
    sampler = ContrastSampler(
        engine=_NOBODY,
        template=templates.get(contrast.TEMPLATE),
        principles=(),
        sampling=sampling,
        seed=0,
    )
    response = TWO.first
    judges = {
        f"{JUDGE}{name}": _judge(name, None, templates).asks
        for name, row in METHODS.items()
        if row.template
    }
    variants = {
        name: _judge("pairwise", settings, templates).asks for name, settings in _VARIANTS.items()
    }
    return {
        **judges,
        **variants,
        TEMPLATE: _relevance(templates),
        "critique/critique": lambda p: reviser.critique_messages(PROMPT, response, p),
        "revise/revise": lambda p: reviser.revision_messages(PROMPT, response, p, "A fault."),
        contrast.TEMPLATE: lambda p: [
            sampler.messages(PROMPT, p, against=against) for against in (False, True)
        ],
    }


def prompts_of(
    judges: Sequence[JudgeConfig], templates: TemplateSet, *, relevance: bool
) -> Prompts:
    """Return the prompts of a run's judges, by the judges' names.

    Args:
        judges: As they are asked.
        templates: Of the run.
        relevance: Whether it is asked which principles apply, too.
    """
    prompts: dict[str, Callable[[Principle], Any]] = {
        judge.name: _judge(judge.method, judge.method_settings, templates).asks for judge in judges
    }
    return prompts | ({TEMPLATE: _relevance(templates)} if relevance else {})


def _relevance(templates: TemplateSet) -> Callable[[Principle], Any]:
    asker = Relevance.build(name="judge", engine=_NOBODY, templates=templates, min_mass=0.0)
    return lambda principle: asker.messages(PROMPT, principle)


def find_reached(
    change: Change, old: Constitution, new: Constitution, prompts: Prompts
) -> list[str] | None:
    """Return the names of the prompts in which an edit can be seen.

    The new version is compared with itself after this one edit was taken back.

    Returns:
        None where this is no question: only weight, tags or place changed, or the principle is a
        rule, which is shown to no model.
    """
    if change.kind != "reworded" and change.field != "polarity":
        return None
    after = new.principle(change.principle)
    if after.kind == "rule":
        return None
    field = getattr(old.principle(change.principle), change.field)
    before = after.model_copy(update={change.field: field})
    reached = [name for name, shown in prompts.items() if shown(before) != shown(after)]
    return [name for name in reached if name.removesuffix(_EXEMPLARS) not in set(reached) - {name}]


def describe_reach(reached: Sequence[str] | None, prompts: Prompts) -> str:
    """Return one line about an edit: which prompts it reaches, and which it does not."""
    if reached is None:
        return ""
    judging = [name for name in reached if name.startswith(JUDGE)]
    if not judging:
        return f"reaches no judge prompt{', only ' if reached else ''}{', '.join(reached)}"
    missed = [name for name in prompts if name not in reached and not name.endswith(_EXEMPLARS)]
    return f"reaches {', '.join(reached)}{'; not ' if missed else ''}{', '.join(missed)}"


def _judge(method: str, settings: Any, templates: TemplateSet) -> FlowJudge:
    return build_judge(
        name="judge", method=method, engine=_NOBODY, templates=templates, settings=settings
    )
